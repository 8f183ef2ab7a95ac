"""Texts to token ids, and which word of the text each token begins: for networks that answer word by word.

A word here is what no tokenizer joins with what stands beside it: what lies between white space, and each
mark of punctuation by itself. Tokenised word by word a text has the tokens that it has as a whole; of byte
pairs without those of white space that no word follows.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from runner.text_networks.tokens import Tokens, graph, of_words, special

_MARKS = r"[!-/:-@\[-`{-~]|\p{P}"
_IDEOGRAPHS = (
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2CEAF}\x{F900}-\x{FAFF}"
    r"\x{2F800}-\x{2FA1F}]"
)
_BETWEEN = r"[\t\n\r\p{Z}]"
_UNSEEN = r"[\p{C}\p{Z}]+"
# GPT-2's rule: the space before a word is a part of it.
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
_FAR = 2**40
"""More bytes than any text has."""


def patterns(tokenizer: Any) -> tuple[str, str]:
    """RE2 patterns for a KerasHub tokenizer: of what parts words, and of that of it which is a word itself.

    Word pieces: BERT's basic tokenizer (Devlin et al. 2019). Byte pairs: GPT-2's (Radford et al. 2019).
    """
    if not of_words(tokenizer):
        return f"{_PIECES}|\\s", _PIECES
    kept = f"{_MARKS}|{_IDEOGRAPHS}" if getattr(tokenizer, "split_on_cjk", True) else _MARKS
    return f"{_BETWEEN}|{kept}", kept


class Parts(NamedTuple):
    """Texts in tokens; ragged int64 (texts, tokens of each)."""

    ids: tf.RaggedTensor
    starts: tf.RaggedTensor
    """Where the word that a token begins starts in its text, in characters; -1 for a token within a word."""
    ends: tf.RaggedTensor
    """Where that word ends, exclusive; -1 likewise."""


def parts(tokenizer: Any, texts: tf.Tensor) -> Parts:
    """The tokens of texts, strings (n,) in UTF-8, without those of beginning and end; in graphs and outside
    of them.
    """
    import tensorflow_text

    # What parts texts stops at a NUL, of which the tokenizer makes as little as of any other control.
    texts = tf.strings.regex_replace(texts, "\\x00", "\x01")
    pieces, begins, ends = tensorflow_text.regex_split_with_offsets(texts, *patterns(tokenizer))
    row, spoken = pieces.value_rowids(), pieces.flat_values
    ids = graph(tokenizer)(spoken)
    begin, end = _seen(spoken, begins.flat_values, ends.flat_values)
    begin, end = (_in_characters(texts, row, one) for one in (begin, end))
    word = ids.value_rowids()
    first = tf.concat([tf.ones_like(word[:1], tf.bool), word[1:] != word[:-1]], axis=0)

    def of_first(values: tf.Tensor) -> tf.RaggedTensor:
        return together(tf.where(first, tf.gather(values, word), -1))

    def together(values: tf.Tensor) -> tf.RaggedTensor:
        of_word = tf.RaggedTensor.from_row_splits(tf.cast(values, tf.int64), ids.row_splits, validate=False)
        return tf.RaggedTensor.from_row_splits(of_word, pieces.row_splits, validate=False).merge_dims(1, 2)

    return Parts(together(ids.flat_values), of_first(begin), of_first(end))


def _seen(words: tf.Tensor, begins: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Places in bytes without what nobody sees at a word's edges: a space before it, a byte-order mark."""
    whole = tf.strings.length(words)
    left, right = (
        tf.cast(whole - tf.strings.length(tf.strings.regex_replace(words, pattern, "")), begins.dtype)
        for pattern in (f"^{_UNSEEN}", f"{_UNSEEN}$")
    )
    something = left < tf.cast(whole, begins.dtype)
    return begins + tf.where(something, left, 0), ends - tf.where(something, right, 0)


