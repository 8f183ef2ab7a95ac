"""Where labelled pictures come from: a dataset of this repository, TFDS, a folder, or a CSV file.

Each becomes one `Source`: a row per example and a way to read the encoded pictures, nothing decoded yet.
"""

import contextlib
import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from runner.errors import InputError, suggest

ROOT = Path(__file__).resolve().parents[2]

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_PICTURE_SUFFIXES = set(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpeg .jpg .png .ppm .tif .tiff .webp".split()
)
_NOT_DATA = {
    "thumbs.db",
    "desktop.ini",
    "__macosx",
}  # written by file managers; hidden files are left out as well
COLUMNS = "path,label[,split][,group][,subgroup]"
LAYOUT = "CLASS/picture or SPLIT/CLASS/picture with splits train, val, test"


class Target(NamedTuple):
    """What one picture is to be trained on where that is no single label: boxes, a mask.

    arrays: of the same names, shapes and dtypes for all examples; they go with the resized picture and stand
    beside "input" in an element of `data.Data`.
    amounts: int64 (classes,): how many boxes, or pixels, of each class.
    problems: (kind, message) of what is odd about it, such as boxes without area.
    """

    arrays: dict[str, np.ndarray]
    amounts: np.ndarray
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """Examples as they were found.

    examples: DataFrame, a row per example: path (as a person would look it up), label (class name), split
    ("train", "val", "test", or "" in every row where the source has no splits), group ("" = on its own); of a
    CSV file also subgroup ("" = none).
    read: gives the pictures in row order, each as the path of a file or the bytes of one; as often as called.
    problems: rows (path, kind, message) for what was left out already.
    target: None where each example has one label. Else it gives a picture's `Target`, from its row, its
    width and height upright in pixels, and the image_size and resize of `images.resize`; it is called in
    several threads, and raises `images.Unreadable` for what cannot be used. Every label is "" then, and
    classes are those of boxes or masks.
    """

    examples: pd.DataFrame
    classes: tuple[str, ...]
    read: Callable[[], Iterator[str | bytes]]
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    target: Callable[[int, int, int, int, str], Target] | None = None


def find(source: str | Path) -> Source:
    """Find out what `source` names and list its examples; `data.load` lists the forms."""
    source = str(source).strip()
    if source.startswith("tfds:") or source in datasets():
        from runner.data import builders  # not at the top: TFDS is heavy, and a folder does without it

        return builders.find(source, ROOT)
    path = Path(os.path.expanduser(source))
    # os.path answers False where Path raises: for a name too long, or no name on any system.
    if source and os.path.isdir(path):
        return _folder(path)
    if source and os.path.isfile(path) and path.suffix.lower() == ".csv":
        return _table(path)
    names = ", ".join(datasets()) or "none there"
    choices = f"a name from datasets/ ({names}), tfds:NAME, a folder of images, or a .csv file"
    if source and os.path.isfile(path):
        raise InputError(
            f"Received data={source!r}, a file that is no .csv; unpack archives, and give {choices}."
        )
    begins = [name for name in datasets() if source and name.startswith(source.lower())]
    hint = f" Did you mean {begins[0]!r}?" if begins else suggest(source, [*datasets(), *_neighbours(path)])
    raise InputError(f"Received data={source!r}, which is not there; give {choices}.{hint}")


def datasets() -> list[str]:
    """Return the names of the dataset builders in datasets/, sorted."""
    return sorted(path.parent.name for path in (ROOT / "datasets").glob("*/*_dataset_builder.py"))


def _neighbours(path: Path) -> list[str]:
    """Return what lies beside a path that is not there, written as the person wrote it."""
    with contextlib.suppress(OSError, ValueError):
        return [str(path.parent / name) for name in os.listdir(path.parent) if not name.startswith(".")]
    return []


# ---------------------------------------------------------------- a folder of images


