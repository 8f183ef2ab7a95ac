"""Where labelled examples of any kind come from, and what every kind of source shares.

A `Source` is a row per example and a way to read the inputs, nothing decoded yet. What a folder or a data set
has to hold is the business of each kind (`runner.pictures.sources`); a CSV file lists files of any kind.
"""

import contextlib
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from runner.cells import original_text
from runner.data.files import SPLIT_WORDS, composed, existing
from runner.errors import InputError, suggest

ROOT = Path(__file__).resolve().parents[2]
"""The folder of this repository, with datasets/ in it."""
COLUMNS = "path,label[,split][,group][,subgroup][,weight]"


class Target(NamedTuple):
    """What one example is to be trained on where that is no single label: boxes, a mask, entities.

    arrays: of the same names, shapes and dtypes for all examples; they stand beside "input" in an
    element of `examples.Data`.
    amounts: int64 (classes,): how many boxes, pixels or entities of each class.
    problems: (kind, message) of what is odd about it, such as boxes without area.
    """

    arrays: dict[str, np.ndarray]
    amounts: np.ndarray
    problems: tuple[tuple[str, str], ...] = ()


FEW_LABELS = 20
"""Labels per class of data that comes along, where nobody says how many: few show what transfer does."""


@dataclass(frozen=True, eq=False)
class Source:
    """Examples as they were found.

    examples: DataFrame, a row per example: path (as a person would look it up), label (class name), split
    ("train", "val", "test", or "" in every row where the source has no splits), group ("" = on its own); of a
    CSV file also subgroup ("" = none) and, where it has them, weight (float, how much the example counts in
    training).
    classes: names, in the order of the codes that a label becomes.
    read: gives the inputs in row order, each as the path of a file or the bytes of one, or as the text itself
    (`runner.text.sources`); as often as called.
    problems: rows (path, kind, message) for what was left out already.
    target: None where each example has one label, which is "" for none. Else it gives an example's `Target`,
    from its row and what the kind of example needs (of texts nothing; of pictures width and height upright
    in pixels, image_size and resize); it is called in several threads, and raises what the reader of that
    kind takes for unusable (`images.Unreadable`). Every label is "" then, and classes are those of boxes,
    masks or entities.
    counted: what the amounts of targets count, in a word for the terminal ("boxes"); "" for nothing to tell.
    remarks: once every target was asked for, what is odd about them as a whole, as rows like `problems`;
    raises InputError for what nobody can mean.
    name: what the user wrote, for messages.
    """

    examples: pd.DataFrame
    classes: tuple[str, ...]
    read: Callable[[], Iterator[str | bytes]]
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    target: Callable[..., Target] | None = None
    counted: str = ""
    remarks: Callable[[], Sequence[tuple[str, str, str]]] = tuple
    name: str = "a source"


def datasets() -> list[str]:
    """Return the names of the dataset builders in datasets/, sorted."""
    return sorted(path.parent.name for path in (ROOT / "datasets").glob("*/*_dataset_builder.py"))


def amount(asked: int | str | None, data: str) -> int | None:
    """How many examples a setting asks for; None for all there are.

    asked: a number; "all", or None as older settings have it; or "auto", which is FEW_LABELS of a data set in
    datasets/ and all of anybody's own.
    data: as `find` takes it.
    """
    if isinstance(asked, str):
        return FEW_LABELS if asked == "auto" and data.strip() in datasets() else None
    return asked


def dataset_folder(name: str) -> Path:
    """Return the folder of a builder that `datasets` names."""
    return ROOT / "datasets" / name


def neighbours(path: Path) -> list[str]:
    """Return what lies beside a path that is not there, written as the person wrote it."""
    with contextlib.suppress(OSError, ValueError):
        return [str(path.parent / name) for name in os.listdir(path.parent) if not name.startswith(".")]
    return []


