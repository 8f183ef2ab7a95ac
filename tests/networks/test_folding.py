"""BatchNorm folded into convolutions: the same numbers, fewer operations, and only where it is right."""

import keras
import numpy as np
import pytest

from runner.networks import backbones, folding


def unsettled(model):
    """Give every BatchNorm layer statistics and scales of its own, or folding would be of nothing."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                spread = random.uniform(0.5, 1.5, weight.shape)
                weight.assign(spread if "variance" in weight.path or "gamma" in weight.path else spread - 1)
    return model


def norms(model):
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def compare(model, shape, tolerance=1e-4):
    pictures = np.random.default_rng(1).uniform(0, 255, (3, *shape)).astype(model.input.dtype)
    before = [weight.numpy() for weight in model.weights]
    faster = folding.fold(model)
    expected, received = (one(pictures, training=False).numpy() for one in (model, faster))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert not {id(one) for one in faster.variables} & {id(one) for one in model.variables}
    return faster


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "SeparableConv2D"])
def test_each_kind_of_convolution_takes_its_norm_in(kind, scale, bias):
    keras.utils.set_random_seed(0)
    options = {"depth_multiplier": 3} if kind == "DepthwiseConv2D" else {"filters": 6}
    x = inputs = keras.Input((8, 8, 2))
    layer = getattr(keras.layers, kind)(
        kernel_size=3, strides=2, padding="same", use_bias=bias, bias_initializer="ones", **options
    )
    x = keras.layers.BatchNormalization(scale=scale, center=scale, epsilon=0.1)(layer(x))
    model = unsettled(keras.Model(inputs, keras.layers.ReLU(6.0)(x)))
    assert norms(compare(model, (8, 8, 2), 1e-5)) == 0


def test_what_cannot_take_a_norm_in_is_left_alone():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    read_twice = keras.layers.Conv2D(4, 3, name="read_twice")(inputs)
    x = keras.layers.BatchNormalization()(read_twice) + read_twice
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1, activation="relu")(x))
    x = keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(4, 1)(x))
    x = keras.layers.BatchNormalization()(keras.layers.ReLU()(x))
    faster = compare(unsettled(keras.Model(inputs, x)), (8, 8, 2))
    assert norms(faster) == 4


NETWORKS = {"MobileNet-0.25": 27, "ResNet50": 53}
MORE = {"VGG16": 0, "InceptionV3": 94, "Xception": 40, "DenseNet121": 59, "EfficientNetB0": 49}
MORE |= {"MobileNetV2-0.35": 52, "MobileNetV3Small": 34, "ConvNeXtTiny": 0, "NASNetMobile": 188}


@pytest.mark.parametrize(
    ("name", "fewer"),
    [*NETWORKS.items(), *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE.items())],
)
def test_real_networks_keep_their_numbers(name, fewer):
    size = {"InceptionV3": 75, "Xception": 71, "NASNetMobile": 224}.get(name, 32)
    model = unsettled(backbones.build(name, size, "none"))
    faster = compare(model, (size, size, 3), 1e-3)
    assert norms(model) - norms(faster) == fewer


def test_a_part_that_begins_in_the_middle():
    model = unsettled(backbones.build("MobileNet-0.25", 32, "none"))
    middle = model.get_layer("conv_pw_5_relu").output
    part = keras.Model(middle, model.output)
    assert norms(part) == 16 and norms(compare(part, tuple(middle.shape[1:]), 1e-3)) == 0
