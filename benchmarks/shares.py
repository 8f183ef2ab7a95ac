"""What one of several workers makes of a batch: pictures of all workers per second, if each does its share.

    python -m benchmarks.shares [--workers 1 2 4] [--image-size 224] [--strength strong] [--batch-size 64]
        [--rounds 5]

Pictures in memory, shuffled and augmented; nothing trains. The rounds take turns, and each row is the median
over them with its range: on a machine that does nothing else, N workers on N hosts should make N times as
many. All of a batch that a worker has to touch is copied into it before its rows are taken out.
"""

import argparse
import statistics
import time
from types import SimpleNamespace

from runner import flags, quiet

if __name__ == "__main__":
    quiet.import_tensorflow()

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.augment import views as augment
from runner.devices.multi_worker import Share
from runner.pictures.batches import batches

BATCHES = 20


def parse(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--strength", choices=augment.STRENGTHS, default="strong")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(arguments)


def speed(examples: SimpleNamespace, workers: int, strength: str, batch_size: int) -> float:
    """Pictures per second of all workers together, measured on the first of them."""
    share = Share(workers, workers, 0) if workers > 1 else None
    made = iter(batches(examples, "train", batch_size, shuffle=True, strength=strength).after(0, share))
    next(made)  # compiles the augmentation and fills the shuffle buffer
    started = time.perf_counter()
    for _ in range(BATCHES):
        next(made)
    return BATCHES * batch_size / (time.perf_counter() - started)


def main(arguments=None) -> pd.DataFrame:
    options = parse(arguments)
    count, size = 4 * options.batch_size, options.image_size
    pictures = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), "uint8")
    elements = {"id": np.arange(count), "input": pictures, "label": np.arange(count) % 2}
    examples = SimpleNamespace(train=tf.data.Dataset.from_tensor_slices(elements), classes=("a", "b"))
    found = {workers: [] for workers in options.workers}
    for _ in range(options.rounds):
        for workers, speeds in found.items():
            speeds.append(speed(examples, workers, options.strength, options.batch_size))
    table = pd.DataFrame(
        [
            {
                "workers": workers,
                "pictures/s": statistics.median(speeds),
                "lowest": min(speeds),
                "highest": max(speeds),
            }
            for workers, speeds in found.items()
        ]
    )
    print(table.to_string(index=False, float_format=lambda number: f"{number:.0f}"))
    return table


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
