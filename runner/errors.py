"""Errors with a message for people: what they can put right, a ledger that does not add up, a loss that is
no number any more, features that became one, memory that does not suffice.

Its message is one line that says what was received, what is allowed and what to do. `python -m ...` entry
points print that line and exit with code 2 (see `config.run`); in a notebook it is an ordinary exception.
"""

import difflib
import errno
from collections.abc import Iterable

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What the system calls a disk that takes no more."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what to do about it."""


class LedgerError(RuntimeError):
    """What a stage moved is not what it was to move; see `trainable.ledger`."""


class DivergenceError(RuntimeError):
    """The loss became NaN or infinite; the message says where, and what usually helps."""


class CollapseError(RuntimeError):
    """Features became one and the same for all inputs; the message says by which number, and what helps."""


class OutOfMemory(RuntimeError):
    """A training step did not fit into memory; the message says which batch size to try."""


def in_words(error: OSError) -> str:
    """What the system refused and what to do about it, without a full stop: "No space left on device (x):
    make room".
    """
    where = " and ".join(str(one) for one in (error.filename, error.filename2) if one is not None)
    reason = " ".join(str(error.strerror or error or type(error).__name__).split())
    full = error.errno in FULL or "No space left" in reason or "File too large" in reason
    advice = "make room" if full else "see that it is there and that you may read and write it"
    return f"{reason}{f' ({where})' if where else ''}: {advice}"


def suggest(received: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the name nearest to what was received, or "" when none is near."""
    by_lower_case = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(str(received).lower(), by_lower_case, n=1, cutoff=0.6)
    return f" Did you mean '{by_lower_case[near[0]]}'?" if near else ""
