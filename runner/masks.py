"""Pictures with a mask each: folders of both, or a dataset of TFDS; every pixel's class as an index.

A mask is a picture of the same size, PNG or another format without loss: gray or with a palette, where the
value is the class (with a palette its index, whatever its colours), or in colours that a file of classes
names. Nothing is decoded here but the masks whose classes no file names.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from runner import images, sources
from runner.errors import InputError, suggest
from runner.sources import SPLIT_WORDS, Source, Target

IGNORE = 255
"""Stands in a mask where a pixel counts for nothing."""
LAYOUT = (
    "images/ and masks/ with the same names, train/images and train/masks (also val, test), or train/ and "
    "trainannot/ (also val, test)"
)
CLASS_FILES = ("classes.txt", "classes.csv")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Classes:
    """What the values or colours of masks mean.

    names: of the classes that count, in the order of their index. indices: uint8 (256,), the index of each
    value, IGNORE for what is to be ignored. unknown: bool (256,), values that no mask may have. colours:
    None, or the value of each colour as red * 65536 + green * 256 + blue.
    """

    names: tuple[str, ...]
    indices: np.ndarray
    unknown: np.ndarray
    colours: dict[int, int] | None = None


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
    `classes`, or IGNORE; see `images.resize_mask`. A mask of another size, a value or colour beyond the
    classes and a JPEG, which blurs classes into each other, make the picture unreadable. Raises InputError
    for what a person has to put right in the folder.
    """
    source = str(source).strip()
    if source.startswith("tfds:") or source in sources.datasets():
        return _tfds(source, ignore)
    root = Path(os.path.expanduser(source))
    if not source or not os.path.isdir(root):
        what = "a file" if source and os.path.isfile(root) else "which is not there"
        raise InputError(
            f"Received data={source!r}, {what}; give scenes, tfds:NAME, or a folder with {LAYOUT}."
            f"{suggest(source, sources.datasets())}"
        )
    rows, pictures, masks, problems = [], [], [], []
    for split, image_folder, mask_folder in _folders(root):
        found, without = _pairs(root, image_folder, mask_folder)
        problems += [(path, "mask", "a mask without a picture is left out") for path in without]
        for name, picture, mask in found:
            rows.append((name, "", split, ""))
            pictures.append(picture)
            masks.append(mask)
    meaning = _meaning(root, masks, ignore, classes)
    examples = pd.DataFrame(rows, columns=["path", "label", "split", "group"], dtype=object)
    return Source(
        examples, meaning.names, lambda: iter(pictures), problems, _target(masks.__getitem__, meaning)
    )


def _target(mask_of: Callable[[int], str | bytes], meaning: Classes) -> Callable[..., Target]:
    def target(row: int, width: int, height: int, image_size: int, resize: str) -> Target:
        values = read(mask_of(row), meaning, (width, height))
        mask = images.resize_mask(values, image_size, resize, IGNORE)
        amounts = np.bincount(mask[mask != IGNORE], minlength=len(meaning.names))
        odd = () if amounts.any() else (("mask", "all of its mask is ignored"),)
        return Target({"mask": mask}, amounts.astype(np.int64), odd)

    return target


# ---------------------------------------------------------------- one mask


