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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner.devices import accumulation
from runner.devices.accumulation import override
from runner.errors import InputError


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


@dataclass(frozen=True)
class Share:
    """Which rows of each batch of all devices the replicas of one process compute."""

    replicas: int
    """Of all processes together."""
    workers: int
    worker: int
    """From 0 to below workers."""

    def split(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """What this process's replicas compute of each batch, one element for each of them in turn.

        batches: elements of any structure whose tensors have a row for each example. n rows are divided over
        R replicas in order, so that each has n/R rounded down or up, none where there are fewer rows than
        replicas.
        """
        here = self.replicas // self.workers

        def part(batch, replica: int):
            # Keras' predict puts first replicas of all workers first, then the second ones, and so on.
            place = replica * self.workers + self.worker
            count = tf.shape(tf.nest.flatten(batch)[0])[0]
            first, last = (-(-count * one // self.replicas) for one in (place, place + 1))
            return tf.nest.map_structure(lambda tensor: tensor[first:last], batch)

        def parts(*batch):
            batch = batch[0] if len(batch) == 1 else batch
            each = [tf.data.Dataset.from_tensors(part(batch, replica)) for replica in range(here)]
            joined = each[0]
            for one in each[1:]:
                joined = joined.concatenate(one)
            return joined

        if here == 1:
            return batches.map(lambda *batch: part(batch[0] if len(batch) == 1 else batch, 0))
        return batches.flat_map(parts)


def distribute(
    dataset: tf.data.Dataset | Callable[[Share | None], tf.data.Dataset], strategy: tf.distribute.Strategy
) -> Any:
    """What each replica reads of a dataset of global batches, for `fit`, `evaluate` and `predict`.

    All workers make the same batches and each takes its rows of them, so that together they see what one
    process would; see `Share.split`. One replica gets the dataset itself; so does a TPU.
    dataset: or, for one without end, a function that makes of a share its rows of it, as `share.split` would
    but without making the others, and of None the whole batches.
    """
    if _leave_to_keras(strategy):
        return dataset(None) if callable(dataset) else dataset

    def rows(context: tf.distribute.InputContext) -> tf.data.Dataset:
        share = Share(context.num_replicas_in_sync, context.num_input_pipelines, context.input_pipeline_id)
        return dataset(share) if callable(dataset) else share.split(dataset)

    distributed = strategy.distribute_datasets_from_function(rows)
    # Which Keras takes for the number of steps.
    steps = tf.data.INFINITE_CARDINALITY if callable(dataset) else dataset.cardinality().numpy()
    distributed._cardinality = steps
    return distributed


def share_of(strategy: tf.distribute.Strategy) -> Share | None:
    """Which rows of each batch this process computes; None where that is left to Keras, or all."""
    if _leave_to_keras(strategy):
        return None
    return Share(strategy.num_replicas_in_sync, number_of_workers(strategy), index(strategy))


# ---------------------------------------------------------------- the model


def prepare(model: keras.Model, accumulate: int = 1) -> None:
    """Let a compiled model train, evaluate and predict on several replicas, in one process or in several.

    accumulate: each replica computes its rows of a batch in so many parts, one after another, and then all
    take one step. See `accumulation.divide`, which also says what is overridden and what a `train_step` of
    the model's own must do. With 1 part this has no effect on one replica or a TPU.
    Raises InputError for parts on a TPU.
    """
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.TPUStrategy) and accumulate > 1:
        raise InputError(
            f"accumulate={accumulate}: a TPU is left to Keras; compile with an optimizer that has "
            f"gradient_accumulation_steps={accumulate}, and smaller batches."
        )
    prepared = "train_step" in vars(model)
    if prepared or accumulate > 1 or not _leave_to_keras(strategy):
        accumulation.divide(model, accumulate)
    if prepared or _leave_to_keras(strategy):
        return
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    train_step, test_step, predict_step = model.train_step, model.test_step, model.predict_step
    as_keras_reduces = _as_vectors if number_of_workers(strategy) > 1 else lambda logs: logs
    evaluate, predict = (
        functools.partial(accumulation.without_training, step) for step in (test_step, predict_step)
    )
    override(model, "train_step", lambda data: as_keras_reduces(train_step(data)))
    override(model, "test_step", lambda data: as_keras_reduces(evaluate(data)))
    override(model, "predict_step", predict)
    override(model, "_maybe_symbolic_build", lambda *batches, **named: _build(model, *batches, **named))


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
    """What `make` returns on the chief (plain JSON types), on every worker; the others do not call it.

    What it raises there is raised on; the others, which would wait for ever, raise InputError with its words.
    """
    if number_of_workers(strategy) == 1:
        return make()
    chief, failed = is_chief(strategy), None
    told: dict[str, Any] = {}
    if chief:
        try:
            told = {"made": make()}
        except Exception as error:  # whatever it is, the others must hear of it
            failed, told = error, {"failed": f"the chief stopped: {error or type(error).__name__}"}
    text = json.dumps(told).encode()
    length = int(_sum(np.array([float(len(text)) * chief]), strategy)[0])
    values = np.frombuffer(text, "uint8").astype("float64") if chief else np.zeros(length)
    told = json.loads(_sum(values, strategy).astype("uint8").tobytes())
    if failed is not None:
        raise failed
    if "failed" in told:
        raise InputError(told["failed"])
    return told["made"]


def wait(strategy: tf.distribute.Strategy) -> None:
    """Go on when all workers have come here."""
    any_worker(False, strategy)


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Within the block the chief works while the others wait, then they do: for what makes files once.

    Where the chief fails in it, the others raise InputError in the place of their turn.
    """
    if not is_chief(strategy):
        if any_worker(False, strategy):
            raise InputError("the chief stopped before it was this worker's turn; its output says why.")
        yield
        return
    try:
        yield
    except Exception:
        any_worker(True, strategy)
        raise
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
