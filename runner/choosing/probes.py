"""How well labels are read off frozen features: by the nearest neighbours, and by a linear classifier.

Every example is judged by what was fitted without it: in each of FOLDS turns one part is left out, groups
whole, and answered for.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg

from runner.scores import intervals

FOLDS = 5
NEIGHBOURS = 5
PENALTIES = tuple(10.0**power for power in (-3, -2, -1, 0, 1, 2))
"""Tried for the linear classifier, in units of a standardised feature vector's mean squared length."""
HALVES = 40
"""Half-samples that an interval is made of; its ends are known to about a tenth of its length."""
RESAMPLES = 1000


def folds(labels: np.ndarray, whole: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """The part, 0 to FOLDS - 1, that each example is left out with: int64 (n,), each class spread evenly.

    whole: numbers of what belongs together (`intervals.units`), of which no part gets a piece; None: examples
    stand alone. Of fewer than FOLDS units there are fewer parts.
    """
    units = np.arange(len(labels)) if whole is None else np.asarray(whole)
    number = int(units.max()) + 1
    of_unit = np.zeros(number, np.int64)
    of_unit[units[::-1]] = labels[::-1]  # that of its first example
    order = np.random.default_rng(seed).permutation(number)
    order = order[np.argsort(of_unit[order], kind="stable")]
    parts = np.zeros(number, np.int64)
    parts[order] = np.arange(number) % FOLDS
    return parts[units]


def neighbours(features: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The label that the NEIGHBOURS most similar examples of other parts vote for: int64 (n,).

    Similar by the cosine of features from which their mean is taken; a vote weighs 1 + cosine.
    features: float (n, d). labels: int64 (n,). parts: of `folds`.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(lengths > 0, lengths, 1.0)
    similar = unit @ unit.T
    similar[parts[:, None] == parts[None]] = -np.inf
    count = min(NEIGHBOURS, len(labels) - int(np.bincount(parts).max()))
    if count < 1:
        return np.full(len(labels), -1)
    nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count]
    rows = np.arange(len(labels))[:, None]
    votes = np.zeros((len(labels), int(labels.max()) + 1))
    np.add.at(
        votes, (rows, labels[nearest]), 1 + np.where(np.isfinite(similar), similar, -1.0)[rows, nearest]
    )
    return votes.argmax(1)


def linear(features: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """What a linear classifier answers that was fitted without an example's part: int64 (n,).

    It is ridge regression of standardised features on one column per class, 1 for its examples and 0 for
    others (Rifkin, Yeo and Poggio 2003, "Regularized least-squares classification"), because leaving a part
    out has a closed form. With K = F F' + 1 (the 1 is a constant feature) and G = (K + p I)^-1 the answers
    for the part b, of the solution without b, are

        Y_b - (G_bb)^-1 (G Y)_b

    so that one eigendecomposition of K serves all parts and all PENALTIES p, of which the one with the least
    squared error of these answers is taken.

    features: float (n, d). labels: int64 (n,). parts: of `folds`.
    """
    values = features.astype(np.float64)
    spread = values.std(0)
    values = (values - values.mean(0)) / np.where(spread > 1e-6 * max(spread.max(), 1e-30), spread, np.inf)
    kernel = values @ values.T
    kernel /= max(float(np.trace(kernel)) / len(kernel), 1e-30)
    squares, vectors = np.linalg.eigh(kernel + 1.0)
    targets = (labels[:, None] == np.arange(int(labels.max()) + 1)).astype(np.float64)
    along = vectors.T @ targets
    best: tuple[float, np.ndarray] | None = None
    for penalty in PENALTIES:
        scaled = vectors / (np.maximum(squares, 0.0) + penalty)
        of_targets = scaled @ along
        found = np.zeros_like(targets)
        for part in np.unique(parts):
            rows = np.flatnonzero(parts == part)
            block = scaled[rows] @ vectors[rows].T
            found[rows] = targets[rows] - scipy.linalg.solve(block, of_targets[rows], assume_a="pos")
        error = float(((found - targets) ** 2).mean())
        if best is None or error < best[0]:
            best = error, found
    assert best is not None
    return best[1].argmax(1)


# ---------------------------------------------------------------- intervals


def halves(
    score: Callable[[np.ndarray], float], labels: np.ndarray, whole: np.ndarray | None = None, seed: int = 0
) -> float:
    """The standard error of a score over examples, by HALVES random halves without replacement.

    The spread of a score over halves is its standard error over all examples (the delete-half jackknife, Shao
    and Wu 1989). A bootstrap would draw examples twice, and evidence that counts an example twice is too
    sure of itself.
    score: of rows, int64 (m,). whole: as for `folds`; each class is halved, what belongs together whole.
    """
    units = np.arange(len(labels)) if whole is None else np.asarray(whole)
    random, values = np.random.default_rng(seed), []
    of_unit = np.zeros(int(units.max()) + 1, np.int64)
    of_unit[units[::-1]] = labels[::-1]
    for _ in range(HALVES):
        order = random.permutation(len(of_unit))
        order = order[np.argsort(of_unit[order], kind="stable")]
        taken = np.zeros(len(order), bool)
        taken[order[random.integers(2) :: 2]] = True
        rows = np.flatnonzero(taken[units])
        if len(rows) > 1:
            values.append(score(rows))
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def resampled(right: Sequence[np.ndarray], whole: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """The share that is right in each of RESAMPLES bootstraps over examples, the same ones for all rows:
    float64 (len(right), RESAMPLES).

    right: bool (n,) each. whole: as for `folds`; drawn whole.
    """
    found = np.stack(right).astype(np.float64)
    times = intervals.drawn(np.random.default_rng(seed), found.shape[1], whole, RESAMPLES)
    return found @ times.T / times.sum(1)
