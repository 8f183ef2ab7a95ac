"""One self-contained page about a run: the question, the answer, and what a reader needs to believe it."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.data.files import singular
from runner.report import assessment as report_assessment
from runner.report import confusion as report_confusion
from runner.report import data as report_data
from runner.report import figures, pages, schedule, section, sheets, verdict, words
from runner.report.parts import Parts
from runner.scores.assessment import Assessment
from runner.stage import Stage

if TYPE_CHECKING:  # a page needs no TensorFlow
    from runner.data.examples import Data

MISTAKES = 24
"""The most mistakes that the page shows."""


@dataclass(frozen=True)
class Shown:
    """What `write` can show, beside the sections; None and what is empty is left out."""

    pictures: dict[int, np.ndarray] | None = None
    """id -> uint8 (h, w, 3), as `collect_pictures` gives them, which None calls; {} shows none."""
    augmented: np.ndarray | None = None
    """uint8 (rows, 1 + variants, h, w, 3); the first of each row is the picture as it was."""
    stages: Sequence[Stage] = ()
    """The schedule, in order."""
    history: pd.DataFrame | None = None
    """Columns epoch (from 1), stage, loss, accuracy, val_loss, val_accuracy, handed_on and others."""
    ledger: pd.DataFrame | None = None
    """Columns stage, block, variables, to_train, moved, relative_change, statistics_moved."""
    range_tests: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By stage: a row per step; columns learning_rate, loss, smoothed."""
    comparison: pd.DataFrame | None = None
    """A row per method; columns method, test_<score>, low, high (95 % interval), and where known val_<score>,
    epochs, trainable_parameters, seconds, and difference, difference_low, difference_high: what the method of
    the page has more of the score on the same pictures.
    """
    predictions: pd.DataFrame | None = None
    """With metrics, per_class and confusion: of the model the page is about, from `scores.classification`."""
    metrics: dict | None = None
    per_class: pd.DataFrame | None = None
    confusion: pd.DataFrame | None = None
    assessment: Assessment | None = None
    """Of the same model, from `assessment.assess`."""
    overlays: dict[int, np.ndarray | str] | None = None
    """id -> uint8 (h, w, 3), Grad-CAM maps on test pictures (`explained_ids`), or why there is none."""
    environment: dict | None = None
    """Name -> text, number, list or dict, shown in this order; None and "" are left out."""
    settings: dict | None = None
    """Of `settings.of_run`."""
    statistics_anew: bool = False
    """Whether BatchNorm statistics were estimated anew before the network was judged."""
    by_averages: bool = True
    """Whether validation read BatchNorm's moving averages."""


def collect_pictures(data: Data, predictions: pd.DataFrame | None = None) -> dict[int, np.ndarray]:
    """Return the pictures that the page shows, by id: of training, the most confident mistakes, some right.

    Reads `data.train` and then `data.test` (only to show, not to measure) until everything wanted was found.
    """
    wanted = {"train": set(report_data.sheet_ids(data))}
    if predictions is not None:
        wanted["test"] = {
            *_mistakes(predictions)["id"].head(MISTAKES),
            *explained_ids(predictions, data.classes),
        }
    found = {}
    for split, ids in wanted.items():
        left = {int(one) for one in ids}
        for example in getattr(data, split) if left else ():
            if int(example["id"]) in left:
                found[int(example["id"])] = np.asarray(example["input"])
                left.discard(int(example["id"]))
                if not left:
                    break
    return found


def explained_ids(predictions: pd.DataFrame, classes: Sequence[str]) -> list[int]:
    """Ids of the test pictures to explain: the most confident mistakes, and some that are right."""
    wrong = _mistakes(predictions)["id"].head(report_assessment.WRONG)
    return [*map(int, wrong), *report_assessment.right_ids(predictions, classes)]


