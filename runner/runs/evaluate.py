"""Judge a finished run of any template on labelled data that is new to it.

    python -m runner evaluate RUN ~/new_labelled_photos

The data may be whatever the template's `load` takes. Nothing is trained: of data with a test split that is
judged, of any other everything is. The template supplies what differs: `load` (or, where it has one,
`load_new(config, data)`), `judge`, and `tables`, which makes numbers, a row per class and a
row per example of what `judge` found. One that does not answer for every example has
`withheld(run, network, predictions, examples)`, which takes out what `predict` would not hand out, and says
why in a column `note`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner import atomic, fields
from runner.data import remarks
from runner.data.examples import Data, check_parts, labels_of
from runner.data.examples import problems as problem_rows
from runner.data.files import composed
from runner.devices import environment
from runner.errors import InputError
from runner.networks import saved
from runner.report import page, words
from runner.report.section import Section
from runner.runs import decision, folder, pairing
from runner.scores import calibration, classification, operating_point

NAMED = 10
"""Of so many examples that the run knows already the page has the names."""


@dataclass(frozen=True)
class Evaluation:
    """What `run` found and wrote."""

    folder: Path
    page: Path
    score: str
    """What methods of this template are compared by, such as "accuracy"."""
    metrics: Mapping[str, Any]
    seen: tuple[str, ...]
    """Paths of the judged examples that the run was trained or validated on."""
    remarks: tuple[str, ...] = ()
    """Lines about what was found in the data."""

    def in_words(self) -> str:
        """The result in one line: "accuracy 91.2 % (88.0 to 94.1 %) on 240 examples"."""
        low, high = self.metrics[f"{self.score}_interval"]
        found = f"{pairing.words(self.score)} {words.percent(self.metrics[self.score])}"
        return f"{found} ({words.interval((low, high))}) on {self.metrics['examples']} examples"


def run(
    template: ModuleType,
    config_class: type,
    run_folder: str | Path,
    data: str,
    output: str | Path | None = None,
) -> Evaluation:
    """Judge the network of a complete run and write metrics.json, per_class.csv, predictions.csv,
    manifest.csv, problems.csv and report.html into `output`.

    template: the train module of the run's template; config_class: its Config.
    data: a source as the template's `load` takes it. Its classes must be classes of the run; some may lack.
    output: a folder that is not there yet; None makes RUN/evaluate/<name of the data>.
    Raises InputError for what cannot be judged; nothing is written then.
    """
    run_folder = Path(os.path.expanduser(run_folder))
    record, metrics = folder.read_complete(run_folder), folder.read_metrics(run_folder)
    classes = tuple(metrics["classes"])
    config = fields.from_dict(record, config_class, str(run_folder / "config.json"))
    place = _place(run_folder, data, output)
    columns = pairing.read_csv(run_folder / "comparison.csv", nrows=0).columns
    # Of a run with --no-test there is the score on validation alone.
    scores = [name.partition("_")[2] for name in columns if name.startswith(("test_", "val_"))]
    if not scores:
        raise InputError(f"{run_folder / 'comparison.csv'} names no score; give another run.")
    score = scores[0]
    before = pairing.read_csv(run_folder / "manifest.csv", dtype=str, keep_default_na=False)
    if not {"split", "sha256"} <= set(before.columns):
        raise InputError(f"{run_folder / 'manifest.csv'} has no split and sha256; give another run.")
    # What goes with weights, such as a tokenizer, is the run's own, wherever it began.
    examples, known = load(template, dataclasses.replace(config, weights=str(run_folder)), data, classes)
    classes = examples.classes
    model = saved.load(run_folder)
    test = examples.test.open(None, f"judge the run {run_folder} on it")
    judged = template.judge(config, {"": model}, test, classes)[""]
    numbers, per_class, predictions = template.tables(judged, examples)
    left: list[str] = []
    if hasattr(template, "withheld"):
        predictions = template.withheld(run_folder, model, predictions, examples)
        left = _withheld(predictions)
    seen = _seen(before, examples.manifest)
    told = [(path, "seen", f"{path!r} is identical to an example that the run learned from") for path in seen]
    told += [("", "withheld", line) for line in left]
    problems = pd.concat([examples.problems, problem_rows(told)], ignore_index=True)
    at_threshold = _at_threshold(run_folder, classes, predictions, examples.manifest["group"])
    written = environment.describe()
    place = folder.make_unused(place) if output is None else folder.make(place, "--output")
    for name, table in {
        "manifest": examples.manifest,
        "problems": remarks.graded(problems),
        "per_class": per_class,
        "predictions": predictions,
    }.items():
        atomic.write_csv(place / f"{name}.csv", table)
    atomic.write_json(
        place / "metrics.json",
        {
            "run": run_folder.name,
            "data": data,
            "classes": list(classes),
            "judged": numbers,
            **({} if at_threshold is None else {"operating_point": at_threshold}),
            "seen": len(seen),
        },
    )
    shown = page.write(
        place / "report.html",
        title=f"Evaluation: {Path(data).name or data}",
        question=_question(run_folder, data, score, metrics["test"], known, classes, seen, left),
        data=dataclasses.replace(examples, problems=problems),
        pictures={},
        metrics=numbers,
        score=(score, pairing.words(score)),
        confusion=_confusion(predictions, classes),
        sections=[
            Section("By class", tables=[("What was judged", per_class)]),
            *_threshold(at_threshold),
        ],
        environment=written,
    )
    said = tuple(remarks.in_words(problems, str(place / "problems.csv")))
    return Evaluation(place, shown, score, numbers, tuple(seen), said)


def load(
    template: ModuleType, config: Any, data: str, classes: Sequence[str]
) -> tuple[Data, tuple[str, ...]]:
    """The data as the run would read it, all of it for the test, its labels counted as the run's classes are;
    and the classes that it has.

    Raises InputError for a class that the run does not know, unless its template tells new classes apart
    (NEW_CLASSES): then they are what the data has.
    """
    changes: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 1.0}
    names = {field.name for field in dataclasses.fields(config)}
    changes |= dict.fromkeys(names & {"labels_per_class", "train_examples", "train_characters"})
    if hasattr(template, "load_new"):
        examples = template.load_new(dataclasses.replace(config, **changes), data)
    else:
        examples = template.load(dataclasses.replace(config, data=data, **changes))
    if getattr(template, "NEW_CLASSES", False):
        return examples, examples.classes
    examples = _called_as(examples, classes)
    unknown = [name for name in examples.classes if name not in classes]
    if unknown:
        raise InputError(
            f"{data}: the run does not know the class {unknown[0]!r}"
            f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}; its classes are "
            f"{', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}: rename, or leave them out."
        )
    check_parts(examples, ("test",))
    return _counted_as(examples, tuple(classes)), examples.classes


def _called_as(examples: Data, classes: Sequence[str]) -> Data:
    """The same examples with their class names in the Unicode form that the run has them in."""
    form = {composed(name): name for name in classes}
    names = {name: form.get(composed(name), name) for name in examples.classes}
    if all(name == other for name, other in names.items()):
        return examples
    label = examples.manifest["label"].cat.rename_categories(names)
    manifest = examples.manifest.assign(label=label)
    return dataclasses.replace(examples, classes=tuple(names.values()), manifest=manifest)


def _counted_as(examples: Data, classes: tuple[str, ...]) -> Data:
    """The same examples with the numbers that these classes have, of which they have some."""
    if examples.classes == classes:
        return examples
    numbers = [classes.index(name) for name in examples.classes]
    table = np.arange(256)
    table[: len(numbers)] = numbers

    def recode(example: dict) -> dict:
        """What names classes by number: a label, those of boxes, a mask; what is no class stays."""
        found = {}
        for name in example.keys() & {"label", "classes", "mask"}:
            values = tf.cast(example[name], tf.int64)
            there = tf.gather(tf.constant(table, tf.int64), tf.clip_by_value(values, 0, 255))
            known = (values >= 0) & (values < len(numbers))
            found[name] = tf.cast(tf.where(known, there, values), example[name].dtype)
        return example | found

    amounts = None
    if examples.amounts is not None:
        amounts = np.zeros((len(examples.amounts), len(classes)), examples.amounts.dtype)
        amounts[:, numbers] = examples.amounts
    label = examples.manifest["label"].astype(object)
    label = labels_of(label.where(label.notna(), ""), classes)
    manifest = examples.manifest.assign(label=label)
    return dataclasses.replace(
        examples, test=examples.test.map(recode), classes=classes, manifest=manifest, amounts=amounts
    )


def _at_threshold(
    run_folder: Path, classes: Sequence[str], predictions: pd.DataFrame, groups: pd.Series
) -> dict[str, Any] | None:
    """What the threshold that the run chose gives on this data, by which `predict` answers; None without."""
    point = decision.of_run(run_folder, classes)
    if point is None or not {"label", "prediction"} <= set(predictions.columns):
        return None
    temperature = folder.read_metrics(run_folder).get("temperature", 1.0)
    scaled = calibration.scale(predictions, temperature, classes)
    return operating_point.at(scaled, point.positive, point.threshold, groups)


def _threshold(found: dict[str, Any] | None) -> list[Section]:
    if found is None:
        return []
    names = ("sensitivity", "specificity", "precision", "f1")
    rows = [(name, found[name], *(found[f"{name}_interval"] or (None, None))) for name in names]
    table = pd.DataFrame(rows, columns=["number", "value", "low", "high"], dtype=object)
    table[["value", "low", "high"]] = table[["value", "low", "high"]].astype(float)
    return [
        Section(
            "At the run's threshold",
            f"`predict` answers {found['positive']} from a probability of {found['threshold']:.3f} on, which "
            "the run chose on its validation data; the numbers above are of the likeliest class. Here: "
            f"{found['true_positives']} found, {found['false_negatives']} missed, "
            f"{found['false_positives']} false alarms, {found['true_negatives']} rightly left.",
            tables=[("With 95 % intervals", table)],
        )
    ]


def _confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame | None:
    if not {"label", "prediction"} <= set(predictions.columns):
        return None  # boxes and masks are no answers of one class each
    return classification.confusion(predictions, classes)


def _place(run_folder: Path, data: str, output: str | Path | None) -> Path:
    if output is None:
        return run_folder / "evaluate" / (Path(data).name or "data").replace(":", "_")
    place = atomic.place(output, "--output")
    if place.exists():
        raise InputError(f"--output {place} exists; give another name, or move it away.")
    return place


def _seen(before: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Paths of the judged examples whose content the run was trained or validated on, by its manifest."""
    learned = set(before.loc[before["split"].isin(["train", "val"]), "sha256"]) - {""}
    judged = manifest[manifest["split"] == "test"]
    return judged.loc[judged["sha256"].isin(learned), "path"].astype(str).tolist()


