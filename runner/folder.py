"""A run folder: everything one run leaves behind, each file written whole or not at all.

`runs/<template>/<name>/` holds config.json, environment.json, manifest.csv, history.csv, ledger.csv,
predictions.csv, metrics.json, model.keras and report.html. metrics.json is written last of the numbers: a
folder that has it is complete.
"""

import datetime
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import InputError


def choose(run_dir: str, template: str) -> Path:
    """The folder a run will write to, not yet created: `run_dir`, or runs/<template>/<date and time> when
    that is "".

    Raises InputError when the folder already holds a run or anything else, or cannot be written to.
    """
    name = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = Path(run_dir).expanduser() if run_dir else Path("runs") / template / name
    if path.is_file():
        raise InputError(f"--run-dir {path} is a file; give a folder that does not exist yet.")
    if (path / "metrics.json").is_file():
        raise InputError(
            f"--run-dir {path}: this run is complete (its report: {path / 'report.html'}); give another "
            "folder, or delete this one to train again."
        )
    if path.is_dir() and any(path.iterdir()):
        raise InputError(
            f"--run-dir {path} is not empty and holds no complete run; give another folder, or delete "
            "this one."
        )
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"--run-dir {path}: cannot write below {parent}; give a folder you may write to.")
    return path


def write(path: Path, save: Callable[[Path], Any]) -> Path:
    """Call `save` with a temporary name beside `path`, then move the file into place: readers see all of
    it or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(descriptor)
    try:
        save(Path(temporary))
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


def write_csv(path: Path, table) -> Path:
    """Write a pandas DataFrame without its index."""
    return write(path, lambda temporary: table.to_csv(temporary, index=False))


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
