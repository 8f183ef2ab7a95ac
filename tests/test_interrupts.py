"""Ctrl-C and SIGTERM are heard wherever they come, and end a process in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner import flags, interrupts

ROOT = Path(__file__).parents[1]


class Swallows:
    """Within its destructor a signal comes."""

    def __init__(self, raised: BaseException):
        self.raised = raised

    def __del__(self):
        raise self.raised


def wait():
    for _ in range(500):
        time.sleep(0.01)


def test_a_ctrl_c_within_a_destructor_is_not_lost():
    hook = sys.unraisablehook
    # Where the tests run in the background of a shell (&) Ctrl-C is ignored from the start.
    heard = {signal.SIGINT: signal.default_int_handler}
    with pytest.raises(KeyboardInterrupt), interrupts.replaced(heard), interrupts.heard():
        one = Swallows(KeyboardInterrupt())
        del one
        wait()
    assert sys.unraisablehook is hook


def test_nor_is_a_sigterm():
    with pytest.raises(SystemExit) as ended, interrupts.ends_in_order():
        one = Swallows(SystemExit(interrupts.TERMINATED))
        del one
        wait()
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_else_a_destructor_raises_is_printed_as_before():
    seen, before = [], sys.unraisablehook
    sys.unraisablehook = seen.append
    try:
        with interrupts.heard():
            one = Swallows(ZeroDivisionError())
            del one
    finally:
        sys.unraisablehook = before
    assert len(seen) == 1 and seen[0].exc_type is ZeroDivisionError


def test_sigterm_at_an_entry_point_is_a_line_and_143():
    code = (
        "import os, signal, time; from runner import flags\n"
        "with flags.exit_on_input_error():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)\n"
        "    finally:\n        print('put away')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "put away\n", "stopped by SIGTERM\n")


def test_handlers_that_are_there_and_other_threads_are_left_alone():
    def mine(*_):
        pass

    signal.signal(signal.SIGTERM, mine)
    try:
        with interrupts.ends_in_order():
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seen = []

    def work():
        with interrupts.ends_in_order(), interrupts.Asked():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_first_ctrl_c_is_noted_and_a_second_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.Asked() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.by == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            asked.leave()
    assert signal.getsignal(signal.SIGINT) is before
    with interrupts.Asked() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            asked.leave()
    assert ended.value.code == 143


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device", "x"), 2, "error: No space left on device (x): make room.\n"),
        (BrokenPipeError(32, "Broken pipe"), 2, "error: Broken pipe: see that it is there"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, error, code, said):
    with pytest.raises(SystemExit) as ended, flags.exit_on_input_error():
        raise error
    assert ended.value.code == code and said in capsys.readouterr().err
