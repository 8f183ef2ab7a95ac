"""The table is complete and true, graphs are flat and equal to Keras' own, blocks stable and cuts exact."""

import importlib
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from runner.errors import InputError
from runner.networks import backbones, pretrained
from runner.networks.families import BACKBONES, find, weights_file

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("THAW_SHARED", ROOT.parent / "shared")) / "weights"
SMALL = ("MobileNet-0.25", "MobileNetV2-0.35", "MobileNetV3Small", "VGG16")
REST = tuple(name for name in BACKBONES if name not in SMALL)
SMALL_AND_REST = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)]
real_weights = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no weights in {SHARED} (set THAW_SHARED)")


def pictures(size: int, channels: int = 3, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, channels), dtype="uint8")


def plain_keras(name: str, size: int, weights=None):
    """Return the model of `keras.applications` and its module's `preprocess_input`."""
    family, width = find(name)
    constructor = getattr(keras.applications, family.name)
    arguments = {"alpha": width} if family.has_width else {}
    with warnings.catch_warnings():
        # Keras has one file for all sizes, of which it warns at sizes of its own choice.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined")
        model = constructor(include_top=False, weights=weights, input_shape=(size, size, 3), **arguments)
    return model, importlib.import_module(constructor.__module__).preprocess_input


def features_of_plain_keras(name: str, images: np.ndarray, weights) -> np.ndarray:
    model, preprocess_input = plain_keras(name, images.shape[1], weights)
    return np.array(model(preprocess_input(images.astype("float32"))))


def shake(model: keras.Model) -> None:
    """Give every variable values of its own: fresh BatchNorms are alike and would hide a swapped order."""
    random = np.random.default_rng(2)
    model.set_weights(
        [
            w
            if w.dtype.kind == "i"
            else (w * random.normal(1, 0.1, w.shape) + random.normal(0, 0.01, w.shape))
            for w in model.get_weights()
        ]
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # set_weights leaves what it computes with as it was


# The table


def test_every_constructor_of_keras_applications_is_in_the_table_with_its_parameter_count():
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    assert constructors == set(BACKBONES)
    assert all(family.parameters[1.0] > 0 for family in BACKBONES.values())


@pytest.mark.parametrize("name", BACKBONES)
def test_preprocessing_is_what_the_familys_own_module_does(name):
    module = importlib.import_module(getattr(keras.applications, name).__module__)
    images = pictures(4).astype("float32")
    mode = BACKBONES[name].pixels
    general = keras.applications.imagenet_utils.preprocess_input
    expected = images if mode == "inside" else general(images.copy(), mode=mode)
    np.testing.assert_array_equal(module.preprocess_input(images.copy()), expected)


@pytest.mark.parametrize(
    "name",
    [
        "MobileNet-0.25",
        "MobileNet",
        "MobileNetV2-0.35",
        "MobileNetV3Small-0.75",
        "VGG16",
        *(pytest.param(name, marks=pytest.mark.slow) for name in REST),
    ],
)
def test_the_weights_file_is_the_one_that_keras_asks_for(name, monkeypatch):
    asked = []

    def get_file(fname, *arguments, **options):
        asked.append(fname)
        raise OSError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    family, width = find(name)
    size = 128 if name.startswith("MobileNet") else 96
    with keras.StatelessScope(initialize_variables=False), pytest.raises(OSError):
        plain_keras(name, size, "imagenet")
    assert asked == [weights_file(family, width, size)]


def test_the_table_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys; from runner.networks import backbones; rows = backbones.table(); "
        "assert len(rows) == len(backbones.BACKBONES) + 1 and rows[0]['backbone'] == 'VGG16'; "
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "given, expected",
    [
        ("resnet50", "ResNet50"),
        ("MOBILENETV2-0.350", "MobileNetV2-0.35"),
        ("MobileNet-1.0", "MobileNet"),
        (" efficientnetv2b0 ", "EfficientNetV2B0"),
    ],
)
def test_names_are_taken_in_any_case(given, expected):
    assert backbones.canonical(given) == expected


