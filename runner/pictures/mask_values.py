"""What the values or colours of a mask mean, by a file of classes or by what is there; and one mask read.

A mask is gray or has a palette, and its value is the class (with a palette its index, whatever its colours),
or it is in colours that a file of classes names.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from runner.errors import InputError
from runner.pictures import images

IGNORE = 255
"""Stands in a mask where a pixel counts for nothing."""
CLASS_FILES = ("classes.txt", "classes.csv")
SMOOTHED = 3
"""A mask with so many values that no mask has a square of was smoothed."""
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


@dataclass(frozen=True)
class Classes:
    """What the values or colours of masks mean.

    names: of the classes that count, in the order of their index. indices: uint8 (256,), the index of each
    value, IGNORE for what is to be ignored. unknown: bool (256,), values that no mask may have. colours:
    None, or the value of each colour as red * 65536 + green * 256 + blue. ignored: the values that are to be
    ignored, in words.
    """

    names: tuple[str, ...]
    indices: np.ndarray
    unknown: np.ndarray
    colours: dict[int, int] | None = None
    ignored: str = ""


def meaning(root: Path, masks: Sequence[str], ignore: Sequence[int], classes: str | Path = "") -> Classes:
    """Return what the masks of a folder mean; the arguments are those of `masks.find`."""
    path = Path(os.path.expanduser(classes)) if classes else None
    if path is not None and not os.path.isfile(path):
        raise InputError(
            f"Received classes={str(classes)!r}, a file which is not there; give a line per class."
        )
    if path is None:
        path = next((root / name for name in CLASS_FILES if os.path.isfile(root / name)), None)
    names, colours = (None, None) if path is None else _class_file(path)
    if names is not None and colours is not None:
        return by_value(dict(enumerate(names)), ignore, colours)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = list(pool.map(_look if names is None else _palette_alone, masks))
    _check_palettes(root, masks, looks)
    if names is not None:
        return by_value(dict(enumerate(names)), ignore)
    present = np.array([look.present for look in looks]).reshape(len(masks), 256)
    # Smoothing, as of a resized mask, gives many values that nowhere cover as much as a square of 2 x 2.
    thin = ~np.array([look.solid for look in looks]).reshape(len(masks), 256).any(axis=0)
    smoothed = (present & thin).sum(axis=1) >= SMOOTHED
    found = present[~smoothed].any(axis=0)
    if smoothed.all() and len(masks):
        raise InputError(
            f"Received data={str(root)!r}, whose masks have values between those of their classes, such as "
            f"{os.path.relpath(masks[0], root)!r} with {present[0].sum()} values; resize masks to the "
            "nearest pixel, without smoothing."
        )
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


class _Look(NamedTuple):
    """What a mask holds: which values, and which of them cover a square of 2 x 2 somewhere, bool (256,) each;
    red, green, blue, red, ... of its palette, b"" for none.
    """

    present: np.ndarray
    solid: np.ndarray
    palette: bytes = b""


_NOTHING = _Look(np.zeros(256, bool), np.zeros(256, bool))


def _look(mask: str) -> _Look:
    """Look at a mask; nothing where it cannot be read, which `target` says later."""
    try:
        values, palette = _values_and_palette(mask, None)
    except images.Unreadable:
        return _NOTHING
    present = np.bincount(values.ravel(), minlength=256) > 0
    here = values[1:, 1:]
    square = (here == values[:-1, :-1]) & (here == values[1:, :-1]) & (here == values[:-1, 1:])
    solid = np.bincount(here[square], minlength=256) > 0
    return _Look(present, solid, palette)


def _palette_alone(mask: str) -> _Look:
    """As `_look`, which reads the whole file, for what has a palette; of others nothing is asked."""
    try:
        with _opened(mask, None) as image:
            has_palette = image.mode == "P"
    except images.Unreadable:
        return _NOTHING
    return _look(mask) if has_palette else _NOTHING


def _check_palettes(root: Path, masks: Sequence[str], looks: Sequence[_Look]) -> None:
    """InputError where palettes differ in what is used of them: a value has one colour here and another
    there, or a colour two values, so that it is not known which of both is the class.
    """
    longest = max((look.palette for look in looks), key=len, default=b"")
    if all(longest.startswith(look.palette) for look in looks):
        return
    first: dict[tuple[str, Any], tuple[Any, str]] = {}
    every: set[str] = set()
    for mask, look in zip(masks, looks, strict=True):
        name, used = os.path.relpath(mask, root), np.flatnonzero(look.present).tolist()
        colours = {
            value: f"#{look.palette[3 * value : 3 * value + 3].hex()}" for value in used if look.palette
        }
        every.update(colours.values())
        once = len(set(colours.values())) == len(colours)
        pairs: list[tuple[tuple[str, Any], Any]]
        pairs = [(("value", value), colour) for value, colour in colours.items()]
        pairs += [(("colour", colour), value) for value, colour in colours.items() if once]
        for key, found in pairs:
            before, where = first.setdefault(key, (found, name))
            if before != found:
                lines = " ".join(f"name,{one}" for one in sorted(every)[:8])
                raise InputError(
                    f"Received data={str(root)!r}, whose palettes differ: {key[0]} {key[1]} is {before} "
                    f"in {where!r} and {found} in {name!r}; where the colour is the class, write "
                    f"{CLASS_FILES[0]} with lines such as {lines}; where the value is, save masks as gray."
                )


def by_value(names: dict[int, str], ignore: Sequence[int], colours: dict[int, int] | None = None) -> Classes:
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
    left_out = sorted({*ignore, *(value for value in names if value in ignore)})
    told = ", ".join(
        f"{value} {names[value]!r}" if value in names and names[value] != str(value) else str(value)
        for value in left_out
    )
    return Classes(tuple(names[value] for value in kept), indices, unknown, colours, told)


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
            f"classes', such as {values[beyond][0]}: add it to the file of classes, ignore it, or save masks "
            "without smoothing"
        )
    return meaning.indices[values]


def _values(file: str | Path | bytes, size: tuple[int, int] | None) -> np.ndarray:
    return _values_and_palette(file, size)[0]


def _values_and_palette(file: str | Path | bytes, size: tuple[int, int] | None) -> tuple[np.ndarray, bytes]:
    """The values of a mask, uint8 (height, width), and its palette as `_Look` has it."""
    with _opened(file, size) as mask:
        if mask.mode not in ("1", "L", "P", "I;16", "I"):
            raise images.Unreadable(
                f"its mask is in colours (mode {mask.mode}) and no file says which class has which: write "
                f"{CLASS_FILES[0]} with a line name,red,green,blue for each class"
            )
        values = np.asarray(mask)
        if values.max(initial=0) > 255:
            raise images.Unreadable(f"its mask has the value {values.max()}; 0 to 255 are allowed")
        return values.astype(np.uint8), bytes(mask.getpalette("RGB") or []) if mask.mode == "P" else b""


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
