"""Ctrl-C and SIGTERM end a process in order, wherever it is.

Python raises KeyboardInterrupt within whatever happens to run. What is raised within a destructor, of which
TensorFlow has many, is printed and forgotten, and the process goes on as if nothing had been: so the signal
is sent again until it is heard.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

TERMINATED = 143
"""The exit code after SIGTERM: 128 + 15, as shells have it."""
AGAIN = 0.05
"""Seconds after which a signal whose exception was swallowed is sent again."""


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Within the block no KeyboardInterrupt, nor what `ends_in_order` raises, is lost in a destructor."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        number = None
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            number = signal.SIGINT
        elif issubclass(unraisable.exc_type, SystemExit):
            number = signal.SIGTERM
        if number is None:
            before(unraisable)
        else:  # not from here: what this raises would be swallowed as well
            timer = threading.Timer(AGAIN, _thread.interrupt_main, (number,))
            timer.daemon = True
            timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def ends_in_order() -> Iterator[None]:
    """Within the block SIGTERM says so in a line and leaves with TERMINATED, through every `finally`.

    Only the main thread hears signals; elsewhere nothing changes, nor where SIGTERM is handled already.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"stopped by SIGTERM\n")
        raise SystemExit(TERMINATED)

    with heard(), replaced({signal.SIGTERM: leave}, only_if=signal.SIG_DFL):
        yield


@contextlib.contextmanager
def replaced(handlers: dict[int, Callable], only_if: Any = None) -> Iterator[None]:
    """Other handlers of signals within the block, in the main thread.

    only_if: where it is given, signals that are handled otherwise are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for number in handlers
        if only_if is None or signal.getsignal(number) == only_if
    }
    for number in before:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: one that was not set from Python cannot be put back
                signal.signal(number, handler)


class Asked:
    """Notes that a signal asked the process to end, to be acted upon when its state is whole.

    with Asked() as asked:
        ...
        if asked.by: ...

    by: the number of the signal, 0 for none. A second Ctrl-C does not wait: KeyboardInterrupt is raised.
    """

    def __init__(self) -> None:
        self.by = 0
        self._within = contextlib.ExitStack()

    def __enter__(self) -> "Asked":
        self._within.enter_context(heard())
        self._within.enter_context(replaced({signal.SIGTERM: self._note, signal.SIGINT: self._note}))
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._within.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.by == signal.SIGINT:
                raise KeyboardInterrupt
            os.write(2, b"\nstops after this step; Ctrl-C once more stops at once\n")
        self.by = number

    def leave(self) -> None:
        """Raise what ends the process by the signal that was noted: KeyboardInterrupt, or SystemExit."""
        raise KeyboardInterrupt if self.by == signal.SIGINT else SystemExit(TERMINATED)
