"""What `rank` is told on the command line."""

import argparse
from typing import Any

from runner.errors import InputError


def add(make: argparse.ArgumentParser) -> None:
    """Add what `rank` takes to its parser."""
    make.add_argument("data", metavar="DATA", help="labelled pictures or texts, in any form a template takes")
    make.add_argument(
        "--sources",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="BACKBONE=WEIGHTS, a checkpoint, the folder of a run, a weights file, a backbone for its "
        "ImageNet weights, minilm, none (default: those at hand)",
    )
    make.add_argument("--image-size", type=int, default=96, help="pixels a side (default: %(default)s)")
    make.add_argument("--length", type=int, default=128, help="tokens of a text (default: %(default)s)")
    make.add_argument(
        "--labels-per-class", default="auto", metavar="N", help="a number, all or auto (default: %(default)s)"
    )
    make.add_argument("--resize", choices=["crop", "pad", "stretch"], default="crop")
    make.add_argument("--seed", type=int, default=0, help="of the split and the parts (default: %(default)s)")
    make.add_argument(
        "--output", default=None, metavar="FOLDER", help="folder to make (default: runs/rank/NAME)"
    )


def given(parsed: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `rank.run`; InputError for a number of labels that is none."""
    few = parsed.labels_per_class
    if few not in ("auto", "all") and not (few.isdecimal() and int(few) > 0):
        raise InputError(f"--labels-per-class {few!r} is not allowed: a number from 1, all or auto is.")
    names = ("data", "sources", "output", "image_size", "length", "resize", "seed")
    labels = few if few in ("auto", "all") else int(few)
    return {name: getattr(parsed, name) for name in names} | {"labels_per_class": labels}
