"""Texts with labels or entities, or to be continued, from anywhere become one `Texts`: three datasets of
token ids, one manifest, and what was wrong.

Every text is tokenised once, before training begins, and kept.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import examples, splits
from runner.data.checks import count
from runner.data.examples import Data
from runner.data.pairs import clusters as clusters_of
from runner.data.pairs import worst_first
from runner.data.sealed import Sealed
from runner.data.source import Source
from runner.data.splits import USED
from runner.errors import InputError
from runner.text import checks, entity_checks, near_duplicates, passages, sources, windows
from runner.text.passages import Passages
from runner.text_networks import tokens, words

UNIT = "texts"
LONGEST = 512
"""The most tokens that the encoders here have positions for."""
ROUNDED = 8
"""Rows of token ids are a multiple of so many long: few lengths to compile for, and whole vectors."""


@dataclass(frozen=True, eq=False)
class Texts(Data):
    """`Data` of texts: an element's input is int32 (length,), as `text_networks.tokens.Tokens` gives them. Of
    texts with entities, or to be continued, an element is a window of a text, as `text.windows.dataset` and
    `text.passages.dataset` give them.

    texts: as they were found, by id, those of test among them: to show, once that is open.
    tokenizer: of KerasHub. length: of the rows, of the longest text that is used or at most what was asked
    for.
    """

    texts: Sequence[str] = ()
    tokenizer: Any = None
    length: int = 0


def load(
    source: str | Path | Source,
    tokenizer: Any,
    length: int,
    *,
    seed: int = 0,
    labels_per_class: int | None = None,
    train_examples: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    on_bad_data: str = "skip",
) -> Texts:
    """Load texts, split them, check them and tokenise them.

    source: as `sources.find` takes it, or a `Source` whose `read` gives texts, such as `entities.find` makes.
    Splits that it gives are kept.
    A missing val or test is carved out of train, stratified and seeded; texts of one group, and texts that
    say the same or nearly so, stay in one split.
    tokenizer: of KerasHub (`text_networks.text_weights.tokenizer`). length: what a text has more of, in
    tokens, those of its beginning and end among them, is cut off; it is reported where that are many. Texts
    with entities are read in windows of so many tokens, and nothing is cut off.
    labels_per_class: train on this many texts per class, and validate on at most as many; the rest is
    "unused", and test is never thinned. train_examples: the same for texts with entities, of all together.
    val_fraction, test_fraction: share of the texts there are to split, in (0, 1); or 0 and 1, to judge a
    finished network by all of them.
    on_bad_data: "skip" leaves out and names what is no text, or empty; "stop" raises.
    Raises InputError for what a person can put right.
    """
    if not examples.is_whole(length) or not 3 <= length <= LONGEST:
        raise InputError(
            f"Received length={length!r}; a whole number of tokens from 3 to {LONGEST} is allowed."
        )
    examples.check_options(seed, labels_per_class, val_fraction, test_fraction, on_bad_data)
    found = source if isinstance(source, Source) else sources.find(source)
    shown = repr(found.name)
    examples.check_source(found, shown, labels_per_class, train_examples, UNIT, trains=test_fraction != 1)
    refuse_unreadable(found, on_bad_data)
    texts = [one if isinstance(one, str) else one.decode() for one in found.read()]
    manifest = examples.begin_manifest(found)
    manifest["sha256"] = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    manifest["characters"] = [len(text) for text in texts]
    if found.target is None:
        manifest["tokens"], manifest["unknown"] = tokens.counts(tokenizer, texts)
        labels, amounts = manifest["label"].cat.codes.to_numpy(np.int64), None
    else:
        parts = words.in_memory(tokenizer, texts)
        strange = tokens.unknown(tokenizer)
        manifest["tokens"] = [len(one) + 2 for one in parts]
        manifest["unknown"] = [int((one[:, 0] == strange).sum()) for one in parts]
        targets = [found.target(row) for row in range(len(texts))]
        amounts = np.stack([one.amounts for one in targets])
        labels = examples.rarest(amounts)
    pairs, clusters, carved = divided(
        manifest,
        texts,
        labels,
        amounts,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        labels_per_class=labels_per_class,
        train_examples=train_examples,
    )
    counts = count(manifest, found.classes, amounts)
    truncated = None if amounts is not None else (manifest["tokens"] > length).to_numpy()
    told = found.problems + checks.everything(manifest, texts, counts, pairs, clusters, truncated, length)

    used = manifest["tokens"][manifest["split"].isin(USED)]
    rows = min(int(length), -(-int(used.max()) // ROUNDED) * ROUNDED)
    ids = [examples.ids(manifest, split) for split in USED]
    if amounts is None:
        layer = tokens.Tokens(tokenizer, rows, name="tokenizer")
        train, val, test = (_dataset(layer, texts, one, labels) for one in ids)
    else:
        arrays = {name: np.stack([one.arrays[name] for one in targets]) for name in ("spans", "classes")}
        told += entity_checks.out_of_reach(texts, parts, arrays["spans"])
        special = tokens.special(tokenizer)
        train, val, test = (windows.dataset(parts, one, arrays, rows, special) for one in ids)
    return Texts(
        train,
        val,
        Sealed(test),
        found.classes,
        manifest,
        examples.problems(told),
        worst_first(pairs, manifest, clusters),
        amounts=amounts,
        recipe=f"{rows} {tokens.digest(tokenizer)}",
        unit=UNIT,
        counted=found.counted,
        carved=carved,
        texts=texts,
        tokenizer=tokenizer,
        length=rows,
    )


def load_passages(
    source: Passages,
    tokenizer: Any,
    length: int,
    *,
    seed: int = 0,
    train_characters: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    on_bad_data: str = "skip",
) -> Texts:
    """Load texts to be continued, split them, check them and tokenise them.

    source: of `passages.find`, which has the splits of few documents already; of more, a missing val or test
    is carved out of train, documents whole. tokenizer: of KerasHub. length: of the windows, in tokens; those
    of val and test share half of their tokens with the one before, which are not asked for again.
    train_characters: train on this many at most, and validate on as many at most; None on all. Other
    arguments, and what is raised: as of `load`.
    """
    examples.check_options(seed, None, val_fraction, test_fraction, on_bad_data)
    if train_characters is not None and (not examples.is_whole(train_characters) or train_characters < 1):
        raise InputError(
            f"Received train_characters={train_characters!r}; None or a whole number from 1 is allowed."
        )
    refuse_unreadable(source, on_bad_data)
    texts = [str(one) for one in source.read()]
    manifest = examples.begin_manifest(source)
    manifest["sha256"] = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    manifest["characters"] = [len(text) for text in texts]
    cut_up = tokens.ids(tokenizer, texts)
    manifest["tokens"], manifest["unknown"] = [len(one) + 2 for one in cut_up], 0
    manifest["document"] = source.documents
    amounts = manifest[["characters"]].to_numpy(np.int64)
    fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    pairs, clusters, carved = divided(
        manifest, texts, examples.rarest(amounts), amounts, "passages", seed=seed, **fractions
    )
    if source.in_order:
        carved = f"val ({100 * val_fraction:.0f} %) and test ({100 * test_fraction:.0f} %): the ends of texts"
    if train_characters is not None and test_fraction != 1:
        manifest["split"] = passages.thinned(manifest, source.documents, train_characters, seed)
    told = source.problems + checks.everything(
        manifest, texts, count(manifest, source.classes, amounts), pairs, clusters, None
    )
    end = tokens.special(tokenizer)[1]

    def windows_of(split: str) -> tf.data.Dataset:
        context = 0 if split == "train" else length // 2
        rows = examples.ids(manifest, split)
        return passages.dataset(cut_up, rows, source.documents, length, end, context)

    train, val, test = map(windows_of, USED)
    return Texts(
        train,
        val,
        Sealed(test),
        source.classes,
        manifest,
        examples.problems(told),
        worst_first(pairs, manifest, clusters),
        amounts=amounts,
        recipe=f"{length} {tokens.digest(tokenizer)}",
        unit="passages",
        counted=source.counted,
        carved=carved,
        texts=texts,
        tokenizer=tokenizer,
        length=length,
    )


def refuse_unreadable(found: Source, on_bad_data: str) -> None:
    """Raise InputError where something of a source could not be read and `on_bad_data` is "stop"."""
    unreadable = [row for row in found.problems if row[1] == "unreadable"]
    if unreadable and on_bad_data == "stop":
        path, _, message = unreadable[0]
        raise InputError(
            f"Received data={found.name!r} with {len(unreadable)} files that are no text, such as {path!r}, "
            f"which {message}; repair or remove them, or skip them with on_bad_data='skip'."
        )


def divided(
    manifest: pd.DataFrame,
    texts: Sequence[str],
    labels: np.ndarray,
    amounts: np.ndarray | None = None,
    unit: str = UNIT,
    **how: Any,
) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Write the split of each row into the manifest; return near-duplicates, their clusters, and what was
    carved, in words. labels, amounts, unit, how: as `examples.divide` takes them.
    """
    pairs = near_duplicates.find(texts)
    clusters = clusters_of(pairs, len(manifest))
    given = set(manifest["split"]) - {""}
    carved = splits.carved_in_words(given, how["val_fraction"], how["test_fraction"])
    manifest["split"] = examples.divide(
        manifest, labels, clusters=clusters, unit=unit, amounts=amounts, **how
    )
    return pairs, clusters, carved


def _dataset(
    layer: tokens.Tokens, texts: Sequence[str], ids: np.ndarray, labels: np.ndarray
) -> tf.data.Dataset:
    """The examples of a split, tokenised: {"id", "input": int32 (length,), "label"}."""
    rows = np.concatenate(
        [np.zeros((0, layer.length), np.int32)]
        + [
            layer(tf.constant([texts[i] for i in ids[first : first + 1024]])).numpy()
            for first in range(0, len(ids), 1024)
        ]
    )
    return tf.data.Dataset.from_tensor_slices({"id": ids, "input": rows, "label": labels[ids]})
