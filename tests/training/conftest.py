"""A network that can be divided, and pictures for it, of which activations can be kept."""

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.networks.backbones import Block


@pytest.fixture(scope="package")
def network():
    """Builds (network, blocks): two blocks on uint8 pictures, dropout within the first and in the head."""

    def build():
        keras.utils.set_random_seed(7)
        x = inputs = keras.Input((8, 8, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(x)
        blocks = []
        for number in (1, 2):
            names = tuple(f"block{number}_{part}" for part in ("conv", "bn", "relu"))
            x = keras.layers.Conv2D(6, 3, padding="same", name=names[0])(x)
            x = keras.layers.BatchNormalization(momentum=0.9, name=names[1])(x)
            x = keras.layers.ReLU(name=names[2])(x)
            blocks.append(Block(names[2], names))
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dropout(0.3, name="dropout")(x)
        return keras.Model(inputs, keras.layers.Dense(4, name="head")(x)), tuple(blocks)

    return build


@pytest.fixture(scope="package")
def examples():
    """A `Data` of 40 pictures to train and 12 to validate on, of 4 classes."""
    random = np.random.default_rng(0)
    labels = np.arange(52) % 4
    pictures = (random.integers(0, 128, (52, 8, 8, 3)) + 30 * labels[:, None, None, None]).astype("uint8")
    split = np.array(["train"] * 40 + ["val"] * 12)
    random.shuffle(split)
    label = pd.Categorical.from_codes(labels, ["c0", "c1", "c2", "c3"])
    manifest = pd.DataFrame({"label": label, "split": split})
    manifest["sha256"] = [f"{row}" for row in range(52)]

    def part(name):
        rows = np.flatnonzero(split == name)
        return tf.data.Dataset.from_tensor_slices(
            {"id": rows.astype("int64"), "input": pictures[rows], "label": labels[rows].astype("int64")}
        )

    return SimpleNamespace(
        train=part("train"),
        val=part("val"),
        classes=("c0", "c1", "c2", "c3"),
        manifest=manifest,
        recipe="",
        unit="pictures",
    )
