"""The loop of Keras' transfer-learning guide against ours: the same network, pictures, epochs and batches.

    python -m benchmarks.keras_guide [--backbones ResNet50 VGG16 InceptionV3] [--image-size 160]
        [--pictures 256] [--epochs 5 3 0] [--data NAME --weights WEIGHTS] [--rows guide ours ...]

Both train a new head on a frozen backbone, then the head and the top of the backbone, then (where the third
number is not 0) everything, BatchNorm frozen throughout. The guide's loop (keras.io/guides/transfer_learning)
calls the backbone in inference mode inside `fit`, so each epoch runs all of it; ours computes what is frozen
once. Each row is a process of its own, one after another; "seconds" are from the first `compile` to the end
of the last `fit`, tracing included, imports and decoding not. An epoch of "all" cannot be kept: there both do
the same work.

Rows: guide, guide bfloat16, ours, ours bfloat16 without augmentation; "... augmented" with the guide's flips
and rotations against our "light" with flips. "images/s" are training pictures times epochs over a stage's
seconds, validation and tracing included. Random weights serve for the time. With real data and weights the
accuracies mean something, and one column more says when a row first came to the validation accuracy at which
the first row of its kind ended.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runner import flags, quiet
from runner.errors import InputError

TOP = {"VGG16": "block4_pool", "ResNet50": "conv4_block6_out", "InceptionV3": "mixed7"}
"""Above which named block the second stage trains; of other backbones it is the last block."""
ROWS = ("guide", "guide bfloat16", "ours", "ours bfloat16", "guide augmented", "ours augmented")
BATCH_SIZE = 32
LEARNING_RATES = (1e-3, 1e-5, 1e-5)
"""Of the stages head, top and all."""


def few(arguments):
    """A `Data` of as many pictures as asked for, and a quarter as many to validate; the rest is unused."""
    from runner.pictures.load import load as load_pictures

    examples = load_pictures(arguments.data, arguments.image_size, val_fraction=0.2, test_fraction=0.2)
    least = min(int((examples.manifest["split"] == "train").sum()), 4 * int(examples.val.cardinality()))
    if arguments.pictures > least:
        raise InputError(
            f"--pictures {arguments.pictures}: {arguments.data} has too few to train on, or to validate on a "
            f"quarter as many; give at most {least}."
        )
    train = examples.train.shuffle(10**6, seed=0, reshuffle_each_iteration=False).take(arguments.pictures)
    train, val = train.cache(), examples.val.take(arguments.pictures // 4).cache()
    manifest = examples.manifest.assign(split="unused")
    for split, dataset in (("train", train), ("val", val)):  # also decodes them before any clock runs
        manifest.loc[[int(one["id"]) for one in dataset.as_numpy_iterator()], "split"] = split
    return dataclasses.replace(examples, train=train, val=val, manifest=manifest)


def network(backbone: str, image_size: int, weights: str, classes: int):
    """The classifier that our side trains, compiled, and the blocks of its backbone."""
    import keras

    from runner.networks import backbones

    base = backbones.build(backbone, image_size, weights)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    logits = keras.layers.Dense(classes, dtype="float32")(keras.layers.Dropout(0.2)(x))
    model = keras.Model(base.input, logits, name=base.name)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model, backbones.blocks(base)


def guide(arguments, row: str) -> dict:
    """The guide's loop, as its text has it, with the boundary of `TOP` for the second stage."""
    import keras
    import tensorflow as tf

    from runner.networks import backbones

    examples = few(arguments)
    classes, name = len(examples.classes), arguments.backbone
    family, width = backbones.find(name)
    layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def augmented(images, labels):
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    def batched(dataset, augment):
        pairs = dataset.map(lambda one: (tf.cast(one["input"], tf.float32), one["label"]))
        pairs = pairs.batch(BATCH_SIZE)
        if augment:
            pairs = pairs.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
        return pairs.prefetch(tf.data.AUTOTUNE)

    train = batched(examples.train.shuffle(arguments.pictures, seed=0), "augmented" in row)
    val = batched(examples.val, False)
    size = arguments.image_size
    options = {"alpha": width} if family.has_width else {}
    base = getattr(keras.applications, family.name)(
        include_top=False, weights=arguments.weights, input_shape=(size, size, 3), **options
    )
    inputs = keras.Input((size, size, 3))
    x = inputs
    if family.pixels != "inside":
        x = keras.applications.imagenet_utils.preprocess_input(x, mode=family.pixels)
    x = base(x, training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))

    def top(layer):
        names = [one.name for one in base.layers]
        boundary = TOP.get(family.name)
        return names.index(layer.name) > (names.index(boundary) if boundary in names else len(names) - 8)

    seconds, curve = [], []

    def note(epoch, logs):
        curve.append([sum(seconds) + time.perf_counter() - started, logs["val_accuracy"]])

    for epochs, rate, chosen in zip(
        arguments.epochs, LEARNING_RATES, (lambda layer: False, top, lambda layer: True), strict=True
    ):
        if not epochs:
            continue
        started = time.perf_counter()
        base.trainable = True
        for layer in base.layers:
            layer.trainable = chosen(layer) and not isinstance(layer, keras.layers.BatchNormalization)
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        noted = keras.callbacks.LambdaCallback(on_epoch_end=note)
        model.fit(train, validation_data=val, epochs=epochs, verbose=0, callbacks=[noted])
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "curve": curve}


