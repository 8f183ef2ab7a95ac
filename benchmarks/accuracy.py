"""Test accuracy, F1, BLEU or bits per character of a template's methods over seeds and numbers of labels.

    python -m benchmarks.accuracy --labels 5 10 20 50 --seeds 5
    python -m benchmarks.accuracy --template text_classification --labels 20 --seeds 3
    python -m benchmarks.accuracy --template token_classification --labels all --seeds 3
    python -m benchmarks.accuracy --template text_generation --labels 20000 100000 --seeds 3
    python -m benchmarks.accuracy --template translation --labels all --seeds 3
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
from typing import Any

import pandas as pd

from runner import atomic, fields, flags
from runner.errors import InputError
from runner.scores import likelihood
from runner.training import baselines
from templates.image_classification import train as image_classification

RIVALS = {
    "image_classification": (baselines.PIXELS,),
    "text_classification": (baselines.TF_IDF, baselines.VECTORS),
    "token_classification": (baselines.GAZETTEER, baselines.MOST_FREQUENT),
    "text_generation": (baselines.N_GRAM, baselines.AS_IT_CAME),
    "translation": (baselines.WORD_BY_WORD,),
}
"""Of each template, what it is compared with that needs no training."""
AMOUNTS = {
    "labels_per_class": ("labels per class", "accuracy", "accuracy"),
    "train_examples": ("training texts", "f1", "f1"),
    "train_characters": ("training characters", likelihood.SCORE, "bits_per_character"),
}
"""The setting that says how few labels count: what it is in words, what methods are compared by, and what is
shown of them."""


def arms(config: Any) -> dict[str, Any]:
    """The Configs of a template's methods by their names."""
    if amount(config) == "train_characters":
        return baselines.of_texts(config, scratch_keep="best", lora=True)
    if hasattr(config, "beams"):
        return baselines.of_texts(config, at_once=False)
    if hasattr(config, "scratch_backbone"):
        return baselines.of_texts(config, lora=hasattr(config, "pooling"))
    return baselines.methods(config)


def measures(config: Any) -> tuple[str, str, str]:
    """What AMOUNTS says of a template."""
    counted, key, shown = AMOUNTS[amount(config)]
    return ("training pairs", "bleu", "bleu") if hasattr(config, "beams") else (counted, key, shown)


def amount(config: Any) -> str:
    """The setting that says how few labels count."""
    return next(name for name in AMOUNTS if hasattr(config, name))


def fit_rivals(train: ModuleType, config: Any, examples: Any) -> tuple[dict, dict]:
    """What needs no training, and what it took, by name."""
    if hasattr(train, "fit_rivals"):
        return train.fit_rivals(config, examples)
    if hasattr(train, "rival"):
        return train.rival.fit(examples)
    name = RIVALS[train.__package__.rpartition(".")[2]][0]
    network, fitted = train.fit_rival(config, examples)
    return {name: network}, {name: fitted}


def one_seed(config, methods: list[str], train: ModuleType = image_classification) -> list[dict]:
    """Train some methods of one Config, then read the test split once for all of them.

    train: the module of the template.
    """
    examples = train.load(config)
    networks, fits = {}, {}
    if set().union(*RIVALS.values()) & set(methods):
        found = fit_rivals(train, config, examples)
        networks, fits = ({name: one for name, one in some.items() if name in methods} for some in found)
    few = getattr(config, amount(config)) or "all"
    for name, arm in arms(config).items():
        if baselines.called(name) in methods:
            title = f"{name}, {few} labels, seed {config.machine.seed}"
            networks[name], fits[name] = train.fit(arm, examples, title)
    _, key, shown = measures(config)
    chosen_on = train.judge(config, networks, examples.val, examples.classes)
    chosen_on = {name: float(train.tables(one, examples)[0][key]) for name, one in chosen_on.items()}
    best = baselines.compared(networks, chosen_on)
    tested = train.judge(config, best, examples.test.open(None, "benchmark"), examples.classes)
    seconds = {baselines.called(name): 0.0 for name in fits}
    for name, fitted in fits.items():  # of all that was tried from scratch
        seconds[baselines.called(name)] += fitted.seconds
    numbers = {name: train.tables(one, examples)[0] for name, one in tested.items()}
    return [
        {
            "data": Path(config.data).name,
            "labels_per_class": few,
            "seed": config.machine.seed,
            "method": name,
            key: float(one[key]),
            shown: float(one[shown]),
            "test_examples": one["examples"],
            "seconds": round(seconds[name], 1),
            "recipe": baselines.recipe(chosen_on) if name == baselines.SCRATCH else "",
        }
        for name, one in numbers.items()
    ]


def summary(rows: pd.DataFrame, key: str = "accuracy", counted: str = "labels per class") -> str:
    """Mean ± standard deviation of a number over the seeds as a Markdown table: a row per number of labels, a
    column per method.

    counted: what `labels_per_class` counts, in words.
    """
    groups = rows.groupby(["labels_per_class", "method"], sort=False)[key]
    cells = groups.agg(
        lambda values: (
            f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values.mean():.3f}"
        )
    )
    table = cells.unstack()[list(dict.fromkeys(rows["method"]))]
    table = table.loc[list(dict.fromkeys(rows["labels_per_class"]))]
    lines = [
        f"| {counted} | " + " | ".join(table.columns) + " |",
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
        "--labels",
        nargs="+",
        default=["5", "10", "20", "50"],
        help="labels per class (token_classification: texts, text_generation: characters), or all",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--template", choices=list(RIVALS), default="image_classification")
    parser.add_argument("--methods", nargs="+", help="which to train (default: all)")
    parser.add_argument("--out", default="runs/benchmarks/accuracy.csv")
    arguments, rest = parser.parse_known_args()
    train = importlib.import_module(f"templates.{arguments.template}.train")
    base = flags.parse(train.Config, rest)
    known = list(dict.fromkeys([*RIVALS[arguments.template], *map(baselines.called, arms(base))]))
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
            config = fields.replace(base, **{amount(base): few}, seed=seed)
            rows += one_seed(config, arguments.methods, train)
            atomic.write_csv(out, pd.DataFrame(rows))
            print(f"{labels} labels, seed {seed}: {time.perf_counter() - started:.0f} s")
    table, (counted, _, shown) = pd.DataFrame(rows), measures(base)
    from runner.devices import environment

    found = environment.describe("")
    seconds = ", ".join(
        f"{name} {value:.0f}"
        for name, value in table.groupby("method", sort=False)["seconds"].median().items()
    )
    print(
        f"\n{summary(table, shown, counted)}\n\nMean ± standard deviation of test {shown} over "
        f"{arguments.seeds} seeds, "
        f"{table['test_examples'].iloc[0]} in the test; median seconds of a training: {seconds}; "
        f"{found['cores']} cores of {found['processor']}, TensorFlow {found['tensorflow']}, "
        f"Keras {found['keras']}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
