"""Where pictures with boxes come from: COCO JSON, Pascal VOC, or a dataset of TFDS with objects.

Each becomes one `Source`, whose `target` brings a picture's boxes to its resized form:

    examples = load(boxes.find("~/photos"), image_size=320, resize="pad")

In every form a box is x_min, y_min, x_max, y_max in pixels of edges: that of a whole picture is
(0, 0, width, height). `coco_voc` reads the files.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from runner.data.files import children, refuse_dead_folders
from runner.data.source import Source, Target, datasets
from runner.errors import InputError, suggest
from runner.pictures import coco_voc, images, square
from runner.pictures.coco_voc import Annotated

LAYOUT = (
    "a COCO file (.json) or a folder with some (coco_voc.json, instances_train.json, "
    "train/_coco_voc.coco.json), a Pascal VOC folder (Annotations, JPEGImages and perhaps "
    "ImageSets/Main), tfds:NAME, or scenes"
)
CERTAIN = 5
"""From so many boxes on, all of which make sense in another form only, that form is meant."""
COUNTED = 100
"""Detections of a picture that COCO's rules count; `scores.detection` counts more where there is more."""
LEAST_VISIBLE = 0.3
"""Of a box that resizing by "crop" cuts, at least this share of the area must be left, as in `augment`."""


def find(source: str | Path) -> Source:
    """List the pictures with boxes that `source` names: a row each, in a fixed order.

    source: a COCO file, a folder with COCO files, a Pascal VOC folder, tfds:NAME of a dataset whose
    "objects" have "bbox" and "label", or a name from datasets/ of that kind.

    `coco_voc.coco` and `coco_voc.voc` say how files become boxes and splits. Classes without a box are
    left out; a box that stands twice in a picture counts once, and is told.

    `target` gives the arrays "boxes" float32 (most, 4), in pixels of the resized picture, and "classes" int64
    (most,), both -1 in rows without a box, where `most` is the most boxes that one picture has. Boxes are cut
    at the picture's border; those without area, outside, narrower than a pixel once resized, or of which a
    crop leaves less than LEAST_VISIBLE are left out. Each is a problem of the kind "box".

    Raises InputError, in one line, for what cannot be read or is not there, and for boxes that are no
    pixels: shares from 0 to 1, or two corners where COCO has width and height. A picture whose size is not
    the one its annotation has is `images.Unreadable`, and so left out by name.
    """
    source = str(source).strip()
    if source.startswith("tfds:") or source in datasets():
        return _tfds(source)
    path = Path(os.path.expanduser(source))
    folder = path if os.path.isdir(path) else path.parent
    root = folder.parent if folder.name.lower() == "annotations" else folder
    if source and os.path.isfile(path) and path.suffix.lower() == ".json":
        return _of_files(coco_voc.coco(root, [path]), source)
    if source and os.path.isdir(path):
        refuse_dead_folders(path)
        if os.path.isdir(path / "Annotations"):
            return _of_files(coco_voc.voc(path), source)
        if files := coco_voc.coco_files(path):
            return _of_files(coco_voc.coco(root, files), source)
        inner = [name for name in children(path)[0] if os.path.isdir(path / name / "Annotations")]
        hint = f" Did you mean {str(path / inner[0])!r}?" if inner else ""
        raise InputError(f"Received data={source!r}, a folder without annotations; give {LAYOUT}.{hint}")
    what = "a file that is no .json" if source and os.path.isfile(path) else "which is not there"
    raise InputError(f"Received data={source!r}, {what}; give {LAYOUT}.{suggest(source, datasets())}")


def _of_files(found: coco_voc.Found, source: str) -> Source:
    return _source(found.pictures, found.classes, lambda: iter(found.files), found.problems, source)


def _tfds(source: str) -> Source:
    """A dataset of TFDS with boxes in "objects", or one of datasets/."""
    import tensorflow_datasets as tfds  # not at the top: it is heavy, and a folder does without it

    from runner.data import builders

    builder, (image, objects), chosen = builders.prepared(source, _features_with_boxes)
    features = builder.info.features
    names = [name for name in (*_OBJECT, "is_crowd") if name in features[objects].feature]
    wanted = tfds.decode.PartialDecoding({objects: {name: features[objects][name] for name in names}})
    pictures = []
    given = len(chosen) > 1
    for name, split in chosen.items():
        for number, example in enumerate(builders.read_split(builder, name, wanted)):
            y_min, x_min, y_max, x_max = np.asarray(example[objects]["bbox"], np.float64).reshape(-1, 4).T
            boxes = np.stack([x_min, y_min, x_max, y_max], axis=1)
            classes = np.asarray(example[objects]["label"], np.int64)
            if "is_crowd" in names:
                single = ~np.asarray(example[objects]["is_crowd"], bool)
                boxes, classes = boxes[single], classes[single]
            place = f"{builder.name}/{name}[{number}]"
            pictures.append(Annotated(place, split * given, boxes, classes, None))

    def read() -> Iterator[bytes]:
        for name in chosen:
            for example in builders.read_split(builder, name, {image: tfds.decode.SkipDecoding()}):
                yield example[image]

    return _source(pictures, tuple(features[objects]["label"].names), read, [], source)


