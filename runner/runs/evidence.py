"""What features say of a shift: whether new examples can be told from validation examples, and how far.

In two spaces: the last features of a network, which it decides by, and those of its earlier layers, which
still hold what the last ones have no place for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import euclidean_distances

from runner.data.reference import Reference
from runner.errors import InputError
from runner.report import words
from runner.scores import intervals
from runner.scores.two_sample import classifier_test, mmd_test

SAMPLE = 1000
"""The most examples of each side that the tests compare: their cost grows with its square."""
FEW = 20
"""With fewer examples on either side the tests see only a large shift."""
NEIGHBOURS = 5


@dataclass(frozen=True)
class Evidence:
    """What one space of features says; a yardstick is what the same number stays below in 95 of 100 cases
    without a shift.

    mmd, mmd_yardstick, p_value: squared maximum mean discrepancy, and its permutation test.
    told_apart, told_apart_interval, told_apart_yardstick, told_apart_p: balanced accuracy (0..1, a half is
    chance) of a classifier that tells new from validation examples, cross-validated, and its permutations.
    distance, distance_yardstick: the same accuracy as proxy A-distance, 0..2 (Ben-David et al. 2007).
    p_value_within, told_apart_p_within: of both tests when the two sides may mix the predicted classes in
    other proportions.
    far, far_interval: share (0..1) of new examples that lie farther from training than 95 % of validation.
    """

    mmd: float
    mmd_yardstick: float
    p_value: float
    p_value_within: float
    told_apart: float
    told_apart_interval: list[float]
    told_apart_yardstick: float
    told_apart_p: float
    told_apart_p_within: float
    distance: float
    distance_yardstick: float
    far: float
    far_interval: list[float]


@dataclass(frozen=True, eq=False)
class Shift:
    """What `measure` found.

    examples, reference_examples: how many new and validation examples the tests compared.
    last, early: what the last features say, and those of earlier layers (None where the run kept none).
    classes: DataFrame, a row per class: class, validation, new (shares of the predictions, 0..1).
    confidence: mean confidence, 0..1, of "training", "validation" and "new".
    table: DataFrame, a row per new example, farthest first: path, prediction, confidence (0..1), distance
    (mean Euclidean distance to the 5 nearest training examples), percentile (0..100, how many of 100
    validation examples lie nearer), early_percentile (the same in the earlier layers, where there are some),
    nearest (the nearest training example, a row of the run's manifest).
    unit: what the examples are in words: "pictures".
    """

    examples: int
    reference_examples: int
    last: Evidence
    early: Evidence | None
    classes: pd.DataFrame
    confidence: dict[str, float]
    table: pd.DataFrame
    unit: str

    @property
    def spaces(self) -> list[Evidence]:
        return [one for one in (self.last, self.early) if one is not None]

    @property
    def p_value(self) -> float:
        """That chance alone gives as much in any of the tests (Bonferroni)."""
        return _any_of([p for one in self.spaces for p in (one.p_value, one.told_apart_p)])

    @property
    def p_value_within(self) -> float:
        """The same where other proportions of the predicted classes do not count."""
        return _any_of([p for one in self.spaces for p in (one.p_value_within, one.told_apart_p_within)])

    @property
    def strongest(self) -> Evidence:
        """The space in which the classifier tells most apart."""
        return max(self.spaces, key=lambda one: one.told_apart)


def _any_of(p_values: Sequence[float]) -> float:
    return min(1.0, len(p_values) * min(p_values))


def measure(
    reference: Reference,
    features: np.ndarray,
    table: pd.DataFrame,
    seed: int = 0,
    early: np.ndarray | None = None,
    unit: str = "pictures",
) -> Shift:
    """Compare new examples with those of a run.

    Args:
        reference: of the run.
        features: float32 (m, d), of all new examples or of a random choice of some SAMPLE.
        table: a row per new example, columns path, prediction (class name), confidence, distance and nearest
            (both from `nearest`), with earlier layers early_distance, and compared (bool), True for the m
            rows that `features` belong to.
        seed: of the sample of validation and the permutations.
        early: float32 (m, e), of the earlier layers, as the reference has them; None leaves them out.
        unit: what the examples are in words.

    Raises:
        InputError: fewer than two new or validation examples.
    """
    validation, names = reference.features["val"], np.array(reference.classes)
    if min(len(features), len(validation)) < 2:
        raise InputError(
            f"Received {len(features)} new and {len(validation)} validation {unit} to compare; a shift is "
            f"a property of many: give at least 2, better {FEW} or more."
        )
    rows = np.random.default_rng(seed).permutation(len(validation))[:SAMPLE]
    before = names[reference.predictions["val"]]
    predicted = np.concatenate([before[rows], table.loc[table["compared"], "prediction"].astype(str)])

    def compared(space: dict[str, np.ndarray], new: np.ndarray, distances: pd.Series):
        own = np.sort(nearest(space["train"], space["val"])[0])
        percentile = 100 * np.searchsorted(own, distances.to_numpy()) / len(own)
        return _evidence(space["val"][rows], new, percentile, predicted, seed), percentile

    last, percentile = compared(reference.features, features, table["distance"])
    found, table = None, table.assign(percentile=percentile)
    if early is not None and reference.early:
        space = standardised(reference.early, reference.early["train"])
        new = standardised({"new": early}, reference.early["train"])["new"]
        found, percentile = compared(space, new, table["early_distance"])
        table = table.assign(early_percentile=percentile)
    shares = {"validation": pd.Series(before), "new": table["prediction"]}
    classes = pd.DataFrame({side: one.value_counts(normalize=True) for side, one in shares.items()})
    confidences = {
        "training": reference.confidences["train"],
        "validation": reference.confidences["val"],
        "new": table["confidence"],
    }
    columns = ["path", "prediction", "confidence", "distance", "percentile", "early_percentile", "nearest"]
    return Shift(
        examples=len(features),
        reference_examples=len(rows),
        last=last,
        early=found,
        classes=classes.reindex(names).fillna(0.0).rename_axis("class").reset_index(),
        confidence={side: float(one.mean()) for side, one in confidences.items()},
        table=table.sort_values("distance", ascending=False, kind="stable").reset_index(drop=True)[
            [name for name in columns if name in table]
        ],
        unit=unit,
    )


def _evidence(
    known: np.ndarray, new: np.ndarray, percentile: np.ndarray, predicted: np.ndarray, seed: int
) -> Evidence:
    mmd, permuted, p_value = mmd_test(known, new, seed=seed)
    _, _, p_value_within = mmd_test(known, new, seed=seed, strata=predicted)
    told = classifier_test(known, new, seed=seed, strata=predicted)
    low, high = intervals.wilson(float(np.sum(percentile > 95)), len(percentile))
    return Evidence(
        mmd=mmd,
        mmd_yardstick=float(np.quantile(permuted, 0.95)),
        p_value=p_value,
        p_value_within=p_value_within,
        told_apart=told.accuracy,
        told_apart_interval=[told.low, told.high],
        told_apart_yardstick=told.yardstick,
        told_apart_p=told.p_value,
        told_apart_p_within=told.p_value_within,
        distance=max(0.0, 4 * told.accuracy - 2),
        distance_yardstick=max(0.0, 4 * told.yardstick - 2),
        far=float(np.mean(percentile > 95)),
        far_interval=[float(low), float(high)],
    )


def standardised(space: dict[str, np.ndarray], train: np.ndarray) -> dict[str, np.ndarray]:
    """Features of earlier layers, each with the mean and deviation that it has in training: channels differ
    in scale by orders of magnitude. One that is nearly constant there keeps a finite weight.
    """
    deviation = train.std(axis=0)
    deviation = np.maximum(deviation, 0.05 * np.median(deviation)) + 1e-6
    return {name: ((rows - train.mean(axis=0)) / deviation).clip(-20, 20) for name, rows in space.items()}


def nearest(train: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean distance to the 5 nearest training examples and the nearest one's place: (m,), (m,)."""
    distances = euclidean_distances(features.astype(np.float64), train.astype(np.float64))
    closest = np.partition(distances, min(NEIGHBOURS, len(train)) - 1, axis=1)[:, :NEIGHBOURS]
    return closest.mean(axis=1), distances.argmin(axis=1)


def verdict(found: Shift) -> str:
    """What the numbers say, in a sentence or two: the strongest evidence of any space counts."""
    strongest, few = found.strongest, min(found.examples, found.reference_examples) < FEW
    shifted, more, unit = False, "", found.unit
    if found.p_value > 0.05:
        sentence = f"No shift was found: these {unit} look to the network like its validation {unit}"
    elif found.p_value_within > 0.05:
        sentence = "The classes are mixed in other proportions; within each of them no shift was found"
    else:
        shifted = True
        if strongest.told_apart < 0.625:
            sentence = f"A small shift: one by one, few of these {unit}"
        elif strongest.told_apart < 0.875:
            sentence = f"A clear shift: most of these {unit}"
        else:
            sentence = f"Another kind of {unit}: almost every one"
    if shifted:
        sentence += (
            f" can be told from the validation {unit} (a classifier is right on "
            f"{words.percent(strongest.told_apart)}, "
            f"{words.interval(strongest.told_apart_interval)}; chance is 50\u202f%)"
        )
        early = found.early
        if early is not None and found.last.far_interval[1] < early.far_interval[0]:
            more = (
                f" By distance {words.percent(early.far)} of them lie far from the training {unit} in the "
                f"network's earlier layers, and {words.percent(found.last.far)} in its last features: it has "
                "no place for what is new in them, so that its confidence is no warning."
            )
    return (
        sentence
        + (", but with so few pictures only a large shift can be seen." if few and not shifted else ".")
        + more
    )


def record(found: Shift) -> dict[str, Any]:
    """What shift.json holds: the verdict, the numbers of the last features, and those of earlier layers."""
    return {
        "verdict": verdict(found),
        "chance": found.p_value,
        "chance_within": found.p_value_within,
        "examples": found.examples,
        "reference_examples": found.reference_examples,
        **vars(found.last),
        "early": None if found.early is None else vars(found.early),
        "confidence": found.confidence,
        "classes": found.classes.to_dict("records"),
    }
