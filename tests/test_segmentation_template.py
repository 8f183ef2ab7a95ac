"""templates/semantic_segmentation beyond its own test: every family's maps, exports, replicas, resuming."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from runner import fields, new
from runner.networks import backbones
from runner.pictures import any_size, square
from runner.stage import Stage
from runner.training import fit as training
from templates.semantic_segmentation import model, train
from templates.semantic_segmentation.config import Config

TEMPLATE = Path(train.__file__).parent
CLASSES = types.SimpleNamespace(classes=("ground", "road", "sky"))


def config(**changes) -> Config:
    small = Config(weights="none", image_size=64, decoder_channels=4)
    return fields.replace(small, **changes)


def maps_of(name: str, size: int) -> list[tuple[str, int]]:
    maps = model.feature_maps(backbones.build(name, size, "none"))
    return [(one._keras_history.operation.name, one.shape[1]) for one in maps]


def test_maps_are_the_last_of_each_resolution_through_which_everything_passes():
    assert maps_of("MobileNet-0.25", 64) == [
        ("conv_pw_1_relu", 32),
        ("conv_pw_3_relu", 16),
        ("conv_pw_5_relu", 8),
        ("conv_pw_11_relu", 4),
        ("conv_pw_13_relu", 2),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("VGG16", 64, {"block2_conv2": 32, "block3_conv3": 16, "block5_pool": 2}),
        (
            "ResNet50",
            64,
            {"conv1_relu": 32, "conv2_block3_out": 16, "conv4_block6_out": 4, "conv5_block3_out": 2},
        ),
        ("InceptionV3", 96, {"mixed2": 9, "mixed7": 4, "mixed10": 1}),
        ("Xception", 96, {"block1_conv2_act": 45, "block12_add": 6, "block14_sepconv2_act": 3}),
        ("MobileNetV2-0.35", 64, {"block_1_expand_relu": 32, "block_13_expand_relu": 4, "out_relu": 2}),
        ("MobileNetV3Small", 64, {"top_activation": 2}),
        ("DenseNet121", 64, {"conv1_relu": 32, "pool4_conv": 4, "relu": 2}),
        ("EfficientNetB0", 64, {"block2a_expand_activation": 32, "top_activation": 2}),
        ("EfficientNetV2B0", 64, {"block2b_add": 16, "top_activation": 2}),
        ("ConvNeXtTiny", 64, {"convnext_tiny_downsampling_layernorm_0": 16, "top_layer_normalization": 2}),
    ],
)
def test_every_family_gives_logits_for_every_pixel(name, size, expected):
    found = dict(maps_of(name, size))
    assert expected.items() <= found.items()
    network, blocks = model.build(config(backbone=name, image_size=size), CLASSES)
    logits = network(np.zeros((1, size, size, 3), np.uint8), training=False)
    assert logits.shape == (1, size, size, 3) and np.isfinite(logits).all()
    assert blocks[-1].name == list(found)[-1] or found[list(found)[-1]] <= 3


@pytest.mark.parametrize("decoder", ["unet", "deeplab"])
@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_the_model_of_any_size_is_the_network_on_resized_pictures(decoder, resize):
    network, _ = model.build(config(decoder=decoder), CLASSES)
    whole = any_size.build(network, resize)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = whole(pictures, training=False)
    np.testing.assert_allclose(found, network(pictures, training=False), atol=1e-6)
    # Smooth, so that a pixel's rounding in the resize counts for little.
    smooth = np.tile(np.linspace(30, 220, 128)[None, :, None, None], (1, 1, 96, 3)).astype(np.uint8)
    resized = square.resize(Image.fromarray(smooth[0]), 64, resize)[None]
    expected = network(resized, training=False)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(whole(smooth, training=False), expected, atol=0.05 * scale)


def test_a_saved_network_loads_in_a_fresh_process_without_this_project(tmp_path):
    network, _ = model.build(config(decoder="deeplab"), CLASSES)
    any_size.build(network).save(tmp_path / "model.keras")
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    code = (
        "import keras, numpy as np\n"
        "network = keras.models.load_model('model.keras', compile=False)\n"
        "np.save('logits.npy', network(np.load('picture.npy'), training=False))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    expected = network(picture, training=False)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-6)


@pytest.fixture
def pictures(tmp_path):
    """20 pictures in which the brighter half is class 1."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    for number in range(20):
        mask = np.zeros((32, 32), np.uint8)
        mask[:, random.integers(8, 24) :] = 1
        noisy = random.normal(80 + 90 * mask[..., None], 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / "pictures/images" / f"{number:02}.png")
        Image.fromarray(mask).save(tmp_path / "pictures/masks" / f"{number:02}.png")
    return tmp_path / "pictures"


def short(pictures, run, **changes) -> Config:
    stages = (
        Stage("decoder", train="head", epochs=2, learning_rate=0.01),
        Stage("all", train="all", epochs=3, learning_rate=0.003, batch_norm="train"),
    )
    options = dict(data=str(pictures), image_size=32, batch_size=4, stages=stages, baselines=False)
    return config(**(options | {"run_dir": str(run)} | changes))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_end(pictures, tmp_path, monkeypatch):
    whole = train.main(short(pictures, tmp_path / "whole", deterministic=True))

    class Interrupted(Exception):
        pass

    class Stops(training.StagedUnfreezing):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise Interrupted
            super().on_epoch_begin(epoch, logs)

    interrupted = short(pictures, tmp_path / "interrupted", deterministic=True)
    with monkeypatch.context() as patch:
        patch.setattr(training, "StagedUnfreezing", Stops)
        with pytest.raises(Interrupted):
            train.main(interrupted)
    assert not (tmp_path / "interrupted" / "metrics.json").exists()
    resumed = train.main(interrupted)
    for name in ("history.csv", "ledger.csv", "predictions.csv"):
        one, other = (pd.read_csv(run / name) for run in (whole, resumed))
        columns = [column for column in one if column != "seconds"]
        pd.testing.assert_frame_equal(one[columns], other[columns], check_exact=True)
    one, other = (keras.models.load_model(run / "model.keras", compile=False) for run in (whole, resumed))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_two_replicas_train_as_one_does(pictures, tmp_path):
    losses = []
    for kind in ("cpu", "mirrored"):
        run = train.main(
            short(pictures, tmp_path / kind, strategy=kind, augment="none", flip=False, dropout=0.0)
        )
        history = pd.read_csv(run / "history.csv")
        losses.append(history["loss"].iloc[0])
        metrics = json.loads((run / "metrics.json").read_text())["test"]
        assert metrics["examples"] == 5 and 0 < metrics["miou"] <= 1
        ledger = pd.read_csv(run / "ledger.csv").query("stage == 'decoder' and block != 'head'")
        assert ledger["moved"].sum() == 0
    # The decoder's BatchNorm takes its statistics over both replicas, and Dice is one picture's.
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
def test_a_copy_has_these_files_and_stands_alone(tmp_path):
    made = new.new("semantic_segmentation", tmp_path / "my_streets")
    copied = {path.name for path in (made / "my_streets").iterdir()}
    left_out = ("__pycache__", "requirements.txt")
    assert copied == {path.name for path in TEMPLATE.iterdir() if path.name not in left_out}
    for name in ("runner/pictures/masks.py", "datasets/photos.py", "datasets/scenes/drawing.py"):
        assert (made / name).is_file()
    assert (made / "checkpoints" / "letters_in_photos" / "backbone.weights.h5").is_file()
    for path in (made / "my_streets").glob("*.*"):
        assert "templates" not in path.read_text(), path.name
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "pytest", "-q", "my_streets"]
    done = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
