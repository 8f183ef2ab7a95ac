"""What can be asked for the outcomes of a row: a trained network with the scale of its outcome, and rivals
without a network.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from runner.data.batches import SplitBatches
from runner.devices import strategy
from runner.errors import InputError
from runner.networks import saved
from runner.scores import intervals
from runner.stage import Stage
from runner.tables import columns as columns_of
from runner.tables import layers
from runner.tables.layers import Prepared
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import method, model
from .config import Config
from .loading import Trial
from .method import Outcome, Solved

RIDGE_S, RIDGE_T, BOOSTING = "ridge S-learner", "ridge T-learner", "boosting T-learner"
SOURCE = "source"
HANDED_OUT = (baselines.SOLVED, "frozen backbone", "staged")
"""What a run may hand out, what moves least first."""
CLOSEST = 0.02
"""A propensity is cut off this far from 0 and 1, so that no row of a trial counts for more than 50."""


class Learner(Protocol):
    """What is asked."""

    def expected(self, rows: np.ndarray) -> np.ndarray:
        """mu_0 and mu_1 of rows as numbers: float64 (rows, 2), in units of the outcome."""
        ...


@dataclass(frozen=True)
class Learned:
    """A network of z and the scale of its outcome."""

    network: keras.Model
    outcome: Outcome

    def z(self, rows: np.ndarray) -> np.ndarray:
        return _asked(self.network, rows)[:, :2]

    def expected(self, rows: np.ndarray) -> np.ndarray:
        return self.outcome.expected(self.z(rows))

    def features(self, rows: np.ndarray) -> np.ndarray:
        """The representation, float64 (rows, r)."""
        return _asked(model.features(self.network), rows)


@dataclass(frozen=True)
class Saved:
    """The network of a finished run."""

    network: keras.Model

    def expected(self, rows: np.ndarray) -> np.ndarray:
        return _asked(self.network, rows)[:, :2]


@dataclass(frozen=True)
class Ridge:
    """A ridge S-learner, or two of one arm each."""

    prepare: Prepared
    outcome: Outcome
    solved: tuple[Solved, ...]

    def expected(self, rows: np.ndarray) -> np.ndarray:
        columns = prepared(self.prepare, rows)
        z = [one.z(columns) for one in self.solved]
        return self.outcome.expected(np.column_stack([z[0][:, 0], z[-1][:, 1]]))


@dataclass(frozen=True)
class Boosting:
    """Gradient boosting for each arm on rows as they are."""

    arms: tuple

    def expected(self, rows: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [
                one.predict_proba(rows)[:, 1] if hasattr(one, "predict_proba") else one.predict(rows)
                for one in self.arms
            ]
        ).astype(np.float64)


def _asked(network: keras.Model, rows: np.ndarray) -> np.ndarray:
    found = [np.asarray(network(part, training=False)) for part in _parts(rows)]
    return np.concatenate(found).astype(np.float64)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + 4096] for first in range(0, max(1, len(rows)), 4096)]


def prepared(layer: Prepared, rows: np.ndarray) -> np.ndarray:
    """Rows as the networks see them, float64 (rows, features)."""
    return np.concatenate([np.asarray(layer(part)) for part in _parts(rows)]).astype(np.float64)


# ---------------------------------------------------------------- what is trained


def train(
    config: Config,
    trial: Trial,
    stages: tuple[Stage, ...],
    batch_size: int,
    name: str,
    checkpoints: Checkpointing | None,
    start: Learned | None = None,
) -> tuple[Learned, Fit]:
    """Build the network and train it through stages on a trial, from the weights and the scale of `start`
    where there is one.
    """
    if start is not None:
        outcome = start.outcome
    else:
        outcome = Outcome.of(trial.outcome[trial.of("train")])
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, trial)
        if start is not None:
            model.carried(network, start.network)
        options = strategy.compile_options(config.machine)
        train_batches = SplitBatches(trial, "train", batch_size, shuffle=True, seed=config.machine.seed)
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        if alone and options.get("steps_per_execution", 1) == 1 and train_batches.steps <= 100:
            # A step takes less than asking Python for it: an epoch at a time is some three times faster. Over
            # replicas TensorFlow cannot: its loop over steps takes no batch that is divided.
            options["steps_per_execution"] = train_batches.steps
        if config.backbone == "DragonNet":
            loss = method.DragonNet(outcome, config.propensity_weight, config.targeted)
        else:
            loss = method.Factual(outcome)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=loss,
            metrics=[method.FactualMetric(outcome)],
            **options,
        )
    fitted = fit_stages(
        network,
        train_batches,
        SplitBatches(trial, "val", max(batch_size, 256)),
        stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        keep_start=start is not None,
    )
    return Learned(network, outcome), fitted


def start_of(
    config: Config, trial: Trial, checkpoints: Checkpointing | None, title: str = SOURCE
) -> Learned | None:
    """What the network begins with: trained on the larger trial, or of an earlier run; None for nothing."""
    if config.weights == "none":
        return None
    if config.weights != "source":
        network = layers.of_rows(saved.load(Path(config.weights).expanduser()))
        return of_finished(network, config.weights)
    if trial.source is None:
        return None
    return train(config, trial.source, config.source_stages, config.source_batch_size, title, checkpoints)[0]


def of_finished(network: keras.Model, where: str) -> Learned:
    """The z and the scale within what a run saved (`model.finished`); InputError for another network."""
    try:
        end = network.get_layer("expected")
    except ValueError:
        raise InputError(
            f"weights={where!r} is no run of this template; give one, or source, or none."
        ) from None
    outcome = Outcome(True)
    if isinstance(end, keras.layers.Rescaling):
        outcome = Outcome(False, float(np.asarray(end.offset)), float(np.asarray(end.scale)))
    return Learned(keras.Model(network.input, end.input, name=network.name), outcome)


# ---------------------------------------------------------------- what is solved


def solve(config: Config, trial: Trial, start: Learned) -> tuple[Learned, Fit]:
    """The frozen representation and heads of `start`, corrected by ridge on what they leave."""
    began = time.perf_counter()
    mean, spread, solved = on_features(config, trial, start)
    with strategy.scope(config.machine, config.backbone):
        network = model.with_residual(start.network, mean, spread, solved)
    count = 2 * (len(mean) + 1)
    fitted = Fit(pd.DataFrame(), pd.DataFrame(), time.perf_counter() - began, trained=count)
    return Learned(network, start.outcome), fitted


def on_features(config: Config, trial: Trial, learned: Learned) -> tuple[np.ndarray, np.ndarray, Solved]:
    """Ridge on what a network leaves of the training rows' outcomes: mean and spread of its representation
    there, (r,) each, and what was solved on it so scaled.
    """
    ids = trial.of("train")
    rows = trial.rows[ids]
    columns = learned.features(rows)
    mean, spread = columns.mean(axis=0), columns.std(axis=0)
    spread = np.where(spread > 1e-3 * max(1e-9, np.median(spread)), spread, 1.0)
    solved = method.ridge(
        (columns - mean) / spread,
        trial.treatment[ids],
        trial.outcome[ids],
        learned.outcome,
        learned.z(rows),
        config.machine.seed,
        intervals.units(trial.manifest["group"], ids),
    )
    return mean, spread, solved


def rivals(config: Config, trial: Trial) -> tuple[dict[str, Learner], dict[str, Fit]]:
    """What knows the small trial alone and needs no network; boosting's settings are chosen on validation."""
    ids, val = trial.of("train"), trial.of("val")
    rows, treatment, y = trial.rows[ids], trial.treatment[ids], trial.outcome[ids]
    outcome = Outcome.of(y)
    layer = Prepared(columns_of.record(trial.columns))
    columns, seed = prepared(layer, rows), config.machine.seed
    whole = intervals.units(trial.manifest["group"], ids)
    found: dict[str, Learner] = {}
    fits: dict[str, Fit] = {}

    def keep(name: str, began: float, one: Learner) -> None:
        found[name] = one
        fits[name] = Fit(pd.DataFrame(), pd.DataFrame(), time.perf_counter() - began, trained=0)

    began = time.perf_counter()
    both = method.ridge(columns, treatment, y, outcome, None, seed, whole)
    keep(RIDGE_S, began, Ridge(layer, outcome, (both,)))
    began = time.perf_counter()
    arms = []
    for arm in (0, 1):
        own = treatment == arm
        groups = None if whole is None else np.unique(whole[own], return_inverse=True)[1]
        arms.append(method.ridge(columns[own], treatment[own] * 0 + arm, y[own], outcome, None, seed, groups))
    keep(RIDGE_T, began, Ridge(layer, outcome, tuple(arms)))
    began = time.perf_counter()
    kind = HistGradientBoostingClassifier if outcome.binary else HistGradientBoostingRegressor
    best: tuple[float, Boosting | None] = (np.inf, None)
    for leaf in (5, 20):
        for rounds in (30, 100):
            options = {
                "min_samples_leaf": leaf,
                "max_iter": rounds,
                "learning_rate": 0.1,
                "random_state": seed,
            }
            if min(len(set(y[treatment == arm])) for arm in (0, 1)) < 2:
                continue  # a class alone is nothing to boost
            made = Boosting(
                tuple(kind(**options).fit(rows[treatment == arm], y[treatment == arm]) for arm in (0, 1))
            )
            loss = factual(made.expected(trial.rows[val]), trial.treatment[val], trial.outcome[val], outcome)
            best = min(best, (float(loss.mean()), made), key=lambda pair: pair[0])
    if best[1] is not None:
        keep(BOOSTING, began, best[1])
    return found, fits


