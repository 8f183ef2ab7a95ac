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


def comparison_bars(comparison: pd.DataFrame, highlight: int = -1) -> Figure:
    """Plot one horizontal bar per method: test_accuracy (0..1) with its interval low..high.

    The columns are those of `report.write`. The row at position `highlight` is
    drawn in colour, the others in grey.
    """
    names = [
        "\n".join(textwrap.wrap(str(name), 22, max_lines=3, placeholder="…")) for name in comparison["method"]
    ]
    figure, axes = _axes(width=6.2, height=1.0 + 0.75 * len(comparison))
    values = comparison["test_accuracy"].to_numpy(float)
    places = np.arange(len(comparison))[::-1]
    colours = [COLOURS["line"]] * len(values)
    colours[highlight] = COLOURS["accent"]
    axes.barh(places, values, height=0.55, color=colours, zorder=2)
    ends = values
    if {"low", "high"} <= set(comparison.columns):
        low, high = comparison["low"].to_numpy(float), comparison["high"].to_numpy(float)
        axes.hlines(places, low, high, color=COLOURS["ink"], linewidth=1.6, zorder=3)
        for end in (low, high):
            axes.vlines(end, places - 0.12, places + 0.12, color=COLOURS["ink"], linewidth=1.6, zorder=3)
        ends = np.fmax(high, values)
    for place, value, end in zip(places, values, ends, strict=True):
        axes.text(end + 0.015, place, f"{100 * value:.1f} %", va="center", fontsize=13, color=COLOURS["ink"])
    axes.set_yticks(places, names, parse_math=False, fontsize=12, color=COLOURS["ink"])
    axes.set_xlim(0, 1.16)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
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
    view = re.search(r'viewBox="([^"]*)"', svg).group(1)
    return (
        f'<svg viewBox="{view}" role="img" aria-label="{escape(description)}"'
        + svg[svg.index(">") :].rstrip()
    )


def _with_variables(style):
    style = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--sans)", style)
    for name, colour in COLOURS.items():
        style = style.replace(colour, f"var(--{name})")
    return style


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
