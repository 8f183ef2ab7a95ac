"""COCO and Pascal VOC files, read as data, become lists of pictures with boxes (`boxes.find` takes both).

No entity of an XML file is expanded, and no name in an annotation leaves the folder it stands in. Pictures
that are listed and not there stay in the list, so that they are told as unreadable.
"""

import dataclasses
import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runner.data.files import (
    SPLIT_WORDS,
    children,
    composed,
    existing,
    find_listed,
    lacking,
    parse_xml,
    printable,
    split_in_name,
    text_lines,
    unlisted,
)
from runner.data.source import in_one_form
from runner.errors import InputError


@dataclass(frozen=True, eq=False)
class Annotated:
    """A picture as its annotation describes it."""

    path: str
    """As a person would look it up."""
    split: str
    """train, val, test, or "" where the source has no splits."""
    boxes: np.ndarray
    """float64 (n, 4), pixels of edges; where `size` is None shares of width and height, 0 to 1."""
    classes: np.ndarray
    """int64 (n,)."""
    size: tuple[int, int] | None
    """Width and height as the annotation has them; (0, 0) where it does not say."""


class Found(NamedTuple):
    """What a reader found: pictures, each with its file, in a fixed order."""

    pictures: list[Annotated]
    files: list[str]
    classes: tuple[str, ...]
    """Names, by the numbers of `Annotated.classes`."""
    problems: list[tuple[str, str, str]]
    """(path, kind, message) for what was left out."""


# ---------------------------------------------------------------- COCO


def coco_files(folder: Path) -> list[Path]:
    """The COCO files of a folder and of the folders in it, by name; where none has the name of one, the one
    JSON file beside the pictures that is one (Label Studio calls it result.json).
    """
    places = [folder, *(folder / name for name in children(folder)[0])]
    files = [
        place / name for place in places for name in children(place)[1] if name.lower().endswith(".json")
    ]
    called = [
        file for file in files if re.search(r"annotations.*\.json$|^instances.*\.json$", file.name.lower())
    ]
    return called or [file for file in files if file.parent == folder and _parts(file) is not None][:1]


def coco(root: Path, files: list[Path]) -> Found:
    """Read COCO files, of which several need one split each in their names (or in those of their folders).

    Pictures lie beside the file, in images/, or in the folder that COCO calls after the file (train2017),
    there, in `root`, or in its images/. Category ids may have gaps; crowds (iscrowd) are left out and
    counted. A picture that is listed twice is one, with the boxes of both. Raises InputError.
    """
    splits = [split_in_name(file, root) for file in files] if len(files) > 1 else [""]
    if len(files) > 1 and ("" in splits or len(set(splits)) < len(splits) or "train" not in splits):
        names = ", ".join(str(file.relative_to(root)) for file in files[:5])
        raise InputError(
            f"Received data={str(root)!r} with the annotations {names}; several need one split each in "
            "their names (train, val, test), train among them. Or give one .json file."
        )
    listed: dict[Path, Annotated] = {}
    called: dict[Path, str] = {}
    problems: list[tuple[str, str, str]] = []
    categories: dict[int, str] | None = None
    for file, split in zip(files, splits, strict=True):
        found = _read_coco(file)
        if categories is not None and _compared(categories) != _compared(found.categories):
            raise InputError(
                f"Received data={str(file)!r}, whose categories are not those of {str(files[0])!r}; all "
                "files need the same ids and names."
            )
        categories = found.categories
        if found.crowds:
            problems.append(
                (file.name, "box", f"{found.crowds} crowds (iscrowd) left out, which are no single objects")
            )
        called_alike = re.sub(r"^(instances|annotations)_", "", file.stem)
        places = [file.parent, file.parent / "images", root / "images"]
        places += [inside / called_alike for inside in (root, root / "images", file.parent / "images")]
        gone, again = [], 0
        for picture in found.pictures:
            path, there = find_listed(picture.path, places, file)
            gone += [] if there else [picture.path]
            picture = dataclasses.replace(picture, split=split)
            if path in listed:
                again += 1
                picture = _merged(listed[path], picture, (called[path], picture.path), file)
            listed[path], called[path] = picture, called.get(path, picture.path)
        if again:
            message = (
                f"{again} pictures are listed twice: each is one picture, with the boxes of both entries"
            )
            problems.append((file.name, "box", message))
        problems += lacking(file, gone, len(found.pictures), places)
    problems += unlisted(root, listed)
    pictures = [
        dataclasses.replace(picture, path=printable(str(path.relative_to(root))))
        for path, picture in listed.items()
    ]
    return Found(pictures, [str(path) for path in listed], tuple((categories or {}).values()), problems)


