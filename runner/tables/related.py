"""A related, larger table to learn from before: other rows, some of the same columns, outcomes of its own."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from runner.data.files import Row
from runner.errors import InputError
from runner.tables import columns as columns_of
from runner.tables import sources
from runner.tables.columns import Column

MOST_VALUES = 20
"""So many different values an outcome may have."""


@dataclass(frozen=True, eq=False)
class Related:
    """Rows of another table.

    name: what the user wrote. cells: DataFrame of str, "" for what is missing. inputs: its columns of input.
    outcomes: float32 (rows, k), 1 and 0 for what is so and what is not, NaN where nobody knows; a column for
    each value of an outcome with more than two, and of one with two for the second. outcome_names: (k,).
    label: what the column of the data's own label says in each row, "" where it is missing, or None where
    there is no such column. rows: float32 (rows, columns) once `coded`.
    """

    name: str
    cells: pd.DataFrame
    inputs: tuple[str, ...]
    outcomes: np.ndarray
    outcome_names: tuple[str, ...]
    label: list[str] | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def coded(self, columns: Sequence[Column]) -> "Related":
        """The same with its rows as numbers."""
        return dataclasses.replace(self, rows=columns_of.coded(self.cells[list(self.inputs)], columns))

    def shared(self, cells: pd.DataFrame, manifest: pd.DataFrame) -> list[Row]:
        """What is remarked on it beside the table that it is to help: columns that it lacks or has alone, and
        test rows that stand in it; kinds "columns" and "duplicate".
        """
        both = [name for name in self.inputs if name in cells]
        if not both:
            raise InputError(
                f"source={self.name!r} has no column of input that the data has; name the columns alike."
            )
        told: list[Row] = [
            (
                "",
                "columns",
                f"{len(both)} columns are shared with the source {self.name!r}; "
                f"{len(self.inputs) - len(both)} more are in the source alone",
            )
        ]
        if len(both) >= 5:
            there = set(pd.util.hash_pandas_object(self.cells[both], index=False))
            tested = (manifest["split"] == "test").to_numpy()
            known = pd.util.hash_pandas_object(cells.loc[tested, both], index=False).isin(there)
            if known.any():
                told.append(
                    (
                        "",
                        "duplicate",
                        f"{int(known.sum())} test rows have the same cells as rows of the source: if they "
                        "are the same cases, take them out of it",
                    )
                )
        return told


def find(
    source: str | Path,
    outcomes: Sequence[str] = (),
    *,
    label: str = "label",
    leave_out: Sequence[str] = (),
    missing: Sequence[str] = columns_of.MISSING,
    zeros_missing: Sequence[str] = (),
    encoding: str = "",
) -> Related:
    """Read a related table.

    source, encoding: as `sources.find` takes them. outcomes: its columns that are to be told, 2 to
    MOST_VALUES different values each, in which a missing value is unknown; none given: those whose names
    begin with "outcome", and where there are none the column `label`. leave_out, zeros_missing: as far as it
    has them.
    Raises InputError for what a person can put right.
    """
    table = sources.find(source, encoding, label)
    zeros = [name for name in zeros_missing if name in table.cells]
    cells = columns_of.blank(table.cells, missing, zeros)
    named = [str(name) for name in cells if str(name).lower().startswith("outcome")]
    chosen = list(outcomes) or named or [label]
    for name in chosen:
        sources.column_there(name, cells, "outcomes", f"source={table.name!r}")
    other = {*chosen, *leave_out, "split", "group", "subgroup", label}
    inputs = tuple(str(name) for name in cells if name not in other)
    told, names = [], []
    for name in chosen:
        said = cells[name] != ""
        values = sorted(set(cells[name][said]))
        if not 2 <= len(values) <= MOST_VALUES:
            raise InputError(
                f"outcomes: {name!r} of source={table.name!r} has {len(values)} different values; 2 to "
                f"{MOST_VALUES} are allowed: name others (--outcomes), or make ranges of its numbers."
            )
        for value in values[1:] if len(values) == 2 else values:
            told.append(np.where(said, (cells[name] == value).astype(float), np.nan))
            names.append(name if len(values) == 2 else f"{name}={value}")
    same = [str(one) for one in cells[label]] if label in chosen else None
    return Related(table.name, cells, inputs, np.stack(told, axis=1).astype(np.float32), tuple(names), same)
