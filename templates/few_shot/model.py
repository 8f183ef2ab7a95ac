"""The networks: a classifier of the known classes, what it gives for class means, and how it is trained."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.errors import InputError
from runner.networks import backbones, pixels
from runner.networks.backbones import Block

from . import method
from .config import Config

PIXELS_SIDE = 16
"""Pixels a side of what "pixels" compares."""


def known_classes(data: Data) -> int:
    """How many classes there are to train on; they are the first of `data.classes`."""
    codes = data.manifest["label"].cat.codes[data.manifest["split"] == "train"]
    return int(codes.max()) + 1


def build(config: Config, data: Data, classes: int | None = None) -> tuple[keras.Model, tuple[Block, ...]]:
    """The classifier of the known classes and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in, float32 logits (batch, classes) out; the
    backbone's own preprocessing is part of the model. The graph is flat: the backbone's layers are the
    model's layers. classes: of the head, where it is not for the known ones.
    """
    if config.backbone == "conv4":
        if config.weights != "none":
            raise InputError(
                f"weights={config.weights!r} cannot be used with the backbone conv4, which is always new; "
                "give --weights none."
            )
        backbone, blocks = conv4(config.image_size)
        x = keras.layers.Flatten(name="pool")(backbone.output)
    else:
        backbone = backbones.build(config.backbone, config.image_size, config.weights)
        blocks = backbones.blocks(backbone)
        x = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(backbone.output)
    x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    units = known_classes(data) if classes is None else classes
    logits = keras.layers.Dense(units, dtype="float32", name="head")(x)
    return keras.Model(backbone.input, logits, name=backbone.name), blocks


def conv4(image_size: int) -> tuple[keras.Model, tuple[Block, ...]]:
    """Four blocks of 64 filters of 3 x 3, BatchNorm, ReLU and pooling, as in Vinyals et al. 2016: pixels
    (batch, size, size, 3) in, (batch, size / 16, size / 16, 64) out; and its blocks.
    """
    image = keras.Input((image_size, image_size, 3), dtype="float32", name="image")
    x = ops.cast(image, "float32")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescaling")(x)
    blocks = []
    for number in range(1, 5):
        name = f"block{number}"
        x = keras.layers.Conv2D(64, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        # Momentum 0.9: the statistics of a few hundred steps; Keras' 0.99 would need thousands.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.MaxPooling2D(name=f"{name}_pool")(x)
        parts = ("conv", "bn", "relu", "pool")
        blocks.append(Block(f"{name}_pool", tuple(f"{name}_{part}" for part in parts)))
    network = keras.Model(image, x, name="conv4")
    pixels.guard(network)
    return network, tuple(blocks)


def pixel_features(config: Config) -> keras.Model:
    """Pictures made small, as rows of 0..1: what "pixels" takes the class means of."""
    image = keras.Input((config.image_size, config.image_size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.AveragePooling2D(max(1, config.image_size // PIXELS_SIDE))(x)
    return keras.Model(image, keras.layers.Flatten()(x))


def features(network: keras.Model) -> keras.Model:
    """What lies below a classifier's head: pictures to float32 (batch, d)."""
    return keras.Model(network.input, network.get_layer("pool").output, name=network.name)


def cosine(network: keras.Model) -> keras.Model:
    """`features` with rows of length 1."""
    x = keras.layers.UnitNormalization(name="length_1", dtype="float32")(network.get_layer("pool").output)
    return keras.Model(network.input, x, name=network.name)


def centred(network: keras.Model, centre: np.ndarray) -> keras.Model:
    """`features` less their mean over training pictures, float32 (d,), with rows of length 1."""
    shift = keras.layers.Rescaling(
        1.0, offset=[-float(one) for one in centre], name="centre", dtype="float32"
    )
    x = shift(network.get_layer("pool").output)
    x = keras.layers.UnitNormalization(name="length_1", dtype="float32")(x)
    return keras.Model(network.input, x, name=network.name)