def read(file: str | Path | bytes, meaning: Classes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a mask as indices into `meaning.names`, or IGNORE: uint8 (height, width).

    size: width and height that it must have. Raises `images.Unreadable` for a mask that means nothing.
    """
    if meaning.colours is None:
        values = _values(file, size)
    else:
        packed = _colours(file, size)
        found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
        unknown = ~np.isin(found, list(meaning.colours))
        if unknown.any():
            pixels, colour = counts[unknown].sum(), found[unknown][counts[unknown].argmax()]
            raise images.Unreadable(
                f"{pixels} pixels of its mask have a colour that is no class's, most of them #{colour:06x}: "
                "list it in the file of classes, or save masks without smoothing"
            )
        values = np.array([meaning.colours[one] for one in found.tolist()], np.uint8)[inverse]
        values = values.reshape(packed.shape)
    beyond = meaning.unknown[values]
    if beyond.any():
        raise images.Unreadable(
            f"{beyond.sum()} pixels of its mask have a value that is none of the {len(meaning.names)} "
            f"classes', such as {values[beyond][0]}: add it to the file of classes, or ignore it"
        )
    return meaning.indices[values]


def _values(file: str | Path | bytes, size: tuple[int, int] | None) -> np.ndarray:
    with _opened(file, size) as mask:
        if mask.mode not in ("1", "L", "P", "I;16", "I"):
            raise images.Unreadable(
                f"its mask is in colours (mode {mask.mode}) and no file says which class has which: write "
                f"{CLASS_FILES[0]} with a line name,red,green,blue for each class"
            )
        values = np.asarray(mask)
        if values.max(initial=0) > 255:
            raise images.Unreadable(f"its mask has the value {values.max()}; 0 to 255 are allowed")
        return values.astype(np.uint8)


def _colours(file: str | Path | bytes, size: tuple[int, int] | None) -> np.ndarray:
    with _opened(file, size) as mask:
        return np.asarray(mask.convert("RGB")).astype(np.int64) @ np.array([65536, 256, 1])


@contextlib.contextmanager
def _opened(file: str | Path | bytes, size: tuple[int, int] | None) -> Iterator[Image.Image]:
    """Open a mask of that size, to decode it in the block; what goes wrong becomes `images.Unreadable`."""
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_FORMATS) as mask:
            if size is not None and mask.size != size:
                raise images.Unreadable(
                    f"its mask has {mask.width} x {mask.height} pixels and the picture, upright, "
                    f"{size[0]} x {size[1]}"
                )
            if mask.width * mask.height > images.MAX_PIXELS:
                raise images.Unreadable(
                    f"its mask has more than {images.MAX_PIXELS:,} pixels: make it smaller"
                )
            if mask.format == "JPEG":
                raise images.Unreadable(
                    "its mask is a JPEG, which blurs classes into each other: save it as PNG"
                )
            yield mask
    except images.Unreadable:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise images.Unreadable(f"its mask cannot be decoded: {reason[:200]}") from None


# ---------------------------------------------------------------- what values mean


def _meaning(root: Path, masks: list[str], ignore: tuple[int, ...], classes: str | Path) -> Classes:
    path = Path(os.path.expanduser(classes)) if classes else None
    if path is not None and not os.path.isfile(path):
        raise InputError(
            f"Received classes={str(classes)!r}, a file which is not there; give a line per class."
        )
    if path is None:
        path = next((root / name for name in CLASS_FILES if os.path.isfile(root / name)), None)
    if path is not None:
        names, colours = _class_file(path)
        return by_value(dict(enumerate(names)), ignore, colours)
    found = np.zeros(256, bool)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for present in pool.map(_present, masks):
            found |= present
    values = np.flatnonzero(found)
    if not len(values):
        try:
            _values(masks[0], None)
        except images.Unreadable as error:
            raise InputError(
                f"Received data={str(root)!r}, none of whose {len(masks)} masks can be used, such as "
                f"{os.path.relpath(masks[0], root)!r} ({error})."
            ) from None
    if set(values) == {0, 255} and 255 in ignore:
        raise InputError(
            f"Received data={str(root)!r}, whose masks hold only 0 and 255, which is ignored; where 255 is "
            f"an object, write {CLASS_FILES[0]} there: background,0,0,0 and object,255,255,255 in two lines."
        )
    return by_value({int(value): str(value) for value in values}, ignore)


def _present(mask: str) -> np.ndarray:
    """Which values a mask has, bool (256,); none where it cannot be read, which `target` says later."""
    try:
        return np.bincount(_values(mask, None).ravel(), minlength=256) > 0
    except images.Unreadable:
        return np.zeros(256, bool)


def by_value(
    names: dict[int, str], ignore: tuple[int, ...], colours: dict[int, int] | None = None
) -> Classes:
    """Number the classes that are not ignored, in the order of their values."""
    wrong = [value for value in ignore if not 0 <= value <= 255]
    if wrong:
        raise InputError(f"Received ignore={wrong[0]}; the values of a mask are 0 to 255.")
    kept = [value for value in sorted(names) if value not in ignore]
    if not kept:
        raise InputError(
            f"Received masks whose values ({', '.join(map(str, sorted(names))) or 'none that can be read'}) "
            "are all ignored; check the masks, or ignore less."
        )
    indices, unknown = np.full(256, IGNORE, np.uint8), np.ones(256, bool)
    unknown[list(ignore)] = False
    for index, value in enumerate(kept):
        indices[value], unknown[value] = index, False
    return Classes(tuple(names[value] for value in kept), indices, unknown, colours)


def _class_file(path: Path) -> tuple[list[str], dict[int, int] | None]:
    """Read a file of classes: names, and the line's number of each colour where it gives some."""
    where = f"Received the classes in {str(path)!r}"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}, which cannot be read as UTF-8: {' '.join(str(error).split())}.") from None
    cells = [[cell.strip() for cell in line.split(",")] for line in lines if line.strip()]
    if cells and [cell.lower() for cell in cells[0]] in (
        ["name", "r", "g", "b"],
        ["name", "colour"],
        ["name"],
    ):
        cells = cells[1:]
    names, colours = [], {}
    for number, (name, *colour) in enumerate(cells):
        names.append(name)
        if colour:
            packed = _packed(colour)
            if packed is None or not name:
                raise InputError(
                    f"{where}, with {','.join(cells[number])!r}; a line is name, name,#rrggbb, or "
                    "name,red,green,blue with 0 to 255."
                )
            if packed in colours:
                raise InputError(f"{where}, with one colour for {names[colours[packed]]!r} and {name!r}.")
            colours[packed] = number
    if not names or len(set(names)) < len(names) or not 0 < len(names) <= 255:
        raise InputError(
            f"{where}, with {len(set(names))} different names in {len(names)} lines; give 1 to 255."
        )
    if colours and len(colours) < len(names):
        raise InputError(
            f"{where}, with colours for {len(colours)} of {len(names)} classes; give all or none."
        )
    return names, colours or None


