"""The plots of a run as Matplotlib figures, and a figure as SVG for a page with a light and a dark scheme."""

import io
import re
import textwrap
import warnings

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# The light scheme. In the SVG each becomes the CSS variable of that name, which the page sets per scheme.
COLOURS = {
    "ink": "#1d2b33",
    "muted": "#5d6c75",
    "line": "#cfd8dc",
    "accent": "#0b7189",
    "second": "#c2611f",
    "shade": "#eef3f5",
}


def learning_curves(history: pd.DataFrame, quantity: str) -> Figure:
    """Plot `quantity` ("loss" or "accuracy") of training and validation over the epochs, with the stages.

    `history` has columns epoch (1, 2, ...), stage, `quantity` and val_`quantity`; a missing one is left out.
    """
    figure, axes = _axes(width=6.2, height=3.9)
    epochs = history["epoch"].to_numpy(float)
    change = (
        (history["stage"] != history["stage"].shift()).cumsum()
        if "stage" in history
        else pd.Series(0, history.index)
    )
    spans = [
        (
            str(part["stage"].iloc[0]) if "stage" in part else "",
            part["epoch"].min() - 0.5,
            part["epoch"].max() + 0.5,
        )
        for _, part in history.groupby(change.to_numpy())
    ]
    left, right = spans[0][1], spans[-1][2]
    previous_end = -np.inf
    for number, (name, start, end) in enumerate(spans):
        if number % 2 == 0:
            axes.axvspan(start, end, color=COLOURS["shade"], zorder=0, linewidth=0)
        if number:
            axes.axvline(start, color=COLOURS["line"], linewidth=1, zorder=1)
        # 62 letters fit across the axes; a stage too narrow for its name has it shortened or left out.
        letters = int(62 * (end - start) / (right - left)) - 1
        label = name if len(name) <= letters else name[: max(letters - 1, 0)] + "…" if letters >= 3 else ""
        if start >= previous_end and label:
            axes.text(
                (start + end) / 2,
                1.02,
                label,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=11,
                color=COLOURS["muted"],
                parse_math=False,
            )
    marker = "o" if len(epochs) <= 40 else None
    curves = ((quantity, "training", "second", "--"), (f"val_{quantity}", "validation", "accent", "-"))
    for column, label, colour, style in curves:
        if column in history and history[column].notna().any():
            axes.plot(
                epochs,
                history[column].to_numpy(float),
                style,
                color=COLOURS[colour],
                label=label,
                linewidth=2,
                marker=marker,
                markersize=3.5,
                zorder=3,
            )
    axes.set_xlim(left, right)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9, min_n_ticks=1))
    if quantity == "accuracy":
        axes.set_ylim(top=1.0 + 1e-9)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(axis="y", color=COLOURS["line"], linewidth=0.8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=12, labelcolor=COLOURS["ink"], loc="best")
    return figure


