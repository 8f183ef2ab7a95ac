"""What a table's columns are, and rows as numbers: what is missing stays missing.

A row becomes float32 (columns,). A number stands as it is and a date as its day, counted from 1970-01-01; NaN
where it is missing. A category stands as its place in a vocabulary: 0 where it is missing, 1 where the
vocabulary does not have it, then the vocabulary, as `keras.layers.StringLookup(mask_token="")` counts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from runner.data.files import Row
from runner.errors import InputError, suggest

KINDS = ("number", "category", "date")
MISSING = ("", "?", "NA", "N/A", "#N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "<NA>")
"""What programs write where a value is missing."""
GONE, UNSEEN, FIRST = 0, 1, 2
"""Places of a category: missing, not in the vocabulary, and the first word of it."""
LEAST = 2
"""Of a category so many rows must have a value before it gets a place: so that the place of unseen ones is
trained by those that are as good as unseen."""
MOST_CATEGORIES = 200
READABLE = 0.95
"""Of the cells that say something so many must be numbers, or dates, for a column to be of that kind."""
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


@dataclass(frozen=True)
class Column:
    """One column of the input.

    name: as the table has it. kind: of KINDS. vocabulary: of a category, the most frequent first. mean,
    spread: of a number or a date, of the rows it was made from; 0 and 1 where these say nothing.
    """

    name: str
    kind: str
    vocabulary: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0

    @property
    def places(self) -> int:
        """How many values a category can have: missing, unseen, and those of the vocabulary."""
        return FIRST + len(self.vocabulary)


def blank(cells: pd.DataFrame, missing: Sequence[str] = MISSING, zeros: Sequence[str] = ()) -> pd.DataFrame:
    """The same cells with "" for all that stands for a missing value.

    missing: what is written in its place. zeros: columns in which 0 stands for a missing value too.
    """
    gone = cells.isin(list(missing))
    for name in zeros:
        gone[name] |= pd.to_numeric(cells[name], errors="coerce") == 0
    return cells.mask(gone, "")


def kind_of(cells: pd.Series) -> str:
    """The kind of a column by what is written in it: "date" in the form 2024-03-05, "number", else
    "category"; cells: of `blank`.
    """
    said = cells[cells != ""]
    if said.empty:
        return "category"
    if said.map(lambda one: bool(DATE.fullmatch(one))).mean() >= READABLE:
        return "date"
    return "number" if np.isfinite(numbers(said)).mean() >= READABLE else "category"


def numbers(cells: pd.Series) -> np.ndarray:
    """Cells as numbers, float64 (n,): NaN for what is none; "inf" and "1e400" are none."""
    found = pd.to_numeric(cells, errors="coerce").to_numpy("float64")
    return np.where(np.isfinite(found), found, np.nan)


def days(cells: pd.Series) -> np.ndarray:
    """Dates as days from 1970-01-01, float64 (n,), the time of the day left out; NaN for what is none."""
    dates = cells.map(lambda one: one[:10] if DATE.fullmatch(one) else "")
    found = pd.to_datetime(dates, format="%Y-%m-%d", errors="coerce")
    whole = found.to_numpy().astype("datetime64[D]")
    return np.where(np.isnat(whole), np.nan, whole.astype("int64").astype("float64"))


def describe(cells: pd.DataFrame, kinds: Mapping[str, str]) -> tuple[Column, ...]:
    """What the columns are, by the rows that may be learned from: those of a test must not be among them.

    cells: of `blank`, the columns of the input alone. kinds: name -> kind, where it is known.
    """
    found = []
    for name in cells:
        kind, column = kinds.get(str(name)) or kind_of(cells[name]), cells[name]
        if kind == "category":
            counts = column[column != ""].value_counts()
            # By name among equals, so that the same rows in another order give the same network.
            counts = (
                counts[counts >= LEAST].sort_index(kind="stable").sort_values(ascending=False, kind="stable")
            )
            found.append(Column(str(name), kind, tuple(map(str, counts.index[:MOST_CATEGORIES]))))
            continue
        values = (numbers if kind == "number" else days)(column)
        values = values[~np.isnan(values)]
        mean = float(values.mean()) if len(values) else 0.0
        spread = float(values.std()) if len(values) else 0.0
        # The same value throughout, but for rounding: no spread to divide by.
        found.append(Column(str(name), kind, mean=mean, spread=spread if spread > 1e-9 * abs(mean) else 1.0))
    return tuple(found)


def coded(cells: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """Rows as numbers, float32 (rows, columns); see the head of this module.

    cells: of `blank`. A column that the table does not have is missing in every row.
    """
    rows = np.full((len(cells), len(columns)), np.nan, np.float32)
    for place, column in enumerate(columns):
        if column.name not in cells:
            rows[:, place] = GONE if column.kind == "category" else np.nan
        elif column.kind == "category":
            places = pd.Index(column.vocabulary, dtype=object).get_indexer(cells[column.name])
            places = np.where(places < 0, UNSEEN, places + FIRST)
            rows[:, place] = np.where(cells[column.name] == "", GONE, places)
        else:
            rows[:, place] = (numbers if column.kind == "number" else days)(cells[column.name])
    return rows


def unreadable(cells: pd.DataFrame, columns: Sequence[Column], names: Sequence[str]) -> list[Row]:
    """Cells of numbers and dates that are none, which count as missing: rows (path, kind, message)."""
    found = []
    for column in columns:
        if column.kind == "category" or column.name not in cells:
            continue
        said, values = cells[column.name], coded(cells[[column.name]], [column])[:, 0]
        for row in np.flatnonzero((said != "").to_numpy() & np.isnan(values)).tolist():
            message = f"{column.name} is {said.iloc[row][:40]!r}, no {column.kind}: it counts as missing"
            found.append((names[row], "unreadable", message))
    return found


def unseen(rows: np.ndarray, columns: Sequence[Column]) -> pd.Series:
    """How many of the rows, (rows, columns) as of `coded`, have a category that the vocabulary lacks: int64
    by the name of the column, of categories alone.
    """
    return pd.Series(
        {
            column.name: int((rows[:, place] == UNSEEN).sum())
            for place, column in enumerate(columns)
            if column.kind == "category"
        },
        dtype="int64",
    )


def check_kinds(kinds: Mapping[str, str], known: Sequence[str], where: str) -> None:
    """Raise InputError for a kind that is given of a column that is not there."""
    for name in kinds:
        if name not in known:
            raise InputError(
                f"{kinds[name]} {name!r}: {where} has no such column; it has {', '.join(known[:12])}"
                f"{', ...' if len(known) > 12 else ''}.{suggest(name, known)}"
            )


# ---------------------------------------------------------------- kept in a network


def record(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Columns in plain JSON types; `of_record` makes them columns again."""
    return [asdict(column) | {"vocabulary": list(column.vocabulary)} for column in columns]


def of_record(listed: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of a `record`."""
    return tuple(Column(**{**one, "vocabulary": tuple(one["vocabulary"])}) for one in listed)
