"""Where tables come from: a CSV, TSV or Parquet file, TFDS, or a data set of this repository.

Each becomes one `Table`: cells as text, as they were written, and a name for every row.
"""

import codecs
import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.data.files import Row, printable
from runner.data.source import datasets, not_understood
from runner.errors import InputError, suggest

UNIT = "rows"
SUFFIXES = (".csv", ".tsv", ".parquet")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte-order marks and the encodings they stand for; without one a file is read as UTF-8."""
WORST = 0.5
"""Of so many lines with another number of cells than columns the file is refused, not the lines left out."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it was found.

    cells: DataFrame of str, index 0..n-1, a column per name, without surrounding white space; "" where
    nothing is written or the source knows no value. names: what each row is called in messages, "FILE:LINE",
    and lines: the number in it. problems: rows (path, kind, message) for what was left out. name: what the
    user wrote.
    """

    cells: pd.DataFrame
    names: list[str]
    lines: list[int]
    problems: list[Row] = field(default_factory=list)
    name: str = "a table"


def find(source: str | Path, encoding: str = "", label: str = "label") -> Table:
    """Read the table that `source` names.

    source: the path of a .csv file (cells apart by commas, or by semicolons where the first line has no
    comma), of a .tsv or a .parquet file, the names of the columns first; `tfds:NAME` of a data set of single
    numbers, words and class labels; or NAME or NAME/PART of a data set of datasets/. encoding: of a text
    file; "" reads UTF-8, or UTF-16 with a byte-order mark. label: what the label of a data set is called in
    the table, where it has no feature of that name.

    A line with too many or too few cells is left out and named in `problems` (kind "unreadable").
    Raises InputError, in one line, for what a person can put right.
    """
    source = str(source).strip()
    if source.startswith("tfds:") or source.partition("/")[0] in datasets():
        return _tfds(source, label)
    path = Path(os.path.expanduser(source))
    if not source or not os.path.isfile(path) or path.suffix.lower() not in SUFFIXES:
        raise not_understood(source, path, "a .csv file", ".csv, .tsv or .parquet")
    where, problems = f"Received data={source!r}", []
    if path.suffix.lower() == ".parquet":
        cells = _parquet(path, where)
        rows = list(range(1, len(cells) + 1))
    else:
        cells, rows, problems = _text(path, where, encoding)
    _check_names(list(cells.columns), where)
    if cells.empty:
        raise InputError(f"{where}, which has names of columns and no rows; expected a row per example.")
    return Table(cells, [f"{printable(path.name)}:{row}" for row in rows], rows, problems, source)


def _text(path: Path, where: str, encoding: str) -> tuple[pd.DataFrame, list[int], list[Row]]:
    """The cells of a CSV or TSV file, the line that each row begins in, and what was left out."""
    text = _decoded(path, where, encoding)
    first = text.partition("\n")[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else "," if "," in first or ";" not in first else ";"
    lines: list[tuple[int, list[str]]] = []
    begins = 1
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
        )
        for row in reader:
            if any(cell.strip() for cell in row):
                lines.append((begins, [cell.strip() for cell in row]))
            begins = reader.line_num + 1
    except csv.Error as error:
        reason = "a quote opens a cell and none closes it" if "end of data" in str(error) else str(error)
        raise InputError(
            f'{where}, whose row from line {begins} on cannot be read ({reason}); write " within a cell as '
            '"", and the cell in double quotes.'
        ) from None
    if not lines:
        raise InputError(f"{where}, which is empty; expected the names of the columns in its first line.")
    header, rows = lines[0][1], lines[1:]
    if len(header) == 1 and any(one in header[0] for one in "\t|"):
        raise InputError(f"{where} with one column, {header[0][:60]!r}; separate the cells with commas.")
    odd = [(line, len(row)) for line, row in rows if len(row) != len(header)]
    if len(odd) > WORST * len(rows):
        raise InputError(
            f"{where} with {len(header)} columns and {odd[0][1]} cells in line {odd[0][0]}, as in "
            f"{len(odd)} of {len(rows)} lines; put the names of all columns in the first line, and cells "
            "that hold what separates them in double quotes."
        )
    problems = [
        (
            f"{printable(path.name)}:{line}",
            "unreadable",
            f"line {line} has {count} cells and the table {len(header)} columns: it is left out",
        )
        for line, count in odd
    ]
    kept = [(line, row) for line, row in rows if len(row) == len(header)]
    cells = pd.DataFrame([row for _, row in kept], columns=header, dtype=object)
    return cells, [line for line, _ in kept], problems


def _decoded(path: Path, where: str, encoding: str) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}, which cannot be read: {error.strerror}.") from None
    mark = next((mark for mark in MARKS if raw.startswith(mark)), b"")
    chosen = encoding or MARKS.get(mark, "utf-8")
    try:
        text = raw.decode(chosen)
    except LookupError:
        raise InputError(
            f"encoding={encoding!r} is no encoding that Python knows; give utf-8, cp1252 or latin-1, say."
        ) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"{where}, which is no {chosen}: byte 0x{raw[error.start]:02X} in line {line}; say what it is "
            "(--encoding cp1252 for most of Windows), or save it in UTF-8."
        ) from None
    if "\0" in text:
        raise InputError(f"{where}, which has a NUL character, as no table in text has; give its encoding.")
    return text


def _parquet(path: Path, where: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise InputError(
            f"{where}, and Parquet needs the package pyarrow: run `pip install pyarrow`, or give a .csv."
        ) from None
    except Exception as error:  # pyarrow raises many kinds for a file that is none
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}, which cannot be read as Parquet ({reason}); give another file.") from None
    frame = frame.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    return pd.DataFrame({name: written(frame[name]) for name in frame.columns}, dtype=object)


def written(column: pd.Series) -> list[str]:
    """The values of a column as cells: numbers in their shortest form, dates as ISO 8601 writes them, "" for
    what is missing.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return ["" if pd.isna(one) else one.isoformat() for one in column]
    return [_cell(one) for one in column]


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if value is None or value is pd.NaT or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < 1e15:
        return str(int(value))
    return "" if value is pd.NA else str(value).strip()


