"""What a run on pictures keeps of them for a comparison with new ones (`data.reference`), and how a network
reads pictures for it.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from runner.data import reference
from runner.data.examples import Data
from runner.data.reference import SPLITS
from runner.errors import InputError, suggest
from runner.networks import inference

EARLY_LAYERS, EARLY_FEATURES = 4, 1024
"""The most earlier layers that are looked at, and the most numbers that are kept of them for a picture."""


def write(
    path: str | Path,
    model: keras.Model,
    data: Data,
    *,
    layer: str = "head",
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
) -> Path:
    """Write a reference of training and validation pictures to an .npz file, at most `LIMIT` of each.

    Features are float16 and thumbnails some 1 kB: 2,000 + 2,000 pictures with 1,280 features take 13 MB.
    Reads `data.train` and `data.val` up to the last picture wanted, never the test split.

    Args:
        path: of the file, written whole or not at all.
        model: the trained network: uint8 pictures as `data` gives them in, logits (batch, classes) out.
        data: whose training and validation pictures are kept.
        layer: the layer whose input the features are: the one that maps features to classes.
        temperature: what the run divides its logits by (`calibration`).
        batch_size: pictures per step.
        seed: of the choice where there are more than `LIMIT`.
    """
    early = early_layers(model, layer)
    step = inference.forward(extractor(model, layer, early))
    found, thumbnails = {}, []
    for split in SPLITS:
        wanted = reference.chosen(data.manifest, split, seed)
        left = set(wanted.tolist())
        ids, parts, batch = [], [], []
        for example in getattr(data, split).as_numpy_iterator():
            if int(example["id"]) not in left:
                continue
            ids.append(int(example["id"]))
            batch.append(example["input"])
            if split == "train":
                thumbnails.append(_thumbnail(example["input"]))
            if len(batch) == batch_size or len(ids) == len(left):
                parts.append(reference.see(step, tf.constant(np.stack(batch)), temperature))
                batch = []
            if len(ids) == len(left):
                break
        found[split] = np.array(ids), reference.together(parts)
    return reference.write(
        path,
        found,
        thumbnails,
        layer=layer,
        early_layers=early,
        classes=data.classes,
        temperature=temperature,
    )


def early_layers(model: keras.Model, layer: str = "head") -> tuple[str, ...]:
    """Names of at most EARLY_LAYERS layers, bottom first: the last one of each resolution that the network
    brings a picture to, but that of its last feature map, which `layer` sees already.

    model: of a fixed size of pictures. A network with one resolution has that, one of other inputs none.
    """
    last: dict[int, str] = {}
    size = model.input.shape[1] if len(model.input.shape) == 4 else None
    for one in model.layers if size else ():
        shape: tuple = getattr(one.output, "shape", ())
        if one.name == layer:
            break
        padding = isinstance(one, (keras.layers.ZeroPadding2D, keras.layers.InputLayer))
        if len(shape) == 4 and shape[1] and shape[2] > 1 and shape[3] > 4 and not padding:
            last[round(np.log2(size / shape[1]))] = one.name
    names = [last[halvings] for halvings in sorted(last)]
    names = names[:-1] or names
    places = np.linspace(0, len(names) - 1, min(EARLY_LAYERS, len(names))).round().astype(int)
    return tuple(names[place] for place in places)


def extractor(model: keras.Model, layer: str, early: Sequence[str] = ()) -> keras.Model:
    """Return the model that gives [features, logits], or with names in `early` [features, early, logits].

    features: the input of a layer, averaged over places where it has some, so (n, d); early: of each of these
    layers the mean and the standard deviation over places of each channel, at most EARLY_FEATURES numbers of
    all together, float32 (n, e); logits: the model's own output. Raises InputError for a layer that is not
    there.
    """
    names = [one.name for one in model.layers]
    for name in (layer, *early):
        if name not in names:
            raise InputError(
                f"Received layer={name!r}, which is no layer of the model '{model.name}'; give the one that "
                f"maps features to classes, such as {names[-1]!r}.{suggest(name, names)}"
            )
    features = model.get_layer(layer).input
    if len(features.shape) > 2:
        features = keras.ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))
    if not early:
        return keras.Model(model.input, [features, model.output])
    statistics = _Statistics(name="early_statistics")([model.get_layer(name).output for name in early])
    return keras.Model(model.input, [features, statistics, model.output])


class _Statistics(keras.layers.Layer):
    """Means and deviations over places of the channels of maps: at most EARLY_FEATURES of all together."""

    def __init__(self, **arguments: Any):
        super().__init__(dtype="float32", **arguments)

    def call(self, maps: list[tf.Tensor]) -> tf.Tensor:
        each, found = max(1, EARLY_FEATURES // (2 * len(maps))), []
        for one in maps:
            one = one[..., :: -(-one.shape[-1] // each)]  # evenly spaced channels where there are more
            found += [keras.ops.mean(one, axis=(1, 2)), keras.ops.std(one, axis=(1, 2))]
        return keras.ops.concatenate(found, axis=-1)


def _thumbnail(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    picture.thumbnail((64, 64))
    picture.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()
