"""The networks of sources for pictures, and what tells one from another."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from runner.choosing import candidates, features
from runner.choosing.candidates import Candidate
from runner.data.examples import Data
from runner.data.source import amount
from runner.networks import backbones, families, pixels, pretrained, saved
from runner.pictures.load import load

IMAGENET = 1000
"""Classes of a head that `keras.applications` can be given a file for."""


def content(candidate: Candidate, image_size: int) -> Sequence[str | bytes]:
    """All that decides what the network of a source computes: for `features.of`."""
    code = [Path(inspect.getfile(one)).read_bytes() for one in (backbones, families, pixels, pretrained)]
    family, width = families.find(candidate.backbone)
    found = pretrained.resolve(candidate.weights, family, width)
    if found == "imagenet":
        found = pretrained.imagenet_path(family, width, image_size)
    weights = features.digest(Path(found)) if Path(found).is_file() else str(found)
    return [*code, candidate.backbone, str(image_size), weights]


def of_run(record: dict, image_size: int) -> Data:
    """The data of a run in the run's own splits, from its settings, with pictures of another size.

    Raises InputError where it cannot be read any more, KeyError where the run is of another kind.
    """
    return load(
        record["data"],
        image_size,
        seed=record["seed"],
        labels_per_class=amount(record["labels_per_class"], record["data"]),
        val_fraction=record["val_fraction"],
        test_fraction=record["test_fraction"],
        resize=record["resize"],
    )


def network(candidate: Candidate, image_size: int) -> features.Network:
    """From uint8 pictures (batch, image_size, image_size, 3) to pooled features, and the source's classifier:
    the head of a run, or the one in a file of ImageNet weights that has its own.

    Raises InputError for weights that do not fit, and an image size that the backbone does not take.
    """
    if candidate.weights.lower() == "none":
        keras.utils.set_random_seed(0)  # the same untrained network every time
    backbone = backbones.build(candidate.backbone, image_size, candidate.weights)
    pool = keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")
    pooled = keras.Model(backbone.input, pool(backbone.output))
    return pooled, _classifier(candidate, pooled.output.shape[-1], image_size)


def _classifier(candidate: Candidate, width: int, image_size: int) -> features.Head | None:
    if candidate.run is not None:
        return features.of_head(saved.load(candidate.run), width)
    path = Path(candidate.weights).expanduser()
    family, alpha = families.find(candidate.backbone)
    if not path.is_file() or candidates.parameters_in(path) == family.parameters.get(alpha):
        return None
    arguments: dict[str, Any] = {"alpha": alpha} if family.has_width else {}
    size = family.native_size if family.name.startswith("VGG") else image_size
    whole = getattr(keras.applications, family.name)(
        include_top=True, weights=None, input_shape=(size, size, 3), classes=IMAGENET, **arguments
    )
    pools = [one for one in whole.layers if isinstance(one, keras.layers.GlobalAveragePooling2D)]
    if whole.count_params() != candidates.parameters_in(path) or not pools:
        return None  # a head of other classes, or VGG's, which does not stand on pooled features
    whole.load_weights(path)
    # MobileNetV3 has pooling within its blocks, too; the last is the one that the head stands on.
    head = keras.Model(pools[-1].output, whole.output)
    shape = [one or 1 for one in pools[-1].output.shape[1:]]
    # At once: at most MOST rows, and `predict` would trace a function for each source.
    return lambda values: np.asarray(head(values.reshape(-1, *shape), training=False))
