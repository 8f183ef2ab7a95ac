"""The forward pass of finished networks over a split: compiled once, the same for every template."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner.errors import InputError


def forward(
    network: keras.Model, then: Callable[[Any], Any] | None = None, spec: tf.TensorSpec | None = None
) -> Callable[[Any], Any]:
    """Compile a network for inference: a function of a batch of any number of inputs, tensors in and out.

    then: what becomes of the network's output, in the same graph (detections from the answers of a detector).
    spec: of a batch, where it is not the network's own input (whose dtype the data may not have).
    Floating-point results are float32, also where the network computes in half precision.
    """
    taken = keras.tree.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), network.input)

    def step(batch: Any) -> Any:
        found = network(batch, training=False)
        found = found if then is None else then(found)
        return keras.tree.map_structure(
            lambda one: tf.cast(one, tf.float32) if one.dtype.is_floating else one, found
        )

    # Not `predict_on_batch`: with several replicas that runs each of them on the whole batch. For any number
    # of inputs, so that the short last batch retraces nothing. Concrete, or TensorFlow counts the networks of
    # a comparison as one function that is traced over and over, and warns.
    compiled = tf.function(step, input_signature=[taken if spec is None else spec], autograph=False)
    return compiled.get_concrete_function()


def batches(
    steps: Mapping[str, Callable[[Any], Any]], dataset: tf.data.Dataset, batch_size: int = 64
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Go through a dataset once: what is known of each batch, and what each step makes of its input.

    steps: name -> of `forward`. dataset: unbatched; elements are dicts with "input". Yields what stands
    beside "input" (ids, labels, masks), and name -> the step's results, all as NumPy arrays with a row per
    example.
    """
    for batch in dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE):
        known = {name: value.numpy() for name, value in batch.items() if name != "input"}
        found = {
            name: keras.tree.map_structure(lambda one: one.numpy(), step(batch["input"]))
            for name, step in steps.items()
        }
        yield known, found


def outputs(
    networks: Mapping[str, keras.Model], dataset: tf.data.Dataset, batch_size: int = 64
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Run every network over a dataset, which is read exactly once.

        predictions = classification.tables(*inference.outputs(networks, examples.val), examples.classes)

    networks: name -> network that takes inputs as the dataset gives them. dataset: unbatched, finite;
    elements are dicts with "input". batch_size: examples per step; the result does not depend on it beyond
    rounding.

    Returns what stands beside "input" (id, label), and name -> the network's output, each a NumPy array with
    a row per example, in the dataset's order; floating-point ones float32. Raises InputError for a dataset
    without elements.
    """
    spec = dataset.batch(batch_size).element_spec
    steps = {name: forward(network, spec=spec["input"]) for name, network in networks.items()}
    parts = list(batches(steps, dataset, batch_size))
    if not parts:
        raise InputError("The dataset to evaluate has no examples: give the split at least one.")
    known, found = zip(*parts, strict=True)
    joined = {name: np.concatenate([one[name] for one in known]) for name in known[0]}
    return joined, {
        name: keras.tree.map_structure(lambda *ones: np.concatenate(ones), *(one[name] for one in found))
        for name in networks
    }
