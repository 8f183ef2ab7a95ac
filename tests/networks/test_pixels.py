"""Pixels come in as they are, whole or not; what was scaled before is refused in words."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.networks import backbones, pixels
from runner.networks.backbones import Block
from runner.stage import Stage
from runner.training.fit import fit_stages

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype="uint8")
SCALED = {"0..1": PICTURES / 255, "-1..1": (PICTURES / 127.5 - 1).astype("float32")}


@pytest.fixture
def network():
    """As `backbones.build` makes them, a classifier of three classes on top, and its block."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), dtype="float32", name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(keras.ops.cast(inputs, "float32"))
    body = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="conv")(x))
    pixels.guard(body)
    x = keras.layers.GlobalAveragePooling2D()(body.output)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x)), (Block("conv", ("conv",)),)


@pytest.mark.parametrize("name", SCALED)
def test_scaled_pictures_are_refused_where_a_network_is_called(network, name):
    model, _ = network
    assert pixels.guarded(model)
    with pytest.raises(InputError, match="within -1..1, and this network takes pixels of 0..255"):
        model(SCALED[name])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"takes pixels of 0\.\.255"):
        model.predict(SCALED[name], verbose=0)


def test_scaled_pictures_are_refused_before_the_first_epoch(network):
    model, blocks = network
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    labels = np.eye(3, dtype="float32")[np.arange(6) % 3]

    def batches(pictures):
        return tf.data.Dataset.from_tensor_slices((pictures, labels)).batch(3)

    before, stages = model.get_weights(), [Stage("head", epochs=1)]
    for scaled in SCALED.values():
        for train, validation in ((scaled, PICTURES), (PICTURES.astype("float32"), scaled)):
            with pytest.raises(InputError, match="leave out the scaling, or undo it"):
                fit_stages(model, batches(train), batches(validation), stages, blocks)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    floats = batches(PICTURES + 0.25)
    assert len(fit_stages(model, floats, floats, stages, blocks).history) == 1


def test_whole_numbers_and_floats_of_the_same_pixels_give_the_same(network, tmp_path):
    model, _ = network
    expected = model(PICTURES).numpy()
    for pictures in (PICTURES, PICTURES.astype("float32"), PICTURES.astype("int32")):
        np.testing.assert_array_equal(model(pictures), expected)
        np.testing.assert_allclose(model.predict(pictures, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(model(PICTURES + 0.5) - expected).max() > 1e-4  # which a cast to uint8 would cut off
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not pixels.guarded(loaded)
    np.testing.assert_array_equal(loaded(PICTURES.astype("float32")), expected)


@pytest.mark.parametrize("dark", [np.zeros((2, 8, 8, 3), "float32"), np.ones((2, 8, 8, 3), "uint8")])
def test_black_pictures_are_pictures(network, dark):
    model, _ = network
    assert np.isfinite(model(dark)).all() and np.isfinite(model.predict(dark, verbose=0)).all()


def test_the_gradient_reaches_the_picture():
    backbone = backbones.build("MobileNet-0.25", 32, "none")
    picture = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(picture)
        answer = tf.reduce_sum(backbone(picture))
    assert np.abs(tape.gradient(answer, picture)).max() > 0
    with pytest.raises(InputError, match="takes pixels of 0..255"):
        backbone(picture / 255)
