"""Domain adaptation over several seeds: the embedded digits, or MNIST and USPS in both directions.

    python -m benchmarks.adaptation --seeds 5
    python -m benchmarks.digit_pairs --mnist FOLDER --usps FILE --output digits
    python -m benchmarks.adaptation --digits digits --seeds 5

The embedded pair takes the template's defaults, MNIST and USPS one recipe for all methods. There "source
only, plain" is another: the small CNN without BatchNorm, 3 epochs, pictures as they are. The target's test
split is read once for all methods of a seed. Every method is a row of the CSV file named by --out, in which
an interrupted call finds what it has done already.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import pandas as pd

from runner import atomic, fields, flags
from runner.networks import inference
from runner.scores import classification
from runner.stage import Stage
from templates.domain_adaptation import choice, train
from templates.domain_adaptation.config import Config

PLAIN = "source only, plain"
RECIPE = Config(
    backbone="small_cnn",
    weights="none",
    image_size=28,
    resize="stretch",
    batch_size=64,
    stages=(
        Stage(
            "all",
            train="all",
            epochs=4,
            learning_rate=2e-3,
            schedule="cosine",
            batch_norm="train",
            keep="last",
        ),
    ),
)
PLAIN_RECIPE = dataclasses.replace(
    RECIPE,
    backbone="small_cnn_plain",
    methods=("source only",),
    augment="none",
    label_smoothing=0.0,
    stages=(Stage("all", train="all", epochs=3, learning_rate=1e-3, keep="last"),),
)


def configs(digits: Path | None) -> list[Config]:
    """What is measured for each seed: a Config for each pair of domains."""
    if digits is None:
        return [Config()]
    names = ("mnist", "usps"), ("usps", "mnist")
    return [
        dataclasses.replace(RECIPE, source=str(digits / source), target=str(digits / target))
        for source, target in names
    ]


def one_seed(config: Config) -> list[dict]:
    """Train all methods on one pair of domains, then read the target's test split once for all of them."""
    domains = train.load(config)
    networks, fits = train.fit_all(config, domains)
    known = {row["method"]: row for row in choice.compare(config, domains, networks, fits).to_dict("records")}
    if config.backbone == RECIPE.backbone:
        plain = fields.replace(PLAIN_RECIPE, seed=config.machine.seed)
        networks[PLAIN], fits[PLAIN] = train.fit(plain, domains, "source only")
        known[PLAIN] = {"method": PLAIN, "seconds": round(fits[PLAIN].seconds, 1)}
    tables = classification.tables(
        *inference.outputs(networks, domains.target.test.open(None, "benchmark")), domains.classes
    )
    return [
        {
            "source": Path(config.source).name,
            "target": Path(config.target).name,
            "seed": config.machine.seed,
            **known[name],
            "accuracy": float((table["label"] == table["prediction"]).mean()),
            "test_pictures": len(table),
        }
        for name, table in tables.items()
    ]


def summary(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds as a Markdown table: a row per method, a column per direction,
    and below how each way to choose did.

    "hurts" stands where the difference to source only, seed by seed, lies below 0 by more than two standard
    errors.
    """
    columns, picks = {}, {}
    for (source, target), part in rows.groupby(["source", "target"], sort=False):
        accuracy = part.pivot(index="seed", columns="method", values="accuracy")
        cells, title = {}, f"{source} to {target}"
        for name in dict.fromkeys(part["method"]):
            cells[name] = _spread(accuracy[name])
            difference = (accuracy[name] - accuracy["source only"]).dropna()
            if name not in ("source only", PLAIN) and len(difference) > 1:
                error = difference.std(ddof=1) / len(difference) ** 0.5
                hurts = ", hurts" if difference.mean() + 2 * error < 0 else ""
                cells[name] += f" ({100 * difference.mean():+.1f} ± {100 * error:.1f}{hurts})"
        compared = part[part["method"] != PLAIN]
        for criterion in choice.CRITERIA:
            chosen = [choice.chosen(one, criterion) for _, one in compared.groupby("seed")]
            picks.setdefault(f"chosen by {criterion}", {})[title] = _picked(accuracy, chosen)
        best = accuracy.drop(columns=PLAIN, errors="ignore").idxmax(axis=1).tolist()
        picks.setdefault("oracle (chosen on test labels)", {})[title] = _picked(accuracy, best)
        columns[title] = cells
    table = pd.concat([pd.DataFrame(columns), pd.DataFrame(picks).T]).fillna("")
    lines = ["| method | " + " | ".join(table.columns) + " |", "| --- " * (len(table.columns) + 1) + "|"]
    return "\n".join(
        lines
        + [
            f"| {name} | " + " | ".join(row) + " |"
            for name, row in zip(table.index, table.to_numpy(), strict=True)
        ]
    )


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def _picked(accuracy: pd.DataFrame, names: list[str]) -> str:
    """The spread of what was picked for each seed, and how often each was."""
    values = pd.Series([accuracy[name].loc[seed] for seed, name in zip(accuracy.index, names, strict=True)])
    counts = pd.Series(names).value_counts()
    return f"{_spread(values)} ({', '.join(f'{name} {count}' for name, count in counts.items())})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--digits", type=Path, help="what benchmarks.digit_pairs wrote; else the embedded pair"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="runs/benchmarks/adaptation.csv")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    for seed in range(arguments.seeds):
        for config in configs(arguments.digits):
            pair = Path(config.source).name, Path(config.target).name
            if any((row["source"], row["target"], row["seed"]) == (*pair, seed) for row in rows):
                continue
            started = time.perf_counter()
            rows += one_seed(fields.replace(config, seed=seed))
            atomic.write_csv(out, pd.DataFrame(rows))
            print(f"{' to '.join(pair)}, seed {seed}: {time.perf_counter() - started:.0f} s")
    from runner.devices import environment

    table, found = pd.DataFrame(rows), environment.describe("")
    print(
        f"\n{summary(table)}\n\nMean ± standard deviation of accuracy on the target's test pictures over "
        f"{table['seed'].nunique()} seeds; in brackets the difference to source only, in points, and its "
        f"standard error. {found['cores']} cores of {found['processor']}, TensorFlow {found['tensorflow']}, "
        f"Keras {found['keras']}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
