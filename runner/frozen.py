"""The frozen part of the network: found for a stage, computed once, and kept.

A stage that trains the head, or the top of the backbone, computes the same activations below it in every
epoch. `cut` finds the deepest place where the network can be divided so that nothing below it learns;
`FrozenPrefix` runs the part below once over the pictures and gives the part above batches of what came out.
The two parts share their layers with the whole network, so nothing is copied back.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from runner import activations, augment, backbones, images, trainable
from runner.activations import Kept
from runner.backbones import Block
from runner.config import Stage

VIEWS = 16
"""How many augmented views of each picture are kept, where nothing else is said."""
LEAST_SHARE = 0.1
"""Of the network's weights, below a cut: with less there, keeping would save no work and take much room."""


@dataclass(frozen=True)
class Cut:
    """A network in two parts that share its layers: network(x) = above(below(x))."""

    layer: str
    """After which the network is divided."""
    below: keras.Model
    above: keras.Model


def cut(network: keras.Model, blocks: Sequence[Block], stage: Stage) -> Cut | None:
    """Divide a flat network where everything below is still in a stage; None where nothing much is.

    Still is a layer of which no variable trains, whose statistics do not move and that draws nothing at
    random. The stochastic depth inside frozen blocks of the backbone (EfficientNet, ConvNeXt) counts as
    still: a frozen block is a fixed function of its picture here, in inference mode, and not the noisy one
    that it is where nothing is kept.

    Of the places where everything passes through one tensor, the last before something moves is taken: for
    the head it is the pooled features. At least LEAST_SHARE of the weights must lie below it.
    Sets the network's `trainable` flags as the stage wants them.
    """
    trainable.set_trainable(network, blocks, stage.train, stage.batch_norm)
    of_backbone = {name for block in blocks for name in block.layers}
    parents = backbones.parents_of(network.operations)
    consumers = {name: 0 for name in parents}
    for names in parents.values():
        for name in names:
            consumers[name] += 1
    open_tensors: dict[str, int] = {}  # made below, and how often they are still to be read
    found, below, least = None, 0, LEAST_SHARE * network.count_params()
    for operation in network.operations:  # in an order in which what is read is made before
        if _moves(operation, of_backbone):
            break
        for name in parents[operation.name]:
            open_tensors[name] -= 1
            if not open_tensors[name]:
                del open_tensors[name]
        open_tensors[operation.name] = consumers[operation.name]
        below += operation.count_params() if isinstance(operation, keras.layers.Layer) else 0
        if below >= least and list(open_tensors) == [operation.name] and consumers[operation.name]:
            found = operation
    if found is None:
        return None
    tensor = found.output
    # Names, or Keras would number the parts, and the next process would number them otherwise.
    below = keras.Model(network.input, tensor, name=f"below_{found.name}")
    return Cut(found.name, below, keras.Model(tensor, network.output, name=f"above_{found.name}"))


@dataclass(frozen=True)
class Part:
    """What one stage trains on: the part above its cut, and its batches."""

    model: keras.Model
    """Compiled like the network, whose upper layers it shares."""
    train_from: Callable[[int], tf.data.Dataset]
    """As `training.named_batches(..., start=step)` gives them, with activations for "image"."""
    validation: tf.data.Dataset
    note: str
    """What is kept, where, and what it cost, for the log."""


