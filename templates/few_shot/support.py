"""New classes for a finished run: what their support pictures look like to the network, kept and added to,
and queries answered by it. Nothing is trained.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import scipy.special

from runner import atomic
from runner.errors import InputError
from runner.networks import inference, saved
from runner.picture_runs import predict as new_pictures
from runner.pictures import sources
from runner.runs import folder

NONE = "none of these"


@dataclass(frozen=True)
class Support:
    """The sum of the features of each class's support pictures, float64 (classes, d), and how many they are.

    Means can be taken of these, and further pictures added, without the pictures that were there before.
    """

    classes: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """The class means, float32 (classes, d)."""
        return (self.sums / self.counts[:, None]).astype(np.float32)

    def with_more(self, name: str, features: np.ndarray) -> "Support":
        """The same with more pictures of a class, which may be new. features: (pictures, d), at least one."""
        if not len(features):
            raise InputError(f"Received no picture of {name!r} to add; give at least one.")
        total, count = features.sum(axis=0, dtype=np.float64), len(features)
        if name not in self.classes:
            sums = np.concatenate([self.sums.reshape(-1, len(total)), total[None]])
            return Support((*self.classes, name), sums, np.append(self.counts, count))
        place = np.array([one == name for one in self.classes])
        return Support(self.classes, self.sums + place[:, None] * total, self.counts + place * count)


def none() -> Support:
    """A support set without classes, to add to."""
    return Support((), np.zeros((0, 0)), np.zeros(0, np.int64))


def read(path: str | Path, run: str | Path, before: Support | None = None, batch_size: int = 64) -> Support:
    """The support in a folder with a folder of pictures per class, as a complete run sees it, or in a file of
    `write`; added to what was there before.

    Raises InputError for what is neither, for a picture that cannot be read, and for features of another
    network.
    """
    path, run = Path(os.path.expanduser(path)), Path(os.path.expanduser(run))
    record, model = folder.read_complete(run), saved.load(run)
    found = none() if before is None else before
    if path.is_file() and path.suffix == ".npz":
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            if not {"classes", "sums", "counts"} <= set(kept.files) or kept["sums"].ndim != 2:
                raise InputError(f"{path} holds no support set; give a file that `support.write` made.")
            more = Support(tuple(map(str, kept["classes"])), kept["sums"], kept["counts"])
        if more.sums.shape[1] != model.output.shape[1]:
            raise InputError(
                f"{path} has {more.sums.shape[1]} features and the network of {run} gives "
                f"{model.output.shape[1]}: it is of another run. Give the support pictures again."
            )
        for name, total, count in zip(more.classes, more.sums, more.counts, strict=True):
            found = found.with_more(name, total[None])
            at = found.classes.index(name)
            found.counts[at] += count - 1
        return found
    if not path.is_dir():
        raise InputError(
            f"{path} is no support set: the first input is a folder with a folder of pictures per class, or "
            "a .npz file of one; the pictures to tell apart follow it."
        )
    source = sources.find(str(path))
    rows = source.examples["label"].to_numpy()
    files = [str(one) for one in source.read()]
    step = inference.forward(model)
    for name in source.classes:
        own = [Path(file) for file, label in zip(files, rows, strict=True) if label == name]
        for batch in new_pictures.batches(own, record["image_size"], record["resize"], batch_size):
            lost = [
                f"{one} ({note})"
                for one, ok, note in zip(batch.paths, batch.readable, batch.notes, strict=True)
                if not ok
            ]
            if lost:
                raise InputError(f"{lost[0]} cannot be read; repair it, or take it out of the support.")
            found = found.with_more(name, step(batch.pictures).numpy())
    return found


def write(path: str | Path, support: Support) -> Path:
    """Write a support set to an .npz file, whole or not at all, to be read again and added to."""
    path = Path(path)

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, classes=np.array(support.classes), sums=support.sums, counts=support.counts)

    atomic.write(path, save)
    return path


def class_tables(
    run: str | Path, inputs: Iterable[str | Path], batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of pictures by a support set: a table for each batch, a row per file.

    inputs: the support, as `read` takes it, and then picture files and folders of them. Columns path,
    prediction (Categorical of the support's classes and NONE), confidence (the probability of the likeliest
    class), note, and "p:<class>" for each class: softmax of -|f(x) - c_k|^2 over the run's temperature. Where
    the nearest class mean is farther than the run's threshold allows the prediction is NONE. A file that is
    no picture has its reason in note and nothing else.
    Raises InputError for a run that is not complete, a support of fewer than two classes, and no queries.
    """
    inputs = list(inputs)
    if len(inputs) < 2:
        raise InputError(
            f"Received {len(inputs)} input; give first the support, a folder with a folder of pictures per "
            "class, and then the pictures to tell apart."
        )
    run = Path(os.path.expanduser(run))
    record, metrics = folder.read_complete(run), folder.read_metrics(run)
    known = read(inputs[0], run, batch_size=batch_size)
    if len(known.classes) < 2:
        raise InputError(f"{inputs[0]} has {len(known.classes)} class; a support of at least two is needed.")
    threshold = threshold_for(metrics.get("none_of_these", {}), float(np.mean(known.counts)))
    return answered(
        saved.load(run),
        known,
        new_pictures.stream(inputs[1:], record, batch_size),
        metrics.get("temperature", 1.0),
        threshold,
    )


def answered(
    model: keras.Model,
    known: Support,
    stream: Iterable[new_pictures.Batch],
    temperature: float,
    threshold: float,
) -> Iterator[pd.DataFrame]:
    """See `class_tables`."""
    means, names, step = known.means, [*known.classes, NONE], inference.forward(model)
    for batch in stream:
        scores = np.full((len(batch.paths), len(means)), np.nan)
        if len(batch.pictures):
            seen = step(batch.pictures).numpy()
            scores[batch.readable] = -((seen[:, None] - means[None]) ** 2).sum(axis=2)
        p = scipy.special.softmax(scores / temperature, axis=1)
        readable = np.array(batch.readable)
        codes = np.where(readable, np.nan_to_num(scores, nan=-np.inf).argmax(axis=1), -1)
        far = readable & (np.nan_to_num(scores, nan=np.inf).max(axis=1) < threshold)
        table = {
            "path": batch.paths,
            "prediction": pd.Categorical.from_codes(np.where(far, len(means), codes), categories=names),
            "confidence": p.max(axis=1),
            "note": batch.notes,
        }
        shown = {f"p:{name}": p[:, place] for place, name in enumerate(known.classes)}
        yield pd.DataFrame(table | shown, batch.index)


def threshold_for(thresholds: Mapping[str, float], count: float) -> float:
    """The threshold of the number of shots that is nearest to how many a class has, on a scale of ratios;
    minus infinity where the run has none.
    """
    if not thresholds:
        return -np.inf
    return thresholds[min(thresholds, key=lambda shots: abs(np.log(int(shots) / count)))]
