"""Parts of the report that say how far its numbers go: calibration, operating point, groups, attention."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.report import figures, sheets, words
from runner.scores.assessment import Assessment

RIGHT, WRONG = 8, 8
"""The most pictures classified right and wrong whose maps are shown."""
GROUPS = 20
"""The most groups in the figure; the table below it has all."""


def calibration(assessment: Assessment) -> dict:
    """What the section "calibration" shows."""
    before, after = assessment.as_trained, assessment.with_temperature
    fitted = not assessment.temperature_note and assessment.temperature != 1
    said = f"Expected calibration error {words.percent(before['expected_calibration_error'])} as trained" + (
        f", {words.percent(after['expected_calibration_error'])} with the temperature" if fitted else ""
    )
    figure = figures.reliability_plot(
        assessment.reliability[0], assessment.reliability[1] if fitted else None
    )
    rows = [
        {
            "name": name,
            "error": words.percent(numbers["expected_calibration_error"]),
            "interval": words.interval(numbers["expected_calibration_error_interval"]),
            "by_chance": words.interval(numbers["if_calibrated_interval"]),
            "likelihood": f"{numbers['negative_log_likelihood']:.3f}",
            "brier": f"{numbers['brier']:.3f}",
        }
        for name, numbers in (("as trained", before), ("scaled", after))[: 1 + fitted]
    ]
    shown = after if fitted else before
    return {
        "temperature": f"{assessment.temperature:.2f}" if fitted else "",
        "note": assessment.temperature_note,
        "rows": rows,
        "within_chance": shown["expected_calibration_error"] <= shown["if_calibrated_interval"][1],
        "svg": Markup(figures.inline_svg(figure, f"Reliability plot. {said}.", "reliability")),
    }


def operating_point(assessment: Assessment) -> dict | None:
    """What the section "operating point" shows; None where there is none."""
    point = assessment.operating_point
    if point is None:
        return None
    names = {"sensitivity": "Sensitivity (recall)", "specificity": "Specificity", "precision": "Precision"}
    rows = [
        {
            "name": name,
            "validation": words.percent(point.validation[key]),
            "test": words.percent(point.test[key]),
            "interval": words.interval(point.test[f"{key}_interval"])
            if point.test[f"{key}_interval"]
            else "",
        }
        for key, name in (names | {"f1": "F1"}).items()
    ]
    areas, drawn = [], []
    if point.curves and point.areas:
        roc, precision_recall = point.curves
        positives = point.areas["positives"]
        share = positives / (positives + point.areas["negatives"])
        for key, name, figure in (
            ("roc_auc", "Area under the ROC curve", figures.roc_curve(roc, point.test)),
            (
                "average_precision",
                "Average precision",
                figures.precision_recall_curve(precision_recall, share, point.test),
            ),
        ):
            value, interval = point.areas[key], point.areas[f"{key}_interval"]
            areas.append(
                {"name": name, "value": f"{value:.3f}", "interval": f"{interval[0]:.3f} to {interval[1]:.3f}"}
            )
            drawn.append(
                {"name": name, "svg": Markup(figures.inline_svg(figure, f"{name} {value:.3f}.", key))}
            )
    return {
        "positive": point.test["positive"],
        "threshold": f"{point.test['threshold']:.3f}",
        "criterion": _criterion(point.criterion),
        "rows": rows,
        "counts": [
            {"name": name, "count": point.test[name.replace(" ", "_")]}
            for name in ("true positives", "false negatives", "false positives", "true negatives")
        ],
        "areas": areas,
        "curves": drawn,
    }


def _criterion(said: str) -> str:
    """What `operating_point.choose` was asked for, in words."""
    if said == "youden":
        return "sensitivity + specificity is highest (Youden's J)"
    if said == "f1":
        return "F1 is highest"
    held, _, share = said.partition(":")
    other = "sensitivity" if held == "specificity" else "specificity"
    reached = f"{held} of at least {words.percent(float(share))}"
    return f"{other} is highest of all thresholds that give a {reached} there, or come nearest to it"


def groups(assessment: Assessment, accuracy: float) -> dict | None:
    """What the section "groups" shows; `accuracy` (0..1) is that of all test examples."""
    table, gap = assessment.groups, assessment.gap
    if table is None or gap is None:
        return None
    columns = {
        "accuracy": "Accuracy",
        "macro_f1": "Macro F1",
        "macro_precision": "Macro precision",
        "macro_recall": "Macro recall",
        "weighted_f1": "Weighted F1",
        "expected_calibration_error": "Calibration error",
    }
    rows = [
        {
            "group": row["group"],
            "examples": row["examples"],
            "few": row["few"],
            "cells": [
                {
                    "value": words.percent(row[name]),
                    "interval": words.interval((row[f"{name}_low"], row[f"{name}_high"]))
                    if pd.notna(row[f"{name}_low"])
                    else "",
                }
                for name in columns
            ],
        }
        for row in table.to_dict("records")
    ]
    figure = figures.group_bars(table, accuracy, GROUPS)
    worst, best = table.iloc[0], table.iloc[-1]
    said = f"Accuracy by group, from {worst['group']} {words.percent(worst['accuracy'])} to {best['group']} "
    svg = figures.inline_svg(figure, f"{said}{words.percent(best['accuracy'])}.", "groups")
    return {
        "columns": list(columns.values()),
        "rows": rows,
        "gaps": [
            _gap(name, gap[key])
            for key, name in (("accuracy", "accuracy"), ("macro_f1", "macro F1"))
            if gap[key]
        ],
        "compared": gap["groups"],
        "too_small": gap["too_small"],
        "without": gap["without_group"],
        "svg": Markup(svg),
    }


def _gap(name: str, gap: dict) -> dict:
    """One sentence about the largest gap, and whether shuffled groups would show it as well."""
    low, high = gap["gap_interval"]
    sentence = (
        f"Largest gap in {name}: {100 * gap['gap']:.1f} points ({100 * low:.1f} to {100 * high:.1f}), from "
        f"{words.percent(gap['lowest_value'])} in “{gap['lowest']}” to {words.percent(gap['highest_value'])} "
        f"in “{gap['highest']}”. "
    )
    if gap["p_value"] <= 0.05:
        return {
            "kind": "bad",
            "sentence": sentence
            + f"Shuffled groups show as much in {words.percent(gap['p_value'])} of the cases: "
            "more than chance.",
        }
    return {
        "kind": "told",
        "sentence": sentence
        + f"Shuffled groups show as much in {words.percent(gap['p_value'], 0)} of the cases: "
        "chance alone may explain it.",
    }


def right_ids(predictions: pd.DataFrame, classes: Sequence[str]) -> list[int]:
    """Ids of pictures classified right to show: of each class in turn the one of middling confidence."""
    right = predictions[predictions["label"].astype(str) == predictions["prediction"].astype(str)]
    found = []
    for name in classes:
        ranked = right[right["label"].astype(str) == str(name)].sort_values("confidence", kind="stable")
        if len(ranked):
            found.append(int(ranked["id"].iloc[len(ranked) // 2]))
    # With more classes than places, those shown are spread evenly over all of them.
    places = np.linspace(0, len(found) - 1, min(RIGHT, len(found))).round().astype(int)
    return [found[place] for place in places]


def attention(
    predictions: pd.DataFrame,
    overlays: Mapping[int, np.ndarray | str] | None,
    pictures: Mapping[int, np.ndarray],
) -> dict | None:
    """What the section "attention" shows: {"right": pictures, "wrong": pictures}, each in the table's order.

    overlays: id -> uint8 (h, w, 3), of `gradcam.overlay`, or why there is none, which stands in its place.
    """
    if not overlays:
        return None
    shown: dict[str, list[dict]] = {"right": [], "wrong": []}
    for row in predictions.to_dict("records"):
        if row["id"] in overlays and row["id"] in pictures:
            kind = "right" if str(row["label"]) == str(row["prediction"]) else "wrong"
            over = overlays[row["id"]]
            shown[kind].append(
                {
                    "uri": sheets.data_uri(pictures[row["id"]], 160),
                    "map": None if isinstance(over, str) else sheets.data_uri(over, 160),
                    "why_not": over if isinstance(over, str) else "",
                    "truth": row["label"],
                    "prediction": row["prediction"],
                    "confidence": words.percent(row["confidence"], 0),
                }
            )
    return shown
