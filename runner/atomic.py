"""Files that are written whole or not at all."""

import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import cells
from runner.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME, LONGEST_PATH = 255, 4096
"""Bytes that file systems allow."""
UNPACKED, EXPANSION = 2**28, 10
"""Bytes that an archive may unpack to, and how many more for each that it has: weights hardly pack at all."""
WITHIN = 128
"""Bytes of a path that are kept for what is written below a folder."""


def place(text: str | Path, flag: str) -> Path:
    """The path that is to be written, with ~ for the home folder; InputError for one that no system has, or
    whose name cannot be written down.

    flag: what the path was given by, for the message, such as "--run-dir".
    """
    path = Path(os.path.expanduser(text))
    shown = str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    try:
        names = [name.encode("utf-8") for name in path.parts]
    except UnicodeEncodeError:
        raise InputError(f"{flag} {shown} is no UTF-8; give a name that is.") from None
    if b"\0" in b"".join(names):
        raise InputError(f"{flag} {shown} has a character of number 0; give a name without.")
    longest = max(map(len, names), default=0)
    if longest > LONGEST_NAME:
        raise InputError(
            f"{flag} {shown} has a part of {longest} bytes; give names of at most {LONGEST_NAME} bytes."
        )
    if len(os.fsencode(path.absolute())) > LONGEST_PATH - WITHIN:
        raise InputError(
            f"{flag} {shown} is a path of more than {LONGEST_PATH - WITHIN} bytes; give another."
        )
    return path


def check_archive(path: str | Path) -> None:
    """Raise ValueError for a zip file (.npz, .keras) that would unpack to far more than it takes, and for
    what is no regular file, such as a pipe. zipfile's own errors for what is no zip file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > UNPACKED + EXPANSION * size:
        raise ValueError(f"its {size:,} bytes would unpack to {unpacked:,}")


def write(path: Path, save: Callable[[Path], Any]) -> Path:
    """Call `save` with a temporary name beside `path`, then move the file into place: readers see all of
    it or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(descriptor)
    try:
        save(Path(temporary))
        with open(
            temporary, "rb+"
        ) as file:  # on the disk before it has the name: a power cut leaves no shell
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only the owner may read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_json(path: Path, record: Any) -> Path:
    """Write a record of plain JSON types; NaN becomes null, since strict readers refuse it."""
    text = json.dumps(_finite(record), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_csv(path: Path, table: "pd.DataFrame") -> Path:
    """Write a pandas DataFrame without its index, and with no cell that a spreadsheet would run: `cells.read`
    gives the same back.
    """
    return write(path, lambda temporary: cells.write(table, temporary))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return (
        None
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
        else value
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
