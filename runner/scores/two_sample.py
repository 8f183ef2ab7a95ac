"""Are two samples of features from one distribution? A test with a p-value, and a distance with a scale."""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from runner.scores import intervals


def mmd_test(
    first: np.ndarray,
    second: np.ndarray,
    permutations: int = 999,
    seed: int = 0,
    strata: np.ndarray | None = None,
) -> tuple[float, np.ndarray, float]:
    """Return the squared maximum mean discrepancy of two samples, its permutations, and the p-value.

    The unbiased estimate of Gretton et al., "A kernel two-sample test" (JMLR 2012), equation 3, which may
    fall below 0, with the kernel exp(-|x - y|^2 / 2 s^2), s the median distance between any two examples.
    The p-value is the share of the permutations, the observed order among them, with at least this value.

    Args:
        first, second: (n, d) and (m, d), at least two rows each.
        permutations: random ways to deal the pooled rows into n and m.
        strata: (n + m,), of the first rows and then the second: rows are dealt within their stratum only, so
            that what both samples have of each stratum stays as it is, and does not count as a difference.
    """
    n, m = len(first), len(second)
    # Not standardised: a feature that is almost always 0 would outweigh the others.
    pooled = np.concatenate([first, second]).astype(np.float64)
    squares = euclidean_distances(pooled, squared=True)
    median = np.median(squares[np.triu_indices(n + m, 1)])
    kernel = np.exp(-squares / (2 * median if median > 0 else 1))
    np.fill_diagonal(kernel, 0)
    random = np.random.default_rng(seed)
    chosen = np.zeros((permutations + 1, n + m), np.float32)
    chosen[0, :n] = 1
    strata = np.zeros(n + m) if strata is None else strata
    in_order = chosen[0, np.argsort(strata, kind="stable")]
    for row in chosen[1:]:
        row[np.lexsort((random.random(n + m), strata))] = in_order
    sums = chosen @ kernel.astype(np.float32)  # of each example with the chosen ones
    within = np.einsum("pi,pi->p", sums, chosen, dtype=np.float64)
    across = sums.sum(axis=1, dtype=np.float64) - within
    rest = kernel.sum() - within - 2 * across
    values = within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * across / (n * m)
    # A permutation that deals the rows as they were has the same value but for rounding.
    p_value = np.mean(values >= values[0] - 1e-7)
    return float(values[0]), values[1:], float(p_value)


