"""What costs nothing: logistic regression on what each pixel shows, of the pictures at hand alone."""

import time

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.networks import inference
from runner.pictures.masks import IGNORE
from runner.scores import segmentation
from runner.training import solved
from runner.training.fit import Fit

from .config import Config

SURROUNDINGS = (3, 9, 27)
"""Sides of the squares around a pixel, in pixels of a picture of 96; larger pictures have larger ones."""
PIXELS, PICTURES = 3_000, 200
"""So many pixels are looked at, 29 numbers of each, in so many pictures of training and of validation: half a
minute of one core for both.
"""
SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""By so much of the logarithm of their share frequent classes may be held back."""


def build(config: Config, data: Data) -> keras.Model:
    """uint8 pictures as the template's network takes them, float32 logits (batch, s, s, classes) out.

    What a pixel is judged by: its colours and their squares, how the mean colours of each square around it
    differ from those of the next larger one, their standard deviation there, and its place. (Means of all
    squares would span nearly the same, and take a solver twice as long.)
    """
    size = config.image_size
    image = keras.Input((size, size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    means, deviations = [x], []
    for side in [2 * max(1, round(one * size / 96) // 2) + 1 for one in SURROUNDINGS]:
        around = ops.concatenate([x, x**2], axis=-1)
        for shape in ((side, 1), (1, side)):
            around = keras.layers.AveragePooling2D(shape, strides=1, padding="same")(around)
        means.append(around[..., :3])
        deviations.append(ops.sqrt(ops.relu(around[..., 3:] - means[-1] ** 2)))
    finer = [one - next_larger for one, next_larger in zip(means, means[1:], strict=False)]
    seen = [means[-1], *finer, x**2, *deviations]
    down, right = np.meshgrid(*2 * [np.linspace(-1, 1, size, dtype="float32")], indexing="ij")
    place = np.stack([down, right, down**2, right**2, down * right], axis=-1)
    seen.append(ops.zeros_like(x[..., :1]) + place)
    x = ops.concatenate(seen, axis=-1)
    return keras.Model(image, keras.layers.Conv2D(len(data.classes), 1, dtype="float32", name="head")(x))


def fit(config: Config, data: Data) -> tuple[keras.Model, Fit]:
    """The network of `build` with the head that logistic regression finds; pixels weigh as they do in
    training. Its regularisation is chosen on validation.

    Its bias then loses t log(share of the class), t of `SHIFTS` with the highest mean IoU on validation: as
    it is, an answer is most often right, which most of a picture's background decides (Menon et al. 2021,
    "Long-tail learning via logit adjustment", arXiv:2007.07314).
    """
    started = time.perf_counter()
    network = build(config, data)
    head = network.get_layer("head")
    below = inference.forward(keras.Model(network.input, head.input))
    seen = keras.Input(head.input.shape[-1:])
    flat = keras.Model(seen, keras.layers.Dense(len(data.classes), name="head")(seen))
    of_train = data.amounts[(data.manifest["split"] == "train").to_numpy()]
    of_class = segmentation.class_weights(of_train, config.class_weights)
    splits = (data.train.shuffle(1000, seed=config.machine.seed, reshuffle_each_iteration=False), data.val)
    drawn = [_pixels(below, split.take(PICTURES), config.machine.seed) for split in splits]
    count = len(drawn[0]["label"])
    drawn[1]["id"] += count
    weights = of_class[np.concatenate([one["label"] for one in drawn])]
    solved.solve(flat, "head", *map(tf.data.Dataset.from_tensor_slices, drawn), weights)
    kernel, bias = flat.get_layer("head").get_weights()
    shares = np.bincount(drawn[0]["label"], weights[:count], minlength=len(bias)) / weights[:count].sum()
    prior = np.log(np.where(shares > 0, shares, 1.0))
    logits, label = drawn[1]["input"] @ kernel + bias, drawn[1]["label"]
    best = max(SHIFTS, key=lambda shift: _mean_iou((logits - shift * prior).argmax(axis=1), label))
    head.set_weights([kernel[None, None], bias - best * prior])
    for layer in network.layers:
        layer.trainable = layer is head
    return network, Fit(pd.DataFrame(), pd.DataFrame(), time.perf_counter() - started)


def _mean_iou(found: np.ndarray, label: np.ndarray) -> float:
    """The mean IoU of the classes that occur, codes (n,) each."""
    there = np.unique(label)
    both = np.array([np.sum((found == one) & (label == one)) for one in there])
    either = np.array([np.sum((found == one) | (label == one)) for one in there])
    return float(np.mean(both / either))


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
