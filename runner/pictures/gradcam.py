"""Where a classifier looks: Grad-CAM, and a heat map laid over its picture.

`heatmaps` computes the maps of Selvaraju et al., "Grad-CAM" (ICCV 2017), `overlay` draws one, `choose_layer`
says on which layer. A map says which places of a feature map spoke for a class; it does not say that the
network is right, nor why.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from runner.errors import InputError, suggest
from runner.networks.backbones import Block

TINT = np.array([242, 142, 28], np.float32)  # orange: seen by every kind of colour vision
STRENGTH = 0.6  # the most that the tint covers of the picture

SIDE = 160
"""Pixels a side of the overlays that `explain` gives."""
FLAT = 0.25
"""A map that varies by less than this share of its maximum is flat: it says nothing of where."""


def choose_layer(model: keras.Model, blocks: Sequence[Block], least: int = 4) -> str:
    """Return the last block whose feature map has at least `least` x `least` places.

    The last block of all means most, but a small picture leaves it 2 x 2 places (64 pixels, stride 32), which
    say nothing of where: on digits_in_photos the maximum of its map lay in the digit's box for 3 % of the
    pictures, that of the last block with 4 x 4 places for 73 %. Where no block has so many places, the first
    of those with the most is returned.

    blocks: those of the model's backbone, bottom first, as `backbones.blocks` gives them.
    """
    places = {block.name: min(model.get_layer(block.name).output.shape[1:3]) for block in blocks}
    enough = [name for name, side in places.items() if side >= least]
    return enough[-1] if enough else max(places, key=places.__getitem__)


def heatmaps(
    model: keras.Model, layer_name: str, images: np.ndarray, class_indices: np.ndarray, batch_size: int = 32
) -> np.ndarray:
    """Return the Grad-CAM map of each picture for a class, float32 (n, h, w), 0..1.

    With A_k the k-th channel of the layer's feature map and y_c the logit of class c: the weight of a channel
    is the mean of its gradient over all places, alpha_k = mean_ij dy_c / dA_k,ij (equation 1); the map is
    relu(sum_k alpha_k A_k) (equation 2). Each map is divided by its own maximum, so that two maps do not
    compare in strength; one in which nothing speaks for the class is 0 everywhere. The network runs in
    inference mode and keeps its weights.

    Args:
        model: a flat functional model, pictures in, logits (batch, classes) out.
        layer_name: a layer whose output is (batch, h, w, channels), such as a block of the backbone
            (`choose_layer`); every path from the pictures to the logits must lead through it.
        images: (n, height, width, channels), as the model takes them.
        class_indices: n whole numbers, each the class to explain for its picture.
        batch_size: pictures per step.

    Raises:
        InputError: for a layer that is not there or has no feature map, for classes that are not there, and
            for a model that gives probabilities.
    """
    lower, upper = _cut(model, layer_name)
    images, class_indices = np.asarray(images), np.asarray(class_indices)
    classes = model.output.shape[-1]
    if class_indices.shape != (len(images),) or not np.issubdtype(class_indices.dtype, np.integer):
        raise InputError(
            f"Received class_indices of type {class_indices.dtype} and shape {class_indices.shape} for "
            f"{len(images)} pictures; give one whole number for each."
        )
    if len(images) == 0:
        raise InputError("Received no pictures to explain; give at least one.")
    if class_indices.min() < 0 or class_indices.max() >= classes:
        raise InputError(
            f"Received class_indices from {class_indices.min()} to {class_indices.max()}; allowed are 0 to "
            f"{classes - 1}, the classes of the model."
        )

    @tf.function(reduce_retracing=True)
    def step(pictures, chosen):
        features = lower(pictures, training=False)
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = tf.cast(upper(features, training=False), tf.float32)
            # Times the number of places: after average pooling a gradient is so small that float16 would
            # lose it. The scale goes away when the map is divided by its maximum.
            places = tf.cast(tf.shape(features)[1] * tf.shape(features)[2], tf.float32)
            chosen_logits = tf.gather(logits, chosen, batch_dims=1) * places
        gradients = tf.cast(tape.gradient(chosen_logits, features), tf.float32)
        weights = tf.reduce_mean(gradients, axis=[1, 2])
        return tf.nn.relu(tf.einsum("nk,nijk->nij", weights, tf.cast(features, tf.float32)))

    starts = range(0, len(images), batch_size)
    maps = [step(images[i : i + batch_size], class_indices[i : i + batch_size]).numpy() for i in starts]
    maps = np.concatenate(maps)
    largest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def overlay(image: np.ndarray, heatmap: np.ndarray, side: int | None = None) -> np.ndarray:
    """Return the picture in gray, tinted orange where the map is high, uint8 (h, w, 3).

    Colour then means heat and nothing else. A line, white inside and black outside, runs where the map is
    half its maximum, so that the map can be read on dark and light pictures and without colour vision.

    Args:
        image: uint8 (h, w, 3) or (h, w, 1).
        heatmap: (rows, columns) of any size, 0..1; it is stretched smoothly over the picture.
        side: the picture is first scaled so that its longer side has this many pixels; None leaves it.
    """
    image, heatmap = np.asarray(image), np.asarray(heatmap, np.float32)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or heatmap.ndim != 2:
        raise InputError(
            f"Received a picture of type {image.dtype} and shape {image.shape} and a map of shape "
            f"{heatmap.shape}; allowed are uint8 (height, width, 1 or 3) and (rows, columns)."
        )
    gray = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L")
    if side is not None:
        scale = side / max(gray.size)
        fitted = [max(1, round(length * scale)) for length in gray.size]
        gray = gray.resize(fitted, Image.Resampling.BICUBIC)
    heat = np.asarray(Image.fromarray(heatmap).resize(gray.size, Image.Resampling.BICUBIC))
    heat = np.clip(heat, 0, 1)[..., None]
    # Black and white are drawn in a little, or the tint would be lost on one of them.
    gray = 20 + np.asarray(gray, np.float32)[..., None] * (215 / 255)
    picture = gray + STRENGTH * heat * (TINT - gray)
    hot = heat[..., 0] >= 0.5
    picture[hot & ~ndimage.binary_erosion(hot, border_value=1)] = 255
    picture[ndimage.binary_dilation(hot) & ~hot] = 0
    return np.round(picture).astype(np.uint8)


def _cut(model: keras.Model, layer_name: str) -> tuple[keras.Model, keras.Model]:
    """Cut the model at a layer's output: the gradient is taken from there up, since pixels are whole numbers
    and frozen weights are on no tape.
    """
    names = [layer.name for layer in model.layers]
    if layer_name not in names:
        raise InputError(
            f"Received layer_name={layer_name!r}, which is no layer of the model '{model.name}'; give one "
            f"with a feature map, such as a block of its backbone.{suggest(layer_name, names)}"
        )
    features = model.get_layer(layer_name).output
    if len(features.shape) != 4:
        raise InputError(
            f"Received layer_name={layer_name!r}, whose output is {features.shape}; give a layer with a "
            "feature map (batch, height, width, channels)."
        )
    activation = getattr(model.layers[-1], "activation", None)
    if activation in (keras.activations.softmax, keras.activations.sigmoid):
        raise InputError(
            f"The model '{model.name}' ends in {activation.__name__}; Grad-CAM takes the "
            "gradient of the logits: give the model without that activation."
        )
    return keras.Model(model.input, features), keras.Model(features, model.output)


def explain(
    model: keras.Model,
    blocks: Sequence[Block],
    predictions: pd.DataFrame,
    pictures: Mapping[int, np.ndarray],
    classes: Sequence[str],
) -> dict[int, np.ndarray | str]:
    """Return id -> overlay, uint8 (side, side, 3), that shows what spoke for the answer to each picture;
    where its map is flat, a sentence that says so.

    predictions: rows of a table of `evaluation.predict`; those without a picture are passed over.
    pictures: id -> uint8 (h, w, 3) as the model takes them.
    """
    shown = predictions[predictions["id"].isin(list(pictures))]
    if shown.empty:
        return {}
    ids = shown["id"].tolist()
    answers = [list(map(str, classes)).index(str(name)) for name in shown["prediction"]]
    maps = heatmaps(
        model, choose_layer(model, blocks), np.stack([pictures[one] for one in ids]), np.array(answers)
    )
    return {
        one: flat(heat) or overlay(pictures[one], heat, side=SIDE)
        for one, heat in zip(ids, maps, strict=True)
    }


def flat(heatmap: np.ndarray) -> str:
    """Say why a map of `heatmaps` (rows, columns), 0..1, shows no place before others; "" where it does."""
    highest, lowest = float(heatmap.max()), float(heatmap.min())
    if highest <= 0:
        return "No map: no place spoke for this answer."
    if highest - lowest < FLAT * highest:
        return (
            f"No map: it is flat. It varies by {100 * (highest - lowest) / highest:.0f} % of its maximum, "
            f"below {100 * FLAT:.0f} %, and says nothing of where."
        )
    return ""