def _in_characters(texts: tf.Tensor, row: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Places in bytes as places in characters (code points): int64 (n,); row: which text each is in."""
    _, begins = tf.strings.unicode_decode_with_offsets(texts, "UTF-8", errors="replace")
    # One search for all texts: those before lie far below.
    keys = begins.flat_values + _FAR * begins.value_rowids()
    found = tf.searchsorted(keys, tf.cast(places, tf.int64) + _FAR * row, out_type=tf.int64)
    return found - tf.gather(begins.row_starts(), row)


@functools.lru_cache(maxsize=8)  # tracing takes half a second
def _compiled(tokenizer: Any) -> Callable[[tf.Tensor], Parts]:
    return tf.function(
        lambda given: parts(tokenizer, given),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def in_memory(tokenizer: Any, texts: Sequence[str], at_once: int = 256) -> list[np.ndarray]:
    """The tokens of each text: int64 (tokens, 3), id, start and end as in `Parts`."""
    compiled, found = _compiled(tokenizer), list[np.ndarray]()
    for first in range(0, len(texts), at_once):
        three = compiled(tf.constant(texts[first : first + at_once]))
        values = np.stack([one.flat_values.numpy() for one in three], axis=-1)
        found += np.split(values, three.ids.row_splits.numpy()[1:-1])
    return found


@keras.saving.register_keras_serializable("runner")
class Words(keras.layers.Layer):
    """Strings (batch,), UTF-8, to int32 (batch, length, 3): the token's id, and start and end of the word
    that it begins, in characters; -1 and -1 for a token within a word, for those of beginning and end, and
    padding.

    tokenizer: of KerasHub, which keeps its vocabulary in the saved file; length: of the rows, at least 2. Of
    a longer text the rest is not read.
    """

    def __init__(self, tokenizer: Any, length: int, **options: Any):
        super().__init__(**options)
        self.tokenizer = tokenizer
        self.length = int(length)

    def build(self, shape: Any) -> None:
        self.built = True

    def call(self, texts: Any) -> Any:
        """As the class says, in graphs and outside of them; TensorFlow alone has strings."""
        start, end, padding = special(self.tokenizer)
        ids, *ends = (one[:, : self.length - 2] for one in parts(self.tokenizer, texts))

        def row(of: tf.RaggedTensor, before: int, behind: int, beyond: int) -> tf.Tensor:
            columns = [tf.fill([of.nrows(), 1], tf.constant(one, tf.int64)) for one in (before, behind)]
            whole = tf.concat([columns[0], of, columns[1]], axis=1)
            return tf.cast(whole.to_tensor(beyond, shape=[None, self.length]), tf.int32)

        return tf.stack([row(ids, start, end, padding), *(row(one, -1, -1, -1) for one in ends)], axis=-1)

    def compute_output_spec(self, texts: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*texts.shape[:1], self.length, 3), dtype="int32")

    def get_config(self) -> dict:
        tokenizer = keras.saving.serialize_keras_object(self.tokenizer)
        return super().get_config() | {"tokenizer": tokenizer, "length": self.length}

    @classmethod
    def from_config(cls, config: dict) -> "Words":
        tokenizer = keras.saving.deserialize_keras_object(config.pop("tokenizer"))
        return cls(tokenizer, **config)


def tokenizer(network: keras.Model) -> Any:
    """The layer of a network that cuts texts up, `Tokens` or `Words`; None of one that takes no texts."""
    return next((layer for layer in network.layers if isinstance(layer, Tokens | Words)), None)


def ids(network: keras.Model) -> str:
    """The name of the layer whose output is the token ids in a network that takes texts."""
    found = (layer for layer in network.layers if isinstance(layer, Tokens | Columns))
    return next(layer.name for layer in found if getattr(layer, "columns", (0,)) == (0,))


@keras.saving.register_keras_serializable("runner")
class Columns(keras.layers.Layer):
    """Some of the columns of what `Words` gives, int32: (batch, length) of one, (batch, length, n) of n."""

    def __init__(self, columns: Sequence[int], **options: Any):
        super().__init__(**options)
        self.columns = tuple(columns)

    def call(self, packed: Any) -> Any:
        first, last = self.columns[0], self.columns[-1]
        return packed[..., first] if first == last else packed[..., first : last + 1]

    def get_config(self) -> dict:
        return super().get_config() | {"columns": list(self.columns)}
