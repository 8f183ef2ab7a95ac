"""One compiled forward pass: any number of rows, outputs in any structure, what is known beside them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.networks import inference


def network(outputs=1):
    x = inputs = keras.Input((3,))
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(4)(x))
    return keras.Model(inputs, [keras.layers.Dense(2)(x) for _ in range(outputs)] if outputs > 1 else x)


def rows(count=7):
    values = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    elements = {"id": np.arange(count), "input": values, "label": np.arange(count) % 2}
    return tf.data.Dataset.from_tensor_slices(elements), values


def test_every_row_comes_once_in_order_and_nothing_drops_out():
    dataset, values = rows()
    models = {"one": network(), "two": network(outputs=2)}
    known, found = inference.outputs(models, dataset, batch_size=3)
    assert known["id"].tolist() == list(range(7)) and known["label"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    np.testing.assert_allclose(found["one"], models["one"](values, training=False), rtol=1e-5)
    for ours, theirs in zip(found["two"], models["two"](values, training=False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_what_comes_after_the_network_is_in_the_same_step():
    dataset, values = rows()
    model = network()
    step = inference.forward(model, lambda output: {"best": tf.argmax(output, axis=-1), "all": output})
    parts = list(inference.batches({"it": step}, dataset, batch_size=4))
    assert [len(known["id"]) for known, _ in parts] == [4, 3] and "input" not in parts[0][0]
    best = np.concatenate([found["it"]["best"] for _, found in parts])
    assert best.tolist() == np.argmax(model(values), axis=1).tolist()


def test_half_precision_comes_as_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    step = inference.forward(network())
    assert step(tf.zeros((2, 3))).dtype == tf.float32


def test_no_rows_are_said():
    with pytest.raises(InputError, match="no examples"):
        inference.outputs({"it": network()}, rows()[0].take(0))
