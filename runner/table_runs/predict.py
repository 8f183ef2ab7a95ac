"""New rows for a finished run: tables of any size, a part of them at a time."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import scipy.special

from runner.data.files import walk
from runner.errors import InputError
from runner.networks import inference, saved
from runner.runs import decision, folder
from runner.tables import columns as columns_of
from runner.tables import layers, sources
from runner.tables.columns import Column
from runner.tables.sources import Table

NAMED = 3
"""So many columns a note names."""


def load(run_folder: str | Path) -> tuple[keras.Model, list[str], float]:
    """The model of a complete run on tables, columns to logits, its class names and its temperature."""
    run_folder = Path(os.path.expanduser(run_folder))
    folder.read_complete(run_folder)
    model = saved.load(run_folder)
    if not layers.columns_in(model):
        raise InputError(f"{run_folder}: its network takes no rows of a table; give a run on tables.")
    return model, *decision.classes_of(run_folder, model.output.shape[-1])


def class_tables(
    run_folder: str | Path, inputs: Iterable[str | Path], batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of rows by a run that tells classes apart: a table for each batch, a row per row.

    inputs: .csv, .tsv or .parquet files, or folders of them, whose columns are called as those of the
    run; others are left aside. Columns row (FILE:LINE), prediction (Categorical), confidence (the
    probability of the prediction), with a threshold "threshold:<positive>", note, and "p:<class>" for
    each class: probabilities after the run's temperature scaling. The note says which columns have a
    category that the run does not know, a cell that cannot be read, or are not there. Raises InputError
    for what cannot be answered at all.
    """
    model, classes, temperature = load(run_folder)
    record = folder.read_json(Path(os.path.expanduser(run_folder)) / "config.json")
    point = decision.of_run(run_folder, classes)
    columns = layers.columns_in(model)
    step, first = inference.forward(layers.of_rows(model)), 0
    for table in [_read(one, columns, record) for one in _files(inputs)]:
        cells = columns_of.blank(
            table.cells, record.get("missing", columns_of.MISSING), _zeros(record, table)
        )
        rows = columns_of.coded(cells, columns)
        notes = noted(cells, rows, columns)
        for start in range(0, len(rows), batch_size):
            some = slice(start, start + batch_size)
            p = scipy.special.softmax(step(rows[some]).numpy().astype("float64") / temperature, axis=1)
            index = pd.RangeIndex(first, first + len(p))
            given = pd.DataFrame({"row": table.names[some], "note": notes[some]}, index)
            yield decision.table(given, p, classes, point)
            first += len(p)


def noted(cells: pd.DataFrame, rows: np.ndarray, columns: tuple[Column, ...]) -> list[str]:
    """What is to be said of each row: unseen categories, cells that cannot be read, columns that are not
    there.

    cells: of `columns.blank`; rows: of `columns.coded`.
    """
    lacking = [one.name for one in columns if one.name not in cells]
    always = f"no column {_named(lacking)}" if lacking else ""
    unseen: list[list[str]] = [[] for _ in range(len(rows))]
    unread: list[list[str]] = [[] for _ in range(len(rows))]
    for place, column in enumerate(columns):
        if column.name not in cells:
            continue
        if column.kind == "category":
            wrong, lists = rows[:, place] == columns_of.UNSEEN, unseen
        else:
            wrong, lists = np.isnan(rows[:, place]) & (cells[column.name] != "").to_numpy(), unread
        for row in np.flatnonzero(wrong):
            lists[row].append(column.name)
    parts = zip(unseen, unread, strict=True)
    return [
        "; ".join(
            one
            for one in (
                f"unseen: {_named(strange)}" if strange else "",
                f"no {'number' if len(bad) == 1 else 'numbers'}: {_named(bad)}" if bad else "",
                always,
            )
            if one
        )
        for strange, bad in parts
    ]


def _named(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _files(inputs: Iterable[str | Path]) -> list[str]:
    found: list[str] = []
    for one in inputs:
        path = Path(os.path.expanduser(one))
        if path.is_dir():
            found += [str(file) for file in walk(path) if file.suffix.lower() in sources.SUFFIXES]
        else:
            found.append(str(one))
    if not found:
        raise InputError("no table there; give .csv, .tsv or .parquet files, or folders of them.")
    return found


def _read(source: str, columns: tuple[Column, ...], record: dict) -> Table:
    table = sources.find(source, record.get("encoding", ""), record.get("label", "label"))
    if not any(one.name in table.cells for one in columns):
        wanted = _named([one.name for one in columns])
        raise InputError(f"{source} has none of the columns of the run, which was trained on {wanted}.")
    return table


def _zeros(record: dict, table: Table) -> list[str]:
    return [name for name in record.get("zeros_missing", ()) if name in table.cells]
