"""What training makes smaller, the cross-entropy of every pixel and the soft Dice loss of every picture, and
what it is compared with.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.pictures.masks import IGNORE
from runner.scores import segmentation

from .config import Config


class Loss(keras.losses.Loss):
    """Cross-entropy plus `dice` times the soft Dice loss of the picture, float32 (batch, height, width).

    The Dice loss is 1 - D, with D the mean over the classes c that the picture has of

        D_c = 2 sum p_c g_c / (sum p_c + sum g_c),

    sums over the known pixels of one picture, p the probabilities and g the truth, 0 or 1 (Milletari et al.
    2016, arXiv:1606.04797, section 3, without their squares). Cross-entropy counts pixels, so that a network
    does well which knows the background; D counts classes, like the mean IoU. It is added to each pixel, so
    that sample weights weigh both; one picture at a time, so that several devices add up to one.

    Labels are whole numbers (batch, height, width), `masks.IGNORE` where a pixel is not known: its
    cross-entropy is that of class 0, to which its weight must be 0. Predictions are logits (batch, height,
    width, classes).
    """

    def __init__(self, dice: float = 1.0, name: str = "cross_entropy_and_dice", **arguments):
        super().__init__(name=name, **arguments)
        self.dice = dice

    def call(self, y_true, y_pred):
        truth = ops.cast(y_true, "int32")
        known = truth != IGNORE
        label = ops.where(known, truth, 0)
        cross_entropy = ops.sparse_categorical_crossentropy(label, y_pred, from_logits=True)
        known = ops.cast(known, y_pred.dtype)[..., None]
        p, g = ops.softmax(y_pred) * known, ops.one_hot(label, y_pred.shape[-1], dtype=y_pred.dtype) * known
        both, sizes = ops.sum(p * g, axis=(1, 2)), ops.sum(p + g, axis=(1, 2))
        there = ops.cast(ops.any(g > 0, axis=(1, 2)), y_pred.dtype)
        classes = ops.maximum(ops.sum(there, axis=-1), 1)
        lost = ops.sum(there * (1 - 2 * both / ops.maximum(sizes, 1)), axis=-1) / classes
        return cross_entropy + self.dice * lost[:, None, None]

    def get_config(self):
        return super().get_config() | {"dice": self.dice}


def targets(config: Config, examples: Data) -> Callable[[dict], dict]:
    """What the loss compares an augmented batch with: "label", the masks, and "weight", float32 per pixel.

    The weight is that of the pixel's class (`segmentation.class_weights`), and 0 where the mask is ignored.
    """
    of_train = examples.amounts[(examples.manifest["split"] == "train").to_numpy()]
    weights = np.zeros(256, np.float32)
    weights[: len(examples.classes)] = segmentation.class_weights(of_train, config.class_weights)

    def target(batch: dict) -> dict:
        mask = batch["mask"]
        return {
            "id": batch["id"],
            "input": batch["input"],
            "label": mask,
            "weight": tf.gather(weights, tf.cast(mask, tf.int32)),
        }

    return target
