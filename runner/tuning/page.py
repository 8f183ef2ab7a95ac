"""What a study found: for the terminal, and on a page, tuning.html."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console

from runner import fields
from runner.report import compare as sentences
from runner.report import figures, pages, settings, words
from runner.runs import compare, folder, pairing
from runner.runs.compare import Run
from runner.tuning import space as spaces

WIDTH = 100
"""Columns of the terminal that are used at most."""


def write(
    place: Path,
    job: Any,
    table: pd.DataFrame,
    best: Any,
    chosen: Any,
    tested: Sequence[Path],
    why_not: str = "",
) -> Path:
    """Print the result and write `place`/tuning.html, whose path is returned.

    job: a `search.Job`; table: of `search.table`; best: the Optuna trial; chosen: its Config. tested: the run
    folders of the default and the best, or none, and why_not says in a sentence why.
    """
    default, found = (settings.flat(fields.to_dict(one)) for one in (job.config, chosen))
    changed = [
        (name, _shown(default.get(name)), _shown(value))
        for name, value in found.items()
        if default.get(name) != value
    ]
    console = Console(highlight=False)
    console = Console(highlight=False, width=min(WIDTH, console.width if console.is_terminal else WIDTH))
    shown = compare.table("settings of the best", ["", "default", f"trial {best.number}"])
    for row in changed:
        shown.add_row(*row)
    console.print(shown)
    result = _tested(tested, best.number) if tested else {}
    if result:
        scores = compare.table(
            f"\ntest {result['score']}, opened once for each, after {len(table)} trials on validation",
            ["run", "validation", "test", "95 % interval", "points to the default"],
        )
        for row in result["rows"]:
            scores.add_row(
                *(row["run"], words.percent(row["validation"]), words.percent(row["value"])),
                *(words.interval((row["low"], row["high"])), sentences.points(row["difference"])),
            )
        console.print(scores)
        console.print(result["sentence"], markup=False)
        if result["note"]:
            console.print(result["note"], markup=False)
    name = job.template.rpartition(".")[2]
    path = pages.write(
        place / "tuning.html",
        "tuning.html.j2",
        filters={"points": sentences.points},
        title=f"{name.replace('_', ' ').capitalize()}: a search of {len(table)} trials",
        job=job,
        ranges=[(path, spaces.in_words(found)) for path, found in job.space.ranges.items()],
        best=best,
        changed=changed,
        result=result,
        why_not=why_not,
        trials=_rows(table, job),
        heads=[name for name in table if name not in ("reason", "last")],
        failed=table.loc[table["reason"] != "", ["trial", "reason"]].to_dict("records"),
        curve=Markup(figures.inline_svg(_curve(table, job), _described(table, job, best), "search")),
        date=datetime.date.today().isoformat(),
    )
    print(f"page: {path}")
    return path


def _shown(value: Any) -> str:
    """A setting as people read it; best.json has all digits."""
    if value is None:
        return "None"
    return f"{value:.4g}" if isinstance(value, float) else settings.shown(value)


def default_kept(tested: Sequence[Path]) -> bool:
    """Whether the default has more of the score on validation than what the search found; tested: of both."""
    rows = [_row(compare.read(one, one.name, folder.read_complete(one))) for one in tested]
    return rows[1]["validation"] < rows[0]["validation"]


def _tested(folders: Sequence[Path], number: int) -> dict[str, Any]:
    """The test scores of both, and the paired difference; of one folder twice there is none."""
    names = ("default", f"trial {number}")
    runs = [
        compare.read(path, name, folder.read_complete(path))
        for path, name in zip(folders, names, strict=True)
    ]
    score = runs[0].score
    rows = [_row(run) for run in runs]
    found = pairing.of_runs(runs[0].path, runs[1].path, score)
    difference = compare.in_points(found) if isinstance(found, pairing.Paired) else None
    rows[1]["difference"] = difference
    sentence = f"no paired difference: {found}." if difference is None else sentences.explain(difference)
    worse = rows[1]["validation"] < rows[0]["validation"]
    note = ""
    if worse:
        note = f"On validation the default has more {pairing.words(score)}: best.json holds the default."
    sentence = sentence.replace("that of the first run", "that of the default")
    return {
        "score": pairing.words(score),
        "rows": rows,
        "sentence": sentence.replace("the first run alone", "the default alone"),
        "note": note,
    }


def _row(run: Run) -> dict[str, Any]:
    method = run.method
    return {
        "run": run.name,
        "path": str(run.path),
        "validation": float(method.get(f"val_{run.score}", np.nan)),
        "value": float(method[f"test_{run.score}"]),
        "low": float(method.get("low", np.nan)),
        "high": float(method.get("high", np.nan)),
        "examples": run.metrics.get("test", {}).get("examples"),
        "difference": None,
    }


def _rows(table: pd.DataFrame, job: Any) -> list[list[str]]:
    """The trials as texts, the best first, then those that were stopped and those that failed."""
    ascending = job.direction == "minimize"
    ordered = table.sort_values([job.objective, "trial"], ascending=[ascending, True], na_position="last")

    def text(value: Any) -> str:
        if value is None or value != value:
            return "–"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    columns = [name for name in table if name not in ("reason", "last")]
    return [[text(row[name]) for name in columns] for row in ordered.to_dict("records")]


def _so_far(table: pd.DataFrame, job: Any) -> pd.Series:
    """The best value after each trial, NaN before the first that came to its end."""
    values = table[job.objective]
    return values.cummin().ffill() if job.direction == "minimize" else values.cummax().ffill()


def _curve(table: pd.DataFrame, job: Any) -> Figure:
    """Each trial's value, those that were stopped early at their last, and the best so far."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    stopped = table[table["state"] == "pruned"]
    axes.plot(table["trial"], _so_far(table, job), drawstyle="steps-post", color=figures.COLOURS["ink"])
    axes.scatter(
        table["trial"], table[job.objective], s=30, color=figures.COLOURS["accent"], label="complete"
    )
    axes.scatter(
        stopped["trial"],
        stopped["last"],
        s=30,
        marker="x",
        color=figures.COLOURS["second"],
        label="stopped early",
    )
    axes.set_xlabel("trial")
    axes.set_ylabel(job.objective)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(figures.COLOURS["line"])
    axes.legend(frameon=False)
    return figure


def _described(table: pd.DataFrame, job: Any, best: Any) -> str:
    return (
        f"{job.objective} of {len(table)} trials in turn, and the best so far: {best.value:.4f} of trial "
        f"{best.number}."
    )
