"""A command's first line on the terminal is its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_importing_tensorflow_writes_nothing_but_lets_other_lines_through():
    code = (
        "import sys\nfrom runner import quiet\nquiet.import_tensorflow()\n"
        "import tensorflow as tf\ntf.config.list_physical_devices()\nprint('mine', file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0 and answer.stderr == "mine\n"
