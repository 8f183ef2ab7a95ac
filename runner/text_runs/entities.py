"""The entities that a finished run finds: in the windows of texts, and in new texts."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.errors import InputError
from runner.networks import inference
from runner.scores.entities import COLUMNS, Span
from runner.text import tags, windows
from runner.text_networks import words
from runner.text_networks.tokens import special
from runner.text_runs import export, predict

JSON_LINES = "entities.jsonl"
"""The texts with their spans, in the form that a template takes for its data."""


def found(
    known: Mapping[str, np.ndarray], logits: np.ndarray, ids: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """What the logits of words say, as a table of entities: columns COLUMNS, and score (`tags.spans`).

    known: of windows, those of one text after each other: "id" (windows,), "starts" and "ends" (windows,
    length), at least 0 where a word is answered. logits: (words, tags), of these in their order. ids: of all
    texts, ascending.
    """
    counts = known["starts"] >= 0
    of_word = np.broadcast_to(known["id"][:, None], counts.shape)[counts]
    ends = np.stack([known["starts"][counts], known["ends"][counts]], axis=1)
    rows = []
    for one, (first, last) in zip(ids, _places(of_word, ids), strict=True):
        for (start, end, kind), score in tags.spans(ends[first:last], logits[first:last], classes):
            rows.append((one, kind, start, end, score))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "score"])
    return table.astype({"id": np.int64, "start": np.int64, "end": np.int64, "score": np.float64})


def _places(of_word: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where the words of each text begin and end, int64 (ids, 2)."""
    if (np.diff(of_word) < 0).any():
        raise ValueError("the windows of a text do not stand after each other.")
    return np.stack([np.searchsorted(of_word, ids, side=side) for side in ("left", "right")], axis=1)


def tables(
    run_folder: str | Path, inputs: Iterable[str | Path], folder: Path | None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The entities in texts by a run that finds some: a table for each batch, a row per entity.

    Columns text (a file, FILE:LINE of a table, or the text itself), entities (how many the text has), class
    (Categorical), form (what stands there), score (0..1), start, end (characters of the text, the end
    exclusive), note. A text without entities has one row, with 0; what cannot be read has one with its note
    alone. The index is the number of the text.

    folder: gets JSON_LINES, an object for each text that could be read: "text", and "entities", a list of
    [start, end, class]; None writes nothing.
    Raises InputError for a folder that is no complete run of entities, and what `predict.texts` raises.
    """
    model, classes, _ = predict.load(run_folder)
    layer = words.tokenizer(model)
    if not isinstance(layer, words.Words):
        raise InputError(f"{run_folder}: its network finds no entities; give a run of token_classification.")
    step = inference.forward(export.of_ids(model, None))
    stream, first = predict.texts(list(inputs)), 0
    while some := list(islice(stream, batch_size)):
        names, said, notes = (list(part) for part in zip(*some, strict=True))
        readable = [row for row, text in enumerate(said) if text is not None]
        read = _find(step, layer, [said[row] for row in readable], classes, batch_size)
        spans = dict(zip(readable, read, strict=True))
        rows = []
        for row, (name, text, note) in enumerate(zip(names, said, notes, strict=True)):
            given = {"number": first + row, "text": name, "note": note}
            if text is not None and not text.strip():
                given["note"] = "empty"
            rows += [
                {**given, "entities": len(spans[row]), "class": kind, "form": text[start:end], "score": score}
                | {"start": start, "end": end}
                for (start, end, kind), score in spans.get(row, ())
            ] or [{**given, "entities": 0 if text is not None else None}]
        if folder is not None:
            _write(folder, [(said[row], [span for span, _ in spans[row]]) for row in readable])
        first += len(some)
        columns = ["number", "text", "entities", "class", "form", "score", "start", "end", "note"]
        table = pd.DataFrame(rows, columns=columns)
        table["class"] = pd.Categorical(table["class"], classes)
        kinds = dict.fromkeys(("entities", "start", "end"), "Int64") | {"score": "float64"}
        yield table.astype(kinds).set_index("number")


def _find(
    step, layer: words.Words, texts: Sequence[str], classes: Sequence[str], batch_size: int
) -> list[list[tuple[Span, float]]]:
    """The entities of each text, with their scores."""
    begin, end, padding = special(layer.tokenizer)
    of_texts = [
        windows.rows(one, layer.length, (begin, end, padding))
        for one in (words.in_memory(layer.tokenizer, texts) if texts else ())
    ]
    rows = [row for some in of_texts for row in some]
    logits = []
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        ids = np.stack([row.ids for row in part])
        longest = int((ids != padding).sum(axis=1).max())
        answers = step(tf.constant(ids[:, :longest])).numpy()
        logits += [one[row.starts[:longest] >= 0] for one, row in zip(answers, part, strict=True)]
    found, at = [], 0
    for some in of_texts:
        ends = [np.stack([row.starts, row.ends], axis=1)[row.starts >= 0] for row in some]
        answers = np.concatenate(logits[at : at + len(some)])
        found.append(tags.spans(np.concatenate(ends), answers, classes))
        at += len(some)
    return found


def _write(folder: Path, texts: Sequence[tuple[str, list[Span]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / JSON_LINES, "a", encoding="utf-8") as file:
        for text, spans in texts:
            file.write(json.dumps({"text": text, "entities": spans}, ensure_ascii=False) + "\n")