def factual(mu: np.ndarray, treatment: np.ndarray, y: np.ndarray, outcome: Outcome) -> np.ndarray:
    """The factual loss of each row from expected outcomes (rows, 2): squared error in units of the training
    outcomes' spread, or cross-entropy in nats.
    """
    given = mu[np.arange(len(y)), treatment.astype(int)]
    if outcome.binary:
        given = given.clip(1e-6, 1 - 1e-6)
        return -(y * np.log(given) + (1 - y) * np.log(1 - given))
    return ((y - given) / outcome.spread) ** 2


def chosen(validation: dict[str, np.ndarray]) -> str:
    """Of HANDED_OUT the one that moves least among those that are within a standard error of the best.

    validation: the factual loss of each row of validation, the same rows for all: a paired difference
    (Breiman et al. 1984, the rule of one standard error). No effect is looked at.
    """
    names = [name for name in HANDED_OUT if name in validation]
    best = min(names, key=lambda name: validation[name].mean())
    for name in names:
        apart = validation[name] - validation[best]
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
        if apart.mean() <= error:
            return name
    return best


# ---------------------------------------------------------------- who is treated


@dataclass(frozen=True)
class Propensity:
    """Logistic regression of the treatment on the covariates."""

    weights: np.ndarray
    constant: float
    prepare: Prepared

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The chance of being treated, float64 (rows,), cut off at CLOSEST."""
        logits = prepared(self.prepare, rows) @ self.weights + self.constant
        return (1 / (1 + np.exp(-logits))).clip(CLOSEST, 1 - CLOSEST)


def propensity(trial: Trial) -> Propensity:
    """Fit it on the training rows, with the strongest penalty within a standard error of the best on
    validation's treatments: where chance alone decides, all rows then have nearly the same.
    """
    ids, val = trial.of("train"), trial.of("val")
    layer = Prepared(columns_of.record(trial.columns))
    columns, told = prepared(layer, trial.rows[ids]), trial.treatment[ids]
    tried = []
    for strength in (1e-5, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
        fitted = LogisticRegression(C=strength, max_iter=2000).fit(columns, told)
        one = Propensity(fitted.coef_[0], float(fitted.intercept_[0]), layer)
        chance = one.of(trial.rows[val])
        tried.append((one, -np.log(np.where(trial.treatment[val] == 1, chance, 1 - chance))))
    best = min((loss for _, loss in tried), key=np.mean)
    for one, loss in tried[:-1]:
        apart = loss - best
        if apart.mean() <= apart.std() / np.sqrt(len(apart)):
            return one
    return tried[-1][0]


def widths(
    config: Config, trial: Trial, learned: Learned, calibrated: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `model.finished` says how uncertain an effect is by: mean and spread of the representation, (r,)
    each, and a root (1 + r, k); a row's width is |root^T [1, (phi - mean) / spread]|.

    calibrated: the width is sqrt(1 + (w / c)^2), w the posterior's deviation and c its root mean square over
    the rows to learn from: how large it is in all changes tenfold with the penalty that the folds prefer, and
    what it does not know, such as what has moved, is the same for all. False: w, in units of the outcome.
    """
    mean, spread, solved = on_features(config, trial, learned)
    if not calibrated:
        return mean, spread, solved.root * (1.0 if learned.outcome.binary else learned.outcome.spread)
    ids = np.concatenate([trial.of("train"), trial.of("val")])
    columns = np.column_stack([np.ones(len(ids)), (learned.features(trial.rows[ids]) - mean) / spread])
    usual = np.sqrt(((columns @ solved.root) ** 2).sum(axis=1).mean())
    alike = np.zeros((len(solved.root), 1))
    alike[0] = 1.0
    return mean, spread, np.column_stack([solved.root / max(usual, 1e-12), alike])


