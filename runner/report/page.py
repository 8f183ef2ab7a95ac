"""One self-contained page about a run: the question, the answer, and what a reader needs to believe it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.report import assessment as report_assessment
from runner.report import data as report_data
from runner.report import figures, pages, schedule, sheets, words
from runner.scores.assessment import Assessment
from runner.stage import Stage

if TYPE_CHECKING:  # a page needs no TensorFlow
    from runner.data.examples import Data

LARGEST_MATRIX = 20
"""Up to this many classes the confusion matrix is a table of counts; above it, the worst pairs are listed."""
MISTAKES, PAIRS = 24, 25
"""The most mistakes and confused pairs of classes that the page shows."""


@dataclass(frozen=True)
class Section:
    """A part of the page that a template brings: a heading, text, tables, then figures.

    tables: (caption, DataFrame), shown with three digits after the point; figures: (caption, uint8 picture
    (h, w, 3), a sheet for example, or SVG as Markup).
    """

    title: str
    text: str = ""
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    figures: Sequence[tuple[str, np.ndarray | Markup]] = ()


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
    pictures: dict[int, np.ndarray] | None = None,
    augmented: np.ndarray | None = None,
    stages: Sequence[Stage] = (),
    history: pd.DataFrame | None = None,
    ledger: pd.DataFrame | None = None,
    comparison: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
    metrics: dict | None = None,
    per_class: pd.DataFrame | None = None,
    confusion: pd.DataFrame | None = None,
    assessment: Assessment | None = None,
    overlays: dict[int, np.ndarray] | None = None,
    score: tuple[str, str] = ("accuracy", "accuracy"),
    sections: Sequence[Section] = (),
    environment: dict | None = None,
) -> Path:
    """Write the page to `path`, whole or not at all, and return the path; what is None or empty is left out.

    Args:
        path: of the HTML file; its folder is made if it is missing.
        title: the heading.
        question: what the run was to answer; a blank line starts a new paragraph.
        data: a `data.Data`; `train` and `test` are read only when `pictures` is None.
        pictures: id -> uint8 (h, w, 3), as `collect_pictures` gives them, which None calls; {} shows none.
        augmented: uint8 (rows, 1 + variants, h, w, 3); the first of each row is the picture as it was.
        stages: the schedule, in order.
        history: columns epoch (from 1), stage, loss, accuracy, val_loss, val_accuracy, handed_on.
        ledger: columns stage, block, variables, to_train, moved, relative_change, statistics_moved.
        comparison: a row per method; columns method, test_<score>, low, high (95 % interval), and where
            known val_<score>, epochs, trainable_parameters, seconds.
        predictions, metrics, per_class, confusion: of the model the page is about, from `runner.evaluation`.
        assessment: of the same model, from `assessment.assess`.
        overlays: id -> uint8 (h, w, 3), Grad-CAM maps on test pictures (`explained_ids`).
        score: the number, 0..1, that methods are compared by: what its columns, and its entries in `metrics`
            (<score>, <score>_interval), are called, and how it reads: ("miou", "mean IoU").
        sections: what only this template has to show, before the environment.
        environment: name -> text, number, list or dict, shown in this order; None and "" are left out.
    """
    if pictures is None:
        pictures = collect_pictures(data, predictions)
    history, ledger, comparison = _given(history), _given(ledger), _given(comparison)
    return pages.write(
        path,
        "report.html.j2",
        title=title,
        paragraphs=words.paragraphs(question),
        classes=list(data.classes),
        score=score[1],
        headline=_headline(metrics, comparison, score),
        setbacks=schedule.setbacks(stages, history),
        comparison=_comparison(comparison, metrics, score),
        counts=report_data.counts(data),
        checks=report_data.checks(data),
        problems=report_data.problems(data),
        pairs=report_data.pairs(data),
        sideways=report_data.sideways(data),
        sheet=report_data.sheet(data, pictures),
        augmented=_augmented(augmented),
        plan=schedule.describe(stages, history, ledger),
        ledger=None if ledger is None else schedule.ledger_table(ledger),
        curves=_curves(history),
        numbers=_numbers(metrics, score),
        per_class=_per_class(_given(per_class)),
        confusion=_confusion(_given(confusion)),
        calibration=assessment and report_assessment.calibration(assessment),
        operating_point=assessment and report_assessment.operating_point(assessment),
        groups=assessment and metrics and report_assessment.groups(assessment, metrics["accuracy"]),
        attention=report_assessment.attention(predictions, overlays, pictures),
        mistakes=_mistake_pictures(_given(predictions), pictures),
        sections=[_section(section) for section in sections],
        environment=_environment(environment),
        date=datetime.date.today().isoformat(),
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
        place = _subject(comparison, metrics, key)
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
        headline["method"] = comparison["method"].iloc[place]
    return headline


def _subject(comparison, metrics, key):
    """Return the position of the method that the page is about: the last with the score of `metrics`."""
    if metrics:
        same = np.flatnonzero(np.isclose(comparison[f"test_{key}"].to_numpy(float), metrics[key], atol=1e-9))
        if len(same):
            return int(same[-1])
    return len(comparison) - 1


def _comparison(comparison, metrics, score):
    if comparison is None:
        return None
    key, reads = score
    place = _subject(comparison, metrics, key)
    rows = [
        {
            **row,
            "test": row[f"test_{key}"],
            "val": row.get(f"val_{key}"),
            "subject": number == place,
            "interval": words.interval((row["low"], row["high"])) if pd.notna(row.get("low")) else "",
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


def _section(section: Section) -> dict:
    """Return what the page needs of a section: tables as rows of text, pictures as data URIs."""

    def text(value) -> str:
        if isinstance(value, (float, np.floating)):
            return "" if value != value else f"{value:.3f}"
        return str(value)

    tables = [
        {
            "caption": caption,
            "columns": [str(name).replace("_", " ") for name in table.columns],
            "numeric": [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes],
            "rows": [[text(value) for value in row] for row in table.itertuples(index=False)],
        }
        for caption, table in section.tables
    ]
    drawn = [
        {
            "caption": caption,
            "svg": figure if isinstance(figure, Markup) else None,
            "uri": None if isinstance(figure, Markup) else sheets.data_uri(figure),
        }
        for caption, figure in section.figures
    ]
    return {
        "anchor": re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-"),
        "title": section.title,
        "paragraphs": words.paragraphs(section.text),
        "tables": tables,
        "figures": drawn,
    }


def _per_class(per_class):
    if per_class is None:
        return None
    rows = per_class.to_dict("records")
    judged = per_class[per_class["support"] > 0]
    weakest = judged.sort_values("f1", kind="stable").head(3) if len(judged) > 3 else judged.head(0)
    return {
        "rows": rows,
        "weakest": [f"{row['class']} ({words.percent(row['f1'])})" for row in weakest.to_dict("records")],
    }


def _confusion(confusion):
    if confusion is None:
        return None
    names, counts = [str(name) for name in confusion.index], confusion.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off_diagonal = counts * (1 - np.eye(len(names), dtype=int))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:PAIRS]
    pairs = [
        {
            "truth": names[row],
            "prediction": names[column],
            "count": int(counts[row, column]),
            "share": words.percent(shares[row, column], 0),
        }
        for row, column in zip(*np.unravel_index(order, counts.shape), strict=True)
        if off_diagonal[row, column]
    ]
    result = {"names": names, "pairs": pairs, "matrix": None, "overview": None}
    if len(names) <= LARGEST_MATRIX:
        result["matrix"] = [
            {
                "name": name,
                "cells": [
                    {"count": int(count), "share": round(float(share), 3)}
                    for count, share in zip(counts[row], shares[row], strict=True)
                ],
            }
            for row, name in enumerate(names)
        ]
    else:
        # One pixel per cell, its opacity the share of its row: the page shows through in both schemes.
        pixels = np.zeros((*counts.shape, 4), np.uint8)
        pixels[..., :3] = (30, 150, 175)
        pixels[..., 3] = np.round(255 * np.sqrt(shares)).astype(np.uint8)
        result["overview"] = sheets.data_uri(pixels, form="png")
    return result


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
