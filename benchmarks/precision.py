"""What half precision brings on this device, network by network: what `strategy.choose_precision` rests on.

    python -m benchmarks.precision [--backbones ResNet50 VGG16 ...] [--image-size 160] [--rounds 5]
        [--half mixed_bfloat16]

For each backbone, float32 and half precision are timed in turn in one process, so that a busy machine slows
both: computing the frozen part as `frozen.FrozenPrefix` does (BatchNorm folded), and a training step of all
weights with BatchNorm frozen. Random weights and pictures; tracing is not counted.
"""

import argparse
import statistics
import time

from runner import flags, quiet

BACKBONES = ("VGG16", "ResNet50", "InceptionV3", "DenseNet121", "Xception", "MobileNet-0.25", "MobileNetV2")
BACKBONES += ("EfficientNetB0", "ConvNeXtTiny")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--half", default="mixed_bfloat16", choices=("mixed_bfloat16", "mixed_float16"))
    arguments = parser.parse_args()
    quiet.import_tensorflow()

    print("| backbone | frozen part, images/s | in half | gain | training, images/s | in half | gain |")
    print("| --- " * 7 + "|")
    for name in arguments.backbones:
        with quiet.about_tracing():
            seconds = measure(name, arguments)
        rates = {key: arguments.batch_size / statistics.median(values) for key, values in seconds.items()}
        cells = []
        for job in ("frozen", "training"):
            whole, half = (rates[job, precision] for precision in ("float32", arguments.half))
            cells += [f"{whole:,.0f}", f"{half:,.0f}", f"{half / whole:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    from runner.devices import environment

    found = environment.describe("")
    print(
        f"\n{arguments.half}, {arguments.image_size} px, batch {arguments.batch_size}, median of "
        f"{arguments.rounds} rounds, {found['cores']} cores of {found['processor']}, GPUs: {found['gpus']}, "
        f"TensorFlow {found['tensorflow']}, commit {found['commit']}."
    )


def measure(name: str, arguments) -> dict[tuple[str, str], list[float]]:
    """Seconds a batch, by (job, precision), a number for each round."""
    import keras
    import numpy as np

    jobs = {}
    for precision in ("float32", arguments.half):
        for job, call in calls(name, precision, arguments).items():
            jobs[job, precision] = call
            call()
    seconds = {key: [] for key in jobs}
    for _ in range(arguments.rounds):
        for key, call in jobs.items():
            started = time.perf_counter()
            np.asarray(call())
            seconds[key].append(time.perf_counter() - started)
    keras.utils.clear_session()
    return seconds


def calls(name: str, precision: str, arguments) -> dict:
    """The two jobs on one batch, as functions of nothing."""
    import keras
    import numpy as np
    import tensorflow as tf

    from runner.devices.precision import set_policy
    from runner.networks import backbones, folding

    set_policy(precision)
    backbone = backbones.build(name, arguments.image_size, "none")
    set_policy("float32")
    size, count = arguments.image_size, arguments.batch_size
    pictures = tf.constant(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype="uint8"))
    labels = tf.one_hot(tf.range(count) % 10, 10)
    folded = folding.fold(backbone)
    forward = tf.function(lambda: folded(pictures, training=False))
    for layer in backbone.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(10, dtype="float32")(pooled))
    # So small a rate that random weights do not run off to infinity, which would be timed instead.
    model.compile(keras.optimizers.Adam(1e-9), keras.losses.CategoricalCrossentropy(from_logits=True))
    return {"frozen": forward, "training": lambda: model.train_on_batch(pictures, labels)}


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