def _withheld(predictions: pd.DataFrame) -> list[str]:
    """A line for each reason why examples have no answer in the table."""
    counts = predictions["note"][predictions["note"] != ""].value_counts()
    return [
        f"Of {count} of the {len(predictions)} examples the answer is withheld: {note}. The scores count all."
        for note, count in counts.items()
    ]


def _question(
    run_folder: Path,
    data: str,
    score: str,
    own: Mapping[str, Any],
    known: Sequence[str],
    classes: Sequence[str],
    seen: Sequence[str],
    left: Sequence[str],
) -> str:
    said = [*left, f"How good is the run {run_folder.name} on {data}?"]
    interval = own.get(f"{score}_interval") or [None]
    if None not in (own.get(score), own.get("examples"), *interval):
        said.append(
            f"On its own test data it reached {words.percent(own[score])} "
            f"({words.interval(interval)}), on {own['examples']} examples; these are others, so that the "
            "two can differ by chance as well."
        )
    if len(known) < len(classes):
        said.append(
            f"Classes that this data has: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}."
        )
    if seen:
        named = ", ".join(seen[:NAMED]) + (", ..." if len(seen) > NAMED else "")
        said.append(
            f"{len(seen)} of these examples are identical to ones that it was trained or validated on, so "
            f"that the numbers are too high: {named}."
        )
    return "\n\n".join(said)
