"""What is drawn on pictures for people: boxes, and masks in colours with their legend, and compared."""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from runner.report import sheets
from runner.report.sheets import sheet

SIDE = 320
"""Pixels a side of pictures with boxes."""
ERROR = (255, 145, 0)
"""What a map of errors shows them in: orange, which every kind of colour vision tells from gray."""


def boxes(image: np.ndarray, rectangles: Sequence[tuple], side: int = SIDE) -> np.ndarray:
    """Return the picture with boxes drawn on it, uint8 (side, side, 3) for a square one.

    image: uint8 (h, w, 3), enlarged to `side` pixels so that lines cover little; rectangles: (x_min, y_min,
    x_max, y_max, colour, text) each, in pixels of edges of `image`, drawn in this order. Texts, black on the
    colour, stand where they cover no other text and as little as possible of any box; one that finds no such
    place is left out, the later ones first.
    """
    scale = max(1.0, side / max(image.shape[:2]))
    height, width = (round(length * scale) for length in image.shape[:2])
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
    pen, letters = ImageDraw.Draw(picture), max(10, side // 22)
    font = sheets.font(letters)
    drawn = []
    for x_min, y_min, x_max, y_max, colour, _ in rectangles:
        left, top = (round(place * scale) for place in (x_min, y_min))
        # The last pixel within the box; a box that is cut at the border stays in sight.
        right, bottom = round(x_max * scale) - 1, round(y_max * scale) - 1
        drawn.append((left, top, max(left, right), max(top, bottom)))
        pen.rectangle(drawn[-1], outline=colour, width=2)
    taken: list[Rectangle] = []
    for one, (*_, colour, text) in zip(drawn, rectangles, strict=True):
        size = (math.ceil(pen.textlength(text, font)) + 4, letters + 4)
        place = place_label(one, size, (width, height), drawn, taken) if text else None
        if place:
            taken.append((*place, place[0] + size[0], place[1] + size[1]))
            pen.rectangle((*place, place[0] + size[0] - 1, place[1] + size[1] - 1), fill=colour)
            pen.text((place[0] + 2, place[1] + 1), text, fill="black", font=font)
    return np.asarray(picture)


Rectangle = tuple[int, int, int, int]
"""x_min, y_min, x_max, y_max in pixels."""


def place_label(
    box: Rectangle,
    size: tuple[int, int],
    picture: tuple[int, int],
    boxes: Sequence[Rectangle],
    taken: Sequence[Rectangle],
) -> tuple[int, int] | None:
    """Return x, y of the upper left corner of a label beside or within its box, in pixels; None where each
    place covers another label.

    size: width, height of the label; picture: those of the picture, which the label does not leave; boxes:
    what is better not covered; taken: where labels stand already.
    """
    (left, top, right, bottom), (width, height) = box, size
    beside = [(left, top - height), (right - width, top - height), (left, bottom), (right - width, bottom)]
    beside += [(right, top), (right, bottom - height), (left - width, top), (left - width, bottom - height)]
    middle = (top + bottom - height) // 2
    within = [(left, top), (left, bottom - height), (right - width, top), (right - width, bottom - height)]
    places = [
        (max(0, min(x, picture[0] - width)), max(0, min(y, picture[1] - height)))
        for x, y in (*beside, *within, (left, middle))
    ]
    free = []
    for x, y in dict.fromkeys(places):
        label = (x, y, x + width, y + height)
        if not any(_shared(label, other) for other in taken):
            free.append((sum(_shared(label, other) for other in boxes), len(free), (x, y)))
    return min(free)[2] if free else None


def _shared(one: Rectangle, other: Rectangle) -> int:
    """The area that two rectangles share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, across) * max(0, down)


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


def errors(picture: np.ndarray, truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the picture, uint8 (h, w, 3), in pale gray, and orange where its masks, uint8 (h, w), differ.

    classes: how many there are; where the truth is none of them it is ignored, and nothing is wrong.
    """
    gray = 100 + picture.astype(np.float32).mean(axis=2, keepdims=True) * 0.6
    shown = np.repeat(gray, 3, axis=2)
    shown[(truth < classes) & (predicted != truth)] = ERROR
    return shown.round().clip(0, 255).astype(np.uint8)


def panels(
    picture: np.ndarray, truth: np.ndarray, predicted: np.ndarray, palette: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Return (what it is, uint8 (h, w, 3)) of the picture, its true mask, the predicted one, the errors."""
    return [
        ("picture", picture),
        ("truth", overlay(picture, truth, palette)),
        ("prediction", overlay(picture, predicted, palette)),
        ("errors", errors(picture, truth, predicted, len(palette))),
    ]


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
    """Return a sheet with four pictures for each: as it is, the truth, the prediction, and where they differ;
    uint8 (h, w, 3).

    captions: of each picture; columns: how many such fours stand beside each other.
    """
    shown, words = [], []
    for picture, truth, predicted, caption in zip(pictures, truths, predictions, captions, strict=True):
        for what, drawn in panels(picture, truth, predicted, palette):
            shown.append(drawn)
            words.append(caption if what == "picture" else what)
    return sheet(shown, words, columns=4 * columns, side=side)
