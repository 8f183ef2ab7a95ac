"""What needs no network: logistic regression, and gradient boosting with and without the source."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import scipy.special
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from runner.data import examples as of_examples
from runner.data import weights as example_weights
from runner.networks import inference
from runner.tables import layers
from runner.tables.load import Tables
from runner.training import baselines, solved
from runner.training.fit import Fit

from . import model
from .config import Config

TRIED = (
    {"learning_rate": 0.05, "max_leaf_nodes": 4, "min_samples_leaf": 5},
    {"learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 20},
    {"learning_rate": 0.05, "max_leaf_nodes": 31, "min_samples_leaf": 20},
)
"""Settings of boosting, of which the one with the lowest cross-entropy on validation is taken."""
TREES = 200
"""At most; so many are taken as are best on validation."""
STRENGTHS = tuple(10.0**power for power in (-3, -2, -1, 0, 1))


def arms(config: Config) -> dict[str, Config]:
    """`baselines.methods`, of which the training from scratch hands on its best epoch on validation: it has
    no BatchNorm whose statistics would lag, and learns its few rows by heart.
    """
    found = baselines.methods(config)
    for name, arm in found.items():
        if baselines.called(name) == baselines.SCRATCH:
            found[name] = dataclasses.replace(arm, stages=(dataclasses.replace(arm.stages[0], keep="best"),))
    return found


@dataclass(frozen=True, eq=False)
class Boosting:
    """Gradient boosting of rows, (n, columns) as `tables.columns.coded` makes them: missing values and
    categories as they are. scores: of the source, more columns beside them, or None.
    """

    trees: HistGradientBoostingClassifier
    count: int
    classes: int
    scores: "Scores | None" = None

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """float64 (n, classes): the logarithms of the probabilities, of a class without examples the
        least.
        """
        given = rows if self.scores is None else np.hstack([rows, self.scores.of(rows)])
        steps = enumerate(self.trees.staged_predict_proba(given), 1)
        found = next(p for number, p in steps if number == self.count)
        p = np.full((len(rows), self.classes), 1e-6)
        p[:, self.trees.classes_] = found
        return np.log(np.clip(p, 1e-6, 1))


@dataclass(frozen=True, eq=False)
class Scores:
    """What boosting on the source says of its outcomes: log-odds."""

    of_outcomes: list[HistGradientBoostingClassifier]

    def of(self, rows: np.ndarray) -> np.ndarray:
        """float64 (n, outcomes)."""
        p = [one.predict_proba(rows)[:, 1] for one in self.of_outcomes]
        return scipy.special.logit(np.clip(np.stack(p, axis=1), 1e-4, 1 - 1e-4))


@dataclass(frozen=True, eq=False)
class OnScores:
    """Logistic regression on the scores of the source."""

    regression: LogisticRegression
    scores: Scores
    classes: int

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """float64 (n, classes)."""
        p = np.full((len(rows), self.classes), 1e-6)
        p[:, self.regression.classes_] = self.regression.predict_proba(self.scores.of(rows))
        return np.log(np.clip(p, 1e-6, 1))


def fit(config: Config, data: Tables, scores: Scores | None = None) -> tuple[dict[str, Any], dict[str, Fit]]:
    """All that fit the data: networks or objects with `logits(rows)`, and what each took, by name.

    scores: of `of_source`, where they are known already.
    """
    rivals: dict[str, Any] = {baselines.REGRESSION: model.build_rival(data)}
    weights = example_weights.of_examples(data, config.class_weight)
    fits = {
        baselines.REGRESSION: solved.fit(rivals[baselines.REGRESSION], "head", data.train, data.val, weights)
    }
    rows, labels = _of(data, "train")
    much = np.ones(len(rows)) if weights is None else weights[of_examples.ids(data.manifest, "train")]

    def add(name: str, started: float, rival: Any) -> None:
        rivals[name], fits[name] = rival, done(time.perf_counter() - started, rival)

    started = time.perf_counter()
    add(baselines.BOOSTING, started, boosting(config, data, rows, labels, much))
    if data.related is None:
        return rivals, fits
    started = time.perf_counter()
    pooled = same_outcome(data)
    if pooled is not None:
        both = [np.concatenate(parts) for parts in ((rows, data.related.rows), (labels, pooled))]
        # As much as all rows of the source together: else ten thousand others would drown a hundred own ones.
        own = np.full(len(rows), max(1.0, len(pooled) / len(rows))) * much
        known = both[1] >= 0
        counted = np.concatenate([own, np.ones(len(pooled))])
        add(baselines.POOLED, started, boosting(config, data, both[0][known], both[1][known], counted[known]))
    started = time.perf_counter()
    scores = scores or of_source(config, data)
    add(baselines.SOURCE_SCORES, started, on_scores(data, scores, rows, labels, much))
    add(baselines.WITH_SCORES, started, boosting(config, data, rows, labels, much, scores))
    return rivals, fits


def done(seconds: float, rival: Any) -> Fit:
    """A training without epochs."""
    if isinstance(rival, OnScores):
        return Fit(pd.DataFrame(), pd.DataFrame(), seconds, trained=rival.regression.coef_.size)
    return Fit(pd.DataFrame(), pd.DataFrame(), seconds, trained=rival.count)


def boosting(
    config: Config,
    data: Tables,
    rows: np.ndarray,
    labels: np.ndarray,
    much: np.ndarray,
    scores: Scores | None = None,
) -> Boosting:
    """The best of TRIED by the cross-entropy on validation, each with its best number of trees."""
    given = [rows, _of(data, "val")[0]]
    told = _of(data, "val")[1]
    if scores is not None:
        given = [np.hstack([one, scores.of(one)]) for one in given]
    best: tuple[float, Any, int] = (np.inf, None, 0)
    for options in TRIED:
        trees = _trees(config, data, options, given[0].shape[1]).fit(_filled(given[0]), labels, much)
        codes = np.searchsorted(trees.classes_, told)
        there = np.isin(told, trees.classes_)
        for count, p in enumerate(trees.staged_predict_proba(given[1]), 1):
            right = np.where(there, p[np.arange(len(p)), np.where(there, codes, 0)], 1e-6)
            loss = float(-np.log(np.clip(right, 1e-6, 1)).mean())
            if loss < best[0]:
                best = loss, trees, count
    return Boosting(best[1], best[2], len(data.classes), scores)


def of_source(config: Config, data: Tables) -> Scores:
    """Boosting of each outcome of the source on all its rows."""
    options = {"learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20}
    found = []
    for outcome in data.related.outcomes.T:
        known = ~np.isnan(outcome)
        trees = _trees(config, data, options, data.related.rows.shape[1], 100)
        found.append(trees.fit(_filled(data.related.rows[known]), outcome[known].astype(int)))
    return Scores(found)


def on_scores(
    data: Tables, scores: Scores, rows: np.ndarray, labels: np.ndarray, much: np.ndarray
) -> OnScores:
    """The regularisation of STRENGTHS with the lowest cross-entropy on validation."""
    told_rows, told = _of(data, "val")
    best: tuple[float, Any] = (np.inf, None)
    for strength in STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=1000).fit(scores.of(rows), labels, much)
        found = OnScores(regression, scores, len(data.classes))
        loss = float(-found.logits(told_rows)[np.arange(len(told)), told].mean())
        if loss < best[0]:
            best = loss, found
    return best[1]


def same_outcome(data: Tables) -> np.ndarray | None:
    """Where the source has the outcome of the data, two classes of the same names: the label of each of its
    rows, int64 (n,), -1 where it is unknown; else None.
    """
    said = data.related.label
    if said is None or not set(said) - {""} <= set(data.classes):
        return None
    return np.array([data.classes.index(one) if one else -1 for one in said], dtype=np.int64)


def answering(rival: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function of rows that gives logits, float32 (n, classes): of a network of rows, or of columns with
    one of rows within, compiled once; or of an object that has `logits`.
    """
    if not isinstance(rival, keras.Model):
        return lambda rows: rival.logits(rows).astype(np.float32)
    step = inference.forward(layers.of_rows(rival))

    def call(rows: np.ndarray) -> np.ndarray:
        parts = [rows[first : first + 1024] for first in range(0, len(rows), 1024)]
        return np.concatenate([step(one).numpy() for one in parts])

    return call


def _of(data: Tables, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the codes of the labels of a split."""
    ids = of_examples.ids(data.manifest, split)
    return data.rows[ids], data.manifest["label"].cat.codes.to_numpy(np.int64)[ids]


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows to fit trees on: scikit-learn cannot bin a column without a value, which gets 0 throughout."""
    return np.where(np.isnan(rows).all(axis=0), 0.0, rows)


def _trees(
    config: Config, data: Tables, options: dict, columns: int, count: int = TREES
) -> HistGradientBoostingClassifier:
    categories = np.zeros(columns, bool)
    categories[: len(data.columns)] = [one.kind == "category" for one in data.columns]
    return HistGradientBoostingClassifier(
        max_iter=count,
        early_stopping=False,
        categorical_features=categories,
        random_state=config.machine.seed,
        **options,
    )
