"""What may be wrong with the rows of a table, beside what may be wrong with any example: columns that give
the label away, name the row or say nothing, zeros that stand for no value, and copies.

Each check returns rows (path, kind, message) for `Data.problems`: one line each that says what was found and
what to do; path is "" where the finding is about the whole set. Nothing here reads a file.
"""

import re

import numpy as np
import pandas as pd

from runner.data.checks import class_names, class_sizes, copies, told_by
from runner.data.files import Row
from runner.tables.columns import Column, days, numbers

LEARNED = ("train", "val", "unused")
TELLS = 0.98
"""A column that alone tells so many labels right is looked at: hardly anything known beforehand does."""
NAMES_A_ROW = 0.95
"""Of the values that a column has so many are of one row alone: it names the row."""
WHOSE = re.compile(
    r"(^|[\W_])(id|patient|subject|person|customer|client|household|user|family|hospital)([\W_]|$)", re.I
)
"""Names of columns that may say which rows belong together."""


def everything(
    manifest: pd.DataFrame,
    cells: pd.DataFrame,
    columns: tuple[Column, ...],
    counts: pd.DataFrame,
    repeated: bool,
) -> list[Row]:
    """All checks of a table.

    manifest: as of `Data`, with split and sha256; cells: of `columns.blank`, in its order; columns: those of
    the input; counts: of `data.checks.count`; repeated: whether rows without an own content are so many that
    they were taken one by one.
    """
    rows = manifest["split"].isin(LEARNED).to_numpy()
    labels = manifest["label"].astype(object)[rows].reset_index(drop=True)
    learned = cells[rows].reset_index(drop=True)
    labelled = labels.notna().to_numpy()
    grouped = (manifest["group"] != "").any()
    return [
        *(repeats(manifest) if repeated else copies(manifest)),
        *contradictions(manifest, cells, columns),
        *class_names(counts.sum(axis=1), "rows"),
        *(class_sizes(counts, "rows") if (manifest["split"] == "train").any() else []),  # else only judged
        *give_aways(
            learned[labelled].reset_index(drop=True), labels[labelled].reset_index(drop=True), columns
        ),
        *names_of_rows(learned, columns, grouped),
        *says_nothing(learned, columns),
        *impossible_zeros(learned, columns),
    ]


def repeats(manifest: pd.DataFrame) -> list[Row]:
    """Say that most rows are like others, so that they were dealt one by one; kind "duplicate"."""
    message = (
        f"more than half of the {len(manifest)} rows are identical to another one: they were dealt to the "
        "splits one by one; if one person or case has several rows, name it (--group COLUMN)"
    )
    return [("", "duplicate", message)]


def contradictions(manifest: pd.DataFrame, cells: pd.DataFrame, columns: tuple[Column, ...]) -> list[Row]:
    """Say how many rows are equal in every column and have another label; kind "label"."""
    there = manifest["label"].notna().to_numpy() & (manifest["split"] != "skipped").to_numpy()
    alike = cells.loc[there, [one.name for one in columns if one.name in cells]]
    if alike.empty or not len(alike.columns):
        return []
    labels = manifest.loc[there, "label"].cat.codes.groupby(
        pd.util.hash_pandas_object(alike, index=False).to_numpy()
    )
    several = labels.transform("nunique") > 1
    if not several.any():
        return []
    first = manifest.loc[several[several].index[0], "path"]
    message = (
        f"{several.sum()} rows have the same cells and different labels, such as {first!r}: what tells them "
        "apart is not in the table, or a label is wrong"
    )
    return [("", "label", message)]


def _values(cells: pd.Series, column: Column) -> np.ndarray:
    """A column as numbers, float64 (n,): categories by their code, -1 where nothing is said."""
    if column.kind == "category":
        return pd.factorize(cells)[0].astype(float)
    found = (numbers if column.kind == "number" else days)(cells)
    return np.where(np.isnan(found), np.nanmin(found, initial=0) - 1, found)


