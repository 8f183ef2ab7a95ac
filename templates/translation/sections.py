"""What the report and the model card say of translations, beside what they say of every training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.data.source import amount
from runner.report import card as cards
from runner.report.section import Marked, Section
from runner.scores.translation import signatures
from runner.text.bilingual import Pairs

from .config import Config

TRAINED_ON, WORST, BEST = 8, 20, 6
"""How many training pairs, worst and best translations the page shows."""
SHOWN = 600
"""Characters of a text at most."""


def question(config: Config, examples: Pairs) -> str:
    """What the run was to answer."""
    few = amount(config.train_examples, config.data) or "all"
    return (
        f"How well does a decoder above an encoder that started from the weights {Path(config.weights).name} "
        f"translate {said(examples)} in {Path(config.data).name} after training on {few} pairs, and what "
        "does each way of using the encoder bring?"
    )


def said(examples: Pairs) -> str:
    """From which into which language, in words, where the data says."""
    first, second = examples.languages
    return f"from {first} into {second}" if first else "from the first text of a pair into the second"


def sections(
    config: Config, examples: Pairs, test: dict, by_length: pd.DataFrame, sentences: pd.DataFrame
) -> dict[str, Any]:
    """What `page.write` shows of this task: numbers, training pairs, the worst and the best translations.

    test, by_length, sentences: of the network that is handed out, on the test pairs, which must be open. Each
    part is a function, so that one that fails costs no other.
    """
    return {
        "pictures": {},
        "score": ("bleu", "BLEU"),
        "sections": [
            lambda: numbers(config, test, by_length),
            lambda: trained_on(examples),
            lambda: answers(sentences),
        ],
    }


def numbers(config: Config, test: dict, by_length: pd.DataFrame) -> Section:
    """BLEU and chrF as sacreBLEU writes them, of greedy and beam search, and by length."""
    told, searches = signatures(), (("greedy", "greedy_"), (f"{config.beams} beams", ""))
    rows = [(name, 100 * test[f"{key}bleu"], 100 * test[f"{key}chrf"]) for name, key in searches]
    low, high = (100 * one for one in test["bleu_interval"])
    return Section(
        "BLEU and chrF",
        f"BLEU = {100 * test['bleu']:.1f} ({low:.1f} to {high:.1f}), {told['bleu']}.\n\n"
        f"chrF = {100 * test['chrf']:.1f}, {told['chrf']}.\n\n"
        f"A translation has {test['brevity']:.2f} words for each that is wanted. Intervals are of a "
        "bootstrap over sentences.",
        tables=[
            ("By search", pd.DataFrame(rows, columns=["search", "BLEU", "chrF"])),
            ("By the length of the text", _in_points(by_length)),
        ],
    )


def _in_points(by_length: pd.DataFrame) -> pd.DataFrame:
    """The table as sacreBLEU counts, for the page."""
    shown = by_length.rename(columns={"class": "length", "bleu": "BLEU", "chrf": "chrF", "support": "texts"})
    shown.columns = [one.replace("bleu_", "") for one in shown.columns]
    shares = [one for one in shown.columns if one not in ("length", "texts")]
    return shown.assign(**{one: 100 * shown[one] for one in shares})


def trained_on(examples: Pairs) -> Section:
    """A few training pairs."""
    ids = np.flatnonzero(examples.manifest["split"] == "train")[:TRAINED_ON]
    shown = [("", [line("text", examples.texts[one]), line("wanted", examples.targets[one])]) for one in ids]
    return Section("Training pairs", figures=[("", Marked(shown, ()))])


def answers(sentences: pd.DataFrame) -> Section:
    """Test texts with the translations that are least and most like what is wanted, by chrF."""
    order = sentences.sort_values("chrf", kind="stable")
    wrong = order[order["chrf"] < 1].head(WORST)
    right = order.tail(min(BEST, len(order) - len(wrong)))

    def shown(rows: pd.DataFrame) -> Marked:
        return Marked(
            [
                (f"chrF {100 * row.chrf:.0f}", [line(one, getattr(row, key)) for one, key in LINES])
                for row in rows.itertuples()
            ],
            (),
        )

    exact = int((sentences["found"] == sentences["wanted"]).sum())
    return Section(
        "Translations",
        f"Test texts; {exact} of {len(sentences)} are translated exactly as wanted.",
        figures=[
            (caption, shown(rows))
            for caption, rows in (("The worst sentences", wrong), ("Among the best", right))
            if len(rows)
        ],
    )


LINES = (("text", "source"), ("wanted", "wanted"), ("found", "found"))


def line(what: str, text: str) -> tuple[str, str, list]:
    """A line of `Marked`: the first SHOWN characters of a text, with white space as single spaces."""
    plain = " ".join(text[:SHOWN].split()) + "…" * (len(text) > SHOWN)
    return what, plain, []


def card(config: Config, examples: Pairs) -> cards.Task:
    """What the model card says of this task."""
    words = np.mean([len(text.split()) for text in examples.texts])
    return cards.Task(
        title=Path(config.data).name,
        what=f"A translator of texts {said(examples)}",
        prepared=f"of a text {config.length} tokens are read, and training texts have {words:.0f} words in "
        f"the mean; translations are written in {len(examples.pieces):,} pieces, which were learnt from "
        "those of training",
        takes="texts: strings (batch,) in UTF-8,",
        gives=f"translation, strings (batch,), found by a search with {config.beams} beams, and score, "
        "float32 (batch,), the mean probability of its pieces",
        meant="Meant for texts like those it was trained on, one sentence or as few as those had. It writes "
        "something for any text, in whatever language; a score is no probability of being right.",
        score=("bleu", "BLEU"),
        columns={"BLEU": "bleu", "chrF": "chrf", "sentences": "support"},
        commands=(
            "predict RUN TEXTS_FILES_OR_TABLES --output translated.csv",
            "evaluate RUN PAIRS",
            "export RUN --format savedmodel litert onnx",
        ),
        numbers={"chrF": "chrf", "greedy search BLEU": "greedy_bleu", "greedy search chrF": "greedy_chrf"},
        limits=(
            "It writes with pieces that training has, so no letter that no training translation has.",
            "BLEU and chrF compare with one translation of a person: others may be as right.",
        ),
        unit="pairs",
        loads="It has layers of this project: import `runner.text_networks.tokens`, "
        "`runner.text_networks.marking` and `runner.text_networks.translators` before "
        "`keras.models.load_model`.",
    )
