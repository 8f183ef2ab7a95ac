"""Texts to rows of token ids, as a layer: the tokenizer is a part of the network that is saved."""

import functools
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("runner")
class Tokens(keras.layers.Layer):
    """Strings (batch,), UTF-8, to int32 (batch, length): the token of the beginning, those of the text as far
    as they fit, the token of the end, and padding.

    tokenizer: of KerasHub, which keeps its vocabulary in the saved file; length: of the rows, at least 2.
    ended: False leaves out the token of the end, for texts that are to go on.
    """

    def __init__(self, tokenizer: Any, length: int, ended: bool = True, **options: Any):
        super().__init__(**options)
        self.tokenizer = tokenizer
        self.length = int(length)
        self.ended = bool(ended)
        self.in_graph = graph(tokenizer)

    def build(self, shape: Any) -> None:
        self.built = True

    def call(self, texts: Any) -> Any:
        """As the class says, in graphs and outside of them; TensorFlow alone has strings."""
        start, end, padding = special(self.tokenizer)
        found = self.in_graph(texts)[:, : self.length - 1 - self.ended]
        rows = found.nrows()
        ends = [tf.fill([rows, 1], tf.constant(one, found.dtype)) for one in (start, end)]
        whole = tf.concat([ends[0], found, *ends[1:][: self.ended]], axis=1)
        return tf.cast(whole.to_tensor(padding, shape=[None, self.length]), "int32")

    def compute_output_spec(self, texts: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*texts.shape[:1], self.length), dtype="int32")

    def get_config(self) -> dict:
        tokenizer = keras.saving.serialize_keras_object(self.tokenizer)
        return super().get_config() | {
            "tokenizer": tokenizer,
            "length": self.length,
            "ended": self.ended,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Tokens":
        tokenizer = keras.saving.deserialize_keras_object(config.pop("tokenizer"))
        return cls(tokenizer, **config)


CLEANED = (
    "control characters and U+FFFD (Unicode's C, but for tab and line ends) are left out, and each space "
    "(Unicode's Z) is a plain one"
)
"""What BERT's own code does with a text before all else, and `cleaned` here."""


@functools.lru_cache(maxsize=8)  # tracing takes a fifth of a second
def graph(tokenizer: Any) -> Callable[[tf.Tensor], tf.RaggedTensor]:
    """A KerasHub tokenizer as a compiled function, strings (texts,) to ids: outside of graphs it works in
    Python, text by text, and returns lists. Texts for word pieces are `cleaned`.
    """
    clean = cleaned if of_words(tokenizer) else tf.identity
    return tf.function(
        lambda texts: tokenizer.tokenize(clean(texts)),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def cleaned(texts: tf.Tensor) -> tf.Tensor:
    """Strings of which what CLEANED says is done.

    KerasHub knows the spaces of ASCII alone: two words with a no-break space between them would be one, and
    unknown.
    """
    seen = tf.strings.regex_replace(texts, r"[^\P{C}\t\n\r]|\x{FFFD}", "")
    return tf.strings.regex_replace(seen, r"\p{Z}", " ")


def of_words(tokenizer: Any) -> bool:
    """Whether a KerasHub tokenizer is a list of words and pieces of words, as BERT's is."""
    return hasattr(tokenizer, "suffix_indicator")


def digest(tokenizer: Any) -> str:
    """SHA-256 of all that decides which ids a KerasHub tokenizer gives: its settings, and its vocabulary,
    which they lack.
    """
    # Its name is numbered where another was made before.
    settings = {name: value for name, value in tokenizer.get_config().items() if name != "name"}
    found = hashlib.sha256(repr(settings).encode())
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_assets(folder)
        for path in sorted(Path(folder).iterdir()):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def special(tokenizer: Any) -> tuple[int, int, int]:
    """The ids of a KerasHub tokenizer for the beginning, the end and padding."""
    start = getattr(tokenizer, "cls_token_id", None)
    start = tokenizer.start_token_id if start is None else start
    end = getattr(tokenizer, "sep_token_id", None)
    return int(start), int(tokenizer.end_token_id if end is None else end), int(tokenizer.pad_token_id)


def unknown(tokenizer: Any) -> int:
    """The id that stands for words that a KerasHub tokenizer does not know; -1 where it spells out any."""
    return int(tokenizer.token_to_id(tokenizer.oov_token)) if hasattr(tokenizer, "oov_token") else -1


def counts(tokenizer: Any, texts: Sequence[str], at_once: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens each text has, with those of its beginning and end, and how many of them are unknown
    words: int64 (texts,) each.
    """
    tokenize, strange = graph(tokenizer), unknown(tokenizer)
    found = [np.zeros((2, 0), np.int64)]
    for first in range(0, len(texts), at_once):
        ids = tokenize(tf.constant(texts[first : first + at_once]))
        rows = tf.reduce_sum(tf.cast(tf.cast(ids, tf.int64) == strange, tf.int64), axis=1)
        found.append(np.stack([ids.row_lengths().numpy() + 2, rows.numpy()]))
    both = np.concatenate(found, axis=1)
    return both[0], both[1]


def ids(tokenizer: Any, texts: Sequence[str], at_once: int = 1024) -> list[np.ndarray]:
    """The tokens of each text, int64 (tokens of each,), without those of beginning and end."""
    tokenize, found = graph(tokenizer), list[np.ndarray]()
    for first in range(0, len(texts), at_once):
        rows = tokenize(tf.constant(texts[first : first + at_once]))
        found += np.split(rows.flat_values.numpy().astype(np.int64), rows.row_splits.numpy()[1:-1])
    return found


def lengths(tokenizer: Any, texts: Sequence[str], at_once: int = 1024) -> np.ndarray:
    """How many tokens each text has, with those of its beginning and end: int64 (texts,)."""
    return counts(tokenizer, texts, at_once)[0]
