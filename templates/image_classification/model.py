"""The network: a pretrained backbone, average pooling, dropout, and one new dense layer."""

import keras

from runner.data.examples import Data
from runner.networks import backbones
from runner.networks.backbones import Block

from .config import Config

RIVAL_SIDE = 16
"""Pixels a side of what logistic regression on pixels sees: 768 numbers, as many as some backbones give."""


def build(config: Config, data: Data) -> tuple[keras.Model, tuple[Block, ...]]:
    """The classifier and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in, float32 logits (batch, classes) out; the
    backbone's own preprocessing is part of the model. The graph is flat: the backbone's layers are the
    model's layers.
    """
    backbone = backbones.build(config.backbone, config.image_size, config.weights)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    logits = keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x)
    return keras.Model(backbone.input, logits, name=backbone.name), backbones.blocks(backbone)


def build_rival(config: Config, data: Data) -> keras.Model:
    """Logistic regression on pixels: uint8 pictures as `build` takes them, made small, straight to logits."""
    image = keras.Input((config.image_size, config.image_size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.AveragePooling2D(max(1, config.image_size // RIVAL_SIDE))(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x))
