"""Where texts with entities come from: tagged tokens in columns, JSON Lines with spans of characters, a
dataset of this repository, or TFDS.

Each becomes one `Entities`, a `Source` with a row per text whose `target` brings its spans:

    found = entities.find("~/wnut17")
    texts, spans = list(found.read()), found.spans

An entity is a span (start, end, type) of characters (code points) of the text as it was written, the end
exclusive.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from runner.data import files
from runner.data.files import Row, children, printable
from runner.data.source import Source, Target, datasets, in_one_form, in_splits, nearest, ordered
from runner.errors import InputError
from runner.scores.entities import Span
from runner.text import conll, entity_checks, tables

UNIT = "texts"
COLUMNS = set(".conll .bio .iob .iob2 .bioes .tsv .txt .annotated .train .dev .test .testa .testb".split())
"""Endings of files with a token and its tag a line (`conll.read`)."""
OBJECTS = {".jsonl", ".ndjson"}
FORMS = (
    "a file with a token and its tag a line (.conll, .bio, .tsv, .txt), a .jsonl file with text and "
    "entities, a folder with train, val (dev) and test files of these forms, these files with commas between "
    "them, a name from datasets/ such as composed_notes, or tfds:NAME"
)
KEYS = 'text and entities (or spans), such as {"text": "In Rome", "entities": [[3, 7, "place"]]}'
SPLIT_WORDS = files.SPLIT_WORDS | {"development": "val", "testa": "val", "testb": "test"}
"""What a word in the name of a file says; testa and testb are CoNLL 2003's."""
DOCUMENTS = 10
"""From so many marked documents on each is a group: of fewer no three splits come out."""


@dataclass(frozen=True, eq=False)
class Entities(Source):
    """A `Source` of texts: label is "" in every row, and classes are the types of entities.

    spans: of each row, sorted, without overlaps and without white space at their ends. `target(row)` gives
    the same as the arrays "spans" int64 (most, 2) and "classes" int64 (most,), indices into classes, both -1
    in rows without an entity, where `most` is the most that one text has; amounts count entities by type.
    words: of each row int64 (n, 2), where its tokens begin and end; (0, 2) of JSON Lines and TFDS, which have
    none.
    problems name the texts that stand in two splits, so that `data.checks.copies` has nothing to add.
    """

    spans: Sequence[Sequence[Span]] = ()
    words: Sequence[np.ndarray] = ()


class Text(NamedTuple):
    """A text as it was read."""

    path: str
    text: str
    split: str
    group: str
    subgroup: str
    words: np.ndarray
    spans: list[Span]


def find(source: str | Path | Sequence[str | Path]) -> Entities:
    """Find out what `source` names and list its texts with their entities: a row each, in a fixed order.

    source: a file, a folder, several files, as a list or in one string with commas between, or a name from
    datasets/ or `tfds:NAME[/config][:version]` (`entity_sets.find`), whose splits are kept. A file with an
    ending of COLUMNS is read by `conll.read`: a row per sentence, whose text is its tokens joined by one
    space; where lines mark documents, DOCUMENTS or more in all files, the document is the group. JSON Lines
    has an object per text with text, entities or spans (a list of [start, end, label] or {"start", "end",
    "label"}), and perhaps split, group and subgroup. In a folder, and of several files, a word of each name
    says the split: train, dev or val, test (wnut17train.conll, emerging.test.annotated); a folder with one
    file needs none.

    In `Source.examples` a path is FILE:LINE, the line where the text begins, or NAME/SPLIT[NUMBER] of a
    dataset. What was done and what is odd stands in `problems`: the kinds of `entity_checks`, and "missing"
    for files that are left out.

    Raises InputError, in one line, for what a person can put right: bytes that are no text, an empty file, a
    line of other columns, features of another kind, tags of no scheme, spans that are none, leave their text
    or overlap, a type that train lacks where splits are given, and texts without a single entity.
    """
    shown = source if isinstance(source, str | Path) else ",".join(map(str, source))
    name = str(shown).strip()
    if name.startswith("tfds:") or name in datasets():
        return _source(_of_set(name), [], name)
    given, problems = _files(source if isinstance(source, str | Path) else list(source), name)
    found: list[Text] = []
    for path, split in given:
        read = _objects if path.suffix.lower() in OBJECTS else _columns
        texts, odd = read(path, split)
        found += texts
        problems += odd
    return _source(_by_document(found), problems, name)


