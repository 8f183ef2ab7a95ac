"""Where pairs of texts and their translations come from: a table with two columns, a folder with files whose
lines belong together, a dataset of this repository, or TFDS.

Each becomes one `Translations`, a `Source` with a row per pair:

    found = translations.find("~/multi30k", "en-de")
    sources, targets = list(found.read()), found.targets

Nothing of a text is changed but for the white space at its ends.
"""

import gzip
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from runner.data.files import Row, children, printable
from runner.data.source import Source, Target, datasets, in_splits, nearest
from runner.errors import InputError
from runner.text import tables
from runner.text.decoding import Unreadable, decode
from runner.text.entities import split_in_name

UNIT = "pairs"
COLUMNS = "source,target[,split][,group][,subgroup]"
AUTOMATIC = "auto"
ENGLISH = "en"
LANGUAGE = r"[a-z]{2,3}(?:[-_](?:[A-Za-z]{2}|[A-Za-z]{4}|\d{3}))?"
"""How a language is written, as an ending of files too: en, de, pt-BR, zh_Hans."""
_FILE = re.compile(rf"(?P<name>.+)\.(?P<language>(?!gz){LANGUAGE})(?P<packed>\.gz)?")
FORMS = (
    "a .csv, .tsv or .jsonl file with source and target; a folder with files whose lines belong together, "
    "such as train.en and train.de (or train.en.gz), val.en, test.en; a name from datasets/ such as "
    "composed_language; or tfds:NAME of a translation"
)
MOST_UNPACKED = 2**31
"""Bytes of one file, unpacked."""


@dataclass(frozen=True, eq=False)
class Translations(Source):
    """A `Source` of pairs: label is "" in every row, and there are no classes. `read` gives the texts to
    translate; targets: their translations, in row order. languages: what both are called, "" where the source
    does not say.
    """

    targets: Sequence[str] = ()
    languages: tuple[str, str] = ("", "")


class Pair(NamedTuple):
    """A text and its translation as they were read."""

    path: str
    source: str
    target: str
    split: str
    group: str = ""
    subgroup: str = ""


def find(source: str | Path, languages: str = AUTOMATIC) -> Translations:
    """Find out what `source` names and list its pairs, in a fixed order.

    source: a table with the columns COLUMNS (`tables.find` says how each form is read); a folder with a file
    for each split and language, NAME.LANGUAGE or NAME.LANGUAGE.gz (LANGUAGE as `LANGUAGE` has it), whose
    name says the split (train, val or dev, test) and whose line n is the translation of line n of the other;
    a name from datasets/, or `tfds:NAME[/config][:version]` with one `Translation`, or two texts source and
    target. Splits that are given are kept.
    languages: from which into which, "en-de", among those of a folder or of TFDS; "auto" takes what a set of
    TFDS calls its input, and in a folder of two languages English first. Tables say it themselves.

    In `Source.examples` a path is FILE:LINE or NAME/SPLIT[NUMBER]. Pairs with nothing on one side are left
    out and named in `problems` (kind "unreadable").
    Raises InputError, in one line, for what a person can put right: bytes that are no text, files of other
    lengths or without their counterpart, columns that lack, languages that are not there.
    """
    name = str(source).strip()
    if name.startswith("tfds:") or name in datasets():
        return _source(*_of_set(name, _wanted(languages)), name)
    path = Path(os.path.expanduser(name))
    # os.path answers False where Path raises: for a name too long, or no name on any system.
    if name and os.path.isdir(path):
        return _source(*_of_folder(path, _wanted(languages)), name)
    if name and os.path.isfile(path) and path.suffix.lower() in tables.FORMS:
        return _source(_of_table(path), ("", ""), name)
    if name and os.path.isfile(path):
        raise InputError(f"Received data={name!r}, a file of another form; give {FORMS}.")
    raise InputError(f"Received data={name!r}, which is not there; give {FORMS}.{nearest(name)}")


def _wanted(languages: str) -> tuple[str, str] | None:
    """What a setting says: "en-de" as ("en", "de"), None where it leaves it to the data."""
    if languages == AUTOMATIC:
        return None
    found = re.fullmatch(rf"({LANGUAGE})-({LANGUAGE})", languages)
    if found is None or found[1] == found[2]:
        raise InputError(
            f"Received languages={languages!r}; give the one to translate from and the one into, as en-de, "
            "or auto."
        )
    return found[1], found[2]


