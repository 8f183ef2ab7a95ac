"""The network, and the model that trains it on a task with what is to keep it from forgetting."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.errors import InputError
from runner.networks import backbones, pixels
from runner.networks.backbones import Block

from . import method
from .config import REHEARSING, Config
from .tasks import Tasks

UNITS = 400
"""Of each hidden layer of mlp, as in Zenke et al. 2017 and van de Ven and Tolias 2019 (arXiv:1904.07734)."""


def build(config: Config, data: Data) -> tuple[keras.Model, tuple[Block, ...]]:
    """The classifier and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in, float32 logits (batch, classes) out; the
    backbone's own preprocessing is part of the model. The graph is flat: the backbone's layers are the
    model's layers. The head begins as 0, so that a class which comes later is a column more and nothing else.
    """
    if config.backbone == "mlp":
        if config.weights != "none":
            raise InputError(
                f"weights={config.weights!r} cannot be used with the backbone mlp, which is always new; give "
                "--weights none."
            )
        backbone, blocks = mlp(config.image_size)
        x = backbone.output
    else:
        # What goes on has the weights that were kept; see `learners.divide`.
        weights = "none" if config.continue_from else config.weights
        backbone = backbones.build(config.backbone, config.image_size, weights)
        blocks = backbones.blocks(backbone)
        x = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(backbone.output)
    x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    head = keras.layers.Dense(len(data.classes), kernel_initializer="zeros", dtype="float32", name="head")
    return keras.Model(backbone.input, head(x), name=backbone.name), blocks


def mlp(image_size: int) -> tuple[keras.Model, tuple[Block, ...]]:
    """Two hidden layers on all pixels: (batch, size, size, 3) in, (batch, UNITS) out; and its blocks.

    The pixels of gray pictures stand there three times, which is a scale of the first layer's weights.
    """
    image = keras.Input((image_size, image_size, 3), dtype="float32", name="image")
    x = ops.cast(image, "float32")
    x = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescaling")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    blocks = []
    for number in (1, 2):
        x = keras.layers.Dense(UNITS, activation="relu", name=f"hidden{number}")(x)
        blocks.append(Block(f"hidden{number}", (f"hidden{number}",)))
    network = keras.Model(image, x, name="mlp")
    pixels.guard(network)
    return network, tuple(blocks)


class Continual(keras.Model):
    """A classifier in training, one task after another.

    A batch is ({"new": inputs (n, ...), "task": int (n,), "place": int (n,), where among the task's examples
    each stands}, labels), of methods that rehearse also "old", "old_label", "old_task", "slot" and
    "old_weight" of twice as many kept examples: the first half for one term, the second for another.

    What a method remembers is weights that do not train, so that the state of a training has them: the number
    of the task, importances and anchors of the trained weights, recorded and stored logits.

    Args:
        network: the whole classifier, of which stages and blocks speak.
        above: the part of it that is trained, from whatever "new" holds to logits; its layers are the
            network's.
        name: of the method.
        config: has the weight of each method's term.
        told: the tasks.
        moving: the variables that some stage trains.
        places: the most examples that a task has. capacity: how many examples are kept at most.
    """

    def __init__(
        self,
        network: keras.Model,
        above: keras.Model,
        name: str,
        config: Config,
        told: Tasks,
        moving: list[keras.Variable],
        places: int,
        capacity: int,
    ):
        super().__init__(name=network.name)
        self.network, self.above = network, above
        self.method, self.config, self.told = name, config, told
        self.seen, self.own = (tf.constant(one, tf.float32) for one in (told.seen, told.own))
        # Not as attributes that Keras sees: it would take them for weights of this model, beside the layers.
        vars(self)["moving"] = moving
        self.number_of = {id(one): number for number, one in enumerate(moving)}
        classes = network.output.shape[1]
        self.number = self.add_weight(
            shape=(1,), dtype="int32", initializer="zeros", trainable=False, name="number"
        )
        self.begin(told.before)
        held = moving if name in ("EWC", "SI") else []
        self.importances = [self._remembered(one, "importance") for one in held]
        self.anchors = [self._remembered(one, "anchor") for one in held]
        self.paths = [self._remembered(one, "path") for one in held if name == "SI"]
        for anchor, one in zip(self.anchors, held, strict=True):
            anchor.assign(one)
        rows = {"LwF": places, "DER++": capacity}.get(name, 0)
        self.recorded = self.add_weight(
            shape=(max(rows, 1), classes), initializer="zeros", trainable=False, name="recorded"
        )
        self.built = True

    def _remembered(self, weight: keras.Variable, kind: str) -> keras.Variable:
        name = f"{kind}_{self.number_of[id(weight)]}"
        return self.add_weight(
            shape=weight.shape, dtype="float32", initializer="zeros", trainable=False, name=name
        )

    @property
    def output(self):
        """Of the classifier: logits (batch, classes)."""
        return self.above.output

    def call(self, inputs, training=None):
        return self.above(inputs, training=training)

    def make_train_function(self, force=False):
        """The traced step of the task before, where the next has the same stage; each trace takes seconds.

        With one stage a task the weights that train, their rates and the optimizer are what they were, and
        what differs (the rate, the number of the task, the optimizer's state) is in variables.
        """
        traced_for = self.optimizer if len(self.config.stages) == 1 else None
        if force and traced_for is not None and traced_for is vars(self).get("traced_for"):
            return self.train_function
        vars(self)["traced_for"] = traced_for
        return super().make_train_function(force)

    def train_step(self, data):
        given, labels = keras.utils.unpack_x_y_sample_weight(data)[:2]
        weights = self.trainable_weights
        with tf.GradientTape() as tape:
            logits = self.above(given["new"], training=True)
            mask = self.mask(given["task"])
            loss = ops.mean(method.cross_entropy(labels, logits, mask))
            loss = self.rehearsed(loss, given, labels, logits, mask)
            if self.method == "LwF" and self.config.lwf:
                loss += self.config.lwf * self.distilled(given, logits)
            total = loss + self.penalty(weights)
            scaled = self.optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, weights)
        before = [tf.identity(one) for one in weights] if self.method == "SI" else []
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        if self.method == "SI":
            scale = self.optimizer.scale_loss(tf.ones(()))
            self.follow(weights, [gradient / scale for gradient in gradients], before)
        self._loss_tracker.update_state(total, sample_weight=tf.shape(labels)[0])
        return self.compute_metrics(given, labels, method.masked(logits, mask))

    def test_step(self, data):
        given, labels = keras.utils.unpack_x_y_sample_weight(data)[:2]
        logits, mask = self.above(given["new"], training=False), self.mask(given["task"])
        counts = tf.cast(given["task"] <= tf.cast(self.now, given["task"].dtype), tf.float32)
        losses = method.cross_entropy(labels, logits, mask)
        # Of tasks that are still to come nothing counts; their labels lie outside the mask.
        loss = tf.math.divide_no_nan(ops.sum(tf.where(counts > 0, losses, 0.0)), ops.sum(counts))
        self._loss_tracker.update_state(loss, sample_weight=ops.sum(counts))
        return self.compute_metrics(given, labels, method.masked(logits, mask), counts)

    def mask(self, task):
        """The classes that may be answered for examples of these tasks, (n, classes): see `Tasks.allowed`."""
        if self.told.scenario == "task":
            return tf.gather(self.own, task)
        return tf.repeat(tf.gather(self.seen, self.now)[None], tf.shape(task)[0], axis=0)

    def rehearsed(self, loss, given, labels, logits, mask):
        """The loss with what kept examples add to it."""
        if self.method not in REHEARSING:
            return loss
        half = tf.shape(given["slot"])[0] // 2
        weight = given["old_weight"]
        if self.method == "replay":
            # The mean over both together (Chaudhry et al. 2019), as many of each.
            old = self.above(given["old"][:half], training=True)
            losses = method.cross_entropy(given["old_label"][:half], old, self.mask(given["old_task"][:half]))
            return (loss + ops.sum(weight[:half] * losses) / tf.cast(half, tf.float32)) / (
                1 + tf.reduce_max(weight)
            )
        if not (self.config.der_alpha or self.config.der_beta):
            return loss
        old = self.above(given["old"], training=True)
        again = method.cross_entropy(
            given["old_label"][:half], old[:half], self.mask(given["old_task"][:half])
        )
        stored = tf.gather(self.recorded, given["slot"][half:])
        dark = method.dark_experience(stored, old[half:], self.mask(given["old_task"][half:]))
        loss += self.config.der_beta * ops.mean(weight[:half] * again)
        return loss + self.config.der_alpha * ops.mean(weight[half:] * dark)

    def distilled(self, given, logits):
        """LwF's term: the old heads' answers, where the task is told each for itself."""
        recorded = tf.gather(self.recorded, given["place"])
        if self.told.scenario != "task":
            past = tf.cast(self.now > 0, tf.float32) * tf.gather(self.seen, tf.maximum(self.now - 1, 0))
            return ops.mean(method.distillation(recorded, logits, past[None], self.config.temperature))
        heads = [
            tf.cast(number < self.now, tf.float32) * self.own[number]
            for number in range(len(self.told.names))
        ]
        return sum(
            ops.mean(method.distillation(recorded, logits, one[None], self.config.temperature))
            for one in heads
        )

    def penalty(self, weights):
        """What EWC and SI take for weights that left where they mattered."""
        strength = {"EWC": self.config.ewc / 2, "SI": self.config.si}.get(self.method, 0.0)
        if not strength:
            return 0.0
        numbers = [self.number_of[id(one)] for one in weights]
        anchors, importances = ([kept[one] for one in numbers] for kept in (self.anchors, self.importances))
        return strength * method.quadratic(weights, anchors, importances)

    def follow(self, weights, gradients, before):
        """SI: add this step to the path integrals, by the gradient without the penalty."""
        for weight, gradient, old in zip(weights, gradients, before, strict=True):
            number = self.number_of[id(weight)]
            pull = 2 * self.config.si * self.importances[number] * (old - self.anchors[number])
            self.paths[number].assign(method.path_integral(self.paths[number], gradient - pull, old, weight))

    # ------------------------------------------------------------ between two tasks

    @property
    def now(self):
        """The number of the last task that came, int32 ()."""
        return self.number[0]

    def begin(self, number: int) -> None:
        """From here on this task is the last that came."""
        self.number.assign([number])

    def end(self, inputs: np.ndarray, masks: np.ndarray) -> None:
        """Take in what a finished task leaves. inputs: of its training examples, (n, ...), in an order that
        the seed decides; masks: bool (n, classes), what may be answered for them.
        """
        if self.method == "EWC":
            few = slice(self.config.fisher_examples)
            found = method.fisher(
                lambda row: self.above(row, training=False), self.moving, inputs[few], masks[few]
            )
            for place, (weight, new) in enumerate(zip(self.moving, found, strict=True)):
                kept, anchor = self.importances[place], self.anchors[place]
                joined = method.joined_anchor(kept.numpy(), anchor.numpy(), new, weight.numpy())
                kept.assign(joined[0])
                anchor.assign(joined[1])
        if self.method == "SI":
            for place, weight in enumerate(self.moving):
                way = weight.numpy() - self.anchors[place].numpy()
                path, damping = self.paths[place], self.config.si_damping
                self.importances[place].assign_add(method.synaptic_importance(path.numpy(), way, damping))
                self.anchors[place].assign(weight)
                path.assign(np.zeros(path.shape, np.float32))

    def record(self, logits: np.ndarray) -> None:
        """Keep logits (n, classes) in the first places."""
        rows = self.recorded.numpy()
        rows[: len(logits)] = logits
        self.recorded.assign(rows)
