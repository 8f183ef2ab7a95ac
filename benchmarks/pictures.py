"""The pictures of two READMEs, drawn from the tables that benchmarks write: `--picture FILE.svg` of each."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from runner import atomic
from runner.report.figures import COLOURS


def lines(wide: pd.DataFrame, methods: Sequence[str], path: Path) -> None:
    """Areas over the numbers of rows, mean and standard deviation over seeds.

    wide: index (rows, seed), a column per method. methods: what is drawn, ours first.
    """
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    ax = figure.subplots()
    styles = ("o-", "s--", "^:", "v-.")
    for name, style in zip(methods, styles, strict=True):
        by = wide[name].groupby(level="rows")
        colour = COLOURS["accent"] if name == methods[0] else None
        ax.errorbar(
            by.mean().index, by.mean(), by.std(), fmt=style, markersize=4, capsize=2, label=name, color=colour
        )
    ax.set(xscale="log", xlabel="labelled rows", ylabel="ROC AUC on the test")
    ax.set_xticks(
        sorted(wide.index.unique("rows")), [f"{one:,}" for one in sorted(wide.index.unique("rows"))]
    )
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    _save(figure, path)


def bars(table: pd.DataFrame, methods: Sequence[str], path: Path) -> None:
    """Errors of effects by setting, a bar per method, mean and standard deviation over worlds.

    table: columns world, rows, move, method, root_pehe. methods: what is drawn, ours last.
    """
    settings = [(rows, move) for rows in sorted(table["rows"].unique()) for move in table["move"].unique()]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    ax = figure.subplots()
    greys = [str(0.85 - 0.15 * number) for number in range(len(methods) - 1)]
    for number, (name, colour) in enumerate(zip(methods, [*greys, COLOURS["accent"]], strict=True)):
        of = table[table["method"] == name].groupby(["rows", "move"])["root_pehe"]
        places = [place + number / (len(methods) + 1) for place in range(len(settings))]
        means, spreads = ([getattr(of, by)()[one] for one in settings] for by in ("mean", "std"))
        ax.bar(places, means, 1 / (len(methods) + 1), yerr=spreads, label=name, color=colour, capsize=2)
    middle = (len(methods) - 1) / 2 / (len(methods) + 1)
    ax.set_xticks(
        [place + middle for place in range(len(settings))],
        [f"{rows} rows,\nmoved {'a little' if move == 'little' else move}" for rows, move in settings],
    )
    ax.set_ylabel("√PEHE")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        atomic.write(path, lambda made: figure.savefig(made, format="svg", metadata={"Date": None}))
