"""Boxes of COCO, Pascal VOC and TFDS: to the pixel where they belong, and one line for what is wrong."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from runner.errors import InputError
from runner.pictures import boxes, coco_voc, images
from runner.pictures.batches import batches as batches_of
from runner.pictures.load import load


@pytest.fixture(autouse=True)
def fresh_keras():
    """There is no Keras here to make fresh."""


def picture(path, width=40, height=30, rectangles=((10, 5, 22, 17),)):
    """Black, with white rectangles (edges)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for x_min, y_min, x_max, y_max in rectangles:
        pixels[y_min:y_max, x_min:x_max] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def voc_object(name, *corners):
    tags = "".join(
        f"<{tag}>{value}</{tag}>"
        # A test gives too few of them.
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
    )
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox></object>"


def voc(root, stem, *objects, width=40, height=30, split="train", image=True):
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    text = f"<annotation><filename>{stem}.png</filename>{size}{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{stem}.xml").write_text(text)
    if split:
        with open(root / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
            file.write(f"{stem}\n")
    if image:
        picture(root / "JPEGImages" / f"{stem}.png")


def coco(path, annotated=None, names=("a.png",), categories=((3, "cat"), (90, "dog")), **changes):
    record = {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)],
        "annotations": annotated
        if annotated is not None
        else [{"image_id": 0, "category_id": 90, "bbox": [10, 5, 12, 12]}],
        "categories": [{"id": number, "name": name} for number, name in categories],
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def of(source, row=0, width=40, height=30, image_size=40, resize="stretch"):
    target = source.target(row, width, height, image_size, resize)
    there = target.arrays["classes"] >= 0
    names = [source.classes[number] for number in target.arrays["classes"][there]]
    return list(zip(names, target.arrays["boxes"][there].tolist(), strict=True)), [
        message for _, message in target.problems
    ]


# ---------------------------------------------------------------- Pascal VOC