def write(
    path: str | Path,
    *,
    title: str,
    question: str,
    data: Data,
    score: tuple[str, str] = ("accuracy", "accuracy"),
    failed: Sequence[str] = (),
    **shown: Any,
) -> Path:
    """Write the page to `path`, whole or not at all, and return the path; what is None or empty is left out.

    Args:
        path: of the HTML file; its folder is made if it is missing.
        title: the heading.
        question: what the run was to answer; a blank line starts a new paragraph.
        data: a `data.Data`; `train` and `test` are read only when there are no `pictures`.
        score: the number, 0..1, that methods are compared by: what its columns, and its entries in `metrics`
            (<score>, <score>_interval), are called, and how it reads: ("miou", "mean IoU").
        failed: lines about what could not be made before.
        shown: any of the fields of `Shown`; each may be a function without arguments that gives it, and so
            may each of the sections. What such a function raises, and what raises when it is drawn, becomes a
            line on the page, and the rest is shown.
    """
    parts = Parts(failed)
    sections = parts.made("sections", shown.pop("sections", ()), ())
    given = Shown(**{name: parts.made(name, part) for name, part in shown.items()})
    if "pictures" not in shown or shown["pictures"] is None:
        collected = parts.made("pictures", lambda: collect_pictures(data, given.predictions))
        given = dataclasses.replace(given, pictures=collected)
    pictures, metrics, assessment = given.pictures or {}, given.metrics, given.assessment
    history, ledger, comparison = _given(given.history), _given(given.ledger), _given(given.comparison)
    drawn = parts.all(
        {
            "headline": lambda: _headline(metrics, comparison, score),
            "verdict": lambda: verdict.in_words(comparison, metrics, score),
            "setbacks": lambda: schedule.setbacks(given.stages, history),
            "comparison": lambda: _comparison(comparison, metrics, score),
            "checks": lambda: report_data.checks(data),
            "problems": lambda: report_data.problems(data),
            "pairs": lambda: report_data.pairs(data),
            "sideways": lambda: report_data.sideways(data),
            "sheet": lambda: report_data.sheet(data, pictures),
            "augmented": lambda: _augmented(given.augmented),
            "plan": lambda: schedule.describe(given.stages, history, ledger),
            "ledger": lambda: None if ledger is None else schedule.ledger_table(ledger),
            "curves": lambda: _curves(history),
            "ranges": lambda: _ranges(given.range_tests, given.stages),
            "lagging": lambda: (
                schedule.lagging(history, ledger, given.statistics_anew) if given.by_averages else ""
            ),
            "numbers": lambda: _numbers(metrics, score),
            "per_class": lambda: report_confusion.per_class(_given(given.per_class)),
            "confusion": lambda: report_confusion.matrix(_given(given.confusion)),
            "calibration": lambda: assessment and report_assessment.calibration(assessment),
            "operating_point": lambda: assessment and report_assessment.operating_point(assessment),
            "groups": lambda: (
                assessment and metrics and report_assessment.groups(assessment, metrics["accuracy"])
            ),
            "attention": lambda: report_assessment.attention(given.predictions, given.overlays, pictures),
            "mistakes": lambda: _mistake_pictures(_given(given.predictions), pictures) if pictures else None,
            "environment": lambda: _environment(given.environment),
        }
    )
    made = [parts.made(f"section {number}", one) for number, one in enumerate(sections or (), 1)]
    made = [parts.made(one.title, functools.partial(section.made, one)) for one in made if one is not None]
    return pages.write(
        path,
        "report.html.j2",
        title=title,
        paragraphs=words.paragraphs(question),
        classes=list(data.classes),
        score=score[1],
        unit=data.unit,
        example=singular(data.unit),
        counts=parts.made("counts", lambda: report_data.counts(data)),
        sections=[one for one in made if one is not None],
        settings=given.settings,
        date=datetime.date.today().isoformat(),
        **drawn,
        failed=parts.failed,
    )


def _given(table):
    return None if table is None or len(table) == 0 else table


def _headline(metrics, comparison, score):
    if not metrics:
        return None
    key, _ = score
    low, high = metrics[f"{key}_interval"]
    headline = {
        "value": metrics[key],
        "interval": words.interval((low, high)),
        "examples": metrics["examples"],
    }
    if low == high == 1 and key == "accuracy":
        # The bootstrap sees nothing beyond a faultless sample; the rule of three does (Hanley and
        # Lippman-Hand 1983).
        headline["note"] = (
            f"Without a single mistake the interval says little: an error rate of up to "
            f"{100 * min(1, 3 / metrics['examples']):.1f}\u202f% remains plausible."
        )
    if comparison is not None and len(comparison) > 1:
        place = verdict.subject(comparison, metrics, key)
        own = comparison[f"test_{key}"].iloc[place]
        # Of the others the strongest: a gain over a straw man is none.
        others = comparison.drop(comparison.index[place])
        rival = others.loc[others[f"test_{key}"].idxmax()]
        value = rival[f"test_{key}"]
        headline["rival"] = {
            "method": rival["method"],
            "points": f"{100 * abs(own - value):.1f}",
            "direction": "above" if own >= value else "below",
            "of": len(others),
        }
        if pd.notna(rival.get("difference")):
            ends = [float(rival[f"difference_{end}"]) for end in ("low", "high")]
            headline["rival"] |= {"interval": words.points(*ends), "told": ends[0] > 0 or ends[1] < 0}
        headline["method"] = comparison["method"].iloc[place]
    return headline


