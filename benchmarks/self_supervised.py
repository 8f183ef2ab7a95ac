"""What learning without labels brings over several seeds: the embedded letters, or a folder of photos.

    python -m benchmarks.self_supervised --seeds 3
    python -m benchmarks.self_supervised --photos flowers5 --epochs 10 --seeds 3

The embedded pair takes the template's defaults. --photos names a folder with a folder of pictures per class:
they are learned from without their labels, from ImageNet's weights, and judged by them. A row of the CSV file
named by --out is a method, a number of labels and a seed; an interrupted call finds what is done. The test is
read once for all methods of a seed.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import pandas as pd

from runner import atomic, fields, flags
from runner.pictures import any_size
from runner.stage import Stage
from templates.self_supervised import train, verdict
from templates.self_supervised.config import Config

PHOTOS = Config(
    backbone="MobileNetV2-0.35",
    weights="imagenet",
    image_size=96,
    figure=False,
    augment="contrastive",
    temperature=0.2,
    flip=True,
    batch_size=64,
    stages=(
        Stage(
            "all",
            train="all",
            epochs=10,
            learning_rate=3e-4,
            schedule="cosine",
            warmup=0.05,
            batch_norm="train",
            keep="last",
        ),
    ),
)
"""The recipe for photos: views are of whole pictures, and weights that have learned move slowly."""


def one_seed(config: Config) -> list[dict]:
    """Learn without labels, then read the test once for all methods."""
    examples = train.load(config)
    network, learned = train.fit(config, examples)
    with tempfile.TemporaryDirectory() as place:
        any_size.build(network, config.resize).save(Path(place) / "model.keras")
        networks, _ = verdict.fit_all(config, examples, place)
        few = examples.few[max(config.labels)]
        validation = verdict.judge(networks, few.val, examples.classes)
        test = examples.judged.test.open(None, "a benchmark")
        tested = verdict.judge(networks, test, examples.classes)
    seen = learned.history.iloc[-1]
    return [
        {
            "method": name,
            "labels": count,
            "seed": config.machine.seed,
            "accuracy": verdict.right(judged, count).mean(),
            "validation": verdict.right(validation[name], count).mean(),
            "seconds": learned.seconds,
            "rank": seen["val_effective_rank"],
            "uniformity": seen["val_uniformity"],
        }
        for name, judged in tested.items()
        for count in judged
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="a folder with a folder of pictures per class")
    parser.add_argument("--weights", help="what the training begins with; default: none, of photos imagenet")
    parser.add_argument("--method", help="the loss; default: the template's")
    parser.add_argument("--epochs", type=int, help="of the training without labels")
    parser.add_argument("--no-staged", action="store_true", help="only what is frozen and solved")
    parser.add_argument("--no-scratch", action="store_true", help="without what there was before, too")
    parser.add_argument("--out", type=Path, default=Path("self_supervised.csv"))
    options = parser.parse_args()
    config = Config()
    if options.photos is not None:
        config = dataclasses.replace(PHOTOS, data=str(options.photos), labelled=str(options.photos))
    if options.epochs:
        stages = tuple(dataclasses.replace(stage, epochs=options.epochs) for stage in config.stages)
        config = dataclasses.replace(config, stages=stages)
    given = {"weights": options.weights, "method": options.method}
    config = dataclasses.replace(config, **{name: value for name, value in given.items() if value})
    if options.no_staged:
        config = dataclasses.replace(config, tuning_epochs=0)
    config = dataclasses.replace(config, baselines=not options.no_scratch)
    table = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=["seed"])
    for seed in range(options.seeds):
        if seed not in set(table["seed"]):
            rows = pd.DataFrame(one_seed(fields.replace(config, seed=seed)))
            table = pd.concat([table, rows], ignore_index=True) if len(table) else rows
            atomic.write_csv(options.out, table)
    columns = {name: ["mean", "std"] for name in ("accuracy", "validation", "seconds")}
    shown = table.groupby(["labels", "method"], sort=False).agg(columns)
    print(shown.to_string(float_format=lambda number: f"{number:.3f}"))


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
