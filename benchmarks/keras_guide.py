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
and rotations against our "light" with flips. Random weights serve for the time; give real data and weights
to compare accuracies.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner import config as flags
from runner import quiet

TOP = {"VGG16": "block4_pool", "ResNet50": "conv4_block6_out", "InceptionV3": "mixed7"}
"""Above which named block the second stage trains; of other backbones it is the last block."""
ROWS = ("guide", "guide bfloat16", "ours", "ours bfloat16", "guide augmented", "ours augmented")
BATCH_SIZE = 32


def few(arguments):
    """A `Data` of as many pictures as asked for, and a quarter as many to validate; the rest is unused."""
    from runner import data

    examples = data.load(arguments.data, arguments.image_size, val_fraction=0.2, test_fraction=0.2)
    train = examples.train.shuffle(10**6, seed=0, reshuffle_each_iteration=False).take(arguments.pictures)
    train, val = train.cache(), examples.val.take(arguments.pictures // 4).cache()
    manifest = examples.manifest.assign(split="unused")
    for split, dataset in (("train", train), ("val", val)):  # also decodes them before any clock runs
        manifest.loc[[int(one["id"]) for one in dataset.as_numpy_iterator()], "split"] = split
    return dataclasses.replace(examples, train=train, val=val, manifest=manifest)


def guide(arguments, row: str) -> dict:
    """The guide's loop, as its text has it, with the boundary of `TOP` for the second stage."""
    import keras
    import tensorflow as tf

    from runner import backbones

    examples = few(arguments)
    classes, name = len(examples.classes), arguments.backbone
    family, width = backbones.find(name)
    layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def augmented(images, labels):
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    def batched(dataset, augment):
        pairs = dataset.map(lambda one: (tf.cast(one["image"], tf.float32), one["label"]))
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

    seconds, accuracy = [], 0.0
    for epochs, rate, chosen in zip(
        arguments.epochs, (1e-3, 1e-5, 1e-5), (lambda layer: False, top, lambda layer: True), strict=True
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
        history = model.fit(train, validation_data=val, epochs=epochs, verbose=0)
        seconds.append(time.perf_counter() - started)
        accuracy = history.history["val_accuracy"][-1]
    return {"seconds": seconds, "accuracy": accuracy}


def ours(arguments, row: str) -> dict:
    """The runner's stages with kept activations; a fresh folder, so that no earlier run helps."""
    import keras

    from runner import backbones, frozen, training
    from runner.config import Stage

    examples = few(arguments)
    boundary = TOP.get(backbones.find(arguments.backbone)[0].name)
    stages = [
        Stage(name, train=what, epochs=epochs, learning_rate=rate, keep="last")
        for name, what, epochs, rate in zip(
            ("head", "top", "all"),
            ("head", f"above:{boundary}" if boundary else "top:1", "all"),
            arguments.epochs,
            (1e-3, 1e-5, 1e-5),
            strict=True,
        )
        if epochs
    ]
    strength, flip = ("light", True) if "augmented" in row else ("none", False)
    backbone = backbones.build(arguments.backbone, arguments.image_size, arguments.weights)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(backbone.output))
    logits = keras.layers.Dense(len(examples.classes), dtype="float32")(x)
    model = keras.Model(backbone.input, logits, name=backbone.name)
    source = dict(
        examples=examples.train,
        classes=examples.classes,
        batch_size=BATCH_SIZE,
        shuffle=True,
        strength=strength,
        flip=flip,
    )
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    prefix = frozen.FrozenPrefix(
        examples, batch_size=BATCH_SIZE, strength=strength, flip=flip, views=arguments.views
    )
    seconds = []
    for stage in stages:  # one by one, to know the time of each
        started = time.perf_counter()
        fitted = training.fit(
            model,
            training.batches(**source),
            training.batches(examples.val, examples.classes, BATCH_SIZE),
            [stage],
            backbones.blocks(backbone),
            train_from=lambda step: training.named_batches(**source, start=step),
            frozen=prefix,
        )
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "accuracy": fitted.history["val_accuracy"].iloc[-1]}


