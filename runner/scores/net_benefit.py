"""Decision curves: what acting on a probability is worth, for people who weigh harms differently.

Who acts from a probability t on holds a false alarm for t / (1 - t) times as bad as a missed case. The net
benefit, true positives / n - false positives / n * t / (1 - t), counts in cases found without a false alarm,
per person (Vickers and Elkin 2006, "Decision Curve Analysis"; Vickers et al. 2016, BMJ 352:i6).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

THRESHOLDS = tuple(round(0.01 * number, 2) for number in range(1, 100))
"""Probabilities from which somebody may act."""


def curve(
    truth: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> pd.DataFrame:
    """A row per threshold: threshold, net_benefit of acting by these probabilities, act_on_all,
    act_on_none (0).

    truth: bool (n,); probabilities: float (n,), 0..1, calibrated: a curve judges them as they are.
    thresholds: above 0 and below 1.
    """
    truth, probabilities = np.asarray(truth, bool), np.asarray(probabilities, np.float64)
    rows = []
    for threshold in thresholds:
        odds = threshold / (1 - threshold)
        acts = probabilities >= threshold
        benefit = (truth & acts).mean() - odds * (~truth & acts).mean()
        rows.append((threshold, benefit, truth.mean() - odds * (~truth).mean(), 0.0))
    return pd.DataFrame(rows, columns=["threshold", "net_benefit", "act_on_all", "act_on_none"])


def useful(curves: pd.DataFrame) -> tuple[float, float] | None:
    """The smallest and the largest threshold of a `curve` at which acting by it is worth more than acting on
    all and than acting on none; None where it never is.
    """
    others = curves[["act_on_all", "act_on_none"]].max(axis=1)
    better = curves["threshold"][curves["net_benefit"] > others + 1e-9]
    return (float(better.min()), float(better.max())) if len(better) else None
