"""What training makes smaller, the cross-entropy of each next token, and what is told of it meanwhile."""

import keras
from keras import ops

from runner.text.passages import NOTHING


def nats(y_true, y_pred):
    """What each next token took, -ln p, and which were asked for: float32 and bool (batch, length).

    Labels are tokens, int32 (batch, length), `NOTHING` where none is asked for. Predictions are logits
    (batch, length, tokens).
    """
    asked = y_true != NOTHING
    taken = ops.sparse_categorical_crossentropy(ops.where(asked, y_true, 0), y_pred, from_logits=True)
    return ops.where(asked, taken, 0.0), asked


class Loss(keras.losses.Loss):
    """What a token of a window took in the mean, in nats, of those asked for: float32 (batch,).

    Windows count alike, and all but the last of a split have as many tokens to ask for; so parts of a batch,
    on several devices or one after another, add up to the whole.
    """

    def __init__(self, name: str = "cross_entropy", **arguments):
        super().__init__(name=name, **arguments)

    def call(self, y_true, y_pred):
        taken, asked = nats(y_true, y_pred)
        return ops.sum(taken, axis=-1) / ops.maximum(ops.sum(ops.cast(asked, taken.dtype), axis=-1), 1)


class BitsPerToken(keras.metrics.Metric):
    """What a token took in the mean, in bits; labels and predictions are those of `nats`."""

    _direction = "down"

    def __init__(self, name: str = "bits_per_token", **arguments):
        super().__init__(name=name, **arguments)
        self.taken = self.add_weight(shape=(), initializer="zeros", name="taken")
        self.asked = self.add_weight(shape=(), initializer="zeros", name="asked")

    def update_state(self, y_true, y_pred, sample_weight=None):
        taken, asked = nats(y_true, y_pred)
        self.taken.assign(self.taken + ops.cast(ops.sum(taken), self.taken.dtype))
        self.asked.assign(self.asked + ops.cast(ops.sum(ops.cast(asked, "int32")), self.asked.dtype))

    def result(self):
        return self.taken / ops.maximum(self.asked, 1) / ops.log(2.0)

    def reset_state(self):
        self.taken.assign(0.0)
        self.asked.assign(0.0)
