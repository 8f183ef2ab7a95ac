"""A page that puts finished runs side by side."""

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from runner.report import figures, pages, words


def write(
    path: str | Path,
    *,
    template: str,
    score: str,
    rows: list[dict[str, Any]],
    settings: list[tuple[str, list[str]]],
    methods: list[tuple[str, list[float | None]]],
    numbers: list[tuple[str, list[float | None]]],
    cost: list[tuple[str, list[str]]],
) -> Path:
    """Write the page to `path`, whole or not at all, and return the path.

    Args:
        template, score: what made the runs, and the number, 0..1, that they are compared by, in words.
        rows: one per run, the first is what the others are compared with: run, path, method (texts), value,
            low, high (the score on the test and its 95 % interval, NaN where unknown), examples (or None),
            difference (None, or number, note (texts), value, low, high (percentage points), verdict ("above",
            "below" or "no difference"), examples), why_not (why there is none, or "").
        settings: (name, a text per run) of those that differ.
        methods: (name, a score per run or None) of all methods that the runs compared.
        numbers: (name, a number per run or None) of the test.
        cost: (name, a text per run).
    """
    names = [row["run"] for row in rows]
    table = pd.DataFrame(rows).rename(columns={"run": "method", "method": "of"})
    said = "; ".join(f"{row['run']} {words.percent(row['value'])}" for row in rows)
    bars = figures.inline_svg(
        figures.comparison_bars(table, 0, "value"), f"Bar plot of test {score}: {said}.", "runs"
    )
    return pages.write(
        path,
        "compare.html.j2",
        filters={"points": points, "explain": explain, "plain": _plain},
        title=f"{template.replace('_', ' ').capitalize()}: {len(rows)} runs",
        score=score,
        names=names,
        rows=rows,
        bars=Markup(bars),
        settings=settings,
        methods=methods if len(methods) > 1 else [],
        numbers=numbers,
        cost=cost,
        date=datetime.date.today().isoformat(),
    )


def points(difference: dict[str, Any] | None) -> str:
    """A difference with its interval in percentage points: "+2.1 (+0.3 to +3.9)"; "" for None."""
    if difference is None:
        return ""
    return f"{difference['value']:+.1f} ({difference['low']:+.1f} to {difference['high']:+.1f})"


def explain(difference: dict[str, Any]) -> str:
    """One or two sentences on what a paired difference says."""
    number, value = difference["number"], abs(difference["value"])
    on = f"on the same {difference['examples']:,} test examples"
    if difference["verdict"] == "no difference":
        sentence = f"no difference in {number} can be told from chance {on}"
    else:
        sentence = f"{number} is {value:.1f} points {difference['verdict']} that of the first run, {on}"
    sentence += f" (95 % interval {difference['low']:+.1f} to {difference['high']:+.1f})."
    sentence = sentence[0].upper() + sentence[1:]
    return f"{sentence} {difference['note']}".rstrip()


def _plain(value: float | None) -> str:
    """A number of any size: whole ones as they are, others with four digits."""
    if value is None or value != value:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