def test_voc_corners_are_pixels_within_the_box(tmp_path):
    voc(tmp_path, "1", voc_object("cat", 11, 6, 22, 17), voc_object("dog", 1, 1, 40, 30))
    voc(tmp_path, "2", voc_object("dog", 1, 1, 2, 2), split="val")
    voc(tmp_path, "3", split="test")
    voc(tmp_path, "4", voc_object("dog", 1, 1, 2, 2), split="")
    source = boxes.find(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.examples["split"].tolist() == ["train", "val", "test"]
    assert source.examples["path"].tolist() == [f"JPEGImages/{stem}.png" for stem in "123"]
    assert [message for *_, message in source.problems] == [
        "1 annotated pictures are in no split and left out"
    ]
    assert of(source, height=30, image_size=40)[0] == [
        ("cat", [10, pytest.approx(5 * 4 / 3), 22, pytest.approx(17 * 4 / 3)]),
        ("dog", [0, 0, 40, 40]),
    ]
    target = source.target(2, 40, 30, 40, "pad")
    assert target.arrays["boxes"].shape == (2, 4) and (target.arrays["boxes"] == -1).all()
    assert target.amounts.tolist() == [0, 0]


def test_boxes_without_area_outside_and_beyond_the_border_are_told(tmp_path):
    voc(
        tmp_path,
        "1",
        voc_object("flat", 5, 5, 5, 9),
        voc_object("inside out", 20, 5, 10, 9),
        voc_object("outside", 50, 1, 60, 9),
        voc_object("beyond", 31, 21, 60, 50),
        voc_object("thin", 3, 3, 4, 20),
    )
    found, problems = of(boxes.find(tmp_path), image_size=16, resize="stretch")
    assert found == [("beyond", [12, pytest.approx(20 * 16 / 30), 16, 16])]
    assert problems == [
        "2 boxes without area left out",
        "1 box outside the picture left out",
        "1 box cut at the border of the picture",
        "1 box narrower than a pixel at image_size=16 left out",
    ]


def test_what_a_crop_hides_is_told(tmp_path):
    objects = voc_object("left", 1, 1, 5, 30), voc_object("middle", 11, 6, 22, 17)
    voc(tmp_path, "1", *objects)
    source = boxes.find(tmp_path)
    found, problems = of(source, image_size=30, resize="crop")  # columns 5 to 35
    assert found == [("middle", [5, 5, 17, 17])] and "resize='pad' keeps everything" in problems[0]
    found, problems = of(source, image_size=40, resize="pad")  # five rows above and below
    assert found == [("left", [0, 5, 5, 35]), ("middle", [10, 10, 22, 22])] and problems == []


def test_a_picture_of_another_size_is_left_out_by_name(tmp_path):
    voc(tmp_path, "1", voc_object("cat", 1, 1, 2, 2), width=80)
    with pytest.raises(images.Unreadable, match="40 x 30 pixels, but its annotation says 80 x 30"):
        of(boxes.find(tmp_path))


@pytest.mark.parametrize(
    "text, message",
    [
        ("<annotation><object>", "cannot be read as XML"),
        ("", "cannot be read as XML"),
        ("<html></html>", "outermost tag is <html>"),
        ("<annotation><object></object></annotation>", "an object without a name"),
        (f"<annotation>{voc_object('cat', 1, 'x', 3, 4)}</annotation>", "a box is four finite numbers"),
        (f"<annotation>{voc_object('cat', 1, 'nan', 3, 4)}</annotation>", "a box is four finite numbers"),
        (f"<annotation>{voc_object('cat', 1, 2, 3)}</annotation>", "a box is four finite numbers"),
        ("<annotation></annotation>", "without a single box"),
    ],
)
def test_damaged_voc_files_are_one_line(tmp_path, text, message):
    voc(tmp_path, "1")
    (tmp_path / "Annotations" / "1.xml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        boxes.find(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(tmp_path, encoding):
    voc(tmp_path, "1")
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    secret = tmp_path / "secret"
    secret.write_text("cat")
    for declared in (f'<!ENTITY a0 "ha">{laughs}', f'<!ENTITY a9 SYSTEM "file://{secret}">'):
        text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [{declared}]>'
        text += "<annotation><object><name>&a9;</name></object></annotation>"
        (tmp_path / "Annotations" / "1.xml").write_bytes(text.encode(encoding))
        with pytest.raises(InputError, match="document type"):
            boxes.find(tmp_path)


def test_voc_pictures_and_splits_that_do_not_fit_are_named(tmp_path):
    voc(tmp_path, "1", voc_object("cat", 1, 1, 9, 9))
    voc(tmp_path, "2", voc_object("cat", 1, 1, 9, 9), image=False)
    with pytest.raises(InputError, match="2.png' is not in JPEGImages"):
        boxes.find(tmp_path)
    picture(tmp_path / "JPEGImages" / "2.jpeg")  # another ending than the annotation has
    assert boxes.find(tmp_path).examples["path"].tolist() == ["JPEGImages/1.png", "JPEGImages/2.jpeg"]
    (tmp_path / "ImageSets/Main/val.txt").write_text("2\n")
    with pytest.raises(InputError, match="'2', which is also in train"):
        boxes.find(tmp_path)
    (tmp_path / "ImageSets/Main/val.txt").write_text("3\n")
    with pytest.raises(InputError, match="'3', which is no annotation"):
        boxes.find(tmp_path)
    with pytest.raises(InputError, match="Did you mean"):
        boxes.find(tmp_path.parent)


# ---------------------------------------------------------------- COCO


def test_coco_ids_may_have_gaps_and_crowds_are_counted(tmp_path):
    annotated = [
        {"image_id": 0, "category_id": 90, "bbox": [10, 5, 12.5, 12]},
        {"image_id": 0, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 0},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
    ]
    categories = ((90, "dog"), (3, "cat"), (7, "unicorn"))
    coco(tmp_path / "labels.json", annotated, ("a.png", "sub/b.png"), categories)
    picture(tmp_path / "a.png")
    picture(tmp_path / "images" / "sub" / "b.png")
    source = boxes.find(tmp_path / "labels.json")
    assert source.classes == ("cat", "dog") and set(source.examples["split"]) == {""}
    assert source.examples["path"].tolist() == ["a.png", "images/sub/b.png"]
    assert [message for *_, message in source.problems] == [
        "1 crowds (iscrowd) left out, which are no single objects",
        "classes without a box are left out: unicorn",
    ]
    found, _ = of(source, image_size=80, resize="pad")
    assert found == [("dog", [20, 20, 45, 44]), ("cat", [0, 10, 8, 18])]


@pytest.mark.parametrize("layout", ["official", "split folders"])
def test_coco_files_called_after_a_split_give_the_splits(tmp_path, layout):
    for split, word in (("train", "train"), ("val", "valid"), ("test", "test")):
        if layout == "official":
            coco(tmp_path / "annotations" / f"instances_{split}2017.json")
            picture(tmp_path / f"{split}2017" / "a.png")
        else:
            coco(tmp_path / word / "_annotations.coco.json")
            picture(tmp_path / word / "a.png")
    source = boxes.find(tmp_path)
    assert sorted(source.examples["split"]) == ["test", "train", "val"] and source.classes == ("dog",)
    for split, path in zip(source.examples["split"], source.examples["path"], strict=True):
        assert split[:2] in path and (tmp_path / path).is_file()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": None}, "no COCO file of boxes"),
        ({"annotations": [{"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "image_id 5"),
        ({"annotations": [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "category_id 1"),
        ({"annotations": [{"image_id": 0, "category_id": 3}]}, "'bbox' is missing"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 1]}]}, "four finite numbers"),
        ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 1e999, 1]}]}, "four finite"),
        ({"images": [{"id": 0, "file_name": "../a.png"}]}, "leaves its folder"),
        ({"images": [{"id": 0, "file_name": "b.png"}]}, "'b.png', which is not there"),
        ({"images": [{"id": 0, "file_name": "a.png"}] * 2}, "the id 0 is that of two"),
        ({"annotations": []}, "without a single box"),
    ],
)
def test_damaged_coco_files_are_one_line(tmp_path, changes, message):
    coco(tmp_path / "annotations.json", **changes)
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=message) as caught:
        boxes.find(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_json_and_no_place_is_told(tmp_path):
    for text in ("{", "[" * 100_000, "1", b"\xff\xfe\x00"):
        (tmp_path / "annotations.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError, match="cannot be read as JSON|no COCO file"):
            boxes.find(tmp_path)
    for place in (tmp_path / "nowhere", tmp_path / "photo.png", ""):
        with pytest.raises(InputError, match="give a COCO file"):
            boxes.find(place)
    coco(tmp_path / "annotations_1.json")
    with pytest.raises(InputError, match="several need one split each"):
        boxes.find(tmp_path)


# ---------------------------------------------------------------- TFDS


def test_objects_of_tfds(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr("runner.data.source.ROOT", tmp_path)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "prepared"))
    folder = tmp_path / "datasets" / "squares"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "squares_dataset_builder.py").write_text(
        "import numpy as np\n"
        "import tensorflow_datasets as tfds\n"
        "class Builder(tfds.core.GeneratorBasedBuilder):\n"
        "    VERSION = tfds.core.Version('1.0.0')\n"
        "    def _info(self):\n"
        "        objects = tfds.features.Sequence({'bbox': tfds.features.BBoxFeature(),\n"
        "            'label': tfds.features.ClassLabel(names=['x', 'y'])})\n"
        "        image = tfds.features.Image(shape=(20, 40, 3))\n"
        "        return self.dataset_info_from_configs(\n"
        "            features=tfds.features.FeaturesDict({'image': image, 'objects': objects}))\n"
        "    def _split_generators(self, dl_manager):\n"
        "        return {split: self._generate_examples() for split in ('train', 'test')}\n"
        "    def _generate_examples(self):\n"
        "        box = tfds.features.BBox(ymin=.1, xmin=.25, ymax=.6, xmax=.5)\n"
        "        image = np.full((20, 40, 3), 9, np.uint8)\n"
        "        yield 0, {'image': image, 'objects': [{'bbox': box, 'label': 1}]}\n"
        "        yield 1, {'image': image, 'objects': []}\n"
    )
    source = boxes.find("squares")
    assert source.examples["split"].tolist() == ["train", "train", "test", "test"]
    assert source.classes == ("y",)  # nothing is an x
    every = [of(source, row, 40, 20, 40, "pad")[0] for row in range(4)]
    expected = [("y", pytest.approx([10, 12, 20, 22], abs=1e-4))]
    assert sorted(map(len, every)) == [0, 0, 1, 1] and all(one == expected for one in every if one)
    sizes = [Image.open(io.BytesIO(file)).size for file in source.read()]
    assert sizes == [(40, 20)] * 4
    with pytest.raises(InputError, match="objects with bbox and label"):
        boxes.find("tfds:mnist")


