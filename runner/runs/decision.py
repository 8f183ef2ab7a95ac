"""How a run decides: from a network's logits to a class, told once for `predict` and for exported files.

probabilities = softmax(logits / temperature); of two classes with a chosen threshold the positive one is the
answer from that probability on, else the likeliest class is. `record` is what stands beside an export, so
that another program decides as `predict` does.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from runner.errors import InputError
from runner.runs import folder

NAME = "decision.json"
"""What the record beside exported files is called."""


class Threshold(NamedTuple):
    """Between two classes, chosen on validation (`scores.operating_point`)."""

    positive: str
    threshold: float
    """0..1: from this probability on, after the temperature, the positive class is the answer."""


def of_run(run_folder: Path | str, classes: Sequence[str]) -> Threshold | None:
    """The threshold that a run chose, from its metrics.json; None where it chose none.

    classes: names, of the run. Raises InputError for a threshold that is none of two classes, or no
    probability.
    """
    path = Path(run_folder).expanduser() / "metrics.json"
    point = folder.read_json(path).get("operating_point")
    if point is None:
        return None
    point = point.get("test") if isinstance(point, dict) else None
    positive: Any = point.get("positive") if isinstance(point, dict) else None
    threshold: Any = point.get("threshold") if isinstance(point, dict) else None
    known = len(classes) == 2 and positive in classes and isinstance(threshold, (int, float))
    if not known or isinstance(threshold, bool) or not 0 <= threshold <= 1:
        raise InputError(
            f"{path} is damaged (an operating point of {str(positive)[:40]!r} from {str(threshold)[:40]} on, "
            f"and {len(classes)} classes); give another run."
        )
    return Threshold(str(positive), float(threshold))


def labels(probabilities: np.ndarray, classes: Sequence[str], point: Threshold | None) -> np.ndarray:
    """The number of the class that is the answer: int64 (n,), of probabilities (n, classes)."""
    if point is None:
        return probabilities.argmax(axis=1)
    positive = list(classes).index(point.positive)
    return np.where(probabilities[:, positive] >= point.threshold, positive, 1 - positive)


def record(
    run_folder: Path | str, output: Sequence[int | None], prepared: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands in NAME beside the exported files of a run: plain JSON types.

    classes: names, in the order of the last axis of the output. temperature: what logits are divided by
    before the softmax, 1 where none was fitted. positive, threshold: of `Threshold`, null where none was
    chosen. Then `prepared`, and the decision in words.

    output: the shape of the network's output, without the batch. prepared: what becomes of an input before
    the network, such as image_size and resize; plain JSON types.
    """
    metrics = folder.read_metrics(Path(run_folder).expanduser())
    classes, temperature = metrics["classes"], metrics.get("temperature", 1.0)
    if not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
        raise InputError(
            f"{run_folder}: metrics.json has a temperature of {str(temperature)[:40]}; give another run."
        )
    point = of_run(run_folder, classes) if len(output) == 1 else None
    return {
        "classes": classes,
        "temperature": float(temperature),
        "positive": None if point is None else point.positive,
        "threshold": None if point is None else point.threshold,
        **prepared,
        "decision": _DECISIONS.get(len(output), "the template's train.predict makes boxes of the output"),
    }


_DECISIONS = {
    1: "p = softmax(logits / temperature); with a threshold the answer is `positive` where p[positive] >= "
    "threshold, else the other class; without one it is the class of the largest p",
    2: "the tag of each token that begins a word is that of its largest logit, over the last axis; I goes on "
    "with an entity of its type that the word before is in, or begins one, B begins one",
    3: "the answer for each pixel is the class of its largest logit, over the last axis",
}
"""By the rank of what a network gives for a picture or a text."""


def moved(
    predictions: np.ndarray, confidences: np.ndarray, classes: Sequence[str], point: Threshold | None
) -> np.ndarray:
    """The answers, int64 (n,), where only the likeliest classes and their probabilities are known: (n,)."""
    if point is None:
        return predictions
    p = np.stack([1 - confidences, confidences], axis=1)
    p[predictions == 0] = p[predictions == 0, ::-1]
    return labels(p, classes, point)


def classes_of(run_folder: str | Path, outputs: int | None = None) -> tuple[list[str], float]:
    """The class names in the metrics.json of a run, and its temperature (1 where it has none).

    outputs: how many the network has, where each is a class. Raises InputError for a record that is damaged,
    or of another network.
    """
    run_folder = Path(run_folder).expanduser()
    record = folder.read_metrics(run_folder)
    classes, temperature = record["classes"], record.get("temperature", 1.0)
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not classes or not number:
        raise InputError(
            f"{run_folder / 'metrics.json'} is damaged ({len(classes)} classes, temperature "
            f"{str(temperature)[:40]}); give another run."
        )
    if outputs is not None and (len(classes) != outputs or not 0 < temperature < math.inf):
        raise InputError(
            f"{run_folder}: metrics.json names {len(classes)} classes and a temperature of {temperature}, "
            f"the model has {outputs} outputs; they are not of one run."
        )
    return classes, float(temperature)


def table(
    given: pd.DataFrame, probabilities: np.ndarray, classes: Sequence[str], point: Threshold | None
) -> pd.DataFrame:
    """The answers to inputs, a row each: what is known of the input first, then prediction (Categorical),
    confidence (the probability of the prediction), with a threshold "threshold:<positive>", note, and
    "p:<class>" for each class.

    given: a column that names the input, and note. probabilities: float64 (inputs, classes), NaN for an input
    that could not be read, which gets no answer.
    """
    read = ~np.isnan(probabilities).any(axis=1)
    best = np.full(len(given), -1)
    best[read] = labels(probabilities[read], classes, point)
    confidence = np.where(read, probabilities[np.arange(len(given)), best], np.nan)
    answers = given.drop(columns="note").assign(
        prediction=pd.Categorical.from_codes(best, list(classes)), confidence=confidence
    )
    if point is not None:
        answers[f"threshold:{point.positive}"] = np.where(read, point.threshold, np.nan)
    columns = [f"p:{name}" for name in classes]
    return answers.assign(note=given["note"]).join(pd.DataFrame(probabilities, given.index, columns))