def _comparison(comparison, metrics, score):
    if comparison is None:
        return None
    key, reads = score
    place = verdict.subject(comparison, metrics, key)
    rows = [
        {
            **row,
            "test": row[f"test_{key}"],
            "val": row.get(f"val_{key}"),
            "subject": number == place,
            "interval": words.interval((row["low"], row["high"])) if pd.notna(row.get("low")) else "",
            "apart": "" if pd.isna(row.get("difference")) else f"{100 * row['difference']:+.1f}",
            "apart_interval": ""
            if pd.isna(row.get("difference"))
            else words.points(row["difference_low"], row["difference_high"]),
        }
        for number, row in enumerate(comparison.to_dict("records"))
    ]
    said = "; ".join(f"{row['method']} {words.percent(row['test'])}" for row in rows)
    drawn = figures.comparison_bars(comparison, place, f"test_{key}")
    bars = figures.inline_svg(drawn, f"Bar plot of test {reads}: {said}.", "comparison")
    columns = {name.replace(f"val_{key}", "val") for name in comparison.columns}
    return {"rows": rows, "columns": columns, "bars": Markup(bars)}


def _augmented(augmented):
    if augmented is None or len(augmented) == 0:
        return None
    return [[sheets.data_uri(image, 128) for image in row] for row in np.asarray(augmented)]


def _mistakes(predictions):
    wrong = predictions[predictions["label"].astype(str) != predictions["prediction"].astype(str)]
    return wrong.sort_values("confidence", ascending=False, kind="stable")


def _mistake_pictures(predictions, pictures):
    if predictions is None:
        return None
    wrong = _mistakes(predictions)
    shown = [
        {
            "uri": sheets.data_uri(pictures[row["id"]], 200),
            "truth": row["label"],
            "prediction": row["prediction"],
            "confidence": words.percent(row["confidence"], 0),
        }
        for row in wrong.head(MISTAKES).to_dict("records")
        if row["id"] in pictures
    ]
    return {"shown": shown, "number": len(wrong), "examples": len(predictions)}


def _ranges(tests: Mapping[str, pd.DataFrame], stages: Sequence[Stage]) -> list[dict]:
    found = []
    for stage in stages:
        if stage.name in tests:
            curve, rate = tests[stage.name], stage.rate
            said = f"Loss over the learning rate, {len(curve)} steps before stage {stage.name}: {rate:g}."
            svg = figures.inline_svg(figures.range_test(curve, rate), said, f"range of {stage.name}")
            found.append({"name": f"Stage {stage.name}: {rate:g}", "svg": Markup(svg)})
    return found


def _curves(history):
    if history is None:
        return []
    curves = []
    measured = [name.removeprefix("val_") for name in history if name.startswith("val_")]
    for quantity in dict.fromkeys(["loss", "accuracy", *measured]):
        if quantity in history or f"val_{quantity}" in history:
            last = "; ".join(
                f"{name} {history[column].iloc[-1]:.3f}"
                for column, name in ((quantity, "training"), (f"val_{quantity}", "validation"))
                if column in history
            )
            description = f"Line plot of {quantity} over {len(history)} epochs. At the end: {last}."
            svg = figures.inline_svg(figures.learning_curves(history, quantity), description, quantity)
            name = quantity.replace("_", " ")
            curves.append({"name": name[:1].upper() + name[1:], "svg": Markup(svg)})
    return curves


def _numbers(metrics, score):
    if not metrics:
        return None
    key, reads = score
    names = {key: reads[:1].upper() + reads[1:], "top5_accuracy": "Top-5 accuracy"} | {
        f"{average}_{name}": f"{average.capitalize()} {name.replace('f1', 'F1')}"
        for average in ("macro", "weighted")
        for name in ("f1", "precision", "recall")
    }
    return [
        {
            "name": name,
            "value": words.percent(metrics[key]),
            "interval": words.interval(metrics[f"{key}_interval"]) if f"{key}_interval" in metrics else "",
        }
        for key, name in names.items()
        if key in metrics
    ]


def _environment(environment):
    """Return (name, value) pairs of text, nested dicts joined and empty values left out."""
    rows = []
    for name, value in (environment or {}).items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {one}" for key, one in value.items() if one not in (None, ""))
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        elif "seconds" in name and re.fullmatch(r"[\d.]+", str(value)):
            name, value = name.replace("seconds", "time").strip(" _"), words.duration(float(value))
            name = "time" if name == "" else name
        if value not in (None, ""):
            rows.append((str(name).replace("_", " "), str(value)))
    return rows