def _compared(categories: dict[int, str]) -> dict[int, str]:
    return {number: composed(name) for number, name in categories.items()}


def _merged(one: Annotated, other: Annotated, names: tuple[str, str], file: Path) -> Annotated:
    """Join two entries of one picture; InputError where they contradict each other."""
    sizes = {size for size in (one.size, other.size) if size not in (None, (0, 0))}
    wrong = ""
    if one.split != other.split:
        wrong = f"which stands in {one.split} and in {other.split}: a picture belongs in one split"
    elif os.path.normpath(names[0]) != os.path.normpath(names[1]):
        wrong = f"whose file is also that of {names[0]!r}: give every picture a name of its own"
    elif len(sizes) > 1:
        wrong = f"listed twice with the sizes {' and '.join(map(str, sorted(sizes)))}: remove the wrong entry"
    if wrong:
        raise InputError(f"Received data={str(file)!r} with the picture {names[1]!r}, {wrong}.")
    return dataclasses.replace(
        one,
        boxes=np.concatenate([one.boxes, other.boxes]),
        classes=np.concatenate([one.classes, other.classes]),
        size=sizes.pop() if sizes else one.size,
    )


class _CocoFile(NamedTuple):
    categories: dict[int, str]
    pictures: list[Annotated]
    crowds: int


