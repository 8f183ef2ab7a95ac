"""What costs nothing: counted sequences of characters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from runner.data import examples as data_examples
from runner.text import passages
from runner.text.load import Texts
from runner.training import baselines
from runner.training.fit import Fit

ORDERS = 3, 4, 5, 6, 7
"""Bytes of a sequence, the last of which is told from those before it; the best on validation is taken."""
NO_BYTE = 0
"""Stands between documents."""


class Counts(NamedTuple):
    """How often sequences of one length stand in a text; a sequence of bytes is one number, its last byte
    lowest.
    """

    sequences: np.ndarray
    times: np.ndarray
    contexts: np.ndarray
    """Sequences without their last byte."""
    totals: np.ndarray
    kinds: np.ndarray
    """How many different bytes follow each context."""


@dataclass(frozen=True, eq=False)
class NGram:
    """Foretells each byte from those before it, by what followed these in the training texts.

    Longer contexts are trusted by how often they were seen and how few bytes followed them, and what is left
    goes to the next shorter one (Witten and Bell 1991, as in Chen and Goodman 1999): p_k = (n + T p_(k-1)) /
    (N + T), of n times the sequence, N times its context, and T different bytes behind that.
    """

    counts: Sequence[Counts]
    """Of sequences of 1 byte, of 2 and so on."""
    texts: Sequence[str]
    """By id."""
    documents: np.ndarray
    trainable_variables: ClassVar[tuple] = ()

    def nats(self, ids: np.ndarray) -> np.ndarray:
        """What each of these passages takes, in the order of a split: float64 (ids,)."""
        stream, owners = _stream(self.texts, self.documents, ids)
        places = np.searchsorted(ids, owners[1:])
        return np.bincount(places, weights=-np.log(self.probabilities(stream)[1:]), minlength=len(ids))

    def probabilities(self, stream: np.ndarray) -> np.ndarray:
        """Of each byte of a stream, float64 (bytes,)."""
        found = np.full(len(stream), 1 / 256)
        for codes, of in zip(_codes(stream, len(self.counts)), self.counts, strict=True):
            times = _looked_up(of.sequences, of.times, codes)
            context = codes >> np.uint64(8)
            total, kinds = (_looked_up(of.contexts, values, context) for values in (of.totals, of.kinds))
            seen = total > 0
            found[seen] = (times + kinds * found)[seen] / (total + kinds)[seen]
        return found


def fit(data: Texts) -> tuple[dict[str, Any], dict[str, Fit]]:
    """Count what the training texts have, as long sequences as validation likes best: the rival by its name,
    and a `Fit` without epochs of it.
    """
    started = time.perf_counter()
    documents = data.manifest["document"].to_numpy(np.int64)
    train, val = (data_examples.ids(data.manifest, split) for split in ("train", "val"))
    stream, _ = _stream(data.texts, documents, train)
    # The first byte is a mark, which nobody is asked for.
    counts = [_counted(codes[1:]) for codes in _codes(stream, max(ORDERS))]
    tried = [NGram(counts[:order], data.texts, documents) for order in ORDERS]
    best = min(tried, key=lambda one: one.nats(val).sum())
    took = Fit(pd.DataFrame(), pd.DataFrame(), time.perf_counter() - started)
    return {baselines.N_GRAM: best}, {baselines.N_GRAM: took}


def _stream(texts: Sequence[str], documents: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of passages one after another, as `passages.stream` has their tokens, and whose each is."""
    found = {int(one): np.frombuffer(texts[one].encode(), np.uint8) for one in ids}
    return passages.stream(found, ids, documents, NO_BYTE)


def _codes(stream: np.ndarray, most: int) -> list[np.ndarray]:
    """The last byte, the last two and so on up to each place of a stream: uint64 (bytes,) each."""
    padded = np.concatenate([np.full(most, NO_BYTE), stream]).astype(np.uint64)
    found, code = [], np.zeros(len(stream), np.uint64)
    for back in range(most):
        shifted = padded[most - back : most - back + len(stream)]
        code = code | (shifted << np.uint64(8 * back))
        found.append(code)
    return found


def _counted(codes: np.ndarray) -> Counts:
    sequences, times = np.unique(codes, return_counts=True)
    contexts, place = np.unique(sequences >> np.uint64(8), return_inverse=True)
    return Counts(
        sequences, times, contexts, np.bincount(place, weights=times), np.bincount(place).astype(float)
    )


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each key, 0 of one that is not there: float64."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0).astype(np.float64)
