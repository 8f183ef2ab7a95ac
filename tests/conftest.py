"""Small stand-ins that several tests train: a backbone of three blocks with BatchNorm, and data a head
can learn.
"""

import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Prepared data sets go to a folder that the session takes away again; TFDS reads this when it is imported.
TFDS_DATA_DIR = os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="thaw-tests-")
# So do kept activations (runner/training/cache.py).
os.environ["THAW_CACHE"] = os.path.join(TFDS_DATA_DIR, "activations")

import keras
import numpy as np
import pytest
import tensorflow as tf

# Two logical processors stand in for two GPUs; this must come before TensorFlow touches a device.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_unconfigure():
    shutil.rmtree(TFDS_DATA_DIR, ignore_errors=True)


@pytest.fixture(autouse=True)
def fresh_keras():
    """Layer names, seeds and the dtype policy start anew for each test."""
    # Without a search for garbage, a seventh of the time of all tests.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def small_model():
    """Builds (model, blocks): three blocks of convolution, BatchNorm and ReLU on 8 x 8 x 3 floats, then
    a head of 4 classes.
    """
    from runner.networks.backbones import Block

    def build(dropout: float = 0.0, bias: bool = True):
        keras.utils.set_random_seed(7)
        x = inputs = keras.Input((8, 8, 3))
        blocks = []
        for number in (1, 2, 3):
            names = tuple(f"block{number}_{part}" for part in ("conv", "bn", "relu"))
            x = keras.layers.Conv2D(4, 3, padding="same", use_bias=bias, name=names[0])(x)
            x = keras.layers.BatchNormalization(momentum=0.9, name=names[1])(x)
            x = keras.layers.ReLU(name=names[2])(x)
            blocks.append(Block(names[2], names))
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, seed=3, name="dropout")(x)
        return keras.Model(inputs, keras.layers.Dense(4, name="head")(x)), tuple(blocks)

    return build


@pytest.fixture
def small_data():
    """40 pictures (8, 8, 3) of 4 classes that differ in their mean colours, as (images, one-hot labels)
    arrays.
    """
    random = np.random.default_rng(5)
    labels = np.arange(40) % 4
    images = (
        random.normal(size=(40, 8, 8, 3)).astype("float32") + 0.5 * random.normal(size=(4, 1, 1, 3))[labels]
    )
    return images.astype("float32"), np.eye(4, dtype="float32")[labels]
