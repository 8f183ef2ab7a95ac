"""Cells become numbers, and what is missing stays missing."""

import datetime

import numpy as np
import pandas as pd
import pytest

from runner.tables import columns as of
from runner.tables.columns import Column


def frame(**cells):
    return pd.DataFrame({name: list(map(str, values)) for name, values in cells.items()}, dtype=object)


def test_kinds_are_told_by_what_is_written():
    assert of.kind_of(pd.Series(["1", "2.5", "-3e2", ""])) == "number"
    assert of.kind_of(pd.Series(["2024-03-05", "2020-02-29T10:30"])) == "date"
    assert of.kind_of(pd.Series(["a", "2"])) == "category"
    assert of.kind_of(pd.Series(["", ""])) == "category"
    assert of.kind_of(pd.Series(["1"] * 99 + ["about 2"])) == "number"  # which is named as unreadable


def test_missing_is_neither_a_number_nor_the_mean():
    cells = of.blank(
        frame(age=["30", "?", "50"], job=["a", "NA", "a"], bp=["0", "120", "130"]), zeros=("bp",)
    )
    assert cells["bp"].tolist() == ["", "120", "130"]
    columns = of.describe(cells, {})
    assert columns == (
        Column("age", "number", (), 40.0, 10.0),
        Column("job", "category", ("a",)),
        Column("bp", "number", (), 125.0, 5.0),
    )
    rows = of.coded(cells, columns)
    np.testing.assert_array_equal(
        rows, np.array([[30, 2, np.nan], [np.nan, of.GONE, 120], [50, 2, 130]], "float32")
    )


def test_unseen_and_rare_categories_share_a_place_and_are_counted():
    known = frame(job=["a", "a", "b", "b", "b", "rare"])
    columns = of.describe(known, {})
    assert columns[0].vocabulary == ("b", "a") and columns[0].places == 4
    rows = of.coded(frame(job=["a", "b", "rare", "never", ""]), columns)
    assert rows[:, 0].tolist() == [3, 2, of.UNSEEN, of.UNSEEN, of.GONE]
    assert of.unseen(rows, columns).to_dict() == {"job": 2}
    assert of.coded(frame(other=["1"]), columns)[0, 0] == of.GONE


def test_the_order_of_rows_changes_nothing():
    cells = frame(job=["b", "a", "b", "a", "c", "c"])
    assert of.describe(cells, {}) == of.describe(cells[::-1].reset_index(drop=True), {})
    assert of.describe(cells, {})[0].vocabulary == ("a", "b", "c")


def test_days_are_those_of_the_calendar():
    dates = [
        "1970-01-01",
        "2000-02-29",
        "1969-12-31",
        "2023-02-29",
        "1900-03-01",
        "2024-12-31T23:59:59Z",
        "x",
    ]
    found = of.days(pd.Series(dates))
    wanted = [
        (datetime.date.fromisoformat(one[:10]) - datetime.date(1970, 1, 1)).days
        for one in dates
        if one not in ("x", "2023-02-29")
    ]
    assert found[~np.isnan(found)].tolist() == wanted and np.isnan(found).sum() == 2


def test_cells_that_are_no_numbers_are_named():
    cells = frame(age=["1", "1e999", "two", ""])
    found = of.unreadable(cells, [Column("age", "number")], ["a", "b", "c", "d"])
    assert [row[0] for row in found] == ["b", "c"] and "counts as missing" in found[1][2]


def test_a_record_comes_back():
    columns = (Column("a", "number", (), 1.5, 2.0), Column("b", "category", ("x", "y")), Column("c", "date"))
    assert of.of_record(of.record(columns)) == columns


def test_a_constant_has_no_spread_to_divide_by():
    assert of.describe(frame(a=["7", "7"], b=["", ""]), {"b": "number"})[0].spread == 1.0


@pytest.mark.parametrize("kinds", [{"job": "number"}, {"job": "category"}])
def test_a_kind_that_is_given_counts(kinds):
    assert of.describe(frame(job=["1", "2"]), kinds)[0].kind == kinds["job"]
