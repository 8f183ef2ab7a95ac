"""Inputs of different lengths in rows of one: batches of neighbours in length, no longer than their longest.

A network that computes padding computes nothing of use: sentences of SST-2 have 25 tokens in the mean and 66
at most, so that whole rows cost two and a half times as much. Batches of neighbours cost 1.1 times
(bucketing, as in Sutskever, Vinyals and Le 2014, arXiv:1409.3215).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

POOL = 32
"""So many batches are sorted at a time: neighbours in length, and yet others in every epoch."""
ROUNDED = 8
"""Batches are a multiple of so many long: few shapes to compile for, and whole vectors."""


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long each input is.

    of: int64 (rows of the manifest,), at most `rows`. rows: the length of all inputs, along their first axis.
    cut: what of a batch is as long as its input; "label" too where each token has one.
    """

    of: np.ndarray
    rows: int
    cut: tuple[str, ...] = ("input",)

    def trim(self, batch: dict) -> dict:
        """The batch with what is `cut`, (batch, rows, ...), as long as the longest input, which "id" says."""
        longest = tf.reduce_max(tf.gather(tf.constant(self.of, tf.int64), batch["id"]))
        longest = tf.minimum(-(-longest // ROUNDED) * ROUNDED, self.rows)
        return batch | {name: batch[name][:, :longest] for name in self.cut}

    def batch(
        self,
        ordered: tf.data.Dataset,
        size: int,
        ids: Callable[[tf.Tensor | dict], tf.Tensor],
        *,
        drop_remainder: bool = False,
        seed: int | None = None,
    ) -> tf.data.Dataset:
        """Batches of `size` elements that are neighbours in length, of POOL batches at a time.

        ids: of a pool of elements their rows in the manifest. seed: also mix the batches, another way in each
        epoch; None leaves them from short to long within each pool.
        """

        def sort(pool: tf.Tensor | dict) -> tf.Tensor | dict:
            lengths = tf.gather(tf.constant(self.of, tf.int64), ids(pool))
            order = tf.argsort(lengths, stable=True)
            return tf.nest.map_structure(lambda one: tf.gather(one, order), pool)

        pools = ordered.batch(size * POOL).map(sort)
        batches = pools.unbatch().batch(size, drop_remainder=drop_remainder)
        return batches if seed is None else batches.shuffle(POOL, seed=seed, reshuffle_each_iteration=True)