# ---------------------------------------------------------------- files


def split_in_name(name: str) -> str:
    """The split that the words of a file's name say, "" for none or for several: val of "emerging.dev.conll".

    A word may have "set", "data", "split" or "file" behind it ("trainset.txt").
    """
    words = re.findall(r"[^\W\d_]+", name.lower())
    words += [re.sub("(set|data|split|file)$", "", word) for word in words]
    said = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return said.pop() if len(said) == 1 else ""


def _files(source: str | Path | list[str | Path], name: str) -> tuple[list[tuple[Path, str]], list[Row]]:
    """Return (path, split) of the files that a source names, split "" for a single one, and problems."""
    paths = [_path(one) for one in source] if isinstance(source, list) else [_path(source)]
    where = f"Received data={name!r}"
    # os.path answers False where Path raises: for a name too long, or no name on any system.
    if len(paths) == 1 and not os.path.exists(paths[0]) and "," in name:
        paths = [_path(one) for one in name.split(",") if one.strip()]
    paths = paths or [_path(name)]
    if len(paths) == 1 and name and os.path.isdir(paths[0]):
        return _in_folder(paths[0], where)
    for path in paths:
        if not name or not os.path.isfile(path):
            what = "a folder among files" if name and os.path.isdir(path) else "which is not there"
            hint = nearest(str(path))
            this = "" if len(paths) == 1 else f" with {str(path)!r}"
            raise InputError(f"{where}{this}, {what}; give {FORMS}.{hint}")
        if path.suffix.lower() not in COLUMNS | OBJECTS:
            raise InputError(f"{where} with {path.name!r}, a file of another form; give {FORMS}.")
    if len(paths) == 1:
        return [(paths[0], "")], []
    unsaid = [path.name for path in paths if not split_in_name(path.name)]
    if unsaid:
        raise InputError(
            f"{where} with {unsaid[0]!r}, whose name does not say its split; have one of the words train, "
            "val (dev) and test in the name of each file."
        )
    return _each_once(paths, where), []


def _path(one: str | Path) -> Path:
    return Path(os.path.expanduser(str(one).strip()))


def _in_folder(root: Path, where: str) -> tuple[list[tuple[Path, str]], list[Row]]:
    """The files of a folder whose names say a split, or the one that there is."""
    folders, names = children(root)
    names = [name for name in names if Path(name).suffix.lower() in COLUMNS | OBJECTS]
    said = [name for name in names if split_in_name(name)]
    if len(names) == 1:
        return [(root / names[0], "")], []
    if not said:
        shown = ", ".join(map(repr, names[:3]))
        received = f"whose files {shown} say no split" if names else "without such files"
        inner = f" Did you mean {str(root / folders[0])!r}?" if len(folders) == 1 and not names else ""
        raise InputError(
            f"{where}, a folder {received}; expected one file each, called train, val (dev) and test, "
            f"ending in .conll, .bio, .tsv, .txt or .jsonl.{inner}"
        )
    others = [printable(name) for name in names if name not in said]
    message = f"the names of {len(others)} files say no split, and they are left out: {', '.join(others[:5])}"
    return _each_once([root / name for name in said], where), [("", "missing", message)] if others else []


def _each_once(paths: list[Path], where: str) -> list[tuple[Path, str]]:
    """Files with their splits, train first; InputError for two of one split, and for none of train."""
    by_split: dict[str, Path] = {}
    for path in paths:
        split = split_in_name(path.name)
        if split in by_split:
            raise InputError(
                f"{where} with {by_split[split].name!r} and {path.name!r}, which are both {split} by name; "
                "keep or give one file for each split."
            )
        by_split[split] = path
    if "train" not in by_split:
        raise InputError(f"{where} with files for {' and '.join(by_split)} and none for train; add that.")
    return [(by_split[split], split) for split in ("train", "val", "test") if split in by_split]


