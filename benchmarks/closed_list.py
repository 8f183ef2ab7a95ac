"""The sentences of composed_notes without their splits, as JSON Lines: names come again, and a list has them.

    python -m benchmarks.closed_list --output notes.jsonl
    python -m templates.token_classification.train --data notes.jsonl

A quarter of what is written becomes the test, at random, so that nearly all of its names stand in training.
"""

import argparse
import json
from pathlib import Path

from runner import atomic, flags
from runner.text import entities


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the file to write, ending in .jsonl")
    arguments = parser.parse_args()
    found = entities.find("composed_notes")
    lines = [
        json.dumps({"text": text, "entities": spans})
        for text, spans in zip(found.read(), found.spans, strict=True)
    ]
    atomic.write(arguments.output, lambda path: path.write_text("\n".join(lines) + "\n", encoding="utf-8"))
    print(f"{arguments.output}: {len(lines)} texts")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
