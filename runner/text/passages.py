"""Texts to be continued: where they come from, cut into passages, and how a network reads them.

    found = passages.find("~/novel.txt")

A document is a file, a row of a table, or an example of TFDS. It becomes passages of some lines, each a row:
what splits, checks and intervals are made of. A network reads the documents of a split one after another, in
windows of tokens (`dataset`), and its answers are counted for the passage that each token is of.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.files import SPLIT_WORDS, Row, children, printable, walk
from runner.data.source import Source, Target, datasets, in_splits, not_understood
from runner.errors import InputError
from runner.text import tables
from runner.text.decoding import Unreadable, decode

CLASS = "text"
"""What every passage is of: there is nothing else to tell apart."""
PASSAGE = 1_000
"""Characters of a passage at most."""
SHORTEST = 40
"""Characters of a passage at most, of a text that is too short for passages of PASSAGE."""
DOCUMENTS = 10
"""From so many documents on they are dealt to the splits whole; of fewer each gives a part to every split."""
SUFFIXES = {".txt", ".text", ".md"}
ENDINGS = ".txt, .md, .csv, .tsv or .jsonl"
NOTHING = -100
"""The label of a token that is not asked for."""


class Document(NamedTuple):
    """A text as it was found."""

    name: str
    text: str
    split: str
    group: str


@dataclass(frozen=True, eq=False)
class Passages(Source):
    """A `Source` of passages: label is "" in every row, the one class is CLASS, and amounts are characters.

    documents: int64 (rows,), equal for passages of one document. in_order: whether each document's last
    parts are for validation and test, which its splits say.
    """

    documents: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    in_order: bool = False


def find(source: str | Path, val_fraction: float = 0.15, test_fraction: float = 0.25) -> Passages:
    """Find out what `source` names, and cut its texts into passages.

    source: a name from datasets/, or `tfds:NAME` with a feature text; a text file (.txt, .text, .md); a .csv,
    .tsv or .jsonl table with the columns text[,split][,group]; or a folder of text files, or of train, val
    and test folders of such.
    val_fraction, test_fraction: of fewer than DOCUMENTS documents without splits the last parts of each, in
    this order, are for validation and test; a test_fraction of 1 leaves that out.

    In `Source.examples` a path is the document's, with the number of the passage where there are several
    ("novel.txt[12]").
    Raises InputError, in one line, for what a person can put right.
    """
    source = str(source).strip()
    documents, problems = _documents(source)
    spoken = [one for one in documents if one.text.strip()]
    empty = [one.name for one in documents if not one.text.strip()]
    problems += [(name, "blank", f"{name!r} is empty and left out") for name in empty]
    if not spoken:
        raise InputError(f"Received data={source!r}, which holds no text; give one with some lines.")
    whole = len(spoken) >= DOCUMENTS or any(one.split for one in spoken) or test_fraction == 1
    rows: list[tuple[str, str, str, int, str]] = []
    for number, one in enumerate(spoken):
        # Of a short text more and smaller ones, so that the splits are as long as they were meant to be.
        parts = cut(one.text, PASSAGE if whole else min(PASSAGE, max(SHORTEST, len(one.text) // DOCUMENTS)))
        splits = [one.split] * len(parts) if whole else _in_order(parts, val_fraction, test_fraction)
        group = one.group or (one.name if whole and len(parts) > 1 else "")
        for place, (part, split) in enumerate(zip(parts, splits, strict=True)):
            path = f"{one.name}[{place}]" if len(parts) > 1 else one.name
            rows.append((path, split, group, number, part))
    examples = pd.DataFrame(
        [row[:3] for row in rows], columns=["path", "split", "group"], dtype=object
    ).assign(label="", subgroup="")
    texts = [row[4] for row in rows]

    def target(row: int) -> Target:
        return Target({}, np.array([len(texts[row])], np.int64))

    return Passages(
        examples,
        (CLASS,),
        lambda: iter(texts),
        problems,
        target=target,
        counted="characters",
        name=source,
        documents=np.array([row[3] for row in rows], np.int64),
        in_order=not whole,
    )


def cut(text: str, most: int = PASSAGE) -> list[str]:
    """A text in passages of at most so many characters, which joined are the text again: cut behind the last
    empty line that fits, else behind the last line, else behind the last space, else where it must be.
    """
    found, first = [], 0
    while len(text) - first > most:
        part = text[first : first + most]
        ends = (
            max((one.end() for one in re.finditer(pattern, part)), default=0)
            for pattern in (r"\n[ \t]*\n", r"\n", r"\s")
        )
        # Half a passage at least: an empty line near the beginning is no place to cut.
        size = next((end for end in ends if end >= most // 2), most)
        found.append(part[:size])
        first += size
    return [*found, text[first:]]


def _in_order(parts: Sequence[str], val_fraction: float, test_fraction: float) -> list[str]:
    """The splits of a document's passages: the first are for training, the last for the test."""
    behind = np.cumsum([len(part) for part in parts]) / sum(map(len, parts))
    # By the middle of a passage, so that a split is as long as it was meant to be.
    middle = (behind + np.r_[0, behind[:-1]]) / 2
    splits = np.where(middle <= 1 - test_fraction - val_fraction, "train", "val").astype(object)
    splits[middle > 1 - test_fraction] = "test"
    if len(parts) >= 3:
        splits[0], splits[-1] = "train", "test"
        if "val" not in splits:
            splits[int(np.flatnonzero(splits == "test")[0]) - 1 or 1] = "val"
    return splits.tolist()