def ours(arguments, row: str) -> dict:
    """The runner's stages with kept activations; a fresh folder, so that no earlier run helps."""
    from runner.networks import backbones
    from runner.pictures.batches import batches
    from runner.stage import Stage
    from runner.training import frozen
    from runner.training.fit import fit_stages

    examples = few(arguments)
    boundary = TOP.get(backbones.find(arguments.backbone)[0].name)
    stages = [
        Stage(name, train=what, epochs=epochs, learning_rate=rate, keep="last")
        for name, what, epochs, rate in zip(
            ("head", "top", "all"),
            ("head", f"above:{boundary}" if boundary else "top:1", "all"),
            arguments.epochs,
            LEARNING_RATES,
            strict=True,
        )
        if epochs
    ]
    strength, flip = ("light", True) if "augmented" in row else ("none", False)
    model, blocks = network(
        arguments.backbone, arguments.image_size, arguments.weights, len(examples.classes)
    )
    begun = []

    class Prefix(frozen.FrozenPrefix):
        """Notes when a stage begins."""

        def part(self, *arguments):
            begun.append(time.perf_counter())
            return super().part(*arguments)

    fitted = fit_stages(
        model,
        batches(examples, "train", BATCH_SIZE, shuffle=True, strength=strength, flip=flip),
        batches(examples, "val", BATCH_SIZE),
        stages,
        blocks,
        frozen=Prefix(views=arguments.views),
    )
    begun.append(time.perf_counter())
    seconds = [end - start for start, end in itertools.pairwise(begun)]
    curve = []
    for number, stage in enumerate(stages):
        epochs = fitted.history[fitted.history["stage"] == stage.name]
        # What was kept and traced comes before the first epoch; the little after the last counts there too.
        ends = sum(seconds[: number + 1]) - epochs["seconds"].sum() + epochs["seconds"].cumsum()
        curve += [list(pair) for pair in zip(ends, epochs["val_accuracy"], strict=True)]
    return {"seconds": seconds, "curve": curve}


def settle(backbone: str, image_size: int, path: Path) -> None:
    """Write random weights whose BatchNorm statistics are those of noise, or deep networks would overflow."""
    import keras
    import numpy as np

    from runner.networks import backbones

    keras.utils.set_random_seed(0)
    family, width = backbones.find(backbone)
    options = {"alpha": width} if family.has_width else {}
    model = getattr(keras.applications, family.name)(
        include_top=False, weights=None, input_shape=(image_size, image_size, 3), **options
    )
    noise = np.random.default_rng(0).uniform(-1, 1, (16, image_size, image_size, 3)).astype("float32")
    from runner.moving import batch_norm

    batch_norm.reestimate(model, [noise, noise])
    model.save_weights(path)


def one_row(arguments, row: str) -> None:
    """Run a row in this process and print its result as one line of JSON."""
    quiet.import_tensorflow()
    import keras

    from runner.devices import environment, precision

    keras.utils.set_random_seed(0)
    precision.set_policy("mixed_bfloat16" if "bfloat16" in row else "float32")
    result = (guide if row.startswith("guide") else ours)(arguments, row)
    print(json.dumps(result | {"gigabytes": environment.peak_memory_gigabytes()}))