def _check_names(names: Sequence[str], where: str) -> None:
    empty = [place for place, name in enumerate(names, 1) if not name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if empty:
        raise InputError(f"{where}, whose column {empty[0]} has no name; name every column.")
    if twice:
        raise InputError(f"{where} with two columns called {twice[0]!r}; give each its own name.")


def column_there(name: str, cells: pd.DataFrame, what: str, where: str) -> None:
    """Raise InputError where a table has no column `name`; what: the setting that names it."""
    if name not in cells:
        known = ", ".join(map(str, cells.columns[:12])) + (", ..." if len(cells.columns) > 12 else "")
        raise InputError(
            f"{what}={name!r}, and {where} has no such column; it has {known}.{suggest(name, cells.columns)}"
        )


# ---------------------------------------------------------------- TFDS


def _tfds(source: str, label: str) -> Table:
    from runner.data import builders  # not at the top: TFDS is heavy, and a file does without it

    builder, keys, chosen = builders.prepared(source, _keys)
    found, splits = [], []
    for name, split in chosen.items():
        for one in builders.read_split(builder, name, None):
            found.append(one)
            splits.append(split)
    features, columns = builder.info.features, {}
    for key in keys:
        values = [one[key] for one in found]
        names = getattr(features[key], "names", None)
        if names:  # -1 stands for a label that was never published
            columns[key] = [names[value] if value >= 0 else "" for value in values]
        else:
            columns[key] = [_cell(value) for value in values]
    supervised = builder.info.supervised_keys
    if label not in columns and supervised and supervised[1] in columns:
        columns[label] = columns.pop(supervised[1])
    cells = pd.DataFrame(columns, dtype=object)
    if len(chosen) > 1 and "split" not in cells:
        cells["split"] = splits
    names = [f"{builder.name}/{split}[{row}]" for row, split in enumerate(splits)]
    return Table(cells, names, list(range(len(cells))), name=source)


def _keys(source: str, features: Any) -> list[str]:
    """The features that are columns: single numbers, words and class labels."""
    items = dict(features.items()) if hasattr(features, "items") else {}
    keys = [key for key, one in items.items() if getattr(one, "shape", None) == ()]
    if not keys or len(keys) < len(items):
        other = [key for key in items if key not in keys] or ["nothing else"]
        raise InputError(
            f"Received data={source!r} with the features {', '.join(items) or 'none'}, of which "
            f"{other[0]!r} is no single value; choose a data set that is a table."
        )
    return keys
