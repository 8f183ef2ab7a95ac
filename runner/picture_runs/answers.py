"""Boxes and masks of new pictures: in a table, and drawn on the pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from runner import atomic
from runner.picture_runs.predict import Batch
from runner.pictures import square
from runner.pictures.mask_values import IGNORE
from runner.report import drawing

BOX = ["x_min", "y_min", "x_max", "y_max"]
"""Columns, called as `scores.detection` calls them, which wants a package that masks do without."""
DRAWN = 1000
"""On so many pictures an answer is drawn, the first ones: nobody looks at more."""


def boxes(
    batch: Batch,
    found: tuple[np.ndarray, ...] | None,
    classes: Sequence[str],
    config: dict[str, Any],
    folder: Path | None,
) -> pd.DataFrame:
    """The detections of a batch, a row each; the index is the number of the file.

    Columns path, detections (how many the picture has), class (Categorical), score (0..1), x_min, y_min,
    x_max, y_max (pixels of the picture as it stands upright), note, drawn (the name in `folder` of the
    picture with its boxes). A picture without detections has one row, with 0; a file that is no picture has
    one with its note alone.

    found: boxes (readable, n, 4) in pixels of the resized squares, scores and class numbers (readable, n),
    and how many of each n count (readable,), the best ones first; None where no file could be read. config:
    of the run, with image_size and resize. folder: None draws nothing.
    """
    size, how, palette = config["image_size"], config["resize"], drawing.colours(len(classes) + 1)[1:]
    of_readable, rows = iter(range(len(batch.pictures))), []
    for number, path, readable, note in zip(
        batch.index, batch.paths, batch.readable, batch.notes, strict=True
    ):
        empty = {"number": number, "path": path, "note": note, "drawn": None}
        if not readable or found is None:
            rows.append(empty)
            continue
        assert found is not None  # a file could be read
        place = next(of_readable)
        where, scores, numbers = (part[place][: found[3][place]] for part in found[:3])
        width, height = batch.sizes[place]
        scale_x, scale_y, shift_x, shift_y = square.matrix(width, height, size, how)
        where = (where.astype("float64") - [shift_x, shift_y] * 2) / ([scale_x, scale_y] * 2)
        where = where.clip(0, [width, height] * 2)
        if folder is not None and number < DRAWN:
            ratio = np.array([*batch.shown[place].shape[1::-1]] * 2) / ([width, height] * 2)
            shown = [
                (*box, tuple(map(int, palette[one])), f"{classes[one]} {score:.2f}")
                for box, one, score in zip(where * ratio, numbers, scores, strict=True)
            ][::-1]  # the surest on top
            picture = Image.fromarray(drawing.boxes(batch.shown[place], shown))
            empty["drawn"] = save(folder, path, number, ".jpg", picture)
        rows += [
            {**empty, "detections": len(scores), "class": classes[one], "score": float(score)}
            | dict(zip(BOX, map(float, box), strict=True))
            for box, one, score in zip(where, numbers, scores, strict=True)
        ] or [{**empty, "detections": 0}]
    table = pd.DataFrame(
        rows, columns=["number", "path", "detections", "class", "score", *BOX, "note", "drawn"]
    )
    table["class"] = pd.Categorical(table["class"], classes)
    kinds = {"detections": "Int64", "score": "float64"} | dict.fromkeys(BOX, "float64")
    return table.astype(kinds).set_index("number")


def masks(
    batch: Batch,
    found: Sequence[np.ndarray],
    classes: Sequence[str],
    config: dict[str, Any],
    folder: Path | None,
) -> pd.DataFrame:
    """What the masks of a batch say, a row per file; the index is its number.

    Columns path, share:<class> (0..1, of the pixels that the network saw), note, and the names in `folder` of
    mask, a PNG of the picture's own size with class numbers as values (and a palette to look at them; IGNORE
    where resize="crop" cut something off), and of drawn, the picture beneath its mask.

    found: uint8 (size, size), class numbers, of each picture that could be read. config, folder: see `boxes`.
    """
    how, palette = config["resize"], drawing.colours(len(classes))
    colours = np.full((256, 3), 128, np.uint8)
    colours[: len(classes)] = palette
    of_readable, rows = iter(range(len(batch.pictures))), []
    for number, path, readable, note in zip(
        batch.index, batch.paths, batch.readable, batch.notes, strict=True
    ):
        row = {"path": path, **dict.fromkeys((f"share:{name}" for name in classes), np.nan)}
        row |= {"note": note, "mask": None, "drawn": None}
        rows.append(row)
        if not readable:
            continue
        place = next(of_readable)
        width, height = batch.sizes[place]
        mask = square.mask_at_own_size(found[place], width, height, how, IGNORE)
        counts = np.bincount(mask[mask != IGNORE], minlength=len(classes))
        row |= {f"share:{name}": count / counts.sum() for name, count in zip(classes, counts, strict=True)}
        if folder is not None:
            image = Image.fromarray(mask)
            image.putpalette(colours.tobytes())
            row["mask"] = save(folder, path, number, ".png", image)
            if number < DRAWN:
                shown = batch.shown[place]
                height, width = shown.shape[:2]
                over = square.mask_at_own_size(found[place], width, height, how, IGNORE)
                picture = Image.fromarray(drawing.overlay(shown, over, palette))
                row["drawn"] = save(folder, path, number, ".jpg", picture)
        rows[-1] = row
    return pd.DataFrame(rows, batch.index)


def save(folder: Path, path: str, number: int, suffix: str, picture: Image.Image) -> str:
    """Write what was drawn for a file into `folder`, made where it is missing, and return its name.

    The name is that of the file in `path`, with its `number` in the stream where another file has that name
    already; suffix: ".jpg" or ".png".
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(path).stem.replace("\\", "_")[:100] or "picture"
    while (folder / f"{stem}{suffix}").exists():
        stem = f"{stem}-{number}"
    atomic.write(folder / f"{stem}{suffix}", lambda temporary: picture.save(temporary, quality=90))
    return f"{stem}{suffix}"