# ---------------------------------------------------------------- documents


def _documents(source: str) -> tuple[list[Document], list[Row]]:
    if source.startswith("tfds:") or source in datasets():
        return _tfds(source), []
    path = Path(os.path.expanduser(source))
    if source and os.path.isdir(path):
        return _folder(path)
    if source and os.path.isfile(path):
        if path.suffix.lower() in tables.FORMS:
            return _table(path), []
        if path.suffix.lower() in SUFFIXES:
            text = tables.read(path, f"Received data={source!r}")
            return [Document(printable(path.name), text, "", "")], []
    raise not_understood(source, path, "a folder of text files", ENDINGS)


def _table(path: Path) -> list[Document]:
    where, name = f"Received data={str(path)!r}", printable(path.name)
    numbers, cells = tables.columns(path, where, ("text", "split", "group"))
    texts = cells["text"].tolist()
    cells = in_splits(cells.apply(lambda column: column.str.strip()), numbers, where, needed=())
    return [
        Document(f"{name}:{line}", text, split, group)
        for line, text, split, group in zip(numbers, texts, cells["split"], cells["group"], strict=True)
    ]


def _folder(root: Path) -> tuple[list[Document], list[Row]]:
    folders, _ = children(root)
    by_split = any(name.lower() in SPLIT_WORDS for name in folders)
    documents, problems, others = [], [], []
    for file in walk(root):
        name = printable(str(file.relative_to(root)))
        if file.suffix.lower() not in SUFFIXES:
            others.append(name)
            continue
        split = SPLIT_WORDS.get(file.relative_to(root).parts[0].lower(), "") if by_split else ""
        if by_split and not split:
            problems.append((name, "missing", f"{name!r} is in no split's folder and left out"))
            continue
        try:
            documents.append(Document(name, decode(file.read_bytes()), split, ""))
        except Unreadable as error:
            problems.append((name, "unreadable", str(error)))
        except OSError as error:
            problems.append((name, "unreadable", f"cannot be read: {error.strerror}"))
    if others:
        message = f"{len(others)} files that are no texts ({ENDINGS.split(', .csv')[0]}) are left out"
        problems.append((others[0], "missing", f"{message}, such as {others[0]!r}"))
    if not documents:
        raise InputError(
            f"Received data={str(root)!r}, a folder without a text file that can be read; give one with "
            "files that end in .txt or .md."
        )
    return documents, problems


def _tfds(source: str) -> list[Document]:
    import tensorflow_datasets as tfds

    from runner.data import builders  # not at the top: TFDS is heavy, and a file does without it

    builder, key, chosen = builders.prepared(source, _key)
    found = []
    for name, split in chosen.items():
        wanted = tfds.decode.PartialDecoding({key: builder.info.features[key]})
        for number, part in enumerate(builders.read_split(builder, name, wanted)):
            path = f"{builder.name}/{name}[{number}]"
            try:
                text = decode(part[key])
            except Unreadable as error:
                raise InputError(
                    f"Received data={source!r}, whose text {path!r} {error}; choose another dataset."
                ) from None
            found.append(Document(path, text, split if len(chosen) > 1 else "", ""))
    return found