def _source(pairs: list[Pair], languages: tuple[str, str], name: str) -> Translations:
    problems: list[Row] = []
    whole = []
    for pair in pairs:
        empty = [side for side in ("source", "target") if not getattr(pair, side).strip()]
        if empty:
            problems.append((pair.path, "unreadable", f"{pair.path!r} has no {empty[0]} and is left out"))
        else:
            whole.append(pair)
    if not whole:
        raise InputError(
            f"Received data={name!r} with {len(pairs)} pairs, none with both sides; give some that have both."
        )
    columns = ["path", "label", "split", "group", "subgroup"]
    rows = [(one.path, "", one.split, one.group, one.subgroup) for one in whole]
    sources = [one.source.strip() for one in whole]
    nothing = Target({}, np.zeros(0, np.int64))
    return Translations(
        pd.DataFrame(rows, columns=columns, dtype=object),
        (),
        lambda: iter(sources),
        problems,
        target=lambda row: nothing,
        name=name,
        targets=[one.target.strip() for one in whole],
        languages=languages,
    )


# ---------------------------------------------------------------- tables


def _of_table(path: Path) -> list[Pair]:
    where, name = f"Received data={str(path)!r}", printable(path.name)
    text, form = tables.read(path, where), tables.FORMS[path.suffix.lower()]
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        numbers, cells = _objects(text, where)
    else:
        separator = "tab" if path.suffix.lower() == ".tsv" else "comma"
        numbers, cells = _cells(form(text, where), where, separator)
    others = [one for one in cells if one not in ("source", "target")]
    cells = cells.assign(**{one: cells[one].str.strip() for one in others})
    cells = in_splits(cells, numbers, where, needed=())
    return [
        Pair(f"{name}:{number}", row.source, row.target, row.split, row.group, row.subgroup)
        for number, row in zip(numbers, cells.itertuples(), strict=True)
    ]


def _objects(text: str, where: str) -> tuple[list[int], pd.DataFrame]:
    keys = ("source", "target", "split", "group", "subgroup")
    expected = 'source and target, such as {"source": "a dog", "target": "ein Hund"}'
    numbers, rows = [], []
    for number, row in tables.objects(text, where, keys[:2], expected):
        # As a text, so that white space stays and nothing but a string is taken.
        cells = {key: tables.as_cell("text", row[key], number, where) for key in keys[:2]}
        rows.append(
            cells | {key: tables.as_cell(key, row[key], number, where) for key in keys[2:] if key in row}
        )
        numbers.append(number)
    if not rows:
        raise InputError(f"{where}, which is empty; expected a line for each pair with {expected}.")
    there = [key for key in keys if any(key in row for row in rows)]
    cells = pd.DataFrame([[row.get(key, "") for key in there] for row in rows], columns=there, dtype=object)
    return numbers, cells


def _cells(lines: tables.Lines, where: str, separator: str) -> tuple[list[int], pd.DataFrame]:
    lines = [(number, row) for number, row in lines if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if not {"source", "target"} <= set(header) or len(set(header)) < len(header):
        received = f"with the columns {', '.join(map(repr, header))}" if header else "which is empty"
        raise InputError(
            f"{where} {received}; expected {COLUMNS} in the first line, each once, separated by {separator}s."
        )
    if len(lines) == 1:
        raise InputError(f"{where}, which has a header and no rows; expected a row per pair.")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{where} with {len(row)} cells in line {number} and {len(header)} columns; put cells that "
                f"contain a {separator} in double quotes."
            )
    cells = pd.DataFrame([row for _, row in lines[1:]], columns=header, dtype=object)
    return [number for number, _ in lines[1:]], cells


# ---------------------------------------------------------------- files whose lines belong together


def _of_folder(root: Path, wanted: tuple[str, str] | None) -> tuple[list[Pair], tuple[str, str]]:
    where = f"Received data={str(root)!r}"
    files: dict[str, dict[str, str]] = {}
    for file in children(root)[1]:
        parts = _FILE.fullmatch(file)
        if parts and split_in_name(parts["name"]):
            if files.setdefault(parts["name"], {}).setdefault(parts["language"], file) != file:
                raise InputError(f"{where} with {file!r} packed and unpacked; keep one of both.")
    there = sorted({language for some in files.values() for language in some})
    if not files:
        raise InputError(
            f"{where}, a folder without files whose names say a split and a language; give {FORMS}."
        )
    first, second = _chosen(wanted, there, where)
    by_split: dict[str, str] = {}
    pairs: list[Pair] = []
    for name, some in files.items():
        both = [one for one in (first, second) if one in some]
        if not both:
            continue
        if len(both) == 1:
            lacking = second if both == [first] else first
            raise InputError(
                f"{where} with {some[both[0]]!r} and no {name}.{lacking}; add it, or take both out."
            )
        split = split_in_name(name)
        if split in by_split:
            raise InputError(
                f"{where} with {by_split[split]!r} and {name!r}, which are both {split} by name; keep the "
                "files of one."
            )
        by_split[split] = name
        pairs += _aligned(root, some[first], some[second], split, where)
    if "train" not in by_split and len(by_split) == 1:
        return [pair._replace(split="") for pair in pairs], (first, second)
    if "train" not in by_split:
        raise InputError(f"{where} with files for {' and '.join(by_split)} and none for train; add that.")
    alone = len(by_split) == 1
    return [pair._replace(split="") for pair in pairs] if alone else pairs, (first, second)


