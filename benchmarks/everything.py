"""Run the benchmarks one after another and write what they print to benchmarks/RESULTS.md.

    python -m benchmarks.everything [--output benchmarks/RESULTS.md]

`make bench` does this; it takes about 20 minutes on two cores that do nothing else. What takes hours, and is
about accuracy, is not here: `benchmarks.accuracy`, `benchmarks.linear_probe` and `benchmarks.views`. A
benchmark that fails is named in the file, the others still run, and the exit code is 1.
"""

import argparse
import datetime
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import keras_guide
from runner import atomic, flags, quiet

SMALL = "--backbone MobileNet-0.25 --image-size 64"
COMMANDS = {
    "Augmentation": "augment --rounds 3",
    "A head stage over one forward pass, fine-tuning over a bare training step": "floor",
    "The runner over a bare fit": "overhead --pictures 96 --rounds 3",
    "The runner over a bare fit, small network": f"overhead {SMALL} --epochs 10 --rounds 5",
    "What one of several workers makes of a batch": "shares",
    "From the command to the first training step": "startup --rounds 2",
    "The loop of the Keras guide, ResNet50": "keras_guide",
    "The loop of the Keras guide, ten epochs of the head": "keras_guide --epochs 10 0 0 --rows guide ours "
    "'ours bfloat16'",
    # A picture costs a VGG16 four times the arithmetic of a ResNet50, and "all" three forward passes.
    "The loop of the Keras guide, VGG16 and InceptionV3": "keras_guide --backbones VGG16 InceptionV3 "
    "--epochs 5 3 2 --pictures 48 --rows guide ours 'ours bfloat16'",
    "PyTorch": "pytorch",
}
"""Heading: what follows `python -m benchmarks.`."""


def run(command: Sequence[str]) -> tuple[str, int]:
    """Run a command, passing on line by line what it prints; return its standard output and exit code."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in child.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines), child.wait()


def write_results(commands: Mapping[str, Sequence[str]], output: Path, head: str) -> list[str]:
    """Run each command and write a section for each; return the headings of those that failed.

    commands: heading → the command after the interpreter. The file is written once, when all have run.
    """
    sections, failed = [f"# Benchmark results\n\n{head}\n"], []
    for heading, words in commands.items():
        shown = f"python {subprocess.list2cmdline(words)}"
        print(f"\n{shown}", flush=True)
        started = time.perf_counter()
        text, code = run([sys.executable, *words])
        seconds = time.perf_counter() - started
        if code:
            failed.append(heading)
            text = f"**Failed** with exit code {code}. Before that it printed:\n\n{text}"
        sections.append(f"## {heading}\n\n`{shown}` ({seconds:.0f} s)\n\n{text.strip()}\n")
    atomic.write(output, lambda temporary: temporary.write_text("\n".join(sections), encoding="utf-8"))
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    arguments = parser.parse_args()
    quiet.import_tensorflow()
    head = f"{datetime.date.today()}, {keras_guide.machine()}. Every table has its own spread or conditions."
    started = time.perf_counter()
    commands = {
        heading: ["-m", *shlex.split(f"benchmarks.{command}")] for heading, command in COMMANDS.items()
    }
    failed = write_results(commands, arguments.output, head)
    print(f"\n{arguments.output} written after {(time.perf_counter() - started) / 60:.0f} minutes.")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}.")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
