"""Seconds from the command to the first training step of the image template, and where they go.

    python -m benchmarks.startup [--rounds 3] [FLAGS OF THE TEMPLATE]

Measured from outside: the template's own command runs as a child that is ended after its first step. What it
prints says when the data was ready ("... classes; pictures: ..."), when the network was built and the run
folder begun ("run folder: ..."), and when the first fit began ("... stage ...: trains ..."). Its first
checkpoint (`--checkpoint-steps 1`) appears when the first step, and the tracing before it, is done. The
interpreter and the imports are timed in children of their own, `python -c pass` and `python -c "import
templates.image_classification.train"`, and taken off the first of these times. The first run, which
also makes the embedded data, stands in its own column.

"bare Keras" is the least that a script needs: import keras, build the network of the template's defaults with
`keras.applications`, compile, and `model.fit` on pictures in memory to its first step.

Below: which packages the imports' seconds go to, from `-X importtime`, each module counted once, without
what it imports itself; and what of that `import keras` alone takes.
"""

import argparse
import collections
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import keras_guide
from runner import flags, quiet

TEMPLATE = "templates.image_classification.train"
PARTS = ("interpreter", "imports", "data", "building and checks", "to the first fit", "first step, tracing")
LINES = (r"\d+ classes; pictures: ", "run folder: ", r" +stage \S+: trains ")
"""How the lines begin that end the parts "data", "building and checks" and "to the first fit"."""
BARE = """
import time
started = time.time()
import keras
import numpy as np
imported = time.time()
base = keras.applications.MobileNet((64, 64, 3), alpha=0.25, include_top=False, weights=None, pooling="avg")
model = keras.Model(base.input, keras.layers.Dense(10)(base.output))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
pictures, labels = np.zeros((32, 64, 64, 3), "float32"), np.zeros(32, "int64")
built = time.time()
stepped = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: print(
    imported - started, built - imported, time.time() - built))
model.fit(pictures, labels, verbose=0, callbacks=[stepped])
"""
TOP_PACKAGES = 12


def seconds_of(code: str) -> float:
    """Wall seconds of `python -c CODE`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def until_first_step(words: list[str], run: Path) -> list[float]:
    """Seconds from the start of the template's command to each line of LINES and to its first step.

    words: further flags of the template. The child is killed after its first step.
    """
    command = [sys.executable, "-u", "-m", TEMPLATE, "--run-dir", str(run), "--checkpoint-steps", "1"]
    started, ends = time.perf_counter(), []
    child = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
    try:
        for line in child.stdout:
            if re.match(LINES[len(ends)], line):
                ends.append(time.perf_counter() - started)
            if len(ends) == len(LINES):
                break
        while len(ends) == len(LINES) and child.poll() is None:
            if next(run.glob("checkpoints/*/*.npz"), None):
                return [*ends, time.perf_counter() - started]
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    sys.exit(f"{' '.join(command)} ended before its first step.")


def one_round(words: list[str], run: Path) -> list[float]:
    """Seconds of each of PARTS."""
    interpreter, imports = seconds_of("pass"), seconds_of(f"import {TEMPLATE}")
    ends = [0.0, interpreter, imports, *until_first_step(words, run)]
    return [after - before for before, after in itertools.pairwise(ends)]


def bare_round() -> list[float]:
    """The same of the bare script; it has no data to make or read, and its fit begins at once."""
    done = subprocess.run([sys.executable, "-c", BARE], check=True, capture_output=True, text=True)
    imports, building, step = map(float, done.stdout.split()[:3])
    return [seconds_of("pass"), imports, 0.0, building, 0.0, step]


def import_seconds(code: str) -> collections.Counter:
    """Seconds that `python -X importtime -c CODE` spends in the modules of each top-level package."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = collections.Counter()
    for own, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", report, flags=re.MULTILINE):
        found[name.partition(".")[0]] += int(own) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        # Data and kept activations of its own, so that the first run is a first run.
        os.environ.update(TFDS_DATA_DIR=f"{scratch}/data", THAW_CACHE=f"{scratch}/cache")
        rounds = [one_round(words, Path(scratch) / f"run-{number}") for number in range(1 + arguments.rounds)]
    bare = [bare_round() for _ in range(arguments.rounds)]
    imported, of_keras = import_seconds(f"import {TEMPLATE}"), import_seconds("import keras")

    print("| part | seconds, median | spread | first run | bare Keras |\n| --- | --- | --- | --- | --- |")
    first, *later = [[*parts, sum(parts)] for parts in rounds]
    plain = [[*parts, sum(parts)] for parts in bare]
    for name, column, once, other in zip(
        (*PARTS, "all"), zip(*later, strict=True), first, zip(*plain, strict=True), strict=True
    ):
        cells = f"{statistics.median(column):.2f} | {min(column):.2f} to {max(column):.2f} | {once:.2f}"
        print(f"| {name} | {cells} | {statistics.median(other):.2f} |")
    print("\n| package | seconds of its own modules | with `import keras` alone |\n| --- | --- | --- |")
    shown = [package for package, _ in imported.most_common(TOP_PACKAGES)]
    for package in shown:
        print(f"| {package} | {imported[package]:.2f} | {of_keras[package]:.2f} |")
    others, of_others = (found.total() - sum(found[one] for one in shown) for found in (imported, of_keras))
    print(f"| others | {others:.2f} | {of_others:.2f} |")
    print(f"| all | {imported.total():.2f} | {of_keras.total():.2f} |")
    quiet.import_tensorflow()
    changed = f", {' '.join(words)}" if words else ""
    print(f"\n{arguments.rounds} rounds after the first{changed}; {keras_guide.machine()}.")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
