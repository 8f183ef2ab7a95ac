"""The pairs of composed_language without their splits, their English in other letters, as JSON Lines: a
language that no encoder has read.

    python -m benchmarks.ciphered --output ciphered.jsonl
    python -m templates.translation.train --data ciphered.jsonl

A quarter of what is written becomes the test, at random, so that nearly all of its words stand in training.
"""

import argparse
import json
from pathlib import Path

from runner import atomic, flags
from runner.text import translations

VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"
SHIFTS = 2, 9
"""By how many places a vowel stands for another one, and a consonant."""


def ciphered(text: str) -> str:
    """The text with each letter replaced, vowels by vowels and in capitals where it is one: still words."""
    table = {}
    for letters, shift in zip((VOWELS, CONSONANTS), SHIFTS, strict=True):
        turned = letters[shift:] + letters[:shift]
        table |= str.maketrans(letters + letters.upper(), turned + turned.upper())
    return text.translate(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="the file to write, ending in .jsonl")
    arguments = parser.parse_args()
    found = translations.find("composed_language")
    lines = [
        json.dumps({"source": ciphered(text), "target": target})
        for text, target in zip(found.read(), found.targets, strict=True)
    ]
    atomic.write(arguments.output, lambda path: path.write_text("\n".join(lines) + "\n", encoding="utf-8"))
    print(f"{arguments.output}: {len(lines)} pairs")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