def compare(arguments, backbone: str, commands: Mapping[str, Sequence[str]]) -> None:
    """Run a command per row, each as a process of its own, and print the table's lines.

    A command prints, as its last line, JSON with "seconds" (of each stage), "curve" ([seconds so far,
    validation accuracy] after each epoch) and "gigabytes". The first row of each kind, with and without
    augmentation, is what others are compared with.
    """
    base: dict[bool, dict] = {}
    epochs = [count for count in arguments.epochs if count]
    for row, command in commands.items():
        with tempfile.TemporaryDirectory() as cache:  # a fresh one: no earlier run helps
            environment = {**os.environ, "THAW_CACHE": cache}
            done = subprocess.run(
                [sys.executable, "-m", *command], capture_output=True, text=True, env=environment
            )
        if done.returncode:
            sys.exit(f"{row} failed:\n{done.stderr[-3000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        first = base.setdefault("augmented" in row, found)
        total, accuracy = sum(found["seconds"]), found["curve"][-1][1]
        cells = [f"{one:.1f}" for one in found["seconds"]]
        cells += [f"{total:.1f}", f"{sum(first['seconds']) / total:.1f}"]
        cells += [
            f"{arguments.pictures * count / one:,.0f}"
            for count, one in zip(epochs, found["seconds"], strict=True)
        ]
        if arguments.weights != "none":
            when = reached(found["curve"], first["curve"][-1][1])
            cells.append("not reached" if when is None else f"{when:.1f}")
        cells += [f"{accuracy:.3f}", f"{found['gigabytes']:.1f}"]
        print(f"| {backbone} | {row} | {' | '.join(cells)} |", flush=True)


def reached(curve: Sequence[Sequence[float]], accuracy: float) -> float | None:
    """Seconds to the end of the first epoch with at least this validation accuracy, or None."""
    return next((seconds for seconds, value in curve if value >= accuracy - 1e-9), None)


def print_head(arguments) -> None:
    """The head of the table that `compare` fills."""
    stages = [name for name, epochs in zip(("head", "top", "all"), arguments.epochs, strict=True) if epochs]
    names = ["backbone", "loop", *(f"{name}, s" for name in stages), "total, s", "times faster"]
    names += [f"{name}, images/s" for name in stages]
    if arguments.weights != "none":
        names.append("s to the first row's accuracy")
    names += ["validation accuracy", "peak memory, GB"]
    print(f"| {' | '.join(names)} |\n" + "| --- " * len(names) + "|")


def print_foot(arguments) -> None:
    """What the table is about, and where it was measured."""
    weights = "random" if arguments.weights == "none" else Path(arguments.weights).name
    print(
        f"\n{arguments.pictures} pictures of {arguments.image_size} px from {Path(arguments.data).name}, "
        f"epochs {' + '.join(map(str, arguments.epochs))}, batches of {BATCH_SIZE}, weights {weights}; "
        f"{machine()}."
    )


def machine() -> str:
    """Processor, versions and commit in one line."""

    from runner.devices import environment

    found = environment.describe("")
    return (
        f"{found['cores']} cores of {found['processor']}, GPU: {found['gpus']}, TensorFlow "
        f"{found['tensorflow']}, Keras {found['keras']}, commit {found['commit']}"
    )


def progress_to_stderr():
    """Within the block a fit's lines go to standard error, so that a benchmark's output is its table."""
    return contextlib.redirect_stdout(sys.stderr)


def settled(arguments, backbone: str, scratch: Path) -> str:
    """The weights that were asked for, or, for "none", a file with random ones that do not overflow."""
    if arguments.weights != "none":
        return arguments.weights
    path = scratch / f"{backbone}.weights.h5"
    apart(settle, backbone, arguments.image_size, path)
    return str(path)


def apart(function: Callable[..., None], *arguments) -> None:
    """Call a function in a process of its own. Linux counts the peak memory of the process that starts
    another as the other's too, so what starts the rows must stay small.
    """
    process = multiprocessing.get_context("spawn").Process(target=_quietly, args=(function, *arguments))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{function.__name__} failed with exit code {process.exitcode}.")


def _quietly(function: Callable[..., None], *arguments) -> None:
    quiet.import_tensorflow()
    with flags.exit_on_input_error():
        function(*arguments)


def row_command(arguments, row: str, backbone: str, weights: str) -> list[str]:
    """What runs one row, after `python -m`."""
    words = ["benchmarks.keras_guide", "--row", row, "--backbone", backbone, "--weights", weights]
    words += ["--image-size", str(arguments.image_size), "--pictures", str(arguments.pictures)]
    return [*words, "--data", arguments.data, "--epochs", *map(str, arguments.epochs)]


def job() -> argparse.ArgumentParser:
    """The flags that say what is trained, which `benchmarks.pytorch` has too."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument(
        "--pictures", type=int, default=256, help="to train on; a quarter as many to validate"
    )
    parser.add_argument("--epochs", type=int, nargs=3, default=[5, 3, 0], help="of head, top and all")
    parser.add_argument("--data", default="digits_in_photos")
    parser.add_argument("--weights", default="none", help="none, imagenet or a file that Keras loads")
    return parser


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[job()]
    )
    parser.add_argument("--backbones", nargs="+", default=["ResNet50"])
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--views", type=int, default=16, help="kept of each picture, with augmentation")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--backbone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        one_row(arguments, arguments.row)
        return
    quiet.import_tensorflow()
    print_head(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        for backbone in arguments.backbones:
            weights = settled(arguments, backbone, Path(scratch))
            views = ["--views", str(arguments.views)]
            rows = {row: row_command(arguments, row, backbone, weights) + views for row in arguments.rows}
            compare(arguments, backbone, rows)
    print_foot(arguments)


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
