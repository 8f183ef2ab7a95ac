"""What is drawn on pictures for people: boxes, and masks in colours with their legend, and compared."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runner.report.sheets import sheet

SIDE = 256
"""Pixels a side of pictures with boxes."""


def boxes(image: np.ndarray, rectangles: Sequence[tuple], side: int = SIDE) -> np.ndarray:
    """Return the picture with boxes drawn on it, uint8 (side, side, 3) for a square one.

    image: uint8 (h, w, 3), enlarged to `side` pixels so that lines cover little; rectangles: (x_min, y_min,
    x_max, y_max, colour, text) each, in pixels of edges of `image`, drawn in this order.
    """
    scale = max(1.0, side / max(image.shape[:2]))
    height, width = (round(length * scale) for length in image.shape[:2])
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
    pen, letters = ImageDraw.Draw(picture), max(10, side // 18)
    font = ImageFont.load_default(letters)
    for x_min, y_min, x_max, y_max, colour, text in rectangles:
        left, top = (round(place * scale) for place in (x_min, y_min))
        # The last pixel within the box; a box that is cut at the border stays in sight.
        right, bottom = round(x_max * scale) - 1, round(y_max * scale) - 1
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=2)
        if text:
            above = top - letters - 2
            place = (left + 3, above if above >= 0 else top + 2)
            pen.text(place, text, fill=colour, font=font, stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def colours(classes: int) -> np.ndarray:
    """Return colours that differ, uint8 (classes, 3): dark grey for the first, often the background, then
    around the circle of hues by the golden angle, light and dark in turn.
    """
    hues = [(index * 0.381966) % 1 for index in range(classes - 1)]
    rest = [colorsys.hls_to_rgb(hue, (0.5, 0.65, 0.35)[i % 3], 0.85) for i, hue in enumerate(hues)]
    chosen = np.array([(0.25, 0.25, 0.25), *rest][:classes])
    return (chosen * 255).round().astype(np.uint8)


def overlay(picture: np.ndarray, mask: np.ndarray, palette: np.ndarray, share: float = 0.65) -> np.ndarray:
    """Return the picture, uint8 (h, w, 3), in gray beneath its mask, uint8 (h, w), in colours.

    share: of the colour. What is no class (an index beyond the palette, such as what is ignored) stays gray.
    """
    gray = picture.astype(np.float32).mean(axis=2, keepdims=True)
    known = mask < len(palette)
    colour = palette[np.where(known, mask, 0)].astype(np.float32)
    shown = np.where(known[..., None], gray * (1 - share) + colour * share, gray)
    return shown.round().astype(np.uint8)


def legend(classes: Sequence[str], palette: np.ndarray) -> np.ndarray:
    """Return a sheet with the colour and the name of each class, uint8 (height, width, 3)."""
    squares = [np.tile(colour, (8, 8, 1)).astype(np.uint8) for colour in palette]
    return sheet(squares, list(classes), columns=8, side=72)


def compared(
    pictures: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    captions: Sequence[str],
    palette: np.ndarray,
    *,
    columns: int = 2,
    side: int = 128,
) -> np.ndarray:
    """Return a sheet with three pictures for each: as it is, the truth, the prediction; uint8 (h, w, 3).

    captions: of each picture; columns: how many such triples stand beside each other.
    """
    shown, words = [], []
    for picture, truth, predicted, caption in zip(pictures, truths, predictions, captions, strict=True):
        shown += [picture, overlay(picture, truth, palette), overlay(picture, predicted, palette)]
        words += [caption, "truth", "prediction"]
    return sheet(shown, words, columns=3 * columns, side=side)
