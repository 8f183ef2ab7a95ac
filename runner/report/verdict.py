"""Whether transfer paid, in a sentence that stands before all others where it did not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from runner.report import words


def subject(comparison: pd.DataFrame, metrics: Mapping[str, Any] | None, score: str) -> int:
    """The position of the method that a page is about: the last with the score of `metrics`."""
    if metrics:
        same = np.flatnonzero(
            np.isclose(comparison[f"test_{score}"].to_numpy(float), metrics[score], atol=1e-9)
        )
        if len(same):
            return int(same[-1])
    return len(comparison) - 1


def in_words(
    comparison: pd.DataFrame | None, metrics: Mapping[str, Any] | None, score: tuple[str, str]
) -> str:
    """A sentence where something without pretrained weights is as good on the test, or better; else "".

    comparison: columns method, test_<score> and pretrained (without which nothing is known); a row per
    method. metrics: of the method that is handed out. score: how it is called and how it reads.
    """
    if comparison is None or "pretrained" not in comparison:
        return ""
    key, reads = score
    own = comparison.iloc[subject(comparison, metrics, key)]
    others = comparison[~comparison["pretrained"].astype(bool)]
    if not own["pretrained"] or others.empty:
        return ""
    rival = others.loc[others[f"test_{key}"].idxmax()]
    if rival[f"test_{key}"] < own[f"test_{key}"]:
        return ""
    reached = [words.percent(one[f"test_{key}"]) for one in (rival, own)]
    return (
        f"Transfer did not pay here: “{rival['method']}”, without pretrained weights, has {reached[0]} test "
        f"{reads}, “{own['method']}” {reached[1]}."
    )
