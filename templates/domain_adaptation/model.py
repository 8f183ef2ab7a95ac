"""The network, a small CNN for digits among its backbones, and the model that trains it on two domains."""

import keras
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.networks import backbones, pixels
from runner.networks.backbones import Block
from runner.pictures import reference
from runner.training import baselines

from . import method
from .config import Config

SMALL_CNNS = ("small_cnn", "small_cnn_plain")
RIVAL_SIDE = 16
"""Pixels a side of what logistic regression on pixels sees."""


def build(config: Config, data: Data) -> tuple[keras.Model, tuple[Block, ...]]:
    """The classifier and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in, float32 logits (batch, classes) out; the
    backbone's own preprocessing is part of the model. The graph is flat: the backbone's layers are the
    model's layers.
    """
    if config.backbone in SMALL_CNNS:
        normalise = config.backbone == "small_cnn"
        backbone, blocks = small_cnn(config.backbone, config.image_size)
        x = keras.layers.Flatten(name="flatten")(backbone.output)
        x = keras.layers.Dense(128, use_bias=not normalise, name="hidden")(x)
        x = _normalised(x, "hidden") if normalise else x
        x = keras.layers.ReLU(name="hidden_relu")(x)
    else:
        backbone = backbones.build(config.backbone, config.image_size, config.weights)
        blocks = backbones.blocks(backbone)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    logits = keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x)
    return keras.Model(backbone.input, logits, name=backbone.name), blocks


