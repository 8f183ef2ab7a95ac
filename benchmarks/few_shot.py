"""Few-shot learning over several seeds: letters to digits in photos, or held-out characters of Omniglot.

    python -m benchmarks.few_shot --seeds 3
    python -m templates.few_shot.omniglot images_background_small1.zip images_background_small2.zip characters
    python -m benchmarks.few_shot --omniglot characters --runs all_runs.zip --seeds 3

The embedded pair takes the template's defaults, Omniglot one recipe for all methods: the seed decides which
81 of its 242 characters are held out. The new classes are read once for all methods of a seed. A row of the
CSV file named by --out is a method, a number of shots and a seed; an interrupted call finds what is done.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from runner import atomic, fields, flags
from runner.stage import Stage
from templates.few_shot import omniglot, train
from templates.few_shot.answers import Learner
from templates.few_shot.config import Config

RECIPE = Config(
    new_classes="",
    test_fraction=0.335,
    val_fraction=0.1,
    shots=(1, 5),
    compare_shots=1,
    backbone="conv4",
    weights="none",
    image_size=28,
    resize="stretch",
    dropout=0.3,
    methods=("pixels", "centred", "logistic head", "softmax", "ProtoNet"),
    train_ways=20,
    epoch_episodes=50,
    stages=(
        Stage(
            "all",
            train="all",
            epochs=20,
            learning_rate=3e-3,
            schedule="cosine",
            batch_norm="train",
            keep="last",
        ),
    ),
)


def one_seed(config: Config, runs: Path | None) -> list[dict]:
    """Train all methods, then read the new classes once for all of them; with Lake's runs as another test."""
    examples = train.load(config)
    learners, fits = train.fit_all(config, examples)
    validation = train.judge(config, learners, examples.val, examples.classes, config.val_episodes)
    tested = train.judge(config, learners, examples.test.open(None, "a benchmark"), examples.classes)
    rows = []
    for name, judged in tested.items():
        told = {"method": name, "seed": config.machine.seed, "seconds": fits[name].seconds}
        for shots in config.shots:
            right = judged.right(shots)
            numbers = {
                "shots": shots,
                "accuracy": right.mean(),
                "validation": validation[name].right(shots).mean(),
            }
            rows.append(told | numbers)
        if runs is not None and learners[name].network is not None:
            rows.append(
                told | {"shots": 0, "accuracy": lake(learners[name], runs, config), "validation": np.nan}
            )
    return rows


def lake(learner: Learner, runs: Path, config: Config) -> float:
    """The share of right answers in Lake's 20 one-shot runs, of 20 classes each; "shots" 0 in the table."""
    found = []
    for support, queries, labels in omniglot.one_shot_runs(runs, config.image_size, config.resize):
        rows = learner.features(np.concatenate([support, queries]))
        count = len(support)
        asked = np.arange(count, count + len(queries))[None]
        scores = learner.answer(rows, np.arange(count).reshape(1, count, 1), asked)
        found.append((scores[0].argmax(axis=1) == labels).mean())
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--omniglot", type=Path, help="the folder that templates.few_shot.omniglot made")
    parser.add_argument("--runs", type=Path, help="all_runs.zip, Lake's one-shot runs")
    parser.add_argument("--methods", nargs="+", help="of the template; default: its own, or the recipe's")
    parser.add_argument("--no-scratch", action="store_true", help="without the training from scratch")
    parser.add_argument("--out", type=Path, default=Path("few_shot.csv"))
    options = parser.parse_args()
    config = Config() if options.omniglot is None else dataclasses.replace(RECIPE, data=str(options.omniglot))
    if options.methods:
        config = dataclasses.replace(config, methods=tuple(options.methods))
    config = dataclasses.replace(config, baselines=not options.no_scratch)
    table = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=["seed"])
    for seed in range(options.seeds):
        if seed not in set(table["seed"]):
            rows = one_seed(fields.replace(config, seed=seed), options.runs)
            table = (
                pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
                if len(table)
                else pd.DataFrame(rows)
            )
            atomic.write_csv(options.out, table)
    columns = {name: ["mean", "std"] for name in ("accuracy", "validation", "seconds")}
    shown = table.groupby(["shots", "method"], sort=False).agg(columns)
    print(shown.to_string(float_format=lambda number: f"{number:.3f}"))


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
