"""`python -m runner seeds`: the same settings from several seeds, and what they say together.

    python -m runner seeds templates.text_classification --seeds 5 --labels-per-class 20

A seed decides the split (where the data has none), the few labels, the first weights, the order and the
augmentation. Methods are therefore compared seed by seed.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from scipy import stats

from runner import atomic, fields, quiet
from runner.errors import InputError
from runner.report import words
from runner.runs import compare, folder, lock, pairing, template
from runner.tuning import tune

MOST = 1000
WIDTH = 100
"""Columns of the terminal that are used at most."""


def run(name: str, seeds: int, called: str, arguments: Sequence[str]) -> int:
    """Make the runs that are not complete yet, print the table, and write seeds.csv and compare.html.

    name: of the template. called: the folder below runs/TEMPLATE-seeds/, "" makes one of the settings.
    arguments: flags of the template; its seed is the first, the others follow. Returns 0. Raises
    InputError for what cannot be used, before anything is trained, and where a run ends with one.
    """
    if not 2 <= seeds <= MOST:
        raise InputError(f"--seeds {seeds} cannot be used; give 2 to {MOST}: one seed has no spread.")
    if called and Path(called).name != called:
        raise InputError(f"--name {called} cannot be used; give a name, and no path.")
    package = tune.find(name)
    config = tune.base(package, arguments)
    record = fields.to_dict(config)
    called = called or hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
    home = atomic.place(Path("runs") / f"{package.rpartition('.')[2]}-seeds" / called, "--name")
    numbers = range(config.machine.seed, config.machine.seed + seeds)
    places = [home / f"seed_{number}" for number in numbers]
    for number, place in zip(numbers, places, strict=True):
        _check_same(place, record | {"seed": number})
    quiet.import_tensorflow()
    from runner.tuning import trials

    train = template.train(package, "main")
    home.mkdir(parents=True, exist_ok=True)
    print(f"runs: {home}")
    for number, place in zip(numbers, places, strict=True):
        if (place / "metrics.json").is_file():
            lock.clear_complete(place)
            print(f"seed {number}: complete")
            continue
        print(f"seed {number}: {place}", flush=True)
        trials.one(train, fields.replace(config, seed=number, run_dir=str(place)), place.with_suffix(".log"))
    table = scores(places)
    atomic.write_csv(home / "seeds.csv", table)
    _print(table, score_of(places[0]), config.machine.test)
    if config.machine.test:
        (home / "compare.html").unlink(missing_ok=True)
        compare.run(places, home)
    print(f"table: {home / 'seeds.csv'}")
    return 0


def _check_same(place: Path, record: dict[str, Any]) -> None:
    """Raise InputError where a run in the folder began with other settings."""
    if not (place / "config.json").is_file():
        return
    begun = folder.read_json(place / "config.json")
    record = json.loads(json.dumps(record))
    differing = [name for name in record if name != "run_dir" and begun.get(name) != record[name]]
    if differing:
        before, now = begun.get(differing[0]), record[differing[0]]
        raise InputError(
            f"{place} began with {differing[0]} {before!r} (now {now!r}); give the same settings, or another "
            "--name."
        )


def score_of(place: Path) -> str:
    """The column that methods are compared by: the first test score, of a run without a test that on
    validation.
    """
    columns = list(pairing.read_csv(place / "comparison.csv", nrows=0).columns)
    found = [name for prefix in ("test_", "val_") for name in columns if name.startswith(prefix)]
    if not found:
        raise InputError(f"{place / 'comparison.csv'} names no score; give another run.")
    return found[0]


def scores(places: Sequence[Path]) -> pd.DataFrame:
    """A row per seed and method: seed, method, the score, and handed_out: whether the run saved it."""
    rows = []
    for place in places:
        column, table = score_of(place), pairing.read_csv(place / "comparison.csv")
        chosen = str(folder.read_json(place / "metrics.json").get("method", "staged"))
        for row in table.to_dict("records"):
            name = str(row["method"])
            rows.append(
                {
                    "seed": int(place.name.removeprefix("seed_")),
                    "method": name,
                    column: float(row[column]),
                    "handed_out": name == chosen,
                }
            )
    return pd.DataFrame(rows)


def spread(values: Sequence[float]) -> tuple[float, float, float, float]:
    """The mean, the standard deviation (n - 1), and the 95 % interval of the mean by Student's t; of one
    value NaN but for the mean.
    """
    given = np.asarray(values, float)
    mean = float(given.mean())
    if len(given) < 2:
        return mean, np.nan, np.nan, np.nan
    deviation = float(given.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(given) - 1)) * deviation / len(given) ** 0.5
    return mean, deviation, mean - half, mean + half


def summary(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per method: method, seeds, mean, deviation, lowest, highest, and difference with low and high:
    what the network that each run handed out has more, seed by seed, with the interval of its mean. NaN where
    it is the method itself.
    """
    values = table.pivot(index="seed", columns="method", values=column)
    handed = table[table["handed_out"]].set_index("seed")[column]
    rows = []
    for name in dict.fromkeys(table["method"]):
        own = values[name].dropna()
        mean, deviation, _, _ = spread(own.to_numpy())
        apart = (handed - own).dropna()
        alone = bool((table.loc[table["method"] == name, "handed_out"]).all())
        difference, _, low, high = (np.nan,) * 4 if alone else spread(apart.to_numpy())
        rows.append(
            {
                "method": name,
                "seeds": len(own),
                "mean": mean,
                "deviation": deviation,
                "lowest": own.min(),
                "highest": own.max(),
                "difference": difference,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def _print(table: pd.DataFrame, column: str, tested: bool) -> None:
    console = Console(highlight=False)
    console = Console(highlight=False, width=min(WIDTH, console.width if console.is_terminal else WIDTH))
    split, _, score = column.partition("_")
    title = f"{'test' if split == 'test' else 'validation'} {pairing.words(score)} over seeds"
    shown = compare.table(
        title, ["method", "seeds", "mean", "± deviation", "lowest to highest", "points to the one handed out"]
    )
    for row in summary(table, column).to_dict("records"):
        apart = ""
        if row["difference"] == row["difference"]:
            apart = f"{-100 * row['difference']:+.1f} ({words.points(-row['high'], -row['low'])})"
        shown.add_row(
            *(row["method"], str(row["seeds"]), words.percent(row["mean"])),
            *(f"{100 * row['deviation']:.1f}", words.interval((row["lowest"], row["highest"])), apart),
        )
    console.print(shown)
    console.print("Differences are taken seed by seed, with the 95 % interval of their mean (Student's t).")
    if not tested:
        console.print("The test was not opened (--no-test).")
