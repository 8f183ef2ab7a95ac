"""Pictures with a mask each, which gives every pixel a class: folders of both, or a dataset of TFDS.

Each becomes one `Source`, whose `target` brings a picture's mask to its resized form:

    examples = load(masks.find("~/streets"), image_size=192)

A mask is a picture of the same size without loss, such as PNG; `mask_values` says what it means.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

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
from runner.data.source import Source, Target, datasets
from runner.errors import InputError, suggest
from runner.pictures import mask_values, square
from runner.pictures.mask_values import IGNORE

LAYOUT = (
    "images/ and masks/ with the same names, train/images and train/masks, images/train and masks/train, or "
    "train/ and trainannot/ (also val, test)"
)
_PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find(source: str | Path, ignore: tuple[int, ...] = (IGNORE,), classes: str | Path = "") -> Source:
    """List the pictures and masks that `source` names.

    source: a folder in one of the forms of LAYOUT; a name from datasets/, or `tfds:NAME`, whose features are
        an image and a labelled image (`tfds.features.LabeledImage`).
    ignore: values of masks that count for nothing; of a file of classes the numbers of its lines, from 0. Any
        of them may be missing.
    classes: a file with a line per class, in the order of their values: `name`, or where masks are in colours
        `name,red,green,blue` or `name,#rrggbb`. "" looks for CLASS_FILES in the folder; without one the
        classes are called by their values, for which all masks are read once more.

    An element of the `data.Data` made of it has "mask", uint8 (image_size, image_size): an index into
    `classes`, or IGNORE; see `square.resize_mask`. A mask of another size, a value or colour beyond the
    classes and a JPEG, which blurs classes into each other, make the picture unreadable. Raises InputError
    for what a person has to put right in the folder.
    """
    source = str(source).strip()
    if source.startswith("tfds:") or source in datasets():
        return _tfds(source, ignore)
    root = Path(os.path.expanduser(source))
    if not source or not os.path.isdir(root):
        what = "a file" if source and os.path.isfile(root) else "which is not there"
        raise InputError(
            f"Received data={source!r}, {what}; give scenes, tfds:NAME, or a folder with {LAYOUT}."
            f"{suggest(source, datasets())}"
        )
    rows, pictures, masks, problems = [], [], [], []
    for split, image_folder, mask_folder in _folders(root):
        found, without = _pairs(root, image_folder, mask_folder)
        problems += [(path, "mask", "a mask without a picture is left out") for path in without]
        for name, picture, mask in found:
            rows.append((name, "", split, ""))
            pictures.append(picture)
            masks.append(mask)
    meaning = mask_values.meaning(root, masks, ignore, classes)
    examples = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
    return _source(examples, meaning, lambda: iter(pictures), masks.__getitem__, problems, source)


def _source(
    examples: pd.DataFrame,
    meaning: mask_values.Classes,
    read: Callable[[], Iterator[str | bytes]],
    mask_of: Callable[[int], str | bytes],
    problems: list[tuple[str, str, str]],
    source: str,
) -> Source:
    """Join pictures and their masks to a source, which says at the end how much is ignored."""
    ignored = np.zeros((len(examples), 2), np.int64)  # of each mask: pixels, and those that count for nothing

    def target(row: int, width: int, height: int, image_size: int, resize: str) -> Target:
        values = mask_values.read(mask_of(row), meaning, (width, height))
        ignored[row] = values.size, (values == IGNORE).sum()
        mask = square.resize_mask(values, image_size, resize, IGNORE)
        amounts = np.bincount(mask[mask != IGNORE], minlength=len(meaning.names))
        odd = () if amounts.any() else (("mask", "all of its mask is ignored"),)
        return Target({"mask": mask}, amounts.astype(np.int64), odd)

    def remarks() -> list[tuple[str, str, str]]:
        pixels, without = ignored.sum(axis=0)
        message = (
            f"{100 * without / max(1, pixels):.2g} % of the pixels of the masks are ignored "
            f"({meaning.ignored}) and count for nothing: a value that is a class must not be among them"
        )
        return [("", "mask", message)] if without else []

    return Source(examples, meaning.names, read, problems, target, remarks=remarks, name=source)


# ---------------------------------------------------------------- folders


def _folders(root: Path) -> list[tuple[str, str, str]]:
    """Return (split, folder of pictures, folder of masks) below root; split "" where there are none."""
    where = f"Received data={str(root)!r}"
    refuse_dead_folders(root)
    folders = children(root)[0]
    if {"images", "masks"} <= set(folders):
        within = children(root / "images")
        if not within[0] or within[1] or not all(name.lower() in SPLIT_WORDS for name in within[0]):
            return [("", "images", "masks")]
        masks_of = set(children(root / "masks")[0])
        return _complete(
            [(name, f"images/{name}", f"masks/{name}" if name in masks_of else "") for name in within[0]],
            where,
        )
    found = []
    for name in folders:
        if name.lower() in SPLIT_WORDS:
            inner = children(root / name)[0]
            if {"images", "masks"} <= set(inner):
                found.append((name, f"{name}/images", f"{name}/masks"))
            else:
                found.append((name, name, f"{name}annot" if f"{name}annot" in folders else ""))
        elif split_meant(name):
            raise InputError(
                f"{where}, whose folder {name!r} looks like a split; call it train, val or test."
            )
    if not found:
        inner = [name for name in folders if {"images", "masks"} <= set(children(root / name)[0])]
        hint = f" Did you mean {str(root / inner[0])!r}?" if len(inner) == 1 else ""
        raise InputError(f"{where}, a folder without masks; expected {LAYOUT}.{hint}")
    return _complete(found, where)


def _complete(found: list[tuple[str, str, str]], where: str) -> list[tuple[str, str, str]]:
    """Folders of splits as (split, pictures, masks), from (name, pictures, masks or ""). Refused where
    one has no masks, and without a train folder.
    """
    without = [name for name, _, masks in found if not masks]
    if without:
        raise InputError(f"{where}, whose folder {without[0]!r} has no masks; expected {LAYOUT}.")
    splits = [SPLIT_WORDS[name.lower()] for name, _, _ in found]
    if len(set(splits)) < len(splits) or "train" not in splits:
        raise InputError(
            f"{where} with the splits {', '.join(splits)}; expected one train folder and at most one each of "
            "val and test."
        )
    folders = [(split, *one[1:]) for split, one in zip(splits, found, strict=True)]
    return folders if len(folders) > 1 else [("", *folders[0][1:])]


def _pairs(root: Path, image_folder: str, mask_folder: str):
    """Return (name, path of the picture, path of its mask) by stem, and the masks without a picture."""
    pictures, masks = (_by_stem(root, folder) for folder in (image_folder, mask_folder))
    # Photos that not every reader takes count where they have a mask: beside their JPEG they are no others.
    rare = _by_stem(root, image_folder, PICTURE_SUFFIXES - set(_PICTURES))
    pictures |= {stem: name for stem, name in rare.items() if stem in masks and stem not in pictures}
    if not pictures:
        raise InputError(
            f"Received data={str(root)!r}, whose folder {image_folder!r} holds no pictures; expected "
            f"{LAYOUT}."
        )
    lacking = sorted(set(pictures) - set(masks))
    if lacking:
        raise InputError(
            f"Received data={str(root)!r}, where {len(lacking)} of {len(pictures)} pictures in "
            f"{image_folder!r} have no mask in {mask_folder!r}, such as {pictures[lacking[0]]!r}; a mask has "
            "its picture's name: add or rename masks, or move these pictures away."
        )
    pairs = []
    for stem, name in sorted(pictures.items()):
        place = f"{image_folder}/{name}"
        pairs.append((place, str(root / place), str(root / mask_folder / masks[stem])))
    return pairs, [f"{mask_folder}/{masks[stem]}" for stem in sorted(set(masks) - set(pictures))]


def _by_stem(root: Path, folder: str, suffixes: Collection[str] = _PICTURES) -> dict[str, str]:
    deeper, names = children(root / folder)
    if any(map(split_meant, deeper)):
        raise InputError(
            f"Received data={str(root)!r} with {folder + '/' + deeper[0]!r}, a split among pictures; "
            f"expected {LAYOUT}: give the folder of masks the same splits, called train, val and test."
        )
    if deeper:
        raise InputError(
            f"Received data={str(root)!r} with {folder + '/' + deeper[0]!r}, a folder among pictures; "
            f"expected {LAYOUT}: move its files up."
        )
    found: dict[str, str] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes:
            continue
        if printable(name) != name:
            raise InputError(f"Received a file {printable(name)!r} whose name is not UTF-8; rename it.")
        stem = composed(stem)
        if stem in found:
            raise InputError(
                f"Received data={str(root)!r} with {found[stem]!r} and {name!r} in {folder!r}, which differ "
                "in their endings alone, or in the Unicode form of their letters: rename one, so that it is "
                "clear whose mask is whose."
            )
        found[stem] = name
    return found


# ---------------------------------------------------------------- TFDS


def _tfds(source: str, ignore: tuple[int, ...]) -> Source:
    import tensorflow_datasets as tfds  # not at the top: it is heavy, and a folder does without it

    from runner.data import builders

    builder, mask, chosen = builders.prepared(source, _labelled_image)
    meaning = mask_values.by_value(dict(enumerate(builder.info.features[mask].names)), ignore)
    undecoded = {name: tfds.decode.SkipDecoding() for name in ("image", mask)}

    def examples() -> Iterator[tuple[str, str, dict]]:
        for name, split in chosen.items():
            for number, example in enumerate(builders.read_split(builder, name, undecoded)):
                yield f"{builder.name}/{name}[{number}]", split if len(chosen) > 1 else "", example

    rows, masks = [], []
    for place, split, example in examples():
        rows.append((place, "", split, ""))
        masks.append(example[mask])
    found = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)

    def read() -> Iterator[bytes]:
        return (example["image"] for _, _, example in examples())

    return _source(found, meaning, read, masks.__getitem__, [], source)


def _labelled_image(source: str, features) -> str:
    """Return the name of the one labelled image among a builder's features, which must have a picture too."""
    import tensorflow_datasets as tfds

    items = dict(features.items()) if hasattr(features, "items") else {}
    masks = [name for name, feature in items.items() if isinstance(feature, tfds.features.LabeledImage)]
    if "image" not in items or len(masks) != 1:
        raise InputError(
            f"Received data={source!r} with the features {', '.join(items)}; expected a picture (image) and "
            "one labelled image: choose a dataset for segmentation."
        )
    return masks[0]
