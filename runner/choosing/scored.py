"""What was found of each source: its scores with their intervals, and how far it lies behind another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.choosing import probes, transferability
from runner.choosing.candidates import Candidate
from runner.choosing.features import Examples, Features
from runner.data.examples import Data
from runner.errors import InputError
from runner.runs import pairing
from runner.scores import intervals
from runner.training import cache

OF_FEATURES = ("logme", "h_score")
OF_ANSWERS = ("leep", "nce")


@dataclass(frozen=True, eq=False)
class Ranked:
    """One source and what was found of it."""

    candidate: Candidate
    features: Features
    scores: dict[str, tuple[float, float, float]]
    """By the names of `reliability.MEASURES`: value, low and high of its 95 % interval; NaN where a source
    has none.
    """
    right: np.ndarray
    """bool (n,): whether the linear probe answered an example rightly."""
    seen: int = 0
    """How many of the examples the source was itself trained or validated on."""
    distance: float = float("nan")
    """Of the source's own data from these examples, 0..2 (`distances.of_run`); NaN where it is not known."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """All sources, best first, and what is to be said of them."""

    data: str
    kind: str
    rows: list[Ranked]
    behind: dict[str, tuple[float, float, float]]
    """By name, of all but the first: how much less the linear probe got right, 0..1, and the interval; below
    0 where it got more.
    """
    classes: int
    examples: int
    size: int
    """Pixels a side of pictures, tokens of texts."""
    suggestion: str
    remarks: list[str]


def scored(
    candidate: Candidate,
    of: Features,
    labels: np.ndarray,
    whole: np.ndarray | None,
    seen: int,
    distance: float = float("nan"),
) -> Ranked:
    """The scores of one source, kept beside its features."""
    code = [Path(str(one.__file__)).read_bytes() for one in (transferability, probes)]
    key = cache.fingerprint(*code, of.key, labels, "alone" if whole is None else whole, "scores")
    names = [*OF_FEATURES, *OF_ANSWERS]

    def fill(array: np.ndarray) -> None:
        parts = probes.folds(labels, whole)
        array[0, : len(labels)] = probes.linear(of.values, labels, parts) == labels
        array[1, : len(labels)] = probes.neighbours(of.values, labels, parts) == labels
        for column, name in enumerate(names):
            array[:, len(labels) + column] = _with_error(name, of, labels, whole)

    # Two rows: what the probes got right, and after it the values of the scores and their standard errors.
    kept = cache.keep(key, (2, len(labels) + len(names)), np.float64, fill)
    if kept is None:
        raise InputError(f"There is no room for the scores in memory or in {cache.folder()}; make some.")
    right, close = kept.array[:, : len(labels)] > 0.5
    scores = {
        name: (float(hits.mean()), *intervals.share(hits, whole))
        for name, hits in (("probe", right), ("neighbours", close))
    }
    for name, (value, error) in zip(names, kept.array[:, len(labels) :].T.tolist(), strict=True):
        scores[name] = (value, value - 1.96 * error, value + 1.96 * error)
    return Ranked(candidate, of, scores, right, seen, distance)


def _with_error(name: str, of: Features, labels: np.ndarray, whole: np.ndarray | None) -> tuple[float, float]:
    """A score of features or answers and its standard error over examples."""
    if name in OF_FEATURES:
        score = transferability.logme if name == "logme" else transferability.h_score
        values = of.values
    elif of.answers is None:
        return float("nan"), float("nan")
    elif name == "leep":
        score, values = transferability.leep, of.answers
    else:
        score, values = transferability.nce, of.answers.argmax(1)
    return score(values, labels), probes.halves(lambda rows: score(values[rows], labels[rows]), labels, whole)


def behind(rows: Sequence[Ranked], whole: np.ndarray | None) -> dict[str, tuple[float, float, float]]:
    """How far each source's linear probe lies behind the first's, on the same examples."""
    drawn = probes.resampled([row.right for row in rows], whole)
    found = {}
    for row, shares in zip(rows[1:], drawn[1:], strict=True):
        low, high = intervals.percentile(drawn[0] - shares)
        found[row.candidate.name] = (float(rows[0].right.mean() - row.right.mean()), low, high)
    return found


def seen_by(candidate: Candidate, data: Data, examples: Examples) -> int:
    """How many of the examples a run was trained or validated on, by its manifest."""
    if candidate.run is None:
        return 0
    before = pairing.read_csv(candidate.run / "manifest.csv", dtype=str, keep_default_na=False)
    if not {"split", "sha256"} <= set(before.columns):
        return 0
    learned = set(before.loc[before["split"].isin(["train", "val"]), "sha256"]) - {""}
    return int(data.manifest["sha256"].iloc[examples.ids].isin(learned).sum())