def settle(backbone: str, image_size: int, path: Path) -> None:
    """Write random weights whose BatchNorm statistics are those of noise, or deep networks would overflow."""
    import keras
    import numpy as np

    from runner import backbones, trainable

    keras.utils.set_random_seed(0)
    family, width = backbones.find(backbone)
    options = {"alpha": width} if family.has_width else {}
    model = getattr(keras.applications, family.name)(
        include_top=False, weights=None, input_shape=(image_size, image_size, 3), **options
    )
    noise = np.random.default_rng(0).uniform(-1, 1, (16, image_size, image_size, 3)).astype("float32")
    trainable.reestimate_batch_norm(model, [noise, noise])
    model.save_weights(path)


def one_row(arguments, row: str) -> None:
    """Run a row in this process and print its result as one line of JSON."""
    quiet.import_tensorflow()
    import keras

    from runner import strategy

    keras.utils.set_random_seed(0)
    strategy.set_precision("mixed_bfloat16" if "bfloat16" in row else "float32")
    result = (guide if row.startswith("guide") else ours)(arguments, row)
    print(json.dumps(result | {"gigabytes": strategy.peak_memory_gigabytes()}))


def compare(arguments, scratch: Path) -> None:
    """Run all rows, each in a process of its own, and print the table."""
    stages = [name for name, epochs in zip(("head", "top", "all"), arguments.epochs) if epochs]
    print(
        f"| backbone | loop | {' | '.join(f'{name}, s' for name in stages)} | total, s | times faster | "
        "validation accuracy | peak memory, GB |"
    )
    print("| --- " * (len(stages) + 6) + "|")
    for backbone in arguments.backbones:
        base: dict[bool, float] = {}
        weights = arguments.weights
        if weights == "none":
            weights = scratch / f"{backbone}.weights.h5"
            settle(backbone, arguments.image_size, weights)
        for row in arguments.rows:
            command = [sys.executable, "-m", "benchmarks.keras_guide", "--row", row, "--backbone", backbone]
            for name in ("image_size", "pictures", "data", "views"):
                command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
            command += ["--epochs", *map(str, arguments.epochs), "--weights", str(weights)]
            with tempfile.TemporaryDirectory() as cache:  # a fresh one: no earlier run helps
                environment = {**os.environ, "THAW_CACHE": cache}
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                sys.exit(f"{row} failed:\n{done.stderr[-3000:]}")
            found = json.loads(done.stdout.splitlines()[-1])
            total = sum(found["seconds"])
            augmented = "augmented" in row
            base.setdefault(augmented, total)  # the first row of each kind is what others are compared with
            cells = " | ".join(f"{one:.1f}" for one in found["seconds"])
            print(
                f"| {backbone} | {row} | {cells} | {total:.1f} | {base[augmented] / total:.1f} | "
                f"{found['accuracy']:.3f} | {found['gigabytes']:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=["ResNet50"])
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument(
        "--pictures", type=int, default=256, help="to train on; a quarter as many to validate"
    )
    parser.add_argument("--epochs", type=int, nargs=3, default=[5, 3, 0], help="of head, top and all")
    parser.add_argument("--data", default="digits_in_photos")
    parser.add_argument("--weights", default="none", help="none, imagenet or a file that Keras loads")
    parser.add_argument("--views", type=int, default=16, help="kept of each picture, with augmentation")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--backbone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        one_row(arguments, arguments.row)
        return
    quiet.import_tensorflow()
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments, Path(scratch))
    from runner import strategy

    found = strategy.environment("")
    print(
        f"\n{arguments.pictures} pictures of {arguments.image_size} px, epochs "
        f"{' + '.join(map(str, arguments.epochs))}, batches of {BATCH_SIZE}, weights "
        f"{Path(arguments.weights).name}; {found['cores']} cores of {found['processor']}, TensorFlow "
        f"{found['tensorflow']}, Keras {found['keras']}, commit {found['commit']}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