def _parts(file: Path) -> list[list[dict]] | None:
    """The lists images, annotations and categories of a COCO file, None where it is none."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"Received data={str(file)!r}, which cannot be read as JSON ({reason}); save it anew."
        ) from None
    names = ("images", "annotations", "categories")
    parts: list[Any] = [record.get(name) for name in names] if isinstance(record, dict) else [None]
    good = all(isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in parts)
    return parts if good else None


def _read_coco(file: Path) -> _CocoFile:
    where = f"Received data={str(file)!r}"
    parts = _parts(file)
    if parts is None:
        raise InputError(
            f"{where}, which is no COCO file of boxes; it needs the lists images, annotations and categories."
        )
    raw_images, raw_annotations, raw_categories = parts

    def value(entry: dict, name: str, kind: type, of: str) -> Any:
        found = entry.get(name)
        if not isinstance(found, kind) or isinstance(found, bool):
            text = json.dumps(entry)
            raise InputError(
                f"{where} with {of} whose {name!r} is missing or of another kind: "
                f"{text if len(text) < 120 else text[:120] + ' ...'}; put it right."
            )
        return found

    def unique(entries: list[dict], of: str) -> dict[int, dict]:
        by_id = {value(entry, "id", int, of): entry for entry in entries}
        if len(by_id) < len(entries):
            twice = Counter(entry["id"] for entry in entries).most_common(1)[0][0]
            raise InputError(
                f"{where}, where the id {twice} is that of two entries of {of}; give each its own."
            )
        return by_id

    categories = {
        number: value(entry, "name", str, "a category")
        for number, entry in sorted(unique(raw_categories, "a category").items())
    }
    if len(set(categories.values())) < len(categories):
        raise InputError(f"{where} with two categories of one name; give each its own.")
    by_id = unique(raw_images, "an image")
    boxes, classes, crowds = {number: [] for number in by_id}, {number: [] for number in by_id}, 0
    place = {number: index for index, number in enumerate(categories)}
    for entry in raw_annotations:
        picture, category = (value(entry, name, int, "an annotation") for name in ("image_id", "category_id"))
        if picture not in by_id or category not in place:
            name = "image_id" if picture not in by_id else "category_id"
            raise InputError(f"{where} with an annotation of {name} {entry[name]}, which it does not list.")
        x, y, width, height = _four(value(entry, "bbox", list, "an annotation"), where)
        if _is_crowd(entry.get("iscrowd"), where):
            crowds += 1
            continue
        boxes[picture].append((x, y, x + width, y + height))
        classes[picture].append(place[category])
    pictures = []
    for number, entry in by_id.items():
        name = value(entry, "file_name", str, "an image")
        sides = (entry.get("width"), entry.get("height"))
        size: Any = sides if all(isinstance(side, int) and side > 0 for side in sides) else (0, 0)
        pictures.append(Annotated(name, "", *_arrays(boxes[number], classes[number]), size))
    return _CocoFile(categories, pictures, crowds)


def _is_crowd(value: Any, where: str) -> bool:
    """What "iscrowd" says; some programs write it as a word."""
    word = str(value).strip().lower()
    if word not in ("none", "", "0", "0.0", "false", "1", "1.0", "true"):
        raise InputError(f"{where} with iscrowd {str(value)[:50]!r}; it is 0 (one object) or 1 (a crowd).")
    return word in ("1", "1.0", "true")


def _four(numbers: list, where: str) -> list[float]:
    try:
        found = [float(number) for number in numbers]
    except (TypeError, ValueError, OverflowError):
        found = []
    if len(found) != 4 or not all(math.isfinite(number) and abs(number) < 1e9 for number in found):
        raise InputError(f"{where} with the box {str(numbers)[:100]}; a box is four finite numbers.")
    return found


def _arrays(boxes: list, classes: list) -> tuple[np.ndarray, np.ndarray]:
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(classes, np.int64)


# ---------------------------------------------------------------- Pascal VOC


def voc(root: Path) -> Found:
    """Read the annotations of a Pascal VOC folder; train, val and test of ImageSets/Main are the splits.

    Without a train.txt, trainval.txt is what there is to train on. Pictures in no split are left out and
    counted. Corners are pixels, counted from 1 and within the box, so that its edges are x_min - 1 and x_max.
    Objects marked difficult count like others. Raises InputError.
    """
    where = f"Received data={str(root)!r}"
    stems = [Path(name).stem for name in children(root / "Annotations")[1] if name.endswith(".xml")]
    if not stems or not os.path.isdir(root / "JPEGImages"):
        lacks = "no .xml file in Annotations" if not stems else "no folder JPEGImages"
        raise InputError(f"{where} with {lacks}; a Pascal VOC folder has both.")
    split_of, problems = _voc_splits(root, set(stems))
    if split_of:
        left = len(stems) - len(split_of)
        stems = [stem for stem in stems if stem in split_of]
        if left:
            problems.append(
                ("ImageSets/Main", "missing", f"{left} annotated pictures are in no split and left out")
            )
    folder = root / "JPEGImages"
    by_stem: dict[str, list[str]] = {}
    for name in children(folder)[1]:
        by_stem.setdefault(composed(Path(name).stem), []).append(name)
    described: dict[Path, tuple] = {}
    gone = []
    for stem in stems:
        file = root / "Annotations" / f"{stem}.xml"
        said, size, found = _read_voc(file)
        said = re.split(r"[\\/]", said)[-1]
        beside = by_stem.get(composed(stem), [])
        if len(beside) > 1 and said not in beside:
            raise InputError(
                f"Received data={str(file)!r}, whose picture may be {beside[0]!r} or {beside[1]!r}; write "
                "which in its <filename>, or remove the other."
            )
        picture = said if said in beside or (said and not beside) else (beside or [stem])[0]
        path = Path(existing(folder / picture) or folder / picture)
        if path in described:
            raise InputError(
                f"Received data={str(file)!r}, whose picture {picture!r} is also that of "
                f"{described[path][0] + '.xml'!r}; write all its boxes in one file."
            )
        gone += [] if os.path.isfile(path) else [picture]
        described[path] = (stem, size, found)
    problems += lacking(root / "Annotations", gone, len(stems), [folder])
    # Pictures whose annotation is in no split are counted above.
    problems += unlisted(root, described) if not split_of else []
    names, rows = in_one_form([name for *_, found in described.values() for name, _ in found])
    classes, numbers = tuple(sorted(set(names))), iter(names)
    pictures = [
        Annotated(
            printable(f"JPEGImages/{path.name}"),
            split_of.get(stem, ""),
            *_arrays([box for _, box in found], [classes.index(next(numbers)) for _ in found]),
            size,
        )
        for path, (stem, size, found) in described.items()
    ]
    return Found(pictures, [str(path) for path in described], classes, problems + rows)


def _voc_splits(root: Path, stems: set[str]) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Map stems to splits as ImageSets/Main has them, empty where it has none; and rows for unused lists.

    Names of lists are read as those of folders are: Train.txt, Validation.txt. A list of a class
    (cat_train.txt) says nothing new.
    """
    folder = root / "ImageSets" / "Main"
    lists = (
        [name for name in children(folder)[1] if name.lower().endswith(".txt")]
        if os.path.isdir(folder)
        else []
    )
    meant = {
        name: "trainval" if name.lower() == "trainval.txt" else SPLIT_WORDS.get(name.lower()[:-4])
        for name in lists
    }
    for split in ("train", "val", "test"):
        if len(same := [name for name in lists if meant[name] == split]) > 1:
            raise InputError(
                f"Received data={str(folder)!r} with the lists {' and '.join(same)} of one split; keep one."
            )
    there = set(meant.values())
    used = {"trainval", "test"} if "train" not in there and "trainval" in there else {"train", "val", "test"}
    found: dict[str, str] = {}
    for name in lists:
        split = "train" if meant[name] == "trainval" else meant[name]
        for line in text_lines(folder / name) if meant[name] in used else ():
            stem = next((one for one in (line, composed(line)) if one in stems), line)
            if stem not in stems or found.setdefault(stem, split or "") != split:
                wrong = "no annotation" if stem not in stems else f"also in {found[stem]}"
                raise InputError(
                    f"Received data={str(folder / name)!r} with {stem!r}, which is {wrong}; a line is the "
                    "name of one file of Annotations without .xml, in one split."
                )
    if found and "train" not in found.values():
        raise InputError(f"Received data={str(folder)!r} without pictures to train on; add a train.txt.")
    of_class = re.compile(r".+_(train|val|trainval|test)\.txt", re.IGNORECASE)
    left = [name for name in lists if meant[name] not in {*used, "trainval"} and not of_class.fullmatch(name)]
    rows = [
        (
            "ImageSets/Main",
            "missing",
            f"the list {name!r} is not used; train.txt, val.txt and test.txt are splits",
        )
        for name in left
    ]
    return found, rows


