"""Runs side by side: which settings differ, what each reached, whether the difference is one, what it cost.

    python -m runner compare runs/image_classification/one runs/image_classification/other

Reads run folders, old ones as well, and no picture: what the runs wrote of their test examples is enough.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from runner import atomic
from runner.errors import InputError
from runner.report import compare as page
from runner.report import settings, words
from runner.runs import folder, pairing, template

WIDTH = 100
"""Columns of the terminal that are used at most."""


@dataclass(frozen=True)
class Run:
    """What is compared of a complete run."""

    path: Path
    name: str
    """The folder's, or where two are called alike the path."""
    template: str
    """The package, "" where none that is here made it."""
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    """The whole metrics.json."""
    comparison: pd.DataFrame
    """comparison.csv: a row per method."""

    @property
    def score(self) -> str:
        """What methods are compared by, such as "accuracy": the first test number of comparison.csv."""
        return next(name for name in self.comparison.columns if name.startswith("test_"))[len("test_") :]

    @property
    def method(self) -> dict[str, Any]:
        """The row of comparison.csv whose network the run saved."""
        chosen = str(self.metrics.get("method", "staged"))
        rows = self.comparison[self.comparison["method"].astype(str) == chosen]
        return (rows if len(rows) else self.comparison.tail(1)).to_dict("records")[0]