class FrozenPrefix:
    """Run the still part of a network once per stage and keep what comes out.

    Args:
        examples: a `data.Data`; train and val are read, test never.
        batch_size, seed, strength, flip: as for `training.batches`. Of pictures that fit in memory the
            order is the same as without keeping, and with strength "none" so is every batch.
        resize: how the pictures were made square, for the fingerprint.
        views: of each training picture so many augmented views are kept, and taken in turn from epoch to
            epoch (at most as many as the stage has epochs; one without augmentation).
        memory, disk: budgets in bytes for each array, see `activations.keep`.

    `between_batches` is called after each batch that is computed; it may raise to stop.
    """

    def __init__(
        self,
        examples,
        *,
        batch_size: int,
        seed: int = 0,
        strength: str = "none",
        flip: bool = False,
        resize: str = "crop",
        views: int = VIEWS,
        memory: int = activations.MEMORY,
        disk: int = activations.DISK,
    ):
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self.strength, self.flip, self.resize, self.views = strength, flip, resize, views
        self.budgets = {"memory": memory, "disk": disk}
        self.between_batches: Callable[[], None] = lambda: None
        label_of = {name: place for place, name in enumerate(examples.classes)}
        self.labels = examples.manifest["label"].map(label_of).to_numpy()

    def part(self, network: keras.Model, blocks: Sequence[Block], stage: Stage) -> Part | str:
        """Prepare one stage of a compiled network, or say in words why nothing can be kept for it."""
        with network.distribute_strategy.scope():
            own = ("train_step", "test_step", "compute_loss", "compute_metrics")
            if any(getattr(type(network), name) is not getattr(keras.Model, name) for name in own):
                return "the network has a training step of its own, which its upper part would not"
            divided = cut(network, blocks, stage)
            if divided is None:
                return "too little of the network lies below what trains"
            try:
                divided.above.compile_from_config(network.get_compile_config())
            except (TypeError, ValueError, AttributeError) as error:
                return f"its loss or metrics cannot be copied ({' '.join(str(error).split())[:100]})"
        started = time.perf_counter()
        views = 1 if self.strength == "none" else min(self.views, stage.epochs)
        below = _Below(divided.below)
        kept = {
            split: self._keep(below, getattr(self.examples, split), split, views if split == "train" else 1)
            for split in ("train", "val")
        }
        if None in kept.values():
            return f"the activations after {divided.layer} fit neither in memory nor on disk"
        train, validation = kept["train"], kept["val"]
        size = (train.array.nbytes + validation.array.nbytes) / 1e6
        seconds = time.perf_counter() - started
        note = (
            f"below {divided.layer} computed once: {train.array.shape[1]} pictures in {views} "
            f"view{'s' * (views > 1)}, {validation.array.shape[1]} for validation, {size:,.1f} MB "
            f"{train.how} ({seconds:.1f} s)"
        )
        held = self._batches(validation.array, "val")
        return Part(
            divided.above,
            lambda step: self._batches(train.array, "train", step),
            held.map(lambda batch: (batch["image"], batch["label"])),
            note,
        )

    def _ids(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.examples.manifest["split"] == split).astype(np.int64)

    def _keep(self, below: "_Below", pictures: tf.data.Dataset, split: str, views: int) -> Kept | None:
        """The activations of a split, (views, pictures in the order of their ids, ...), or None."""
        ids = self._ids(split)
        strength = self.strength if split == "train" else "none"
        drawn = []
        if strength != "none":  # what decides the views: the seeds, the global one among them, by batches
            seeds = tf.data.Dataset.random(seed=self.seed).take(2)
            drawn = [strength, self.flip, self.batch_size, *(int(one) for one in seeds)]
        key = activations.fingerprint(
            *(Path(module.__file__).read_bytes() for module in (augment, images)),
            [keras.__version__, tf.__version__, views, self.resize, drawn],
            self.examples.manifest["sha256"].iloc[ids].tolist(),
            next(pictures.batch(min(16, len(ids))).as_numpy_iterator())["image"],  # the sha256 is from before
            below.fingerprint,
        )

        def fill(array: np.ndarray) -> None:
            batched = pictures.batch(self.batch_size)
            steps = int(batched.cardinality())
            augmented = augment.dataset(batched, strength, seed=self.seed, flip=self.flip, start=0)
            for step, batch in enumerate(augmented.take(views * steps).prefetch(tf.data.AUTOTUNE)):
                rows = np.searchsorted(ids, batch["id"].numpy())
                array[step // steps, rows] = below(batch["image"])
                self.between_batches()

        return activations.keep(key, (views, len(ids), *below.shape), below.dtype, fill, **self.budgets)

    def _batches(self, array: np.ndarray, split: str, start: int | None = None) -> tf.data.Dataset:
        """Batches of a kept array: one pass in its order, or shuffled and without end from a step on."""
        views, count = array.shape[:2]
        steps = -(-count // self.batch_size)
        ids, classes = self._ids(split), len(self.examples.classes)
        labels = self.labels[ids]
        # tf.data hands half-precision numbers of NumPy's to Python as bits only.
        bits = array.view(f"u{array.dtype.itemsize}")
        dtype = tf.as_dtype(array.dtype)

        def taken(view: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return bits[view, rows]

        def gather(step: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
            view = (step // steps + rows) % views  # each batch mixes all views
            found = tf.numpy_function(taken, [view, rows], tf.as_dtype(bits.dtype), stateful=False)
            found = tf.bitcast(tf.ensure_shape(found, (None, *array.shape[2:])), dtype)
            one_hot = tf.one_hot(tf.gather(labels, rows), classes)
            return {"id": tf.gather(ids, rows), "image": found, "label": one_hot}

        def order() -> tf.data.Dataset:
            if start is None:
                return tf.data.Dataset.range(count).batch(self.batch_size)
            shuffled = tf.data.Dataset.range(count).shuffle(count, seed=self.seed)
            return shuffled.batch(self.batch_size).repeat().skip(start)

        # Made inside a function, so that each iterator begins with the same batch (`training.named_batches`).
        batches = tf.data.Dataset.range(1).flat_map(lambda _: order())
        if start is None:
            batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        numbered = batches.enumerate(start or 0)
        return numbered.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(
            tf.data.AUTOTUNE
        )


class _Below:
    """The still part as a compiled function from pictures to NumPy arrays, and what identifies it."""

    def __init__(self, model: keras.Model):
        self.shape = tuple(model.output.shape[1:])
        self.dtype = tf.as_dtype(model.output.dtype).as_numpy_dtype
        self.fingerprint = activations.fingerprint(
            model.to_json(), *[keras.ops.convert_to_numpy(weight) for weight in model.weights]
        )
        pictures = tf.TensorSpec(model.input.shape, model.input.dtype)
        self.step = tf.function(lambda x: model(x, training=False), input_signature=[pictures])

    def __call__(self, pictures: tf.Tensor) -> np.ndarray:
        return self.step(pictures).numpy()


def _moves(operation, of_backbone: set[str]) -> bool:
    if not isinstance(operation, keras.layers.Layer):
        return False
    for layer in operation._flatten_layers():  # itself, and what it is made of (attention, a nested model)
        # Not `trainable_variables`, which a layer with `trainable=False` hides; a stage may train the scales
        # of a BatchNorm layer whose statistics stay still.
        if any(variable.trainable for variable in layer._trainable_variables):
            return True
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            return True
        draws = any("seed_generator" in variable.path for variable in layer.variables)
        if draws and operation.name not in of_backbone:
            return True
    return False
