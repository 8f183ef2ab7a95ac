"""What the network learns before: outcomes of another table, or cells that are hidden from it; and the
penalty that keeps it near what it learned.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from runner.data.batches import Batches
from runner.moving import trainable
from runner.networks.backbones import Block
from runner.tables.layers import Prepared

HELD_OUT = 0.1
"""Of the rows that are learned from before, to choose the best epoch by."""
BATCH = 128
UNKNOWN = -1.0
"""Where nobody knows an outcome."""


@keras.saving.register_keras_serializable(package="thaw")
class Outcomes(keras.losses.Loss):
    """The cross-entropy of several outcomes that are so or not, in nats, the mean of those that are known:
    float32 (batch,).

    Labels are 1, 0 or UNKNOWN, predictions logits, (batch, outcomes).
    """

    def call(self, y_true, y_pred):
        known = ops.cast(y_true >= 0, y_pred.dtype)
        # -log sigmoid of the logit where it is so, of its negative where it is not.
        lost = ops.softplus(ops.where(y_true > 0.5, -y_pred, y_pred)) * known
        return ops.sum(lost, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)


@keras.saving.register_keras_serializable(package="thaw")
class Cells(keras.losses.Loss):
    """What it costs to fill in the cells of a row, the mean over those that are there: float32 (batch,).

    A number or a date costs the squared error of its value in standard deviations, a category its
    cross-entropy. Labels and predictions are features as `Prepared` makes them, (batch, features), the
    predictions of categories as logits. A denoising autoencoder (Vincent et al. 2008) of rows.

    continuous: how many numbers and dates; sizes: how many places each category has.
    """

    def __init__(self, continuous: int = 0, sizes: Sequence[int] = (), name: str = "cells", **options):
        super().__init__(name=name, **options)
        self.continuous, self.sizes = continuous, tuple(sizes)

    @classmethod
    def of(cls, layer: Prepared) -> "Cells":
        """That of the columns of a layer."""
        return cls(len(layer.continuous), [layer.columns[place].places for place in layer.categories])

    def call(self, y_true, y_pred):
        count = self.continuous
        there = 1.0 - y_true[:, count : 2 * count]
        lost = ops.sum(there * (y_true[:, :count] - y_pred[:, :count]) ** 2, axis=-1)
        known = ops.sum(there, axis=-1)
        first = y_true.shape[-1] - sum(self.sizes)
        for size in self.sizes:
            asked, logits = (one[:, first : first + size] for one in (y_true, y_pred))
            said = 1.0 - asked[:, 0]  # the first place is that of a missing category
            lost += said * -ops.sum(asked * ops.log_softmax(logits, axis=-1), axis=-1)
            known += said
            first += size
        return lost / ops.maximum(known, 1.0)

    def get_config(self):
        return super().get_config() | {"continuous": self.continuous, "sizes": list(self.sizes)}


def batches(rows: np.ndarray, targets: np.ndarray, seed: int) -> tuple[Batches, Batches]:
    """Batches to learn from before, and those to choose the best epoch by, HELD_OUT of the rows.

    rows: float32 (n, columns); targets: float32 (n, k).
    """
    order = np.random.RandomState([seed, 7]).permutation(len(rows))
    held = max(1, int(HELD_OUT * len(rows)))

    def dataset(chosen: np.ndarray) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((rows[chosen], targets[chosen]))

    train = dataset(order[held:]).shuffle(len(rows), seed=seed, reshuffle_each_iteration=True).batch(BATCH)
    return Batches.of(train), Batches.of(dataset(order[:held]).batch(512))


@keras.saving.register_keras_serializable(package="thaw")
class NearStart(keras.regularizers.Regularizer):
    """strength / 2 * |w - w0|², the distance of weights from where they started: L2-SP (Li et al. 2018,
    "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", arXiv:1802.01483, equation
    4), of the backbone alone.
    """

    def __init__(self, start: np.ndarray, strength: float):
        self.start, self.strength = np.asarray(start), float(strength)

    def __call__(self, x):
        return 0.5 * self.strength * ops.sum((x - ops.convert_to_tensor(self.start, x.dtype)) ** 2)

    def get_config(self):
        return {"start": self.start.tolist(), "strength": self.strength}


def stay_near(network: keras.Model, blocks: Sequence[Block], strength: float) -> None:
    """Add the penalty of `NearStart` to the backbone's trainable weights as they are now; a strength of 0
    adds nothing.
    """
    if not strength:
        return
    layers = trainable.layers_by_block(network, blocks)
    for name, found in layers.items():
        for layer in found if name != "head" else ():
            for variable in layer.trainable_variables:
                variable.regularizer = NearStart(ops.convert_to_numpy(variable), strength)
