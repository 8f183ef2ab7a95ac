"""Files that are written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import cells

if TYPE_CHECKING:
    import pandas as pd


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
    return write(path, lambda temporary: cells.neutral(table).to_csv(temporary, index=False))


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
