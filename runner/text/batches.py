"""Batches of tokenised texts, each no longer than its longest, from the examples of a `Texts`."""

import numpy as np

from runner.data.batches import SplitBatches
from runner.data.lengths import Lengths
from runner.text.load import Texts


def batches(data: Texts, split: str, batch_size: int, **options) -> SplitBatches:
    """The batches of a split: input int32 (batch, longest), label float32 (batch, classes), one-hot, or of
    texts with entities int32 (batch, longest), a tag for each token (`text.tags`).

    data, split, batch_size, options (shuffle, seed, drop_remainder, weights): see `SplitBatches`.
    """
    lengths = np.minimum(data.manifest["tokens"].to_numpy(np.int64), data.length)
    cut = ("input",) if data.amounts is None else ("input", "label")
    return SplitBatches(data, split, batch_size, lengths=Lengths(lengths, data.length, cut), **options)