def _folder(root: Path) -> Source:
    folders, files = children(root)
    loose = [name for name in files if Path(name).suffix.lower() in _PICTURE_SUFFIXES]
    if not folders:
        found = f"{len(loose)} pictures without class folders" if loose else "no pictures"
        raise InputError(f"Received data={str(root)!r}, a folder with {found}; expected {LAYOUT}.")
    if loose:
        raise InputError(
            f"Received data={str(root)!r} with pictures beside its folders, such as {loose[0]!r}; "
            f"expected {LAYOUT}: move them into a class folder or away."
        )
    with_classes = [name for name in folders if name.lower() in SPLIT_WORDS and children(root / name)[0]]
    if not with_classes:
        if "train" in folders and all(name.lower() in SPLIT_WORDS for name in folders):
            raise InputError(
                f"Received data={str(root)!r}, whose split folders ({', '.join(folders)}) hold no class "
                f"folders; expected {LAYOUT}."
            )
        if len(folders) == 1 and children(root / folders[0])[0]:
            raise InputError(
                f"Received data={str(root)!r}, which holds one folder that holds more; did you mean "
                f"{str(root / folders[0])!r}? Expected {LAYOUT}."
            )
        return _from_files(root, [(name, "", name) for name in folders])

    others = [name for name in folders if name not in with_classes]
    if others:
        raise InputError(
            f"Received data={str(root)!r}, which mixes split folders ({', '.join(with_classes)}) with other "
            f"folders ({', '.join(others[:5])}); expected {LAYOUT}."
        )
    splits = [SPLIT_WORDS[name.lower()] for name in with_classes]
    if len(set(splits)) < len(splits) or "train" not in splits:
        raise InputError(
            f"Received data={str(root)!r} with split folders {', '.join(with_classes)}; expected one train "
            "folder and at most one each of val (or validation) and test."
        )
    classes = {name: set(children(root / name)[0]) for name in with_classes}
    everything = set().union(*classes.values())
    for name, found in classes.items():
        if found != everything:
            raise InputError(
                f"Received data={str(root)!r}, whose folder {name!r} lacks class folders that another split "
                f"has: {', '.join(sorted(everything - found)[:5])}; the splits need the same classes."
            )
    places = [
        (f"{name}/{class_name}", split, class_name)
        for name, split in zip(with_classes, splits)
        for class_name in sorted(classes[name])
    ]
    return _from_files(root, places)


def _from_files(root: Path, places: list[tuple[str, str, str]]) -> Source:
    """List the files of class folders, given as (folder below root, split, class)."""
    rows, files = [], []
    for place, split, label in places:
        if printable(label) != label:
            raise InputError(
                f"Received a class folder {printable(label)!r} whose name is not UTF-8; rename it."
            )
        deeper, names = children(root / place)
        nested = [name for name in deeper if any(children(root / place / name))]
        if nested:
            raise InputError(
                f"Received data={str(root)!r} with {place + '/' + nested[0]!r}, a folder inside a class "
                f"folder; expected {LAYOUT}: move its files up."
            )
        for name in names:
            rows.append((printable(f"{place}/{name}"), label, split, ""))
            files.append(str(root / place / name))
    if not rows:
        raise InputError(
            f"Received data={str(root)!r}, whose folders are all empty; expected pictures in them."
        )
    examples = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
    return Source(examples, _ordered({label for _, _, label in places}), lambda: iter(files))


