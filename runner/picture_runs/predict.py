"""Predict with a finished run: files and folders of any number into one CSV file, a row per picture.

    python -m runner predict RUN ~/new_photos --output found.csv

Pictures are decoded and resized as in training. A file that is no picture keeps its row, with the reason.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from runner import atomic
from runner.data.source import children, printable
from runner.errors import InputError
from runner.picture_runs import export
from runner.pictures import images, square
from runner.runs import folder


@dataclass(frozen=True)
class Batch:
    """Some files of a stream: `paths`, what they hold, and what was remarked on each."""

    paths: list[str]
    pictures: np.ndarray
    """uint8 (readable, size, size, 3): of the files that could be read, in their order."""
    readable: list[bool]
    notes: list[str]
    """Why a file cannot be read, or what was lost when it was (see `images.decode`), or ""."""


@dataclass(frozen=True)
class Result:
    """What `run` wrote."""

    output: Path
    predicted: int
    unreadable: list[str]
    """"path: reason" of the first ten files that could not be read."""
    number_unreadable: int


def files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield the files that `paths` name, those of folders and their folders in order of their names.

    Hidden files and what file managers write are left out. A folder that is linked from within itself is
    entered once. Raises InputError, before the first file, where a path is not there.
    """
    paths = [Path(os.path.expanduser(path)) for path in paths]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} is not there; give pictures or folders of pictures.")

    def walk(path: Path, inside: tuple[Path, ...]) -> Iterator[Path]:
        real = path.resolve()
        if real in inside:
            return
        folders, names = children(path)
        yield from (path / name for name in names)
        for name in folders:
            yield from walk(path / name, (*inside, real))

    def each() -> Iterator[Path]:
        for path in paths:
            yield from walk(path, ()) if path.is_dir() else [path]

    return each()


def batches(paths: Iterable[Path], image_size: int, how: str, batch_size: int) -> Iterator[Batch]:
    """Read files in the order given, `batch_size` at a time, one batch ahead of who takes them.

    image_size, how: as in training, see `square.resize`.
    """

    def read(path: Path) -> tuple[np.ndarray | None, str]:
        try:
            with images.decoded(path) as (picture, note):
                return square.resize(picture, image_size, how), note
        except images.Unreadable as error:
            return None, str(error)

    paths = iter(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def begin() -> tuple[list[Path], Iterator]:
            some = list(islice(paths, batch_size))
            return some, pool.map(read, some)

        some, being_read = begin()
        while some:
            following = begin()
            found = list(being_read)
            pictures = [picture for picture, _ in found if picture is not None]
            yield Batch(
                [printable(str(path)) for path in some],
                np.stack(pictures) if pictures else np.zeros((0, image_size, image_size, 3), np.uint8),
                [picture is not None for picture, _ in found],
                [note for _, note in found],
            )
            some, being_read = following


def run(
    run_folder: str | Path, paths: Sequence[str | Path], output: str | Path, batch_size: int = 64
) -> Result:
    """Write `output`: columns path, prediction, confidence, note, and "p:<class>" for each class.

    Confidences and p are probabilities after the run's temperature scaling (metrics.json), where it has one.
    Rows come in the order of `files`; the file has its name only when it is whole.

    Raises InputError for a folder that is no complete run, a path that is not there, no file at all, or an
    `output` that exists.
    """
    output = Path(os.path.expanduser(output))
    if output.exists():
        raise InputError(f"--output {output} exists; give another name, or move it away.")
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}; make it first.")
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size} cannot be used; give a whole number of at least 1.")
    config = folder.read_complete(run_folder)
    stream = files(paths)
    first = next(stream, None)
    if first is None:
        raise InputError(
            f"{', '.join(map(str, paths))}: no file there; give pictures or folders of pictures."
        )
    model, classes, temperature = load(run_folder)

    counts = {"predicted": 0, "unreadable": 0}
    unreadable: list[str] = []

    def save(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "prediction", "confidence", "note", *(f"p:{name}" for name in classes)])
            every = chain([first], stream)
            for batch in batches(every, config["image_size"], config["resize"], batch_size):
                shares = iter(probabilities(model, batch.pictures, temperature))
                for path, readable, note in zip(batch.paths, batch.readable, batch.notes, strict=True):
                    if readable:
                        p = next(shares)
                        best = int(p.argmax())
                        table.writerow(
                            [path, classes[best], f"{p[best]:.6g}", note, *(f"{x:.6g}" for x in p)]
                        )
                        counts["predicted"] += 1
                    else:
                        table.writerow([path, "", "", note, *("" for _ in classes)])
                        counts["unreadable"] += 1
                        if len(unreadable) < 10:
                            unreadable.append(f"{path}: {note}")

    atomic.write(output, save)
    return Result(output, counts["predicted"], unreadable, counts["unreadable"])


def load(run_folder: str | Path) -> tuple[keras.Model, list[str], float]:
    """The model of a complete run, its class names, and its temperature (1 where none was fitted)."""
    run_folder = Path(os.path.expanduser(run_folder))
    model, _ = export.load(run_folder)
    if len(model.output.shape) != 2:
        raise InputError(
            f"{run_folder}: its network gives {model.output.shape[1:]} for a picture and not a class; the "
            "template that trained it has a function for new pictures (its README names it)."
        )
    try:
        record = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))
        classes, temperature = (
            [str(name) for name in record["classes"]],
            float(record.get("temperature", 1.0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run_folder / 'metrics.json'} is damaged ({error}); give another run.") from error
    if len(classes) != model.output.shape[-1] or not (0 < temperature < math.inf):
        raise InputError(
            f"{run_folder}: metrics.json names {len(classes)} classes and a temperature of {temperature}, "
            f"the model has {model.output.shape[-1]} outputs; they are not of one run."
        )
    return model, classes, temperature


def probabilities(model: keras.Model, pictures: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of the logits over the temperature: float64 (pictures, classes).

    pictures: uint8 (n, size, size, 3), also n = 0.
    """
    if not len(pictures):
        return np.zeros((0, model.output.shape[-1]))
    logits = np.asarray(model.predict_on_batch(tf.constant(pictures)))
    return scipy.special.softmax(logits.astype("float64") / temperature, axis=1)
