"""What each column does to the answers of a network of rows: how much worse they are without it, and how one
answer moves when one cell is another.

Neither says what would happen if somebody changed the column in the world: a network that uses a sign of an
illness moves with the sign, and the illness does not.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from runner.scores import ranking
from runner.tables import columns as columns_of
from runner.tables.columns import Column

REPEATS = 5
"""How often the cells of a column are shuffled."""
POINTS = 21
"""Values of a number that are tried."""
Answers = Callable[[np.ndarray], np.ndarray]
"""Rows, float32 (n, columns), to probabilities (n, classes)."""


def importance(
    answers: Answers, rows: np.ndarray, labels: np.ndarray, columns: Sequence[Column], seed: int = 0
) -> pd.DataFrame:
    """How far the area under the ROC curve falls when the cells of one column are shuffled among the rows
    (Breiman 2001, "Random Forests", section 10): columns column, kind, fall, low, high (the smallest and the
    largest of REPEATS shuffles), the largest fall first. Of columns that say the same none may fall.

    rows: float32 (n, columns); labels: int (n,).
    """
    whole = ranking.area(labels, answers(rows)).value
    random, found = np.random.RandomState(seed), []
    for place, column in enumerate(columns):
        falls = []
        for _ in range(REPEATS):
            other = rows.copy()
            other[:, place] = rows[random.permutation(len(rows)), place]
            falls.append(whole - ranking.area(labels, answers(other)).value)
        found.append((column.name, column.kind, float(np.mean(falls)), min(falls), max(falls)))
    table = pd.DataFrame(found, columns=["column", "kind", "fall", "low", "high"])
    return table.sort_values("fall", ascending=False, kind="stable").reset_index(drop=True)


def moves(
    answers: Answers, row: np.ndarray, rows: np.ndarray, place: int, column: Column, positive: int
) -> pd.DataFrame:
    """How the probability of a class moves when one cell of a row takes other values: columns value (as it is
    shown), position (float), probability; all else stays (individual conditional expectation, Goldstein
    et al. 2015).

    row: float32 (columns,); rows: those whose values are tried: of a number its POINTS quantiles from the 2nd
    to the 98th percent, of a category the words that it has and "missing".
    """
    if column.kind == "category":
        counts = pd.Series(rows[:, place].astype(int)).value_counts().index[:12]
        values = np.array(sorted(counts), np.float32)
        names = [_word(column, int(one)) for one in values]
    else:
        there = rows[:, place][~np.isnan(rows[:, place])]
        values = np.unique(np.quantile(there, np.linspace(0.02, 0.98, POINTS))) if len(there) else there
        names = [_shown(column, float(one)) for one in values]
    tried = np.repeat(row[None], len(values), axis=0)
    tried[:, place] = values
    p = answers(tried.astype(np.float32))[:, positive] if len(values) else np.zeros(0)
    positions = np.arange(len(values)) if column.kind == "category" else values
    return pd.DataFrame({"value": names, "position": positions.astype(float), "probability": p})


def shown(row: np.ndarray, place: int, column: Column) -> str:
    """What a cell of a coded row says, in words."""
    value = float(row[place])
    if column.kind == "category":
        return _word(column, int(value))
    return "missing" if np.isnan(value) else _shown(column, value)


def _word(column: Column, place: int) -> str:
    named = {columns_of.GONE: "missing", columns_of.UNSEEN: "unseen"}
    return named.get(place) or column.vocabulary[place - columns_of.FIRST]


def _shown(column: Column, value: float) -> str:
    return (
        str(np.datetime64("1970-01-01") + np.timedelta64(int(value), "D"))
        if column.kind == "date"
        else f"{value:.4g}"
    )
