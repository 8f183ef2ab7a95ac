"""One self-contained page about a run: the question, the answer, and what a reader needs to believe it."""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from runner import figures, folder, plan
from runner import pictures as picture_tools
from runner.config import Stage

LARGEST_MATRIX = 20
"""Up to this many classes the confusion matrix is a table of counts; above it, the worst pairs are listed."""
SHEET, MISTAKES, PAIRS, PROBLEMS = 40, 24, 25, 25
"""The most pictures in the data sheet, mistakes, confused pairs and rows of problems that the page shows."""


def collect_pictures(data, predictions: pd.DataFrame | None = None) -> dict[int, np.ndarray]:
    """Return the pictures that the page shows, by id: training pictures and the most confident mistakes.

    Reads `data.train` and then `data.test` (only to show, not to measure) until everything wanted was found.
    """
    wanted = {"train": set(_sheet_ids(data))}
    if predictions is not None:
        wanted["test"] = set(_mistakes(predictions)["id"].head(MISTAKES))
    found = {}
    for split, ids in wanted.items():
        left = {int(one) for one in ids}
        for example in getattr(data, split) if left else ():
            if int(example["id"]) in left:
                found[int(example["id"])] = np.asarray(example["image"])
                left.discard(int(example["id"]))
                if not left:
                    break
    return found


