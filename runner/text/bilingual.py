"""Texts and their translations become one `Pairs`: three datasets of what an encoder reads and a decoder
writes, one manifest, and what was wrong.

Every pair is tokenised once, before training begins, and kept. What translations are written in is learnt
from those of training.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import checks as of_any
from runner.data import examples
from runner.data.batches import SplitBatches
from runner.data.examples import Data
from runner.data.files import Row
from runner.data.lengths import Lengths
from runner.data.pairs import worst_first
from runner.data.sealed import Sealed
from runner.data.splits import USED
from runner.errors import InputError
from runner.text import checks
from runner.text.load import LONGEST, ROUNDED, divided
from runner.text.translations import UNIT, Translations
from runner.text_networks import pieces as written
from runner.text_networks import tokens
from runner.text_networks.pieces import BEGIN, END, PADDING, Pieces

RATIO = 4.0
"""How many times as long as all others, in pieces a token, a translation may be before it is said."""
FEW = 10
"""Tokens of a text that is too short to tell so."""


@dataclass(frozen=True, eq=False)
class Pairs(Data):
    """`Data` of pairs: there are no classes, and an element is {"id"; "input": int32 (length, 2), the tokens
    of the text and, beside them, the pieces of its translation, each after the one that it follows; "label":
    int32 (length,), the pieces that follow, PADDING behind the end; "source", "target": both as strings}.

    texts, targets: as they were found, by id, those of test among them: to show, once that is open.
    tokenizer: of KerasHub, for what is translated. pieces: what translations are written in; None of data
    that nothing is trained on. length: of the rows. languages: from which into which, "" where nothing says.
    """

    texts: Sequence[str] = ()
    targets: Sequence[str] = ()
    tokenizer: Any = None
    pieces: Pieces | None = None
    length: int = 0
    languages: tuple[str, str] = ("", "")

    def in_words(self) -> str:
        said = f"{self.unit}: {examples.splits_in_words(self.manifest)}"
        said += f" ({self.carved})" if self.carved else ""
        said += f"; from {self.languages[0]} into {self.languages[1]}" if self.languages[0] else ""
        return said + (f"; written in {len(self.pieces):,} pieces" if self.pieces else "")


def load(
    found: Translations,
    tokenizer: Any,
    length: int,
    pieces: int,
    *,
    seed: int = 0,
    train_examples: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    on_bad_data: str = "skip",
) -> Pairs:
    """Split pairs, check them and tokenise them; splits that the source gives are kept.

    A missing val or test is carved out of train, seeded; pairs of one group, and those whose texts say the
    same or nearly so, stay in one split.
    tokenizer: of KerasHub. length: what a text has more of, in tokens with those of beginning and end, or its
    translation in pieces, is cut off; it is reported where that are many. pieces: the most that are learnt.
    train_examples: train on so many, and validate on at most as many; the rest is "unused".
    val_fraction, test_fraction: shares in (0, 1); or 0 and 1, to judge a finished network by all of them.
    on_bad_data: "skip" leaves out and names pairs with nothing on one side; "stop" raises.
    Raises InputError for what a person can put right.
    """
    if not examples.is_whole(length) or not 3 <= length <= LONGEST:
        raise InputError(
            f"Received length={length!r}; a whole number of tokens from 3 to {LONGEST} is allowed."
        )
    examples.check_options(seed, None, val_fraction, test_fraction, on_bad_data)
    bad = [row for row in found.problems if row[1] == "unreadable"]
    if bad and on_bad_data == "stop":
        raise InputError(
            f"Received data={found.name!r} with {len(bad)} pairs that have nothing on one side, such as "
            f"{bad[0][0]!r}; fill or remove them, or skip them with on_bad_data='skip'."
        )
    texts, targets = list(map(str, found.read())), list(found.targets)
    manifest = examples.begin_manifest(found)
    manifest["sha256"] = [
        hashlib.sha256(f"{text}\0{target}".encode()).hexdigest()
        for text, target in zip(texts, targets, strict=True)
    ]
    manifest["characters"] = [len(text) for text in texts]
    manifest["tokens"], manifest["unknown"] = tokens.counts(tokenizer, texts)
    pairs, clusters, carved = divided(
        manifest,
        texts,
        np.zeros(len(manifest), np.int64),
        unit=UNIT,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        train_examples=train_examples,
    )
    learns = test_fraction != 1
    if learns:
        known = written.learn([targets[one] for one in examples.ids(manifest, "train")], pieces)
        parts = known.encode(targets)
    else:
        known, parts = None, [[] for _ in targets]
    manifest["pieces"] = [len(one) + 1 for one in parts]

    used = manifest[manifest["split"].isin(USED)]
    longest = int(used[["tokens", "pieces"]].max().max())
    rows = min(int(length), -(-longest // ROUNDED) * ROUNDED)
    layer = tokens.Tokens(tokenizer, rows, name="tokenizer")
    made = [_dataset(layer, texts, targets, parts, examples.ids(manifest, split), learns) for split in USED]
    told = found.problems + everything(manifest, texts, targets, pairs, clusters, length, learns)
    return Pairs(
        made[0],
        made[1],
        Sealed(made[2]),
        (),
        manifest,
        examples.problems(told),
        worst_first(pairs, manifest, clusters),
        recipe=f"{rows} {tokens.digest(tokenizer)} {known.digest() if known else ''}",
        unit=UNIT,
        carved=carved,
        texts=texts,
        targets=targets,
        tokenizer=tokenizer,
        pieces=known,
        length=rows,
        languages=found.languages,
    )


def batches(data: Pairs, split: str, batch_size: int, **options) -> SplitBatches:
    """The batches of a split, each as long as its longest text or translation: input int32 (batch, longest,
    2), label int32 (batch, longest).

    data, split, batch_size, options (shuffle, seed, drop_remainder): see `SplitBatches`.
    """
    both = data.manifest[["tokens", "pieces"]].max(axis=1).to_numpy(np.int64)
    lengths = Lengths(np.minimum(both, data.length), data.length, ("input", "label"))
    return SplitBatches(data, split, batch_size, lengths=lengths, **options)


def rows_of(parts: Sequence[Sequence[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """What a decoder is given of translations, and what it is to say: int32 (texts, length) each.

    Of one that is cut off the end is not to be said.
    """
    given, said = (np.full((len(parts), length), PADDING, np.int32) for _ in range(2))
    for row, part in enumerate(parts):
        whole = [BEGIN, *part, END]
        own = whole[: length + 1]
        given[row, : len(own) - 1], said[row, : len(own) - 1] = own[:-1], own[1:]
    return given, said


def _dataset(
    layer: tokens.Tokens,
    texts: Sequence[str],
    targets: Sequence[str],
    parts: Sequence[Sequence[int]],
    ids: np.ndarray,
    learns: bool,
) -> tf.data.Dataset:
    """The elements of a split, as `Pairs` says; where nothing is learnt nothing is given and asked."""
    given, said = rows_of([parts[one] for one in ids], layer.length)
    read = [np.zeros((0, layer.length), np.int32)]
    for first in range(0, len(ids), 1024):
        read.append(layer(tf.constant([texts[one] for one in ids[first : first + 1024]])).numpy())
    return tf.data.Dataset.from_tensor_slices(
        {
            "id": ids,
            "input": np.stack([np.concatenate(read), given * learns], axis=-1),
            "label": said * learns,
            "source": tf.constant([texts[one] for one in ids], tf.string),
            "target": tf.constant([targets[one] for one in ids], tf.string),
        }
    )


# ---------------------------------------------------------------- what may be wrong


def everything(
    manifest: pd.DataFrame,
    texts: Sequence[str],
    targets: Sequence[str],
    pairs: pd.DataFrame,
    clusters: np.ndarray,
    length: int,
    learns: bool,
) -> list[Row]:
    """All checks of pairs: those of texts that make sense without labels, and what only a pair can have."""
    like = "say nearly the same as another, as versions of one text do"
    beyond = manifest["tokens"] > length
    if learns:
        beyond |= manifest["pieces"] > length
    return [
        *of_any.copies(manifest),
        *of_any.near_copies(manifest, pairs, "says"),
        *of_any.versions(manifest, clusters, UNIT, like),
        *checks.unknown_words(manifest),
        *checks.cut_off(manifest, beyond.to_numpy(), length),
        *untranslated(manifest, texts, targets),
        *(unlike(manifest) if learns else []),
    ]


def untranslated(manifest: pd.DataFrame, texts: Sequence[str], targets: Sequence[str]) -> list[Row]:
    """Pairs whose translation is the text itself; kind "untranslated"."""
    same = [
        path
        for path, text, target in zip(manifest["path"], texts, targets, strict=True)
        if checks.fold(text) == checks.fold(target) and " " in text
    ]
    if not same:
        return []
    message = f"{len(same)} translations are the text itself, the first {same[0]!r}: take them out"
    return [("", "untranslated", message)]


def unlike(manifest: pd.DataFrame) -> list[Row]:
    """Pairs one of whose sides is far too long for the other, as where lines do not belong together; kind
    "misaligned".
    """
    share = manifest["pieces"] / manifest["tokens"]
    middle = share.median()
    odd = (share > RATIO * middle) | (share < middle / RATIO)
    odd &= manifest[["pieces", "tokens"]].max(axis=1) > FEW
    if not odd.any():
        return []
    message = (
        f"{odd.sum()} translations are over {RATIO:.0f} times as long or as short as others are for such a "
        f"text, the first {manifest.loc[odd.idxmax(), 'path']!r}: see whether the lines belong together"
    )
    return [("", "misaligned", message)]