# The graph


@pytest.mark.parametrize("name", SMALL_AND_REST)
def test_a_build_is_keras_own_network_flat_and_in_named_blocks(name):
    family, width = find(name)
    size = max(64, family.minimum_size)
    backbone = backbones.build(name, size, "none")
    assert backbone.name == backbones.canonical(name)
    assert (backbone.input.name, backbone.input.dtype) == ("image", "float32")
    assert backbone.count_params() == family.parameters[width]

    plain, preprocess_input = plain_keras(name, size)
    shake(plain)
    backbone.set_weights(plain.get_weights())
    pretrained._repair_efficientnet_scale(backbone)
    expected = np.array(plain(preprocess_input(pictures(size).astype("float32"))))
    assert np.ptp(expected) > 0
    found = np.array(backbone(pictures(size)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected))

    assert not any(isinstance(layer, keras.Model) for layer in backbone.layers)
    parts = backbones.blocks(backbone)
    placed = [layer for block in parts for layer in block.layers]
    assert len(placed) == len(set(placed)) and set(placed) == {layer.name for layer in backbone.layers}
    assert all(block.name == block.layers[-1] for block in parts)
    assert all(any(backbone.get_layer(layer).weights for layer in block.layers) for block in parts)
    for operation in backbone.operations:  # no name that Keras numbered
        assert re.sub(r"(_\d+)?$", "", operation.name).replace("_", "") != type(operation).__name__.lower()
    if family.single_tensor:
        for block in parts[:-1]:  # Keras refuses this unless everything above reads only the boundary
            keras.Model(backbone.get_layer(block.name).output, backbone.output)
    with keras.StatelessScope(initialize_variables=False):  # a second build in one process, without values
        assert backbones.blocks(backbones.build(name, size, "none")) == parts


@pytest.mark.parametrize(
    "name, size, boundary, count",
    [
        ("VGG16", 32, "block4_pool", 5),
        ("ResNet50", 32, "conv4_block6_out", 17),
        ("InceptionV3", 75, "mixed7", 11),
        ("MobileNetV2-0.35", 32, "block_12_add", 18),
        ("MobileNet-0.25", 32, "conv_pw_6_relu", 14),
    ],
)
def test_a_network_cut_at_a_boundary_agrees_exactly(name, size, boundary, count):
    backbone = backbones.build(name, size, "none")
    names = [block.name for block in backbones.blocks(backbone)]
    assert boundary in names and len(names) == count
    middle = backbone.get_layer(boundary).output
    below, above = keras.Model(backbone.input, middle), keras.Model(middle, backbone.output)
    images = pictures(size)
    np.testing.assert_array_equal(np.array(above(below(images))), np.array(backbone(images)))


def test_grayscale_is_repeated_to_three_channels():
    gray, colour = (backbones.build("MobileNet-0.25", 32, "none", channels=channels) for channels in (1, 3))
    colour.set_weights(gray.get_weights())
    images = pictures(32, channels=1)
    np.testing.assert_array_equal(np.array(gray(images)), np.array(colour(images.repeat(3, axis=-1))))


@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNet-0.25"])
def test_mixed_precision_computes_in_bfloat16_after_float32_preprocessing(name):
    exact = backbones.build(name, 32, "none")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    mixed = backbones.build(name, 32, "none")
    mixed.set_weights(exact.get_weights())
    assert mixed.output.dtype == "bfloat16"
    assert {v.dtype for v in mixed.variables} == {"float32"}
    first = next(layer for layer in mixed.layers if layer.weights)
    assert first.input.dtype == "float32"
    expected = np.array(exact(pictures(32)))
    found = keras.ops.convert_to_numpy(keras.ops.cast(mixed(pictures(32)), "float32"))
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))


