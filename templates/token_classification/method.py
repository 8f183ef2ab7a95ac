"""What training makes smaller, the cross-entropy of every word's tag, and what it is judged by meanwhile."""

import keras
from keras import ops

from runner.text import tags


class Loss(keras.losses.Loss):
    """The cross-entropy of the words of a text, in nats, summed and divided by `words`: float32 (batch,).

    words: how many a text has in the mean. A mean over texts is so one over words, in which each counts
    alike, and parts of a batch, on several devices or one after another, add up to the whole.

    Labels are tags, int32 (batch, length), `tags.NONE` where nothing is asked. Predictions are logits (batch,
    length, tags).
    """

    def __init__(self, words: float = 1.0, name: str = "cross_entropy", **arguments):
        super().__init__(name=name, **arguments)
        self.words = words

    def call(self, y_true, y_pred):
        asked = y_true != tags.NONE
        lost = ops.sparse_categorical_crossentropy(ops.where(asked, y_true, 0), y_pred, from_logits=True)
        return ops.sum(lost * ops.cast(asked, lost.dtype), axis=-1) / self.words

    def get_config(self):
        return super().get_config() | {"words": self.words}


class F1(keras.metrics.Metric):
    """F1 of entities by CoNLL's rule, of the largest logits: what `scores.entities` says of the same tags.

    Labels and predictions are those of `Loss`. A text in several windows counts as so many texts.
    """

    _direction = "up"

    def __init__(self, name: str = "f1", **arguments):
        super().__init__(name=name, **arguments)
        self.counts = self.add_weight(shape=(3,), initializer="zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.counts.assign(self.counts + ops.cast(right_found_wanted(y_true, y_pred), self.counts.dtype))

    def result(self):
        right, found, wanted = ops.unstack(self.counts)
        return 2 * right / ops.maximum(found + wanted, 1)

    def reset_state(self):
        self.counts.assign(ops.zeros_like(self.counts))


def right_found_wanted(y_true, y_pred):
    """How many entities are right, are found, and are there: int32 (3,), of what `F1` takes.

    An entity is right where both begin it, with one type, and both go on with it at the same words after
    that, up to the first one that neither goes on with.
    """
    asked = y_true != tags.NONE
    length = y_true.shape[1] or ops.shape(y_true)[1]
    numbers = ops.arange(1, length + 1)
    # For each place the number of the last one before it that is asked; 0 before the first.
    earlier = numbers[None, :] < numbers[:, None]
    before = ops.max(ops.where(asked[:, None] & earlier, numbers, 0), axis=-1)

    def read(found):
        """Where the word's entity begins, where it goes on, and its type."""
        found = ops.where(asked, ops.cast(found, "int32"), 0)
        padded = ops.concatenate([ops.zeros_like(found[:, :1]), found], axis=1)
        previous = ops.take_along_axis(padded, before, axis=1)
        kind, kind_before = (found + 1) // 2, (previous + 1) // 2
        goes_on = (found > 0) & (found % 2 == 0) & (kind == kind_before)
        return (found > 0) & ~goes_on, goes_on, kind, previous > 0

    begins, goes_on, kind, behind = read(y_true)
    found_begins, found_goes_on, found_kind, _ = read(ops.argmax(y_pred, axis=-1))
    wrong = begins & ~(found_begins & (kind == found_kind))
    # A word behind an entity belongs to it in this: that the answer does not go on there.
    lost = asked & behind & (goes_on != found_goes_on)
    number = ops.cumsum(ops.cast(begins, "int32"), axis=1)
    owner = number - ops.cast(begins, "int32")

    def spoiled(of, flags):
        """Of each entity of a row, by number, whether one of its places has the flag: bool (batch,
        length).
        """
        same = of[:, None] == numbers[:, None]
        return ops.any(same & flags[:, None], axis=-1)

    there = numbers <= number[:, -1:]
    right = there & ~spoiled(number, wrong) & ~spoiled(owner, lost)
    return ops.stack([ops.sum(ops.cast(one, "int32")) for one in (right, found_begins, begins)])