_OBJECT = ("bbox", "label")


def _features_with_boxes(source: str, features) -> tuple[str, str]:
    """Return the names of the picture and of the objects among a builder's features."""
    items = dict(features.items()) if hasattr(features, "items") else {}
    found = [name for name, feature in items.items() if set(_OBJECT) <= set(getattr(feature, "feature", ()))]
    if "image" not in items or len(found) != 1 or not getattr(items[found[0]]["label"], "names", None):
        raise InputError(
            f"Received data={source!r} with the features {', '.join(items)}; expected an image, and objects "
            "with bbox and label: choose a dataset for object detection."
        )
    return "image", found[0]


# ---------------------------------------------------------------- a source


def _source(
    pictures: list[Annotated],
    classes: tuple[str, ...],
    read: Callable[[], Iterator[str | bytes]],
    problems: list[tuple[str, str, str]],
    source: str,
) -> Source:
    """Join annotated pictures to a source; classes that have no box are left out."""
    pictures, twice = _once(pictures)
    every = np.concatenate([np.empty(0, np.int64), *(picture.classes for picture in pictures)])
    shown = np.unique(every)
    if len(shown) == 0:
        raise InputError(
            f"Received data={source!r}, {len(pictures)} pictures without a single box; annotate some."
        )
    problems = [*problems, *twice, *_shares(pictures, source), *_dense(pictures)]
    absent = [name for number, name in enumerate(classes) if number not in shown]
    if absent:
        names = ", ".join(absent[:5]) + ", ..." * (len(absent) > 5)
        problems.append(("", "missing", f"classes without a box are left out: {names}"))
    new_number = np.full(len(classes), -1, np.int64)
    new_number[shown] = np.arange(len(shown))
    most = max(len(picture.classes) for picture in pictures)
    # Of each picture, how many boxes leave it, and how many would lie in it as two corners.
    leaving = np.zeros((len(pictures), 2), np.int64)

    def target(row: int, width: int, height: int, image_size: int, resize: str) -> Target:
        picture = pictures[row]
        if picture.size not in (None, (0, 0), (width, height)):
            raise images.Unreadable(
                f"{width} x {height} pixels, but its annotation says {picture.size[0]} x {picture.size[1]}: "
                "the boxes belong to another form of it"
            )
        scale = (width, height, width, height) if picture.size is None else 1.0
        if picture.size is not None:
            leaving[row] = _leaving(picture.boxes, width, height)
        boxes, kept, notes = resized(picture.boxes * scale, width, height, image_size, resize)
        arrays: dict[str, np.ndarray] = {
            "boxes": np.full((most, 4), -1, np.float32),
            "classes": np.full(most, -1, np.int64),
        }
        numbers = new_number[picture.classes[kept]]
        arrays["boxes"][: len(numbers)] = boxes[kept]
        arrays["classes"][: len(numbers)] = numbers
        amounts = np.bincount(numbers, minlength=len(shown)).astype(np.int64)
        return Target(arrays, amounts, tuple(("box", note) for note in notes))

    examples = pd.DataFrame(
        [(picture.path, "", picture.split, "") for picture in pictures],
        columns=["path", "label", "split", "group"],
        dtype=object,
    )
    names = tuple(classes[number] for number in shown)

    def remarks() -> list[tuple[str, str, str]]:
        leave, as_corners = leaving.sum(axis=0)
        return _leaving_in_words(int(leave), int(as_corners), len(every), source)

    return Source(examples, names, read, problems, target, counted="boxes", remarks=remarks, name=source)


# ---------------------------------------------------------------- what is odd about them as a whole


def _once(pictures: list[Annotated]) -> tuple[list[Annotated], list[tuple[str, str, str]]]:
    """The pictures with each box once, to a thousandth of a pixel; and a row that counts the others."""
    kept, twice, of = [], 0, 0
    for picture in pictures:
        exact = 1e6 if picture.size is None else 1e3
        rows = np.column_stack([np.round(picture.boxes * exact), picture.classes])
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        left = len(rows) - len(first)
        twice, of = twice + left, of + (left > 0)
        if left:
            picture = replace(picture, boxes=picture.boxes[first], classes=picture.classes[first])
        kept.append(picture)
    message = f"{twice} boxes of {of} pictures stand there more than once and count once"
    return kept, [("", "box", message)] if twice else []


