"""The same training on 1 and 2 workers and replicas: is it the same, what does it cost, and what would many
GPUs bring?

    python -m benchmarks.scaling [--backbone MobileNet-0.25] [--image-size 64] [--batch-size 32]
        [--layouts 1x1 1x2 2x1] [--rounds 3] [--grow-batch] [--precision float32]
    python -m benchmarks.scaling --only paper [--step-seconds 0.05 --paper-backbone ResNet50
        --paper-image-size 224] [--gradient-megabytes 94] [--link-gigabytes-per-second 25 12.5]
        [--latency-microseconds 5] [--gpus 8 64 512]

Measured: a layout is WORKERSxREPLICAS: processes of `python -m runner launch` times the replicas of each,
which are GPUs or, where there is none, logical CPUs. 1x1 is one plain process; all train the same network
from the same weights on the same batches, without dropout or augmentation, by SGD (Adam divides by gradients
that may be nothing but rounding), with BatchNorm frozen as in the templates' stages. Sums in another order
are rounded otherwise, which training from random weights makes much larger, from fitting ones little. So 1x1
also trains with the rows of each batch in reverse order: as far apart as that may equal trainings end.

A step is the median over the epochs after the first, in which functions are traced. Each round runs all
layouts in turn; the overhead is the median over the rounds of a layout's step over that of 1x1 in the same
round, at the same batch of all replicas together. One process uses all cores already, so on one host without
GPUs more replicas can only cost: no speed-up is to be seen. With GPUs images/s and the efficiency (images/s
over those of 1x1 times the replicas) have columns of their own; --grow-batch takes --batch-size for each
replica, and then weights cannot be compared.

On paper: arithmetic, not measured. n GPUs, each with a batch of its own, add up their gradients of B bytes (4
for each weight that trains) in a ring, over links of b bytes a second with a latency of a seconds a message:

    t = 2 (n - 1) / n * B / b + 2 (n - 1) * a

(Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel
Distrib. Comput. 69). The efficiency is the step s of one GPU over s + t, where the sum waits for the end of
the backward pass, and over s + max(0, t - backward) where it is hidden behind it; both leave out whatever
else is lost. BatchNorm that learns takes its statistics over all GPUs: for each layer five more sums (three
forward, two backward) of 4 bytes a channel, for which the pass waits in both.

The step of a whole network is --step-seconds, or what was just measured on a GPU, or that of ResNet50 on one
A100: batches of 256 at 2,400 images/s, about what NVIDIA publishes for mixed precision with XLA
(DeepLearningExamples, ResNet-50 v1.5 for TensorFlow: 2,375 on one A100; eight with NVLink are 7.32 times as
fast, 92 % of eight). A third of it is the forward pass; the backward pass takes two thirds times the part of
the multiplications in the blocks that train, so a stage that trains only the head has nothing to hide a sum
behind. With the frozen part computed once (`runner.frozen`) a step is shorter than that, and the efficiency
lower. 25 GB/s is one NVLink of an A100 in one direction, 12.5 GB/s are 100 Gbit/s.
"""

import argparse
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import keras_guide
from runner import flags, quiet
from runner.devices import launch
from runner.errors import InputError

BATCHES = 8
"""Different batches, the steps of an epoch."""
CLASSES = 10
OWN_WEIGHTS = {"MobileNet-0.25": "letters_in_photos"}
PUBLISHED = ("ResNet50", 224, 256 / 2400)
"""Backbone, pixels and seconds of a step of an A100, see above."""
FORWARD = 1 / 3
"""The forward pass' part of a step that trains everything."""
STAGES = {
    "head only": ("head", "frozen"),
    "top block": ("top:1", "frozen"),
    "all, BatchNorm frozen": ("all", "frozen"),
    "full, BatchNorm learns": ("all", "train"),
}
"""What a row of the paper table trains: `train` and `batch_norm` of a stage."""
SUMS_PER_BATCH_NORM = 5


# ---------------------------------------------------------------- on paper


@dataclass(frozen=True)
class Load:
    """What a stage computes and sends in one step."""

    gradient_bytes: float
    backward: float
    """The multiplications of the backward pass, over those of a network that trains as a whole: 0 to 1."""
    channels: tuple[int, ...] = ()
    """Those of each BatchNorm layer that learns."""


def ring(size: float, gpus: int, bandwidth: float, latency: float) -> float:
    """Seconds to add up `size` bytes of each of `gpus` in a ring; bandwidth in bytes/s, latency in s."""
    return 2 * (gpus - 1) / gpus * size / bandwidth + 2 * (gpus - 1) * latency


