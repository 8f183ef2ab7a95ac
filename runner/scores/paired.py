"""How far two models lie apart on the same examples: differences with intervals, example by example.

Two intervals of their own say little of a difference: both models find the same examples hard. What is
resampled here are examples, or groups of examples that belong together, with the answers of both models to
each.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.special

from runner.errors import InputError
from runner.scores import intervals
from runner.scores.average_precision import average_precision

RESAMPLES, AP_RESAMPLES, SEED = 2000, 200, 0
CELLS = 2_000_000
"""Numbers that are drawn at once: 16 MB."""


class Difference(NamedTuple):
    """A number of the second model less that of the first."""

    value: float
    low: float
    high: float
    """Of the 95 % interval: percentiles of a bootstrap over examples."""
    examples: int

    @property
    def verdict(self) -> str:
        """ "above" or "below" where the interval leaves out 0, else "no difference"."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "no difference"


def of_means(first: np.ndarray, second: np.ndarray, whole: np.ndarray | None = None) -> Difference:
    """The difference of two means over the same examples: of right (1) and wrong (0), or of any number.

    first, second: (examples,), bool or float, finite, in the same order. The bootstrap of the mean difference
    (Efron 1979) draws how often each value occurs, multinomial(n, counts / n), which for right and wrong are
    three: only examples on which the two differ count, as in McNemar's test (1947).
    whole: of `intervals.units`: the group of each example, to draw groups.
    Raises InputError for other lengths, or none.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or not len(first):
        raise InputError(
            f"received {len(first)} and {len(second)} examples to compare; give the same ones, at least one."
        )
    random, means = np.random.default_rng(SEED), []
    if whole is not None:
        sizes, sums = np.bincount(whole), np.bincount(whole, weights=second - first)
        for start in range(0, RESAMPLES, chunk := max(1, CELLS // len(sizes))):
            times = intervals.drawn(random, len(sizes), None, min(chunk, RESAMPLES - start))
            means.append((times @ sums) / (times @ sizes))
        low, high = intervals.percentile(np.concatenate(means))
        return Difference(float((second - first).mean()), low, high, len(first))
    values, counts = np.unique(second - first, return_counts=True)
    chunk = max(1, CELLS // len(values))
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        drawn = random.multinomial(len(first), counts / len(first), size=size)
        means.append(drawn @ values / len(first))
    low, high = intervals.percentile(np.concatenate(means))
    return Difference(float((second - first).mean()), low, high, len(first))


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """How many examples only the first, and only the second, has right, and the exact two-sided p-value that
    these fall so unevenly by chance (McNemar 1947): twice the binomial tail, at most 1.

    first, second: bool (examples,), right or not.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    tail = scipy.special.bdtr(min(only_first, only_second), only_first + only_second, 0.5)
    return only_first, only_second, float(min(1.0, 2 * tail))


def swapped(first: np.ndarray, second: np.ndarray, whole: np.ndarray) -> float:
    """The two-sided p-value that two models differ so much by chance where examples belong together.

    McNemar's test takes examples to be independent: it is the one that swaps the two models' answers to each
    example at random. This one swaps them group by group, RESAMPLES times and as they are (Phipson and Smyth
    2010).

    first, second: bool (examples,), right or not; whole: of `intervals.units`.
    """
    sums = np.bincount(whole, weights=second.astype(np.float64) - first)
    sums = sums[sums != 0]
    random, observed, count = np.random.default_rng(SEED), abs(sums.sum()), 1
    for start in range(0, RESAMPLES, chunk := max(1, CELLS // max(1, len(sums)))):
        signs = random.choice([-1.0, 1.0], (min(chunk, RESAMPLES - start), len(sums)))
        count += int(np.sum(np.abs(signs @ sums) >= observed - 1e-9))
    return count / (1 + RESAMPLES)


def of_average_precision(
    first: tuple[pd.DataFrame, pd.DataFrame],
    second: tuple[pd.DataFrame, pd.DataFrame],
    ids: np.ndarray,
    whole: np.ndarray | None = None,
) -> Difference:
    """The difference of AP50, the mean over classes of COCO's average precision at an IoU of .5.

    first, second: (truth, detections) of each model, as in `detection.Evaluation`: of truth the columns id
    and class, of detections id, class, score and right. ids: int64 (pictures,), all that were judged. Each of
    AP_RESAMPLES resamples draws pictures, the same ones for both models, or groups of them: whole, as of
    `intervals.units`.
    """
    models = [_by_class(*one, ids) for one in (first, second)]
    random = np.random.default_rng(SEED)
    count = len(ids) if whole is None else int(whole.max()) + 1
    drawn = [np.bincount(random.integers(count, size=count), minlength=count) for _ in range(AP_RESAMPLES)]
    drawn = drawn if whole is None else [times[whole] for times in drawn]
    before, after = (_ap50(one, np.ones(len(ids), int)) for one in models)
    low, high = intervals.percentile(
        np.array([_ap50(models[1], times) - _ap50(models[0], times) for times in drawn])
    )
    return Difference(after - before, low, high, len(ids))


def _by_class(truth: pd.DataFrame, detections: pd.DataFrame, ids: np.ndarray) -> list[tuple]:
    """For each class: bool (1, n), right or not, best detection first; int (n,), its picture; int
    (pictures,), how many objects there are.
    """
    places = pd.Index(ids)
    classes = []
    for name, objects in truth.groupby("class", observed=True):
        found = detections[detections["class"] == name].sort_values("score", ascending=False, kind="stable")
        right = found["right"].to_numpy(bool)[None]
        there = np.bincount(places.get_indexer(objects["id"]), minlength=len(ids))
        classes.append((right, places.get_indexer(found["id"]), there))
    return classes


def _ap50(classes: list[tuple], times: np.ndarray) -> float:
    """AP50 where each picture counts so many times, int (pictures,)."""
    precisions = [
        average_precision(right, times[pictures], objects @ times)[0]
        for right, pictures, objects in classes
        if objects @ times
    ]
    return float(np.mean(precisions)) if precisions else 0.0
