"""Where labelled pictures come from: a dataset of this repository, TFDS, a folder, or a CSV file.

Each becomes one `Source`: a row per example and a way to read the encoded pictures, nothing decoded yet.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from runner.data import folders
from runner.data.files import PICTURE_SUFFIXES
from runner.data.source import Source, datasets, not_understood, table
from runner.errors import InputError


def find(source: str | Path) -> Source:
    """Find out what `source` names and list its examples; `load.load` lists the forms."""
    source = str(source).strip()
    if source.startswith("tfds:") or source in datasets():
        from runner.data import builders  # not at the top: TFDS is heavy, and a folder does without it

        return builders.find(source, _keys)
    path = Path(os.path.expanduser(source))
    # os.path answers False where Path raises: for a name too long, or no name on any system.
    if source and os.path.isdir(path):
        return folders.find(path, PICTURE_SUFFIXES, "pictures")
    if source and os.path.isfile(path) and path.suffix.lower() == ".csv":
        return table(path)
    raise not_understood(source, path, "a folder of images", ".csv")


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
