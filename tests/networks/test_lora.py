"""LoRA: put on without changing a bit, merged without changing more than rounding, and gone afterwards."""

import keras
import keras_hub
import numpy as np
import pytest

from runner.errors import InputError
from runner.networks import folding, lora


def parts(model) -> list[list[keras.layers.Layer]]:
    """All layers of a model, as one block."""
    return [model._flatten_layers(include_self=False)]


def moved(layers) -> None:
    """What training would do: some a and b."""
    random = np.random.default_rng(0)
    for layer in layers:
        for variable in lora.weights(layer):
            variable.assign(random.normal(0, 0.1, variable.shape))


@pytest.fixture
def convolutions():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, name="plain")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(6, 3, groups=2, name="groups")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Dense(5, use_bias=False, name="dense")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


@pytest.fixture
def attention():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 8))
    x = keras_hub.layers.TransformerEncoder(16, 2, name="encoder")(inputs)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("kind", "names", "shape"),
    [("convolutions", ["plain", "dense"], (3, 8, 8, 4)), ("attention", ["query", "value"], (3, 6, 8))],
)
def test_a_network_computes_the_same_before_with_and_after_it(request, tmp_path, kind, names, shape):
    model = request.getfixturevalue(kind)
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    plain, variables = model(x, training=False).numpy(), [one.path for one in model.variables]

    layers = lora.attach(parts(model), 2)
    assert sorted(layer.name for layer in layers) == sorted(names)
    np.testing.assert_array_equal(model(x, training=False).numpy(), plain)  # b begins at 0
    assert lora.attach(parts(model), 2) == []  # they have it
    with pytest.raises(InputError, match=r"'\w+' has LoRA of rank 2 already; give lora:2"):
        lora.attach(parts(model), 3)

    moved(layers)
    unmerged = model(x, training=False).numpy()
    assert np.abs(unmerged - plain).max() > 0.01
    lora.merge(layers)
    assert [one.path for one in model.variables] == variables
    np.testing.assert_allclose(model(x, training=False).numpy(), unmerged, rtol=0, atol=1e-5)

    model.save(tmp_path / "merged.keras")
    loaded = keras.saving.load_model(tmp_path / "merged.keras")
    assert [lora.weights(layer) for layer in loaded._flatten_layers() if lora.weights(layer)] == []
    np.testing.assert_allclose(loaded(x, training=False).numpy(), unmerged, rtol=0, atol=1e-5)


def test_taken_off_as_it_was_put_on_it_changes_no_bit(convolutions):
    before = convolutions.get_weights()
    lora.merge(lora.attach(parts(convolutions), 4))
    for old, new in zip(before, convolutions.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_loaded_file_with_lora_in_it_would_never_learn_again(convolutions, tmp_path):
    """Why networks are merged: Keras makes a and b anew, both of zeros, and neither then has a gradient."""
    moved(lora.attach(parts(convolutions), 2))
    convolutions.save(tmp_path / "unmerged.keras")
    loaded = keras.saving.load_model(tmp_path / "unmerged.keras")
    for variable in lora.weights(loaded.get_layer("dense")):
        np.testing.assert_array_equal(variable.numpy(), 0)


def test_folded_with_it_in_place_the_kernels_have_what_it_adds(convolutions):
    x = np.random.default_rng(1).normal(size=(3, 8, 8, 4)).astype("float32")
    moved(lora.attach(parts(convolutions), 2))
    faster = folding.fold(convolutions)
    assert not any(lora.weights(layer) for layer in faster.layers)
    expected = convolutions(x, training=False).numpy()
    np.testing.assert_allclose(faster(x, training=False).numpy(), expected, rtol=0, atol=1e-5)


def test_where_nothing_can_take_it_that_is_said():
    model = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.DepthwiseConv2D(3)])
    with pytest.raises(InputError, match="train='lora:4': none of the blocks has a dense layer"):
        lora.attach(parts(model), 4)
