"""95 % intervals: Wilson's for a share of counted examples, percentiles of a bootstrap for anything else."""

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

_DEVIATIONS = float(scipy.special.ndtri(0.975))  # 1.96


def wilson(successes: ArrayLike, examples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
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
