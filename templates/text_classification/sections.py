"""What the report and the model card say of classified texts, beside what they say of every training."""

from pathlib import Path
from typing import Any

import keras
import pandas as pd

from runner.data.source import amount
from runner.report import card as cards
from runner.report.section import Quotation, Quotations, Section
from runner.scores import classification
from runner.text.load import Texts
from runner.text_runs import occlusion

from . import model
from .config import Config

WRONG, RIGHT, TRAINED_ON = 12, 6, 4
"""How many mistakes, right answers, and training texts of each class the page shows."""


def question(config: Config, examples: Texts) -> str:
    """What the run was to answer."""
    count = amount(config.labels_per_class, config.data)
    few = "all labelled texts" if count is None else f"{count} labelled texts per class"
    return (
        f"How well can an encoder that started from the weights {Path(config.weights).name} tell the "
        f"{len(examples.classes)} classes of {Path(config.data).name} apart after training on {few}, "
        f"and what does each way of using it bring?{weighed(config, examples)}"
    )


def weighed(config: Config, examples: Texts) -> str:
    """What a text counts in the loss, in words; "" where all count alike."""
    found = ["by its weight"] if "weight" in examples.manifest else []
    found += ["so that all classes count alike"] if config.class_weight == "balanced" else []
    return f" In the loss a text counts {' and '.join(found)}." if found else ""


def sections(
    config: Config, examples: Texts, predictions: pd.DataFrame, network: keras.Model
) -> dict[str, Any]:
    """What `page.write` shows of this task: classes, training texts, mistakes and right answers word by word.

    predictions: of `network` on the test texts, which must be open. Each part is a function, so that one that
    fails costs no other.
    """
    return {
        "pictures": {},
        "predictions": predictions,
        "per_class": lambda: classification.per_class(
            predictions, examples.classes, examples.manifest["group"]
        ),
        "confusion": lambda: classification.confusion(predictions, examples.classes),
        "sections": [
            lambda: trained_on(examples),
            lambda: answers(config, examples, predictions, network),
        ],
    }


def trained_on(examples: Texts) -> Section:
    """A few training texts of each class, as the network reads them: cut off at its length."""
    shown = []
    for name in examples.classes:
        rows = examples.manifest.query("split == 'train'")
        for number in rows.index[rows["label"] == name][:TRAINED_ON]:
            words = [(word, 0.0) for word in examples.texts[number].split()]
            cut = rows.loc[number, "tokens"] - examples.length
            more = f"; the last {cut} of {rows.loc[number, 'tokens']} tokens are cut off" if cut > 0 else ""
            shown.append(Quotation(f"{name}{more}", words[: occlusion.MOST]))
    return Section("Training texts", figures=[("", Quotations(shown[:40]))])


def answers(config: Config, examples: Texts, predictions: pd.DataFrame, network: keras.Model) -> Section:
    """The surest mistakes and some right answers, with what each word did."""
    of_texts = model.of_texts(network, config, examples)
    surest = predictions.sort_values("confidence", ascending=False)
    right = surest["label"] == surest["prediction"]
    classes = list(examples.classes)

    def explained(rows: pd.DataFrame) -> Quotations:
        return Quotations(
            [
                Quotation(
                    f"is {row.label}{f', taken for {row.prediction}' * (row.label != row.prediction)}, "
                    f"{100 * row.confidence:.0f} % sure",
                    occlusion.explain(of_texts, examples.texts[row.id], classes.index(str(row.prediction))),
                )
                for row in rows.itertuples()
            ]
        )

    some = surest[right].groupby("label", observed=True).head(max(1, RIGHT // len(classes))).head(RIGHT)
    figures = [
        ("Mistakes, the surest first", explained(surest[~right].head(WRONG))),
        ("Right answers", explained(some)),
    ]
    return Section(
        "Answers, word by word",
        "Test texts. A word is the stronger coloured the less sure the network is of its answer without it "
        "(in the log-odds of the answer); "
        "underlined words spoke against the answer.",
        figures=[(caption, one) for caption, one in figures if one.shown],
    )


def card(config: Config, examples: Texts) -> cards.Task:
    """What the model card says of this task."""
    return cards.Task(
        title=Path(config.data).name,
        what="A classifier of texts into",
        prepared=f"of a text the first {config.length} tokens are read"
        + weighed(config, examples).replace(" In", "; in").rstrip("."),
        takes="texts: strings (batch,) in UTF-8,",
        gives=f"float32 logits (batch, {len(examples.classes)})",
        meant="Meant for texts like those it was trained on, in their language. It answers one of its "
        "classes for any text at all, also for one that is about none of them.",
        score=("accuracy", "accuracy"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "texts": "support"},
        commands=(
            "predict RUN TEXTS_FILES_OR_TABLES --output predictions.csv",
            "evaluate RUN LABELLED_TEXTS",
            "export RUN --format savedmodel litert onnx",
        ),
        numbers={"Macro F1": "macro_f1"},
        unit="texts",
        loads="It has layers of this project: import `runner.text_networks.marking` and "
        "`runner.text_networks.tokens` before `keras.models.load_model`.",
    )
