"""The detector on two replicas, after a kill, under every kind of backbone, and copied out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner import new
from runner.devices import multi_worker, strategy
from templates.object_detection import method, model
from templates.object_detection.config import Config
from tests import killed

ROOT = Path(__file__).resolve().parent.parent


class Classes:
    """What `model.build` reads of the data."""

    classes = ("a", "b", "c")


def batch(random, pictures: int):
    """Pictures with 0 to 3 boxes: of several replicas each has another number."""
    low = random.uniform(0, 30, (pictures, 3, 2))
    boxes = np.concatenate([low, low + random.uniform(8, 34, low.shape)], axis=2).astype("float32")
    numbers = random.randint(-1, 3, (pictures, 3))
    boxes[numbers < 0] = -1
    images = random.randint(0, 256, (pictures, 64, 64, 3)).astype("uint8")
    return {"input": images, "boxes": boxes, "classes": numbers}


@pytest.mark.slow
def test_two_replicas_train_as_one():
    """The loss is divided by the points with a box of the whole batch, however it is divided."""

    def trained(chosen):
        keras.utils.set_random_seed(3)
        with chosen.scope():
            image = keras.Input((64, 64, 3), dtype="uint8")
            fine = keras.layers.Conv2D(8, 8, strides=8)(keras.ops.cast(image, "float32") / 255)
            coarse = keras.layers.MaxPooling2D(2)(fine)
            config = Config(image_size=64, width=16, depth=1, strides=(8, 16))
            outputs = model._head(model._pyramid([fine, coarse], config.width), config, 3)
            network = keras.Model(image, outputs)
            network.compile(optimizer=keras.optimizers.SGD(0.05), loss=method.loss)
        multi_worker.prepare(network)
        data = tf.data.Dataset.from_tensor_slices(batch(np.random.RandomState(0), 11)).batch(4)
        pairs = data.map(method.target(model.grid(network, config.strides))).map(
            lambda one: (one["input"], one["label"], one["weight"])
        )
        history = network.fit(multi_worker.distribute(pairs, chosen), verbose=0, shuffle=False)
        return history.history["loss"], network.get_weights()

    alone = trained(tf.distribute.get_strategy())
    pair = trained(strategy.choose("mirrored"))  # one for the whole process
    assert pair[0] == pytest.approx(alone[0], rel=1e-5)
    for one, other in zip(alone[1], pair[1], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["VGG16", "ResNet50", "InceptionV3", "MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"]
)
def test_any_backbone_has_the_levels(name, tmp_path):
    """Also where sizes are not whole numbers of cells; what is saved loads without this project."""
    size = 139 if name == "InceptionV3" else 100  # of 100 pixels one cell is left of its unpadded top level
    config = Config(backbone=name, weights="none", image_size=size, width=16, depth=1)
    network, blocks = model.build(config, Classes)
    grid = model.grid(network, config.strides)
    assert network.output.shape == (None, len(grid.centre), 8)
    assert grid.stride[[0, -1]] == pytest.approx([8, 32], rel=0.6) and set(grid.level) == {0, 1, 2}
    assert {layer for block in blocks for layer in block.layers} >= {
        layer.name
        for layer in network.layers
        if layer.weights and not layer.name.startswith(("head_", "pyramid_"))
    }
    images = np.random.RandomState(0).randint(0, 256, (2, size, size, 3)).astype("uint8")
    network.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import keras, numpy as np, sys\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.save('outputs.npy', model.predict(np.load('images.npy'), verbose=0))\n"
        "assert not any(name.startswith(('runner', 'templates')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    outputs = network.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), outputs, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    flags = [
        *("--no-baselines", "--train-examples", 48, "--checkpoint-steps", 2, "--width", 16, "--depth", 1),
        *("--stages.0.epochs", 2, "--stages.1.epochs", 3),
    ]
    # Killed within the second stage.
    tables = ("history.csv", "ledger.csv", "predictions.csv", "truth.csv")
    killed.ends_as_one_that_was_not("object_detection", flags, tmp_path, "epoch-00003", tables)


def test_the_copy_has_all_it_needs(tmp_path):
    made = new.new("object_detection", tmp_path / "my-cells", backbone="ResNet50")
    copied = {path.name for path in (made / "my_cells").iterdir()}
    assert copied == {
        path.name
        for path in (ROOT / "templates" / "object_detection").iterdir()
        if path.name not in ("__pycache__", "requirements.txt")
    }
    assert (made / "datasets" / "scenes" / "scenes_dataset_builder.py").is_file()
    for needed in ("runner/pictures/boxes.py", "datasets/photos.py"):
        assert (made / needed).is_file()
    config = (made / "my_cells" / "config.py").read_text()
    assert 'weights: str = "imagenet"' in config and "image_size: int = 224" in config
    for path in (made / "my_cells").glob("*.*"):
        assert "templates" not in path.read_text(), path.name


@pytest.mark.slow
def test_the_copy_trains(tmp_path):
    made = new.new("object_detection", tmp_path / "my_cells")
    short = ("--no-baselines", "--train-examples", "32", "--stages.0.epochs", "1", "--stages.1.epochs", "1")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "my_cells.train", "--run-dir", "runs/short", *short]
    ended = subprocess.run(command, cwd=made, env=variables, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((made / "runs" / "short" / "metrics.json").read_text())
    assert metrics["test"]["examples"] == 400 and 0 <= metrics["test"]["ap50"] <= 1
