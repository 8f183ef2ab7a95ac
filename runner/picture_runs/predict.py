"""New picture files for a finished run: a stream of any number, seen as in training.

A template's `predict` takes its pictures from `stream`. `class_tables` is the whole of it where the answer is
a class. Pictures are decoded and resized as in training; a file that is no picture keeps its row, with the
reason.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import scipy.special
import tensorflow as tf
from PIL import Image

from runner.data.files import printable, walk
from runner.errors import InputError
from runner.picture_runs import export
from runner.pictures import images, square
from runner.runs import decision, folder

MOST = 100
"""Detections of a picture, as in `scores.detection`, which wants a package that classes do without."""
SIDE = 800
"""Pixels a side that pictures have at most on which an answer is drawn."""


@dataclass(frozen=True)
class Batch:
    """Some files of a stream: `paths`, what they hold, and what was remarked on each."""

    paths: list[str]
    pictures: np.ndarray
    """uint8 (readable, size, size, 3): of the files that could be read, in their order."""
    readable: list[bool]
    notes: list[str]
    """Why a file cannot be read, or what was lost when it was (see `images.decode`), or ""."""
    first: int = 0
    """How many files came before, in the whole stream."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Width and height (pixels, upright) of each picture that could be read."""
    shown: list[np.ndarray] = field(default_factory=list)
    """uint8 (height, width, 3): each of these pictures, no larger than was asked for; [] where it was not."""

    @property
    def index(self) -> pd.RangeIndex:
        """The number of each file in the stream."""
        return pd.RangeIndex(self.first, self.first + len(self.paths))


def files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the files that `paths` name, those of folders and their folders in order of their names.

    Hidden files and what file managers write are left out. A folder that is linked from within itself is
    entered once. Raises InputError, before the first file, where a path is not there.
    """
    places = [Path(os.path.expanduser(path)) for path in paths]
    for path in places:
        if not path.exists():
            raise InputError(f"{path} is not there; give pictures or folders of pictures.")

    return chain.from_iterable(map(walk, places))


def batches(
    paths: Iterable[Path], image_size: int, how: str, batch_size: int, side: int = 0
) -> Iterator[Batch]:
    """Read files in the order given, `batch_size` at a time, one batch ahead of who takes them.

    image_size, how: as in training, see `square.resize`. side: also keep what is `Batch.shown`, of at most so
    many pixels a side.
    """

    def read(path: Path) -> tuple[np.ndarray | None, str, tuple[int, int], np.ndarray | None]:
        try:
            with images.decoded(path) as (picture, note):
                pixels, size, shown = square.resize(picture, image_size, how), picture.size, None
                note = "; ".join(filter(None, (note, images.dark(picture))))
                if side:
                    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
                    shown = np.array(picture)
                return pixels, note, size, shown
        except images.Unreadable as error:
            return None, str(error), (0, 0), None

    paths, first = iter(paths), 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def begin() -> tuple[list[Path], Iterator]:
            some = list(islice(paths, batch_size))
            return some, pool.map(read, some)

        some, being_read = begin()
        while some:
            following = begin()
            found = list(being_read)
            there = [one for one in found if one[0] is not None]
            yield Batch(
                [printable(str(path)) for path in some],
                np.stack([one[0] for one in there])
                if there
                else np.zeros((0, image_size, image_size, 3), np.uint8),
                [one[0] is not None for one in found],
                [one[1] for one in found],
                first,
                [one[2] for one in there],
                [one[3] for one in there if one[3] is not None],
            )
            first += len(some)
            some, being_read = following


def stream(
    inputs: Iterable[str | Path], config: dict, batch_size: int = 64, *, shown: bool = False
) -> Iterator[Batch]:
    """`batches` of the `files` that `inputs` name, as the run with this config.json saw its own.

    shown: also keep what is drawn on, of at most SIDE pixels a side.
    Raises InputError, before the first batch, for a path that is not there and where there is no file at all.
    """
    inputs = list(inputs)
    found = files(inputs)
    first = next(found, None)
    if first is None:
        raise InputError(
            f"{', '.join(map(str, inputs))}: no file there; give pictures or folders of pictures."
        )
    return batches(
        chain([first], found), config["image_size"], config["resize"], batch_size, SIDE if shown else 0
    )


def class_tables(
    run_folder: str | Path, inputs: Iterable[str | Path], batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of pictures by a run that tells classes apart: a table for each batch, a row per file.

    Columns path, prediction (Categorical), confidence (the probability of the prediction), note, and
    "p:<class>" for each class: probabilities (float64) after the run's temperature scaling (metrics.json),
    where it has one. A run that chose a threshold between two classes answers by it, and has the column
    "threshold:<positive>", the probability of that class from which on it is the prediction; any other
    answers the likeliest class. A file that is no picture has its reason in note and nothing else. The index
    is the number of the file.
    Raises InputError for a folder that is no complete run of classes, and what `stream` raises.
    """
    model, classes, temperature = load(run_folder)
    config, point = folder.read_complete(run_folder), decision.of_run(run_folder, classes)
    for batch in stream(inputs, config, batch_size):
        p = np.full((len(batch.paths), len(classes)), np.nan)
        p[batch.readable] = probabilities(model, batch.pictures, temperature)
        given = {"path": batch.paths, "note": batch.notes}
        yield decision.table(pd.DataFrame(given, batch.index), p, classes, point)


def load(run_folder: str | Path) -> tuple[keras.Model, list[str], float]:
    """The model of a complete run, its class names, and its temperature (1 where none was fitted)."""
    run_folder = Path(os.path.expanduser(run_folder))
    model, _ = export.load(run_folder)
    if len(model.output.shape) != 2:
        raise InputError(
            f"{run_folder}: its network gives {model.output.shape[1:]} for a picture and not a class; the "
            "template that trained it has a function for new pictures (its README names it)."
        )
    return model, *decision.classes_of(run_folder, model.output.shape[-1])


def most_of(run_folder: str | Path) -> int:
    """How many detections of a picture counted when a run was judged (100 where it does not say)."""
    found = folder.read_json(Path(os.path.expanduser(run_folder)) / "metrics.json").get("test")
    most = found.get("most", MOST) if isinstance(found, dict) else MOST
    return most if isinstance(most, int) and MOST <= most <= 10_000 else MOST


def probabilities(model: keras.Model, pictures: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of the logits over the temperature: float64 (pictures, classes).

    pictures: uint8 (n, size, size, 3), also n = 0.
    """
    if not len(pictures):
        return np.zeros((0, model.output.shape[-1]))
    logits = np.asarray(model.predict_on_batch(tf.constant(pictures)))
    return scipy.special.softmax(logits.astype("float64") / temperature, axis=1)
