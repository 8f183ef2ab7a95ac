"""What the report and the model card say of texts that are gone on with, beside what they say of every
training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.data.examples import ids
from runner.report import card as cards
from runner.report.section import Marked, Section
from runner.scores import likelihood
from runner.text import passages
from runner.text.load import Texts
from runner.text_runs import generate

from . import model
from .config import Config

PROMPTS, BEFORE, SHOWN, HARD = 6, 80, 400, 8
"""How many test passages are gone on with, after how many characters, how many are shown of a text, and how
many passages that took most."""
SEARCHED = 5_000_000
"""Characters of the training texts in which copied parts are looked for: each search goes through all."""
DOCUMENTS = 30
"""More documents than these have no rows of their own."""
MADE, TRUE = "the network's", "the author's"


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


def continued(
    config: Config, examples: Texts, networks: Mapping[str, Any], judged: Mapping[str, pd.Series]
) -> pd.DataFrame:
    """How each network goes on with the beginnings of a few test passages, and how their authors do.

    Columns passage, method, prompt, continuation, copied: characters of the longest part that stands in the
    training texts, of which the first SEARCHED characters are looked at.
    """
    test = next(iter(judged.values())).index.to_numpy(np.int64)
    long = [one for one in test if examples.manifest.loc[one, "characters"] >= 2 * BEFORE]
    chosen = [long[at] for at in np.linspace(0, len(long) - 1, min(PROMPTS, len(long))).astype(int)]
    starts = {one: _beginning(examples.texts[one]) for one in dict.fromkeys(chosen)}
    sources = "\n".join(examples.texts[one] for one in ids(examples.manifest, "train"))[:SEARCHED]
    rows = []
    for name, network in networks.items():
        if not isinstance(network, keras.Model):
            continue
        go_on = generate.Continuer(
            model.of_ids(network),
            examples.tokenizer,
            config.sampler,
            config.temperature,
            config.machine.seed,
        )
        found = go_on(list(starts.values()), config.new_tokens) if starts else []
        for (one, prompt), text in zip(starts.items(), found, strict=True):
            rows.append((one, name, prompt, text, generate.longest_copied(text, sources)))
    for one, prompt in starts.items():
        text = examples.texts[one][len(prompt) :][:SHOWN]
        rows.append((one, TRUE, prompt, text, generate.longest_copied(text, sources)))
    return pd.DataFrame(rows, columns=["passage", "method", "prompt", "continuation", "copied"])


def _beginning(text: str) -> str:
    """The first words of a text, BEFORE characters or fewer, to the end of a word."""
    cut = text[:BEFORE]
    end = max((at for at, one in enumerate(cut) if one.isspace()), default=0)
    return cut[:end] if end else cut


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
    shown = []
    for _, rows in samples.groupby("passage", sort=False):
        lines = []
        for row in rows.to_dict("records"):
            prompt, made = _plain(row["prompt"]), _plain(row["continuation"])[:SHOWN]
            kind = TRUE if row["method"] == TRUE else MADE
            span = [(len(prompt), len(prompt) + len(made), kind)] if made else []
            copied = f", {row['copied']} copied" if kind == MADE else ""
            lines.append((f"{row['method']}{copied}", prompt + made, span))
        shown.append(("", lines))
    drawn = {"greedy": "the likeliest token each time", "beam": "beam search"}.get(
        config.sampler, f"{config.sampler} at temperature {config.temperature:g}"
    )
    return Section(
        "How each goes on",
        f"Test passages, gone on with after their first words ({drawn}, {config.new_tokens} tokens). Copied: "
        "characters of the longest part that stands in a training text as it is.",
        figures=[("", Marked(shown, (MADE, TRUE)))],
    )


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