def _read_voc(file: Path) -> tuple[str, tuple[int, int], list[tuple[str, tuple]]]:
    """Read one annotation: its filename, (width, height) or (0, 0), and (class, edges) of each object."""
    where = f"Received data={str(file)!r}"
    root = parse_xml(file)
    if root.tag != "annotation":
        raise InputError(f"{where}, whose outermost tag is <{root.tag[:50]}>; Pascal VOC has <annotation>.")
    size = _whole(root.findtext("size/width")), _whole(root.findtext("size/height"))
    objects = []
    for entry in root.findall("object"):
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where} with an object without a name; write its class in <name>.")
        if not (places := entry.findall("bndbox")):
            raise InputError(f"{where} with an object {name!r} without a <bndbox>; only boxes are read.")
        for place in places:  # some programs write several objects of a class into one
            corners = [place.findall(corner) for corner in ("xmin", "ymin", "xmax", "ymax")]
            x_min, y_min, x_max, y_max = _four(
                [found[0].text if len(found) == 1 else None for found in corners], where
            )
            # Corners lie in the box, so one pixel would be one; but two equal corners are a slip of the hand.
            flat = x_max <= x_min or y_max <= y_min
            objects.append((name, (x_min, y_min) * 2 if flat else (x_min - 1, y_min - 1, x_max, y_max)))
    return (root.findtext("filename") or "").strip(), size if all(size) else (0, 0), objects


def _whole(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() and len(text) < 10 else 0
