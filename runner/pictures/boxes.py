"""Where pictures with boxes come from: COCO JSON, Pascal VOC, or a dataset of TFDS with objects.

Each becomes one `Source`, whose `target` brings a picture's boxes to its resized form:

    examples = load(boxes.find("~/photos"), image_size=320, resize="pad")

In every form a box is x_min, y_min, x_max, y_max in pixels of edges: that of a whole picture is
(0, 0, width, height). `coco_voc` reads the files.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from runner.data.source import Source, Target, children, datasets
from runner.errors import InputError, suggest
from runner.pictures import coco_voc, images, square
from runner.pictures.coco_voc import Annotated

LAYOUT = (
    "a COCO file (.json) or a folder with some (coco_voc.json, instances_train.json, "
    "train/_coco_voc.coco.json), a Pascal VOC folder (Annotations, JPEGImages and perhaps "
    "ImageSets/Main), tfds:NAME, or scenes"
)
LEAST_VISIBLE = 0.3
"""Of a box that resizing by "crop" cuts, at least this share of the area must be left, as in `augment`."""


def find(source: str | Path) -> Source:
    """List the pictures with boxes that `source` names: a row each, in a fixed order.

    source: a COCO file, a folder with COCO files, a Pascal VOC folder, tfds:NAME of a dataset whose
    "objects" have "bbox" and "label", or a name from datasets/ of that kind.

    `coco_voc.coco` and `coco_voc.voc` say how files become boxes and splits. Classes without a box are
    left out.

    `target` gives the arrays "boxes" float32 (most, 4), in pixels of the resized picture, and "classes" int64
    (most,), both -1 in rows without a box, where `most` is the most boxes that one picture has. Boxes are cut
    at the picture's border; those without area, outside, narrower than a pixel once resized, or of which a
    crop leaves less than LEAST_VISIBLE are left out. Each is a problem of the kind "box".

    Raises InputError, in one line, for what cannot be read or is not there. A picture whose size is not the
    one its annotation has is `images.Unreadable`, and so left out by name.
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


# ---------------------------------------------------------------- from pixels of a file to a square


def _source(
    pictures: list[Annotated],
    classes: tuple[str, ...],
    read: Callable[[], Iterator[str | bytes]],
    problems: list[tuple[str, str, str]],
    source: str,
) -> Source:
    """Join annotated pictures to a source; classes that have no box are left out."""
    shown = np.unique(np.concatenate([np.empty(0, np.int64), *(picture.classes for picture in pictures)]))
    if len(shown) == 0:
        raise InputError(
            f"Received data={source!r}, {len(pictures)} pictures without a single box; annotate some."
        )
    absent = [name for number, name in enumerate(classes) if number not in shown]
    if absent:
        names = ", ".join(absent[:5]) + ", ..." * (len(absent) > 5)
        problems = [*problems, ("", "missing", f"classes without a box are left out: {names}")]
    new_number = np.full(len(classes), -1, np.int64)
    new_number[shown] = np.arange(len(shown))
    most = max(len(picture.classes) for picture in pictures)

    def target(row: int, width: int, height: int, image_size: int, resize: str) -> Target:
        picture = pictures[row]
        if picture.size not in (None, (0, 0), (width, height)):
            raise images.Unreadable(
                f"{width} x {height} pixels, but its annotation says {picture.size[0]} x {picture.size[1]}: "
                "the boxes belong to another form of it"
            )
        scale = (width, height, width, height) if picture.size is None else 1.0
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
    return Source(examples, names, read, problems, target, counted="boxes")


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
