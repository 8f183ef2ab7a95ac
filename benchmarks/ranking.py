"""How far `python -m runner rank` can be trusted: its scores against what fine-tuning really gave.

    python -m benchmarks.ranking --sets FOLDER TABLE.csv digits_in_photos --sources MobileNetV2-0.35=FILE
    MobileNet-0.25=letters_in_photos MobileNet-0.25=none --labels 20 --seeds 1 --image-size 96
"""

import argparse
import time
from pathlib import Path

import pandas as pd

from benchmarks import accuracy
from runner import atomic, fields, flags
from templates.image_classification.config import Config


def tuned(config: Config) -> dict:
    """Fine-tune one source on one set with the template's stages, and read the test once."""
    (row,) = accuracy.one_seed(config, ["staged"])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", required=True, help="what --data of the template takes")
    parser.add_argument("--sources", nargs="+", required=True, metavar="BACKBONE=WEIGHTS")
    parser.add_argument("--labels", type=int, default=20, help="labels per class")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", default="runs/benchmarks/ranking.csv")
    arguments, rest = parser.parse_known_args()
    base = flags.parse(Config, rest)
    out = Path(arguments.out)
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    done = {(row["data"], row["source"], row["seed"]) for row in rows}
    for seed in range(arguments.seeds):
        for source in arguments.sources:
            backbone, _, weights = source.partition("=")
            name = f"{backbone}={Path(weights).name}"
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
                rows.append({"source": name} | tuned(config))
                atomic.write_csv(out, pd.DataFrame(rows))
                print(
                    f"{data}, {name}, seed {seed}: {rows[-1]['accuracy']:.3f} "
                    f"({time.perf_counter() - started:.0f} s)",
                    flush=True,
                )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
