"""What a run keeps of its training and validation examples, for a comparison with new ones: their features,
and how it predicted them.

The features are of two kinds: the last ones, which the network decides by, and those of earlier layers. A
network that was fine-tuned to tell insects apart has no last feature for what insects do not have, and an
ultrasound picture can lie among them; its earlier layers, which training moves little or not at all, still
tell the one from the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.special

from runner import atomic
from runner.errors import InputError

LIMIT = 2000
"""The most training and the most validation examples that are kept."""
SPLITS = ("train", "val")


@dataclass(frozen=True, eq=False)
class Reference:
    """What `write` kept, by split ("train", "val") where both have it.

    layer: the name of the layer whose input the features are. classes: names. temperature: what logits are
    divided by before the softmax. features: split -> float32 (n, d). ids: split -> int64 (n,), rows of the
    run's manifest. predictions: split -> int64 (n,), indices into classes. confidences: split -> float32
    (n,), 0..1. thumbnails: what stands for each training example where it is shown: a WebP file of a picture,
    at most 64 pixels a side, or the beginning of a text in UTF-8. early_layers: names, and early: split ->
    float32 (n, d), their features; both empty in a file of an earlier version.
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
    """What a network makes of a batch of examples."""

    features: np.ndarray
    """float32 (n, d): the input of the layer that decides."""
    early: np.ndarray
    """float32 (n, e): of the earlier layers; e is 0 where none are asked for."""
    predictions: np.ndarray
    """int64 (n,), indices into the classes."""
    confidences: np.ndarray
    """float32 (n,), 0..1."""


def chosen(manifest: pd.DataFrame, split: str, seed: int = 0) -> np.ndarray:
    """The rows of a split that are kept, in their order: at most LIMIT, drawn by the seed."""
    rows = np.flatnonzero(manifest["split"] == split)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:LIMIT])


def write(
    path: str | Path,
    seen: dict[str, tuple[np.ndarray, Seen]],
    thumbnails: Sequence[bytes],
    *,
    layer: str,
    early_layers: Sequence[str],
    classes: Sequence[str],
    temperature: float,
) -> Path:
    """Write an .npz file, whole or not at all; features are kept in float16 where it holds them.

    seen: split -> the rows of the manifest, and what the network made of them. Others: see `Reference`.
    """
    arrays: dict[str, Any] = {"layer": layer, "classes": classes, "temperature": temperature}
    arrays["early_layers"] = np.array(early_layers, dtype=str)
    for split, (ids, one) in seen.items():
        arrays |= {
            f"{split}_features": _small(one.features),
            f"{split}_early": _small(one.early),
            f"{split}_ids": ids,
            f"{split}_predictions": one.predictions,
            f"{split}_confidences": one.confidences,
        }
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
            f"{path} is not there: this run keeps no features to compare with. Runs of classification and of "
            "domain adaptation do: of these, train it again; of others, label some data and `evaluate` them."
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


def see(step: Callable[[Any], Sequence[Any]], batch: Any, temperature: float) -> Seen:
    """What the network makes of a batch.

    step: compiled, a batch to [features, logits] or [features, early, logits]. Features are rounded to
    float16, as the file keeps them, so that nothing tells new examples from old ones by the rounding.
    Raises InputError for features that are no finite float16 numbers.
    """
    features, *early, logits = (one.numpy() for one in step(batch))
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


def together(parts: Sequence[Seen]) -> Seen:
    """Several batches as one."""
    return Seen(*(np.concatenate(part) for part in zip(*parts, strict=True)))
