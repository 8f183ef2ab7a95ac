"""The same fine-tuning in plain PyTorch and in ours: ResNet50, its pictures, epochs, batches and weights.

    python -m benchmarks.pytorch [--image-size 160] [--pictures 256] [--epochs 5 3 0] [--rows ...]

Both train a new head on a frozen ResNet50, then the head and conv5, then (where the third number is not 0)
everything, BatchNorm frozen throughout, with Adam and dropout before the head, on the processor. The PyTorch
side (`benchmarks.pytorch_side`) is what its users write after the transfer-learning tutorial: the whole
network in every epoch. Both begin with the same weights, and on the same picture both networks give the same
answer (a test holds that). Each row is a process of its own, one after another, and only PyTorch's import
torch. "seconds" are from the first optimizer to the end of the last epoch, tracing included, imports and
decoding not. See `benchmarks.keras_guide` for the columns.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import keras_guide
from runner import flags, quiet

ROWS = ("pytorch", "pytorch bfloat16", "ours", "ours bfloat16")


def write_job(arguments, weights: str, path: Path) -> None:
    """Write what the PyTorch side needs: pictures, labels and Keras' weights, as "layer/variable"."""
    import keras

    examples = keras_guide.few(arguments)
    arrays = {"classes": np.array(len(examples.classes))}
    for split in ("train", "val"):
        rows = list(getattr(examples, split).as_numpy_iterator())
        arrays[f"{split}_pictures"] = np.stack([one["input"].transpose(2, 0, 1) for one in rows])
        arrays[f"{split}_labels"] = np.array([one["label"] for one in rows], dtype="int64")
    shape = (arguments.image_size, arguments.image_size, 3)
    base = keras.applications.ResNet50(include_top=False, weights=weights, input_shape=shape)
    np.savez(path, **arrays, **named_weights(base))


def named_weights(model) -> dict[str, np.ndarray]:
    """All variables of a Keras model by "layer/variable"."""
    return {
        f"{layer.name}/{variable.name}": variable.numpy()
        for layer in model.layers
        for variable in layer.weights
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[keras_guide.job()]
    )
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed, so there is nothing to compare with: pip install torch")
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # both sides on the processor
    quiet.import_tensorflow()
    keras_guide.print_head(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        weights = keras_guide.settled(arguments, "ResNet50", Path(scratch))
        job = Path(scratch) / "job.npz"
        keras_guide.apart(write_job, arguments, weights, job)
        rows = {}
        for row in arguments.rows:
            rows[row] = (
                side(arguments, row, job)
                if row.startswith("pytorch")
                else keras_guide.row_command(arguments, row, "ResNet50", weights)
            )
        keras_guide.compare(arguments, "ResNet50", rows)
    keras_guide.print_foot(arguments)
    print(f"PyTorch {importlib.metadata.version('torch')}.")


def side(arguments, row: str, job: Path) -> list[str]:
    """What runs a row of PyTorch, after `python -m`."""
    words = ["benchmarks.pytorch_side", str(job), "--batch-size", str(keras_guide.BATCH_SIZE)]
    words += ["--rates", *map(str, keras_guide.LEARNING_RATES), "--epochs", *map(str, arguments.epochs)]
    return words + ["--bfloat16"] * ("bfloat16" in row)


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
