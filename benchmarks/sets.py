"""Do the default stages help on other people's pictures? Staged against frozen, over sets and sources.

    python -m benchmarks.sets --sets FOLDER TABLE.csv digits_in_photos --sources MobileNetV2-0.35=FILE
    VGG16=FILE MobileNet-0.25=letters_in_photos --labels 20 --seeds 3 --image-size 96

Each set is trained from each source (BACKBONE=WEIGHTS) with the defaults, and its head solved on the same
frozen network; the two are compared seed by seed on the test. What it doesn't know itself it hands to the
template's flags. Every run is a row of the CSV file named by --out, in which an interrupted call finds what
it has done already.
"""

import argparse
import time
from pathlib import Path

import pandas as pd

from benchmarks import accuracy
from runner import atomic, fields, flags
from runner.errors import InputError
from templates.image_classification.config import Config

COMPARED = "frozen backbone", "staged"
KEYS = ["data", "backbone", "labels_per_class"]


def compared(rows: pd.DataFrame) -> str:
    """A row per set, source and number of labels, as a Markdown table: each method's mean accuracy over the
    seeds, and the mean of the differences within a seed with their standard error.
    """
    lines = [
        f"| data | source | labels per class | {' | '.join(COMPARED)} | difference |",
        "| --- " * 6 + "|",
    ]
    for key, group in rows.groupby(KEYS, sort=False):
        values = group.pivot(index="seed", columns="method", values="accuracy")[list(COMPARED)].dropna()
        difference = values[COMPARED[1]] - values[COMPARED[0]]
        cells = [f"{value:.3f}" for value in values.mean()]
        lines.append(
            f"| {' | '.join(map(str, key))} | {' | '.join(cells)} | "
            f"{difference.mean():+.3f} ± {difference.sem():.3f} ({len(values)}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", required=True, help="what --data of the template takes")
    parser.add_argument("--sources", nargs="+", required=True, metavar="BACKBONE=WEIGHTS")
    parser.add_argument("--labels", nargs="+", default=["20"], help="labels per class, or all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default="runs/benchmarks/sets.csv")
    arguments, rest = parser.parse_known_args()
    base = flags.parse(Config, rest)
    sources = [source.partition("=")[::2] for source in arguments.sources]
    for backbone, weights in sources:
        if not weights:
            raise InputError(f"--sources {backbone!r} names no weights; give BACKBONE=WEIGHTS.")
    out = Path(arguments.out)
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    done = {(row["data"], row["backbone"], str(row["labels_per_class"]), row["seed"]) for row in rows}
    for seed in range(arguments.seeds):
        for labels in arguments.labels:
            for backbone, weights in sources:
                for data in arguments.sets:
                    if (Path(data).name, backbone, labels, seed) in done:
                        continue
                    started = time.perf_counter()
                    config = fields.replace(
                        base,
                        data=data,
                        backbone=backbone,
                        weights=weights,
                        labels_per_class=None if labels == "all" else int(labels),
                        seed=seed,
                    )
                    found = accuracy.one_seed(config, list(COMPARED))
                    rows += [{"backbone": backbone, "weights": Path(weights).name} | row for row in found]
                    atomic.write_csv(out, pd.DataFrame(rows))
                    scores = ", ".join(f"{row['method']} {row['accuracy']:.3f}" for row in found)
                    print(
                        f"{data}, {backbone}, {labels} labels, seed {seed}: {scores} "
                        f"({time.perf_counter() - started:.0f} s)",
                        flush=True,
                    )
    print(f"\n{compared(pd.DataFrame(rows))}")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