@pytest.mark.parametrize("name", ["MobileNetV2-0.35", pytest.param("ConvNeXtTiny", marks=pytest.mark.slow)])
def test_blocks_of_a_saved_and_loaded_classifier_leave_its_head_out(name, tmp_path):
    backbone = backbones.build(name, 32, "none")
    x = keras.layers.Conv2D(8, 1, name="relu")(backbone.output)  # a head may use a name of another family
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    model = keras.Model(backbone.input, keras.layers.Dense(3, name="block_99_add")(x), name="classifier")
    model.save(tmp_path / "model.keras")
    keras.utils.clear_session()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert backbones.blocks(loaded, name) == backbones.blocks(backbone)
    np.testing.assert_array_equal(np.array(loaded(pictures(32))), np.array(model(pictures(32))))
    with pytest.raises(InputError, match="does not hold the layers of VGG16"):
        backbones.blocks(loaded, "VGG16")
    with pytest.raises(InputError, match="Unknown backbone 'classifier'"):
        backbones.blocks(loaded)


def test_a_deviation_in_the_place_of_efficientnets_variance_is_squared_once():
    scale = keras.layers.Normalization()
    scale.build((None, 2, 2, 3))
    scale.set_weights([np.zeros(3, np.float32), np.array([0.229, 0.224, 0.225], np.float32), np.array(0)])
    image = keras.Input((2, 2, 3))
    network = keras.Model(image, scale(image))
    for _ in range(2):
        pretrained._repair_efficientnet_scale(network)
        np.testing.assert_allclose(
            network.predict(np.ones((1, 2, 2, 3)), verbose=0)[0, 0, 0, 0], 1 / 0.229, 1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, size",
    [
        ("VGG16", 64),
        ("ResNet50", 64),
        ("InceptionV3", 96),
        ("EfficientNetB0", 64),
        ("InceptionResNetV2", 96),
        ("NASNetMobile", 64),
    ],
)
def test_a_fresh_process_loads_predicts_and_names_the_same(name, size, tmp_path):
    backbone = backbones.build(name, size, "none")
    shake(backbone)
    pretrained._repair_efficientnet_scale(backbone)
    model = keras.Model(backbone.input, keras.layers.GlobalAveragePooling2D()(backbone.output))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", pictures(size))
    np.save(tmp_path / "expected.npy", model.predict(pictures(size), verbose=0))
    parts = [[block.name, block.layers] for block in backbones.blocks(backbone)]
    (tmp_path / "blocks.json").write_text(json.dumps(parts))
    code = f"""
import json, keras, numpy as np
from runner.networks import backbones
model = keras.models.load_model("{tmp_path}/model.keras")
expected = np.load("{tmp_path}/expected.npy")
found = model.predict(np.load("{tmp_path}/images.npy"), verbose=0)
assert np.allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected)), np.abs(found - expected).max()
blocks = json.loads(json.dumps([[block.name, block.layers] for block in backbones.blocks(model, "{name}")]))
assert blocks == json.load(open("{tmp_path}/blocks.json"))
fresh = backbones.build("{name}", {size}, "none")
assert json.loads(json.dumps([[block.name, block.layers] for block in backbones.blocks(fresh)])) == blocks
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# Weights


@real_weights
@pytest.mark.parametrize("size", [96, 160, 224])
@pytest.mark.parametrize(
    "name, file",
    [
        ("MobileNetV2-0.35", "mobilenet_v2_0.35_224_imagenet_notop.weights.h5"),
        ("MobileNet-0.25", "mobilenet_0.25_224_imagenet_notop.weights.h5"),
        ("MobileNet-0.75", "mobilenet_0.75_224_imagenet_notop.weights.h5"),
    ],
)
def test_real_weights_give_the_features_of_plain_keras(name, file, size):
    # Called directly the difference is 0; `predict` compiles x / 127.5 into a product: the last bits differ.
    images = pictures(size, count=1)
    found = np.array(backbones.build(name, size, str(SHARED / file))(images))
    np.testing.assert_array_equal(found, features_of_plain_keras(name, images, SHARED / file))


@real_weights
def test_a_file_with_its_imagenet_head_gives_the_backbone():
    with_top, without = (SHARED / f"mobilenet_0.25_224_imagenet{end}.weights.h5" for end in ("", "_notop"))
    models = [backbones.build("MobileNet-0.25", 32, path) for path in (with_top, without)]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@real_weights
@pytest.mark.parametrize("name", ["MobileNet-0.75", "MobileNetV2-0.25", "MobileNetV3Small", "VGG16"])
def test_a_file_of_another_network_is_named(name):
    with pytest.raises(InputError, match="it holds MobileNet-0.25") as error:
        backbones.build(name, 32, SHARED / "mobilenet_0.25_224_imagenet_notop.weights.h5")
    assert "\n" not in str(error.value)


@pytest.fixture
def trained():
    backbone = backbones.build("MobileNet-0.25", 32, "none")
    shake(backbone)
    return backbone


def assert_same_weights(one, other):
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_come_from_files_classifiers_runs_and_checkpoints(trained, tmp_path, monkeypatch):
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(trained.output))
    classifier = keras.Model(trained.input, keras.layers.Dense(3, name="head")(x))
    classifier.compile("adam", "mse")
    classifier.fit(pictures(32), np.zeros((2, 3)), verbose=0)  # so that the file has optimizer variables too
    (tmp_path / "run").mkdir()
    classifier.save(tmp_path / "run" / "model.keras")
    trained.save_weights(tmp_path / "notop.weights.h5")
    plain, _ = plain_keras("MobileNet-0.25", 32)
    plain.set_weights(trained.get_weights())
    plain.save(tmp_path / "whole.h5")  # the legacy format of the files in the Keras cache
    folder = tmp_path / "checkpoints" / "letters"
    folder.mkdir(parents=True)
    trained.save_weights(folder / "backbone.weights.h5")
    (folder / "card.json").write_text(json.dumps({"backbone": "MobileNet-0.25", "image_size": 32}))
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)

    for weights in ("run", "run/model.keras", "notop.weights.h5", "whole.h5", "letters", str(folder)):
        assert_same_weights(backbones.build("mobilenet-0.25", 64, weights), trained)

    for name, weights, message in [
        ("MobileNet-0.5", "run", "it seems to hold MobileNet-0.25 with a head"),
        ("VGG16", "run", "it seems to hold MobileNet-0.25 with a head"),
        ("MobileNet-0.5", "notop.weights.h5", "it holds MobileNet-0.25"),
        ("MobileNet-0.5", "whole.h5", "it holds MobileNet-0.25"),
        ("MobileNet-0.5", "letters", "holds MobileNet-0.25, not .*: give backbone 'MobileNet-0.25'"),
        ("MobileNet-0.25", "leters", "Did you mean 'letters'.*checkpoints/ .letters."),
        ("MobileNet-0.25", "checkpoints", "neither model.keras .a run. nor card.json"),
        ("MobileNet-0.25", "none.weights.h5", "there is no such file or folder"),
        ("MobileNet-0.25", "checkpoints/letters/card.json", "is no weights file"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            backbones.build(name, 32, weights)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["broken.weights.h5", "broken.h5", "broken.keras"])
def test_a_broken_file_is_answered_in_one_line(file, tmp_path):
    (tmp_path / file).write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match="cannot be read") as error:
        backbones.build("MobileNet-0.25", 32, tmp_path / file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("card", ["{", "[]", "{}", '{"backbone": "Foo"}'])
def test_a_broken_card_is_answered_in_one_line(card, tmp_path, monkeypatch):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "card.json").write_text(card)
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path)
    with pytest.raises(InputError, match="card.json cannot be used"):
        backbones.build("MobileNet-0.25", 32, "letters")
    (tmp_path / "letters" / "card.json").write_text('{"backbone": "MobileNet-0.25"}')
    with pytest.raises(InputError, match="backbone.weights.h5 is missing"):
        backbones.build("MobileNet-0.25", 32, "letters")


def test_imagenet_without_network_names_the_file_the_folder_and_the_choices(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def get_file(*arguments, **options):
        raise Exception("URL fetch failure on https://...: None -- unreachable\nmore")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(InputError, match="not there, and downloading it failed .URL fetch failure") as error:
        backbones.build("MobileNetV2-0.35", 96, "imagenet")
    file = tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
    message = str(error.value)
    assert str(file) in message and "weights='none'" in message and "\n" not in message


@pytest.mark.parametrize("name", ["MobileNet-0.25", pytest.param("EfficientNetB0", marks=pytest.mark.slow)])
def test_imagenet_weights_in_the_cache_give_the_features_of_plain_keras(name, tmp_path, monkeypatch):
    plain, _ = plain_keras(name, 32)
    shake(plain)
    for layer in plain.layers:
        if isinstance(layer, keras.layers.Normalization):  # as the real files have it
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.229, 0.224, 0.225])
    file = tmp_path / weights_file(*find(name), 32).replace(".h5", ".weights.h5")
    plain.save_weights(file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *arguments, **options: str(file))
    images = pictures(32)
    expected = features_of_plain_keras(name, images, "imagenet")
    close = {"rtol": 0, "atol": 1e-5 * np.ptp(expected)}
    built = backbones.build(name, 32, "imagenet")
    np.testing.assert_allclose(np.array(built(images)), expected, **close)
    # The same file by path, and what was made from it and saved.
    np.testing.assert_allclose(np.array(backbones.build(name, 32, file)(images)), expected, **close)
    built.save(tmp_path / "model.keras")
    again = backbones.build(name, 32, tmp_path / "model.keras")
    np.testing.assert_allclose(np.array(again(images)), expected, **close)


@pytest.mark.slow
def test_convnext_files_of_plain_keras_load_though_our_graph_is_flatter(tmp_path):
    plain, _ = plain_keras("ConvNeXtTiny", 32)
    shake(plain)
    plain.save_weights(tmp_path / "notop.weights.h5")
    backbone = backbones.build("ConvNeXtTiny", 32, tmp_path / "notop.weights.h5")
    assert_same_weights(backbone, plain)
    backbone.save_weights(tmp_path / "ours.weights.h5")
    assert_same_weights(backbones.build("ConvNeXtTiny", 32, tmp_path / "ours.weights.h5"), plain)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("ResNet5", 64, "none"), "Unknown backbone 'ResNet5'. Did you mean 'ResNet50'"),
        (("", 64, "none"), "Unknown backbone ''"),
        (("ResNet50-0.5", 64, "none"), "ResNet50 has no widths"),
        (("MobileNet-wide", 64, "none"), "width 'wide' is not a number from 0.1 to 2; .*MobileNet-0.25"),
        (("MobileNet-9", 64, "none"), "width '9' is not"),
        (("MobileNet-", 64, "none"), "width '' is not"),
        (("MobileNet-0.4", 64, "imagenet"), "no ImageNet weights for MobileNet-0.4; .* MobileNet-0.25, "),
        (("InceptionV3", 74, "none"), "image_size=74 .* InceptionV3 takes 75 pixels or more .native 299"),
        (("VGG16", 64.0, "none"), "image_size=64.0 is too small or not a whole number"),
        (("VGG16", 64, "none", 4), "channels=4 is not allowed"),
        (("VGG16", 64, "imagnet"), "Unknown weights 'imagnet'. Did you mean 'imagenet'"),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        backbones.build(*arguments)
    assert "\n" not in str(error.value)