def not_understood(source: str, path: Path, folder: str, endings: str) -> InputError:
    """The error for a source that names nothing that can be read.

    source: as the person wrote it; path: the same, with ~ expanded; folder: what a folder would have to be,
    and endings: of which a file, both in words.
    """
    names = ", ".join(datasets()) or "none there"
    choices = f"a name from datasets/ ({names}), tfds:NAME, {folder}, or a {endings} file"
    if source and os.path.isfile(path):
        return InputError(
            f"Received data={source!r}, a file that is no {endings}; unpack archives, and give {choices}."
        )
    return InputError(f"Received data={source!r}, which is not there; give {choices}.{nearest(source)}")


def nearest(source: str) -> str:
    """Return " Did you mean 'x'?" for what a source that is not there may have meant, or ""."""
    begins = [name for name in datasets() if source and name.startswith(source.lower())]
    if begins:
        return f" Did you mean {begins[0]!r}?"
    return suggest(source, [*datasets(), *neighbours(Path(os.path.expanduser(source)))])


# ---------------------------------------------------------------- classes


def ordered(labels: set[str]) -> tuple[str, ...]:
    """Sort class names; by value where all are whole numbers, so that 10 comes after 9."""
    numbers = all(label.isdecimal() and len(label) < 1000 for label in labels)  # int() takes 4,300 digits
    return tuple(sorted(labels, key=lambda label: (int(label), label) if numbers else (0, label)))


