"""What the report and the model card say of classified rows, beside what they say of every training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import scipy.special
from markupsafe import Markup
from matplotlib.figure import Figure

from runner.data import examples as of_examples
from runner.report import card as cards
from runner.report import figures
from runner.report.section import Section
from runner.scores import calibration, classification, intervals, operating_point, ranking
from runner.scores.assessment import Assessment
from runner.table_runs import what_if
from runner.tables.load import Tables

from . import model, rivals
from .config import Config

ROWS, CURVES, ASKED = 3, 4, 1000
"""How many rows and columns "what if" shows, and of how many test rows the importance is measured."""


def question(config: Config, examples: Tables) -> str:
    """What the run was to answer."""
    count = len(of_examples.ids(examples.manifest, "train"))
    before = {
        "masked": "learned before to fill in cells that were hidden from it",
        "none": "begins with random weights",
    }.get(model.begins(config), f"began with the run {Path(model.begins(config)).name}")
    if model.begins(config) == "source" and examples.related is not None:
        rows, outcomes = len(examples.related.rows), len(examples.related.outcome_names)
        before = f"learned {outcomes} outcomes of {rows:,} rows of {Path(model.related(config)).name} before"
    return (
        f"How well does a network ({config.backbone}) that {before} tell the {len(examples.classes)} classes "
        f"of {Path(config.data).name} ({config.label}) apart after {count} labelled rows, and what does each "
        "way of using it bring beside boosting?"
    )


def apart(tested: Mapping[str, pd.DataFrame], examples: Tables) -> dict[str, tuple[float, float, float]]:
    """What "staged" has more of the area under the ROC curve than each other method, with its 95 %
    interval.
    """
    own = tested["staged"]
    whole = intervals.units(examples.manifest["group"], own["id"])
    labels = own["label"].cat.codes.to_numpy()
    p = {name: classification.probabilities(one, examples.classes) for name, one in tested.items()}
    return {
        name: tuple(ranking.difference(labels, one, p["staged"], whole))
        for name, one in p.items()
        if name != "staged"
    }


def sections(
    config: Config,
    examples: Tables,
    tested: Mapping[str, pd.DataFrame],
    network: keras.Model,
    assessed: Assessment,
    comparison: pd.DataFrame,
) -> dict[str, Any]:
    """What `page.write` shows of this task: classes, what acting by the answers is worth, what each
    column does.

    tested: of every method, on the test rows, which must be open. Each part is a function, so that one that
    fails costs no other.
    """
    predictions = tested["staged"]
    return {
        "pictures": {},
        "predictions": predictions,
        "per_class": lambda: classification.per_class(
            predictions, examples.classes, examples.manifest["group"]
        ),
        "confusion": lambda: classification.confusion(predictions, examples.classes),
        "sections": [
            lambda: strongest(comparison),
            lambda: decisions(config, examples, predictions, assessed),
            lambda: columns(config, examples, predictions, network, assessed),
        ],
    }


def strongest(comparison: pd.DataFrame) -> Section | None:
    """A remark where something without a network of ours is better on the test, though it may use the
    source.
    """
    table = comparison.set_index("method")["test_roc_auc"]
    best = table.idxmax()
    if best == "staged" or not ("boosting" in best or "regression" in best):
        return None
    return Section(
        "A simpler method is better here",
        f"“{best}” has {table[best]:.3f}, the network handed out {table['staged']:.3f}. It needs no training "
        "of a network: if nothing else speaks for the network, take it.",
    )


def decisions(
    config: Config, examples: Tables, predictions: pd.DataFrame, assessed: Assessment
) -> Section | None:
    """The decision curve, of two classes."""
    if len(examples.classes) != 2:
        return None
    positive = config.positive or examples.classes[1]
    scaled = calibration.scale(predictions, assessed.temperature, examples.classes)
    truth = (scaled["label"].astype(str) == positive).to_numpy()
    curves = operating_point.net_benefit(truth, scaled[f"p:{positive}"].to_numpy())
    ends = operating_point.useful(curves)
    said = (
        "Nowhere is acting by these answers worth more than acting on all or on nobody."
        if ends is None
        else f"For whoever acts from a probability between {ends[0]:.2f} and {ends[1]:.2f} on, these answers "
        "are worth more than acting on all or on nobody."
    )
    return Section(
        "What acting by it is worth",
        f"Who acts from a probability t of {positive} on holds a false alarm for t / (1 - t) times as bad as "
        "a missed case. The net benefit counts in cases found per row without a false alarm (Vickers and "
        f"Elkin 2006), on the test rows. {said}",
        figures=[("Decision curve", _decision_plot(curves, truth.mean()))],
    )


def columns(
    config: Config, examples: Tables, predictions: pd.DataFrame, network: keras.Model, assessed: Assessment
) -> Section:
    """How much each column counts, and how single answers move with it."""
    positive = examples.classes.index(config.positive) if config.positive else len(examples.classes) - 1

    logits = rivals.answering(network)

    def answers(rows: np.ndarray) -> np.ndarray:
        return scipy.special.softmax(logits(rows) / assessed.temperature, axis=1)

    ids = np.sort(np.random.RandomState(0).permutation(predictions["id"].to_numpy())[:ASKED])
    rows, labels = examples.rows[ids], examples.manifest["label"].cat.codes.to_numpy()[ids]
    table = what_if.importance(answers, rows, labels, examples.columns)
    names = [one.name for one in examples.columns]
    drawn: list[tuple[str, Markup]] = [
        ("How far the ROC AUC falls without a column", _importance_plot(table))
    ]
    p = answers(rows)[:, positive]
    chosen = [int(np.argsort(p)[int(share * (len(p) - 1))]) for share in (0.1, 0.5, 0.9)][:ROWS]
    for name in table["column"].head(CURVES):
        place = names.index(name)
        column = examples.columns[place]
        moved = [what_if.moves(answers, rows[one], rows, place, column, positive) for one in chosen]
        now = [
            (what_if.shown(rows[one], place, column), float(rows[one][place]), float(p[one]))
            for one in chosen
        ]
        if len(moved[0]):
            caption = f"{name}: how three answers move"
            drawn.append((caption, _moves_plot(name, column.kind, moved, now, examples.classes[positive])))
    return Section(
        "What the columns do",
        f"The cells of a column are shuffled among {len(rows)} test rows, five times: what the area under "
        "the ROC curve loses is what the network takes from this column alone. Then, of three test rows (of "
        "low, middle and high probability), one cell is given other values and all else stays. Neither says "
        "what would happen if the column were changed in the world.",
        tables=[("Columns, the most important first", table.drop(columns="kind").head(20))],
        figures=drawn,
    )


def _decision_plot(curves: pd.DataFrame, share: float) -> Markup:
    figure = Figure(figsize=(6.2, 3.9), layout="constrained")
    axes = figure.add_subplot()
    shown = curves[curves["threshold"] <= min(0.99, max(0.5, 3 * share))]
    lines = (
        ("net_benefit", "accent", "by these answers"),
        ("act_on_all", "second", "on all"),
        ("act_on_none", "muted", "on nobody"),
    )
    for name, colour, label in lines:
        axes.plot(shown["threshold"], shown[name], color=figures.COLOURS[colour], label=label, linewidth=2)
    top = max(share, shown["net_benefit"].max())
    axes.set_ylim(-0.25 * top, 1.1 * top)
    axes.set_xlabel("acts from this probability on")
    axes.set_ylabel("net benefit", color=figures.COLOURS["muted"])
    return _svg(figure, axes, f"Net benefit over thresholds; {share:.2f} of the rows are cases.", "decision")


def _importance_plot(table: pd.DataFrame) -> Markup:
    some = table.head(12)[::-1]
    figure = Figure(figsize=(6.2, 0.9 + 0.3 * len(some)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(some["column"], some["fall"], color=figures.COLOURS["accent"])
    errors = np.clip([some["fall"] - some["low"], some["high"] - some["fall"]], 0, None)
    axes.errorbar(some["fall"], some["column"], xerr=errors, fmt="none", ecolor=figures.COLOURS["ink"])
    axes.set_xlabel("fall of the ROC AUC")
    said = "; ".join(f"{row.column} {row.fall:.3f}" for row in table.head(5).itertuples())
    return _svg(figure, axes, f"Bar plot of the fall of the ROC AUC without a column: {said}.", "importance")


def _moves_plot(
    name: str, kind: str, moved: list[pd.DataFrame], now: list[tuple[str, float, float]], positive: str
) -> Markup:
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    colours = ("accent", "second", "muted")
    for table, (_, place, p), colour in zip(moved, now, colours, strict=False):
        line = {"linestyle": "none", "marker": "o"} if kind == "category" else {"linewidth": 2}
        axes.plot(table["position"], table["probability"], color=figures.COLOURS[colour], **line)
        if kind != "category" and not np.isnan(place):
            axes.plot(place, p, "o", color=figures.COLOURS[colour], markersize=8)
    axes.set_ylim(-0.03, 1.03)
    if kind == "category":
        axes.set_xticks(moved[0]["position"], moved[0]["value"], rotation=30, ha="right")
    elif kind == "date":
        ends = moved[0].iloc[[0, -1]]
        axes.set_xticks(ends["position"], ends["value"])
    axes.set_xlabel(name, parse_math=False)
    axes.set_ylabel(f"probability of {positive}", color=figures.COLOURS["muted"], parse_math=False)
    ends = [(one["probability"].min(), one["probability"].max()) for one in moved]
    said = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in ends)
    return _svg(figure, axes, f"How three answers move with {name}: {said}.", f"moves of {name}")


def _svg(figure: Figure, axes: Any, said: str, salt: str) -> Markup:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(figures.COLOURS["line"])
    axes.tick_params(colors=figures.COLOURS["muted"], labelsize=11)
    axes.xaxis.label.set(color=figures.COLOURS["muted"], fontsize=12)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=12, labelcolor=figures.COLOURS["ink"])
    return Markup(figures.inline_svg(figure, said, salt))


def card(config: Config, examples: Tables) -> cards.Task:
    """What the model card says of this task."""
    kinds = pd.Series([one.kind for one in examples.columns]).value_counts()
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    weighed = " Classes count alike in the loss." if config.class_weight == "balanced" else ""
    return cards.Task(
        title=Path(config.data).name,
        what="A classifier of rows into",
        prepared=f"columns ({counted}) are scaled and looked up within the network; what is missing has an "
        f"indicator, and a category that was not seen a place of its own.{weighed}".rstrip("."),
        takes="a dict of columns, (batch,) each: numbers as float32 (NaN where missing), categories and "
        'dates as strings ("" where missing),',
        gives=f"float32 logits (batch, {len(examples.classes)})",
        meant="Meant for rows like those it was trained on, of the same columns measured in the same way. "
        "Not meant to decide on a person alone: see the groups, the calibration and the decision curve "
        "first. Not for clinical use.",
        score=("roc_auc", "ROC AUC"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "rows": "support"},
        commands=(
            "predict RUN TABLES --output predictions.csv",
            "evaluate RUN LABELLED_TABLE",
            "export RUN --format savedmodel",
        ),
        numbers={"Accuracy": "accuracy", "Macro F1": "macro_f1"},
        limits=("What a column does to an answer is no cause: a network moves with the sign of an illness.",),
        unit="rows",
        loads="It has layers of this project: import `runner.tables.layers` before "
        "`keras.models.load_model`.",
    )