def _key(source: str, features: Any) -> str:
    """The name of the text among the features of a TFDS builder."""
    import tensorflow_datasets as tfds

    items = dict(features.items()) if hasattr(features, "items") else {}
    texts = [
        name
        for name, feature in items.items()
        if isinstance(feature, tfds.features.Text) and np.dtype(feature.np_dtype) == object
    ]
    found = "text" if "text" in texts else texts[0] if len(texts) == 1 else ""
    if not found:
        raise InputError(
            f"Received data={source!r} with the features {', '.join(items)}; expected one text (text): "
            "choose another dataset."
        )
    return found


# ---------------------------------------------------------------- what is trained on


def thinned(manifest: pd.DataFrame, documents: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The splits of passages where training has at most so many characters, and validation as many at most;
    what is left over is "unused".

    manifest: with split and characters; documents: int64 (passages,). Documents are taken in an order that
    `seed` decides, the passages of each from its beginning; the one that is too much is the last.
    """
    splits = manifest["split"].to_numpy(object).copy()
    order = np.random.RandomState(seed).permutation(int(documents.max(initial=0)) + 1)
    for split in ("train", "val"):
        rows = np.flatnonzero(splits == split)
        rows = rows[np.argsort(order[documents[rows]], kind="stable")]
        before = np.cumsum(manifest["characters"].to_numpy()[rows]) - manifest["characters"].to_numpy()[rows]
        splits[rows[before >= most]] = "unused"
    return splits


def stream(
    parts: Mapping[int, np.ndarray] | Sequence[np.ndarray], ids: np.ndarray, documents: np.ndarray, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens or bytes of the passages `ids` one after another, `end` before each document and behind the
    last, and the passage that each is of: int32 (n,) both. A document whose next passage is not among them
    ends there.

    parts: by id. documents: int64 (passages,), by id.
    """
    found, owners = [], []
    for place, one in enumerate(ids):
        new = place == 0 or bool(documents[one] != documents[ids[place - 1]] or one != ids[place - 1] + 1)
        # The mark is told at the end of the document before it, and belongs to that.
        before = ids[place - 1] if place else one
        found.append(np.concatenate([[end] * new, parts[one]]).astype(np.int32))
        owners.append(np.concatenate([[before] * new, np.full(len(parts[one]), one)]).astype(np.int32))
    last = [np.full(1, end, np.int32)], [np.asarray(ids[-1:], np.int32)]
    return np.concatenate([*found, *last[0]]), np.concatenate([*owners, *last[1]])


def dataset(
    tokens: Sequence[np.ndarray], ids: np.ndarray, documents: np.ndarray, length: int, end: int, context: int
) -> tf.data.Dataset:
    """An element per window of the passages `ids`, in their order: {"id", "part", "input", "label", "owner"}.

    tokens, documents, end: as of `stream`. "input",
    "label" and "owner" are int32 (length,): tokens, those that come next, NOTHING where none is asked for,
    and the passages that these are of. A window shows again the last `context` tokens of the one before,
    which are not asked for again: so much is known of what stands before each token. "id" is the passage of
    the first token that is asked for, and "part" the number of the window.
    """
    whole, owners = stream(tokens, ids, documents, end)
    ids_of = []
    rows: dict[str, list] = {"input": [], "label": [], "owner": []}
    asked = 1
    while asked < len(whole):
        first = max(0, asked - 1 - context) if asked > 1 else 0
        last = min(len(whole) - 1, first + length)
        row, label = np.full(length, end, np.int32), np.full(length, NOTHING, np.int32)
        of = np.full(length, ids[0], np.int32)
        row[: last - first] = whole[first:last]
        label[asked - 1 - first : last - first] = whole[asked : last + 1]
        of[: last - first] = owners[first + 1 : last + 1]
        ids_of.append(owners[asked])
        rows["input"].append(row)
        rows["label"].append(label)
        rows["owner"].append(of)
        asked = last + 1
    count = len(ids_of)
    columns = {name: np.array(values, np.int32).reshape(count, length) for name, values in rows.items()}
    numbers = {"id": np.array(ids_of, np.int64), "part": np.arange(count, dtype=np.int64)}
    return tf.data.Dataset.from_tensor_slices(numbers | columns)