class ByEpisodes(keras.Model):
    """A classifier in training, judged by episodes of the validation classes as it goes.

    A batch is one episode: (pictures, one-hot ways) of which the first ways * shots are the support, class by
    class. "softmax" trains on (pictures, one-hot classes) of any number. It is judged by class means of its
    features, centred by those of the support and normalised, ProtoNet by plain class means, and MAML and ANIL
    after the steps that they take in training.

    Args:
        network: the classifier of `build`.
        name: the method.
        config: has ways and shots of episodes.
    """

    def __init__(self, network: keras.Model, name: str, config: Config):
        super().__init__(name=network.name)
        # Class means have no head: it is left out, so that the ledger misses no gradient.
        outputs = [network.get_layer("pool").output] * 2
        outputs = outputs if name == "ProtoNet" else [network.output, outputs[1]]
        self.logits_and_features = keras.Model(network.input, outputs, name=network.name)
        inner = name not in ("softmax", "ProtoNet")
        self.network = network if inner else self.logits_and_features
        self.method, self.config = name, config
        self.built = True

    @property
    def output(self):
        """Of the classifier: logits (batch, classes); features for ProtoNet, which has no head."""
        return self.logits_and_features.output[0]

    def call(self, images, training=None):
        return self.logits_and_features(images, training=training)[0]

    def train_step(self, data):
        images, labels = keras.utils.unpack_x_y_sample_weight(data)[:2]
        with tf.GradientTape() as tape:
            if self.method == "softmax":
                logits, answers = self(images, training=True), labels
            else:
                ways, shots = training_episode(self.config, self.method)[:2]
                logits, answers = self.episode(images, labels, ways, shots, training=True)
            loss = self.compute_loss(images, answers, logits)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(answers)[0])
        return self.compute_metrics(images, answers, logits)

    def test_step(self, data):
        images, labels = keras.utils.unpack_x_y_sample_weight(data)[:2]
        logits, answers = self.episode(
            images, labels, self.config.ways, self.config.compare_shots, training=False
        )
        loss = self.compute_loss(images, answers, logits, training=False)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(answers)[0])
        return self.compute_metrics(images, answers, logits)

    def episode(self, images, labels, ways: int, shots: int, training: bool):
        """Logits and one-hot answers (queries, ways) of the queries of an episode."""
        count = ways * shots
        answers = labels[count:]
        if self.method in ("softmax", "ProtoNet"):
            found = ops.cast(self.logits_and_features(images, training=training)[1], "float32")
            if self.method == "softmax":
                found = found - ops.mean(found[:count], axis=0)
                found = found / (ops.norm(found, axis=1, keepdims=True) + 1e-6)
            support = ops.reshape(found[:count], [ways, shots, found.shape[1]])
            return method.prototypical(support, found[count:]), answers
        weights = method.adapted(
            self.network,
            [one.value for one in self.network.trainable_variables],
            moving(self.network, self.method),
            images[:count],
            tf.argmax(labels[:count], axis=1),
            self.config.inner_steps,
            self.config.inner_rate,
            training=transductive(self.config),
            first_order=not training or self.method == "first-order MAML",
        )
        fixed = [one.value for one in self.network.non_trainable_variables]
        logits, _ = self.network.stateless_call(
            weights, fixed, images[count:], training=transductive(self.config)
        )
        return ops.cast(logits, "float32"), answers


def training_episode(config: Config, name: str) -> tuple[int, int, int]:
    """Ways, shots and queries of the episodes that a method is trained on."""
    ways = config.train_ways if name == "ProtoNet" else config.ways
    return ways, config.train_shots, config.train_queries


def moving(network: keras.Model, name: str) -> list[bool]:
    """Which of the trainable variables move within an episode: all, and for ANIL those of the head."""
    head = {id(one) for one in network.get_layer("head").variables}
    return [name != "ANIL" or id(one) in head for one in network.trainable_variables]


def transductive(config: Config) -> bool:
    """Whether MAML and ANIL normalise by the pictures at hand: where BatchNorm learns in a stage."""
    return any(stage.batch_norm == "train" for stage in config.stages)