# ---------------------------------------------------------------- the forms


def _columns(path: Path, split: str) -> tuple[list[Text], list[Row]]:
    """The sentences of a file in columns; group is the document, where the file marks any."""
    where, name = f"Received data={str(path)!r}", printable(path.name)
    sentences, problems = conll.read(tables.read(path, where), where, name)
    texts = [
        Text(
            f"{name}:{one.line}",
            one.text,
            split,
            f"{name} document {one.document}" if one.document else "",
            "",
            one.words,
            one.spans,
        )
        for one in sentences
    ]
    return texts, problems


def _by_document(texts: list[Text]) -> list[Text]:
    """Texts without documents as groups where these are few; groups of JSON Lines stay."""
    documents = {text.group for text in texts if text.group and len(text.words)}
    if len(documents) >= DOCUMENTS:
        return texts
    return [text._replace(group="") if text.group in documents else text for text in texts]


def _objects(path: Path, split: str) -> tuple[list[Text], list[Row]]:
    """The texts of JSON Lines, with their spans as they stand there."""
    where, name = f"Received data={str(path)!r}", printable(path.name)
    numbers, rows, spans = [], [], []
    names = ("text", "split", "group", "subgroup")
    for number, row in tables.objects(tables.read(path, where), where, ("text",), KEYS):
        lists = [key for key in ("entities", "spans") if key in row]
        if len(lists) != 1 or not isinstance(row[lists[0]], list):
            received = f"{lists[0]} {tables.short(row[lists[0]])}" if len(lists) == 1 else " and ".join(lists)
            raise InputError(
                f"{where} with {received or 'no entities'} in line {number}; give one list of spans for each "
                "text, [] where it has none."
            )
        cells = {key: tables.as_cell(key, row[key], number, where) for key in names if key in row}
        spans.append([_span(one, cells["text"], where, number) for one in row[lists[0]]])
        numbers.append(number)
        rows.append(cells)
    if not rows:
        raise InputError(f"{where}, which is empty; expected a line for each text with {KEYS}.")
    keys = [key for key in names if any(key in row for row in rows)]
    cells = pd.DataFrame([[row.get(key, "") for key in keys] for row in rows], columns=keys, dtype=object)
    cells = cells.assign(**{key: cells[key].str.strip() for key in keys if key != "text"})
    if split and "split" in cells and set(cells["split"]) - {""}:
        raise InputError(
            f"{where}, whose name says {split} and whose lines have splits of their own; leave one of "
            "both out: give one file with splits, or a file for each split without."
        )
    cells = in_splits(cells.drop(columns=["split"] * (bool(split) and "split" in cells)), numbers, where, ())
    nothing = np.zeros((0, 2), np.int64)
    texts = [
        Text(f"{name}:{number}", cell.text, split or cell.split, cell.group, cell.subgroup, nothing, found)
        for number, cell, found in zip(numbers, cells.itertuples(), spans, strict=True)
    ]
    return texts, []


def _span(written: Any, text: str, where: str, number: int) -> Span:
    """A span as JSON has it in a line; where: how a message begins."""
    keys = ("start", "end", "label")
    values = [written[key] for key in keys if key in written] if isinstance(written, dict) else written
    shown = f"{where} with the span {tables.short(written)} in line {number}"
    if not isinstance(values, list) or len(values) != 3:
        raise InputError(f'{shown}; write [start, end, "label"] or an object with start, end and label.')
    start, end, label = values
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in (start, end)):
        raise InputError(f"{shown}; start and end are whole numbers, counted in characters from 0.")
    return _checked(start, end, tables.as_cell("label", label, number, where), text, shown)