def run(folders: Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Print the comparison of two or more complete runs, write it as `output`/compare.html and return that.

    output: a folder, made where it is missing; None is the one that holds the first run. Differences are to
    the first run. Raises InputError for fewer than two folders, one that is given twice or is no complete
    run, runs of other templates or scores, and where the page is there already.
    """
    first = Path(os.path.expanduser(folders[0]))
    place = atomic.place(output, "--output") if output else first.absolute().parent
    target = place / "compare.html"
    if target.exists():
        raise InputError(f"{target} exists; give --output another folder, or move it away.")
    if place.exists() and not place.is_dir():
        raise InputError(f"--output {place} is a file; give a folder.")
    runs = read_all(folders)
    tables = compare(runs)
    written = page.write(target, **tables)
    _print(tables)
    print(f"page: {written}")
    return written


def read_all(folders: Sequence[str | Path]) -> list[Run]:
    """The runs in these folders; raises InputError where they cannot be compared."""
    paths = [Path(os.path.expanduser(one)) for one in folders]
    different = len({path.resolve() for path in paths})
    if different < max(2, len(paths)):
        raise InputError(
            f"received {len(paths)} folders, {different} different; give two or more runs, each once."
        )
    configs = [folder.read_complete(path) for path in paths]
    names = [path.resolve().name for path in paths]
    runs = [
        read(path, name if names.count(name) == 1 else str(path), config)
        for path, name, config in zip(paths, names, configs, strict=True)
    ]
    first = runs[0]
    for one in runs[1:]:
        # A project that was copied out calls the same template by a name of its own.
        if one.template != first.template and set(one.config) != set(first.config):
            raise InputError(
                f"{first.path} is a run of {first.template or 'a template that is not here'}, {one.path} of "
                f"{one.template or 'one that is not here'}; give runs of one template."
            )
        if one.score != first.score:
            scores = [pairing.words(run.score) for run in (first, one)]
            raise InputError(
                f"{first.path} is judged by {scores[0]}, {one.path} by {scores[1]}; give runs of one score."
            )
    return runs


def read(path: Path, name: str, config: dict[str, Any]) -> Run:
    """A complete run. name: what it is called here. config: its config.json, as `folder.read_complete` gives
    it. Raises InputError for tables that cannot be read, and for a run without a test.
    """
    metrics = folder.read_metrics(path)
    environment = folder.read_json(path / "environment.json") if (path / "environment.json").is_file() else {}
    table = pairing.read_csv(path / "comparison.csv")
    scores = [column for column in table if column.startswith("test_")]
    numbers = [*scores, *(name for name in ("low", "high") if name in table)]
    numeric = all(pd.api.types.is_numeric_dtype(table[name]) for name in numbers)
    if "validation" in metrics:
        raise InputError(f"{path} stopped at validation (--no-test); give runs that were judged on the test.")
    if "method" not in table or not scores or table.empty or not numeric:
        raise InputError(f"{path / 'comparison.csv'} names no method and its test score; give another run.")
    try:
        package = template.find(path, config)
    except InputError:  # made elsewhere: its tables are enough
        package = template.recorded_name(path)
    return Run(path, name, package, config, environment, metrics, table)


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page and the terminal show: `runner.report.compare.write` has the meaning of each."""
    first, score = runs[0], runs[0].score
    rows = []
    for one in runs:
        method = one.method
        found = pairing.of_runs(first.path, one.path, score) if one is not first else None
        rows.append(
            {
                "run": one.name,
                "path": str(one.path),
                "method": str(method["method"]),
                "value": float(method[f"test_{score}"]),
                "low": float(method["low"]) if "low" in method else np.nan,
                "high": float(method["high"]) if "high" in method else np.nan,
                "examples": one.metrics.get("test", {}).get("examples"),
                "difference": in_points(found) if isinstance(found, pairing.Paired) else None,
                "why_not": found if isinstance(found, str) else "",
            }
        )
    return {
        "template": (first.template or first.path.resolve().parent.name).rpartition(".")[2],
        "score": pairing.words(score),
        "rows": rows,
        "settings": differing(runs),
        "methods": _by_method(runs),
        "numbers": _numbers(runs),
        "cost": _cost(runs),
    }


def in_points(found: pairing.Paired) -> dict[str, Any]:
    """A paired difference as `runner.report.compare` shows it, in percentage points."""
    difference = found.difference
    return {
        "number": found.number,
        "value": 100 * difference.value,
        "low": 100 * difference.low,
        "high": 100 * difference.high,
        "verdict": difference.verdict,
        "examples": difference.examples,
        "note": found.note,
    }


def differing(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The settings that differ, as flags and a value for each run; "–" where a run does not have it."""
    flat = [settings.flat(one.config) for one in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    missing = object()
    return [
        (name, ["–" if name not in one else settings.shown(one[name]) for one in flat])
        for name in names
        if name != "run_dir" and len({json.dumps(one.get(name, str(missing))) for one in flat}) > 1
    ]


def _by_method(runs: Sequence[Run]) -> list[tuple[str, list[float | None]]]:
    """Every method's test score in each run."""
    scores = [
        dict(zip(one.comparison["method"].astype(str), one.comparison[f"test_{one.score}"], strict=True))
        for one in runs
    ]
    names = dict.fromkeys(name for one in scores for name in one)
    return [(name, [one.get(name) for one in scores]) for name in names]


def _numbers(runs: Sequence[Run]) -> list[tuple[str, list[float | None]]]:
    """Every number of the test in metrics.json."""
    tests = [one.metrics.get("test") or {} for one in runs]
    names = dict.fromkeys(
        name
        for test in tests
        for name, value in test.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    )
    return [(name.replace("_", " "), [test.get(name) for test in tests]) for name in names]


def _cost(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """What each run took: of the method that it saved, and of all together."""

    def number(value: Any) -> str:
        return "–" if value is None or value != value else f"{value:,.1f}".removesuffix(".0")

    methods = [one.method for one in runs]
    rows = [
        ("seconds of training", [number(one.get("seconds")) for one in methods]),
        ("epochs", [number(one.get("epochs")) for one in methods]),
        ("trainable weights", [number(one.get("trainable_parameters")) for one in methods]),
    ]
    for key, name in (
        ("training seconds", "seconds of all methods"),
        ("peak memory", "largest memory"),
        ("processor", "processor"),
        ("cores", "cores"),
        ("gpus", "GPUs"),
        ("precision", "precision"),
        ("tensorflow", "TensorFlow"),
        ("keras", "Keras"),
        ("commit", "commit"),
    ):
        rows.append((name, [str(one.environment.get(key) or "–") for one in runs]))
    return [(name, cells) for name, cells in rows if any(cell != "–" for cell in cells)]


def _print(tables: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console = Console(highlight=False, width=min(WIDTH, console.width if console.is_terminal else WIDTH))
    scores = table(
        f"test {tables['score']}", ["run", "method", tables["score"], "95 % interval", "points to the first"]
    )
    for row in tables["rows"]:
        interval = words.interval((row["low"], row["high"])) if row["low"] == row["low"] else "–"
        value, difference = words.percent(row["value"]), page.points(row["difference"])
        scores.add_row(row["run"], row["method"], value, interval, difference)
    console.print(scores)
    for row in tables["rows"]:
        if row["why_not"]:
            console.print(f"{row['run']}: no paired difference: {row['why_not']}.", markup=False)
        elif row["difference"]:
            console.print(f"{row['run']}: {page.explain(row['difference'])}", markup=False)
    if tables["settings"]:
        console.print(_side_by_side("settings that differ", tables["rows"], tables["settings"]))
    else:
        console.print("\nAll settings are the same.")
    console.print(_side_by_side("cost", tables["rows"], tables["cost"]))


def table(title: str, columns: Sequence[str]) -> Table:
    """An empty table for the terminal."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _side_by_side(title: str, rows: list[dict], cells: list[tuple[str, list[str]]]) -> Table:
    shown = table(f"\n{title}", ["", *(row["run"] for row in rows)])
    for name, values in cells:
        shown.add_row(name, *values)
    return shown