def efficiency(load: Load, step: float, gpus: int, bandwidth: float, latency: float) -> tuple[float, float]:
    """The efficiency (0 to 1) of `gpus`, where the gradients' sum is not hidden and where it is.

    step: seconds of a step that trains the whole network on one GPU.
    """
    backward = step * (1 - FORWARD) * load.backward
    alone = step * FORWARD + backward
    gradients = ring(load.gradient_bytes, gpus, bandwidth, latency)
    waits = SUMS_PER_BATCH_NORM * sum(ring(4 * size, gpus, bandwidth, latency) for size in load.channels)
    return alone / (alone + waits + gradients), alone / (alone + waits + max(0.0, gradients - backward))


def loads(backbone: str, image_size: int) -> dict[str, Load]:
    """The `Load` of each of `STAGES`, from the real network."""
    import keras

    from runner.moving import trainable

    model, blocks = network(backbone, image_size, "none")
    work = {
        name: sum(map(multiplications, layers))
        for name, layers in trainable.layers_by_block(model, blocks).items()
    }
    found = {}
    for stage, (train, batch_norm) in STAGES.items():
        chosen = trainable.set_trainable(model, blocks, train, batch_norm)
        above = [*trainable.trained_blocks(blocks, train), "head"]
        found[stage] = Load(
            gradient_bytes=4.0 * sum(math.prod(variable.shape) for variable in chosen),
            backward=sum(work[name] for name in above) / sum(work.values()),
            channels=tuple(
                int(layer.moving_mean.shape[0])
                for layer in model.layers
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            ),
        )
    return found


def multiplications(layer) -> int:
    """Those of a convolution or dense layer for one picture: each weight once at each place of the output."""
    height_and_width = layer.output.shape[1:-1]
    return math.prod(height_and_width) * sum(
        math.prod(variable.shape) for variable in layer._trainable_variables if len(variable.shape) > 1
    )


def print_paper(arguments, backbone: str, image_size: int, step: float, source: str) -> None:
    if arguments.gradient_megabytes:
        stages = {"as given": Load(arguments.gradient_megabytes * 1e6, backward=1.0)}
    else:
        stages = loads(backbone, image_size)
    heads = ["stage", "gradients", "link", *(f"{gpus} GPUs" for gpus in arguments.gpus)]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for stage, load in stages.items():
        for link in arguments.link_gigabytes_per_second:
            cells = [stage, f"{load.gradient_bytes / 1e6:,.2f} MB", f"{link:g} GB/s"]
            for gpus in arguments.gpus:
                pair = efficiency(load, step, gpus, link * 1e9, arguments.latency_microseconds / 1e6)
                cells.append(" to ".join(f"{100 * one:.1f} %" for one in pair))
            print(f"| {' | '.join(cells)} |")
    print(
        f"\nExpected efficiency, the sum of the gradients not hidden to hidden: arithmetic, not measured. "
        f"{backbone}, {image_size} px, {CLASSES} classes; a step that trains everything takes "
        f"{1000 * step:.1f} ms ({source}); {arguments.latency_microseconds:g} µs a message."
    )


# ---------------------------------------------------------------- measured


def network(backbone: str, image_size: int, weights: str):
    """The classifier that trains, without dropout, and the blocks of its backbone."""
    import keras

    from runner.networks import backbones

    keras.utils.set_random_seed(0)
    base = backbones.build(backbone, image_size, weights)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    logits = keras.layers.Dense(CLASSES, dtype="float32", name="head")(pooled)
    return keras.Model(base.input, logits, name=base.name), backbones.blocks(base)


