"""A command's first line on the terminal is its own."""

import logging
import subprocess
import sys
from pathlib import Path

from runner import quiet

ROOT = Path(__file__).resolve().parent.parent


def test_importing_tensorflow_writes_nothing_but_lets_other_lines_through():
    code = (
        "import sys\nfrom runner import quiet\nquiet.import_tensorflow()\n"
        "import tensorflow as tf\ntf.config.list_physical_devices()\nprint('mine', file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0 and answer.stderr == "mine\n"


def test_only_the_warning_about_tracing_is_held_back(caplog):
    log = logging.getLogger("tensorflow")
    log.propagate, propagates = True, log.propagate
    try:
        with quiet.about_tracing():
            log.warning(
                "5 out of the last 5 calls to f triggered tf.function retracing. Tracing is expensive"
            )
            log.warning("something else")
        log.warning("6 out of the last 6 calls to g triggered tf.function retracing.")
    finally:
        log.propagate = propagates
    assert [record.getMessage().split()[0] for record in caplog.records] == ["something", "6"]
