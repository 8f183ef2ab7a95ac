"""The study: Optuna's record of the trials, which one is next, and what is learned from those before.

What is drawn for a trial depends on the seed, the trial's number and the trials that have ended, and on
nothing that a process remembers: a search that was killed draws what it would have drawn.
"""

import contextlib
import dataclasses
import json
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal

import numpy as np
import optuna
import pandas as pd

from runner.errors import InputError
from runner.tuning import claims, trials
from runner.tuning.space import Choice, Integers, LogUniform, Range, Space, apply, points

SEARCHES = ("bayes", "random", "grid")
REDUCTION, RUNGS = 2, 2
"""Of the trials that come to a rung, one in REDUCTION goes on; each rung has so many times the epochs of that
before. A third instead of a half, from a ninth of the epochs on, stopped all that came after a lucky first.
"""
DRIVERS = {"postgresql": "psycopg2-binary", "mysql": "mysqlclient"}
"""What SQLAlchemy asks for by default, as pip calls it."""
STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


@dataclasses.dataclass(frozen=True)
class Job:
    """What a search is: all that its trials follow from."""

    template: str
    """The package."""
    config: Any
    space: Space
    search: str = "bayes"
    prune: bool = True
    grid_points: int = 3
    """Values of each range that is no `Choice`, for the grid."""

    @property
    def seed(self) -> int:
        return self.config.machine.seed

    @property
    def objective(self) -> str:
        """What is to be best, as the logs or a run's validation call it."""
        monitor = getattr(self.config, "monitor", "val_loss")
        return monitor if self.space.objective == "monitor" else self.space.objective

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """maximize or minimize; InputError where nothing says which."""
        if self.space.direction != "auto":
            return self.space.direction
        if self.objective.endswith("loss"):
            return "minimize"
        if self.objective.endswith(("accuracy", "f1")):
            return "maximize"
        raise InputError(f"space.py: nothing says which way {self.objective} is better; give a direction.")

    def points(self) -> list[dict[str, Any]]:
        """Those of the grid, in the order they are tried."""
        return points(self.space.ranges, self.grid_points, self.seed)