def _packed(colour: list[str]) -> int | None:
    """A colour as red * 65536 + green * 256 + blue, None where it is none."""
    if len(colour) == 1 and re.fullmatch(r"#[0-9a-fA-F]{6}", colour[0]):
        return int(colour[0][1:], 16)
    if len(colour) == 3 and all(re.fullmatch(r"[0-9]{1,3}", one) and int(one) < 256 for one in colour):
        red, green, blue = map(int, colour)
        return red * 65536 + green * 256 + blue
    return None


# ---------------------------------------------------------------- folders


def _folders(root: Path) -> list[tuple[str, str, str]]:
    """Return (split, folder of pictures, folder of masks) below root; split "" where there are none."""
    where = f"Received data={str(root)!r}"
    folders = sources.children(root)[0]
    if {"images", "masks"} <= set(folders):
        return [("", "images", "masks")]
    found = []
    for name in folders:
        if name.lower() in SPLIT_WORDS:
            split = SPLIT_WORDS[name.lower()]
            inner = sources.children(root / name)[0]
            if {"images", "masks"} <= set(inner):
                found.append((split, f"{name}/images", f"{name}/masks"))
            elif f"{name}annot" in folders:
                found.append((split, name, f"{name}annot"))
            else:
                raise InputError(f"{where}, whose folder {name!r} has no masks; expected {LAYOUT}.")
    if not found:
        inner = [name for name in folders if {"images", "masks"} <= set(sources.children(root / name)[0])]
        hint = f" Did you mean {str(root / inner[0])!r}?" if len(inner) == 1 else ""
        raise InputError(f"{where}, a folder without masks; expected {LAYOUT}.{hint}")
    splits = [split for split, _, _ in found]
    if len(set(splits)) < len(splits) or "train" not in splits:
        raise InputError(
            f"{where} with the splits {', '.join(splits)}; expected one train folder and at most one each of "
            "val and test."
        )
    return found if len(found) > 1 else [("", *found[0][1:])]


def _pairs(root: Path, image_folder: str, mask_folder: str):
    """Return (name, path of the picture, path of its mask) by stem, and the masks without a picture."""
    pictures, masks = (_by_stem(root, folder) for folder in (image_folder, mask_folder))
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


def _by_stem(root: Path, folder: str) -> dict[str, str]:
    deeper, names = sources.children(root / folder)
    if deeper:
        raise InputError(
            f"Received data={str(root)!r} with {folder + '/' + deeper[0]!r}, a folder among pictures; "
            f"expected {LAYOUT}: move its files up."
        )
    found: dict[str, str] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in _PICTURES:
            continue
        if sources.printable(name) != name:
            raise InputError(
                f"Received a file {sources.printable(name)!r} whose name is not UTF-8; rename it."
            )
        if stem in found:
            raise InputError(
                f"Received data={str(root)!r} with {found[stem]!r} and {name!r} in {folder!r}, which differ "
                "in their endings alone: rename one, so that it is clear whose mask is whose."
            )
        found[stem] = name
    return found


# ---------------------------------------------------------------- TFDS


def _tfds(source: str, ignore: tuple[int, ...]) -> Source:
    import tensorflow_datasets as tfds  # not at the top: it is heavy, and a folder does without it

    from runner import builders

    builder, mask, chosen = builders.prepared(source, sources.ROOT, _labelled_image)
    meaning = by_value(dict(enumerate(builder.info.features[mask].names)), ignore)
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
    return Source(
        found,
        meaning.names,
        lambda: (example["image"] for _, _, example in examples()),
        target=_target(masks.__getitem__, meaning),
    )


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
