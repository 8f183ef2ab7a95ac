"""Where labelled pictures come from: a dataset of this repository, TFDS, a folder, or a CSV file.

Each becomes one `Source`: a row per example and a way to read the encoded pictures, nothing decoded yet.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.data.files import (
    PICTURE_SUFFIXES,
    SPLIT_WORDS,
    children,
    composed,
    printable,
    refuse_dead_folders,
    split_meant,
)
from runner.data.source import Source, datasets, in_one_form, neighbours, ordered, table
from runner.errors import InputError, suggest

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
    loose = [name for name in files if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    if not folders:
        found = f"{len(loose)} pictures without class folders" if loose else "no pictures"
        raise InputError(f"Received data={str(root)!r}, a folder with {found}; expected {LAYOUT}.")
    if loose:
        raise InputError(
            f"Received data={str(root)!r} with pictures beside its folders, such as {loose[0]!r}; "
            f"expected {LAYOUT}: move them into a class folder or away."
        )
    refuse_dead_folders(root)
    inside = {name: children(root / name)[0] for name in folders}
    with_classes = [name for name in folders if name.lower() in SPLIT_WORDS and inside[name]]
    meant = [name for name in folders if split_meant(name) and name.lower() not in SPLIT_WORDS]
    renamed = [name for name in meant if inside[name] or with_classes]
    if renamed:
        raise InputError(
            f"Received data={str(root)!r}, whose folders {', '.join(map(repr, renamed[:3]))} look like "
            "splits; rename each to train, val or test, so that none is taken for a class."
        )
    if not with_classes:
        if all(map(split_meant, folders)) and "train" in map(split_meant, folders):
            raise InputError(
                f"Received data={str(root)!r}, whose split folders ({', '.join(folders)}) hold no class "
                f"folders; expected {LAYOUT}."
            )
        if len(folders) == 1 and inside[folders[0]]:
            raise InputError(
                f"Received data={str(root)!r}, which holds one folder that holds more; did you mean "
                f"{str(root / folders[0])!r}? Expected {LAYOUT}."
            )
        return _from_files(root, [(name, "", name) for name in folders])

    others = [name for name in folders if name not in with_classes]
    flat = [name for name in others if name.lower() in SPLIT_WORDS]
    if flat:
        raise InputError(
            f"Received data={str(root)!r}, whose folder {flat[0]!r} has no class folders, so that nothing "
            "says what its pictures show; give it some, or keep it elsewhere (`predict` takes it as it is)."
        )
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
    for name in with_classes:
        refuse_dead_folders(root / name)
    classes = {name: set(map(composed, inside[name])) for name in with_classes}
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
        for class_name in inside[name]
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
        if any(map(split_meant, nested)):
            raise InputError(
                f"Received data={str(root)!r} with {place + '/' + nested[0]!r}, a split inside a folder that "
                f"stands where a class is expected; expected {LAYOUT}: did you mean {str(root / place)!r}?"
            )
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
    names, problems = in_one_form([label for _, _, label in places])
    called = dict(zip([label for _, _, label in places], names, strict=True))
    examples["label"] = [called[label] for label in examples["label"]]
    return Source(examples, ordered(set(names)), lambda: iter(files), problems)


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
