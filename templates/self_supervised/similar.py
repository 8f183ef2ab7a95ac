"""Pictures that are most like others, by a finished run's features."""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from runner import atomic
from runner.errors import InputError
from runner.networks import inference, saved
from runner.picture_runs import predict as new_pictures
from runner.runs import folder

from . import method
from .config import Config
from .pictures import Pictures

NAME = "similar.npz"
"""In a run folder: the features of the pictures that it learned from."""
MOST = 20_000
"""Of so many of them, drawn by the seed where there are more."""
SHOWN = 3


@dataclass(frozen=True)
class Known:
    """Pictures that a run learned from: float32 (n, d), of length 1, ids and paths of each."""

    features: np.ndarray
    ids: np.ndarray
    paths: np.ndarray


def write(path: Path, network: keras.Model, config: Config, examples: Pictures) -> Known:
    """Write the features that a network of `model.build` has for the pictures that were learned from."""
    step, parts = inference.forward(network), []
    count = int(examples.unlabelled.train.cardinality())
    chosen = np.zeros(count, bool)
    chosen[np.random.RandomState(config.machine.seed).permutation(count)[:MOST]] = True
    start = 0
    for batch in examples.unlabelled.train.batch(64):
        rows = chosen[start : start + len(batch["id"])]
        start += len(rows)
        if rows.any():
            parts.append((np.asarray(step(batch["input"].numpy()[rows])), batch["id"].numpy()[rows]))
    features, ids = (np.concatenate(one) for one in zip(*parts, strict=True))
    paths = examples.manifest["path"].to_numpy(str)[ids]
    known = Known(method.of_length_1(features).astype(np.float32), ids, paths)

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, features=known.features.astype(np.float16), ids=known.ids, paths=known.paths)

    atomic.write(path, save)
    return known


def read(run: str | Path) -> Known:
    """What `write` wrote. Raises InputError for a run without such a file, and one that is damaged."""
    path = Path(os.path.expanduser(run)) / NAME
    try:
        with folder.open_regular(path) as file:
            content = io.BytesIO(file.read())
        with np.load(content, allow_pickle=False) as archive:
            features, ids, paths = (archive[name] for name in ("features", "ids", "paths"))
        if features.ndim != 2 or not len(features) == len(ids) == len(paths):
            raise ValueError("its arrays do not belong together")
    except Exception as error:  # NumPy and zipfile raise almost anything on a damaged file
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read ({reason}); give a complete run, or train anew.") from error
    return Known(features.astype(np.float32), ids, paths)


def tables(
    run: str | Path, inputs: Iterable[str | Path], drawn: Path | None, batch_size: int
) -> Iterator[pd.DataFrame]:
    """A table for each batch of picture files, a row per file: path, similar_1 .. similar_3, paths of the
    pictures that the run learned from that lie nearest by the cosine of their features, cosine_1 .. cosine_3,
    and note.

    drawn: a folder for the features, a file of each batch: features-<number of its first file>.npy, float32
    (files, d), NaN for a file that cannot be read. None keeps none.
    Raises InputError for a folder that is no complete run of features, and what `predict.stream` raises.
    """
    run = Path(os.path.expanduser(run))
    config, known, network = folder.read_complete(run), read(run), saved.load(run)
    if len(network.output.shape) != 2 or network.output.shape[1] != known.features.shape[1]:
        raise InputError(f"{run}: its network does not give the features of {NAME}; give another run.")
    shown = min(SHOWN, len(known.paths))
    for batch in new_pictures.stream(inputs, config, batch_size):
        features = np.full((len(batch.paths), known.features.shape[1]), np.nan, np.float32)
        features[batch.readable] = of_pictures(network, batch.pictures)
        table = {"path": batch.paths}
        nearest = np.full((len(batch.paths), shown), "", object)
        cosines = np.full((len(batch.paths), shown), np.nan)
        if len(batch.pictures):
            rows, found = method.nearest(features[batch.readable], known.features, shown)
            nearest[batch.readable], cosines[batch.readable] = known.paths[rows], found
        nearest[~np.array(batch.readable, bool)] = np.nan
        table |= {f"similar_{place + 1}": nearest[:, place] for place in range(shown)}
        table |= {f"cosine_{place + 1}": cosines[:, place] for place in range(shown)}
        if drawn is not None:
            drawn.mkdir(parents=True, exist_ok=True)
            np.save(drawn / f"features-{batch.first:09}.npy", features)
        yield pd.DataFrame(table | {"note": batch.notes}, batch.index)


def of_pictures(network: keras.Model, pictures: np.ndarray) -> np.ndarray:
    """Features, float32 (n, d), of pictures, uint8 (n, size, size, 3), also of none."""
    if not len(pictures):
        return np.zeros((0, network.output.shape[1]), np.float32)
    return np.asarray(network.predict_on_batch(pictures), np.float32)
