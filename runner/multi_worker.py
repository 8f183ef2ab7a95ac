"""`fit`, `evaluate` and `predict` with several processes (`tf.distribute.MultiWorkerMirroredStrategy`).

    chosen = strategy.choose()                      # before anything else touches TensorFlow
    with chosen.scope():
        model = ...
        model.compile(...)
    multi_worker.prepare(model)
    model.fit(multi_worker.distribute(batches, chosen), ...)

In Keras 3 `fit` fails under this strategy (keras #20585); `prepare` overrides, on the one model, what stands
in the way, and makes the arithmetic that of one process:

- Every batch is divided over the replicas as evenly as it goes; the last of an epoch may leave some without
  a picture. Keras takes the mean of the replicas' means; here each counts by its rows, so that the gradient
  is that of the whole batch.
- BatchNorm that learns takes its statistics over the whole batch (Keras' `synchronized`).

All processes then hold the same weights at any time. What only one may do, the chief does (`is_chief`): it
writes, and what it decides reaches the others through `from_chief` and `any_worker`. Each function below that
takes the strategy must be called by all workers in the same order, for they wait for each other in it; with
one process it costs nothing.
"""

import contextlib
import functools
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def number_of_workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together under `strategy`."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return max(1, len(tf.nest.flatten(strategy.cluster_resolver.cluster_spec().as_dict())))


def index(strategy: tf.distribute.Strategy) -> int:
    """The number of this process, from 0, the chief."""
    if number_of_workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    groups = resolver.cluster_spec().as_dict()
    before = len(groups.get("chief", ())) if resolver.task_type == "worker" else 0
    return before + resolver.task_id


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes, prints and decides."""
    return index(strategy) == 0


def _leave_to_keras(strategy: tf.distribute.Strategy) -> bool:
    # A TPU needs batches of one shape, and Keras has its own ways with it.
    return strategy.num_replicas_in_sync == 1 or isinstance(strategy, tf.distribute.TPUStrategy)


# ---------------------------------------------------------------- data


def distribute(dataset: tf.data.Dataset, strategy: tf.distribute.Strategy):
    """What each replica reads of a dataset of global batches, for `fit`, `evaluate` and `predict`.

    All workers make the same batches and each takes its rows of them, so that together they see what one
    process would. n rows are divided over R replicas in order, so that each has n/R rounded down or up, none
    where there are fewer rows than replicas. One replica gets the dataset itself; so does a TPU.
    """
    if _leave_to_keras(strategy):
        return dataset

    def rows(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas, workers = context.num_replicas_in_sync, context.num_input_pipelines
        here = replicas // workers

        def part(batch, replica: int):
            # Keras' predict puts first replicas of all workers first, then the second ones, and so on.
            place = replica * workers + context.input_pipeline_id
            count = tf.shape(tf.nest.flatten(batch)[0])[0]
            first, last = (-(-count * one // replicas) for one in (place, place + 1))
            return tf.nest.map_structure(lambda tensor: tensor[first:last], batch)

        def parts(*batch):
            batch = batch[0] if len(batch) == 1 else batch
            each = [tf.data.Dataset.from_tensors(part(batch, replica)) for replica in range(here)]
            joined = each[0]
            for one in each[1:]:
                joined = joined.concatenate(one)
            return joined

        if here == 1:
            return dataset.map(lambda *batch: part(batch[0] if len(batch) == 1 else batch, 0))
        return dataset.flat_map(parts)

    distributed = strategy.distribute_datasets_from_function(rows)
    distributed._cardinality = dataset.cardinality().numpy()  # which Keras takes for the number of steps
    return distributed


# ---------------------------------------------------------------- the model


def prepare(model: keras.Model) -> None:
    """Let a compiled model train, evaluate and predict on several replicas, in one process or in several.

    Overrides methods of this one object; its class and what it saves stay as they are. Works also where an
    optimizer or compiled step is made anew later (`stages.StagedUnfreezing`). A `train_step` of the model's
    own must pass its loss through `optimizer.scale_loss`, as Keras' does. Has no effect on one replica or a
    TPU, nor a second time.
    """
    strategy = model.distribute_strategy
    if _leave_to_keras(strategy) or "train_step" in vars(model):
        return
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization) and "_moments" not in vars(layer):
            layer.synchronized = True
            _override(layer, "_moments", _without_stand_in(layer._moments))
    call, make_train_function = model.call, model.make_train_function
    train_step, test_step, predict_step = model.train_step, model.test_step, model.predict_step
    as_keras_reduces = _as_vectors if number_of_workers(strategy) > 1 else lambda logs: logs

    def make_weighted_train_function(force: bool = False):
        _weigh_loss(model.optimizer)
        return make_train_function(force)

    _override(model, "call", _with_stand_in(call))
    _override(model, "train_step", lambda data: as_keras_reduces(_step(train_step, data, weigh=True)))
    _override(model, "test_step", lambda data: as_keras_reduces(_step(test_step, data)))
    _override(model, "predict_step", lambda data: _step(predict_step, data))
    _override(model, "make_train_function", make_weighted_train_function)
    _override(model, "_maybe_symbolic_build", lambda *batches, **named: _build(model, *batches, **named))


def _override(owner, name: str, function: Callable) -> None:
    object.__setattr__(owner, name, function)  # Keras would track an attribute


def _build(model: keras.Model, iterator=None, data_batch=None) -> None:
    """Make the variables of loss and metrics from the shapes of a first batch.

    Keras takes the mean over all replicas' parts of it, which fails where they differ in size, and under
    several workers always. Two rows stand for any number: the part at hand may have none.
    """
    strategy = model.distribute_strategy

    def shape_of(value):
        if value is None:  # no sample weights
            return None
        value = strategy.experimental_local_results(value)[0]
        return keras.KerasTensor((2, *value.shape[1:]), keras.backend.standardize_dtype(value.dtype))

    for _, _, batches in iterator or ():
        data_batch = next(batches)
        break
    with strategy.scope():
        model._symbolic_build(data_batch=keras.tree.map_structure(shape_of, data_batch))


# What a step that is being traced works on; each replica of a process traces in a thread of its own.
_PART = threading.local()


def _step(step: Callable, data, weigh: bool = False):
    """Trace a step on this replica's part of a batch, which may have no rows."""
    _PART.rows = tf.shape(tf.nest.flatten(data)[0])[0]
    try:
        if weigh:
            _PART.weight = _weight(_PART.rows)
        return step(data)
    finally:
        _PART.rows = None


