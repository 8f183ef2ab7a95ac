"""Predict with a finished run of any template: inputs of any number into one CSV file.

    python -m runner predict RUN ~/new_photos --output found.csv

The template's `predict(run, inputs, *, folder=None, batch_size=64)` does the work: it takes the inputs as
they are (what they may be is the template's affair) and yields tables (pd.DataFrame) of the same columns,
some inputs each, so that millions need no more memory than a few. The first column names the input, `note`
says what was remarked on it, and all others are the answer; one input may have several rows, and one that
cannot be read has a row without an answer. The index is the number of the input, from 0. What the template
draws or writes beside its tables goes into `folder`, which it makes when it has something; None draws
nothing. In Python `pd.concat(train.predict(run, inputs))` is the whole table.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import ModuleType

import pandas as pd

from runner import atomic, cells
from runner.errors import InputError

REMEMBERED = 10
"""Of so many inputs that cannot be read the result has the reason."""


@dataclass
class Result:
    """What `run` wrote."""

    output: Path
    folder: Path | None = None
    """With what was drawn, beside `output` and of its name; None where nothing was."""
    predicted: int = 0
    """Inputs with an answer."""
    rows: int = 0
    number_unreadable: int = 0
    unreadable: list[str] = field(default_factory=list)
    """"input: reason" of the first ten that could not be read."""
    only: pd.DataFrame | None = None
    """The whole table, where there was one input."""


def check(output: str | Path, batch_size: int) -> Path:
    """The file to write; raises InputError where it is there already, or no folder for it."""
    output = atomic.place(output, "--output")
    if output.exists():
        raise InputError(f"--output {output} exists; give another name, or move it away.")
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}; make it first.")
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size} cannot be used; give a whole number of at least 1.")
    return output


def drawings(output: Path) -> Path:
    """The folder beside the CSV file: its name without .csv."""
    return output.with_suffix("") if output.suffix else output.with_name(f"{output.name}_drawn")


def run(
    template: ModuleType,
    run_folder: str | Path,
    inputs: Sequence[str],
    output: str | Path,
    batch_size: int = 64,
) -> Result:
    """Write `output`, and what is drawn into the folder of its name, whole or not at all.

    template: the train module of the run's template (`runner.runs.template`).
    Raises InputError for an `output` that cannot be written, and what the template raises.
    """
    output = check(output, batch_size)
    result, beside = Result(output), drawings(output)
    unfinished = Path(tempfile.mkdtemp(dir=output.absolute().parent, prefix=f".{output.stem}-"))
    drawn = unfinished / "drawn"
    try:
        tables = iter(template.predict(run_folder, inputs, folder=drawn, batch_size=batch_size))
        first = next(tables)  # the template looks at the run and at the inputs before there is a file
        if drawn.exists() and beside.exists():
            raise InputError(f"--output {output}: {beside} exists; give another name, or move it away.")

        def save(temporary: Path) -> None:
            _write(temporary, chain([first], tables), result)
            if drawn.exists():
                os.replace(drawn, beside)
                result.folder = beside

        try:
            atomic.write(output, save)
        except BaseException:  # the disk was full at the last moment: nothing stays of it
            if result.folder is not None:
                shutil.rmtree(result.folder, ignore_errors=True)
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return result


def _write(path: Path, tables: Iterable[pd.DataFrame], result: Result) -> None:
    """Append the tables to one CSV file, in the six digits that it always had, and count what is in them."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        for number, table in enumerate(_whole(tables)):
            written = cells.neutral(table)
            written.to_csv(file, index=False, header=number == 0, float_format="%.6g", lineterminator="\r\n")
            _count(table, result)


def _whole(tables: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    columns = None
    for table in tables:
        if columns is not None and list(table.columns) != columns:
            raise ValueError(f"predict gave tables with the columns {columns} and {list(table.columns)}.")
        columns = list(table.columns)
        yield table


def _count(table: pd.DataFrame, result: Result) -> None:
    name = table.columns[0]
    answer = table.drop(columns=[name, "note"], errors="ignore")
    unreadable = answer.isna().all(axis=1)
    result.rows += len(table)
    result.predicted += table.index[~unreadable].nunique()
    result.number_unreadable += int(unreadable.sum())
    for row in table[unreadable].head(REMEMBERED - len(result.unreadable)).to_dict("records"):
        result.unreadable.append(f"{row[name]}: {row.get('note', '')}")
    both = result.predicted + result.number_unreadable
    result.only = table if both == 1 else None


def in_words(table: pd.DataFrame) -> str:
    """The answer to one input, for a terminal.

    table: all its rows, as a template's `predict` gives them. Read are the columns that templates share:
    prediction, confidence, p:<class> and threshold:<class>; class and score, a row each, with form what the
    input has there; share:<class>; else every column.
    """
    row, columns = table.iloc[0], list(table.columns)
    if "prediction" in columns:
        shares = {name[2:]: row[name] for name in columns if name.startswith("p:")}
        others = sorted(((p, name) for name, p in shares.items() if name != row["prediction"]), reverse=True)
        drawn = "".join(
            f"; {name[10:]} from {_percent(row[name])} on"
            for name in columns
            if name.startswith("threshold:")
        )
        answer = f"{row['prediction']} ({_percent(row['confidence'])} sure{drawn})"
        if others:
            answer += "; next " + ", ".join(f"{name} {_percent(p)}" for p, name in others[:2])
    elif {"class", "score", "form"} <= set(columns):
        found = table.dropna(subset=["class"])
        answer = "; ".join(
            f"{one['form']} ({one['class']}, {_percent(one['score'])})" for one in found.to_dict("records")
        )
        answer = answer or "nothing found"
    elif {"class", "score"} <= set(columns):
        found = table.dropna(subset=["class"])
        counts = found.groupby("class", observed=True)["score"].agg(["size", "max"])
        answer = "; ".join(
            f"{one.size} × {one.Index} (surest {_percent(one.max)})"
            for one in counts.itertuples(index=True, name="Found")
        )
        answer = answer or "nothing found"
    elif any(name.startswith("share:") for name in columns):
        shares = {name[6:]: row[name] for name in columns if name.startswith("share:")}
        there = sorted(((share, name) for name, share in shares.items() if share > 0), reverse=True)
        answer = ", ".join(f"{name} {_percent(share)}" for share, name in there)
    else:
        answer = ", ".join(f"{name} {row[name]}" for name in columns[1:] if name != "note")
    note = f" ({row['note']})" if row.get("note") else ""
    return f"{row[columns[0]]}: {answer}{note}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
