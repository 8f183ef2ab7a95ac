"""Each fault that is planted is named, and data without it raises no alarm."""

import numpy as np
import pandas as pd
import pytest

from runner.data.pairs import COLUMNS
from runner.pictures import checks


def manifest(labels, **columns) -> pd.DataFrame:
    """A training picture per label, 227 x 227 JPEG, unless columns say otherwise."""
    count = len(labels)
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(count)], "label": pd.Categorical(list(labels))})
    facts = dict(split="train", group="", width=227, height=227, format="JPEG", gray=False, turned=False)
    facts |= {"sha256": [f"{i:064}" for i in range(count)]}
    return table.assign(**facts | columns)


def pairs(*rows) -> pd.DataFrame:
    return pd.DataFrame([(*row, 12.0) for row in rows], columns=COLUMNS)


def kinds(rows) -> list[str]:
    assert all("\n" not in message for _, _, message in rows)
    return [kind for _, kind, _ in rows]


# ---------------------------------------------------------------- copies


def test_a_near_duplicate_in_two_splits_is_named_once_per_picture():
    table = manifest("aaab", split=["test", "train", "val", "train"])
    rows = checks.near_copies(table, pairs((0, 1, "mirrored"), (0, 2, "as it is"), (1, 3, "as it is")))
    assert kinds(rows) == ["near-duplicate", "label"]
    assert rows[0][0] == "0.jpg" and "test '0.jpg'" in rows[0][2] and "train '1.jpg'" in rows[0][2]
    assert "(mirrored)" in rows[0][2]
    assert "'3.jpg' is 'b'" in rows[1][2] and "is 'a'" in rows[1][2]
    assert checks.near_copies(manifest("aa"), pairs((0, 1, "as it is"))) == []
    assert checks.near_copies(manifest("ab", split="unused"), pairs((0, 1, "as it is"))) == []


def test_a_film_is_told_unless_it_has_groups():
    clusters = np.repeat([0, 1, 2, -1], [10, 10, 10, 70])
    row = checks.films(manifest("a" * 100), clusters)
    assert kinds(row) == ["near-duplicate"] and row[0][0] == ""
    assert "30 of 100 pictures" in row[0][2] and "group column" in row[0][2]
    assert checks.films(manifest("a" * 100, group="scene 1"), clusters) == []
    assert checks.films(manifest("a" * 100), np.repeat([0, 1, -1], [2, 2, 96])) == []
    assert checks.films(manifest("a" * 400), np.repeat([0, -1], [20, 380])) == []
    assert "30 in chains" in checks.films(manifest("a" * 400), np.repeat([0, -1], [30, 370]))[0][2]


# ---------------------------------------------------------------- give-aways


LABELS = np.repeat(["daisy", "rose", "tulip"], 60)


def test_a_class_of_its_own_size_is_found():
    side = np.where(LABELS == "rose", 128, 227)
    rows = checks.give_aways(manifest(LABELS, width=side, height=side))
    assert kinds(rows) == ["give-away"] * 2
    assert "60 of 60 pictures of 'rose', and no others, are 128 x 128 pixels" in rows[0][2]
    assert "size alone tell the class of 6" in rows[1][2]  # rose for sure, and one of two at random


def test_a_part_of_a_class_of_its_own_size_is_found():
    small = (LABELS == "rose") & (np.arange(len(LABELS)) % 5 > 0)
    side = np.where(small, 128, 227)
    side[0] = 128
    rows = checks.give_aways(manifest(LABELS, width=side, height=side))
    assert "48 of 60 pictures of 'rose', and 1 others, are 128 x 128 pixels" in rows[0][2]


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"format": np.where(LABELS == "tulip", "PNG", "JPEG")}, "'tulip', and no others, are PNG files"),
        ({"gray": LABELS == "daisy"}, "'daisy', and no others, are gray"),
    ],
)
def test_a_class_of_its_own_kind_of_file_is_found(columns, words):
    assert any(words in message for _, _, message in checks.give_aways(manifest(LABELS, **columns)))


def test_upright_pictures_of_one_class_are_found_in_any_size():
    random = np.random.default_rng(0)
    long, short = random.integers(400, 600, len(LABELS)), random.integers(200, 399, len(LABELS))
    upright = LABELS == "tulip"
    width, height = np.where(upright, short, long), np.where(upright, long, short)
    rows = checks.give_aways(manifest(LABELS, width=width, height=height))
    assert "60 of 60 pictures of 'tulip', and no others, are higher than wide" in rows[0][2]


def test_a_size_that_one_class_alone_lacks_is_measured():
    """No size belongs to one class, and yet the two together say much."""
    labels = np.repeat(["daisy", "rose"], 100)
    side = np.where((labels == "daisy") & (np.arange(200) % 2 == 0) | (np.arange(200) % 8 == 1), 128, 227)
    rows = checks.give_aways(manifest(labels, width=side, height=side))
    assert kinds(rows) == ["give-away"] and "always answering the largest class: 50 %" in rows[0][2]


@pytest.mark.parametrize("seed", range(5))
def test_sizes_at_random_raise_no_alarm(seed):
    random = np.random.default_rng(seed)
    labels = random.choice(list("abcdef"), 300)
    width, height = random.choice([128, 227, 500], 300), random.choice([128, 227, 333], 300)
    columns = dict(width=width, height=height, gray=random.random(300) < 0.1)
    columns |= dict(format=random.choice(["JPEG", "PNG"], 300))
    assert checks.give_aways(manifest(labels, **columns)) == []
    assert checks.give_aways(manifest(["a"] * 3 + ["b"] * 4, width=[1, 1, 1, 2, 2, 2, 2])) == []


def test_test_pictures_are_not_looked_at():
    side = np.where(LABELS == "rose", 128, 227)
    split = np.where(LABELS == "rose", "test", "train")
    assert checks.give_aways(manifest(LABELS, width=side, height=side, split=split)) == []


# ---------------------------------------------------------------- orientation


def test_a_few_pictures_across_are_named():
    width, height, turned = np.full(100, 640), np.full(100, 480), np.zeros(100, bool)
    width[[3, 50, 70]], height[[3, 50, 70]], turned[70] = 480, 640, True  # EXIF turned the last one
    rows = checks.orientations(manifest("a" * 100, width=width, height=height, turned=turned))
    assert [path for path, _, _ in rows] == ["3.jpg", "50.jpg"] and "480 x 640" in rows[0][2]
    width[:20], height[:20] = 480, 640  # so many are no accident
    assert checks.orientations(manifest("a" * 100, width=width, height=height)) == []
    assert checks.orientations(manifest("a" * 100)) == []
    assert checks.orientations(manifest("a" * 9, width=range(1, 10), height=range(9, 0, -1))) == []
