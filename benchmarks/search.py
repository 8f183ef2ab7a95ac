"""How fast three searches find good settings: regret over trials, of grid, random and Bayesian (TPE) search.

    python -m benchmarks.search --seeds 20

All points of a small grid are trained once: the head of the image template on its digits, above a frozen
backbone whose features are kept, validation accuracy. The searches then look their trials up in that real
table, so that many seeds cost nothing. The regret is how far the best trial so far lies below the best of the
whole table. They draw what `python -m runner tune` draws; nothing is stopped early, and the test stays
closed. A range is a choice of the grid's values, whose order TPE is not told.
"""

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner import atomic, fields, flags, quiet
from runner.tuning.space import Choice, Space, apply, points

SPACE = Space(
    {
        "stages.0.learning_rate": Choice((3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
        "batch_size": Choice((8, 32, 128)),
        "augment": Choice(("none", "strong")),
    }
)
AFTER = (3, 5, 10, 20)
"""Trials after which the regret is told."""


def base() -> Any:
    """The Config of all points: five epochs of the head."""
    from runner.stage import Stage
    from templates.image_classification.config import Config

    return Config(stages=(Stage("head", epochs=5, schedule="cosine"),), baselines=False)


def table(out: Path, config: Any) -> pd.DataFrame:
    """A row per point of the grid: what it is, its validation accuracy and its seconds; those that `out` has
    already are not trained again.
    """
    quiet.import_tensorflow()
    import keras

    from runner.data import sealed
    from templates.image_classification import train

    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    wanted = points(SPACE.ranges, 0, 0)
    examples = train.load(config)  # none of the ranges changes what is loaded
    for number, point in enumerate(wanted):
        if any(all(row[name] == value for name, value in point.items()) for row in rows):
            continue
        started = time.perf_counter()
        keras.utils.clear_session()
        with sealed.kept_closed("the searches are compared on validation"):
            _, fitted = train.fit(apply(config, SPACE.ranges, point), examples)
        rows.append({**point, "value": fitted.value, "seconds": round(time.perf_counter() - started, 1)})
        atomic.write_csv(out, pd.DataFrame(rows))
        print(f"{number + 1} of {len(wanted)}: {fitted.value:.4f}", flush=True)
    return pd.DataFrame(rows)


def regret(known: pd.DataFrame, config: Any, kind: str, seed: int) -> list[float]:
    """How far the best so far lies below the best of the table, after each trial of one search."""
    from runner.tuning import search

    names = list(SPACE.ranges)
    values = {tuple(row[name] for name in names): row["value"] for row in known.to_dict("records")}
    job = search.Job("templates.image_classification", fields.replace(config, seed=seed), SPACE, kind)
    search.optuna.logging.set_verbosity(search.optuna.logging.ERROR)
    study = search.optuna.create_study(direction=job.direction)
    reached = []
    for _ in range(len(values)):
        trial = study.ask()
        value = values[tuple(search.draw(study, trial, job)[name] for name in names)]
        study.tell(trial, value)
        reached.append(value)
    return list(max(values.values()) - np.maximum.accumulate(reached))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="of the searches; the table has one")
    parser.add_argument("--out", default="runs/benchmarks/search.csv", help="the table of all points")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    config = base()
    known = table(Path(arguments.out), config)
    from runner.devices import environment

    found = environment.describe("")
    print(f"\n| search | {' | '.join(f'after {n}' for n in AFTER)} | trials to the best |")
    print("| --- " * (len(AFTER) + 2) + "|")
    for kind in ("grid", "random", "bayes"):
        curves = np.array([regret(known, config, kind, seed) for seed in range(arguments.seeds)])
        cells = []
        for n in AFTER:
            now = 100 * curves[:, n - 1]
            cells.append(f"{now.mean():.2f} ± {now.std(ddof=1) if len(now) > 1 else math.nan:.2f}")
        needed = [int(np.argmax(one <= 1e-9)) + 1 if one.min() <= 1e-9 else len(one) + 1 for one in curves]
        print(f"| {kind} | {' | '.join(cells)} | {np.median(needed):.0f} |")
    best = known["value"].max()
    levels = ", ".join(
        f"{name} {100 * value:.1f} %"
        for name, value in (
            ("best", best),
            ("median", known["value"].median()),
            ("worst", known["value"].min()),
        )
    )
    print(
        f"\nPoints of validation accuracy below the best of all {len(known)} settings ({levels}; "
        f"{int((known['value'] == best).sum())} of them reach the best): mean ± standard deviation over "
        f"{arguments.seeds} seeds of the search. The last column is the median of the trials that it took to "
        f"find one of the best, {len(known) + 1} where it never did. {found['cores']} cores of "
        f"{found['processor']}, {known['seconds'].sum():.0f} s of training."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
