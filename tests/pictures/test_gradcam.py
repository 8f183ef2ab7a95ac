"""Grad-CAM is the closed form where there is one, lights a planted object, and depends on the weights."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from runner.errors import InputError
from runner.networks import backbones
from runner.pictures import gradcam

_spec = importlib.util.spec_from_file_location("photos", Path(__file__).parents[2] / "datasets" / "photos.py")
photos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(photos)


def pooled_model(small_model):
    """A network with average pooling and one dense layer, whose weights are drawn; no layer is trainable."""
    model, _ = small_model(dropout=0.5)
    model.trainable = False
    random = np.random.default_rng(4)
    for variable in model.weights:
        if variable.dtype == "float32":
            drawn = random.normal(size=variable.shape)
            variable.assign(np.abs(drawn) + 0.5 if "variance" in variable.path else drawn)
    return model


def closed_form(model, layer_name, images, class_indices):
    """CAM (Zhou et al. 2016): relu of the feature map times the class's column of the dense layer, over its
    maximum."""
    features = keras.Model(model.input, model.get_layer(layer_name).output).predict(images, verbose=0)
    kernel = model.get_layer("head").kernel.numpy()
    maps = np.maximum(np.einsum("nijk,kn->nij", features, kernel[:, class_indices]), 0)
    return maps / maps.max(axis=(1, 2), keepdims=True)


def test_after_pooling_and_one_dense_layer_it_is_cam(small_model, small_data):
    model, (images, _) = pooled_model(small_model), small_data
    classes = np.arange(len(images)) % 4
    maps = gradcam.heatmaps(model, "block3_relu", images, classes, batch_size=16)  # 16 + 16 + 8
    assert maps.shape == (40, 8, 8) and maps.dtype == np.float32
    speaking = maps.max(axis=(1, 2)) > 0
    assert speaking.sum() > 20
    expected = closed_form(model, "block3_relu", images[speaking], classes[speaking])
    np.testing.assert_allclose(maps[speaking], expected, atol=1e-5)
    assert np.all(maps[speaking].max(axis=(1, 2)) == 1)


def test_where_nothing_speaks_for_the_class_the_map_is_zero(small_model, small_data):
    model = pooled_model(small_model)
    model.get_layer("head").kernel.assign(-np.ones((4, 4)))
    assert np.all(gradcam.heatmaps(model, "block3_relu", small_data[0][:3], [0, 1, 2]) == 0)


def test_weights_and_statistics_stay_and_the_batch_does_not_matter(small_model, small_data):
    model, images = pooled_model(small_model), small_data[0]
    model.trainable = True  # BatchNorm would use and move its statistics, dropout would drop
    before = [variable.numpy() for variable in model.weights]
    together = gradcam.heatmaps(model, "block2_relu", images, np.zeros(40, int))
    for old, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    alone = gradcam.heatmaps(model, "block2_relu", images[5:6], [0])
    np.testing.assert_allclose(alone[0], together[5], atol=1e-5)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_the_same_maps(precision):
    """After average pooling over a large map, gradients of small weights get lost in float16."""
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    maps = []
    for policy in ("float32", precision):
        keras.mixed_precision.set_global_policy(policy)
        inputs = keras.Input((64, 64, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(inputs)
        x = keras.layers.Conv2D(8, 5, padding="same", activation="relu", name="map")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32", name="head")(x))
        random = np.random.default_rng(1)
        for variable in model.trainable_variables:
            scale = 1e-4 if "head" in variable.path else 0.2
            variable.assign(random.normal(size=variable.shape, scale=scale))
        maps.append(gradcam.heatmaps(model, "map", images, [0, 1, 2, 0]))
    assert maps[0].max() == 1
    np.testing.assert_allclose(maps[1], maps[0], atol=0.05)


def test_a_planted_object_is_lit_in_its_corner():
    """A network made by hand: class 0 is red, class 1 is blue; each picture has a red and a blue corner."""
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.AveragePooling2D(4, name="map")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(x))
    model.layers[-1].kernel.assign([[1.0, -1.0], [0.0, 0.0], [-1.0, 1.0]])
    images = np.full((2, 16, 16, 3), 30, np.uint8)
    images[:, :4, :4] = (250, 0, 0)
    images[:, 12:, 12:] = (0, 0, 250)
    maps = gradcam.heatmaps(model, "map", images, [0, 1])
    expected = np.zeros((2, 4, 4))
    expected[0, 0, 0] = expected[1, 3, 3] = 1
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_maps_change_when_the_head_or_the_network_is_drawn_anew():
    """The sanity check of Adebayo et al. (2018): a map that ignores the weights explains nothing."""
    backbone = backbones.build("MobileNet-0.25", 64, "letters_in_photos")
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(10, name="head")(x))
    layer = backbones.blocks(model, backbone.name)[-3].name
    images = np.random.default_rng(2).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    chosen = np.arange(24) % 10
    kept = gradcam.heatmaps(model, layer, images, chosen).ravel()
    np.testing.assert_array_equal(kept, gradcam.heatmaps(model, layer, images, chosen).ravel())
    for part in ([model.get_layer("head")], model.layers):
        for layer_ in part:
            for variable in layer_.trainable_variables:
                variable.assign(keras.random.normal(variable.shape, stddev=0.1, seed=1))
        anew = gradcam.heatmaps(model, layer, images, chosen).ravel()
        assert abs(np.corrcoef(kept, anew)[0, 1]) < 0.5


def test_any_backbone_made_here_has_maps_at_its_blocks():
    backbone = backbones.build("MobileNetV2-0.35", 64, "none")
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, dtype="float32")(x), name=backbone.name)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    sides = [gradcam.heatmaps(model, name, images, [0, 2]).shape[1] for name in ("block_5_add", "out_relu")]
    assert sides == [8, 2]
    blocks = backbones.blocks(model)
    assert gradcam.choose_layer(model, blocks) == "block_12_add"  # the last with 4 x 4 places
    assert gradcam.choose_layer(model, blocks, least=2) == "out_relu"
    assert gradcam.choose_layer(model, blocks, least=99) == blocks[0].name


def test_on_real_digits_the_heat_lies_on_the_digit():
    """The letters network with a head fitted to 250 digits; the place of each digit is known."""
    backbone = backbones.build("MobileNet-0.25", 64, "letters_in_photos")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(10, name="head")(x), name=backbone.name)
    train, fresh = next(photos.digits("train")), next(photos.digits("validation"))
    pooled = keras.Model(model.input, model.get_layer("pool").output).predict(train.images, verbose=0)
    fitted = LogisticRegression(C=0.1, max_iter=300).fit(pooled, train.labels)
    model.get_layer("head").set_weights([fitted.coef_.T, fitted.intercept_])
    predicted = model.predict(fresh.images, verbose=0).argmax(axis=1)
    right = predicted == fresh.labels
    assert right.mean() > 0.6
    layer = gradcam.choose_layer(model, backbones.blocks(model))
    maps = gradcam.heatmaps(model, layer, fresh.images[right], predicted[right])
    hit, share = [], []
    for heat, mask in zip(maps, fresh.masks[right] > 128, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        row, column = np.array(np.unravel_index(heat.argmax(), heat.shape)) * 16 + 8  # the place's middle
        hit.append(rows[0] <= row <= rows[-1] and columns[0] <= column <= columns[-1])
        share.append((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / 64**2)
    assert np.mean(hit) > np.mean(share) + 0.2  # a random place would hit as often as the box is large


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_overlay_can_be_read_on_dark_and_light(shade):
    heat = np.zeros((4, 4), np.float32)
    heat[1, 1] = 1
    picture = gradcam.overlay(np.full((64, 48, 3), shade, np.uint8), heat)
    assert picture.shape == (64, 48, 3) and picture.dtype == np.uint8
    red, blue = picture[24, 18, 0].astype(int), picture[24, 18, 2].astype(int)
    assert red - blue > 60  # orange in the middle of the hot place
    cold = picture[60:, 40:].reshape(-1, 3)
    assert np.all(cold == cold[0]) and len(set(cold[0])) == 1  # gray where there is no heat
    line = np.all(picture == 255, axis=-1)
    assert line.any() and (picture == 0).all(axis=-1).any()
    rows, columns = np.nonzero(line)
    assert abs(rows.mean() - 23.5) < 2 and abs(columns.mean() - 17.5) < 2  # around the hot place


def test_an_overlay_can_be_enlarged_and_takes_gray():
    assert gradcam.overlay(np.zeros((20, 10, 1), np.uint8), np.ones((2, 2)), side=100).shape == (100, 50, 3)


def test_what_cannot_be_explained_is_refused(small_model, small_data):
    model, images = pooled_model(small_model), small_data[0][:2]
    with pytest.raises(InputError, match="Did you mean 'block3_relu'"):
        gradcam.heatmaps(model, "block3_rellu", images, [0, 1])
    with pytest.raises(InputError, match="feature map"):
        gradcam.heatmaps(model, "pool", images, [0, 1])
    with pytest.raises(InputError, match="0 to 3"):
        gradcam.heatmaps(model, "block3_relu", images, [0, 4])
    with pytest.raises(InputError, match="one whole number"):
        gradcam.heatmaps(model, "block3_relu", images, [0.0, 1.0])
    with pytest.raises(InputError, match="no pictures"):
        gradcam.heatmaps(model, "block3_relu", images[:0], np.zeros(0, int))
    probabilities = keras.Model(model.input, keras.layers.Dense(4, activation="softmax")(model.output))
    with pytest.raises(InputError, match="softmax"):
        gradcam.heatmaps(probabilities, "block3_relu", images, [0, 1])
    with pytest.raises(InputError, match="uint8"):
        gradcam.overlay(images[0], np.ones((2, 2)))


def test_a_flat_map_is_told_and_not_drawn(monkeypatch):
    assert gradcam.flat(np.zeros((4, 4), np.float32)) == "No map: no place spoke for this answer."
    even = np.full((4, 4), 0.8, np.float32)
    even[0, 0] = 1
    assert "It varies by 20 % of its maximum, below 25 %" in gradcam.flat(even)
    even[3, 3] = 0.7
    assert gradcam.flat(even) == ""
    maps = np.stack([even, np.zeros((4, 4), np.float32)])
    monkeypatch.setattr(gradcam, "heatmaps", lambda *given: maps)
    monkeypatch.setattr(gradcam, "choose_layer", lambda *given: "any")
    predictions = pd.DataFrame({"id": [3, 5], "prediction": ["a", "b"]})
    pictures = {one: np.zeros((8, 8, 3), np.uint8) for one in (3, 5)}
    found = gradcam.explain(None, [], predictions, pictures, ["a", "b"])
    assert found[3].shape == (160, 160, 3) and found[5].startswith("No map")