def proxy_a_distance(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Return 2 (1 - 2 e), 0..2, with e the error of a linear classifier that tells the samples apart.

    Ben-David et al., "Analysis of representations for domain adaptation" (NeurIPS 2006): 0 where it cannot
    tell them apart, 2 where it makes no mistake. The classifier is a logistic regression on the first 50
    principal components of both, each scaled to variance 1; the two samples weigh the same, and the error is
    that of cross-validation. One above a half, which is chance, counts as a half.

    Args:
        first, second: (n, d) and (m, d), at least two rows each.
        seed: of the folds and of the principal components.
    """
    features = np.concatenate([first, second]).astype(np.float64)
    if np.all(features == features[0]):  # a network that gives the same for every picture
        return 0.0
    side = np.repeat([0, 1], [len(first), len(second)])
    # Fewer than a quarter as many components as examples: with more, any two samples can be parted.
    count = min(50, max(1, len(features) // 4), features.shape[1])
    # Components don't know the sides, so one set serves every fold; fitting one per fold costs five times it.
    components = PCA(count, whiten=True, svd_solver="randomized", random_state=seed).fit_transform(features)
    classifier = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
    folds = StratifiedKFold(min(5, len(first), len(second)), shuffle=True, random_state=seed)
    guess = cross_val_predict(classifier, components, side, cv=folds)
    error = np.mean([np.mean(guess[side == one] != one) for one in (0, 1)])
    return float(max(0.0, 2 * (1 - 2 * error)))


class ToldApart(NamedTuple):
    """How well a classifier tells two samples apart, in examples that it was not fitted to."""

    accuracy: float
    """0..1, the mean of both sides', so that a half is chance whatever their sizes."""
    low: float
    high: float
    """Of its 95 % interval over the examples."""
    yardstick: float
    """What the accuracy stays below in 95 of 100 permutations."""
    p_value: float
    p_value_within: float
    """Of permutations within strata; the same as `p_value` without them."""


def classifier_test(
    first: np.ndarray,
    second: np.ndarray,
    permutations: int = 999,
    seed: int = 0,
    strata: np.ndarray | None = None,
) -> ToldApart:
    """Can a classifier tell two samples apart? Its cross-validated accuracy, and a permutation test of it.

    Lopez-Paz and Oquab, "Revisiting classifier two-sample tests" (ICLR 2017). The classifier is Fisher's
    linear discriminant on the first 50 principal components of both: two matrix products for all permutations
    at once. The interval joins Wilson's of both sides (Zou and Donner 2008); it takes the fitted classifiers
    as given.

    Args:
        first, second: (n, d) and (m, d), at least two rows each.
        permutations: random ways to deal the pooled rows into n and m, each judged by the same folds.
        strata: as in `mmd_test`.
    """
    n, m = len(first), len(second)
    features = np.concatenate([first, second]).astype(np.float64)
    side = np.repeat([0.0, 1.0], [n, m])
    if np.all(features == features[0]):  # nothing to go by
        return ToldApart(0.5, 0.0, 1.0, 0.5, 1.0, 1.0)
    count = min(50, max(1, len(features) // 4), features.shape[1])
    components = PCA(count, whiten=True, svd_solver="randomized", random_state=seed).fit_transform(features)
    random = np.random.default_rng(seed)
    dealt = [_dealt(random, side, np.zeros(n + m), permutations)]
    if strata is not None:
        dealt.append(_dealt(random, side, strata, permutations))
    sides = np.concatenate([side[None], *dealt])
    folds = StratifiedKFold(min(5, n, m), shuffle=True, random_state=seed)
    right = np.zeros(sides.shape, bool)
    for known, held in folds.split(components, side):
        right[:, held] = (
            _discriminated(components[known], sides[:, known], components[held]) == sides[:, held]
        )
    accuracies = ((right * sides).sum(axis=1) / m + (right * (1 - sides)).sum(axis=1) / n) / 2
    observed, null = accuracies[0], accuracies[1 : permutations + 1]
    within = accuracies[permutations + 1 :] if strata is not None else null
    shares = [right[0, :n].mean(), right[0, n:].mean()]
    ends = [intervals.wilson(share * size, size) for share, size in zip(shares, (n, m), strict=True)]
    below = np.hypot(*(share - low for share, (low, _) in zip(shares, ends, strict=True))) / 2
    above = np.hypot(*(high - share for share, (_, high) in zip(shares, ends, strict=True))) / 2
    return ToldApart(
        accuracy=float(observed),
        low=float(max(0.0, observed - below)),
        high=float(min(1.0, observed + above)),
        yardstick=float(np.quantile(null, 0.95)),
        p_value=float((1 + np.sum(null >= observed - 1e-9)) / (1 + permutations)),
        p_value_within=float((1 + np.sum(within >= observed - 1e-9)) / (1 + permutations)),
    )


def _dealt(
    random: np.random.Generator, side: np.ndarray, strata: np.ndarray, permutations: int
) -> np.ndarray:
    """Deal the sides anew within each stratum: (permutations, rows) of 0 and 1."""
    dealt = np.empty((permutations, len(side)))
    in_order = side[np.argsort(strata, kind="stable")]
    for row in dealt:
        row[np.lexsort((random.random(len(side)), strata))] = in_order
    return dealt


def _discriminated(known: np.ndarray, sides: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Fisher's discriminant of each row of sides (ways, known rows), 0 or 1: bool (ways, held rows)."""
    counts = np.maximum(sides.sum(axis=1, keepdims=True), 1)
    others = np.maximum((1 - sides).sum(axis=1, keepdims=True), 1)
    ones, zeros = sides @ known / counts, (1 - sides) @ known / others
    # The covariance of all rows gives the direction of that within the sides; a small ridge for few rows.
    covariance = np.cov(known, rowvar=False).reshape(known.shape[1], -1) + 0.1 * np.eye(known.shape[1])
    across = np.linalg.solve(covariance, (ones - zeros).T).T
    middle = ((ones + zeros) / 2 * across).sum(axis=1, keepdims=True)
    return across @ held.T > middle
