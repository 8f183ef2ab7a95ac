"""A run folder: everything one run leaves behind, each file written whole or not at all.

`runs/<template>/<name>/` holds FILES, the same in every template, and more where there is more to say, such
as reference.npz, truth.csv or groups.csv. config.json and manifest.csv come first, with checkpoints/ while a
run trains; metrics.json is written last of the numbers: a folder that has it is complete, one that hasn't
goes on when the run is started again.
"""

import contextlib
import datetime
import io
import itertools
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd

from runner import atomic, cells
from runner.errors import InputError
from runner.runs import lock

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
LARGEST_RECORD = 2**26
"""Bytes of a JSON file that are read; a run's own have some thousand."""

FREE = ("run_dir", "log")
"""Settings that may be others where a run goes on: where it stands, and who hears of it."""


def choose(run_dir: str, template: str, config: dict[str, Any]) -> Path:
    """The folder a run will write to, from here on this process's: `run_dir`, or where that is "" the newest
    of runs/<template>/ with an unfinished run of the same `config` (plain JSON types) that no process is at,
    else runs/<template>/<date and time>. A `run_dir` with an unfinished run of that config is taken as well.

    The folder is made, so that no other start takes it, and `lock.release` removes it again where no run
    began in it. What killed processes left in complete runs of the template is removed.
    Raises InputError when the folder holds a complete run, one of another config or anything else, when
    another process is at it, or it cannot be written to.
    """
    home = Path("runs") / template
    lock.clear_all(home)
    if run_dir:
        path = atomic.place(run_dir, "--run-dir")
        _check_free(path, config)
        parent = next(one for one in (path, *path.absolute().parents) if one.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise InputError(
                f"--run-dir {path}: cannot write below {parent}; give a folder you may write to."
            )
        _take(path)
        try:
            _check_free(path, config)  # once more: now nobody else changes it
        except InputError:
            lock.release(path)
            raise
        return path
    for found in sorted(home.glob("*/config.json"), reverse=True):
        if _goes_on(found.parent, config):
            return found.parent
    name = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return next(one for one in _numbered(home / name) if lock.take_new(one))


def begin(run: Path, config: dict[str, Any], manifest: pd.DataFrame) -> bool:
    """Make the folder and write manifest.csv and config.json into it, or go on with the run that is there;
    return whether it goes on. The folder is this process's until `end`, or until the process ends.

    manifest: of the `Data` that the run trains on.
    Raises InputError when another process is at this folder, or the run in it began with another config,
    other pictures, labels or splits.
    """
    _take(run)
    lock.clear(run)
    if (run / "config.json").is_file():
        _check_same(run, config)
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
    return read_json(run / "config.json")


def read_json(path: Path, advice: str = "give another run") -> dict[str, Any]:
    """A JSON object from a regular file; raises InputError where there is none, with what to do."""
    try:
        with open_regular(path) as file:
            text = file.read(LARGEST_RECORD + 1)
        if len(text) > LARGEST_RECORD:
            raise ValueError(f"it has more than {LARGEST_RECORD:,} bytes")
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError(f"it holds {type(record).__name__}, and no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); {advice}.") from error
    return record


def read_metrics(run: Path) -> dict[str, Any]:
    """The metrics.json of a run: "classes", names, and "test", numbers, are there, if empty.

    Raises InputError where it is damaged, or another kind of record.
    """
    path = run / "metrics.json"
    record = {"classes": [], "test": {}} | read_json(path)
    classes, test = record["classes"], record["test"]
    if not isinstance(classes, list) or not all(isinstance(one, (str, int)) for one in classes):
        raise InputError(f"{path} is damaged (its classes are no list of names); give another run.")
    record["classes"] = [str(one) for one in classes]
    if len(set(record["classes"])) < len(classes) or not isinstance(test, dict):
        raise InputError(f"{path} is damaged (its classes or its test are none); give another run.")
    for name, value in test.items():
        numbers = value if name.endswith("_interval") else [value]
        pair = isinstance(numbers, list) and (len(numbers) == 2) == name.endswith("_interval")
        if not pair or not all(one is None or isinstance(one, (int, float)) for one in numbers):
            raise InputError(f"{path} is damaged ({name} = {str(value)[:40]}); give another run.")
    return record


def open_regular(path: Path) -> IO[bytes]:
    """A regular file, to be read; ValueError for what is none, such as a pipe, which would hang."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no regular file")
    return os.fdopen(descriptor, "rb")


def end(run: Path) -> None:
    """Remove what only an unfinished run needs, and let go of the folder."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    lock.release(run)


def make_unused(path: Path) -> Path:
    """Make the folder `path`, or where there is something already, the first of path-2, path-3 ... that is
    free, and return it: of two processes at once each gets its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for one in _numbered(path):
        with contextlib.suppress(FileExistsError):
            one.mkdir()
            return one
    raise AssertionError("there is always another number")


def make(path: Path, flag: str) -> Path:
    """Make a folder that was asked for by `flag`; InputError where another process was faster."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{flag} {path} exists; give another name, or move it away.") from None
    return path