def _weight(rows: tf.Tensor) -> tf.Tensor:
    """This replica's share of the rows of the global batch, times the number of replicas: 1 if all are alike.

    Keras' loss on a replica is the mean over its n_r rows, divided by the number R of replicas. Times R n_r/n
    that is the sum over its rows divided by the number n of all rows, and the gradients, which are added up,
    are those of the whole batch. Losses of regularisation, the same on each replica, keep their weight: the
    factors add up to R.
    """
    context = tf.distribute.get_replica_context()
    rows = tf.cast(rows, tf.float32)
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, rows)
    return rows * context.num_replicas_in_sync / total


def _weigh_loss(optimizer) -> None:
    vars(optimizer).pop("scale_loss", None)
    scale_loss = optimizer.scale_loss
    _override(optimizer, "scale_loss", lambda loss: scale_loss(loss * tf.cast(_PART.weight, loss.dtype)))


def _with_stand_in(call: Callable) -> Callable:
    """Run a model on one row of zeros where its replica has none, and drop what comes of it: a convolution of
    no pictures gives a wrong shape on a CPU (oneDNN in TensorFlow 2.21).
    """

    def padded(inputs, *arguments, **named):
        rows = getattr(_PART, "rows", None)
        if rows is None:  # outside of a step
            return call(inputs, *arguments, **named)

        def at_least_one(tensor):
            one = tf.zeros((1, *tensor.shape[1:]), tensor.dtype)
            return tf.cond(rows > 0, lambda: tensor, lambda: one)

        outputs = call(keras.tree.map_structure(at_least_one, inputs), *arguments, **named)
        return keras.tree.map_structure(lambda tensor: tensor[:rows], outputs)

    return padded


def _without_stand_in(moments: Callable) -> Callable:
    """Keep that row out of BatchNorm's statistics."""

    def of_rows(inputs, mask):
        rows = getattr(_PART, "rows", None)
        return moments(inputs if rows is None or mask is not None else inputs[:rows], mask)

    return of_rows