def _shares(pictures: list[Annotated], source: str) -> list[tuple[str, str, str]]:
    """InputError where all boxes look like shares of width and height; a row where some do."""
    parts = [picture.boxes for picture in pictures if picture.size is not None]
    boxes = np.concatenate([np.empty((0, 4)), *parts])
    like_shares = (boxes.max(axis=1, initial=-np.inf) <= 1) & (boxes != np.round(boxes)).any(axis=1)
    if len(boxes) and like_shares.all():
        raise InputError(
            f"Received data={source!r}, whose {len(boxes)} boxes all lie within 0 to 1, as shares of width "
            "and height do; boxes are pixels here: multiply x by the picture's width, y by its height."
        )
    count = int(like_shares.sum())
    message = f"{count} of {len(boxes)} boxes lie within 0 to 1, as shares do where pixels are meant"
    return [("", "box", message)] if count else []


def _dense(pictures: list[Annotated]) -> list[tuple[str, str, str]]:
    """A row where a picture has more boxes than the detections that COCO's rules count."""
    counts = np.array([len(picture.classes) for picture in pictures])
    if counts.max(initial=0) <= COUNTED:
        return []
    message = (
        f"{(counts > COUNTED).sum()} pictures have more than {COUNTED} boxes, up to {counts.max()}; COCO's "
        f"rules count {COUNTED} detections of a picture, here as many count as one has boxes"
    )
    return [(pictures[int(counts.argmax())].path, "box", message)]


def _leaving(boxes: np.ndarray, width: int, height: int) -> tuple[int, int]:
    """How many boxes leave a picture by more than a pixel; and how many would lie in it if what COCO calls
    width and height were the second corner.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    border = np.array([width, height]) + 1
    leaves = (boxes[:, :2] < -1).any(axis=1) | (boxes[:, 2:] > border).any(axis=1)
    as_corners = (boxes[:, :2] >= -1) & (sides > boxes[:, :2]) & (sides <= border)
    return int(leaves.sum()), int(as_corners.all(axis=1).sum())


def _leaving_in_words(leave: int, as_corners: int, of: int, source: str) -> list[tuple[str, str, str]]:
    """A row where most boxes leave their picture; InputError where all make sense as two corners."""
    if leave * 2 <= of:
        return []
    found = f"{leave} of {of} boxes leave their picture"
    if of >= CERTAIN and as_corners == of:
        raise InputError(
            f"Received data={source!r}, where {found}, and all lie in it if x1, y1, x2, y2 are meant; a box "
            "of COCO is x, y, width, height: write x2 - x1 and y2 - y1."
        )
    return [("", "box", f"{found} and are cut: COCO has x, y, width, height, Pascal VOC two corners")]


# ---------------------------------------------------------------- from pixels of a file to a square


def resized(
    boxes: np.ndarray, width: int, height: int, image_size: int, resize: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Bring the boxes of a picture of width x height pixels to its resized form.

    boxes: float (n, 4), pixels of edges. image_size, resize: as for `square.resize`.
    Returns float64 (n, 4), cut at the border of picture and square; bool (n,), which of them are left; and
    what was done, in words.
    """
    notes = []

    def count(which: np.ndarray, done: str) -> None:
        if number := int(which.sum()):
            notes.append(f"{number} box{'es' * (number > 1)} {done}")

    inside = np.clip(boxes, 0, (width, height, width, height))
    area, area_inside = _area(boxes), _area(inside)
    flat, outside = area <= 0, (area > 0) & (area_inside <= 0)
    cut = (area_inside > 0) & (np.abs(boxes - inside).max(axis=1, initial=0.0) > 1)
    count(flat, "without area left out")
    count(outside, "outside the picture left out")
    count(cut, "cut at the border of the picture")
    scale_x, scale_y, shift_x, shift_y = square.matrix(width, height, image_size, resize)
    whole = inside * (scale_x, scale_y, scale_x, scale_y) + (shift_x, shift_y, shift_x, shift_y)
    seen = np.clip(whole, 0, image_size)
    left = area_inside > 0
    hidden = left & (_area(seen) < LEAST_VISIBLE * _area(whole))
    count(hidden, "mostly outside the square that is cut out left out; resize='pad' keeps everything")
    small = left & ~hidden & (np.minimum(*(seen[:, 2:] - seen[:, :2]).T) < 1)
    count(small, f"narrower than a pixel at image_size={image_size} left out")
    return seen, left & ~hidden & ~small, notes


def _area(boxes: np.ndarray) -> np.ndarray:
    """float (n,): 0 where a side is not positive."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
