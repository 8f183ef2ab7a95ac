"""Word vectors in the text form of GloVe, word2vec and fastText, as the simplest of encoders: a vector for
each word, whatever stands around it.

A line is a word and its numbers, with spaces between; word2vec and fastText begin with a line of two numbers,
how many words there are and how long their vectors. Words come in the order of the file, the most frequent
first.
"""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runner import quiet
from runner.errors import InputError

if TYPE_CHECKING:
    import keras

ENDINGS = {".txt", ".vec"}
NAME = "word-vectors"
"""What this encoder is called as a backbone."""
LAYER = "word_vectors"
MOST = 200_000
"""Words of a file that are read, the first ones: 240 MB of 300 numbers each."""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What is no word. All have the vector 0, which stands for no token: a word that the file lacks counts
nothing in a mean.
"""
EXPECTED = (
    "a file of word vectors has a word and its numbers in each line, with spaces between (GloVe, word2vec, "
    "fastText)"
)


def read(path: str | Path) -> tuple[list[str], np.ndarray]:
    """The first MOST words of a file and their vectors, float32 (words, dimensions); of a word that stands
    twice the first.

    Raises InputError for a file of another form, in one line with its number.
    """
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        raise InputError(f"weights='{path}' cannot be read ({error}); {EXPECTED}.") from error
    return _read(str(path), changed, MOST)


@functools.lru_cache(maxsize=1)  # the tokenizer and each network of a run ask for the same file
def _read(path: str, changed: int, most: int) -> tuple[list[str], np.ndarray]:
    """`read`, of a file that was changed at this time."""
    found: dict[str, np.ndarray] = {}
    size = 0
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            for number, line in enumerate(file, 1):
                parts = line.rstrip("\r\n ").split(" ")
                if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                    continue
                size = size or len(parts) - 1
                # A word with a space in it, as a few of GloVe's are: its numbers are the last ones.
                word, values = " ".join(parts[:-size]) if size else "", parts[-size:]
                if size < 2 or not word:
                    raise ValueError(f"line {number} has {len(parts) - 1} numbers, others have {size}")
                vector = np.array(values, np.float32)
                if not np.isfinite(vector).all():
                    raise ValueError(f"line {number} has a number that is none")
                found.setdefault(word, vector)
                if len(found) == most:
                    break
    except (OSError, ValueError) as error:
        raise InputError(f"weights='{path}' cannot be read ({error}); {EXPECTED}.") from error
    if not found:
        raise InputError(f"weights='{path}' has no words; {EXPECTED}.")
    return list(found), np.stack(list(found.values()))


def tokenizer(path: str | Path) -> Any:
    """A KerasHub tokenizer that knows the words of a file whole, and no parts of words.

    It reads texts in lower case where no word of the file has a capital letter.
    """
    import keras_hub

    words = read(path)[0]
    quiet.settle_keras()
    lower = not any(word != word.lower() for word in words)
    known = [*SPECIAL, *(word for word in words if word not in SPECIAL)]
    return keras_hub.models.BertTokenizer(known, lowercase=lower, strip_accents=False)


def build(path: str | Path) -> "keras.Model":
    """The vectors of the tokens that `tokenizer` gives: int32 (batch, length) to (batch, length,
    dimensions).
    """
    import keras

    words, matrix = read(path)
    kept = [row for row, word in enumerate(words) if word not in SPECIAL]
    table = np.concatenate([np.zeros((len(SPECIAL), matrix.shape[1]), np.float32), matrix[kept]])
    ids = keras.Input((None,), dtype="int32", name="tokens")
    layer = keras.layers.Embedding(*table.shape, name=LAYER)
    hidden = layer(ids)
    layer.set_weights([table])
    return keras.Model(ids, hidden, name=NAME)
