"""How far `python -m runner rank` can be trusted: its scores against what fine-tuning really gave.

    python -m benchmarks.ranking --sets FOLDER TABLE.csv digits_in_photos --sources MobileNetV2-0.35=FILE
    MobileNet-0.25=letters_in_photos MobileNet-0.25=none --labels 16 --seeds 1 --image-size 96

Each source (BACKBONE=WEIGHTS) is fine-tuned on each set through the stages of the image template, and judged
on the test; then `rank` scores the same sources by the same training and validation pictures, and both are
compared by a weighted Kendall's tau (`runner/choosing/reliability.py`). What it doesn't know itself it hands
to the template's flags. Every fine-tuning is a row of the CSV file named by --out, in which an interrupted
call finds what it has done already. What follows from them goes where `rank` finds it, reliability.csv and
reliability.json in runner/choosing, or in the folder named by --write.
"""

import argparse
import datetime
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import accuracy
from runner import atomic, fields, flags
from runner.choosing import rank, reliability, telling
from runner.choosing.candidates import Candidate
from runner.devices import environment
from runner.networks import families
from templates.image_classification.config import Config


def fine_tuned(out: Path, base: Config, arguments: argparse.Namespace) -> pd.DataFrame:
    """A row per set, source and seed that was trained, now or before: source, data, seed, accuracy, seconds.

    With --scores-only nothing is trained.
    """
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    done = {(row["data"], row["source"], row["seed"]) for row in rows}
    for seed in range(0 if arguments.scores_only else arguments.seeds):
        for source in arguments.sources:
            backbone, _, weights = source.partition("=")
            name = Candidate(families.canonical(backbone), weights).name
            for data in arguments.sets:
                if (Path(data).name, name, seed) in done:
                    continue
                started = time.perf_counter()
                config = fields.replace(
                    base,
                    data=data,
                    backbone=backbone,
                    weights=weights,
                    labels_per_class=arguments.labels,
                    seed=seed,
                )
                # Frozen BatchNorm lets an untrained network learn nothing: it takes the recipe from scratch,
                # for as many epochs as the stages have together.
                scratch = weights.lower() == "none"
                config = fields.replace(config, scratch_lengths=(1,)) if scratch else config
                (row,) = accuracy.one_seed(config, ["from scratch" if scratch else "staged"])
                rows.append({"source": name} | row)
                atomic.write_csv(out, pd.DataFrame(rows))
                seconds = time.perf_counter() - started
                print(f"{data}, {name}, seed {seed}: {row['accuracy']:.3f} ({seconds:.0f} s)", flush=True)
    return pd.DataFrame(rows)


def scores(base: Config, arguments: argparse.Namespace) -> pd.DataFrame:
    """What `rank` finds of every source on every set: a row per set, source and seed."""
    tables = []
    for data in arguments.sets:
        for seed in range(arguments.seeds):
            found = rank.ranking(
                data,
                arguments.sources,
                image_size=base.image_size,
                labels_per_class=arguments.labels,
                resize=base.resize,
                seed=seed,
            )
            tables.append(telling.table(found).assign(data=Path(data).name, seed=seed))
            print(f"{data}, seed {seed}: ranked", flush=True)
    return pd.concat(tables, ignore_index=True)


def joined(tuned: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """A row per set and source that has both, means over the seeds: the table of `reliability.summary`."""
    both = tuned.merge(scored, on=["data", "source", "seed"])
    wanted = [*reliability.MEASURES, reliability.SIZE, reliability.TRUTH]
    groups = both.groupby(["data", "source"], sort=False)
    return groups[wanted].mean().assign(seeds=groups.size()).round(5).reset_index()


def markdown(found: dict[str, Any]) -> str:
    """A row per measure, as a Markdown table: tau in the mean and on each set, and what its first choice
    lost.
    """
    sets = found["sets"]
    lines = [
        f"| score | weighted tau, mean | {' | '.join(sets)} | sources | within 2 points | lost, mean "
        "| at worst |",
        "| --- " * (6 + len(sets)) + "|",
    ]
    for name, of in found["measures"].items():
        by_set = " | ".join("" if value != value else f"{value:.2f}" for value in of["by_set"].values())
        lost = of["lost"].values()
        lines.append(
            f"| {reliability.MEASURES.get(name, 'the larger network')} | {of['tau']:.2f} ({of['low']:.2f} to "
            f"{of['high']:.2f}) | {by_set} | {of['sources']} | {of['within']} of {len(lost)} | "
            f"{100 * sum(lost) / len(lost):.1f} | {100 * max(lost):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", required=True, help="what --data of the template takes")
    parser.add_argument("--sources", nargs="+", required=True, metavar="BACKBONE=WEIGHTS")
    parser.add_argument("--labels", type=int, default=16, help="labels per class")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--scores-only", action="store_true", help="train nothing more; compare what is there"
    )
    parser.add_argument("--out", default="runs/benchmarks/ranking.csv")
    parser.add_argument("--write", type=Path, default=reliability.ROWS.parent, help="folder of reliability.*")
    arguments, rest = parser.parse_known_args()
    base = flags.parse(Config, rest)
    tuned = fine_tuned(Path(arguments.out), base, arguments)
    rows = joined(tuned, scores(base, arguments))
    found, machine = reliability.summary(rows), environment.describe("")
    stages = ", ".join(f"{stage.epochs} of {stage.train}" for stage in base.stages)
    seeds = f"{arguments.seeds} seed{'s' * (arguments.seeds > 1)}"
    made = {
        "date": datetime.date.today().isoformat(),
        "command": "python -m benchmarks.ranking",
        "how": (
            f"{arguments.labels} labels a class, {base.image_size} pixels, {seeds}, epochs {stages} "
            "(untrained sources: as many from scratch); "
            f"{machine['processor']}, TensorFlow {machine['tensorflow']}, Keras {machine['keras']}."
        ),
        "flags": shlex.join(rest),
    }
    atomic.write_csv(arguments.write / reliability.ROWS.name, rows)
    atomic.write_json(arguments.write / reliability.SUMMARY.name, {"made": made, **found})
    print(f"\n{markdown(found)}\n\n{made['how']}")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        sys.exit(main())
