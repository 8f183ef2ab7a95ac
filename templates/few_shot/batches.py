"""Episodes as batches that networks are trained and judged by."""

import numpy as np
import tensorflow as tf

from runner.data.batches import Batches
from runner.data.examples import Data
from runner.devices.multi_worker import Share
from runner.errors import InputError

from . import classes, episodes


def of_episodes(
    data: Data, split: str, ways: int, shots: int, queries: int, steps: int, epochs: int, seed: int
) -> Batches:
    """Batches of one episode each: dicts of "input", uint8 (n, size, size, 3), the support class by class and
    then the queries; "label", float32 (n, ways), one-hot; "id", int64 (n,).

    split: "train" or "val". steps: episodes of an epoch; after epochs of them they begin again. Step n is the
    same episode whenever it is asked for, so that a training which goes on is the one that was stopped.
    Raises InputError for more than one worker: an episode is not divided.
    """
    ids, labels, pictures = classes.arrays(getattr(data, split))
    drawn = episodes.draw(labels, ways, shots, queries, steps * epochs, seed)
    rows = [drawn.support.reshape(steps * epochs, -1), drawn.query.reshape(steps * epochs, -1)]
    order = tf.constant(np.concatenate(rows, axis=1))
    own = np.concatenate([np.repeat(np.arange(ways), shots), np.repeat(np.arange(ways), queries)])
    answers, known, shown = tf.one_hot(own, ways), tf.constant(ids), tf.constant(pictures)

    @tf.autograph.experimental.do_not_convert
    def episode(step):
        chosen = tf.gather(order, step % (steps * epochs))
        return {"input": tf.gather(shown, chosen), "label": answers, "id": tf.gather(known, chosen)}

    def make(start: int | None, share: Share | None) -> tf.data.Dataset:
        if share and share.workers > 1:
            raise InputError("an episode is not divided over workers; start one, or leave these methods out.")
        numbers = tf.data.Dataset.range(steps) if start is None else tf.data.Dataset.range(start, 2**62)
        return numbers.map(episode)

    return Batches(make, steps)
