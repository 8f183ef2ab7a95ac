"""What the report and the model card say of texts that are gone on with, beside what they say of every
training.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.report import card as cards
from runner.report.section import Marked, Section
from runner.scores import likelihood
from runner.text import passages
from runner.text.load import Texts

from .config import Config
from .samples import BEFORE, TRUE

SHOWN, HARD = 400, 8
"""How many characters are shown of a text, and how many passages that took most."""
DOCUMENTS = 30
"""More documents than these have no rows of their own."""
MADE = "the network's"


def told(judged: pd.Series, examples: Texts) -> likelihood.Told:
    """What `train.judge` found, with the characters of each passage."""
    numbers = judged.index.to_numpy(np.int64)
    characters = examples.manifest.loc[numbers, "characters"].to_numpy(np.int64)
    return likelihood.Told(numbers, judged.to_numpy(np.float64), characters)


def by_document(judged: pd.Series, examples: Texts) -> pd.DataFrame:
    """Columns class, characters, bits_per_character, probability: a row per document where there are at most
    DOCUMENTS, else one of all texts.
    """
    one = told(judged, examples)
    of = examples.manifest.loc[one.ids]
    name = np.full(len(of), passages.CLASS, object)
    if of["document"].nunique() <= DOCUMENTS:
        several = of["document"].duplicated(keep=False)
        whole = of["path"].str.replace(r"\[\d+\]$", "", regex=True)
        name = whole.where(several, of["path"]).to_numpy(object)
    rows = []
    for label in dict.fromkeys(name):
        part = name == label
        bits = likelihood.Told(one.ids[part], one.nats[part], one.characters[part]).bits
        rows.append((label, int(one.characters[part].sum()), bits, 2**-bits))
    return pd.DataFrame(rows, columns=["class", "characters", "bits_per_character", likelihood.SCORE])


def question(config: Config, examples: Texts) -> str:
    """What the run was to answer."""
    split = examples.manifest["split"]
    read = int(examples.manifest.loc[split == "train", "characters"].sum())
    return (
        f"How well does a decoder that started from the weights {Path(config.weights).name} foretell the "
        f"texts of {Path(config.data).name} after reading {read:,} characters of them, and what does each "
        "way of using it bring?"
    )


def sections(
    config: Config,
    examples: Texts,
    comparison: pd.DataFrame,
    per_passage: pd.DataFrame,
    samples: pd.DataFrame | None,
    by_stage: pd.DataFrame,
) -> dict[str, Any]:
    """What `page.write` shows of this task: bits per character, how each network goes on, what was hardest.

    Each part is a function, so that one that fails costs no other.
    """
    return {
        "pictures": {},
        "score": (likelihood.SCORE, "probability of a character"),
        "sections": [
            lambda: bits(config, comparison),
            *([lambda: side_by_side(config, samples)] if samples is not None and len(samples) else []),
            *([lambda: stage_by_stage(config, by_stage)] if len(by_stage) else []),
            lambda: hardest(examples, per_passage),
        ],
    }


def bits(config: Config, comparison: pd.DataFrame) -> Section:
    """Every method in bits per character."""
    table = pd.DataFrame(
        {
            "method": comparison["method"],
            "bits_per_character": comparison["test_bits_per_character"],
            "low": -np.log2(comparison["high"]),
            "high": -np.log2(comparison["low"]),
            "bits_per_character_on_validation": -np.log2(comparison[f"val_{likelihood.SCORE}"]),
        }
    )
    return Section(
        "Bits per character",
        "What a character of the test texts takes to be told, given all before it (at least "
        f"{config.length // 2} tokens of that, where a text has them); less is better, and one bit less "
        "doubles the probability of each character. Low and high are of the 95 % interval.",
        tables=[("Test texts", table)],
    )


def side_by_side(config: Config, samples: pd.DataFrame) -> Section:
    """The same beginnings, gone on with by each network."""
    return Section(
        "How each goes on",
        f"Test passages, gone on with after their first words ({_drawn(config)}). Copied: characters of the "
        "longest part that stands in a training text as it is.",
        figures=[("", _marked(samples, "method"))],
    )


def stage_by_stage(config: Config, samples: pd.DataFrame) -> Section:
    """The same beginnings, gone on with by the network as each stage left it."""
    return Section(
        "How it went on, stage by stage",
        f"Validation passages, gone on with by the network as it was before the first stage and after each "
        f"({_drawn(config)}, the same random numbers for all).",
        figures=[("", _marked(samples, "stage"))],
    )


def _drawn(config: Config) -> str:
    """How tokens were chosen, and how many."""
    how = {"greedy": "the likeliest token each time", "beam": "beam search"}.get(
        config.sampler, f"{config.sampler} at temperature {config.temperature:g}"
    )
    return f"{how}, {config.new_tokens} tokens"


def _marked(samples: pd.DataFrame, by: str) -> Marked:
    """Beginnings with what was made of them, a line for each that made it (the column `by`)."""
    shown = []
    for _, rows in samples.groupby("passage", sort=False):
        lines = []
        for row in rows.to_dict("records"):
            prompt, made = _plain(row["prompt"]), _plain(row["continuation"])[:SHOWN]
            kind = TRUE if row[by] == TRUE else MADE
            span = [(len(prompt), len(prompt) + len(made), kind)] if made else []
            copied = f", {row['copied']} copied" if kind == MADE else ""
            lines.append((f"{row[by]}{copied}", prompt + made, span))
        shown.append(("", lines))
    return Marked(shown, (MADE, TRUE))


def hardest(examples: Texts, per_passage: pd.DataFrame) -> Section:
    """The test passages that took most."""
    table = per_passage[per_passage["characters"] >= BEFORE].nlargest(HARD, "bits_per_character")
    texts = [_plain(examples.texts[one])[:SHOWN] for one in table["id"]]
    table = table[["path", "characters", "bits_per_character"]].assign(text=texts)
    return Section("What was hardest", tables=[("Test passages that took most bits per character", table)])


def _plain(text: str) -> str:
    return "".join(" " if one.isspace() else one for one in text)


def card(config: Config, examples: Texts) -> cards.Task:
    """What the model card says of this task."""
    return cards.Task(
        title=Path(config.data).name,
        what="A decoder that foretells the next token of texts, which are all of the class",
        prepared=f"texts are read in windows of {config.length} tokens",
        takes="texts: strings (batch,) in UTF-8,",
        gives=f"tokens, int32 (batch, {config.length}), the mark of a beginning first, and logits, float32 "
        f"(batch, {config.length}, {examples.tokenizer.vocabulary_size()}), of what comes after each;",
        meant="Meant to go on with texts like those it was trained on, in their language. What it writes is "
        "likely and need not be true; it may repeat what it has read, word for word.",
        score=(likelihood.SCORE, "probability of a character"),
        columns={"characters": "characters", "probability of a character": likelihood.SCORE},
        commands=(
            "predict RUN TEXTS_FILES_OR_TABLES --output continued.csv",
            "evaluate RUN TEXTS",
            "export RUN --format savedmodel litert onnx",
        ),
        limits=("The probability of a character is 2 to the power of minus the bits per character.",),
        unit="passages",
        loads="It has layers of this project and of KerasHub: import `runner.text_networks.marking` and "
        "`runner.text_networks.tokens` before `keras.models.load_model`.",
    )
