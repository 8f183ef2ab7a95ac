"""Who works at what, among the processes of one study: a lock file for each trial, and one to ask for more.

The system lets go of a lock when its process ends, however it ends: a trial that nobody holds and that is not
finished was killed, and goes on.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: one process at a time on a study
    fcntl = None  # type: ignore[assignment]


def take(path: Path) -> IO | None:
    """Hold a lock file, made where it is missing, until what is returned is closed; None where it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a")
    if fcntl is None:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # a disk that knows no locks, as some networks': as on Windows
        pass
    return file


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within the block no other process is in such a block of the same path; waits for that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
