"""What columns do, of a model whose answer is known."""

import numpy as np
import pytest

from runner.table_runs import what_if
from runner.tables.columns import Column

COLUMNS = (
    Column("a", "number"),
    Column("b", "number"),
    Column("c", "category", ("x", "y")),
    Column("d", "date"),
)


def answers(rows):
    """Only a counts, and whether c is y."""
    p = 1 / (1 + np.exp(-3 * np.nan_to_num(rows[:, 0]) - (rows[:, 2] == 3)))
    return np.stack([1 - p, p], axis=1)


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    found = random.normal(size=(400, 4)).astype("float32")
    found[:, 2], found[:, 3] = random.integers(0, 4, 400), random.integers(18000, 18400, 400)
    return found


def test_a_column_that_nothing_reads_costs_nothing(rows):
    labels = (np.random.default_rng(1).random(400) < answers(rows)[:, 1]).astype(int)
    table = what_if.importance(answers, rows, labels, COLUMNS).set_index("column")
    assert table.index[0] == "a" and table.loc["a", "fall"] > 0.2
    assert table.loc[["b", "d"], ["fall", "low", "high"]].to_numpy().max() == 0
    assert 0 < table.loc["c", "fall"] < table.loc["a", "fall"]


def test_answers_move_as_the_model_says(rows):
    row = rows[0]
    moved = what_if.moves(answers, row, rows, 0, COLUMNS[0], 1)
    assert len(moved) == what_if.POINTS and (np.diff(moved["probability"]) > 0).all()
    still = what_if.moves(answers, row, rows, 1, COLUMNS[1], 1)
    assert np.ptp(still["probability"]) == 0
    words = what_if.moves(answers, row, rows, 2, COLUMNS[2], 1)
    assert words["value"].tolist() == ["missing", "unseen", "x", "y"]
    assert words["probability"].argmax() == 3
    days = what_if.moves(answers, row, rows, 3, COLUMNS[3], 1)
    assert days["value"].iloc[0].startswith("2019-")
    assert what_if.shown(np.float32([np.nan, 1, 3, 18000]), 0, COLUMNS[0]) == "missing"
    assert what_if.shown(np.float32([0, 1, 3, 18000]), 2, COLUMNS[2]) == "y"
