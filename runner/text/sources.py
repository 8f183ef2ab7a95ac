"""Where labelled texts come from: a dataset of this repository, TFDS, a folder, or a table.

Each becomes one `Source`: a row per text and a way to read them, character by character as they were written.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runner.data import folders
from runner.data.source import Source, datasets, not_understood
from runner.errors import InputError
from runner.text import tables
from runner.text.decoding import Unreadable, decode

UNIT = "texts"
SUFFIXES = {".txt", ".text", ".md"}
"""Endings of files that are certainly texts; in a class folder every file is taken for one."""
ENDINGS = ".csv, .tsv or .jsonl"


def find(source: str | Path) -> Source:
    """Find out what `source` names and list its texts.

    source: a name from datasets/ or `tfds:NAME[/config][:version]` with the features text and label; a .csv,
    .tsv or .jsonl file with text,label[,split][,group][,subgroup][,weight] (`tables.find`); or a folder of
    class folders, or of train, val (validation) and test folders of class folders, a file per text, UTF-8 or
    with a byte-order mark. `read` gives the texts (str) in row order, as often as called. Files that are no
    text are left out and named in `problems` (kind "unreadable").
    Raises InputError, in one line, for what a person can put right; of TFDS, bad bytes are found by `read`.
    """
    source = str(source).strip()
    if source.startswith("tfds:") or source in datasets():
        return _tfds(source)
    path = Path(os.path.expanduser(source))
    # os.path answers False where Path raises: for a name too long, or no name on any system.
    if source and os.path.isdir(path):
        return _folder(path)
    if source and os.path.isfile(path) and path.suffix.lower() in tables.FORMS:
        return dataclasses.replace(tables.find(path), name=source)
    raise not_understood(source, path, "a folder of class folders", ENDINGS)


def _folder(root: Path) -> Source:
    """Read the files of class folders; texts are small enough to be kept."""
    found = folders.find(root, SUFFIXES, UNIT)
    texts: list[str] = []
    rows, problems = [], []
    for row, (file, name) in enumerate(zip(found.read(), found.examples["path"], strict=True)):
        try:
            texts.append(decode(Path(os.fsdecode(file)).read_bytes()))
            rows.append(row)
        except Unreadable as error:
            problems.append((name, "unreadable", str(error)))
        except OSError as error:
            problems.append((name, "unreadable", f"cannot be read: {error.strerror}"))
    if not rows:
        name, _, message = problems[0]
        raise InputError(
            f"Received data={str(root)!r}, of whose {len(problems)} files none is a text, such as {name!r}, "
            f"which {message}."
        )
    examples = found.examples.iloc[rows].reset_index(drop=True)
    problems = [*found.problems, *problems]
    return dataclasses.replace(
        found, examples=examples, read=lambda: iter(texts), problems=problems, name=str(root)
    )


# ---------------------------------------------------------------- TFDS


def _tfds(source: str) -> Source:
    from runner.data import builders  # not at the top: TFDS is heavy, and a folder does without it

    found = builders.find(source, _keys)

    def read() -> Iterator[str]:
        for path, raw in zip(found.examples["path"], found.read(), strict=True):
            try:
                yield decode(raw if isinstance(raw, bytes) else raw.encode())
            except Unreadable as error:
                raise InputError(
                    f"Received data={source!r}, whose text {path!r} {error}; choose another dataset."
                ) from None

    return dataclasses.replace(found, read=read, name=source)


def _keys(source: str, features: Any) -> tuple[str, str, str]:
    """Return the names of the text, the label and (or "") the group among the features of a TFDS builder."""
    import tensorflow_datasets as tfds

    items = dict(features.items()) if hasattr(features, "items") else {}
    texts = [
        key
        for key, feature in items.items()
        if isinstance(feature, tfds.features.Text) and np.dtype(feature.np_dtype) == object
    ]
    labels = [key for key, feature in items.items() if isinstance(feature, tfds.features.ClassLabel)]
    text = "text" if "text" in texts else texts[0] if len(texts) == 1 else ""
    label = "label" if "label" in labels else labels[0] if len(labels) == 1 else ""
    if not text or not label:
        raise InputError(
            f"Received data={source!r} with the features {', '.join(items)}; expected one text (text) and "
            "one class label (label): choose a dataset for text classification."
        )
    return text, label, "group" if "group" in items else ""
