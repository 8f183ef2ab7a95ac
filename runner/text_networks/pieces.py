"""What a translation is written in: words and parts of words, learnt from texts, and back to strings in a
graph.

Byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv:1508.07909) by the package tokenizers: what stands
together most often becomes one piece. A space is written as a sign of its own, so that pieces that are put
together are the text again.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

SPECIAL = ("<padding>", "<begin>", "<end>", "<unknown>")
PADDING, BEGIN, END, UNKNOWN = range(len(SPECIAL))
"""The first ids; all others stand for something that is written."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
LEAST = 2
"""How often a pair stands in the texts that becomes a piece."""
MOST = 2**15
"""The most pieces there may be."""


class Pieces:
    """Pieces and how texts are cut into them, as one string (`learn` makes it), which holds all of it."""

    def __init__(self, written: str):
        self.written = written
        self._tokenizer = tokenizers.Tokenizer.from_str(written)
        found = self._tokenizer.get_vocab()
        self.names: tuple[str, ...] = tuple(sorted(found, key=found.__getitem__))
        """In the order of the ids."""

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without beginning and end; white space counts as single spaces within."""
        return [one.ids for one in self._tokenizer.encode_batch([_plain(text) for text in texts])]

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for, up to the first end."""
        found = ""
        for one in ids:
            if one == END:
                break
            found += "" if one < len(SPECIAL) else self.names[one]
        return found.replace(SPACE, " ").strip()

    def digest(self) -> str:
        """SHA-256 of all that decides the ids."""
        return hashlib.sha256(self.written.encode()).hexdigest()


def learn(texts: Sequence[str], size: int) -> Pieces:
    """The pieces of some texts: each of their characters, and the most frequent pairs, at most `size`.

    The same texts give the same pieces. A word and the marks beside it share no piece.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(SPACE, prepend_scheme="always"), pre_tokenizers.Punctuation("isolated")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=LEAST, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(map(_plain, texts), trainer)
    # As JSON of ours: what is written must not hang on the order of a hash table.
    return Pieces(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


@keras.saving.register_keras_serializable("runner")
class Written(keras.layers.Layer):
    """Ids of pieces, int32 (batch, length), to the texts that they stand for, strings (batch,).

    pieces: `Pieces.written`.
    """

    def __init__(self, pieces: str, **options: Any):
        super().__init__(**options)
        self.pieces = pieces
        names = Pieces(pieces).names
        self.names = tuple("" if number < len(SPECIAL) else one for number, one in enumerate(names))

    def call(self, ids: Any) -> Any:
        """As `Pieces.decode`, in graphs; TensorFlow alone has strings."""
        before_end = tf.cumsum(tf.cast(ids == END, tf.int32), axis=1) == 0
        parts = tf.gather(tf.constant(self.names), tf.where(before_end, ids, PADDING))
        return tf.strings.strip(tf.strings.regex_replace(tf.strings.reduce_join(parts, axis=1), SPACE, " "))

    def compute_output_spec(self, ids: Any) -> keras.KerasTensor:
        return keras.KerasTensor(ids.shape[:1], dtype="string")

    def get_config(self) -> dict:
        return super().get_config() | {"pieces": self.pieces}
