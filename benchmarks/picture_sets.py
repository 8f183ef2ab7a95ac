"""Blood cells and magnetic tiles, as downloaded, become pictures with a class each, for `benchmarks.sets`.

    python -m benchmarks.picture_sets --cells FOLDER --tiles FOLDER --output FOLDER

FOLDER of the cells is in Pascal VOC's layout (BCCD): each box is cut out, at most --per-class of a class,
evenly over the list; cells of one photo are one group. FOLDER of the tiles has MT_<kind>/Imgs/*.jpg; pictures
of one tile (expN_num_M: M) are one group. Each becomes a folder with the pictures and a
table of its name.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from runner import atomic, flags
from runner.errors import InputError
from runner.pictures import coco_voc

SMALLEST = 8
"""Pixels: what is narrower or lower shows nothing."""


def cells(root: Path, output: Path, per_class: int) -> pd.DataFrame:
    """Cut boxes out of a Pascal VOC folder into output/CLASS_NUMBER.png; path, label and group of each."""
    found = coco_voc.voc(root)
    boxes = [
        (Path(photo), found.classes[kind], box.astype(int))
        for photo, annotated in zip(found.files, found.pictures, strict=True)
        for box, kind in zip(annotated.boxes, annotated.classes, strict=True)
        if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST
    ]
    rows = []
    for name in sorted({name for _, name, _ in boxes}):
        of_class = [one for one in boxes if one[1] == name]
        chosen = np.unique(np.linspace(0, len(of_class) - 1, min(per_class, len(of_class))).astype(int))
        for number, place in enumerate(chosen):
            photo, _, (left, top, right, bottom) = of_class[place]
            file = f"{name}_{number:04}.png"
            with Image.open(photo) as image:
                image.convert("RGB").crop((left, top, right, bottom)).save(output / file)
            rows.append({"path": file, "label": name, "group": photo.stem})
    return pd.DataFrame(rows)


def tiles(root: Path, output: Path) -> pd.DataFrame:
    """Copy MT_<kind>/Imgs/*.jpg to output; path, label and group of each."""
    rows = []
    for photo in sorted(root.glob("MT_*/Imgs/*.jpg")):
        file = f"{photo.parent.parent.name}_{photo.name}"
        (output / file).write_bytes(photo.read_bytes())
        label = photo.parent.parent.name.removeprefix("MT_")
        rows.append({"path": file, "label": label, "group": photo.stem.rpartition("_")[2]})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=Path, help="folder in Pascal VOC's layout")
    parser.add_argument("--tiles", type=Path, help="folder of MT_<kind>/Imgs")
    parser.add_argument("--output", type=Path, required=True, help="gets the folders cells and tiles")
    parser.add_argument("--per-class", type=int, default=360, help="the most cells of a class")
    arguments = parser.parse_args()
    for name in ("cells", "tiles"):
        root, output = getattr(arguments, name), arguments.output / name
        if root is None:
            continue
        if output.exists():
            raise InputError(f"--output {arguments.output}: {name} is there already; give another folder.")
        output.mkdir(parents=True)
        found = cells(root, output, arguments.per_class) if name == "cells" else tiles(root, output)
        if found.empty:
            raise InputError(f"--{name} {root} holds none of the pictures that --help names.")
        atomic.write_csv(output / f"{name}.csv", found)
        print(f"{output}: {len(found)} pictures, {found['label'].value_counts().to_dict()}")


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
