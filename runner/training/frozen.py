"""The frozen part of the network: found for a stage, computed once, and kept.

A stage that trains the head, or the top of the backbone, computes the same activations below it in every
epoch. `cut` finds the deepest place where the network can be divided so that nothing below it learns;
`FrozenPrefix` runs the part below once over the pictures and gives the part above batches of what came out.
The part above shares its layers with the whole network, so nothing is copied back.

The next stage's cut usually lies lower. Where it does, the pictures are run up to there first, which the next
stage will need anyway, and this stage's activations are computed from those: one pass serves both.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import keras
import numpy as np
import tensorflow as tf

from runner.data import kept
from runner.data.batches import Batches, SplitBatches
from runner.devices import multi_worker
from runner.errors import InputError
from runner.moving import trainable
from runner.networks import backbones, folding
from runner.networks.backbones import Block
from runner.stage import Stage
from runner.training import cache
from runner.training.cache import Kept

VIEWS = 16
"""How many augmented views of each picture are kept, where nothing else is said."""
CHUNK = 2**20
"""How many numbers the workers exchange at a time: 8 MB on the way."""
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
    found = _place(network, blocks, stage)
    if found is None:
        return None
    tensor = found.output
    # Names, or Keras would number the parts, and the next process would number them otherwise.
    below = keras.Model(network.input, tensor, name=f"below_{found.name}")
    return Cut(found.name, below, keras.Model(tensor, network.output, name=f"above_{found.name}"))


def _place(network: keras.Model, blocks: Sequence[Block], stage: Stage) -> keras.Operation | None:
    """The operation after which `cut` divides."""
    trainable.set_trainable(network, blocks, stage.train, stage.batch_norm)
    of_backbone = trainable.owners(network, blocks)
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
    return found


@dataclass(frozen=True)
class Part:
    """What one stage trains on: the part above its cut, and its batches, with activations for "input"."""

    model: keras.Model
    """Compiled like the network, whose upper layers it shares."""
    train: Batches
    validation: Batches
    note: str
    """What is kept, where, and what it cost, for the log."""


class FrozenPrefix:
    """Run the still part of a network once per stage and keep what comes out.

    Args:
        views: of each training input so many random views are kept, and taken in turn from epoch to epoch (at
            most as many as the stage has epochs; one where the batches have no views).
        fold: compute the still part with BatchNorm folded into the convolutions (`folding.fold`), which is up
            to twice as fast and differs by rounding; False computes it to the bit as the network does.
        memory, disk: budgets in bytes for each array, see `cache.keep`.

    Of inputs that fit in memory the order is the same as without keeping, and without views so is every
    batch. `between_batches` is called after each batch that is computed; it may raise to stop.
    """

    def __init__(
        self,
        *,
        views: int = VIEWS,
        fold: bool = True,
        memory: int = cache.MEMORY,
        disk: int = cache.DISK,
    ):
        self.views, self.fold = views, fold
        self.budgets = {"memory": memory, "disk": disk}
        self.between_batches: Callable[[], None] = lambda: None

    def takes(self, train: Batches) -> TypeGuard[SplitBatches]:
        """Whether activations of single examples of these batches can stand for them."""
        return isinstance(train, SplitBatches) and not train.not_kept()

    def _taken(self, batches: Batches) -> SplitBatches:
        if not self.takes(batches):
            reason = batches.not_kept() if isinstance(batches, SplitBatches) else "they are not of a split"
            raise InputError(f"what is frozen cannot be kept for these batches: {reason}; leave it out.")
        return batches

    def part(
        self,
        network: keras.Model,
        train: Batches,
        validation: Batches,
        blocks: Sequence[Block],
        stage: Stage,
        later: Sequence[Stage] = (),
    ) -> Part | str:
        """Prepare one stage of a compiled network, or say in words why nothing can be kept for it.

        train, validation: what the network would train on and be validated on.
        later: the stages that follow, in their order.
        Raises InputError for batches that it does not take.
        """
        train, validation = self._taken(train), self._taken(validation)
        with network.distribute_strategy.scope():
            if has_own_step(network):
                return "the network has a training step of its own, which its upper part would not"
            if not hasattr(network, "operations"):
                return "the network is no graph of layers, which could be divided"
            levels = self._lower_levels(network, train, blocks, stage, later)
            divided = cut(network, blocks, stage)
            if divided is None:
                return "too little of the network lies below what trains"
            if type(network).call is not type(divided.above).call:
                return "the network computes more than its layers do, which its upper part would not"
            try:
                divided.below.to_json()  # by which what is kept is known
            except (TypeError, ValueError, NotImplementedError) as error:
                return f"a layer below has no config ({' '.join(str(error).split())[:100]})"
            # The very loss, metrics and optimizer, not new ones from their configs, which may lack something.
            settings = network._compile_config.config | {"optimizer": network.optimizer}
            divided.above.compile(**settings, auto_scale_loss=False)
            divided.above.steps_per_execution = network.steps_per_execution
        started = time.perf_counter()
        here = _Level(network, divided.below.output, divided.layer, self._views(train, stage))
        levels = [here, *levels]
        of_train, of_validation = (self._keep(levels, one) for one in (train, validation))
        if of_train is None or of_validation is None:
            return f"the activations after {divided.layer} fit neither in memory nor on disk"
        size = (of_train.array.nbytes + of_validation.array.nbytes) / 1e6
        views = len(of_train.array)
        seconds = time.perf_counter() - started
        way = [level.layer for level in levels[1:] if level.used]
        note = (
            f"below {divided.layer} computed once{', by way of ' * bool(way)}{', '.join(way)}: "
            f"{of_train.array.shape[1]} {train.data.unit} in {views} view{'s' * (views > 1)}, "
            f"{of_validation.array.shape[1]} for validation, {size:,.1f} MB {of_train.how} ({seconds:.1f} s)"
        )
        return Part(
            divided.above,
            kept.batches(of_train.array, train),
            kept.batches(of_validation.array, validation),
            note,
        )

    def _views(self, train: SplitBatches, stage: Stage) -> int:
        return min(self.views, stage.epochs) if train.views else 1

    def _lower_levels(
        self, network, train: SplitBatches, blocks, stage: Stage, later: Sequence[Stage]
    ) -> list["_Level"]:
        """Where the stages to come divide the network, as long as each does so below the one before.

        Until then nothing below that place trains: it is still now already. Sets the `trainable` flags.
        """
        order = {operation.name: number for number, operation in enumerate(network.operations)}
        lowest, levels = _place(network, blocks, stage), []
        for one in later if lowest is not None else ():
            place = _place(network, blocks, one)
            if place is None or lowest is None:
                break
            if order[place.name] < order[lowest.name]:
                lowest = place
                levels.append(_Level(network, place.output, place.name, self._views(train, one)))
        return levels

    def _keep(self, levels: Sequence["_Level"], batches: SplitBatches) -> Kept | None:
        """The activations of a split at the first level, or None where they fit nowhere.

        (views, examples in the order of their keys, ...); computed from those of the next level, as far as
        that has the same views, else from the inputs.
        """
        level, *lower = levels
        strategy = level.network.distribute_strategy
        keys, views = batches.keys, level.views if batches.views else 1
        key = cache.fingerprint(
            Path(folding.__file__).read_bytes(),
            [keras.__version__, tf.__version__, self.fold],
            *batches.fingerprint(views),
            level.fingerprint(batches),
        )

        workers, worker = multi_worker.number_of_workers(strategy), multi_worker.index(strategy)

        def fill(array: np.ndarray) -> None:
            below = self._keep(lower, batches) if lower else None
            done = 0
            if below is not None:
                lower[0].used = True
                done = min(views, len(below.array))
                compute = level.function(lower[0].tensor, self.fold)
                parts = [
                    (view, *part) for view in range(done) for part in batches.parts(below.array.shape[2])
                ]
                for view, rows, longest in parts[worker::workers]:
                    _put(array, view, rows, compute(below.array[view, rows][:, :longest]))
                    self.between_batches()
            if done == views:
                return
            dtype = batches.examples.element_spec["input"].dtype
            compute = level.function(level.network.input, self.fold, dtype)
            steps = -(-len(keys) // batches.batch_size)
            for step, batch in batches.passes(done, views, worker, workers):
                rows = np.searchsorted(keys, batch[batches.key].numpy())
                _put(array, int(step) // steps, rows, compute(batch["input"]))
                self.between_batches()

        shape = (views, len(keys), *level.shape(batches))
        if workers > 1:
            return _keep_together(key, shape, level.dtype, fill, strategy, self.budgets)
        return cache.keep(key, shape, level.dtype, fill, **self.budgets)


def _put(array: np.ndarray, view: int, rows: slice | np.ndarray, found: np.ndarray) -> None:
    """Write what was computed of some examples; of inputs that were cut (`data.lengths`) what lies behind is
    padding, which is 0 in every layer (`text_networks.marking`), as the array is.
    """
    if found.shape[1:] == array.shape[2:]:
        array[view, rows] = found
    else:
        array[view, rows, : found.shape[1]] = found


def has_own_step(network: keras.Model) -> bool:
    """Whether a network trains, or is compiled, otherwise than Keras' models are."""
    own = ("train_step", "test_step", "compute_loss", "compute_metrics", "compile")
    return any(getattr(type(network), name) is not getattr(keras.Model, name) for name in own)


