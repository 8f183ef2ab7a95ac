"""What a run keeps of its training and validation pictures: their features, and how it predicted them.

`write` goes with a training, `read` gives it back where the data is not; `shift` compares new pictures with
them. The features are of two kinds: the last ones, which the network decides by, and those of earlier layers.
A network that was fine-tuned to tell insects apart has no last feature for what insects do not have, and an
ultrasound picture can lie among them; its earlier layers, which training moves little or not at all, still
tell the one from the other.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.special
import tensorflow as tf
from PIL import Image

from runner import atomic
from runner.data.examples import Data
from runner.errors import InputError, suggest
from runner.networks import inference

LIMIT = 2000
"""The most training and the most validation pictures that are kept."""
SPLITS = ("train", "val")
EARLY_LAYERS, EARLY_FEATURES = 4, 1024
"""The most earlier layers that are looked at, and the most numbers that are kept of them for a picture."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What `write` kept, by split ("train", "val") where both have it.

    layer: the name of the layer whose input the features are. classes: names. temperature: what logits are
    divided by before the softmax. features: split -> float32 (n, d). ids: split -> int64 (n,), rows of the
    run's manifest. predictions: split -> int64 (n,), indices into classes. confidences: split -> float32
    (n,), 0..1. thumbnails: a WebP file of each training picture, at most 64 pixels a side. early_layers:
    names, and early: split -> float32 (n, d), their features; both empty in a file of an earlier version.
    """

    layer: str
    classes: tuple[str, ...]
    temperature: float
    features: dict[str, np.ndarray]
    ids: dict[str, np.ndarray]
    predictions: dict[str, np.ndarray]
    confidences: dict[str, np.ndarray]
    thumbnails: list[bytes]
    early_layers: tuple[str, ...] = ()
    early: dict[str, np.ndarray] = field(default_factory=dict)


class Seen(NamedTuple):
    """What a network makes of a batch of pictures."""

    features: np.ndarray
    """float32 (n, d): the input of the layer that decides."""
    early: np.ndarray
    """float32 (n, e): of the earlier layers; e is 0 where none are asked for."""
    predictions: np.ndarray
    """int64 (n,), indices into the classes."""
    confidences: np.ndarray
    """float32 (n,), 0..1."""


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
    """Write a reference of at most LIMIT training and LIMIT validation pictures to an .npz file.

    Features are float16 and thumbnails some 1 kB: 2,000 + 2,000 pictures with 1,280 features take 13 MB.
    Reads `data.train` and `data.val` up to the last picture wanted, never the test split.

    Args:
        path: of the file, written whole or not at all.
        model: the trained network: uint8 pictures as `data` gives them in, logits (batch, classes) out.
        data: whose training and validation pictures are kept.
        layer: the layer whose input the features are: the one that maps features to classes.
        temperature: what the run divides its logits by (`calibration`).
        batch_size: pictures per step.
        seed: of the choice where there are more than LIMIT.
    """
    early = early_layers(model, layer)
    step = inference.forward(extractor(model, layer, early))
    arrays: dict[str, Any] = {"layer": layer, "classes": data.classes, "temperature": temperature}
    arrays["early_layers"] = np.array(early, dtype=str)
    for split in SPLITS:
        rows = np.flatnonzero(data.manifest["split"] == split)
        wanted = set(np.random.default_rng(seed).permutation(rows)[:LIMIT].tolist())
        ids, thumbnails, parts, batch = [], [], [], []
        for example in getattr(data, split).as_numpy_iterator():
            if int(example["id"]) not in wanted:
                continue
            ids.append(int(example["id"]))
            batch.append(example["input"])
            if split == "train":
                thumbnails.append(_thumbnail(example["input"]))
            if len(batch) == batch_size or len(ids) == len(wanted):
                parts.append(read_pictures(step, np.stack(batch), temperature))
                batch = []
            if len(ids) == len(wanted):
                break
        seen = Seen(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        arrays |= {
            f"{split}_features": _small(seen.features),
            f"{split}_early": _small(seen.early),
            f"{split}_ids": np.array(ids),
            f"{split}_predictions": seen.predictions,
            f"{split}_confidences": seen.confidences,
        }
        if split == "train":
            arrays["thumbnails"] = np.frombuffer(b"".join(thumbnails), np.uint8)
            arrays["thumbnail_ends"] = np.cumsum([len(one) for one in thumbnails])
    return atomic.write(Path(path), lambda temporary: np.savez(temporary, **arrays))


def _small(features: np.ndarray) -> np.ndarray:
    """In half precision where it holds them; it ends at 65,504."""
    return features.astype(np.float16 if np.abs(features).max(initial=0) < 6e4 else np.float32)


def read(path: str | Path) -> Reference:
    """Read what `write` wrote; raises InputError where it is not there or damaged."""
    try:
        atomic.check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        parts = {
            name: {split: arrays[f"{split}_{name}"] for split in SPLITS}
            for name in ("features", "ids", "predictions", "confidences")
        }
        # Files of earlier versions have no earlier layers.
        early = tuple(np.atleast_1d(arrays.get("early_layers", np.array([], str))).tolist())
        if early:
            parts["early"] = {split: arrays[f"{split}_early"] for split in SPLITS}
        for name in ("features", "early") if early else ("features",):
            parts[name] = {split: rows.astype(np.float32) for split, rows in parts[name].items()}
        _check_rows(parts, arrays)
        return Reference(
            layer=str(arrays["layer"]),
            classes=tuple(arrays["classes"].tolist()),
            temperature=float(arrays["temperature"]),
            thumbnails=[
                one.tobytes() for one in np.split(arrays["thumbnails"], arrays["thumbnail_ends"][:-1])
            ],
            early_layers=early,
            **parts,
        )
    except FileNotFoundError:
        raise InputError(
            f"{path} is not there: this run keeps no features to compare with; train it again."
        ) from None
    except Exception as error:  # zipfile and NumPy raise almost anything on a damaged file
        raise InputError(f"{path} is damaged ({error}); train the run again.") from error


def _check_rows(parts: dict[str, dict[str, np.ndarray]], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where what belongs to each picture is not there for each, or not of its kind."""
    classes, ends = len(arrays["classes"]), arrays["thumbnail_ends"]
    spaces = [parts[name] for name in ("features", "early") if name in parts]
    for split in SPLITS:
        rows = len(parts["ids"][split])
        fits = all(len(part[split]) == rows for part in parts.values()) and (
            split != "train" or len(ends) == rows
        )
        if not fits or not rows or not np.isin(parts["predictions"][split], np.arange(classes)).all():
            raise ValueError(f"its {split} arrays do not fit together")
    for space in spaces:
        widths = {rows.shape[1] for rows in space.values() if rows.ndim == 2}
        if len(widths) != 1 or not all(np.isfinite(rows).all() for rows in space.values()):
            raise ValueError("its features are no rows of finite numbers")


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


def read_pictures(
    step: Callable[[tf.Tensor], list[tf.Tensor]], batch: np.ndarray, temperature: float
) -> Seen:
    """What the network makes of a batch of pictures.

    step: of `inference.forward`, of an `extractor`. Features are rounded to float16, as the file keeps them,
    so that nothing tells new pictures from old ones by the rounding.
    """
    features, *early, logits = (one.numpy() for one in step(tf.constant(batch)))
    early = early[0] if early else np.zeros((len(features), 0), np.float32)
    with np.errstate(over="ignore"):
        features = features.astype(np.float16).astype(np.float32)
    early = np.nan_to_num(early, nan=0.0).clip(-6e4, 6e4).astype(np.float16).astype(np.float32)
    if not np.isfinite(features).all():
        raise InputError(
            "The network gives features that are no finite float16 numbers; train it again, or name a layer "
            "whose input is smaller than 65,504."
        )
    probabilities = scipy.special.softmax(logits / temperature, axis=1)
    return Seen(features, early, probabilities.argmax(axis=1), probabilities.max(axis=1))


def _thumbnail(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    picture.thumbnail((64, 64))
    picture.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()
