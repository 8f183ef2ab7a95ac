"""New texts for a finished run: a stream of any number, from files, folders and tables, or as they are
given.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import scipy.special
import tensorflow as tf

from runner.data.files import printable, walk
from runner.errors import InputError
from runner.networks import saved
from runner.runs import decision, folder
from runner.text import tables, tags
from runner.text.decoding import Unreadable, decode
from runner.text_networks import marking, tokens, words

assert marking  # its layers, and those of `tokens`, are found by their names when a network is loaded

SHOWN = 80
"""Characters of a text that stand for it in a table, where it is no file."""


def texts(inputs: Iterable[str | Path]) -> Iterator[tuple[str, str | None, str]]:
    """What the inputs say, in their order: (name, text, note); the text is None where it cannot be read, and
    the note says why.

    inputs: a file of one text, by its path; a folder, whose files and folders are taken in order of their
    names; a .csv, .tsv or .jsonl table with the column text, a row each; or, where no such path is there, a
    text itself.
    Raises InputError, before the first text, for what looks like a path and is not there, for a table that
    cannot be read, and where there is no text at all.
    """
    given = [str(one) for one in inputs]
    places = {one: _place(one) for one in given}
    for one, place in places.items():
        words = len(one.split())
        like_a_path = words == 1 and os.sep in one
        like_a_path |= words <= WORDS_OF_A_NAME and Path(one).suffix.lower() in FILES
        if place is None and like_a_path:
            raise InputError(f"{_written(one)} is not there; give texts in quotes, files, folders or tables.")
    read = {one: tables.texts(place) for one, place in places.items() if place and _is_table(place)}

    def each() -> Iterator[tuple[str, str | None, str]]:
        for one in given:
            if one in read:
                yield from ((name, text, "") for name, text in read[one])
            elif (place := places[one]) is not None:
                yield from map(_of_file, walk(place))
            elif _written(one) != one:  # bytes of a command line, or half of a surrogate pair
                yield _shown(_written(one)), None, "is no UTF-8; give texts in UTF-8"
            else:
                yield _shown(one), one, ""

    stream = each()
    first = next(stream, None)
    if first is None:
        shown = ", ".join(map(_written, given)) or "nothing"
        raise InputError(f"{shown}: no text there; give texts in quotes, files, folders or tables.")
    return chain([first], stream)


FILES = {".txt", ".text", ".md", ".csv", ".tsv", ".jsonl", ".ndjson"}
"""Endings of what is meant as a path, where it has few words."""
WORDS_OF_A_NAME = 3
"""A text of so many words that ends like a file is taken for the name of one that is not there, as "my new
reviews.csv" is: to be told so is better than its class."""


def _place(text: str) -> Path | None:
    """The path that a text is, where there is such a file or folder."""
    try:
        path = Path(os.path.expanduser(text))
        return path if text and path.exists() else None
    except (OSError, ValueError):  # too long, or no name on any system
        return None


def _is_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in tables.FORMS


def _written(text: str) -> str:
    """A text that can be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(text: str) -> str:
    return " ".join(text.split())[:SHOWN]


def _of_file(path: Path) -> tuple[str, str | None, str]:
    name = printable(str(path))
    try:
        return name, decode(path.read_bytes()), ""
    except Unreadable as error:
        return name, None, str(error)
    except OSError as error:
        return name, None, f"cannot be read: {error.strerror}"


def class_tables(
    run_folder: str | Path, inputs: Iterable[str | Path], batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of texts by a run that tells classes apart: a table for each batch, a row per text.

    Columns text (a file, FILE:LINE of a table, or the text itself), prediction (Categorical), confidence (the
    probability of the prediction), note, and "p:<class>" for each class: probabilities (float64) after the
    run's temperature scaling. A run that chose a threshold between two classes answers by it, and has the
    column "threshold:<positive>". The index is the number of the text.
    Raises InputError for a folder that is no complete run of classes of texts, and what `texts` raises.
    """
    model, classes, temperature = load(run_folder)
    layer = words.tokenizer(model)
    if not isinstance(layer, tokens.Tokens):
        raise InputError(f"{run_folder}: its network tells no classes of texts apart; give a run that does.")
    point = decision.of_run(run_folder, classes)
    stream, first = texts(list(inputs)), 0
    while some := list(islice(stream, batch_size)):
        names, said, notes = (list(part) for part in zip(*some, strict=True))
        there = [text for text in said if text is not None]
        p = np.full((len(some), len(classes)), np.nan)
        rows = [row for row, text in enumerate(said) if text is not None]
        if there:
            logits = np.asarray(model(tf.constant(there), training=False)).astype("float64")
            p[rows] = scipy.special.softmax(logits / temperature, axis=1)
            for row, long in zip(rows, tokens.lengths(layer.tokenizer, there), strict=True):
                if not said[row].strip():
                    notes[row] = "empty"
                elif long > layer.length:
                    notes[row] = f"cut off: {layer.length} of {long} tokens were read"
        index = pd.RangeIndex(first, first + len(some))
        yield decision.table(pd.DataFrame({"text": names, "note": notes}, index), p, classes, point)
        first += len(some)


def load(run_folder: str | Path) -> tuple[keras.Model, list[str], float]:
    """The model of a complete run on texts, strings to logits or to what `text_runs.entities` and `generate`
    read, its class names, and its temperature (1 where none was fitted).
    """
    run_folder = Path(os.path.expanduser(run_folder))
    folder.read_complete(run_folder)
    model = saved.load(run_folder)
    if words.tokenizer(model) is None:
        raise InputError(f"{run_folder}: its network takes no texts; give a run on texts.")
    if not isinstance(model.output, dict):
        return model, *decision.classes_of(run_folder, model.output.shape[-1])
    classes, temperature = decision.classes_of(run_folder)
    if "words" not in model.output:  # a decoder, which has tokens for classes
        return model, classes, temperature
    outputs = model.output["logits"].shape[-1]
    if tags.count(len(classes)) != outputs:
        raise InputError(
            f"{run_folder}: metrics.json names {len(classes)} classes, the model has {outputs} tags; they "
            "are not of one run."
        )
    return model, classes, temperature