# ---------------------------------------------------------------- to a pixel


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("strength", ["none", "strong"])
def test_boxes_stay_on_their_objects_to_a_pixel(tmp_path, resize, strength):
    """White rectangles fill their boxes: wherever a view is white is where its box is."""
    random = np.random.RandomState(0)
    for number in range(24):
        x, y = random.randint(45, 70), random.randint(25, 40)
        corner = x + random.randint(20, 40), y + random.randint(20, 40)
        split = ("train", "val", "test")[max(0, number - 21)]
        voc(
            tmp_path,
            f"{number:02}",
            voc_object("box", x + 1, y + 1, *corner),
            width=150,
            height=100,
            split=split,
            image=False,
        )
        picture(tmp_path / "JPEGImages" / f"{number:02}.png", 150, 100, [(x, y, *corner)])
    examples = load(boxes.find(tmp_path), 120, resize=resize)
    batches = batches_of(
        examples,
        "train",
        8,
        seed=1,
        strength=strength,
        flip=True,
        fill=0,
        target=lambda one: one,
    )
    checked = 0
    for batch in batches.named().as_numpy_iterator():
        for image, (box,), (number,) in zip(batch["input"], batch["boxes"], batch["classes"], strict=True):
            # Of a turned rectangle that the border cuts, less is left than its hull says (warp.py).
            if number < 0 or box.min() <= 0 or box.max() >= 120:
                continue
            gray = image.mean(axis=2)
            rows, columns = np.nonzero(gray > 0.3 * gray.max() + 0.7 * gray.min())  # tips of corners too
            hull = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(box - hull).max() <= 1
            checked += 1
    assert checked >= 12


def test_an_annotation_larger_than_any_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_voc, "MAX_XML", 20)
    voc(tmp_path, "1", voc_object("cat", 1, 1, 9, 9))
    with pytest.raises(InputError, match="more than 20 bytes"):
        boxes.find(tmp_path)
