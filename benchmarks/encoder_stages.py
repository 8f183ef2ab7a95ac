"""What keeping the frozen part of a text encoder saves, and what half precision does to it on this device.

    python -m benchmarks.encoder_stages [--texts 800] [--rounds 3] [--half mixed_bfloat16]

MiniLM-L6 on sentences of composed_reviews, as `templates.text_classification` trains it. In each round, one
after another in one process: one forward pass over the data; ten epochs of a new head above what is kept,
with the pass that computes it and tracing; and three epochs of the two top layers with what lies below kept,
and without. What counts are ratios within a round, so that a busy machine slows both sides.
"""

import argparse
import os
import statistics
import tempfile
import time

from runner import flags, quiet

EPOCHS_OF_HEAD, EPOCHS_OF_TOP = 10, 3
JOBS = ("one pass", "head", "top:2 kept", "top:2 not kept")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=800, help="to train on; half as many to validate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--half", default="mixed_bfloat16", choices=("mixed_bfloat16", "mixed_float16"))
    parser.add_argument("--data", default="composed_reviews")
    arguments = parser.parse_args()
    quiet.import_tensorflow()

    seconds = {precision: {job: [] for job in JOBS} for precision in ("float32", arguments.half)}
    for _ in range(arguments.rounds):
        for precision, found in seconds.items():
            with quiet.about_tracing():
                for job, taken in measure(arguments, precision).items():
                    found[job].append(taken)
    show(seconds, arguments)


def show(seconds: dict[str, dict[str, list[float]]], arguments) -> None:
    """Print a row per precision: seconds of one pass, and ratios, medians of the rounds' own."""
    print("| precision | one pass | ten epochs of head, in passes | top:2, not kept by kept | pass | top:2 |")
    print("| --- " * 6 + "|")
    whole = seconds["float32"]
    for precision, found in seconds.items():
        rounds = range(len(found["one pass"]))

        def ratio(upper: list[float], lower: list[float]) -> str:
            each = [upper[one] / lower[one] for one in rounds]  # noqa: B023 - called within this turn
            return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"

        cells = [
            f"{statistics.median(found['one pass']):.1f} s",
            ratio(found["head"], found["one pass"]),
            ratio(found["top:2 not kept"], found["top:2 kept"]),
            ratio(whole["one pass"], found["one pass"]),
            ratio(whole["top:2 not kept"], found["top:2 not kept"]),
        ]
        print(f"| {precision} | {' | '.join(cells)} |", flush=True)
    from runner.devices import environment

    found = environment.describe("")
    print(
        f"\nThe last two columns: how many times as fast as float32. {arguments.texts} texts to train on, "
        f"median and range of {arguments.rounds} rounds, {found['cores']} cores of {found['processor']}, "
        f"TensorFlow {found['tensorflow']}, commit {found['commit']}."
    )


def measure(arguments, precision: str) -> dict[str, float]:
    """Seconds of each job, once."""
    import keras

    from runner.devices import precision as precisions
    from runner.networks import inference
    from runner.stage import Stage
    from runner.text.batches import batches
    from runner.training.fit import fit_stages
    from runner.training.frozen import FrozenPrefix
    from templates.text_classification import model, train
    from templates.text_classification.config import Config

    classes = 2
    config = Config(data=arguments.data, labels_per_class=arguments.texts // classes, solve_head=False)
    examples = train.load(config)
    precisions.set_policy(precision)
    found = {}

    def built():
        network, blocks = model.build(config, examples)
        network.compile(
            keras.optimizers.Adam(),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return network, blocks

    def of(split: str, **more):
        return batches(examples, split, config.batch_size, **more)

    network, blocks = built()
    step = inference.forward(network)
    for number in range(2):  # the first compiles
        started = time.perf_counter()
        for split in ("train", "val"):
            for batch in of(split).epoch():
                step(batch[0]).numpy()
                if not number:
                    break
        found["one pass"] = time.perf_counter() - started

    def fit(stage: Stage, keep: bool) -> float:
        keras.utils.clear_session()
        network, blocks = built()
        with tempfile.TemporaryDirectory() as folder:
            before = os.environ.get("THAW_CACHE")
            os.environ["THAW_CACHE"] = folder
            started = time.perf_counter()
            fit_stages(
                network,
                of("train", shuffle=True, seed=0),
                of("val"),
                [stage],
                blocks,
                frozen=FrozenPrefix() if keep else None,
            )
            taken = time.perf_counter() - started
            os.environ.pop("THAW_CACHE")
            if before is not None:
                os.environ["THAW_CACHE"] = before
        return taken

    top = Stage("top", train="top:2", epochs=EPOCHS_OF_TOP, learning_rate=1e-5, keep="last")
    head = Stage("head", train="head", epochs=EPOCHS_OF_HEAD, learning_rate=1e-3, keep="last")
    found |= {"head": fit(head, True), "top:2 kept": fit(top, True), "top:2 not kept": fit(top, False)}
    precisions.set_policy("float32")
    return found


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
