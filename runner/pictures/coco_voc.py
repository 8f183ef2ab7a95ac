"""COCO and Pascal VOC files, read as data, become lists of pictures with boxes (`boxes.find` takes both).

No entity of an XML file is expanded, and no name in an annotation leaves the folder it stands in.
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
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from runner.data.source import SPLIT_WORDS, children, printable
from runner.errors import InputError

MAX_XML = 10_000_000
"""Bytes of an XML file: some 40,000 boxes."""


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
    """The COCO files of a folder and of the folders in it, by name."""
    places = [folder, *(folder / name for name in children(folder)[0])]
    return [
        place / name
        for place in places
        for name in children(place)[1]
        if re.search(r"annotations.*\.json$|^instances.*\.json$", name.lower())
    ]


def coco(root: Path, files: list[Path]) -> Found:
    """Read COCO files, of which several need one split each in their names (or in those of their folders).

    Pictures lie beside the file, in images/, or in the folder that COCO calls after the file (train2017),
    there or in `root`. Category ids may have gaps; crowds (iscrowd) are left out and counted. Raises
    InputError.
    """
    splits = [_split_of(file, root) for file in files] if len(files) > 1 else [""]
    if len(files) > 1 and ("" in splits or len(set(splits)) < len(splits) or "train" not in splits):
        names = ", ".join(str(file.relative_to(root)) for file in files[:5])
        raise InputError(
            f"Received data={str(root)!r} with the annotations {names}; several need one split each in "
            "their names (train, val, test), train among them. Or give one .json file."
        )
    pictures, paths, problems = [], [], []
    categories: dict[int, str] | None = None
    for file, split in zip(files, splits, strict=True):
        found = _read_coco(file)
        if categories not in (None, found.categories):
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
        places = [file.parent, file.parent / "images", root / "images", root / called_alike]
        for picture in found.pictures:
            paths.append(_picture_file(picture.path, places, file))
            shown = printable(str(paths[-1].relative_to(root)))
            pictures.append(dataclasses.replace(picture, path=shown, split=split))
    return Found(pictures, [str(path) for path in paths], tuple(found.categories.values()), problems)


def _split_of(file: Path, root: Path) -> str:
    """The split that the name of a file says, or of its folder where the name says none."""
    names = [file.stem] + ([file.parent.name] if file.parent != root else [])
    for name in names:
        for word in re.split("[^a-z]+", name.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return ""


def _picture_file(name: str, places: list[Path], file: Path) -> Path:
    for place in places:
        path = Path(os.path.normpath(place / name))
        if not path.is_relative_to(os.path.normpath(place)):
            raise InputError(
                f"Received data={str(file)!r} with the picture {name!r}, which leaves its folder; put the "
                "annotations at the top of the pictures."
            )
        if os.path.isfile(path):
            return path
    looked = ", ".join(dict.fromkeys(str(place) for place in places))
    raise InputError(
        f"Received data={str(file)!r} with the picture {name!r}, which is not there; looked in {looked}."
    )


class _CocoFile(NamedTuple):
    categories: dict[int, str]
    pictures: list[Annotated]
    crowds: int


def _read_coco(file: Path) -> _CocoFile:
    where = f"Received data={str(file)!r}"
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}, which cannot be read as JSON ({reason}); save it anew.") from None
    names = ("images", "annotations", "categories")
    parts: list[Any] = [record.get(name) for name in names] if isinstance(record, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in parts):
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
        if entry.get("iscrowd"):
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
    split_of, problems = _voc_splits(root, set(stems)), []
    if split_of:
        left = len(stems) - len(split_of)
        stems = [stem for stem in stems if stem in split_of]
        if left:
            problems.append(
                ("ImageSets/Main", "missing", f"{left} annotated pictures are in no split and left out")
            )
    there = children(root / "JPEGImages")[1]
    by_stem = {Path(name).stem: name for name in reversed(there)}
    there = set(there)
    described, names, files = [], set(), []
    for stem in stems:
        file = root / "Annotations" / f"{stem}.xml"
        said, size, found = _read_voc(file)
        picture = by_stem.get(stem) or os.path.basename(said)
        if picture not in there:
            raise InputError(
                f"Received data={str(file)!r}, whose picture {said or stem!r} is not in JPEGImages; add it, "
                "or remove the annotation."
            )
        described.append((f"JPEGImages/{picture}", size, found))
        files.append(str(root / "JPEGImages" / picture))
        names |= {name for name, _ in found}
    classes = tuple(sorted(names))
    pictures = [
        Annotated(
            printable(path),
            split_of.get(stem, ""),
            *_arrays([box for _, box in found], [classes.index(name) for name, _ in found]),
            size,
        )
        for stem, (path, size, found) in zip(stems, described, strict=True)
    ]
    return Found(pictures, files, classes, problems)


def _voc_splits(root: Path, stems: set[str]) -> dict[str, str]:
    """Map stems to splits as ImageSets/Main has them; empty where it has none."""
    folder = root / "ImageSets" / "Main"
    names = [name for name in ("train", "val", "test") if os.path.isfile(folder / f"{name}.txt")]
    if "train" not in names and os.path.isfile(folder / "trainval.txt"):
        names = ["trainval"] + ["test"] * ("test" in names)
    found = {}
    for name in names:
        file = folder / f"{name}.txt"
        for line in file.read_text(encoding="utf-8", errors="backslashreplace").splitlines():
            stem = line.strip()
            if not stem:
                continue
            split = "train" if name == "trainval" else name
            if stem not in stems or found.setdefault(stem, split) != split:
                wrong = "no annotation" if stem not in stems else f"also in {found[stem]}"
                raise InputError(
                    f"Received data={str(file)!r} with {stem!r}, which is {wrong}; a line is the name of one "
                    "file of Annotations without .xml, in one split."
                )
    if found and "train" not in found.values():
        raise InputError(f"Received data={str(folder)!r} without pictures to train on; add a train.txt.")
    return found


def _read_voc(file: Path) -> tuple[str, tuple[int, int], list[tuple[str, tuple]]]:
    """Read one annotation: its filename, (width, height) or (0, 0), and (class, edges) of each object."""
    where = f"Received data={str(file)!r}"
    root = _parse(file)
    if root.tag != "annotation":
        raise InputError(f"{where}, whose outermost tag is <{root.tag[:50]}>; Pascal VOC has <annotation>.")
    size = _whole(root.findtext("size/width")), _whole(root.findtext("size/height"))
    objects = []
    for entry in root.findall("object"):
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where} with an object without a name; write its class in <name>.")
        x_min, y_min, x_max, y_max = _four(
            [entry.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")], where
        )
        # Corners lie in the box, so one pixel would be a box; but two equal corners are a slip of the hand.
        flat = x_max <= x_min or y_max <= y_min
        objects.append((name, (x_min, y_min) * 2 if flat else (x_min - 1, y_min - 1, x_max, y_max)))
    return (root.findtext("filename") or "").strip(), size if all(size) else (0, 0), objects


def _whole(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() and len(text) < 10 else 0


def _parse(file: Path) -> ElementTree.Element:
    """Parse XML of this file alone: a document type, where entities are declared, is refused."""
    where = f"Received data={str(file)!r}"

    def refuse(*_) -> None:
        raise InputError(f"{where} with a document type (<!DOCTYPE>), which is not read; remove it.")

    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        if os.path.getsize(file) > MAX_XML:
            raise InputError(f"{where}, which has more than {MAX_XML:,} bytes; an annotation is smaller.")
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (OSError, expat.ExpatError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}, which cannot be read as XML ({reason}); save it anew.") from None
