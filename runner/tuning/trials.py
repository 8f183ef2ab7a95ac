"""One trial of a search: a run of the template that stops at validation, and the number that it reaches."""

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import keras

from runner import fields
from runner.data import sealed
from runner.errors import InputError
from runner.runs import folder
from runner.training import monitor

CLOSED = "this is a trial of a search"


class Pruned(Exception):
    """Raised within a trial that is not worth its further epochs."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    """Of the objective, on validation, where it is complete."""
    reason: str = ""
    """Why it failed, in a line."""
    seconds: float = 0.0


def config_of(config: Any, place: Path) -> Any:
    """The Config of a trial: without baselines, without the test, in a folder of its own."""
    return fields.replace(config, baselines=False, test=False, run_dir=str(place))


def run(
    train: ModuleType,
    config: Any,
    objective: str,
    listener: Callable[[int, float], None] | None,
    log: Path,
) -> Outcome:
    """Run a trial in this process, or go on with it where its folder has the beginning of it.

    train: the module of the template. config: of `config_of`. objective: see `space.Space`. listener: is
    called after each epoch (`monitor.listening`), and may raise Pruned. log: the file that takes what the run
    prints; None prints it.

    Whatever ends the run but Ctrl-C, SIGTERM and the system (a full disk) is an Outcome. No test split of the
    process can be opened meanwhile.
    """
    place, started = Path(config.machine.run_dir), time.perf_counter()

    def ended(state: Literal["complete", "pruned", "failed"], **found: Any) -> Outcome:
        return Outcome(state, seconds=time.perf_counter() - started, **found)

    try:
        if not (place / "metrics.json").is_file():  # it was killed after its end, before anybody knew
            heard = contextlib.nullcontext() if listener is None else monitor.listening(listener)
            with sealed.kept_closed(CLOSED), heard:
                one(train, config, log)
        return ended("complete", value=value_of(place, objective))
    except Pruned:
        folder.end(place)
        return ended("pruned")
    except Exception as error:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            raise
        if place.is_dir():
            folder.end(place)
        return ended("failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])


def one(train: ModuleType, config: Any, log: Path) -> None:
    """A run of a template in this process, as in one of its own; what it prints goes to a file.

    train: the module of the template. log: is made, or gets more.
    """
    # Names and numbers of layers begin anew.
    keras.utils.clear_session()
    with open(log, "a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        train.main(config)


def value_of(place: Path, objective: str) -> float:
    """The objective of a run that stopped at validation; InputError where it has no such number."""
    found = json.loads((place / "metrics.json").read_text(encoding="utf-8")).get("validation", {})
    value = found.get(objective)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(
            f"{place}: {objective} is {value} on validation; there is {', '.join(found) or 'nothing'}."
        )
    return float(value)