def children(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the regular files in a folder, sorted, without hidden ones."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in _NOT_DATA:
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():  # no pipes or sockets, which would block the reader
                    files.append(entry.name)
    except OSError as error:
        raise InputError(
            f"Received the folder {str(folder)!r}, which cannot be listed: {error.strerror}."
        ) from None
    return sorted(folders), sorted(files)


def printable(name: str) -> str:
    """Return a file name that can be written as UTF-8; Linux allows others."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _ordered(labels: set[str]) -> tuple[str, ...]:
    """Sort class names; by value where all are whole numbers, so that 10 comes after 9."""
    numbers = all(label.isdecimal() and len(label) < 1000 for label in labels)  # int() takes 4,300 digits
    return tuple(sorted(labels, key=lambda label: (int(label), label) if numbers else (0, label)))


# ---------------------------------------------------------------- a CSV file


def _table(path: Path) -> Source:
    header, lines = _read_csv(path)
    where = f"Received data={str(path)!r}"
    for line, row in lines:
        if len(row) != len(header):
            raise InputError(
                f"{where} with {len(row)} cells in line {line} and {len(header)} columns; put cells that "
                "contain a comma in double quotes."
            )
    numbers = [line for line, _ in lines]
    table = pd.DataFrame([row for _, row in lines], columns=header, dtype=object)

    for name in ("path", "label", "split"):
        empty = [line for line, cell in zip(numbers, table[name]) if not cell] if name in table else []
        if empty:
            advice = " or leave the column out to have the examples split here" if name == "split" else ""
            raise InputError(f"{where} with an empty {name} in {_lines(empty)}; fill it in{advice}.")
    for name in ("split", "group", "subgroup"):
        if name not in table:
            table[name] = ""
    if "split" in header:
        for line, word in zip(numbers, table["split"]):
            if word.lower() not in SPLIT_WORDS:
                hint = suggest(word, SPLIT_WORDS)
                raise InputError(
                    f"{where} with split {word!r} in line {line}; allowed: train, val, test.{hint}"
                )
        table["split"] = [SPLIT_WORDS[word.lower()] for word in table["split"]]
        if "train" not in set(table["split"]):
            raise InputError(f"{where}, whose split column has no 'train'; mark the rows to train on.")

    folder = os.path.abspath(path.parent)
    files, seen = [], {}
    for line, cell in zip(numbers, table["path"]):
        file = os.path.normpath(os.path.join(folder, cell))
        if not file.startswith(os.path.join(folder, "")):
            raise InputError(
                f"{where} with path {cell!r} in line {line}, which leaves the folder of the file; put the "
                "file at the top of the pictures, or a link to their folder beside it."
            )
        if file in seen:
            raise InputError(
                f"{where} with path {cell!r} in lines {seen[file]} and {line}; list each file once."
            )
        seen[file] = line
        files.append(file)
    missing = [i for i, file in enumerate(files) if not os.path.isfile(file)]
    if missing:
        first = table["path"].iloc[missing[0]]
        hint = " Write / instead of \\." if "\\" in first else ""
        raise InputError(
            f"{where}, of whose {len(files)} files {len(missing)} are missing, such as {first!r} "
            f"({_lines([numbers[i] for i in missing])}); paths are relative to the folder of the file.{hint}"
        )
    examples = table[["path", "label", "split", "group", "subgroup"]]
    return Source(examples, _ordered(set(examples["label"])), lambda: iter(files))


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows, each with its line number; cells without surrounding white space."""
    where = f"Received data={str(path)!r}"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(
            f"{where}, which is not a readable CSV file in UTF-8: {' '.join(str(error).split())}."
        ) from None
    lines = [(line, row) for line, row in lines if any(row)]
    if not lines:
        raise InputError(f"{where}, which is empty; expected the columns {COLUMNS}.")
    header = [name.lower() for name in lines.pop(0)[1]]
    if not {"path", "label"} <= set(header) or len(set(header)) < len(header):
        separator = (
            " Separate the cells with commas." if len(header) == 1 and set(header[0]) & set(";\t|") else ""
        )
        raise InputError(
            f"{where} with the columns {', '.join(map(repr, header))}; expected {COLUMNS} "
            f"in the first line, each once.{separator}"
        )
    if not lines:
        raise InputError(f"{where}, which has a header and no rows; expected a row per picture.")
    return header, lines


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:3]))
    return f"line{'s' * (len(numbers) > 1)} {shown}{', ...' * (len(numbers) > 3)}"
