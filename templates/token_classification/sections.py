"""What the report and the model card say of entities, beside what they say of every training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.data.source import amount
from runner.report import card as cards
from runner.report.section import Marked, Section
from runner.scores.entities import Answers, Span
from runner.text.load import Texts

from .config import Config

TRAINED_ON, RIGHT, WRONG, FORMS = 12, 6, 20, 15
"""How many training texts, faultless answers, texts with faults, and forms the page shows."""
SHOWN = 600
"""Characters of a text at most."""


def question(config: Config, examples: Texts) -> str:
    """What the run was to answer."""
    few = amount(config.train_examples, config.data) or "all"
    return (
        f"How well can an encoder that started from the weights {Path(config.weights).name} find entities of "
        f"{len(examples.classes)} types in {Path(config.data).name} after training on {few} texts, and what "
        "does each way of using it bring?"
    )


def sections(config: Config, examples: Texts, test: Answers) -> dict[str, Any]:
    """What `page.write` shows of this task: numbers by type, training texts, and answers with their faults.

    test: of the network that is handed out, on the test texts, which must be open. Each part is a function,
    so that one that fails costs no other.
    """
    return {
        "pictures": {},
        "score": ("f1", "F1"),
        "sections": [
            lambda: by_type(test, examples.manifest["group"]),
            lambda: trained_on(examples),
            lambda: answers(examples, test),
            lambda: forms(examples, test),
        ],
    }


def by_type(test: Answers, groups: pd.Series) -> Section:
    """Precision, recall and F1 of each type."""
    numbers = test.numbers(groups)
    return Section(
        "By type",
        f"{numbers['entities']} entities in {numbers['examples']} test texts, {numbers['found']} were found: "
        f"precision {numbers['precision']:.3f}, recall {numbers['recall']:.3f}. One is right where its type "
        "and both of its ends are (the rule of CoNLL 2003); nothing is right in part.",
        tables=[("Test texts", test.types(groups))],
    )


def trained_on(examples: Texts) -> Section:
    """A few training texts with their entities."""
    shown, seen = [], set()
    for one in examples.train.as_numpy_iterator():
        there = one["classes"] >= 0
        if there.any() and one["id"] not in seen:
            seen.add(one["id"])
            kinds = [examples.classes[number] for number in one["classes"][there]]
            spans = [(*ends, kind) for ends, kind in zip(one["spans"][there].tolist(), kinds, strict=True)]
            shown.append(("", [line("", examples.texts[one["id"]], spans)]))
        if len(shown) == TRAINED_ON:
            break
    return Section("Training texts", figures=[("", Marked(shown, examples.classes))])


def answers(examples: Texts, test: Answers) -> Section:
    """Test texts with faults, those with most first, and some without."""
    found, wanted = ({one: spans for one, spans in of_texts(table)} for table in (test.found, test.wanted))
    faults = {one: len(set(found.get(one, ())) ^ set(wanted.get(one, ()))) for one in map(int, test.ids)}
    wrong = sorted((one for one, count in faults.items() if count), key=lambda one: (-faults[one], one))
    right = [one for one, count in faults.items() if not count and one in wanted]

    def both(one: int) -> tuple[str, list]:
        text = examples.texts[one]
        return "", [line("wanted", text, wanted.get(one, [])), line("found", text, found.get(one, []))]

    figures = [
        ("With faults, the most first", [both(one) for one in wrong[:WRONG]]),
        ("Without a fault", [("", [line("", examples.texts[one], wanted[one])]) for one in right[:RIGHT]]),
    ]
    return Section(
        "Answers",
        f"Test texts; {len(wrong)} of {len(test.ids)} have a fault.",
        figures=[(caption, Marked(shown, examples.classes)) for caption, shown in figures if shown],
    )


def forms(examples: Texts, test: Answers) -> Section:
    """What was missed and what was found wrongly, by what stands there, the most frequent first."""
    found, wanted = test.matched(examples.texts)
    missed, wrong = wanted[~wanted["found"]], found[~found["right"]]

    def counted(table: pd.DataFrame) -> pd.DataFrame:
        counts = table.groupby(["form", "class"], observed=True).size().reset_index(name="times")
        return counts.sort_values(["times", "form"], ascending=[False, True]).head(FORMS)

    tables = [("Missed", counted(missed)), ("Found where nothing is, or with other ends", counted(wrong))]
    return Section("What goes wrong", tables=[(caption, table) for caption, table in tables if len(table)])


def of_texts(table: pd.DataFrame) -> list[tuple[int, list[Span]]]:
    """Of each text with entities its id and its spans, in their order."""
    return [
        (int(number), list(zip(rows["start"].tolist(), rows["end"].tolist(), rows["class"], strict=True)))
        for number, rows in table.sort_values(["id", "start"]).groupby("id")
    ]


def line(what: str, text: str, spans: Sequence[Span]) -> tuple[str, str, list[Span]]:
    """A line of `Marked`: the first SHOWN characters of a text, with white space as single spaces."""
    cut = text[:SHOWN] + "…" * (len(text) > SHOWN)
    plain = "".join(" " if one.isspace() else one for one in cut)
    return what, plain, [span for span in spans if span[1] <= SHOWN]


def card(config: Config, examples: Texts) -> cards.Task:
    """What the model card says of this task."""
    words = np.mean([len(text.split()) for text in examples.texts])
    return cards.Task(
        title=Path(config.data).name,
        what="A finder of entities in texts, each a span of characters and one of",
        prepared=f"texts are read in windows of {config.length} tokens, which overlap by a quarter; training "
        f"texts have {words:.0f} words in the mean",
        takes="texts: strings (batch,) in UTF-8,",
        gives=f"logits, float32 (batch, {config.length}, {2 * len(examples.classes) + 1}), of the tags O, B "
        "and I of each type in turn, for each token, and words, int32, the characters from which and to "
        "which a token's word stands (-1: this token begins none);",
        meant="Meant for texts like those it was trained on, in their language. What is like an entity of "
        "another type is called one of these, or not found; a score is no probability.",
        score=("f1", "F1"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "entities": "support"},
        commands=(
            "predict RUN TEXTS_FILES_OR_TABLES --output found.csv",
            "evaluate RUN LABELLED_TEXTS",
            "export RUN --format savedmodel litert onnx",
        ),
        numbers={"Macro F1": "macro_f1", "precision": "precision", "recall": "recall"},
        limits=("Entities within entities, and words with two types, cannot be found.",),
        unit="texts",
        loads="It has layers of this project: import `runner.text_networks.marking` and "
        "`runner.text_networks.words` before `keras.models.load_model`.",
    )