def write(
    path: str | Path,
    *,
    title: str,
    question: str,
    data,
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
        history: columns epoch (from 1), stage, loss, accuracy, val_loss, val_accuracy; others are ignored.
        ledger: columns stage, block, variables, to_train, moved, relative_change, statistics_moved.
        comparison: a row per method; columns method, test_accuracy, low, high (95 % interval), and where
            known val_accuracy, epochs, trainable_parameters, seconds.
        predictions, metrics, per_class, confusion: of the model the page is about, from `runner.evaluation`.
        environment: name -> text, number, list or dict, shown in this order; None and "" are left out.
    """
    if pictures is None:
        pictures = collect_pictures(data, predictions)
    history, ledger, comparison = _given(history), _given(ledger), _given(comparison)
    page = _template().render(
        title=title,
        paragraphs=[part for part in re.split(r"\n\s*\n", question) if part.strip()],
        classes=list(data.classes),
        headline=_headline(metrics, comparison),
        comparison=_comparison(comparison, metrics),
        counts=_counts(data),
        checks=_checks(data),
        problems=_problems(data),
        sheet=_sheet(data, pictures),
        augmented=_augmented(augmented),
        plan=plan.describe(stages, history, ledger),
        ledger=None if ledger is None else plan.ledger_table(ledger),
        curves=_curves(history),
        numbers=_numbers(metrics),
        per_class=_per_class(_given(per_class)),
        confusion=_confusion(_given(confusion)),
        mistakes=_mistake_pictures(_given(predictions), pictures),
        environment=_environment(environment),
        date=datetime.date.today().isoformat(),
    )
    # A file name that is no UTF-8 gives a class name that cannot be encoded; it must not cost the report.
    encoded = page.encode("utf-8", errors="backslashreplace")
    return folder.write(Path(path), lambda temporary: temporary.write_bytes(encoded))


def _template():
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": plan.percent,
        "count": lambda number: f"{number:,}".replace(",", "\u202f"),
    }
    return environment.get_template("report.html.j2")


def _given(table):
    return None if table is None or len(table) == 0 else table


def _interval(pair):
    return f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f}\u202f%"


def _headline(metrics, comparison):
    if not metrics:
        return None
    low, high = metrics["accuracy_interval"]
    headline = {
        "accuracy": metrics["accuracy"],
        "interval": _interval((low, high)),
        "examples": metrics["examples"],
        "gains": [],
    }
    if low == high == 1:
        # The bootstrap sees nothing beyond a faultless sample; the rule of three does (Hanley and
        # Lippman-Hand 1983).
        headline["note"] = (
            f"Without a single mistake the interval says little: an error rate of up to "
            f"{100 * min(1, 3 / metrics['examples']):.1f}\u202f% remains plausible."
        )
    if comparison is not None and len(comparison) > 1:
        place = _subject(comparison, metrics)
        own = comparison["test_accuracy"].iloc[place]
        for row, (method, value) in enumerate(
            zip(comparison["method"], comparison["test_accuracy"], strict=True)
        ):
            if row != place:
                headline["gains"].append(
                    {
                        "method": method,
                        "points": f"{100 * abs(own - value):.1f}",
                        "direction": "above" if own >= value else "below",
                    }
                )
        headline["method"] = comparison["method"].iloc[place]
    return headline


def _subject(comparison, metrics):
    """Return the position of the method that the page is about: the last with the accuracy of `metrics`."""
    if metrics:
        same = np.flatnonzero(
            np.isclose(comparison["test_accuracy"].to_numpy(float), metrics["accuracy"], atol=1e-9)
        )
        if len(same):
            return int(same[-1])
    return len(comparison) - 1


def _comparison(comparison, metrics):
    if comparison is None:
        return None
    place = _subject(comparison, metrics)
    rows = [
        {
            **row,
            "subject": number == place,
            "interval": _interval((row["low"], row["high"])) if pd.notna(row.get("low")) else "",
        }
        for number, row in enumerate(comparison.to_dict("records"))
    ]
    said = "; ".join(f"{row['method']} {plan.percent(row['test_accuracy'])}" for row in rows)
    bars = figures.inline_svg(
        figures.comparison_bars(comparison, place), f"Bar plot of test accuracy: {said}.", "comparison"
    )
    return {"rows": rows, "columns": set(comparison.columns), "bars": Markup(bars)}


def _counts(data):
    names = {
        "train": "training",
        "val": "validation",
        "test": "test",
        "unused": "not used",
        "skipped": "left out",
    }
    table = pd.crosstab(data.manifest["label"].astype(str), data.manifest["split"])
    table = table.reindex([str(name) for name in data.classes], fill_value=0)
    splits = [split for split in names if split in table and table[split].any()]
    return {
        "splits": [names[split] for split in splits],
        "totals": [int(table[split].sum()) for split in splits],
        "rows": [
            {"name": name, "counts": [int(row[split]) for split in splits]} for name, row in table.iterrows()
        ],
    }


def _checks(data):
    """Return (fine, sentence) for whatever must not go wrong between splits, from the manifest alone."""
    used = data.manifest[data.manifest["split"].isin(["train", "val", "test"])]
    hashed = used[used["sha256"].notna() & (used["sha256"] != "")] if "sha256" in used else used.head(0)
    checks = []

    def check(wrong, fine, one, many):
        checks.append((not wrong, plan.times(wrong, one, many) if wrong else fine))

    if len(hashed):
        known = hashed.groupby("sha256")
        check(
            int((known["split"].nunique() > 1).sum()),
            "No identical picture stands in two splits.",
            "picture stands in more than one split: the test says too much.",
            "pictures stand in more than one split: the test says too much.",
        )
        check(
            int((known["label"].nunique() > 1).sum()),
            "No identical picture has two labels.",
            "picture has more than one label.",
            "pictures have more than one label.",
        )
    grouped = (
        used[used["group"].notna() & (used["group"].astype(str) != "")] if "group" in used else used.head(0)
    )
    if len(grouped) and grouped["group"].nunique() < len(grouped):
        groups = grouped.groupby("group")["split"].nunique()
        check(
            int((groups > 1).sum()),
            f"Each of the {len(groups)} groups stays within one split.",
            "group stands in more than one split.",
            "groups stand in more than one split.",
        )
    for split, name in (("train", "training"), ("test", "test")):
        present = set(used.loc[used["split"] == split, "label"])
        missing = [one for one in data.classes if one not in present]
        which = f"no {name} picture: {_few(missing)}."
        check(
            len(missing), f"Every class has {name} pictures.", f"class has {which}", f"classes have {which}"
        )
    return checks


def _problems(data):
    if data.problems is None or len(data.problems) == 0:
        return None
    kinds = data.problems["kind"].value_counts()
    return {
        "kinds": ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        "rows": data.problems.head(PROBLEMS).to_dict("records"),
        "more": max(0, len(data.problems) - PROBLEMS),
    }


def _few(names, most=5):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _sheet_ids(data):
    train = data.manifest[data.manifest["split"] == "train"]
    each = max(1, SHEET // len(data.classes))
    # With more classes than places, the classes shown are spread evenly over all of them.
    shown = np.unique(
        np.linspace(0, len(data.classes) - 1, min(SHEET, len(data.classes))).round().astype(int)
    )
    return [one for place in shown for one in train.index[train["label"] == data.classes[place]][:each]]


def _sheet(data, pictures):
    sheet = []
    for one in _sheet_ids(data):
        if one in pictures:
            sheet.append(
                {"uri": picture_tools.data_uri(pictures[one], 160), "label": data.manifest.loc[one, "label"]}
            )
    return sheet


def _augmented(augmented):
    if augmented is None or len(augmented) == 0:
        return None
    return [[picture_tools.data_uri(image, 128) for image in row] for row in np.asarray(augmented)]


def _mistakes(predictions):
    wrong = predictions[predictions["label"].astype(str) != predictions["prediction"].astype(str)]
    return wrong.sort_values("confidence", ascending=False, kind="stable")


def _mistake_pictures(predictions, pictures):
    if predictions is None:
        return None
    wrong = _mistakes(predictions)
    shown = [
        {
            "uri": picture_tools.data_uri(pictures[row["id"]], 200),
            "truth": row["label"],
            "prediction": row["prediction"],
            "confidence": plan.percent(row["confidence"], 0),
        }
        for row in wrong.head(MISTAKES).to_dict("records")
        if row["id"] in pictures
    ]
    return {"shown": shown, "number": len(wrong), "examples": len(predictions)}


def _curves(history):
    if history is None:
        return []
    curves = []
    for quantity in ("loss", "accuracy"):
        if quantity in history or f"val_{quantity}" in history:
            last = "; ".join(
                f"{name} {history[column].iloc[-1]:.3f}"
                for column, name in ((quantity, "training"), (f"val_{quantity}", "validation"))
                if column in history
            )
            description = f"Line plot of {quantity} over {len(history)} epochs. At the end: {last}."
            svg = figures.inline_svg(figures.learning_curves(history, quantity), description, quantity)
            curves.append({"name": quantity.capitalize(), "svg": Markup(svg)})
    return curves


def _numbers(metrics):
    if not metrics:
        return None
    names = {"accuracy": "Accuracy", "top5_accuracy": "Top-5 accuracy"} | {
        f"{average}_{name}": f"{average.capitalize()} {name.replace('f1', 'F1')}"
        for average in ("macro", "weighted")
        for name in ("f1", "precision", "recall")
    }
    return [
        {
            "name": name,
            "value": plan.percent(metrics[key]),
            "interval": _interval(metrics[f"{key}_interval"]) if f"{key}_interval" in metrics else "",
        }
        for key, name in names.items()
        if key in metrics
    ]


def _per_class(per_class):
    if per_class is None:
        return None
    rows = per_class.to_dict("records")
    judged = per_class[per_class["support"] > 0]
    weakest = judged.sort_values("f1", kind="stable").head(3) if len(judged) > 3 else judged.head(0)
    return {
        "rows": rows,
        "weakest": [f"{row['class']} ({plan.percent(row['f1'])})" for row in weakest.to_dict("records")],
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
            "share": plan.percent(shares[row, column], 0),
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
        result["overview"] = picture_tools.data_uri(pixels, form="png")
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
            name, value = name.replace("seconds", "time").strip(" _"), _duration(float(value))
            name = "time" if name == "" else name
        if value not in (None, ""):
            rows.append((str(name).replace("_", " "), str(value)))
    return rows


def _duration(seconds):
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours and not minutes:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
    return (f"{hours} h " if hours else "") + f"{minutes} min" + ("" if hours else f" {rest} s")