def build_rivals(config: Config, data: Data) -> dict[str, keras.Model]:
    """Networks whose layer "head" is to be solved: on pixels, and on what a pretrained backbone gives.

    All take what that of `build` takes, and give what it gives.
    """
    image = keras.Input((config.image_size, config.image_size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.AveragePooling2D(max(1, config.image_size // RIVAL_SIDE))(x)
    x = keras.layers.Dense(len(data.classes), dtype="float32", name="head")(keras.layers.Flatten()(x))
    rivals = {baselines.PIXELS: keras.Model(image, x)}
    if config.weights != "none":
        rivals[baselines.SOLVED], _ = build(config, data)
    return rivals


def small_cnn(name: str, image_size: int) -> tuple[keras.Model, tuple[Block, ...]]:
    """Two convolutions for small pictures such as digits, and its blocks: pixels (batch, size, size, 3) in,
    (batch, size / 4, size / 4, 32) out.

    Its weights are random, so the BatchNorm layers of "small_cnn" must train (`batch_norm="train"`);
    "small_cnn_plain" has none.
    """
    normalise = name == "small_cnn"
    image = keras.Input((image_size, image_size, 3), dtype="float32", name="image")
    x = ops.cast(image, "float32")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescaling")(x)
    blocks = []
    for block, filters in (("block1", 16), ("block2", 32)):
        x = keras.layers.Conv2D(filters, 5, padding="same", use_bias=not normalise, name=f"{block}_conv")(x)
        x = _normalised(x, block) if normalise else x
        x = keras.layers.ReLU(name=f"{block}_relu")(x)
        x = keras.layers.MaxPooling2D(name=f"{block}_pool")(x)
        parts = ("conv", "bn", "relu", "pool") if normalise else ("conv", "relu", "pool")
        blocks.append(Block(f"{block}_pool", tuple(f"{block}_{part}" for part in parts)))
    network = keras.Model(image, x, name=name)
    pixels.guard(network)
    return network, tuple(blocks)


def _normalised(x, block: str):
    # Momentum 0.9: the statistics of a few hundred steps; Keras' 0.99 would need thousands.
    return keras.layers.BatchNormalization(momentum=0.9, name=f"{block}_bn")(x)


class Adapting(keras.Model):
    """A classifier that learns from labelled source pictures and unlabelled target pictures at once.

    It trains on batches of ({"source", "target"[, "strong"]}, labels of the source), as many pictures of
    each, and is evaluated on (pictures, labels) like the classifier, whose layers are its own. A domain
    classifier that a method needs belongs to the head; the classifier does not have it.

    The domains go through the network one after the other, so that BatchNorm layers that train normalise each
    by its own statistics.

    Args:
        network: uint8 pictures in, logits out, with a last layer called "head".
        name: of the method.
        config: has the weight of each method's term and how it grows.
        steps: of an epoch.
    """

    def __init__(self, network: keras.Model, name: str, config: Config, steps: int):
        super().__init__(name=network.name)
        self.features_and_logits = reference.extractor(network, "head")
        weights = {
            "DANN": config.dann,
            "CDAN": config.cdan,
            "MMD": config.mmd,
            "CORAL": config.coral,
            "MCC": config.mcc,
            "pseudo-labels": config.pseudo_labels,
        }
        # "source only" and "AdaBN", and any method with a weight of 0, train on the source alone.
        self.weight = weights.get(name, 0.0)
        self.method, self.threshold, self.ramp_steps = name, config.threshold, config.ramp * steps
        if self.weight and name in ("DANN", "CDAN"):
            features, classes = (output.shape[1] for output in self.features_and_logits.output)
            self.domain_hidden = keras.layers.Dense(128, activation="relu", name="domain_hidden")
            self.domain_hidden.build((None, features * classes if name == "CDAN" else features))
            self.domain_logit = keras.layers.Dense(1, dtype="float32", name="domain_logit")
            self.domain_logit.build((None, 128))
        self.built = True

    @property
    def output(self):
        """Of the classifier: logits (batch, classes)."""
        return self.features_and_logits.output[1]

    def call(self, images, training=None):
        return self.features_and_logits(images, training=training)[1]

    def train_step(self, data):
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        replicas = self.distribute_strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            source = self.features_and_logits(images["source"], training=True)
            loss = self.compute_loss(images, labels, source[1], weights)
            if self.weight:
                target = self.features_and_logits(images["target"], training=True)
                # Of several replicas each gives its share, as the loss above is.
                loss += self.weight * self.ramp() * self.adaptation(source, target, images) / replicas
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(labels)[0])
        return self.compute_metrics(images, labels, source[1], weights)

    def ramp(self):
        """The share of its weight that the method's term has at this step of a stage, 0 to 1."""
        if not self.ramp_steps:
            return 1.0
        return ops.minimum(1.0, ops.cast(self.optimizer.iterations, "float32") / self.ramp_steps)

    def adaptation(self, source, target, images):
        """The method's term: one number from (features, logits) of both domains."""
        (f_source, g_source), (f_target, g_target) = (
            [ops.cast(one, "float32") for one in side] for side in (source, target)
        )
        match self.method:
            case "DANN":
                return method.domain_confusion(self.domain(f_source), self.domain(f_target))
            case "CDAN":
                return method.domain_confusion(
                    self.domain(method.conditioned(f_source, g_source)),
                    self.domain(method.conditioned(f_target, g_target)),
                    method.certainty(g_source),
                    method.certainty(g_target),
                )
            case "MMD":
                return method.mmd(f_source, f_target)
            case "CORAL":
                return method.coral(f_source, f_target)
            case "MCC":
                return method.class_confusion(g_target)
            case "pseudo-labels":
                strong = self.features_and_logits(images["strong"], training=True)[1]
                return method.pseudo_labels(g_target, strong, self.threshold)

    def domain(self, seen):
        """The domain classifier's logit, (n, 1), above 0 for the source; its gradient is reversed below."""
        return self.domain_logit(self.domain_hidden(method.reverse_gradient(seen)))

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Keras builds loss and metrics from a first batch under a strategy, which it takes for images."""
        if data_batch is not None and isinstance(data_batch[0], dict):
            data_batch = data_batch[0]["source"], *data_batch[1:]
        super()._symbolic_build(iterator, data_batch)