def give_aways(cells: pd.DataFrame, labels: pd.Series, columns: tuple[Column, ...]) -> list[Row]:
    """Columns that are the label, or tell it nearly always; kind "give-away".

    The rule is that of `data.checks.told_by`, and TELLS; rows of test are not looked at.
    """
    found = []
    codes = pd.factorize(labels)[0]
    for column in columns:
        if column.name not in cells or len(cells) < 2:
            continue
        values = cells[column.name]
        pairs = pd.DataFrame({"value": values, "label": codes}).drop_duplicates()
        if pairs["value"].nunique() == pairs["label"].nunique() == len(pairs) > 1:
            found.append(
                (
                    "",
                    "give-away",
                    f"column {column.name!r} is the label, in other words: leave it out "
                    f"(--leave-out {column.name!r}) unless it is known before the answer is",
                )
            )
            continue
        accuracy, largest = told_by(pd.DataFrame({"value": _values(values, column)}), labels)
        if accuracy is not None and accuracy >= TELLS:
            message = (
                f"column {column.name!r} alone tells the label of {100 * accuracy:.1f} % of the rows (always "
                f"answering the largest class: {100 * largest:.0f} %): leave it out (--leave-out "
                f"{column.name!r}) unless it is known before the answer is"
            )
            found.append(("", "give-away", message))
    return found


def names_of_rows(cells: pd.DataFrame, columns: tuple[Column, ...], grouped: bool) -> list[Row]:
    """Columns that name the row, and, where no group is given, those that may say which rows belong
    together; kind "identity".
    """
    found = []
    for column in columns:
        if column.name not in cells:
            continue
        said = cells[column.name][cells[column.name] != ""]
        if len(said) < 20 or column.kind == "date":
            continue
        alone = said.nunique() / len(said)
        whole = column.kind == "category" or not (numbers(said) % 1).any()
        if alone >= NAMES_A_ROW and whole:
            message = (
                f"column {column.name!r} has {said.nunique()} different values in {len(said)} rows, as a "
                f"number or name of the row has: leave it out (--leave-out {column.name!r})"
            )
            found.append(("", "identity", message))
        elif not grouped and whole and WHOSE.search(column.name) and said.nunique() > 20:
            message = (
                f"column {column.name!r} may say which rows belong together: if it does, name it (--group "
                f"{column.name!r}), and no split divides them"
            )
            found.append(("", "identity", message))
    return found


def says_nothing(cells: pd.DataFrame, columns: tuple[Column, ...]) -> list[Row]:
    """Columns with one value throughout, or with none; kind "constant"."""
    found = []
    for column in columns:
        values = cells[column.name].unique() if column.name in cells else []
        if len(values) == 1 and len(cells) > 1:
            what = f"is {values[0][:40]!r} in every row" if values[0] else "is missing in every row"
            found.append(("", "constant", f"column {column.name!r} {what}: it says nothing"))
    return found


def impossible_zeros(cells: pd.DataFrame, columns: tuple[Column, ...]) -> list[Row]:
    """Columns whose zeros may stand for a missing value, as in a blood pressure of 0; kind "zeros".

    That is where numbers are never negative, three or more and at most half of them are 0, and 0 stands
    apart: the smallest other one is above a tenth of the median and three times as far from 0 as the smaller
    half of the values are from each other. Counts, which go 0, 1, 2, and amounts of money do not fit that.
    """
    found = []
    for column in columns:
        if column.kind != "number" or column.name not in cells:
            continue
        values = numbers(cells[column.name])
        values = values[~np.isnan(values)]
        zeros, others = int((values == 0).sum()), np.unique(values[values != 0])
        if len(others) < 10 or others[0] <= 0 or not 3 <= zeros <= 0.5 * len(values):
            continue
        median = float(np.median(values[values > 0]))
        gap = float(np.median(np.diff(others[: max(5, len(others) // 2)])))
        if others[0] > 0.1 * median and others[0] >= 3 * gap:
            message = (
                f"column {column.name!r} is 0 in {zeros} of {len(values)} rows and {others[0]:g} or more in "
                f"all others: if 0 stands for a missing value, say so (--zeros-missing {column.name!r})"
            )
            found.append(("", "zeros", message))
    return found