def uncertain(config: Config, trial: Trial, learned: Learned, rows: np.ndarray) -> np.ndarray:
    """How uncertain effects are beside each other, float64 (rows,); of a binary outcome times p (1 - p)."""
    mean, spread, root = widths(config, trial, learned, calibrated=True)
    columns = np.column_stack([np.ones(len(rows)), (learned.features(rows) - mean) / spread])
    middle = learned.expected(rows).mean(axis=1)
    return np.linalg.norm(columns @ root, axis=1) * (middle * (1 - middle) if learned.outcome.binary else 1)


def losses(networks: dict[str, Learner], trial: Trial) -> dict[str, np.ndarray]:
    """The factual loss of each on each row of validation, which is what everything is chosen by."""
    ids, outcome = trial.of("val"), Outcome.of(trial.outcome[trial.of("train")])
    asked = trial.treatment[ids], trial.outcome[ids], outcome
    return {name: factual(one.expected(trial.rows[ids]), *asked) for name, one in networks.items()}


def one_scratch(networks: dict[str, Learner], trial: Trial) -> dict[str, Learner]:
    """Of the trainings from scratch the one that is best on validation, under one name."""
    of_scratch = [name for name in networks if baselines.called(name) == baselines.SCRATCH]
    if not of_scratch:
        return networks
    found = losses({name: networks[name] for name in of_scratch}, trial)
    best = min(of_scratch, key=lambda name: found[name].mean())
    return {
        baselines.called(name): one
        for name, one in networks.items()
        if name == best or baselines.called(name) != baselines.SCRATCH
    }
