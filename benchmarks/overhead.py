"""What the runner costs where it saves nothing: `fit_stages` without keeping against a bare `model.fit`.

    python -m benchmarks.overhead [--backbone ResNet50] [--image-size 160] [--pictures 256] [--epochs 3]
        [--rounds 5]

Both train a new head on the same frozen backbone and the same batches; the runner also notes each epoch's
time, prints its lines, and proves in its ledger that nothing frozen moved. A round is one of each, in one
process, tracing included; which goes first changes from round to round. The ratio is the median over the
rounds of the runner's seconds over the bare fit's of the same round.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import keras_guide
from runner import flags, quiet


def measure(arguments, weights: str) -> list[tuple[float, float]]:
    """Seconds of (the bare fit, the runner), a pair per round."""
    from runner.moving import trainable
    from runner.pictures.batches import batches
    from runner.stage import Stage
    from runner.training.fit import fit_stages

    examples = keras_guide.few(arguments)
    validation = batches(examples, "val", keras_guide.BATCH_SIZE)

    def train():
        return batches(examples, "train", keras_guide.BATCH_SIZE, shuffle=True)

    def network():
        size = len(examples.classes)
        return keras_guide.network(arguments.backbone, arguments.image_size, weights, size)

    def bare() -> float:
        model, blocks = network()
        trainable.set_trainable(model, blocks, "head")
        started = time.perf_counter()
        model.compile(model.optimizer, model.loss, metrics=["accuracy"])
        model.fit(
            train().epoch(),
            validation_data=validation.epoch(),
            epochs=arguments.epochs,
            verbose=0,
            shuffle=False,  # the batches are shuffled already
        )
        return time.perf_counter() - started

    def runner() -> float:
        model, blocks = network()
        started = time.perf_counter()
        fit_stages(
            model,
            train(),
            validation,
            [Stage("head", epochs=arguments.epochs, keep="last")],
            blocks,
        )
        return time.perf_counter() - started

    pairs = []
    with keras_guide.progress_to_stderr(), quiet.about_tracing():
        for number in range(arguments.rounds):
            if number % 2:
                second = runner()
                pairs.append((bare(), second))
            else:
                pairs.append((bare(), runner()))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="digits_in_photos")
    arguments = parser.parse_args()
    quiet.import_tensorflow()
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "settled.weights.h5"
        keras_guide.settle(arguments.backbone, arguments.image_size, weights)
        pairs = measure(arguments, str(weights))
    print("| what | seconds, median | spread |\n| --- | --- | --- |")
    for name, column in zip(("bare fit", "runner"), zip(*pairs, strict=True), strict=True):
        print(f"| {name} | {statistics.median(column):.2f} | {min(column):.2f} to {max(column):.2f} |")
    ratios = sorted(runner / bare for bare, runner in pairs)
    print(
        f"\nrunner / bare fit {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) in "
        f"{arguments.rounds} rounds; {arguments.backbone}, {arguments.pictures} pictures of "
        f"{arguments.image_size} px, {arguments.epochs} epochs of the head; {keras_guide.machine()}."
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