def in_one_form(labels: Sequence[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Return labels of which no two differ in their Unicode form alone, and a row for each that did."""
    forms: dict[str, set[str]] = {}
    for label in set(labels):
        forms.setdefault(composed(label), set()).add(label)
    twice = sorted(label for label, written in forms.items() if len(written) > 1)
    rows = [
        (
            "",
            "label",
            f"class {label!r} is written in two Unicode forms (NFC, and NFD as in archives from macOS) and "
            "is taken as one",
        )
        for label in twice
    ]
    return [composed(label) if composed(label) in twice else label for label in labels], rows


# ---------------------------------------------------------------- a CSV file


def table(path: Path) -> Source:
    """List the examples of a CSV file with the columns COLUMNS, paths relative to its folder.

    Raises InputError, in one line, for what a person has to put right in it.
    """
    where = f"Received data={str(path)!r}"
    numbers, cells = cells_of(_read_csv(path), where, "path")
    cells = in_splits(cells, numbers, where, needed=("path", "label"))

    folder = os.path.abspath(path.parent)
    files, seen = [], {}
    for line, cell in zip(numbers, cells["path"], strict=True):
        file = os.path.normpath(os.path.join(folder, cell))
        file = existing(file) or existing(os.path.join(folder, original_text(cell))) or file
        if not file.startswith(os.path.join(folder, "")):
            raise InputError(
                f"{where} with path {cell!r} in line {line}, which leaves the folder of the file; put the "
                "file at the top of what it lists, or a link to their folder beside it."
            )
        if file in seen:
            raise InputError(
                f"{where} with path {cell!r} in lines {seen[file]} and {line}; list each file once."
            )
        seen[file] = line
        files.append(file)
    missing = [i for i, file in enumerate(files) if not os.path.isfile(file)]
    if missing:
        first, of = cells["path"].iloc[missing[0]], in_lines([numbers[i] for i in missing])
        hint = " Write / instead of \\." if "\\" in first else ""
        raise InputError(
            f"{where}, of whose {len(files)} files {len(missing)} are missing, such as {first!r} "
            f"({of}); paths are relative to the folder of the file.{hint}"
        )
    examples, problems = in_columns(cells, numbers, where)
    return Source(examples, ordered(set(examples["label"])), lambda: iter(files), problems)


# ---------------------------------------------------------------- cells of a table


def cells_of(
    lines: Sequence[tuple[int, list[str]]], where: str, what: str, separator: str = "comma"
) -> tuple[list[int], pd.DataFrame]:
    """Return the line number of each row and the cells, a column per name in the first line.

    lines: (number, cells); those without a cell that says something are left out. where: how a message
    begins. what: the column beside the label that there must be, "path". separator: of cells, in a word.
    Raises InputError where there are no rows, for names of columns, and for a line of another length.
    """
    lines = [(line, row) for line, row in lines if any(cell.strip() for cell in row)]
    expected = COLUMNS.replace("path", what, 1)
    if not lines:
        raise InputError(f"{where}, which is empty; expected the columns {expected}.")
    header = [name.strip().lower() for name in lines.pop(0)[1]]
    if not {what, "label"} <= set(header) or len(set(header)) < len(header):
        alone = len(header) == 1 and set(header[0]) & set(";\t|,")
        advice = f" Separate the cells with {separator}s." if alone else ""
        raise InputError(
            f"{where} with the columns {', '.join(map(repr, header))}; expected {expected} "
            f"in the first line, each once.{advice}"
        )
    if not lines:
        raise InputError(f"{where}, which has a header and no rows; expected a row per example.")
    for line, row in lines:
        if len(row) != len(header):
            raise InputError(
                f"{where} with {len(row)} cells in line {line} and {len(header)} columns; put cells that "
                f"contain a {separator} in double quotes."
            )
    cells = pd.DataFrame([row for _, row in lines], columns=header, dtype=object)
    return [line for line, _ in lines], cells


def in_splits(cells: pd.DataFrame, numbers: list[int], where: str, needed: Sequence[str]) -> pd.DataFrame:
    """Return the cells with split in our words, and with an empty split, group and subgroup where there are
    none. numbers: line of each row. Raises InputError for an empty cell of those needed and for what is no
    split.
    """
    given = "split" in cells
    for name in (*needed, *["split"] * given):
        empty = [line for line, cell in zip(numbers, cells[name], strict=True) if not cell]
        if empty:
            advice = " or leave the column out to have the examples split here" if name == "split" else ""
            raise InputError(f"{where} with an empty {name} in {in_lines(empty)}; fill it in{advice}.")
    cells = cells.assign(**{name: "" for name in ("split", "group", "subgroup") if name not in cells})
    if given:
        for line, word in zip(numbers, cells["split"], strict=True):
            if word.lower() not in SPLIT_WORDS:
                hint = suggest(word, SPLIT_WORDS)
                raise InputError(
                    f"{where} with split {word!r} in line {line}; allowed: train, val, test.{hint}"
                )
        cells["split"] = [SPLIT_WORDS[word.lower()] for word in cells["split"]]
        if "train" not in set(cells["split"]):
            raise InputError(f"{where}, whose split column has no 'train'; mark the rows to train on.")
    return cells


def in_columns(
    cells: pd.DataFrame, numbers: list[int], where: str
) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """Return `Source.examples` of the cells of `in_splits`, path among them, and its problems. Raises
    InputError for a weight that is none.
    """
    weighted = "weight" in cells
    if weighted:
        cells["weight"] = _weights(cells["weight"], numbers, where)
    for name in ("label", "group", "subgroup"):  # of a table of ours, such as manifest.csv
        cells[name] = [original_text(cell) for cell in cells[name]]
    cells["label"], problems = in_one_form(cells["label"].tolist())
    return cells[["path", "label", "split", "group", "subgroup", *["weight"] * weighted]], problems


def _weights(cells: pd.Series, numbers: list[int], where: str) -> pd.Series:
    weights = pd.to_numeric(cells, errors="coerce").astype("float64")
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise InputError(
            f"{where} with weight {cells.iloc[wrong[0]]!r} in {in_lines([numbers[i] for i in wrong])}; give "
            "a number from 0, how much each example counts in training, or call the column otherwise."
        )
    return weights


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows, each with its line number; cells without surrounding white space."""
    where = f"Received data={str(path)!r}"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(
            f"{where}, which is not a readable CSV file in UTF-8: {' '.join(str(error).split())}."
        ) from None
    return lines


def in_lines(numbers: Sequence[int]) -> str:
    """Where in a table: "line 3", or "lines 3, 5, 8, ..."."""
    shown = ", ".join(map(str, numbers[:3]))
    return f"line{'s' * (len(numbers) > 1)} {shown}{', ...' * (len(numbers) > 3)}"