def _as_vectors(logs: dict) -> dict:
    """Keras reduces what the workers' steps return along an axis 0, which a number does not have."""
    return {name: tf.reshape(value, (1,)) for name, value in logs.items()}


# ---------------------------------------------------------------- one decision for all


def gather(rows: np.ndarray, strategy: tf.distribute.Strategy) -> np.ndarray:
    """The rows of all workers below each other, the chief's first; each gives as many, of one shape.

    float64 on the way: exact for float32, and for whole numbers up to 2**53.
    """
    workers, number = number_of_workers(strategy), index(strategy)
    if workers == 1:
        return rows
    slots = np.zeros((workers, *rows.shape))
    slots[number] = rows
    return _sum(slots, strategy).astype(rows.dtype).reshape(workers * len(rows), *rows.shape[1:])


def total(values: np.ndarray, strategy: tf.distribute.Strategy) -> np.ndarray:
    """The sum over all workers of arrays of one shape and dtype, added in float64."""
    if number_of_workers(strategy) == 1:
        return values
    return _sum(values.astype("float64"), strategy).astype(values.dtype)


def is_first_of_host(strategy: tf.distribute.Strategy) -> bool:
    """Whether this is the first of the workers on its host, by the host's name: for files of a host's own."""
    name = int.from_bytes(hashlib.sha256(socket.gethostname().encode()).digest()[:6], "big")  # below 2**53
    names = gather(np.array([float(name)]), strategy)
    return index(strategy) == int(np.flatnonzero(names == name)[0])


def own_rows(rows: np.ndarray, strategy: tf.distribute.Strategy) -> np.ndarray:
    """Of what `gather` put together, those that this worker gave."""
    workers, number = number_of_workers(strategy), index(strategy)
    each = len(rows) // workers
    return rows[number * each : (number + 1) * each]


def any_worker(flag: bool, strategy: tf.distribute.Strategy) -> bool:
    """Whether the flag is set on any worker: the same answer on all of them."""
    return bool(gather(np.array([flag], dtype="float64"), strategy).any())


def from_chief(make: Callable[[], Any], strategy: tf.distribute.Strategy) -> Any:
    """What `make` returns on the chief (plain JSON types), on every worker; the others do not call it."""
    if number_of_workers(strategy) == 1:
        return make()
    chief = is_chief(strategy)
    text = json.dumps(make()).encode() if chief else b""
    length = int(_sum(np.array([float(len(text))]), strategy)[0])
    values = np.frombuffer(text, "uint8").astype("float64") if chief else np.zeros(length)
    return json.loads(_sum(values, strategy).astype("uint8").tobytes())


def wait(strategy: tf.distribute.Strategy) -> None:
    """Go on when all workers have come here."""
    any_worker(False, strategy)


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Within the block the chief works while the others wait, then they do: for what makes files once."""
    if not is_chief(strategy):
        wait(strategy)
    yield
    if is_chief(strategy):
        wait(strategy)


@contextlib.contextmanager
def only_chief_prints(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Within the block nothing that the other workers print to standard output is seen; errors are."""
    if is_chief(strategy):
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _sum(values: np.ndarray, strategy: tf.distribute.Strategy) -> np.ndarray:
    """The sum over the workers of what each gives, float64 of one shape."""
    # Each replica of a worker gives the same.
    here = strategy.num_replicas_in_sync // number_of_workers(strategy)
    total = _adder(strategy, values.shape)(tf.constant(values, tf.float64))
    return strategy.experimental_local_results(total)[0].numpy() / here


@functools.cache
def _adder(strategy: tf.distribute.Strategy, shape: tuple[int, ...]) -> Callable:
    """One compiled function for each shape in a process: the workers know a sum by its place among them."""

    def add(values):
        here = tf.identity(values)  # on the replica's device: an argument is on none
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)

    function = tf.function(lambda values: strategy.run(add, args=(values,)))
    # Concrete, or TensorFlow takes all shapes for one function that is traced over and over, and warns.
    return function.get_concrete_function(tf.TensorSpec(shape, tf.float64))