def _keep_together(key, shape, dtype, fill, strategy, budgets) -> Kept | None:
    """What `cache.keep` does, for several workers of which each fills its share of the batches.

    Each has all of it in memory afterwards, and the first of each host keeps the file; None for all of them
    where it does not fit into the memory of one.
    """
    if multi_worker.any_worker(not cache.fits_memory(shape, dtype, budgets["memory"]), strategy):
        return None
    found = cache.find(key, shape, dtype, memory=budgets["memory"])
    if not multi_worker.any_worker(found is None, strategy):
        return found
    array = np.zeros(shape, dtype)
    fill(array)
    flat = array.reshape(-1)
    for first in range(0, flat.size, CHUNK):
        flat[first : first + CHUNK] = multi_worker.total(flat[first : first + CHUNK], strategy)
    if multi_worker.is_first_of_host(strategy):
        cache.keep(key, shape, dtype, lambda kept: np.copyto(kept, array), **budgets)
    workers = multi_worker.number_of_workers(strategy)
    return Kept(array, f"in memory, computed by {workers} workers", True)


class _Level:
    """A place where the network is divided, and how many views are to be kept there."""

    def __init__(self, network: keras.Model, tensor: keras.KerasTensor, layer: str, views: int):
        self.network, self.tensor, self.layer, self.views = network, tensor, layer, views
        self.dtype = tf.as_dtype(tensor.dtype).as_numpy_dtype
        self.used = False
        """Whether the level above was computed from it."""
        self.functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {}

    def fingerprint(self, batches: SplitBatches) -> str:
        """Of all that decides the activations here, beside the pictures.

        A layer that is not Keras' may do more than its config says, and be changed from run to run: what
        comes of two of the examples stands for it.
        """
        below = keras.Model(self.network.input, self.tensor, name=f"below_{self.layer}")
        weights = [keras.ops.convert_to_numpy(weight) for weight in below.weights]
        if any(folding.is_foreign(one) or isinstance(one, keras.layers.Lambda) for one in below.operations):
            first = next(iter(batches.examples.batch(2)))["input"]
            weights.append(keras.ops.convert_to_numpy(below(first, training=False)))
        return cache.fingerprint(below.to_json(), *weights)

    def shape(self, batches: SplitBatches) -> tuple[int, ...]:
        """Of the activations of one example; inputs that a network takes in any length all have that of their
        rows here.
        """
        given = (1, *batches.examples.element_spec["input"].shape)
        return keras.Model(self.network.input, self.tensor).compute_output_shape(given)[1:]

    def function(
        self, start: keras.KerasTensor, fold: bool, dtype: tf.DType | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Compiled, from batches at an earlier place to the activations here; replicas share the rows.

        dtype: of the batches, where it is not that of the place.
        """
        if start.name not in self.functions:
            strategy = self.network.distribute_strategy
            with strategy.scope():
                part = keras.Model(start, self.tensor)
                part = folding.fold(part) if fold else part
            dtype = dtype or tf.as_dtype(start.dtype)
            batch = tf.TensorSpec(start.shape, dtype)
            infer = lambda x: part(x, training=False)  # noqa: E731
            step = tf.function(infer, input_signature=[batch], autograph=False)
            together = tf.function(
                lambda values: strategy.run(infer, args=(values,)), autograph=False, reduce_retracing=True
            )

            def compute(batch: np.ndarray | tf.Tensor) -> np.ndarray:
                batch = tf.convert_to_tensor(batch, dtype)
                replicas = strategy.num_replicas_in_sync
                if multi_worker.number_of_workers(strategy) > 1:
                    replicas = 1  # each worker computes other batches, on its first device
                if replicas == 1 or len(batch) < replicas:  # a convolution of no pictures can fail
                    return step(batch).numpy()
                shares = np.array_split(np.arange(len(batch)), replicas)

                def share(context) -> tf.Tensor:
                    rows = shares[context.replica_id_in_sync_group]
                    return batch[rows[0] : rows[-1] + 1]

                values = strategy.experimental_distribute_values_from_function(share)
                found = strategy.experimental_local_results(together(values))
                return np.concatenate([one.numpy() for one in found])

            self.functions[start.name] = compute
        return self.functions[start.name]


def _moves(operation, of_backbone: dict[int, str]) -> bool:
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
        if draws and id(operation) not in of_backbone:
            return True
    return False
