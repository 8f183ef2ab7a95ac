"""Arrays that were expensive to compute, kept in memory or on disk, and on disk from run to run.

A file is named by a fingerprint of all that its content depends on; it is written beside its place and moved,
so that two runs at once and one that is killed leave whole files only. Behind the array stands its hash, and
a file whose content has another is made anew. The least recently used go first when the folder grows beyond
its limit.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

MEMORY = 4 * 2**30
"""The most bytes of one array to hold in memory; never more than half of what is free."""
DISK = 20 * 2**30
"""The most bytes that the folder may take; never more than half of what is free beside it."""
NAME = re.compile(r"[0-9a-f]{64}\.npy")
"""What the files are called; the folder may hold others, which are not touched."""
MARK = b"sha256 of the array above: "
"""Before the hash, at the end of a file; what reads .npy files reads no further than the array."""
LEFT_OVER = 24 * 3600.0
"""Seconds after which a file that is still being written counts as left by a process that was killed."""


@dataclass(frozen=True)
class Kept:
    """An array and where it is."""

    array: np.ndarray
    how: str
    """In words: "in memory", "on disk" (memory-mapped), and whether it had been computed before."""
    computed: bool
    """Whether it was computed now."""


def folder() -> Path:
    """Where arrays are kept: the environment's THAW_CACHE, or thaw/ in the user's cache folder."""
    if os.environ.get("THAW_CACHE"):
        return Path(os.path.expanduser(os.environ["THAW_CACHE"]))
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "thaw"


def fingerprint(*parts) -> str:
    """SHA-256 (hex) of strings, bytes, numbers and arrays, in order; equal for equal parts only."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"array {part.dtype} {part.shape} ".encode())
            sha.update(np.ascontiguousarray(part).view(np.uint8).data if part.size else b"")
        else:
            text = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
            sha.update(f"{len(text)} ".encode() + text)
    return sha.hexdigest()


def keep(
    key: str,
    shape: Sequence[int],
    dtype: DTypeLike,
    fill: Callable[[np.ndarray], None],
    *,
    memory: int = MEMORY,
    disk: int = DISK,
) -> Kept | None:
    """Return the array of this key, as kept before or as `fill` makes it now; None where it fits nowhere.

    key: a `fingerprint` of everything that the content depends on.
    shape, dtype: of the array; any NumPy type of a fixed size.
    fill: writes the content into an array of zeros that it is given.
    memory, disk: budgets in bytes, see MEMORY and DISK. On a full or read-only disk the array is made in
        memory alone, where it fits.
    """
    found = find(key, shape, dtype, memory=memory)
    if found is not None:
        return found
    dtype = np.dtype(dtype)
    size = _size(shape, dtype)
    in_memory = fits_memory(shape, dtype, memory)
    path = folder() / f"{key}.npy"
    where = "in memory" if in_memory else "on disk"
    try:
        if size <= min(disk, _free_disk(path.parent) // 2):
            _make_room(path.parent, disk - size)
            _write(path, shape, dtype, fill)
            found = _read(path, shape, dtype, in_memory)
            if found is not None:
                return Kept(found, where, True)
    except OSError:
        pass  # full or read-only: memory may do
    if not in_memory:
        return None
    array = np.zeros(shape, dtype)
    fill(array)
    return Kept(array, "in memory, for this run only", True)


def find(key: str, shape: Sequence[int], dtype: DTypeLike, *, memory: int = MEMORY) -> Kept | None:
    """The array of this key where it was kept before, else None; the others as for `keep`."""
    in_memory, path = fits_memory(shape, dtype, memory), folder() / f"{key}.npy"
    found = _read(path, shape, np.dtype(dtype), in_memory)
    if found is None:
        return None
    with contextlib.suppress(OSError):  # another's file, or gone meanwhile
        os.utime(path)  # used now: among the last to go
    return Kept(found, f"{'in memory' if in_memory else 'on disk'}, computed before", False)


def fits_memory(shape: Sequence[int], dtype: DTypeLike, memory: int = MEMORY) -> bool:
    """Whether an array is within the budget (bytes) and half of what is free."""
    return _size(shape, np.dtype(dtype)) <= min(memory, _free_memory() // 2)


def _size(shape: Sequence[int], dtype: np.dtype) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _read(path: Path, shape: Sequence[int], dtype: np.dtype, in_memory: bool) -> np.ndarray | None:
    """The array of a whole file of that kind, else None; what is no such file is removed."""
    try:
        raw = np.load(path, mmap_mode=None if in_memory else "r", allow_pickle=False)
        if raw.shape == (*shape,) and raw.dtype == _plain(dtype) and _hash_in(path) == _hash(raw):
            return raw.view(dtype)
    except FileNotFoundError:
        return None
    except Exception:  # NumPy raises almost anything on a damaged header
        pass
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def _hash(array: np.ndarray) -> bytes:
    """SHA-256 of the bytes of a plain array, read through its mapping where it has one."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()


def _hash_in(path: Path) -> bytes:
    """What the file says that its array's hash is, b"" where it does not."""
    with open(path, "rb") as file:
        file.seek(-len(MARK) - 32, os.SEEK_END)
        mark, found = file.read(len(MARK)), file.read()
    return found if mark == MARK else b""


def _plain(dtype: np.dtype) -> np.dtype:
    """What a .npy file calls the type: it does not know bfloat16, whose bits fit whole numbers."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" or dtype.name == "bfloat16" else dtype


def _write(path: Path, shape: Sequence[int], dtype: np.dtype, fill: Callable[[np.ndarray], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = _plain(dtype)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".half-", suffix=".npy")
    try:
        with open(descriptor, "wb") as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(plain),
                "fortran_order": False,
                "shape": (*shape,),
            }
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            start = file.tell()
            if hasattr(os, "posix_fallocate"):
                # Room for all of it now: where a disk fills up, a write to a mapped file kills the process.
                size = int(np.prod(shape, dtype=np.int64)) * plain.itemsize
                os.posix_fallocate(file.fileno(), 0, start + size)
        array = np.memmap(temporary, dtype=plain, mode="r+", offset=start, shape=(*shape,))
        fill(array.view(dtype))
        array.flush()
        mark = MARK + _hash(array)
        del array
        with open(temporary, "rb+") as file:
            file.seek(0, os.SEEK_END)
            file.write(mark)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make_room(directory: Path, allowed: int) -> None:
    """Remove the least recently used files until the rest takes at most `allowed` bytes.

    A file that another process has open stays readable for it (on Windows it cannot be removed and stays).
    """
    if not directory.is_dir():
        return
    for half in directory.glob(".half-*"):
        if time.time() - _last_used(half) > LEFT_OVER:
            half.unlink(missing_ok=True)
    ours = [path for path in directory.iterdir() if NAME.fullmatch(path.name)]
    files = sorted(ours, key=_last_used, reverse=True)
    total = 0
    for path in files:
        try:
            total += path.stat().st_size
            if total > allowed:
                path.unlink()
        except OSError:
            continue


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _free_disk(directory: Path) -> int:
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def _free_memory() -> int:
    """Bytes that this process may still take: what the system can give, and what its container allows."""
    free = 2 * MEMORY  # where nothing says
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError):  # "max", where there is no limit, is no number
        group = Path("/sys/fs/cgroup")
        limit, taken = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        free = min(free, max(0, int(limit) - int(taken)))
    return free