def _chosen(wanted: tuple[str, str] | None, there: Sequence[str], where: str) -> tuple[str, str]:
    """The two languages of a translation, the one that is translated first."""
    if wanted is not None and set(wanted) <= set(there):
        return wanted
    if wanted is None and len(there) == 2 and ENGLISH in there:
        return ENGLISH, next(one for one in there if one != ENGLISH)
    example = "-".join((*there, "de", "en")[:2])
    asked = "" if wanted is None else f", not {' and '.join(wanted)}"
    raise InputError(
        f"{where} with the languages {', '.join(there) or 'none'}{asked}; say from which into which, such as "
        f"languages={example!r}."
    )


def _aligned(root: Path, first: str, second: str, split: str, where: str) -> list[Pair]:
    sources, targets = (_lines(root / one, where) for one in (first, second))
    if len(sources) != len(targets):
        raise InputError(
            f"{where} with {len(sources):,} lines in {first!r} and {len(targets):,} in {second!r}; line n of "
            "one has to be the translation of line n of the other."
        )
    return [
        Pair(f"{printable(first)}:{number}", *both, split)
        for number, both in enumerate(zip(sources, targets, strict=True), 1)
    ]


def _lines(path: Path, where: str) -> list[str]:
    """The lines of a text, packed by gzip or not; nothing but line ends parts them."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                raw = file.read(MOST_UNPACKED + 1)
        else:
            raw = path.read_bytes()
        if len(raw) > MOST_UNPACKED:
            raise InputError(f"{where} with {path.name!r} of more than 2 GB; give less at once.")
        lines = re.split("\r\n|\r|\n", decode(raw))
    except Unreadable as error:
        raise InputError(f"{where} with {path.name!r}, which {error}.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where} with {path.name!r}, which cannot be read ({reason}).") from None
    return lines[:-1] if lines[-1] == "" else lines


# ---------------------------------------------------------------- TFDS


def _of_set(source: str, wanted: tuple[str, str] | None) -> tuple[list[Pair], tuple[str, str]]:
    import tensorflow_datasets as tfds  # not at the top: it is heavy, and files do without it

    from runner.data import builders

    where = f"Received data={source!r}"

    def keys(source: str, features: Any) -> tuple[tuple[str, ...], list[str]]:
        """Where among the features of a builder the texts are, and their languages."""
        items = dict(features.items()) if hasattr(features, "items") else {}
        if isinstance(features, tfds.features.Translation):
            return (), list(items)
        inner = [key for key, one in items.items() if isinstance(one, tfds.features.Translation)]
        if len(inner) == 1:
            return (inner[0],), list(items[inner[0]].keys())
        if all(isinstance(items.get(key), tfds.features.Text) for key in ("source", "target")):
            return (), ["source", "target"]
        raise InputError(
            f"{where} with the features {', '.join(items)}; expected a translation, or the texts source and "
            "target: choose a dataset for translation."
        )

    builder, (place, there), chosen = builders.prepared(source, keys)
    given = builder.info.supervised_keys
    usual = given if given is not None and set(given) <= set(there) else None
    if wanted is None and (usual is not None or len(there) == 2):
        first, second = usual or there
    else:
        first, second = _chosen(wanted, there, where)
    pairs = []
    for name, split in chosen.items():
        for number, row in enumerate(builders.read_split(builder, name, None)):
            path = f"{builder.name}/{name}[{number}]"
            texts = row[place[0]] if place else row
            try:
                text, target = (decode(texts[one]) for one in (first, second))
            except Unreadable as error:
                raise InputError(f"{where}, whose text {path!r} {error}; choose another dataset.") from None
            group = row.get("group", b"")
            of = group.decode() if isinstance(group, bytes) else str(group)
            pairs.append(Pair(path, text, target, split if len(chosen) > 1 else "", of))
    return pairs, (first, second)
