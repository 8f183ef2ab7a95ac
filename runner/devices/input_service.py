"""Input made in processes of its own, by the `tf.data` service: `launch --input-workers N` and `through`.

    python -m runner launch --workers 1 --input-workers 2 -m my.training

    examples = ...                                    # cheap, in a fixed order: paths, ids, seeds
    batches = input_service.through(examples, lambda part: part.map(read_and_augment, AUTOTUNE))

Each input worker is a server of its own: `launch` puts their addresses into THAW_INPUT_SERVICE and ends them
with the job. Without that variable `through` is `work(examples)`, so that a program need not know.

The elements and their order are the same with any number of input workers: element i is made by worker i
modulo N, which is what one dispatcher with N workers does not promise. That holds where

- `work` makes one element of each, which depends on that element alone (a `map`, not a shuffle or a batch);
- `examples` gives the same each time it is read, since every worker reads all of it and keeps its share.

An input worker begins anew with each iterator: of a dataset that shuffles or draws otherwise in each pass it
gives the first pass again, without a word. Training needs one dataset without end for all its epochs, as
`data.batches.SplitBatches` makes it in `after`, and `steps_per_epoch`. Every random order needs a seed.

Pictures in memory (`in_memory.datasets`) go to each worker once with the graph. They must be below 2 GB in
a split: with more TensorFlow 2.21 ends the process instead of raising an error. What runs Python in the
dataset (`tf.py_function`, `tf.numpy_function`, `from_generator`) cannot be sent: pictures that are too many
for the memory (decoded by Pillow, see `decoding.dataset`) stay where they are read. `SplitBatches`
says so.

TensorFlow opens the workers' ports on all interfaces and asks nobody who they are, as it does with those of
training workers: use it in a network that you trust.
"""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

VARIABLE = "THAW_INPUT_SERVICE"
"""Addresses of the input workers, "127.0.0.1:port", with spaces between."""
MOST_BYTES = 2 * 10**9
"""Of pictures in memory that one dataset can be sent with; at 2**31 TensorFlow 2.21 ends the process."""


def through(
    examples: "tf.data.Dataset", work: "Callable[[tf.data.Dataset], tf.data.Dataset]"
) -> "tf.data.Dataset":
    """Return `work(examples)`, made by the input workers of this host where there are any.

    examples: a `tf.data.Dataset`; work: a function from a dataset to a dataset, element by element, see
    above. The result has the cardinality of `examples`. Raises InputError for a dataset that cannot be sent
    to another process.
    """
    import tensorflow as tf

    addresses = os.environ.get(VARIABLE, "").split()
    if not addresses:
        return work(examples)
    service = tf.data.experimental.service
    parts = []
    for place, address in enumerate(addresses):
        part = work(examples.shard(len(addresses), place))
        if not parts:  # the others are the same but for the share
            _check(part)
        sent = service.distribute(service.ShardingPolicy.OFF, f"grpc://{address}")
        parts.append(part.apply(sent))
    in_turn = tf.data.Dataset.range(len(parts)).repeat()
    joined = tf.data.Dataset.choose_from_datasets(parts, in_turn, stop_on_empty_dataset=True)
    count = examples.cardinality()
    if count == tf.data.UNKNOWN_CARDINALITY:
        return joined
    return joined.apply(tf.data.experimental.assert_cardinality(count))


def _check(dataset) -> None:
    """Raise InputError for what only a training step would otherwise find out, in many lines."""
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    try:
        graph = graph_pb2.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    except (tf.errors.OpError, ValueError) as error:
        raise InputError(
            f"this dataset cannot be sent to the input workers ({' '.join(str(error).split())[:200]}); make "
            "it in the training process, without `input_service.through`."
        ) from error
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    in_python = sorted({node.op for node in nodes if "PyFunc" in node.op})
    if in_python:
        raise InputError(
            f"this dataset runs Python ({', '.join(in_python)}: tf.py_function, tf.numpy_function or "
            "from_generator), which the input workers do not have; use TensorFlow's operations, or make it "
            "in the training process, without `input_service.through`."
        )


def command(address: str) -> list[str]:
    """What `python -m` runs for the input worker at an address."""
    return ["runner.devices.input_service", address.rpartition(":")[2]]


def serve(port: int) -> None:
    """Be an input worker until the process is ended."""
    from runner import quiet

    quiet.import_tensorflow()
    import tensorflow as tf

    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
    worker = service.WorkerServer(service.WorkerConfig(dispatcher.target.partition("://")[2]))
    worker.join()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
