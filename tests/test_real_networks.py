"""The networks people ask for by name: built, staged, saved, loaded in a fresh process, and the same
numbers again.
"""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.networks import backbones
from runner.stage import Stage
from runner.training import fit as training

ROOT = Path(__file__).resolve().parent.parent

LOAD_AND_PREDICT = """
import sys
import keras, numpy as np
images = np.load(sys.argv[2])
np.save(sys.argv[3], keras.models.load_model(sys.argv[1], compile=False).predict(images, verbose=0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, size, boundary",
    [("VGG16", 64, "block4_pool"), ("ResNet50", 64, "conv4_block6_out"), ("InceptionV3", 96, "mixed7")],
)
def test_build_stage_save_load_in_a_fresh_process_and_predict_the_same(tmp_path, name, size, boundary):
    backbone = backbones.build(name, size, "none")
    logits = keras.layers.Dense(3, name="head")(
        keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    )
    model, blocks = keras.Model(backbone.input, logits, name=backbone.name), backbones.blocks(backbone)
    model.compile(
        keras.optimizers.Adam(), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    images = np.random.default_rng(0).integers(0, 256, (12, size, size, 3), dtype="uint8")
    data = tf.data.Dataset.from_tensor_slices((images, np.eye(3, dtype="float32")[np.arange(12) % 3])).batch(
        6
    )
    stages = [
        Stage("head", epochs=1),
        Stage("above", train=f"above:{boundary}", epochs=1, learning_rate=1e-4),
        Stage("all", train="all", epochs=1, learning_rate=1e-5, layer_decay=0.8),
    ]
    fitted = training.fit_stages(model, data, data, stages, blocks)

    ledger = fitted.ledger.set_index(["stage", "block"])
    names = [block.name for block in blocks]
    below = names[: names.index(boundary) + 1]
    assert (
        ledger.loc["above"].loc[below, "moved"].sum()
        == 0
        < ledger.loc["above"].loc[names[len(below) :], "moved"].min()
    )
    assert ledger["statistics_moved"].sum() == 0

    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    arguments = [str(tmp_path / file) for file in ("model.keras", "images.npy", "found.npy")]
    subprocess.run([sys.executable, "-c", LOAD_AND_PREDICT, *arguments], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=1e-5, atol=1e-5)
