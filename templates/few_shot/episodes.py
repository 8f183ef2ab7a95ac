"""Episodes: which pictures of which classes are support, and which are to be answered. NumPy alone."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from runner.errors import InputError


@dataclass(frozen=True)
class Episodes:
    """N-way episodes (Vinyals et al. 2016, arXiv:1606.04080), as rows of the arrays that they were drawn of.

    support: int64 (episodes, ways, shots), of the most shots there are: with fewer shots the first are meant.
    query: int64 (episodes, ways, queries). strangers: int64 (episodes, queries), of classes that the episode
    does not have; (episodes, 0) where there are no others. classes: int64 (episodes, ways), labels.
    """

    support: np.ndarray
    query: np.ndarray
    strangers: np.ndarray
    classes: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """Which way each query is of, int64 (episodes, ways * queries): 0 to ways - 1."""
        episodes, ways, queries = self.query.shape
        return np.tile(np.repeat(np.arange(ways), queries), (episodes, 1))


def draw(labels: np.ndarray, ways: int, shots: int, queries: int, count: int, seed: int) -> Episodes:
    """Draw episodes, classes first and then pictures, each without replacement; equal arguments give equal
    episodes, on every machine, and episode n does not depend on how many are drawn.

    labels: int (pictures,), the class of each. Classes with fewer than shots + queries pictures take no part.
    Raises InputError where fewer than `ways` are left; see `check`.
    """
    labels = np.asarray(labels)
    check(pd.Series(labels).value_counts(), ways, shots, queries, "")
    names, counts = np.unique(labels, return_counts=True)
    rows = {int(name): np.flatnonzero(labels == name) for name in names}
    large = names[counts >= shots + queries]
    made: list[tuple] = []
    for number in range(count):
        # RandomState, whose streams NumPy froze for good.
        random = np.random.RandomState([seed, number])
        order = random.permutation(large)
        chosen, others = order[:ways], order[ways:]
        drawn = np.stack([random.permutation(rows[int(one)])[: shots + queries] for one in chosen])
        rest = np.concatenate([rows[int(one)] for one in others]) if len(others) else np.zeros(0, np.int64)
        made.append(
            (drawn[:, :shots], drawn[:, shots:], random.permutation(rest)[:queries], chosen.astype(np.int64))
        )
    return Episodes(*(np.stack(part) for part in zip(*made, strict=True)))


def check(counts: pd.Series, ways: int, shots: int, queries: int, split: str, begins: str = "--") -> None:
    """Raise InputError where no episode can be drawn.

    counts: pictures of each class. split: of which, in a word. begins: how the flags do that say the numbers.
    """
    of = f"{split} " if split else ""
    if len(counts) < ways:
        raise InputError(
            f"Received {len(counts)} {of}class{'es' * (len(counts) != 1)} and ways={ways}: an episode needs "
            f"{ways} different ones. Give more {of}classes, or fewer {begins}ways."
        )
    large = int((counts >= shots + queries).sum())
    if large < ways:
        name, most = counts.index[counts.argmin()], int(np.sort(counts)[-ways])
        raise InputError(
            f"Received {large} {of}classes with {shots} + {queries} pictures (shots + queries), and "
            f"ways={ways}; {name!r} has {counts.min()}. Add pictures, or give fewer {begins}ways, "
            f"{begins}shots or {begins}queries ({ways} classes have {most} or more)."
        )
