"""Pictures with boxes or masks instead of one label: through loading, batches and the report."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from runner.data.examples import summary
from runner.data.source import Source, Target
from runner.errors import InputError
from runner.pictures import images, square
from runner.pictures.batches import batches as batches_of
from runner.pictures.load import load
from runner.report import page
from runner.report.section import Section

CLASSES = ("ground", "thing", "rarity")


@pytest.fixture
def found(tmp_path):
    """30 noisy pictures of 24 x 16 with a mask: one column in three is "thing", one pixel of six "rarity"."""
    random = np.random.default_rng(0)
    files, masks = [], []
    for number in range(30):
        mask = np.zeros((16, 24), np.uint8)
        mask[:, 8 : 16 - number % 3] = 1
        if number % 6 == 0:
            mask[7, 20] = 2
        picture = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        picture[0, 0] = number
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
        files.append(str(tmp_path / f"{number:02}.png"))
        masks.append(mask)

    def target(row, width, height, image_size, resize):
        if row == 29:
            raise images.Unreadable("its mask is missing")
        mask = square.resize_mask(masks[row], image_size, resize, 255)
        odd = (("mask", "a remark"),) if row == 3 else ()
        return Target({"mask": mask}, np.bincount(masks[row].ravel(), minlength=3), odd)

    names = [f"{number:02}.png" for number in range(30)]
    examples = pd.DataFrame({"path": names, "label": "", "split": "", "group": ""})
    return Source(examples, CLASSES, lambda: iter(files), target=target)


@pytest.mark.parametrize("memory_budget", [2**30, 0])
def test_masks_go_with_their_pictures(found, memory_budget):
    loaded = load(found, 16, resize="stretch", memory_budget=memory_budget)
    assert loaded.train.element_spec["mask"] == tf.TensorSpec((16, 16), tf.uint8)
    assert set(loaded.train.element_spec) == {"id", "input", "mask"}
    seen = set()
    for split in (loaded.train, loaded.val, loaded.test.open(None, "to compare")):
        for element in split.as_numpy_iterator():
            row = int(element["id"])
            seen.add(row)
            with Image.open(found_file(found, row)) as picture:
                np.testing.assert_array_equal(element["input"], square.resize(picture, 16, "stretch"))
            np.testing.assert_array_equal(
                element["mask"], found.target(row, 24, 16, 16, "stretch").arrays["mask"]
            )
    assert seen == set(range(29))
    skipped = loaded.problems[loaded.problems["kind"] == "unreadable"]
    assert skipped["path"].tolist() == ["29.png"] and skipped["message"].tolist() == ["its mask is missing"]
    assert ("03.png", "mask", "a remark") in loaded.problems.itertuples(index=False, name=None)
    # Five pictures have the rarest class: each split gets some of them.
    counts = summary(loaded)
    assert counts.loc["rarity", ["train", "val", "test"]].tolist() == [3, 1, 1]
    assert counts.loc["thing"].sum() == 29


def found_file(found, row):
    return list(found.read())[row]


def test_fewer_training_pictures_are_nested(found):
    splits = [load(found, 16, train_examples=number).manifest["split"] for number in (4, 8)]
    few = [set(np.flatnonzero(split == "train")) for split in splits]
    assert len(few[0]) == 4 and len(few[1]) == 8 and few[0] < few[1]
    for options, part in (
        ({"train_examples": 99}, "allowed: 1 to"),
        ({"labels_per_class": 2}, "give train_examples instead"),
    ):
        with pytest.raises(InputError, match=part):
            load(found, 16, **options)


def test_a_class_that_a_split_lacks_is_named(found):
    def target(*arguments):
        one = found.target(*arguments)
        return one._replace(amounts=np.append(one.amounts, 0))

    more = dataclasses.replace(found, classes=(*CLASSES, "ghost"), target=target)
    problems = load(more, 16).problems
    messages = problems["message"][problems["kind"] == "missing"].tolist()
    assert len(messages) == 3
    assert messages[0].startswith("class 'ghost' is in no train picture, so that nothing learns it")


def test_batches_make_their_labels_after_the_augmentation(found):
    loaded = load(found, 16)

    def target(batch):
        weight = tf.cast(batch["mask"] != 255, tf.float32)
        return {"id": batch["id"], "input": batch["input"], "label": batch["mask"], "weight": weight}

    options = dict(shuffle=True, strength="strong", fill=127, target=target)
    made = batches_of(loaded, "train", 4, **options)
    batches = list(made.epoch())
    seen, outside = 0, 0
    for pictures, masks, weights in batches:
        seen += len(pictures)
        beyond = masks.numpy() == 255
        outside += beyond.sum()
        assert (pictures.numpy()[beyond] == 127).all()
        np.testing.assert_array_equal(weights, ~beyond)
    assert seen == int(loaded.train.cardinality()) and outside > 0
    for (pictures, masks, _), batch in zip(batches[2:], made.after(2), strict=False):
        np.testing.assert_array_equal(pictures, batch["input"])
        np.testing.assert_array_equal(masks, batch["label"])


@pytest.mark.parametrize("resize", square.RESIZES)
@pytest.mark.parametrize("shape", [(60, 31), (31, 60), (40, 40), (7, 50)])
def test_boxes_and_masks_move_as_the_picture_does(resize, shape):
    """A white rectangle: its edges in the resized picture lie where box_matrix says, and so does its mask."""
    height, width = shape
    box = np.array([width * 0.25, height * 0.25, width * 0.75, height * 0.75]).round().astype(int)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[box[1] : box[3], box[0] : box[2]] = 255
    size = 240  # larger: edges of one source pixel are several wide
    resized = square.resize(Image.fromarray(picture), size, resize)[..., 0] >= 128
    mask = square.resize_mask(picture[..., 0] // 255, size, resize, 9)
    scale_x, scale_y, shift_x, shift_y = square.matrix(width, height, size, resize)
    for drawn in (resized, mask == 1):
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        expected = box * [scale_x, scale_y, scale_x, scale_y] + [shift_x, shift_y, shift_x, shift_y]
        np.testing.assert_allclose(found, expected.clip(0, size), atol=1)
    assert (mask == 9).any() == (resize == "pad" and height != width)


def test_a_section_of_the_page_shows_tables_and_pictures(found, tmp_path):
    loaded = load(found, 16)
    table = pd.DataFrame({"class": ["thing <b>"], "average_precision": [0.12345], "boxes": [7]})
    comparison = pd.DataFrame(
        {
            "method": ["scratch", "staged"],
            "test_miou": [0.4, 0.6],
            "val_miou": [0.5, 0.7],
            "low": 0.3,
            "high": 0.65,
        }
    )
    sheet = np.zeros((8, 8, 3), np.uint8)
    text = page.write(
        tmp_path / "report.html",
        title="Masks",
        question="Does it work?",
        data=loaded,
        pictures={},
        comparison=comparison,
        metrics={"miou": 0.6, "miou_interval": [0.55, 0.65], "examples": 7},
        score=("miou", "mean IoU"),
        sections=[Section("Worst pictures", "Said.", [("By class", table)], [("A sheet", sheet)])],
    ).read_text()
    for part in (
        "mean IoU on 7 test pictures",
        "Test mean IoU",
        "Validation mean IoU",
        'href="#worst-pictures"',
        "thing &lt;b&gt;",
        "average precision",
        "0.123",
        ">7<",
        "A sheet",
        "20.0 points",
    ):
        assert part in text, part
    for part in ("classified right", "two labels", "give the class away"):
        assert part not in text, part
