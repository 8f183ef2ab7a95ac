"""A comparison of new examples with those of a run, of any kind: its table, its files and its page."""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from runner import atomic
from runner.data.reference import Reference, Seen
from runner.errors import InputError
from runner.report import pages, words
from runner.runs import decision, evidence, folder
from runner.runs.evidence import FEW, SAMPLE, Shift, nearest, standardised

FARTHEST, CLASSES, UNREADABLE = 24, 20, 10
"""The most examples, classes and unreadable files that the page shows."""


def check(
    run_folder: Path, known: Reference, classes: Sequence[str], features: int, early: int | None = None
) -> None:
    """Raise InputError where a run's reference.npz has too little to compare with, or is of another run.

    classes, features, early: of the run's network, the last two numbers of features.
    """
    if len(known.features["val"]) < 2:
        raise InputError(
            f"{run_folder}: this run has one validation example; two are needed to compare with."
        )
    if features != known.features["val"].shape[1] or known.classes != tuple(classes):
        raise InputError(
            f"{run_folder}: reference.npz has {known.features['val'].shape[1]} features and the classes "
            f"{', '.join(known.classes[:5])}, model.keras {features} and {', '.join(classes[:5])}; they are "
            "not of one run."
        )
    if early is not None and known.early and early != known.early["val"].shape[1]:
        raise InputError(
            f"{run_folder}: reference.npz has {known.early['val'].shape[1]} features of earlier layers, "
            f"model.keras {early}; they are not of one run."
        )


def to_compare(number: int, seed: int = 0) -> np.ndarray:
    """Which of so many new examples are compared, bool (number,): at most SAMPLE, chosen beforehand, for all
    features of many would not fit in memory.
    """
    compared = np.zeros(number, bool)
    compared[np.random.default_rng(seed).permutation(number)[:SAMPLE]] = True
    return compared


def early_training(known: Reference) -> np.ndarray | None:
    """The early features of training examples, standardised, for `columns`; None without earlier layers."""
    before = known.early.get("train")
    return None if before is None else standardised({"train": before}, before)["train"]


def columns(
    known: Reference, early_train: np.ndarray | None, seen: Seen, point: decision.Threshold | None
) -> dict[str, np.ndarray]:
    """Of new examples the columns prediction, confidence, distance, nearest and, with earlier layers,
    early_distance of the table that `evidence.measure` takes.

    early_train: of `early_training`, once for all batches. point: the run's threshold between two classes,
    where it has one: what the page calls a prediction is what `predict` would say.
    """
    names = np.array(known.classes)
    distance, closest = nearest(known.features["train"], seen.features)
    found = {
        "prediction": names[decision.moved(seen.predictions, seen.confidences, names.tolist(), point)],
        "confidence": seen.confidences,
        "distance": distance,
        "nearest": known.ids["train"][closest],
    }
    if early_train is not None and seen.early.shape[1] == early_train.shape[1]:
        new = standardised({"new": seen.early}, known.early["train"])["new"]
        found["early_distance"] = nearest(early_train, new)[0]
    return found


def measure(
    known: Reference,
    tables: Sequence[pd.DataFrame],
    seen: Sequence[Seen],
    point: decision.Threshold | None,
    unit: str,
) -> Shift:
    """What `evidence.measure` says of all batches.

    tables: of each batch what `columns` gives, path, and compared (bool). seen: of each the compared rows.
    """
    answers = {
        split: decision.moved(known.predictions[split], known.confidences[split], list(known.classes), point)
        for split in known.predictions
    }
    known = dataclasses.replace(known, predictions=answers)
    features = np.concatenate([one.features for one in seen])
    early = np.concatenate([one.early for one in seen]) if known.early else None
    table = pd.concat(tables, ignore_index=True)
    return evidence.measure(known, features, table, early=early, unit=unit)


def place(run_folder: Path, name: str, found: Shift) -> Path:
    """Make RUN/shift/NAME, or beside an earlier one NAME-2, NAME-3 ..., with a table of all examples and
    shift.json, and return it.
    """
    made = folder.make_unused(run_folder / "shift" / name)
    atomic.write_csv(made / f"{found.unit}.csv", found.table)
    atomic.write_json(made / "shift.json", evidence.record(found))
    return made


def farthest_rows(known: Reference, found: Shift) -> list[tuple[dict[str, str], bytes]]:
    """Of the FARTHEST examples what the page says in words (name, path, prediction, confidence, percentile,
    early), and what the reference keeps of the nearest training example.
    """
    place = {int(one): number for number, one in enumerate(known.ids["train"])}
    return [
        (
            {
                "name": Path(row["path"]).name,
                "path": row["path"],
                "prediction": row["prediction"],
                "confidence": words.percent(row["confidence"], 0),
                "percentile": f"{row['percentile']:.0f}",
                "early": f"{row['early_percentile']:.0f}" if "early_percentile" in row else "",
            },
            known.thumbnails[place[row["nearest"]]],
        )
        for row in found.table.head(FARTHEST).to_dict("records")
    ]


def write_page(
    path: str | Path,
    *,
    title: str,
    source: str,
    run_name: str,
    found: Shift,
    layers: Sequence[str],
    farthest: Sequence[dict],
    unreadable: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the self-contained page about a shift to `path`, whole or not at all, and return the path.

    Args:
        path: of the HTML file.
        title: the heading.
        source, run_name: where the new examples come from, and the run they are compared with.
        found: from `evidence.measure`.
        layers: what describes the earlier layers, in words.
        farthest: the rows of `farthest_rows`, each also with what shows it and its nearest training example:
            uri and nearest (data URIs) of pictures, text and nearest_text of texts.
        unreadable: (path, reason) of what was left out.
    """
    change = (found.classes["new"] - found.classes["validation"]).abs()
    classes = found.classes.loc[change.sort_values(ascending=False, kind="stable").index].head(CLASSES)
    return pages.write(
        path,
        "shift.html.j2",
        title=title,
        source=source,
        run_name=run_name,
        found=found,
        unit=found.unit,
        one=found.unit.removesuffix("s"),
        verdict=evidence.verdict(found),
        shifted=found.p_value <= 0.05,
        mixed=found.p_value <= 0.05 < found.p_value_within,
        few=min(found.examples, found.reference_examples) < FEW,
        layers=list(layers),
        number=len(found.table),
        classes=classes.to_dict("records"),
        more_classes=len(found.classes) - len(classes),
        farthest=list(farthest),
        unreadable=list(unreadable)[:UNREADABLE],
        more_unreadable=max(0, len(unreadable) - UNREADABLE),
        date=datetime.date.today().isoformat(),
    )
