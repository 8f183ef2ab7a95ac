"""A run folder: everything one run leaves behind, each file written whole or not at all.

`runs/<template>/<name>/` holds FILES, the same in every template, and more where there is more to say, such
as reference.npz, truth.csv or groups.csv. config.json and manifest.csv come first, with checkpoints/ while a
run trains; metrics.json is written last of the numbers: a folder that has it is complete, one that hasn't
goes on when the run is started again.
"""

import datetime
import io
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

import pandas as pd

from runner import atomic, cells
from runner.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two processes on one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

FILES = frozenset(
    {
        "config.json",
        "environment.json",
        "manifest.csv",
        "problems.csv",
        "ledger.csv",
        "history.csv",
        "comparison.csv",
        "per_class.csv",
        "predictions.csv",
        "test_readings.csv",
        "metrics.json",
        "model.keras",
        "MODEL_CARD.md",
        "report.html",
    }
)
"""What every complete run has."""
LOCK = ".lock"
LOCKS: dict[Path, IO] = {}
"""The lock files that this process holds open, by folder."""


def choose(run_dir: str, template: str, config: dict[str, Any]) -> Path:
    """The folder a run will write to, not yet made: `run_dir`, or where that is "" the newest of
    runs/<template>/ with an unfinished run of the same `config` (plain JSON types) that no process is at,
    else runs/<template>/<date and time>. A `run_dir` with an unfinished run of that config is taken as well.

    Raises InputError when the folder holds a complete run, one of another config or anything else, or cannot
    be written to.
    """
    if not run_dir:
        for path in sorted((Path("runs") / template).glob("*/config.json"), reverse=True):
            if _goes_on(path.parent, config):
                return path.parent
    name = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = Path(os.path.expanduser(run_dir)) if run_dir else unused(Path("runs") / template / name)
    if path.is_file():
        raise InputError(f"--run-dir {path} is a file; give a folder that does not exist yet.")
    if (path / "metrics.json").is_file():
        raise InputError(
            f"--run-dir {path}: this run is complete (its report: {path / 'report.html'}); give another "
            "folder, or delete this one to train again."
        )
    if (path / "config.json").is_file():
        _check_same(path, config)
    elif path.is_dir() and any(one.name != LOCK for one in path.iterdir()):
        raise InputError(
            f"--run-dir {path} is not empty and holds no run; give another folder, or delete this one."
        )
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"--run-dir {path}: cannot write below {parent}; give a folder you may write to.")
    return path


def begin(run: Path, config: dict[str, Any], manifest: pd.DataFrame) -> bool:
    """Make the folder and write manifest.csv and config.json into it, or go on with the run that is there;
    return whether it goes on. The folder is this process's until `end`, or until the process ends.

    manifest: of the `Data` that the run trains on.
    Raises InputError when another process is at this folder, or the run in it began with other pictures,
    labels or splits.
    """
    run.mkdir(parents=True, exist_ok=True)
    if not _lock(run):
        raise InputError(f"--run-dir {run}: another process is training into it; give another folder.")
    if (run / "config.json").is_file():
        _check_same_data(run, manifest)
        return True
    atomic.write_csv(run / "manifest.csv", manifest)
    atomic.write_json(run / "config.json", config)  # last: from here on there is a run
    return False


def read_complete(run: str | Path) -> dict[str, Any]:
    """The config (plain JSON types) of a complete run; raises InputError where `run` is none."""
    run = Path(os.path.expanduser(run))
    lacking = [name for name in ("config.json", "model.keras", "metrics.json") if not (run / name).is_file()]
    if not run.is_dir() or "config.json" in lacking:
        found = "no folder" if not run.exists() else "a file" if run.is_file() else "no folder of a run"
        hint = next(iter(sorted(Path("runs").glob("*/*/metrics.json"), reverse=True)), None)
        example = f", for example {hint.parent}" if hint else ""
        raise InputError(f"{run} is {found}; give one that a template's training made{example}.")
    if lacking:
        raise InputError(f"{run}: this run is not complete ({lacking[0]} is missing); start it again.")
    try:
        return json.loads((run / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{run / 'config.json'} is damaged ({error}); give another run.") from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give another run.") from error
    return record


def end(run: Path) -> None:
    """Remove what only an unfinished run needs, and let go of the folder."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    held = LOCKS.pop(run.resolve(), None)
    if held is not None:
        held.close()
        (run / LOCK).unlink(missing_ok=True)


def unused(path: Path) -> Path:
    """`path`, or where there is something already, the first of path-2, path-3 ... that is free."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{n}") for n in itertools.count(2)))
    return next(one for one in names if not one.exists())


def _goes_on(path: Path, config: dict[str, Any]) -> bool:
    if (path / "metrics.json").is_file() or not (path / "checkpoints").is_dir():
        return False
    try:
        _check_same(path, config)
    except InputError:
        return False
    held = path.resolve() in LOCKS
    free = _lock(path)
    if free and not held and path.resolve() in LOCKS:
        LOCKS.pop(path.resolve()).close()
    return free


def _lock(path: Path) -> bool:
    """Hold `path` for this process until it ends, however it ends; False where another process holds it."""
    held = LOCKS.get(path.resolve())
    if held is None and fcntl is not None:
        held = open(path / LOCK, "w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            return False
        LOCKS[path.resolve()] = held
    return True


def _check_same(path: Path, config: dict[str, Any]) -> None:
    """Raise InputError where the unfinished run in `path` began with another config."""
    try:
        begun = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path / 'config.json'} is damaged ({error}); delete {path} to train anew."
        ) from error
    differing = [
        f"{field} {begun.get(field)!r} (now {config.get(field)!r})"
        for field in dict.fromkeys([*begun, *config])
        if field != "run_dir" and begun.get(field) != config.get(field)
    ]
    if differing:
        raise InputError(
            f"--run-dir {path} holds an unfinished run that began with {differing[0]}"
            f"{f' and {len(differing) - 1} more differences' if len(differing) > 1 else ''}; give the same "
            "settings to go on with it, another folder, or delete this one."
        )


def _check_same_data(run: Path, manifest: pd.DataFrame) -> None:
    try:
        began = cells.read(run / "manifest.csv", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run / 'manifest.csv'} is damaged ({error}); delete {run} to train anew."
        ) from error
    now = pd.read_csv(io.StringIO(manifest.to_csv(index=False)), dtype=str, keep_default_na=False)
    if not began.equals(now):
        raise InputError(
            f"--run-dir {run} holds an unfinished run on other data: it began with {len(began)} pictures, "
            f"now there are {len(now)}, or some have another content, label or split. Put the data back to "
            "go on, or give another folder."
        )
