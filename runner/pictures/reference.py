"""What a run keeps of its training and validation pictures: their features, and how it predicted them.

`write` goes with a training, `read` gives it back where the data is not; `shift` compares new pictures with
them.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, eq=False)
class Reference:
    """What `write` kept, by split ("train", "val") where both have it.

    layer: the name of the layer whose input the features are. classes: names. temperature: what logits are
    divided by before the softmax. features: split -> float32 (n, d). ids: split -> int64 (n,), rows of the
    run's manifest. predictions: split -> int64 (n,), indices into classes. confidences: split -> float32
    (n,), 0..1. thumbnails: a WebP file of each training picture, at most 64 pixels a side.
    """

    layer: str
    classes: tuple[str, ...]
    temperature: float
    features: dict[str, np.ndarray]
    ids: dict[str, np.ndarray]
    predictions: dict[str, np.ndarray]
    confidences: dict[str, np.ndarray]
    thumbnails: list[bytes]


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
    step = inference.forward(extractor(model, layer))
    arrays: dict[str, Any] = {"layer": layer, "classes": data.classes, "temperature": temperature}
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
        features, predictions, confidences = (np.concatenate(part) for part in zip(*parts, strict=True))
        arrays |= {
            # Half precision where it holds them; it ends at 65,504.
            f"{split}_features": features.astype(np.float16 if np.abs(features).max() < 6e4 else np.float32),
            f"{split}_ids": np.array(ids),
            f"{split}_predictions": predictions,
            f"{split}_confidences": confidences,
        }
        if split == "train":
            arrays["thumbnails"] = np.frombuffer(b"".join(thumbnails), np.uint8)
            arrays["thumbnail_ends"] = np.cumsum([len(one) for one in thumbnails])
    return atomic.write(Path(path), lambda temporary: np.savez(temporary, **arrays))


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
        parts["features"] = {split: rows.astype(np.float32) for split, rows in parts["features"].items()}
        _check_rows(parts, arrays)
        return Reference(
            layer=str(arrays["layer"]),
            classes=tuple(arrays["classes"].tolist()),
            temperature=float(arrays["temperature"]),
            thumbnails=[
                one.tobytes() for one in np.split(arrays["thumbnails"], arrays["thumbnail_ends"][:-1])
            ],
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
    widths = {rows.shape[1] for rows in parts["features"].values() if rows.ndim == 2}
    for split in SPLITS:
        rows = len(parts["ids"][split])
        fits = all(len(part[split]) == rows for part in parts.values()) and (
            split != "train" or len(ends) == rows
        )
        if not fits or not rows or not np.isin(parts["predictions"][split], np.arange(classes)).all():
            raise ValueError(f"its {split} arrays do not fit together")
    if len(widths) != 1 or not all(np.isfinite(rows).all() for rows in parts["features"].values()):
        raise ValueError("its features are no rows of finite numbers")


def extractor(model: keras.Model, layer: str) -> keras.Model:
    """Return the model that gives [features, logits]: the input of a layer, averaged over places where it has
    some, so (n, d), and the model's own output. Raises InputError for a layer that is not there.
    """
    names = [one.name for one in model.layers]
    if layer not in names:
        raise InputError(
            f"Received layer={layer!r}, which is no layer of the model '{model.name}'; give the one that "
            f"maps features to classes, such as {names[-1]!r}.{suggest(layer, names)}"
        )
    features = model.get_layer(layer).input
    if len(features.shape) > 2:
        features = keras.ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))
    return keras.Model(model.input, [features, model.output])


def read_pictures(
    step: Callable[[tf.Tensor], list[tf.Tensor]], batch: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features float32 (n, d), predictions int64 (n,) and confidences float32 (n,) of a batch of pictures.

    step: of `inference.forward`, of an `extractor`. Features are rounded to float16, as the file keeps them,
    so that nothing tells new pictures from old ones by the rounding.
    """
    features, logits = (one.numpy() for one in step(tf.constant(batch)))
    with np.errstate(over="ignore"):
        features = features.astype(np.float16).astype(np.float32)
    if not np.isfinite(features).all():
        raise InputError(
            "The network gives features that are no finite float16 numbers; train it again, or name a layer "
            "whose input is smaller than 65,504."
        )
    probabilities = scipy.special.softmax(logits / temperature, axis=1)
    return features, probabilities.argmax(axis=1), probabilities.max(axis=1)


def _thumbnail(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    picture.thumbnail((64, 64))
    picture.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()
