"""The networks: a backbone that gives features, what the loss compares, and classifiers on top."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from runner.networks import backbones
from runner.networks.backbones import Block

from . import method
from .config import Config
from .watch import Watch

RIVAL_SIDE = 16
"""Pixels a side of what logistic regression on pixels sees."""
MOMENTUM = 0.9
"""Of BatchNorm's moving statistics: what is judged after each epoch is of the last steps, where Keras' 0.99
and more would need thousands.
"""


def build(config: Config, weights: str | None = None) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network that is handed out, and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in, float32 features (batch, d) out: the mean over all
    places of the backbone's last layer. Its preprocessing is part of it, and the graph is flat.
    weights: in the place of those of the Config.
    """
    backbone = backbones.build(config.backbone, config.image_size, weights or config.weights)
    x = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(backbone.output)
    return keras.Model(backbone.input, x, name=backbone.name), backbones.blocks(backbone)


def with_heads(network: keras.Model, classes: int, labels: Sequence[int]) -> keras.Model:
    """A network of `build` with a dense layer for each number of labels: float32 logits (batch, classes)
    each, by their names "head_<labels>".
    """
    features = network.output
    heads = {
        f"head_{count}": keras.layers.Dense(classes, dtype="float32", name=f"head_{count}")(features)
        for count in labels
    }
    return keras.Model(network.input, heads, name=network.name)


def of_pixels(config: Config) -> keras.Model:
    """Pictures made small, as rows of 0..1, in the place of features."""
    image = keras.Input((config.image_size, config.image_size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.AveragePooling2D(max(1, config.image_size // RIVAL_SIDE))(x)
    return keras.Model(image, keras.layers.Flatten()(x), name="pixels")


def projector(config: Config, width: int) -> keras.Model:
    """What makes projections (batch, projection) of features (batch, width): two dense layers, three and
    normalised at the end for SimSiam, whose loss needs it.
    """
    features = keras.Input((width,), name="features")
    x, hidden = features, 2 * config.projection
    for number in range(2 if config.method == "SimSiam" else 1):
        x = keras.layers.Dense(hidden, use_bias=False, name=f"projector_{number}")(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"projector_{number}_bn")(x)
        x = keras.layers.ReLU(name=f"projector_{number}_relu")(x)
    last = config.method == "SimSiam"
    x = keras.layers.Dense(config.projection, use_bias=not last, name="projection")(x)
    if last:
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name="projection_bn")(x)
    x = keras.layers.Activation("linear", dtype="float32", name="projected")(x)
    return keras.Model(features, x, name="projector")


def predictor(config: Config) -> keras.Model:
    """SimSiam's: projections to projections, through a quarter of their width."""
    given = keras.Input((config.projection,), name="projections")
    x = keras.layers.Dense(max(2, config.projection // 4), use_bias=False, name="predictor_0")(given)
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name="predictor_0_bn")(x)
    x = keras.layers.ReLU(name="predictor_0_relu")(x)
    x = keras.layers.Dense(config.projection, dtype="float32", name="prediction")(x)
    return keras.Model(given, x, name="predictor")


class TwoViews(keras.Model):
    """A backbone that learns from two views of each picture, without labels.

    It trains on batches of {"first", "second"}, uint8 (n, size, size, 3) each, and after each epoch `watch`
    says what became of the features of validation pictures, which stands in the history as if it were
    measured by metrics. The two go through the network one after the other, so that BatchNorm normalises each
    by its own statistics: one may be nothing but figures. On one device: what a loss compares with is the
    whole batch.

    Args:
        network: of `build`; its layers are shared.
        config: has the method and what it needs.
        watch: what is measured after each epoch; raises where the features collapsed.
    """

    validates_by_batches = True
    """`watch` asks with the statistics of each batch: the remark on moving averages is not for it."""

    def __init__(self, network: keras.Model, config: Config, watch: Watch):
        super().__init__(name=network.name)
        self.network, self.config, self.watch = network, config, watch
        self.projector = projector(config, network.output.shape[1])
        self.predictor = predictor(config) if config.method == "SimSiam" else None
        for layer in self._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = min(layer.momentum, MOMENTUM)
        self.built = True

    @property
    def output(self):
        """Features (batch, d)."""
        return self.network.output

    def call(self, images, training=None):
        """Features, float32 (n, d), and projections, float32 (n, projection)."""
        features = self.network(images, training=training)
        return features, self.projector(features, training=training)

    def projected(self, views: dict, training: bool) -> list:
        """The projections of both views."""
        return [self(views[name], training=training)[1] for name in ("first", "second")]

    def compared(self, first, second, training: bool = False):
        """The method's loss of projections (n, projection), a float32 number."""
        match self.config.method:
            case "SimCLR":
                return method.nt_xent(first, second, self.config.temperature)
            case "Barlow Twins":
                return method.barlow_twins(first, second, self.config.redundancy)
            case "VICReg":
                return method.vicreg(first, second)
        both = self.predictor(ops.concatenate([first, second]), training=training)
        return method.simsiam(first, second, *ops.split(both, 2))

    def train_step(self, views):
        with tf.GradientTape() as tape:
            loss = self.compared(*self.projected(views, training=True), training=True)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(views["first"])[0])
        return {"loss": self._loss_tracker.result()}

    def evaluate(self, *_, return_dict: bool = False, **__):
        """What `watch` measures, in the place of a loss over batches: of all validation pictures at once."""
        found = self.watch(self)
        return found if return_dict else list(found.values())