def open_study(job: Job, record: Mapping[str, Any], name: str, url: str) -> optuna.Study:
    """Make the study of this name, or go on with it.

    record: plain JSON types that it must have begun with. url: of the database, as SQLAlchemy has it.
    Raises InputError for a study that began with something else, and for a database that does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    attempts = 5
    options = {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    study = None
    while study is None:
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction=job.direction,
                load_if_exists=True,
                pruner=_pruner(job),
            )
        except Exception as error:
            # Of two that make the tables of a database at once one is told that they are there;
            # `claims.alone` keeps those of one disk apart.
            attempts -= 1
            if type(error).__name__ not in ("IntegrityError", "ProgrammingError") or attempts < 1:
                raise InputError(_why_not(url, error)) from error
            time.sleep(1)
    known = study.user_attrs.get("record")
    if known is None:
        study.set_user_attr("record", json.dumps(record, sort_keys=True))
    elif json.loads(known) != json.loads(json.dumps(record)):
        raise InputError(
            f"the study {name} began with {_first_difference(json.loads(known), record)}; give the same "
            "settings to go on with it, or another --study."
        )
    return study


def _why_not(url: str, error: Exception) -> str:
    kind = url.partition(":")[0].partition("+")[0]
    reason = " ".join(str(error).split())[:300]
    said = f"--storage {_without_password(url)} cannot be used ({reason})"
    missing = isinstance(error, ModuleNotFoundError) or "import" in reason.lower()
    if missing and kind in DRIVERS:
        return f"{said}; run `pip install {DRIVERS[kind]}`."
    return f"{said}; give a URL such as postgresql://user:password@host/database, whose server answers."


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.rpartition(':')[0]}:***@{tail}" if at and head.count(":") > 1 else url


def _first_difference(before: Any, now: Any, path: str = "") -> str:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != json.loads(json.dumps(now.get(name))):
                return _first_difference(before.get(name), now.get(name), f"{path}.{name}".strip("."))
    return f"{path} {str(before)[:80]!r} (now {str(now)[:80]!r})"


def _pruner(job: Job) -> optuna.pruners.BasePruner:
    """Successive halving over epochs (Li et al. 2020, arXiv:1810.05934): at a quarter and half of the epochs
    a trial goes on that is among the better half of those that came as far.
    """
    if not job.prune or job.space.objective != "monitor":
        return optuna.pruners.NopPruner()
    least = max(1, math.ceil(_epochs(job.config) / REDUCTION**RUNGS))
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=REDUCTION)


def _epochs(config: Any) -> int:
    return sum(stage.epochs for stage in config.stages)


class GridSampler(optuna.samplers.BaseSampler):
    """The point of a trial's number, so that no two workers and no resumed trial take another's."""

    def __init__(self, grid: list[dict[str, Any]]):
        self.grid = grid

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self.grid[trial.number % len(self.grid)][param_name]


def sampler(job: Job, number: int, index: int) -> optuna.samplers.BaseSampler:
    """What draws the range of this index for the trial of this number."""
    if job.search == "grid":
        return GridSampler(job.points())
    seed = int(np.random.SeedSequence((job.seed, number, index)).generate_state(1)[0])
    if job.search == "random":
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():  # that an option may change in a later Optuna
        warnings.simplefilter("ignore")
        # Each range by itself: what is drawn does not depend on where a killed process had come to.
        return optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=True)


def draw(study: optuna.Study, trial: optuna.Trial, job: Job) -> dict[str, Any]:
    """What the trial tries of each range; what it was given before stays."""
    return {
        path: _suggest(study, trial, path, found, sampler(job, trial.number, index))
        for index, (path, found) in enumerate(job.space.ranges.items())
    }


def _suggest(study: optuna.Study, trial: optuna.Trial, path: str, found: Range, drawn_by: Any) -> Any:
    study.sampler = drawn_by
    if isinstance(found, Choice):
        return trial.suggest_categorical(path, found.grid(0))
    if isinstance(found, Integers):
        return trial.suggest_int(path, found.low, found.high)
    return trial.suggest_float(path, found.low, found.high, log=isinstance(found, LogUniform))


def place_of(study_folder: Path, number: int) -> Path:
    """The run folder of a trial."""
    return study_folder / f"trial_{number:04}"


def claim(study: optuna.Study, job: Job, folder: Path, most: int) -> tuple[optuna.Trial, IO] | None:
    """The next trial for this process, and what holds it until it is closed; None where there is none.

    First one that was killed, then a new one where fewer than `most` have begun. To be called by one process
    at a time (`claims.alone`).
    """
    held = folder / ".claims"
    for one in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        path = held / f"{one.number:04}"
        claimed = claims.take(path) if path.is_file() else None  # not there: of a host with another disk
        if claimed is None:
            continue
        if study._storage.get_trial(one._trial_id).state.is_finished():  # told just now, and let go of
            claimed.close()
            continue
        study.sampler = optuna.samplers.RandomSampler(0)  # draws nothing: it is asked to take note
        return optuna.Trial(study, one._trial_id), claimed
    expected = len(study.get_trials(deepcopy=False))
    if expected >= most:
        return None
    # Claimed before it is there, so that it is known as killed whenever that happens.
    claimed = claims.take(held / f"{expected:04}")
    study.sampler = optuna.samplers.RandomSampler(0)
    trial = study.ask()
    if trial.number != expected:  # another host was faster
        if claimed is not None:
            claimed.close()
            (held / f"{expected:04}").unlink(missing_ok=True)
        claimed = claims.take(held / f"{trial.number:04}")
    assert claimed is not None
    return trial, claimed


def work(
    study: optuna.Study,
    job: Job,
    folder: Path,
    train: ModuleType,
    most: int,
    ends: float = math.inf,
) -> None:
    """Run trials until `most` have begun or the clock (`time.time()`) is past `ends`, killed ones first.

    Raises InputError where the system does not let it go on, such as a full disk.
    """
    while True:
        with claims.alone(folder / ".claims" / "ask"):
            found = claim(study, job, folder, most if time.time() < ends else 0)
            if found is None:
                return
            trial, claimed = found
            chosen = draw(study, trial, job)
        with contextlib.closing(claimed):
            _one(study, job, folder, train, trial, chosen)


def _one(
    study: optuna.Study,
    job: Job,
    folder: Path,
    train: ModuleType,
    trial: optuna.Trial,
    chosen: dict[str, Any],
) -> None:
    place = place_of(folder, trial.number)
    config = job.config
    try:
        config = trials.config_of(apply(job.config, job.space.ranges, chosen), place)
        epochs = _epochs(config)
    except InputError as error:  # values that are fine one by one
        outcome = trials.Outcome("failed", reason=str(error))
    else:

        def listen(epoch: int, value: float) -> None:
            if "pruned" in trial.user_attrs:
                raise trials.Pruned
            last = study._storage.get_trial(trial._trial_id).last_step or 0
            if epoch > last:  # else an epoch that is gone through again after a kill
                trial.report(value, epoch)
            if last <= epoch < epochs and trial.should_prune():
                trial.set_user_attr("pruned", epoch)
                raise trials.Pruned

        trial.set_user_attr("worker", os.getpid())
        listener = listen if job.space.objective == "monitor" else None
        outcome = trials.run(train, config, job.space.objective, listener, place.with_suffix(".log"))
    if outcome.reason:
        trial.set_user_attr("reason", outcome.reason)
    trial.set_user_attr("seconds", round(outcome.seconds, 1))
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    study.tell(trial, outcome.value, state=optuna.trial.TrialState[states[outcome.state]])
    print(in_words(study, job, trial.number, outcome, chosen), flush=True)


def in_words(
    study: optuna.Study, job: Job, number: int, outcome: trials.Outcome, chosen: Mapping[str, Any]
) -> str:
    """A trial's line for the terminal."""
    settings = ", ".join(f"{path} {shown(value)}" for path, value in chosen.items())
    if outcome.state == "failed":
        return f"trial {number} failed: {outcome.reason} ({settings})"
    best = finished(study, job)
    said = f"; best {best[0].value:.4f}, trial {best[0].number}" if best else ""
    reached = "stopped early" if outcome.value is None else f"{job.objective} {outcome.value:.4f}"
    return f"trial {number}: {reached} in {outcome.seconds:.0f} s ({settings}){said}"


def shown(value: Any) -> str:
    """A value as people read it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def finished(study: optuna.Study, job: Job) -> list[optuna.trial.FrozenTrial]:
    """The trials that came to their end, the best first; of equals the earlier."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    sign = -1 if job.direction == "maximize" else 1
    return sorted(done, key=lambda one: (sign * (one.value or 0.0), one.number))


def table(study: optuna.Study, job: Job) -> pd.DataFrame:
    """A row per trial: trial, state, the objective, last, epochs, seconds, reason, and what it tried.

    last: what was told of its last epoch.
    """
    rows = []
    for one in study.get_trials(deepcopy=False):
        rows.append(
            {
                "trial": one.number,
                "state": STATES[one.state.name],
                job.objective: one.value if one.state.name == "COMPLETE" else math.nan,
                "last": one.intermediate_values.get(one.last_step or 0, math.nan),
                "epochs": one.last_step or 0,
                "seconds": one.user_attrs.get("seconds", math.nan),
                "reason": one.user_attrs.get("reason", ""),
                **{path: one.params.get(path) for path in job.space.ranges},
            }
        )
    return pd.DataFrame(rows)
