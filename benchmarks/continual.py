"""Continual learning over several seeds: digits in photos in five pairs, or Split-MNIST.

    python -m benchmarks.continual --seeds 3
    python -m benchmarks.continual --seeds 3 --scenario task --methods naive EWC SI LwF replay
    python -m benchmarks.continual --mnist FOLDER --seeds 3
    python -m benchmarks.continual --mnist FOLDER --seeds 3 --scenario task --methods naive EWC SI LwF

The embedded digits take the template's defaults; the seed decides the order of batches and what is kept.
FOLDER holds MNIST's idx files, of which the 10,000 of the test will do: then the seed also divides
them (60 % to train, 15 % to choose, 25 % for the test). There the network has two hidden layers of 400 units
and begins from scratch, as in the literature. The test is read once for all methods of a seed. A row of the
CSV file named by --out is a method and a seed; an interrupted call finds what is done.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks import digit_pairs
from runner import atomic, fields, flags
from runner.stage import Stage
from runner.training import baselines
from templates.continual_learning import answers, train
from templates.continual_learning.config import Config

RECIPE = Config(
    backbone="mlp",
    weights="none",
    image_size=28,
    batch_size=64,
    si=30.0,
    stages=(Stage("all", train="all", epochs=10, learning_rate=1e-3, keep="last"),),
)
"""Of Split-MNIST. SI's weight was chosen on validation pictures of the first two tasks (1, 30 and 300 were
tried, with the task told); nothing else was searched.
"""


def one_seed(config: Config) -> list[dict]:
    """Take all methods through the tasks, then read the test once for all of them."""
    examples = train.load(config)
    learned, fits = train.fit_all(config, examples)
    validation = train.matrices(learned, examples, examples.val)
    tested = train.matrices(learned, examples, examples.test.open(None, "a benchmark"))
    return [
        {"method": name, "seed": config.machine.seed}
        | answers.numbers(tested[name], examples.told)
        | {"validation": answers.numbers(validation[name], examples.told)["average"]}
        | {"kept": one.bytes, "seconds": fits[name].seconds}
        for name, one in learned.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mnist", type=Path, help="folder of MNIST's idx files")
    parser.add_argument("--scenario", choices=["class", "task"], default="class")
    parser.add_argument("--methods", nargs="+", help="of the template; default: all")
    parser.add_argument("--buffer", type=int, help="pictures that are kept")
    parser.add_argument("--ewc", type=float, help="EWC's weight")
    parser.add_argument("--si", type=float, help="SI's weight")
    parser.add_argument("--tasks", nargs="+", default=[], help="as of the template; default: five")
    parser.add_argument("--scratch", action="store_true", help="also train from scratch on all tasks at once")
    parser.add_argument("--out", type=Path, default=Path("continual.csv"))
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in ("buffer", "ewc", "si")}
    changes = {name: value for name, value in given.items() if value is not None}
    changes |= {"methods": tuple(options.methods)} if options.methods else {}
    config = dataclasses.replace(
        RECIPE if options.mnist else Config(),
        scenario=options.scenario,
        baselines=options.scratch,
        tasks=tuple(options.tasks),
        **changes,
    )
    # Rows of other data, scenarios or weights may stand in the same file.
    given = {"data": "Split-MNIST" if options.mnist else config.data, "scenario": options.scenario, **given}
    settings = json.dumps(given | {"tasks": options.tasks})
    columns = ["settings", "seed", "method"]
    table = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=columns)
    with tempfile.TemporaryDirectory(prefix="thaw-mnist-") as place:
        if options.mnist:
            digit_pairs.write(digit_pairs.mnist(options.mnist), Path(place) / "mnist")
            config = dataclasses.replace(config, data=str(Path(place) / "mnist"))
        for seed in range(options.seeds):
            done = set(table.query("settings == @settings and seed == @seed")["method"])
            left = tuple(name for name in config.methods if name not in done)
            if left:
                rows = pd.DataFrame(one_seed(fields.replace(config, seed=seed, methods=left)))
                rows = rows.assign(settings=settings)
                table = pd.concat([table, rows], ignore_index=True) if len(table) else rows
                atomic.write_csv(options.out, table)
    named = table["method"].isin(config.methods) | table["method"].str.startswith(baselines.SCRATCH)
    asked = table[(table["settings"] == settings) & named]
    columns = {name: ["mean", "std"] for name in (*answers.NUMBERS, "validation", "seconds")}
    columns["kept"] = ["mean"]
    shown = asked.groupby("method", sort=False).agg(columns)
    print(shown.to_string(float_format=lambda number: f"{number:.3f}"))


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
