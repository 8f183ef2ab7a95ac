"""Whose a run folder is: one process's at a time, from when it is chosen until the process ends, however it
ends.
"""

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import IO

from runner.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two processes on one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
LOCKS: dict[Path, IO] = {}
"""The lock files that this process holds open, by folder."""
MADE: dict[Path, list[Path]] = {}
"""The folders that this process made for a run, the innermost first, by folder of the run."""
HALF = re.compile(r"\.(\w+)-\w{8}\.(keras|html|json|csv|md|npz)")
"""What a file of a run is called while it is written (`runner.atomic`)."""


def take(run: Path) -> bool:
    """Hold a folder, made where it is missing, for this process; False where another process holds it.

    Raises InputError where there is something that no lock can be, such as a link or a pipe, and OSError
    where the folder cannot be made.
    """
    key = run.resolve()
    if key in LOCKS:
        return True
    missing = [one for one in (run, *run.parents) if not one.exists()]
    while True:
        run.mkdir(parents=True, exist_ok=True)
        MADE.setdefault(key, missing)
        if fcntl is None:
            return True
        with contextlib.suppress(FileNotFoundError):  # another process took the empty folder away: again
            descriptor = _open(run / LOCK)
            file = os.fdopen(descriptor, "r+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                MADE.pop(key, None)
                return False
            # Who held it before may have removed the file since it was opened here.
            if os.path.samestat(os.fstat(descriptor), os.lstat(run / LOCK)):
                LOCKS[key] = file
                return True
            file.close()


def take_new(run: Path) -> bool:
    """As `take`, of a folder that is not there yet; False where it is, or another process was faster."""
    missing = [one for one in run.parents if not one.exists()]
    run.parent.mkdir(parents=True, exist_ok=True)
    try:
        run.mkdir()
    except FileExistsError:
        return False
    MADE[run.resolve()] = [run, *missing]
    return take(run)


def release(run: Path) -> None:
    """Let go of a folder; one that was made for a run that did not begin is removed."""
    key = run.resolve()
    made, held = MADE.pop(key, []), LOCKS.pop(key, None)
    if held is not None:
        with contextlib.suppress(OSError):
            (run / LOCK).unlink(missing_ok=True)
        held.close()
    for one in made:
        with contextlib.suppress(OSError):  # not empty: there is a run
            one.rmdir()


def clear(run: Path) -> None:
    """Remove what a killed process left in a folder that this one holds: files that were half written, and
    the states of a run that is complete.
    """
    for path in run.iterdir():
        if HALF.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
            path.unlink(missing_ok=True)
    if (run / "metrics.json").is_file():
        shutil.rmtree(run / "checkpoints", ignore_errors=True)


def clear_all(home: Path) -> None:
    """`clear` the folders of runs in `home` that no process is at; one that holds nothing else is removed."""
    with contextlib.suppress(OSError):
        for run in sorted(home.iterdir()):
            clear_complete(run)
            with contextlib.suppress(OSError, InputError):
                reserved = not run.is_symlink() and os.listdir(run) == [LOCK]
                if reserved and run.resolve() not in LOCKS and take(run):
                    MADE[run.resolve()] = [run]
                    release(run)


def clear_complete(run: Path) -> None:
    """`clear` the folder of a complete run, if there is something to clear and no process is at it."""
    with contextlib.suppress(OSError, InputError):
        names = set(os.listdir(run))
        left = names & {LOCK, "checkpoints"} or any(map(HALF.fullmatch, names))
        if left and {"metrics.json", "config.json"} <= names and run.resolve() not in LOCKS and take(run):
            clear(run)
            release(run)


def _open(path: Path) -> int:
    """A descriptor of a regular file, made where it is missing, never through a link; nothing is emptied."""
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):  # a pipe would hang
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = f"{path} cannot be locked ({error.strerror})"
        raise InputError(f"{reason}; remove it, or give another folder.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no regular file; remove it, or give another folder.")
    return descriptor
