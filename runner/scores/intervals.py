"""95 % intervals: Wilson's for a share of independent examples, percentiles of a bootstrap for anything else.

A bootstrap draws what is independent: examples, but where groups say which of them belong together (pictures
of one patient, frames of one film) it draws groups, each whole. `units` numbers them, and `drawn` draws.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.special

_DEVIATIONS = float(scipy.special.ndtri(0.975))  # 1.96


def wilson(successes: float | np.ndarray, examples: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high (0..1) of a share, elementwise, by the score method (Wilson 1927).

    Unlike a bootstrap it does not shrink to nothing where all or none succeeded: 2 of 2 gives 0.34 to 1.
    Without any examples it is 0 to 1.
    """
    successes, examples = np.asarray(successes, np.float64), np.asarray(examples, np.float64)
    share = successes / np.maximum(examples, 1)
    square = _DEVIATIONS**2
    middle = examples * share + square / 2
    half = _DEVIATIONS * np.sqrt(examples * share * (1 - share) + square / 4)
    low, high = (middle - half) / (examples + square), (middle + half) / (examples + square)
    # The exact ends are 0 and 1 there; the roots miss them by a rounding.
    return np.where(successes == 0, 0.0, low), np.where(successes == examples, 1.0, high)


def percentile(values: np.ndarray) -> list[float]:
    """Return [low, high], the 2.5th and 97.5th percentile of bootstrap values (Efron 1979)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def units(groups: pd.Series | None, ids: Sequence[int] | np.ndarray) -> np.ndarray | None:
    """Number what a bootstrap draws whole: int64 (examples,), or None where each example is on its own.

    groups: the group of each example, "" for none, indexed by id, as `examples.Data` has it in its manifest;
    None for no groups. ids: of the examples, in their order.
    """
    if groups is None:
        return None
    names = groups.reindex(ids).fillna("").astype(str).to_numpy(object)
    alone = np.flatnonzero(names == "")
    numbers, found = pd.factorize(names)
    numbers = numbers.astype(np.int64)
    numbers[alone] = len(found) + np.arange(len(alone))
    numbers = np.unique(numbers, return_inverse=True)[1]
    return numbers if len(numbers) and numbers.max() + 1 < len(numbers) else None


def drawn(random: np.random.Generator, examples: int, whole: np.ndarray | None, resamples: int) -> np.ndarray:
    """Return how often each example comes in each resample: float64 (resamples, examples).

    whole: of `units`, or None to draw examples.
    """
    count = examples if whole is None else int(whole.max()) + 1
    times = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    return (times if whole is None else times[:, whole]).astype(np.float64)


def share(
    right: np.ndarray, whole: np.ndarray | None = None, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return low and high (0..1) of the share of examples that are right: bool (examples,).

    whole: of `units`. Without it the interval is Wilson's. With it examples are not independent, and it is
    that of a bootstrap that draws what belongs together; where that has no spread (all are right, or none
    is), Wilson's, in which each group counts once.
    """
    successes, examples = float(np.sum(right)), len(right)
    if whole is None:
        low, high = wilson(successes, examples)
        return float(low), float(high)
    numbers = np.unique(whole, return_inverse=True)[1] if examples else np.zeros(0, np.int64)
    sizes = np.bincount(numbers).astype(np.float64)
    if successes in (0.0, examples) or len(sizes) < 2:
        low, high = wilson(successes / max(examples, 1) * len(sizes), len(sizes))
        return float(low), float(high)
    sums, random, shares = np.bincount(numbers, weights=right), np.random.default_rng(seed), []
    chunk = max(1, 2_000_000 // len(sizes))  # 16 MB of counts at a time
    for start in range(0, resamples, chunk):
        times = drawn(random, len(sizes), None, min(chunk, resamples - start))
        shares.append(times @ sums / (times @ sizes))
    found = np.concatenate(shares)
    if np.ptp(found) < 1e-12:  # every group alike
        low, high = wilson(successes / examples * len(sizes), len(sizes))
        return float(low), float(high)
    low, high = percentile(found)
    return low, high
