"""How near the runner comes to what cannot be saved: one forward pass, and a bare training step.

    python -m benchmarks.floor [--backbone ResNet50] [--image-size 160] [--pictures 256] [--rounds 3]

Two ratios, each of two timings taken in turn in one process, so that a busy machine slows both:

- feature extraction: a head stage of 10 epochs with kept activations, over one forward pass of the training
  and validation pictures through the same layers as Keras has them. Both start from decoded pictures in
  memory; the pass is traced before, the stage traces what it needs, which is counted. Ours folds BatchNorm
  away, which makes its own pass shorter; that pass alone stands beside it. Then the same stage again, whose
  activations the first left on disk.
- fine-tuning: an epoch of a stage that trains the top of the backbone on kept activations, over a loop of
  `train_on_batch`, and `test_on_batch` for validation, of the same upper part on batches that lie in memory.
  Epochs after the first count, so tracing does not.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import keras_guide
from runner import flags, quiet

HEAD_EPOCHS = 10
TOP_EPOCHS = 5


def measure(arguments, weights: str, scratch: Path) -> dict[str, list[float]]:
    """Seconds of each thing measured, a number per round."""
    import keras
    import pandas as pd
    import tensorflow as tf

    from runner.moving import trainable
    from runner.networks import backbones, folding
    from runner.pictures.batches import batches
    from runner.stage import Stage
    from runner.training import frozen
    from runner.training.fit import fit_stages

    examples, batch_size = keras_guide.few(arguments), keras_guide.BATCH_SIZE
    validation = batches(examples, "val", batch_size)

    def train():
        return batches(examples, "train", batch_size, shuffle=True)

    def network():
        size = len(examples.classes)
        return keras_guide.network(arguments.backbone, arguments.image_size, weights, size)

    def fit(stage: Stage) -> tuple[float, pd.DataFrame]:
        model, blocks = network()
        started = time.perf_counter()
        fitted = fit_stages(
            model,
            train(),
            validation,
            [stage],
            blocks,
            frozen=frozen.FrozenPrefix(),
        )
        return time.perf_counter() - started, fitted.history

    model, blocks = network()
    pooled = keras.Model(model.input, model.get_layer("pool").output)
    forward = tf.function(lambda x: pooled(x, training=False), reduce_retracing=True)

    folded = folding.fold(pooled)
    forward_folded = tf.function(lambda x: folded(x, training=False), reduce_retracing=True)

    def one_pass(forward=forward) -> float:
        started = time.perf_counter()
        for split in (examples.train, examples.val):
            for batch in split.batch(batch_size).prefetch(tf.data.AUTOTUNE):
                forward(batch["input"])
        return time.perf_counter() - started

    boundary = keras_guide.TOP.get(backbones.find(arguments.backbone)[0].name, blocks[-2].name)
    below = keras.Model(model.input, model.get_layer(boundary).output)
    in_memory = {
        split: [(below(images, training=False), labels) for images, labels in made.epoch()]
        for split, made in (("train", train()), ("val", validation))
    }

    def bare_loop() -> float:
        model, blocks = network()
        trainable.set_trainable(model, blocks, f"above:{boundary}")
        above = keras.Model(model.get_layer(boundary).output, model.output)
        above.compile(keras.optimizers.Adam(1e-5), model.loss, metrics=["accuracy"])
        seconds = []
        for _ in range(TOP_EPOCHS):
            started = time.perf_counter()
            for images, labels in in_memory["train"]:
                above.train_on_batch(images, labels)
            for images, labels in in_memory["val"]:
                above.test_on_batch(images, labels)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[1:])

    head = Stage("head", epochs=HEAD_EPOCHS, keep="last")
    top = Stage("top", train=f"above:{boundary}", epochs=TOP_EPOCHS, learning_rate=1e-5, keep="last")
    for each in (forward, forward_folded):
        one_pass(each)  # traced, and the processor's caches and clock are what they will be
    found: dict[str, list[float]] = {}
    with keras_guide.progress_to_stderr(), quiet.about_tracing():
        for number in range(arguments.rounds):
            os.environ["THAW_CACHE"] = str(scratch / f"cache-{number}")
            for name, take in (
                ("one forward pass", one_pass),
                ("... BatchNorm folded", lambda: one_pass(forward_folded)),
                (f"head stage, {HEAD_EPOCHS} epochs", lambda: fit(head)[0]),
                ("... kept from before", lambda: fit(head)[0]),
                ("epoch of train_on_batch, top", bare_loop),
                ("epoch of a stage, top", lambda: fit(top)[1]["seconds"].iloc[1:].median()),
            ):
                found.setdefault(name, []).append(take())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default="digits_in_photos")
    arguments = parser.parse_args()
    quiet.import_tensorflow()
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "settled.weights.h5"
        keras_guide.settle(arguments.backbone, arguments.image_size, weights)
        found = measure(arguments, str(weights), Path(scratch))
    print("| what | seconds, median | spread |\n| --- | --- | --- |")
    for name, column in found.items():
        print(f"| {name} | {statistics.median(column):.3f} | {min(column):.3f} to {max(column):.3f} |")
    one_pass, folded_pass, stage, _, loop, epoch = found.values()
    steps = -(-arguments.pictures // keras_guide.BATCH_SIZE)
    print(
        f"\nfeature extraction / forward pass {ratio(stage, one_pass)}, over the folded one "
        f"{ratio(stage, folded_pass)}; fine-tuning / train_on_batch "
        f"{ratio(epoch, loop)}, {statistics.median(epoch) / steps:.3f} s for each of {steps} steps with its "
        f"share of validation; {arguments.backbone}, {arguments.pictures} pictures of "
        f"{arguments.image_size} px, {arguments.rounds} rounds; {keras_guide.machine()}."
    )


def ratio(one: list[float], other: list[float]) -> str:
    """The median of the rounds' ratios, and their spread."""
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