def _checked(start: int, end: int, label: str, text: str, shown: str) -> Span:
    """A span that lies in its text and has a label; shown: how a message begins."""
    if start >= end:
        raise InputError(f"{shown}; the end is exclusive: start < end.")
    if start < 0 or end > len(text):
        raise InputError(
            f"{shown}, which leaves its text of {len(text)} characters; count characters (code points, not "
            "bytes) from 0, the end exclusive."
        )
    if not label.strip():
        raise InputError(f"{shown}, whose label is empty; fill it in, or take the span out.")
    return start, end, label.strip()


def _of_set(source: str) -> list[Text]:
    """The texts of a dataset of this repository or of TFDS."""
    from runner.text import entity_sets  # not at the top: TFDS is heavy, and files do without it

    nothing = np.zeros((0, 2), np.int64)
    texts = []
    for path, text, split, group, marked in entity_sets.find(source):
        spans = []
        for span in marked:
            shown = f"Received data={source!r} with the span {tables.short(list(span))} in {path!r}"
            spans.append(_checked(*span, text, shown))
        texts.append(Text(path, text, split, group, "", nothing, spans))
    return texts


# ---------------------------------------------------------------- a source


def _source(texts: list[Text], problems: list[Row], name: str) -> Entities:
    """Join texts to a source; spans are sorted and trimmed, and types written in two ways are one."""
    where = f"Received data={name!r}"
    labels, in_forms = in_one_form([kind for text in texts for _, _, kind in text.spans])
    left: Iterator[str] = iter(labels)
    spans = [[(start, end, next(left)) for start, end, _ in text.spans] for text in texts]
    read = [text.text for text in texts]
    spans, trimmed = entity_checks.trimmed([text.path for text in texts], read, spans)
    spans = [sorted(of_text) for of_text in spans]
    for text, of_text in zip(texts, spans, strict=True):
        for one, other in zip(of_text, of_text[1:], strict=False):
            if other[0] < one[1]:
                raise InputError(
                    f"{where} with the spans {list(one)} and {list(other)} in {text.path!r}, which overlap; "
                    "a token has one tag: keep one of them."
                )
    examples = pd.DataFrame(
        [(text.path, "", text.split, text.group, text.subgroup) for text in texts],
        columns=["path", "label", "split", "group", "subgroup"],
        dtype=object,
    )
    classes = ordered({kind for of_text in spans for _, _, kind in of_text})
    if not classes:
        raise InputError(f"{where} with {len(texts)} texts and not a single entity; label some.")
    number = {kind: place for place, kind in enumerate(classes)}
    amounts = np.zeros((len(texts), len(classes)), np.int64)
    for row, of_text in enumerate(spans):
        for _, _, kind in of_text:
            amounts[row, number[kind]] += 1
    _check_train(examples["split"], amounts, classes, where)
    most = int(amounts.sum(axis=1).max())

    def target(row: int) -> Target:
        ends, types = np.full((most, 2), -1, np.int64), np.full(most, -1, np.int64)
        for place, (start, end, kind) in enumerate(spans[row]):
            ends[place], types[place] = (start, end), number[kind]
        return Target({"spans": ends, "classes": types}, amounts[row])

    problems = [*problems, *in_forms, *trimmed, *entity_checks.everything(examples, read, spans)]
    return Entities(
        examples,
        classes,
        lambda: iter(read),
        problems,
        target,
        counted="entities",
        name=name,
        spans=tuple(map(tuple, spans)),
        words=tuple(text.words for text in texts),
    )


def _check_train(split: pd.Series, amounts: np.ndarray, classes: Sequence[str], where: str) -> None:
    """Raise InputError for types that train has none of, where splits are given."""
    if not (split == "train").any():
        return
    there = pd.DataFrame(amounts, columns=list(classes)).groupby(split.to_numpy()).sum()
    lacking = [name for name in classes if there.loc["train", name] == 0]
    if lacking:
        counts = ", ".join(f"{n} in {one}" for one, n in there[lacking[0]].items() if n)
        more = f" (and {len(lacking) - 1} more types)" if len(lacking) > 1 else ""
        raise InputError(
            f"{where} without an entity of the type {lacking[0]!r}{more} in train; it has {counts}: add some "
            "to train, or take the type out."
        )
