"""Refuse unusable answers before a file is written; cookiecutter renders this script, then runs it."""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
# tojson escapes quotes and angle brackets, so that no path can end the raw string.
answers = json.loads(r"""{{ cookiecutter | tojson }}""")
repository = Path(answers["__started_in"], answers["_repo_dir"]).resolve().parent
sys.path.insert(0, str(repository))

from runner import new  # noqa: E402
from runner.errors import InputError  # noqa: E402

try:
    new.check(answers["project_slug"], answers["application"], answers["backbone"], repository)
    new.resolve_data(answers["data"], answers["__started_in"], repository)
except InputError as error:
    sys.exit(str(error))
