"""How far scores of sources can be trusted: what they said, beside what fine-tuning then gave.

`benchmarks/ranking.py` writes reliability.csv, a row per set and source, and reliability.json, what follows
from it; `rank` reads the second and prints it, because a bare ranking would claim more than it knows.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from runner.scores import intervals

MEASURES = {
    "probe": "linear probe",
    "neighbours": "nearest neighbours",
    "logme": "LogME",
    "h_score": "H-score",
    "leep": "LEEP",
    "nce": "NCE",
}
"""The scores of a source, as columns and in words."""
SIZE = "parameters"
"""Beside them as a yardstick that costs nothing: the larger network."""
TRUTH = "accuracy"
ROWS, SUMMARY = (Path(__file__).parent / f"reliability.{ending}" for ending in ("csv", "json"))
POINTS = 0.02
"""A first choice this near to the best fine-tuned source counts as right."""
LEAST = 3
"""Sources of a set that a rank correlation needs."""
RESAMPLES = 300


def weighted_tau(scores: np.ndarray, truth: np.ndarray) -> float:
    """Weighted Kendall's tau, -1 to 1: pairs that stand high count more.

    A source of rank r weighs 1 / (r + 1), a pair the sum of both, and ranks are those by scores and by truth,
    of which the mean is taken (Vigna 2015, "A weighted correlation index for rankings with ties"; what You et
    al. 2021 compare scores by). scores, truth: float (sources,); what is NaN in either is left out. NaN for
    fewer than LEAST, or where one of both is all the same.
    """
    there = np.isfinite(scores) & np.isfinite(truth)
    scores, truth = scores[there], truth[there]
    if len(scores) < LEAST or np.ptp(scores) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(stats.weightedtau(scores, truth).statistic)


def summary(rows: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """What follows from a table with a row per set (column data) and source: the columns of MEASURES, SIZE
    and TRUTH, the accuracy on the test after fine-tuning.

    Returns sets, sources, fits (how many), chance (what a source drawn at random loses to the best in the
    mean), and by measure: tau, the mean over the sets; low and high, its 95 % interval by a bootstrap that
    draws sets and sources; by_set; sources (how many have that score); lost, by set: how much worse the
    source that the measure puts first turned out than the best, 0..1; within, in how many sets by POINTS at
    most.
    """
    sets, sources = list(dict.fromkeys(rows["data"])), list(dict.fromkeys(rows["source"]))
    tables = {
        name: rows.pivot(index="data", columns="source", values=name).loc[sets, sources].to_numpy(float)
        for name in (*MEASURES, SIZE, TRUTH)
    }
    truth, random = tables[TRUTH], np.random.default_rng(seed)
    draws = [
        (random.integers(len(sets), size=len(sets)), random.integers(len(sources), size=len(sources)))
        for _ in range(RESAMPLES)
    ]
    measures = {}
    for name in (*MEASURES, SIZE):
        table = tables[name]
        by_set = [weighted_tau(*pair) for pair in zip(table, truth, strict=True)]
        drawn = [
            _mean([weighted_tau(table[one][others], truth[one][others]) for one in some])
            for some, others in draws
        ]
        drawn = [one for one in drawn if np.isfinite(one)]
        lost = {
            one: float(np.nanmax(true) - true[int(np.nanargmax(found))])
            for one, found, true in zip(sets, np.where(np.isfinite(truth), table, np.nan), truth, strict=True)
            if np.isfinite(found).any()
        }
        low, high = intervals.percentile(np.array(drawn)) if drawn else [float("nan")] * 2
        measures[name] = {
            "tau": _mean(by_set),
            "low": low,
            "high": high,
            "by_set": dict(zip(sets, by_set, strict=True)),
            "sources": int(np.isfinite(np.where(np.isfinite(truth), table, np.nan)).any(0).sum()),
            "lost": lost,
            "within": sum(one <= POINTS + 1e-9 for one in lost.values()),
        }
    return {
        "sets": sets,
        "sources": sources,
        "fits": int(np.isfinite(truth).sum()),
        "chance": _mean([float(np.nanmax(true) - np.nanmean(true)) for true in truth]),
        "measures": measures,
    }


def read(path: Path = SUMMARY) -> dict[str, Any]:
    """What `benchmarks/ranking.py` wrote: `summary`, and under "made" by which command, when and on what."""
    return json.loads(path.read_text(encoding="utf-8"))


def in_words(found: dict[str, Any], name: str) -> str:
    """One sentence on one measure: tau with its interval, and what its first choice lost."""
    of = found["measures"][name]
    worst = max(of["lost"].values())
    return (
        f"{MEASURES.get(name, name)}: weighted tau {of['tau']:.2f} ({of['low']:.2f} to {of['high']:.2f}) "
        f"over {len(found['sets'])} sets and {of['sources']} sources; its first choice was within "
        f"{100 * POINTS:.0f} points of the best fine-tuned source on {of['within']} of {len(of['lost'])} "
        f"sets, at worst {100 * worst:.1f} points below"
    )


def _mean(values: list[float]) -> float:
    with warnings.catch_warnings():  # of none: NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(values)) if len(values) else float("nan")
