"""How near the runner comes to what cannot be saved: one forward pass, and a bare `model.fit`.

    python -m benchmarks.floor [--backbone ResNet50] [--image-size 160] [--pictures 256] [--rounds 3]

Three ratios, each of two timings taken in turn in one process, so that a busy machine slows both:

- feature extraction: a head stage of 10 epochs with kept activations, over one forward pass of the training
  and validation pictures through the same part of the network. Both start from decoded pictures in memory
  and compiled functions; the stage also traces its small train function, which is counted.
- the same stage again, whose activations the first left on disk, in seconds.
- overhead: a stage of 3 epochs that trains the head without keeping anything, over a bare `model.fit` of the
  same model on the same batches, tracing of both included.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import keras_guide
from runner import config as flags
from runner import quiet


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
    with tempfile.TemporaryDirectory() as scratch, quiet.about_tracing():
        weights = Path(scratch) / "settled.weights.h5"
        keras_guide.settle(arguments.backbone, arguments.image_size, weights)
        measure(arguments, str(weights), Path(scratch))


def measure(arguments, weights: str, scratch: Path) -> None:
    import keras
    import tensorflow as tf

    from runner import backbones, frozen, strategy, training
    from runner.config import Stage

    examples = keras_guide.few(arguments)
    source = dict(examples=examples.train, classes=examples.classes, batch_size=32, shuffle=True)
    validation = training.batches(examples.val, examples.classes, 32)

    def network():
        backbone = backbones.build(arguments.backbone, arguments.image_size, weights)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
        logits = keras.layers.Dense(len(examples.classes), dtype="float32")(x)
        model = keras.Model(backbone.input, logits, name=backbone.name)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
        return model, backbones.blocks(backbone)

    def fit(epochs: int, keep: bool) -> float:
        model, blocks = network()
        started = time.perf_counter()
        training.fit(
            model,
            training.batches(**source),
            validation,
            [Stage("head", epochs=epochs, keep="last")],
            blocks,
            train_from=lambda step: training.named_batches(**source, start=step),
            frozen=frozen.FrozenPrefix(examples, batch_size=32) if keep else None,
        )
        return time.perf_counter() - started

    def bare(epochs: int) -> float:
        model, blocks = network()
        for block in blocks:
            for name in block.layers:
                model.get_layer(name).trainable = False
        model.compile(model.optimizer, model.loss, metrics=["accuracy"])
        started = time.perf_counter()
        model.fit(training.batches(**source), validation_data=validation, epochs=epochs, verbose=0)
        return time.perf_counter() - started

    model, _ = network()
    below = keras.Model(model.input, model.get_layer("pool").output)
    forward = tf.function(lambda x: below(x, training=False), reduce_retracing=True)

    def one_pass() -> float:
        started = time.perf_counter()
        for split in (examples.train, examples.val):
            for batch in split.batch(32).prefetch(tf.data.AUTOTUNE):
                forward(batch["image"])
        return time.perf_counter() - started

    one_pass()  # traced, and the processor's caches and clock are what they will be
    rows = []
    for number in range(arguments.rounds):
        os.environ["THAW_CACHE"] = str(scratch / f"cache-{number}")
        rows.append((one_pass(), fit(10, True), fit(10, True), bare(3), fit(3, False)))
    median = [statistics.median(column) for column in zip(*rows)]
    spread = [f"{min(column):.2f} to {max(column):.2f}" for column in zip(*rows)]
    extraction = sorted(row[1] / row[0] for row in rows)
    overhead = sorted(row[4] / row[3] for row in rows)
    print("\n| what | seconds, median | spread |\n| --- | --- | --- |")
    names = (
        "one forward pass",
        "head stage, 10 epochs",
        "... kept from before",
        "bare fit, 3 epochs",
        "runner",
    )
    for name, value, between in zip(names, median, spread, strict=True):
        print(f"| {name} | {value:.2f} | {between} |")
    found = strategy.environment("")
    print(
        f"\nfeature extraction / forward pass {statistics.median(extraction):.2f} "
        f"({extraction[0]:.2f} to {extraction[-1]:.2f}); runner / bare fit {statistics.median(overhead):.3f} "
        f"({overhead[0]:.3f} to {overhead[-1]:.3f}); {arguments.backbone}, {arguments.pictures} pictures of "
        f"{arguments.image_size} px, {arguments.rounds} rounds, {found['cores']} cores of "
        f"{found['processor']}, TensorFlow {found['tensorflow']}, commit {found['commit']}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