def layout(text: str) -> tuple[int, int]:
    """The workers and the replicas of each that "2x1" names."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise InputError(f"--layouts {text}: give WORKERSxREPLICAS, such as 1x1, 1x2 or 2x1.")
    return int(found[1]), int(found[2])


def job(arguments) -> None:
    """One worker's part of a layout: train, and as the chief leave what came of it."""
    import tensorflow as tf

    from runner.devices import multi_worker, strategy

    workers, replicas = layout(arguments.job)
    if workers == 1 and replicas > 1 and not tf.config.list_physical_devices("GPU"):
        (processor,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(processor, parts)
    chosen = strategy.choose("mirrored" if workers == 1 and replicas > 1 else "auto")
    if chosen.num_replicas_in_sync != workers * replicas:
        raise InputError(
            f"--layouts {arguments.job} came out as {strategy.reason(chosen)}; name a layout that this "
            "machine has: without GPUs 1xN or Nx1."
        )
    found = train(arguments, chosen)
    if multi_worker.is_chief(chosen):
        np.savez(arguments.output, **found)


def train(arguments, chosen) -> dict[str, np.ndarray | float]:
    """Train under a strategy: step (seconds), batch_size, moved (the largest change of a weight), weights."""
    import keras
    import tensorflow as tf

    from runner.devices import multi_worker, precision, strategy
    from runner.moving import trainable

    replicas = chosen.num_replicas_in_sync
    batch_size = arguments.batch_size * (replicas if arguments.grow_batch else 1)
    strategy.check_batch_size(batch_size, chosen)
    precision.set_policy(arguments.precision)
    with chosen.scope():
        model, blocks = network(arguments.backbone, arguments.image_size, arguments.weights)
        trainable.set_trainable(model, blocks, "all")
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), loss)
    multi_worker.prepare(model)
    random = np.random.default_rng(0)
    shape = (BATCHES * batch_size, arguments.image_size, arguments.image_size, 3)
    pictures = random.integers(0, 256, shape, dtype="uint8")
    labels = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, len(pictures))]
    batches = tf.data.Dataset.from_tensor_slices((pictures, labels)).batch(batch_size)
    if arguments.reverse_rows:
        batches = batches.map(lambda *batch: tuple(tensor[::-1] for tensor in batch))
    before, seconds, started = flat(model), [], [0.0]
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: started.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - started[-1]),
    )
    model.fit(
        multi_worker.distribute(batches.prefetch(tf.data.AUTOTUNE), chosen),
        epochs=arguments.epochs,
        shuffle=False,  # all layouts see the same batches in the same order
        callbacks=[clock],
        verbose=0,
    )
    after = flat(model)
    return {
        "step": statistics.median(seconds[1:]) / BATCHES,
        "batch_size": batch_size,
        "moved": np.abs(after - before).max(),
        "weights": after,
    }


def flat(model) -> np.ndarray:
    """All weights of a model one behind the other."""
    return np.concatenate([variable.numpy().ravel() for variable in model.weights])


def launched(
    arguments, weights: str, name: str, gpus: Sequence[str], scratch: Path, *more: str
) -> dict[str, np.ndarray]:
    """Train one layout in processes of its own, with more flags; return what the chief left."""
    workers, replicas = layout(name)
    output = scratch / "found.npz"
    words = ["benchmarks.scaling", "--job", name, "--output", str(output), "--weights", weights]
    for flag in ("backbone", "image_size", "batch_size", "epochs", "precision"):
        words += [f"--{flag.replace('_', '-')}", str(getattr(arguments, flag))]
    words += ["--grow-batch"] * arguments.grow_batch + list(more)
    if gpus and len(gpus) < workers * replicas:
        raise InputError(f"--layouts {name}: there are {len(gpus)} GPUs; name a layout of at most as many.")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[: workers * replicas])
    with keras_guide.progress_to_stderr():
        code = launch.run(words, workers)
    if code:
        sys.exit(code)
    with np.load(output) as found:
        return dict(found)


def measure(arguments, gpus: Sequence[str]) -> tuple[dict[str, list[dict]], float]:
    """What each layout left, a `train` for each round, 1x1 first; and what rounding alone does to weights."""
    names = ["1x1", *(name for name in arguments.layouts if layout(name) != (1, 1))]
    found = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        weights = keras_guide.settled(arguments, arguments.backbone, Path(scratch))
        for _ in range(arguments.rounds):
            for name in names:
                found[name].append(launched(arguments, weights, name, gpus, Path(scratch)))
        turned = launched(arguments, weights, "1x1", gpus, Path(scratch), "--reverse-rows")
    return found, apart(turned, found["1x1"][0])


def apart(one: dict, other: dict) -> float:
    """The largest difference between the weights of two trainings."""
    return float(np.abs(one["weights"] - other["weights"]).max())


def print_measured(arguments, found: dict[str, list[dict]], rounding: float, gpus: Sequence[str]) -> None:
    heads = ["layout", "batch", "step, ms", "spread", "overhead", "spread", "largest difference of a weight"]
    heads += ["images/s", "efficiency"] if gpus else []
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for name, rounds in found.items():
        steps = [float(one["step"]) for one in rounds]
        ratios = [step / float(alone["step"]) for step, alone in zip(steps, found["1x1"], strict=True)]
        batch_size, replicas = int(rounds[0]["batch_size"]), math.prod(layout(name))
        cells = [name, str(batch_size), f"{1000 * statistics.median(steps):.1f}"]
        cells += [f"{1000 * min(steps):.1f} to {1000 * max(steps):.1f}", f"{statistics.median(ratios):.2f}"]
        cells += [f"{min(ratios):.2f} to {max(ratios):.2f}", difference(found, name)]
        if gpus:
            gain = batch_size / int(found["1x1"][0]["batch_size"]) / statistics.median(ratios)
            cells += [f"{batch_size / statistics.median(steps):,.0f}", f"{100 * gain / replicas:.0f} %"]
        print(f"| {' | '.join(cells)} |")
    print(
        f"\nLayouts are workers x replicas of each, on {'GPUs' if gpus else 'the cores of one host'}; the "
        f"largest change of a weight in training is {float(found['1x1'][0]['moved']):.1e}, and in 1x1 "
        f"the rows of each batch in reverse order, which only rounds otherwise, make a difference of "
        f"{rounding:.1e}. "
        + ("" if gpus else "More replicas share the same cores: what they cost shows here, no speed-up. ")
        + f"{arguments.backbone}, {arguments.image_size} px, {arguments.precision}, {arguments.epochs} "
        f"epochs of {BATCHES} steps, {arguments.rounds} rounds; {keras_guide.machine()}."
    )


