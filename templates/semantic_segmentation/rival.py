"""What costs nothing: logistic regression on what each pixel shows, of the pictures at hand alone."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.networks import inference
from runner.pictures.masks import IGNORE
from runner.scores import segmentation
from runner.training import solved
from runner.training.fit import Fit

from .config import Config

SURROUNDINGS = (1, 3, 9, 27)
"""Sides of the squares around a pixel, in pixels of a picture of 96; larger pictures have larger ones."""
PIXELS = 20_000
"""So many pixels are looked at, of training and of validation pictures each: 29 numbers of each."""


def build(config: Config, data: Data) -> keras.Model:
    """uint8 pictures as the template's network takes them, float32 logits (batch, s, s, classes) out.

    What a pixel is judged by: mean and mean square of the colours in squares around it, and its place.
    """
    size = config.image_size
    image = keras.Input((size, size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = ops.concatenate([x, x**2], axis=-1)
    seen = []
    for side in sorted({2 * (round(one * size / 96) // 2) + 1 for one in SURROUNDINGS}):
        around = x
        for shape in ((side, 1), (1, side)):
            around = keras.layers.AveragePooling2D(shape, strides=1, padding="same")(around)
        seen.append(around)
    down, right = np.meshgrid(*2 * [np.linspace(-1, 1, size, dtype="float32")], indexing="ij")
    place = np.stack([down, right, down**2, right**2, down * right], axis=-1)
    seen.append(ops.zeros_like(x[..., :1]) + place)
    x = ops.concatenate(seen, axis=-1)
    return keras.Model(image, keras.layers.Conv2D(len(data.classes), 1, dtype="float32", name="head")(x))


def fit(config: Config, data: Data) -> tuple[keras.Model, Fit]:
    """The network of `build` with the head that logistic regression finds, its regularisation chosen on
    validation; pixels weigh as they do in training.
    """
    network = build(config, data)
    head = network.get_layer("head")
    below = inference.forward(keras.Model(network.input, head.input))
    seen = keras.Input(head.input.shape[-1:])
    flat = keras.Model(seen, keras.layers.Dense(len(data.classes), name="head")(seen))
    of_train = data.amounts[(data.manifest["split"] == "train").to_numpy()]
    of_class = segmentation.class_weights(of_train, config.class_weights)
    drawn = [_pixels(below, split, config.machine.seed) for split in (data.train, data.val)]
    count = len(drawn[0]["label"])
    drawn[1]["id"] += count
    weights = of_class[np.concatenate([one["label"] for one in drawn])]
    fitted = solved.fit(flat, "head", *map(tf.data.Dataset.from_tensor_slices, drawn), weights)
    kernel, bias = flat.get_layer("head").get_weights()
    head.set_weights([kernel[None, None], bias])
    for layer in network.layers:
        layer.trainable = layer is head
    return network, fitted


def _pixels(below, split: tf.data.Dataset, seed: int) -> dict[str, np.ndarray]:
    """What is seen of random known pixels of a split, as many of each picture: "input", float32 (n, d),
    "label", int64 (n,), and "id", their numbers from 0.
    """
    random = np.random.default_rng(seed)
    each = max(1, PIXELS // max(1, int(split.cardinality())))
    inputs, labels = [], []
    for known, found in inference.batches({"": below}, split, 32):
        for mask, features in zip(known["mask"], found[""], strict=True):
            places = np.flatnonzero(mask != IGNORE)
            places = random.choice(places, min(each, len(places)), replace=False)
            inputs.append(features.reshape(-1, features.shape[-1])[places])
            labels.append(mask.reshape(-1)[places])
    joined = np.concatenate(labels).astype("int64")
    return {"id": np.arange(len(joined)), "input": np.concatenate(inputs), "label": joined}
