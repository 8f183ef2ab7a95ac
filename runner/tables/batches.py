"""Batches of rows, from the examples of a `Tables`."""

from runner.data.batches import SplitBatches
from runner.tables.load import Tables


def batches(data: Tables, split: str, batch_size: int, **options) -> SplitBatches:
    """The batches of a split: input float32 (batch, columns), label float32 (batch, classes), one-hot.

    data, split, batch_size, options (shuffle, seed, drop_remainder, weights, target): see `SplitBatches`.
    """
    return SplitBatches(data, split, batch_size, **options)
