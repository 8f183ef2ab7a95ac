"""Copy the template and what it needs into the project; cookiecutter renders this script, then runs it.

The code is copied and not rendered: Jinja would read the braces of Python's f-strings as its own.
"""

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
    data = new.resolve_data(answers["data"], answers["__started_in"], repository)
    new.fill(Path.cwd(), answers["application"], data, answers["backbone"], repository)
except InputError as error:
    sys.exit(str(error))
