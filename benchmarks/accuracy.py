"""Test accuracy of a classifying template's methods over several seeds and numbers of labels.

    python -m benchmarks.accuracy --labels 5 10 20 50 --seeds 5
    python -m benchmarks.accuracy --template text_classification --labels 20 --seeds 3
    python -m benchmarks.accuracy --labels all --seeds 3 --data FOLDER --backbone MobileNetV2-0.35 --weights
    FILE ...

What it doesn't know itself it hands to the template's flags. A seed decides the split (where the data has
none), the few labels, the first weights, the order and the augmentation; within a seed all methods see the
same examples. Every run is a row of the CSV file named by --out, in which an interrupted call finds what it
has done already.
"""

import argparse
import importlib
import time
from pathlib import Path
from types import ModuleType

import pandas as pd

from runner import atomic, fields, flags
from runner.errors import InputError
from runner.networks import inference
from runner.scores import classification
from runner.training import baselines
from templates.image_classification import train as image_classification

RIVALS = {"image_classification": baselines.PIXELS, "text_classification": baselines.TF_IDF}
"""Of each template that tells classes apart, what it is compared with that needs no network."""


def one_seed(config, methods: list[str], train: ModuleType = image_classification) -> list[dict]:
    """Train some methods of one Config, then read the test split once for all of them.

    train: the module of the template.
    """
    examples = train.load(config)
    networks, fits = {}, {}
    for rival in set(RIVALS.values()) & set(methods):
        networks[rival], fits[rival] = train.fit_rival(config, examples)
    for name, arm in getattr(train, "methods", baselines.methods)(config).items():
        if baselines.called(name) not in methods:
            continue
        networks[name], fits[name] = train.fit(
            arm, examples, f"{name}, {config.labels_per_class} labels, seed {config.machine.seed}"
        )
    chosen_on = train.judge(config, networks, examples.val, examples.classes)
    chosen_on = {name: float((one["label"] == one["prediction"]).mean()) for name, one in chosen_on.items()}
    best = baselines.compared(networks, chosen_on)
    tables = classification.tables(
        *inference.outputs(best, examples.test.open(None, "benchmark")), examples.classes
    )
    seconds = {baselines.called(name): 0.0 for name in fits}
    for name, fitted in fits.items():  # of all that was tried from scratch
        seconds[baselines.called(name)] += fitted.seconds
    return [
        {
            "data": Path(config.data).name,
            "labels_per_class": config.labels_per_class or "all",
            "seed": config.machine.seed,
            "method": name,
            "accuracy": float((table["label"] == table["prediction"]).mean()),
            "test_examples": len(table),
            "seconds": round(seconds[name], 1),
            "recipe": baselines.recipe(chosen_on) if name == baselines.SCRATCH else "",
        }
        for name, table in tables.items()
    ]


def summary(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds as a Markdown table: a row per number of labels, a column
    per method.
    """
    groups = rows.groupby(["labels_per_class", "method"], sort=False)["accuracy"]
    cells = groups.agg(
        lambda values: (
            f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values.mean():.3f}"
        )
    )
    table = cells.unstack()[list(dict.fromkeys(rows["method"]))]
    table = table.loc[list(dict.fromkeys(rows["labels_per_class"]))]
    lines = [
        "| labels per class | " + " | ".join(table.columns) + " |",
        "| --- " * (len(table.columns) + 1) + "|",
    ]
    return "\n".join(
        lines
        + [
            f"| {labels} | " + " | ".join(row) + " |"
            for labels, row in zip(table.index, table.to_numpy(), strict=True)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--labels", nargs="+", default=["5", "10", "20", "50"], help="labels per class, or all"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--template", choices=list(RIVALS), default="image_classification")
    parser.add_argument("--methods", nargs="+", help="which to train (default: all)")
    parser.add_argument("--out", default="runs/benchmarks/accuracy.csv")
    arguments, rest = parser.parse_known_args()
    train = importlib.import_module(f"templates.{arguments.template}.train")
    base = flags.parse(train.Config, rest)
    arms = map(baselines.called, getattr(train, "methods", baselines.methods)(base))
    known = list(dict.fromkeys([RIVALS[arguments.template], *arms]))
    arguments.methods = arguments.methods or known
    unknown = [name for name in arguments.methods if name not in known]
    if unknown:
        raise InputError(f"--methods {unknown[0]!r} is not one of {', '.join(known)}.")
    out = Path(arguments.out)
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    for labels in arguments.labels:
        for seed in range(arguments.seeds):
            if any(str(row["labels_per_class"]) == labels and row["seed"] == seed for row in rows):
                continue
            started = time.perf_counter()
            few = None if labels == "all" else int(labels)
            config = fields.replace(base, labels_per_class=few, seed=seed)
            rows += one_seed(config, arguments.methods, train)
            atomic.write_csv(out, pd.DataFrame(rows))
            print(f"{labels} labels, seed {seed}: {time.perf_counter() - started:.0f} s")
    table = pd.DataFrame(rows)
    from runner.devices import environment

    found = environment.describe("")
    seconds = ", ".join(
        f"{name} {value:.0f}"
        for name, value in table.groupby("method", sort=False)["seconds"].median().items()
    )
    print(
        f"\n{summary(table)}\n\nMean ± standard deviation of test accuracy over {arguments.seeds} seeds, "
        f"{table['test_examples'].iloc[0]} in the test; median seconds of a training: {seconds}; "
        f"{found['cores']} cores of {found['processor']}, TensorFlow {found['tensorflow']}, "
        f"Keras {found['keras']}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