def range_test(curve: pd.DataFrame, rate: float) -> Figure:
    """Plot the loss of a range test over the learning rate, and the rate that was taken.

    curve: columns learning_rate, loss, smoothed.
    """
    figure, axes = _axes(width=6.2, height=3.4)
    rates, smooth = curve["learning_rate"].to_numpy(float), curve["smoothed"].to_numpy(float)
    axes.plot(rates, curve["loss"].to_numpy(float), color=COLOURS["line"], linewidth=1, zorder=2)
    axes.plot(rates, smooth, color=COLOURS["accent"], linewidth=2, zorder=3)
    axes.axvline(rate, color=COLOURS["second"], linewidth=1.5, linestyle="--", zorder=4)
    axes.set_xscale("log")
    # The end, where the loss is lost, would press all else to a line.
    low, start = float(smooth.min()), float(smooth[: max(1, len(smooth) // 4)].max())
    axes.set_ylim(low - 0.2 * (start - low), start + 0.4 * (start - low) + 1e-6)
    axes.set_xlabel("learning rate")
    axes.grid(axis="y", color=COLOURS["line"], linewidth=0.8)
    return figure


def comparison_bars(comparison: pd.DataFrame, highlight: int = -1, column: str = "test_accuracy") -> Figure:
    """Plot one horizontal bar per method: a column of shares (0..1) with its interval low..high.

    The columns are those of `report.write`. The row at position `highlight` is
    drawn in colour, the others in grey.
    """
    names = [
        "\n".join(textwrap.wrap(str(name), 22, max_lines=3, placeholder="…")) for name in comparison["method"]
    ]
    figure, axes = _axes(width=6.2, height=1.0 + 0.75 * len(comparison))
    values = comparison[column].to_numpy(float)
    places = np.arange(len(comparison))[::-1]
    colours = [COLOURS["line"]] * len(values)
    colours[highlight] = COLOURS["accent"]
    axes.barh(places, values, height=0.55, color=colours, zorder=2)
    ends = np.fmax(values, 0)
    if {"low", "high"} <= set(comparison.columns):
        low, high = comparison["low"].to_numpy(float), comparison["high"].to_numpy(float)
        axes.hlines(places, low, high, color=COLOURS["ink"], linewidth=1.6, zorder=3)
        for end in (low, high):
            axes.vlines(end, places - 0.12, places + 0.12, color=COLOURS["ink"], linewidth=1.6, zorder=3)
        ends = np.fmax(np.fmax(high, values), 0)
    for place, value, end in zip(places, values, ends, strict=True):
        axes.text(end + 0.015, place, f"{100 * value:.1f} %", va="center", fontsize=13, color=COLOURS["ink"])
    axes.set_yticks(places, names, parse_math=False, fontsize=12, color=COLOURS["ink"])
    # A number such as R squared can lie below 0; far below, its bar is cut off and its number stands there.
    least = max(-1.0, float(np.nanmin(values, initial=0.0)))
    axes.set_xlim(1.16 * least, 1.16)
    axes.set_xticks([*([-1.0, -0.5] if least < -0.25 else []), 0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(axis="x", color=COLOURS["line"], linewidth=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)
    return figure


def reliability_plot(before: pd.DataFrame, after: pd.DataFrame | None = None) -> Figure:
    """Plot accuracy over confidence per bin with 95 % intervals, both 0..1, and the diagonal of calibration.

    `before` and `after` a temperature are tables of `calibration.reliability`. Under the diagonal a network
    is too confident.
    """
    figure, axes = _square_axes("confidence", "accuracy")
    axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=":", zorder=2)
    tables = [(before, "as trained", "second", "s")]
    if after is not None:
        tables.append((after, "with temperature", "accent", "o"))
    for table, label, colour, marker in tables:
        axes.errorbar(
            table["confidence"],
            table["accuracy"],
            yerr=[table["accuracy"] - table["accuracy_low"], table["accuracy_high"] - table["accuracy"]],
            fmt=marker,
            color=COLOURS[colour],
            markersize=5,
            elinewidth=1.2,
            label=label,
            zorder=3,
        )
    axes.legend(frameon=False, fontsize=12, labelcolor=COLOURS["ink"], loc="best")
    return figure


def roc_curve(roc: pd.DataFrame, point: dict | None = None) -> Figure:
    """Plot the ROC curve of `operating_point.curves`; `point`, of `operating_point.at`, is marked."""
    figure, axes = _square_axes("false positive rate (1 - specificity)", "true positive rate (sensitivity)")
    axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=":", zorder=2)
    axes.plot(
        roc["false_positive_rate"],
        roc["true_positive_rate"],
        color=COLOURS["accent"],
        linewidth=2,
        zorder=3,
    )
    if point is not None and None not in (point["specificity"], point["sensitivity"]):
        _mark(axes, 1 - point["specificity"], point["sensitivity"], point["threshold"])
    return figure


def precision_recall_curve(precision_recall: pd.DataFrame, share: float, point: dict | None = None) -> Figure:
    """Plot the precision-recall curve of `operating_point.curves`; `point` as in `roc_curve`.

    `share` (0..1) of the examples are positive: the precision of guessing, drawn as a dotted line.
    """
    figure, axes = _square_axes("recall (sensitivity)", "precision")
    axes.axhline(share, color=COLOURS["muted"], linewidth=1, linestyle=":", zorder=2)
    axes.plot(
        precision_recall["recall"],
        precision_recall["precision"],
        color=COLOURS["accent"],
        linewidth=2,
        drawstyle="steps-pre",
        zorder=3,
    )
    if point is not None and None not in (point["precision"], point["sensitivity"]):
        _mark(axes, point["sensitivity"], point["precision"], point["threshold"])
    return figure


def group_bars(groups: pd.DataFrame, accuracy: float, most: int = 20) -> Figure:
    """Plot the accuracy of each group with its interval, lowest first, and that of all examples as a line.

    `groups` is the table of `groups.per_group`, `accuracy` is 0..1. Of more than `most` groups the lowest and
    the highest are drawn, half each. Groups of few examples are grey.
    """
    left_out = max(0, len(groups) - most)
    shown = groups
    if left_out:
        shown = pd.concat([groups.head((most + 1) // 2), groups.tail(most // 2)])
    figure, axes = _axes(width=6.2, height=1.0 + 0.32 * (len(shown) + bool(left_out)))
    places = np.arange(len(shown), dtype=float)
    labels = [
        f"{name if len(str(name)) <= 26 else str(name)[:25] + '…'} ({examples})"
        for name, examples in zip(shown["group"], shown["examples"], strict=True)
    ]
    ticks, texts = places, labels
    if left_out:  # a free row where the middle ones would be
        places[(most + 1) // 2 :] += 1
        ticks = np.insert(places, (most + 1) // 2, (most + 1) // 2)
        texts = labels.copy()
        texts.insert((most + 1) // 2, f"… {left_out} more …")
    for place, row in zip(places, shown.itertuples(), strict=True):
        colour = COLOURS["muted"] if row.few else COLOURS["accent"]
        axes.hlines(place, row.accuracy_low, row.accuracy_high, color=colour, linewidth=2, zorder=3)
        axes.plot(row.accuracy, place, "o", color=colour, markersize=6, zorder=4)
    axes.axvline(accuracy, color=COLOURS["second"], linewidth=1.4, linestyle="--", zorder=2)
    axes.text(
        accuracy,
        1.01,
        f"all: {100 * accuracy:.1f} %",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize=11,
        color=COLOURS["muted"],
    )
    axes.set_yticks(ticks, texts, parse_math=False, fontsize=12, color=COLOURS["ink"])
    axes.set_ylim(ticks[-1] + 0.6, -0.6)
    axes.set_xlim(0, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel("accuracy (examples in brackets)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(axis="x", color=COLOURS["line"], linewidth=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)
    return figure


def inline_svg(figure: Figure, description: str, salt: str) -> str:
    """Return the figure as one `<svg>` element for an HTML page: text stays text and takes the page's font.

    `description` is what a screen reader says; `salt` must differ between the figures of a
    page: ids come from it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font"
        )  # the browser has its own fonts
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None},
            bbox_inches="tight",
            pad_inches=0.03,
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    # HTML declares no name spaces, and Matplotlib's group ids ("axes_1") would stand twice on a page.
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'style="[^"]*"', lambda style: _with_variables(style.group()), svg)
    _, view, _ = re.split(r'viewBox="([^"]*)"', svg, maxsplit=1)
    return (
        f'<svg viewBox="{view}" role="img" aria-label="{escape(description)}"'
        + svg[svg.index(">") :].rstrip()
    )


def _with_variables(style):
    style = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--sans)", style)
    for name, colour in COLOURS.items():
        style = style.replace(colour, f"var(--{name})")
    return style


def _square_axes(across, up):
    figure, axes = _axes(width=4.6, height=4.6)
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel(across)
    axes.set_ylabel(up, color=COLOURS["muted"], fontsize=12)
    axes.grid(color=COLOURS["line"], linewidth=0.8, zorder=0)
    return figure, axes


def _mark(axes, across, up, threshold):
    axes.plot(across, up, "o", color=COLOURS["second"], markersize=9, zorder=4, clip_on=False)
    # To the inside of the plot, whichever side of the middle the point lies on.
    axes.annotate(
        f"threshold {threshold:.2f}",
        (across, up),
        xytext=(12, -14) if across < 0.5 else (-12, -14),
        textcoords="offset points",
        ha="left" if across < 0.5 else "right",
        va="top",
        fontsize=12,
        color=COLOURS["ink"],
    )


def _axes(width, height):
    # No pyplot: its list of current figures is global and grows over the runs of a notebook.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(COLOURS["line"])
    axes.tick_params(colors=COLOURS["muted"], labelsize=12)
    axes.xaxis.label.set(color=COLOURS["muted"], fontsize=12)
    return figure, axes