def difference(found: dict[str, list[dict]], name: str) -> str:
    """How far the weights of a layout are from those of 1x1, in any round."""
    if int(found[name][0]["batch_size"]) != int(found["1x1"][0]["batch_size"]):
        return "another batch"
    pairs = zip(found[name], found["1x1"], strict=True)
    return f"{max(apart(one, alone) for one, alone in pairs):.1e}"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--only", choices=("measured", "paper"), help="one of the two tables")
    top.add_argument("--backbone", default="MobileNet-0.25")
    top.add_argument("--image-size", type=int, default=64)
    top.add_argument("--weights", help="none, imagenet, a file or checkpoint (default: ours, else none)")
    top.add_argument("--batch-size", type=int, default=32, help="of all replicas together")
    top.add_argument("--grow-batch", action="store_true", help="--batch-size is that of each replica")
    top.add_argument("--layouts", nargs="+", default=["1x1", "1x2", "2x1"], metavar="WORKERSxREPLICAS")
    top.add_argument("--epochs", type=int, default=4, help=f"of {BATCHES} steps; the first is not timed")
    top.add_argument("--rounds", type=int, default=3)
    top.add_argument("--precision", default="float32")
    top.add_argument("--step-seconds", type=float, help="of a step that trains everything on one GPU")
    top.add_argument("--paper-backbone", default=PUBLISHED[0], help="whose step that is")
    top.add_argument("--paper-image-size", type=int, default=PUBLISHED[1])
    top.add_argument("--gradient-megabytes", type=float, help="instead of the stages': one row")
    top.add_argument("--link-gigabytes-per-second", type=float, nargs="+", default=[25.0, 12.5])
    top.add_argument("--latency-microseconds", type=float, default=5.0, help="of a message")
    top.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    top.add_argument("--job", help=argparse.SUPPRESS)
    top.add_argument("--output", help=argparse.SUPPRESS)
    top.add_argument("--reverse-rows", action="store_true", help=argparse.SUPPRESS)
    return top


def check(arguments) -> None:
    """Raise InputError for numbers that cannot be."""
    for name in arguments.layouts:
        layout(name)
    asked = (arguments.paper_backbone, arguments.paper_image_size)
    if asked != PUBLISHED[:2] and not arguments.step_seconds:
        raise InputError(f"{asked[0]} at {asked[1]} px on paper: give --step-seconds too, of one GPU.")
    least = {"epochs": 2, "rounds": 1, "gpus": 1, "latency_microseconds": 0}
    above_zero = ("step_seconds", "gradient_megabytes", "link_gigabytes_per_second")
    for name in (*least, *above_zero):
        given = getattr(arguments, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and not (value > 0 if name in above_zero else value >= least[name]):
                rule = "more than 0" if name in above_zero else f"at least {least[name]}"
                raise InputError(f"--{name.replace('_', '-')} {value} cannot be used; give {rule}.")


def main(words: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    check(arguments)
    arguments.weights = arguments.weights or OWN_WEIGHTS.get(arguments.backbone, "none")
    quiet.import_tensorflow()
    if arguments.job:
        job(arguments)
        return
    paper = (*PUBLISHED, "one A100, published")
    if arguments.step_seconds:
        paper = (arguments.paper_backbone, arguments.paper_image_size, arguments.step_seconds, "as given")
    if arguments.only != "paper":
        gpus = visible_gpus()
        found, rounding = measure(arguments, gpus)
        print_measured(arguments, found, rounding, gpus)
        print()
        if gpus and not arguments.step_seconds:
            step = statistics.median(float(one["step"]) for one in found["1x1"])
            paper = (arguments.backbone, arguments.image_size, step, "measured above")
    if arguments.only != "measured":
        print_paper(arguments, *paper)


def visible_gpus() -> list[str]:
    """What to write into CUDA_VISIBLE_DEVICES for each GPU that TensorFlow sees."""
    import tensorflow as tf

    count = len(tf.config.list_physical_devices("GPU"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
