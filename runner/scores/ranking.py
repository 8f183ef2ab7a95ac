"""How well a probability puts examples of a class before the others: the area under the ROC curve, its
interval, and the difference of two models on the same examples.

The area is the share of pairs, one of the class and one not, in which the first has the higher probability;
ties count half. Of more than two classes it is the mean of each against the rest. Intervals come from what
each example contributes (DeLong et al. 1988, "Comparing the Areas under Two or More Correlated Receiver
Operating Characteristic Curves"), summed within groups that belong together (Obuchowski 1997).
"""

from typing import NamedTuple

import numpy as np
import scipy.special
from scipy.stats import rankdata

DEVIATIONS = float(scipy.special.ndtri(0.975))


class Area(NamedTuple):
    """An area under the ROC curve, 0..1, or a difference of two, with its 95 % interval; all NaN where no
    class has both examples and others.
    """

    value: float
    low: float
    high: float


def area(labels: np.ndarray, probabilities: np.ndarray, whole: np.ndarray | None = None) -> Area:
    """The area under the ROC curve; its interval is of the logit, which stays within 0..1.

    labels: int (n,), indices of classes. probabilities: float (n, classes). whole: of `intervals.units`,
    which examples belong together.
    """
    value, each = _contributions(np.asarray(labels), np.asarray(probabilities, np.float64))
    if np.isnan(value):
        return Area(value, value, value)
    error = _error(each, whole)
    if not 0 < value < 1:  # no spread to be seen: as if half an example more were on the other side
        ends = (value, value)
        n = len(each)
        ends = (0.5 ** (2 / n) if value == 1 else 0.0, 1.0 if value == 1 else 1 - 0.5 ** (2 / n))
        return Area(value, *ends)
    logit, spread = scipy.special.logit(value), error / (value * (1 - value))
    low, high = scipy.special.expit([logit - DEVIATIONS * spread, logit + DEVIATIONS * spread])
    return Area(value, float(low), float(high))


def difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, whole: np.ndarray | None = None
) -> Area:
    """The area of the second model less that of the first, of the same examples; arguments as of `area`."""
    parts = [_contributions(np.asarray(labels), np.asarray(one, np.float64)) for one in (first, second)]
    value = parts[1][0] - parts[0][0]
    if np.isnan(value):
        return Area(value, value, value)
    error = _error(parts[1][1] - parts[0][1], whole)
    return Area(float(value), float(value - DEVIATIONS * error), float(value + DEVIATIONS * error))


def _contributions(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and what each example adds to its error: float64 (n,), of sum 0."""
    values, each = [], []
    classes = probabilities.shape[1]
    for number in [1] if classes == 2 else range(classes):
        positive = labels == number
        count, others = int(positive.sum()), int((~positive).sum())
        if not count or not others:
            continue
        scores = probabilities[:, number]
        ranks = rankdata(scores)
        placed = np.empty(len(scores))
        # Of an example of the class the share of the others below it; of another the share of the class
        # above.
        placed[positive] = (ranks[positive] - rankdata(scores[positive])) / others
        placed[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / count
        value = float(placed[positive].mean())
        values.append(value)
        each.append(np.where(positive, (placed - value) / count, (placed - value) / others))
    if not values:
        return float("nan"), np.zeros(len(labels))
    return float(np.mean(values)), np.mean(each, axis=0)


def _error(each: np.ndarray, whole: np.ndarray | None) -> float:
    """The standard error of a sum of independent contributions, or of sums within groups."""
    sums = each if whole is None else np.bincount(whole, weights=each)
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / max(1, count - 1)))
