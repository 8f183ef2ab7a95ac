"""How many augmented views of each picture must be kept so that keeping costs no accuracy.

    python -m benchmarks.views [--views 2 4 8 16] [--seeds 4] [FLAGS OF THE TEMPLATE]

Trains a frozen backbone and the stages of the staged schedule that leave something still, once without
keeping anything and once for each number of views, on the same pictures, seed by seed. Judged on validation
alone: loss (nats) and accuracy, mean over seeds, and the mean difference to "nothing kept" with its standard
error over seeds. Seconds are of the whole training, on a cold cache.
"""

import argparse
import dataclasses
import os
import tempfile
import time

from runner import fields, flags, quiet

if __name__ == "__main__":
    quiet.import_tensorflow()

import numpy as np
import pandas as pd

from runner.networks import inference
from runner.scores import calibration, classification
from runner.training import baselines
from templates.image_classification import train
from templates.image_classification.config import Config


def one(config: Config, examples, views: int) -> dict:
    """Train with so many views kept (0: nothing is kept) and judge on validation."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["THAW_CACHE"] = cache
        started = time.perf_counter()
        kept = dataclasses.replace(config, keep_frozen=views > 0, views=max(1, views))
        network, _ = train.fit(kept, examples, f"{views} views, seed {config.machine.seed}")
        seconds = time.perf_counter() - started
    table = classification.tables(*inference.outputs({"it": network}, examples.val), examples.classes)["it"]
    loss = calibration.error(table, examples.classes, resamples=2)["negative_log_likelihood"]
    return {"loss": loss, "accuracy": (table["label"] == table["prediction"]).mean(), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=4)
    arguments, rest = parser.parse_known_args()
    base, rows = flags.parse(Config, rest), []
    for seed in range(arguments.seeds):
        config = fields.replace(base, seed=seed)
        examples = train.load(config)
        for name, arm in baselines.methods(config).items():
            if baselines.called(name) == baselines.SCRATCH:
                continue
            still = tuple(stage for stage in arm.stages if stage.train != "all")
            for views in (0, *arguments.views):
                row = one(dataclasses.replace(arm, stages=still), examples, views)
                rows.append({"method": name, "views": views, "seed": seed} | row)
    table = pd.DataFrame(rows)
    print("\n| method | views kept | validation loss | difference | accuracy | difference | seconds |")
    print("| --- " * 7 + "|")
    for (name, views), part in table.groupby(["method", "views"], sort=False):
        plain = table[(table["method"] == name) & (table["views"] == 0)]
        cells = [name, str(views or "none")]
        for column in ("loss", "accuracy"):
            difference = part[column].to_numpy() - plain[column].to_numpy()
            error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
            cells += [
                f"{part[column].mean():.3f}",
                f"{difference.mean():+.3f} ± {error:.3f}" if views else "",
            ]
        print(f"| {' | '.join(cells)} | {part['seconds'].median():.1f} |")
    from runner.devices import environment

    found = environment.describe("")
    print(
        f"\n{arguments.seeds} seeds, {found['cores']} cores of {found['processor']}, TensorFlow "
        f"{found['tensorflow']}, Keras {found['keras']}, commit {found['commit']}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
