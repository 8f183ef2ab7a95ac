"""Which rectangle of a picture becomes the square that a network sees, and what lies where in it.

`frame` says it, once: pixels, masks, boxes and the resizing inside a saved or exported model all ask it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from runner.pictures.images import MAX_PIXELS

RESIZING: dict[str, dict[str, Any]] = {
    "crop": {"crop_to_aspect_ratio": True},
    "pad": {"pad_to_aspect_ratio": True, "fill_value": 0.0},
    "stretch": {},
}
"""What makes `keras.layers.Resizing` take the rectangle of `frame`."""
RESIZES = tuple(RESIZING)


class Frame(NamedTuple):
    """A rectangle in pixels of a picture; where it reaches beyond the picture there is black."""

    left: Any
    top: Any
    width: Any
    height: Any


def frame(width: Any, height: Any, how: str, smaller: Callable = min, larger: Callable = max) -> Frame:
    """Return the rectangle of a picture of width x height pixels that becomes the square.

    how: "crop" is the centre square, "pad" the picture with as much black on both sides (so a pixel more than
    square where the rest is odd), "stretch" the picture itself. Sizes are whole numbers, or integer tensors
    with the functions of two of these that give the smaller and the larger one.
    """
    if how == "crop":
        side = smaller(width, height)
        return Frame((width - side) // 2, (height - side) // 2, side, side)
    if how == "pad":
        side = larger(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        return Frame(-left, -top, width + 2 * left, height + 2 * top)
    if how == "stretch":
        return Frame(0, 0, width, height)
    raise ValueError(f"Received resize={how!r}; allowed: {', '.join(RESIZES)}.")


def resize(image: Image.Image, size: int, how: str = "crop") -> np.ndarray:
    """Return the `frame` of an RGB picture as uint8 (size, size, 3), antialiased with a triangle filter.

    A picture that is size x size already comes back pixel by pixel. The same geometry as
    `keras.layers.Resizing(antialias=True)`, which a saved model has inside (`any_size.build`): no value
    differs by more than 1 of 255, since Pillow rounds to whole values twice.
    """
    image = _shrunk(image) if how == "pad" else image
    left, top, width, height = frame(*image.size, how)
    if (width, height) != image.size:
        # Cut first: the other way round a 1 x 5000 strip would grow to 64 x 320000 in between.
        image = image.crop((left, top, left + width, top + height))  # beyond the picture: black
    if image.width != image.height:
        # Pillow rounds after each axis, and which goes first depends on its version and the picture's shape.
        image = image.resize((size, image.height), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _shrunk(image: Image.Image) -> Image.Image:
    """Make a strip smaller whose square would have more than MAX_PIXELS."""
    largest = math.isqrt(MAX_PIXELS)
    if max(image.size) <= largest:
        return image
    scale = largest / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def matrix(width: int, height: int, size: int, how: str) -> tuple[float, float, float, float]:
    """Return (scale_x, scale_y, shift_x, shift_y): what lies at x (of an edge, in pixels) of a picture of
    width x height pixels lies at scale_x * x + shift_x after `resize`, and so for y.
    """
    left, top, wide, high = frame(width, height, how)
    return size / wide, size / high, -left * size / wide, -top * size / high


def resize_mask(mask: np.ndarray, size: int, how: str, ignore: int) -> np.ndarray:
    """Return a mask as its picture is after `resize`: uint8 (size, size), of the nearest pixel.

    mask: uint8 (height, width), class indices; ignore: stands where "pad" leaves a frame.
    """
    height, width = mask.shape
    scale_x, scale_y, shift_x, shift_y = matrix(width, height, size, how)
    centres = np.arange(size) + 0.5
    columns = np.floor((centres - shift_x) / scale_x).astype(int)
    rows = np.floor((centres - shift_y) / scale_y).astype(int)
    return _nearest(mask, rows, columns, ignore)


def mask_at_own_size(mask: np.ndarray, width: int, height: int, how: str, ignore: int) -> np.ndarray:
    """Return a mask of a resized picture, uint8 (size, size), as the picture of width x height pixels was:
    uint8 (height, width), of the nearest pixel; ignore: stands where "crop" cut something off.
    """
    scale_x, scale_y, shift_x, shift_y = matrix(width, height, len(mask), how)
    columns = np.floor(scale_x * (np.arange(width) + 0.5) + shift_x).astype(int)
    rows = np.floor(scale_y * (np.arange(height) + 0.5) + shift_y).astype(int)
    return _nearest(mask, rows, columns, ignore)


def _nearest(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray, ignore: int) -> np.ndarray:
    """Read a mask at whole places, uint8 (rows, columns); `ignore` stands where they lie outside it."""
    height, width = mask.shape
    found = mask[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)[None, :]]
    found[(rows < 0) | (rows >= height)] = ignore
    found[:, (columns < 0) | (columns >= width)] = ignore
    return found
