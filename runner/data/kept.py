"""Batches of what was computed of a split's inputs and kept, in their place."""

import numpy as np
import tensorflow as tf

from runner.data.batches import Batches, SplitBatches
from runner.devices.multi_worker import Share


def batches(array: np.ndarray, split: SplitBatches) -> Batches:
    """Those batches with a kept array for their inputs: (views, examples in the order of `split.keys`, ...).

    Where the batches are shuffled, so are these; each mixes all views.
    """
    views, count = array.shape[:2]
    ids, labels, size = split.ids, split.labels(), split.batch_size
    # tf.data hands half-precision numbers of NumPy's to Python as bits only.
    # What was pooled is of one length, and in the same batches; a row of states is cut as the inputs are.
    lengths = split.lengths
    trims = array.ndim > 3 and lengths is not None and array.shape[2] == lengths.rows
    bits = array.view(f"u{array.dtype.itemsize}")
    dtype = tf.as_dtype(array.dtype)

    def taken(view: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return bits[view, rows]

    def gather(epochs: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        view = (epochs + rows) % views
        found = tf.numpy_function(taken, [view, rows], tf.as_dtype(bits.dtype), stateful=False)
        found = tf.bitcast(tf.ensure_shape(found, (None, *array.shape[2:])), dtype)
        batch = {"id": tf.gather(ids, rows), "input": found, "label": tf.gather(labels, rows)}
        return split.label(lengths.trim(batch) if lengths and trims else batch)

    def make(start: int | None, share: Share | None) -> tf.data.Dataset:
        def order() -> tf.data.Dataset:
            rows = tf.data.Dataset.range(count)
            rows = rows.shuffle(count, seed=split.seed) if split.shuffle else rows
            if lengths:
                seed = split.seed if split.shuffle else None
                ordered = lengths.batch(
                    rows,
                    size,
                    lambda pool: tf.gather(ids, pool),
                    drop_remainder=split.drop_remainder,
                    seed=seed,
                )
            else:
                ordered = rows.batch(size, drop_remainder=split.drop_remainder)
            return ordered if start is None else ordered.repeat().skip(start)

        # Made inside a function, so that each iterator begins with the same batch (see `SplitBatches`).
        ordered = tf.data.Dataset.range(1).flat_map(lambda _: order())
        if start is None:
            ordered = ordered.apply(tf.data.experimental.assert_cardinality(split.steps))
        numbered = ordered.enumerate(start or 0).map(
            lambda step, rows: (tf.fill(tf.shape(rows), step // split.steps), rows)
        )
        if share:
            numbered = share.split(numbered)
        made = numbered.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return made.prefetch(tf.data.AUTOTUNE)

    return Batches(make, split.steps)
