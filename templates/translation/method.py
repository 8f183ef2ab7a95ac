"""What training makes smaller, the cross-entropy of every piece of a translation, and what is watched
meanwhile.
"""

import keras
from keras import ops

from runner.text_networks.pieces import PADDING


class Loss(keras.losses.Loss):
    """The cross-entropy of the pieces of a translation, in nats, summed and divided by `pieces`: float32
    (batch,).

    Each piece is to be told from the right ones before it (teacher forcing). pieces: how many a translation
    has in the mean. A mean over translations is so one over pieces, in which each counts alike, and parts of
    a batch, on several devices or one after another, add up to the whole. smoothing: a share of the
    probability that is asked for all pieces alike (Szegedy et al. 2016, arXiv:1512.00567).

    Labels are int32 (batch, length), PADDING where nothing is asked. Predictions are logits (batch, length,
    pieces).
    """

    def __init__(self, pieces: float = 1.0, smoothing: float = 0.0, name: str = "cross_entropy", **arguments):
        super().__init__(name=name, **arguments)
        self.pieces, self.smoothing = pieces, smoothing

    def call(self, y_true, y_pred):
        asked = ops.cast(y_true != PADDING, y_pred.dtype)
        lost = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if self.smoothing:
            spread = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
            lost = (1 - self.smoothing) * lost + self.smoothing * spread
        return ops.sum(lost * asked, axis=-1) / self.pieces

    def get_config(self):
        return super().get_config() | {"pieces": self.pieces, "smoothing": self.smoothing}


class Accuracy(keras.metrics.Metric):
    """The share of pieces that are told rightly from the right ones before them. Takes what `Loss` takes."""

    _direction = "up"

    def __init__(self, name: str = "accuracy", **arguments):
        super().__init__(name=name, **arguments)
        self.counts = self.add_weight(shape=(2,), initializer="zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        asked = y_true != PADDING
        right = asked & (ops.cast(ops.argmax(y_pred, axis=-1), y_true.dtype) == y_true)
        both = [ops.sum(ops.cast(one, self.counts.dtype)) for one in (right, asked)]
        self.counts.assign(self.counts + ops.stack(both))

    def result(self):
        right, asked = ops.unstack(self.counts)
        return right / ops.maximum(asked, 1)

    def reset_state(self):
        self.counts.assign(ops.zeros_like(self.counts))