def _numbered(path: Path) -> Iterator[Path]:
    return itertools.chain([path], (path.with_name(f"{path.name}-{n}") for n in itertools.count(2)))


def _check_free(path: Path, config: dict[str, Any]) -> None:
    """Raise InputError where no run of this config can begin, nor go on, at `path`."""
    if path.is_file():
        raise InputError(f"--run-dir {path} is a file; give a folder that does not exist yet.")
    if (path / "metrics.json").is_file():
        lock.clear_complete(path)
        raise InputError(
            f"--run-dir {path}: this run is complete (its report: {path / 'report.html'}); give another "
            "folder, or delete this one to train again."
        )
    if (path / "config.json").is_file():
        _check_same(path, config)
    elif path.is_dir() and any(not _of_no_run(one.name) for one in path.iterdir()):
        raise InputError(
            f"--run-dir {path} is not empty and holds no run; give another folder, or delete this one."
        )


def _of_no_run(name: str) -> bool:
    """Whether a file is what a start leaves that is stopped before there is a config.json."""
    return name in (lock.LOCK, "manifest.csv") or bool(lock.HALF.fullmatch(name))


def _take(run: Path) -> None:
    if not lock.take(run):
        raise InputError(f"--run-dir {run}: another process is training into it; give another folder.")


def _goes_on(path: Path, config: dict[str, Any]) -> bool:
    """Whether this process can go on with what is in a folder below runs/; then it holds it."""
    held = path.resolve() in lock.LOCKS
    try:
        if not (path / "checkpoints").is_dir() or not lock.take(path):
            return False
        if not (path / "metrics.json").is_file():
            _check_same(path, config)
            return True
    except (InputError, OSError):  # of another config, damaged, or somebody else's: no reason to stop here
        pass
    if not held:
        lock.release(path)
    return False


def _check_same(path: Path, config: dict[str, Any]) -> None:
    """Raise InputError where the unfinished run in `path` began with another config."""
    begun = read_json(path / "config.json", f"delete {path} to train anew")
    differing = [
        f"{field} {begun.get(field)!r} (now {config.get(field)!r})"
        for field in dict.fromkeys([*begun, *config])
        if field not in FREE and begun.get(field) != config.get(field)
    ]
    if differing:
        raise InputError(
            f"--run-dir {path} holds an unfinished run that began with {differing[0]}"
            f"{f' and {len(differing) - 1} more differences' if len(differing) > 1 else ''}; give the same "
            "settings to go on with it, another folder, or delete this one."
        )


def _check_same_data(run: Path, manifest: pd.DataFrame) -> None:
    try:
        with open_regular(run / "manifest.csv") as file:
            began = cells.read(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run / 'manifest.csv'} is damaged ({error}); delete {run} to train anew."
        ) from error
    text = io.StringIO()
    cells.write(manifest, text)
    text.seek(0)
    now = cells.read(text, dtype=str, keep_default_na=False)
    if not began.equals(now):
        raise InputError(
            f"--run-dir {run} holds an unfinished run on other data: it began with {len(began)} pictures, "
            f"now there are {len(now)}, or some have another content, label or split. Put the data back to "
            "go on, or give another folder."
        )
