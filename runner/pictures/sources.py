"""Where labelled pictures come from: a dataset of this repository, TFDS, a folder, or a CSV file.

Each becomes one `Source`: a row per example and a way to read the encoded pictures, nothing decoded yet.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.data.source import (
    SPLIT_WORDS,
    Source,
    children,
    datasets,
    neighbours,
    ordered,
    printable,
    table,
)
from runner.errors import InputError, suggest

_PICTURE_SUFFIXES = set(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpeg .jpg .png .ppm .tif .tiff .webp".split()
)
LAYOUT = "CLASS/picture or SPLIT/CLASS/picture with splits train, val, test"


def find(source: str | Path) -> Source:
    """Find out what `source` names and list its examples; `load.load` lists the forms."""
    source = str(source).strip()
    if source.startswith("tfds:") or source in datasets():
        from runner.data import builders  # not at the top: TFDS is heavy, and a folder does without it

        return builders.find(source, _keys)
    path = Path(os.path.expanduser(source))
    # os.path answers False where Path raises: for a name too long, or no name on any system.
    if source and os.path.isdir(path):
        return _folder(path)
    if source and os.path.isfile(path) and path.suffix.lower() == ".csv":
        return table(path)
    names = ", ".join(datasets()) or "none there"
    choices = f"a name from datasets/ ({names}), tfds:NAME, a folder of images, or a .csv file"
    if source and os.path.isfile(path):
        raise InputError(
            f"Received data={source!r}, a file that is no .csv; unpack archives, and give {choices}."
        )
    begins = [name for name in datasets() if source and name.startswith(source.lower())]
    hint = f" Did you mean {begins[0]!r}?" if begins else suggest(source, [*datasets(), *neighbours(path)])
    raise InputError(f"Received data={source!r}, which is not there; give {choices}.{hint}")


# ---------------------------------------------------------------- a folder of images


def _folder(root: Path) -> Source:
    folders, files = children(root)
    loose = [name for name in files if Path(name).suffix.lower() in _PICTURE_SUFFIXES]
    if not folders:
        found = f"{len(loose)} pictures without class folders" if loose else "no pictures"
        raise InputError(f"Received data={str(root)!r}, a folder with {found}; expected {LAYOUT}.")
    if loose:
        raise InputError(
            f"Received data={str(root)!r} with pictures beside its folders, such as {loose[0]!r}; "
            f"expected {LAYOUT}: move them into a class folder or away."
        )
    with_classes = [name for name in folders if name.lower() in SPLIT_WORDS and children(root / name)[0]]
    if not with_classes:
        if "train" in folders and all(name.lower() in SPLIT_WORDS for name in folders):
            raise InputError(
                f"Received data={str(root)!r}, whose split folders ({', '.join(folders)}) hold no class "
                f"folders; expected {LAYOUT}."
            )
        if len(folders) == 1 and children(root / folders[0])[0]:
            raise InputError(
                f"Received data={str(root)!r}, which holds one folder that holds more; did you mean "
                f"{str(root / folders[0])!r}? Expected {LAYOUT}."
            )
        return _from_files(root, [(name, "", name) for name in folders])

    others = [name for name in folders if name not in with_classes]
    if others:
        raise InputError(
            f"Received data={str(root)!r}, which mixes split folders ({', '.join(with_classes)}) with other "
            f"folders ({', '.join(others[:5])}); expected {LAYOUT}."
        )
    splits = [SPLIT_WORDS[name.lower()] for name in with_classes]
    if len(set(splits)) < len(splits) or "train" not in splits:
        raise InputError(
            f"Received data={str(root)!r} with split folders {', '.join(with_classes)}; expected one train "
            "folder and at most one each of val (or validation) and test."
        )
    classes = {name: set(children(root / name)[0]) for name in with_classes}
    everything = set().union(*classes.values())
    for name, found in classes.items():
        if found != everything:
            raise InputError(
                f"Received data={str(root)!r}, whose folder {name!r} lacks class folders that another split "
                f"has: {', '.join(sorted(everything - found)[:5])}; the splits need the same classes."
            )
    places = [
        (f"{name}/{class_name}", split, class_name)
        for name, split in zip(with_classes, splits, strict=True)
        for class_name in sorted(classes[name])
    ]
    return _from_files(root, places)


def _from_files(root: Path, places: list[tuple[str, str, str]]) -> Source:
    """List the files of class folders, given as (folder below root, split, class)."""
    rows, files = [], []
    for place, split, label in places:
        if printable(label) != label:
            raise InputError(
                f"Received a class folder {printable(label)!r} whose name is not UTF-8; rename it."
            )
        deeper, names = children(root / place)
        nested = [name for name in deeper if any(children(root / place / name))]
        if nested:
            raise InputError(
                f"Received data={str(root)!r} with {place + '/' + nested[0]!r}, a folder inside a class "
                f"folder; expected {LAYOUT}: move its files up."
            )
        for name in names:
            rows.append((printable(f"{place}/{name}"), label, split, ""))
            files.append(str(root / place / name))
    if not rows:
        raise InputError(
            f"Received data={str(root)!r}, whose folders are all empty; expected pictures in them."
        )
    examples = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
    return Source(examples, ordered({label for _, _, label in places}), lambda: iter(files))


# ---------------------------------------------------------------- TFDS


def _keys(source: str, features: Any) -> tuple[str, str, str]:
    """Return the names of the image, the label and (or "") the group among the features of a TFDS builder."""
    import tensorflow_datasets as tfds

    items = dict(features.items()) if hasattr(features, "items") else {}
    images = [
        key
        for key, feature in items.items()
        if isinstance(feature, tfds.features.Image) and not isinstance(feature, tfds.features.LabeledImage)
    ]
    labels = [key for key, feature in items.items() if isinstance(feature, tfds.features.ClassLabel)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else ""
    label = "label" if "label" in labels else labels[0] if len(labels) == 1 else ""
    if not image or not label:
        raise InputError(
            f"Received data={source!r} with the features {', '.join(items)}; expected one picture (image) "
            "and one class label (label): choose a dataset for image classification."
        )
    if np.dtype(items[image].np_dtype).name not in ("uint8", "uint16"):
        raise InputError(
            f"Received data={source!r}, whose pictures are floating-point; 8 or 16 bits are allowed."
        )
    return image, label, "group" if "group" in items else ""
