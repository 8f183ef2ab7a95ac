"""datasets/scenes: the same bytes everywhere, boxes and masks that agree, objects that stay to be seen."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

FOLDER = Path(__file__).resolve().parent.parent / "datasets" / "scenes"


@pytest.fixture(scope="module")
def module():
    """The builder's module, by path, as somebody would import it who has no `datasets` on the path."""
    spec = importlib.util.spec_from_file_location(
        "_test_scenes", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    sys.modules["_test_scenes"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["_test_scenes"])
    with tfds.core.registered.skip_registration():
        return importlib.import_module("_test_scenes.scenes_dataset_builder")


@pytest.fixture(scope="module")
def drawing(module):
    return module.drawing


@pytest.fixture(scope="module")
def scenes(drawing):
    return [drawing.scene("train", number) for number in range(60)]


def test_the_first_pictures_are_the_same_on_every_machine(scenes):
    everything = b"".join(part.tobytes() for scene in scenes[:20] for part in scene)
    expected = "7b0378c3dcda8660202f9b6a629634ebcf10f073baa5c620a9d1577240d32970"
    assert hashlib.sha256(everything).hexdigest() == expected


def test_no_two_pictures_are_alike(drawing, scenes):
    others = [drawing.scene(split, number) for split in ("validation", "test") for number in range(20)]
    assert len({scene.image.tobytes() for scene in scenes + others}) == len(scenes) + 40


def test_boxes_and_masks_agree(drawing, scenes):
    for scene in scenes:
        assert 1 <= len(scene.labels) == len(scene.boxes) <= drawing.MOST
        assert set(scene.mask[scene.mask > 0] - 1) == set(scene.labels)
        in_a_box = np.zeros(scene.mask.shape, bool)
        for label, (x_min, y_min, x_max, y_max) in zip(scene.labels, scene.boxes, strict=True):
            assert 0 <= x_min < x_max <= drawing.SIZE and 0 <= y_min < y_max <= drawing.SIZE
            part = scene.mask[y_min:y_max, x_min:x_max] == label + 1
            # What is to be seen of the object reaches all four sides of its box.
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            in_a_box[y_min:y_max, x_min:x_max] = True
        assert not scene.mask[~in_a_box].any()


def test_every_object_stays_to_be_seen(drawing, scenes):
    smallest = (2 * drawing.RADII[0]) ** 2 // 10  # of the thinnest shape, 60 percent left, and stretched
    for scene in scenes:
        for label in set(scene.labels):
            seen, drawn = (scene.mask == label + 1).sum(), (scene.labels == label).sum()
            assert seen >= drawn * smallest


def test_the_number_and_the_kind_of_objects_vary(drawing, scenes):
    counts = np.bincount([len(scene.labels) for scene in scenes], minlength=drawing.MOST + 1)
    assert (counts[1:] >= 3).all()  # 10 expected
    kinds = np.bincount(np.concatenate([scene.labels for scene in scenes]))
    assert len(kinds) == len(drawing.SHAPES) and kinds.min() >= 20  # 35 expected


def test_shapes_have_the_areas_that_geometry_gives_them(drawing):
    radius = 256
    u, v = np.meshgrid(np.arange(-300, 301), np.arange(-300, 301))
    pentagram = 5 * np.sin(np.pi / 5) * np.cos(np.radians(72)) / np.cos(np.radians(36))
    expected = {
        "disc": np.pi,
        "ring": np.pi * (1 - (9 / 16) ** 2),
        "square": (2 * 45 / 64) ** 2,
        "triangle": 3 * np.sqrt(3) / 4,
        "cross": 4 * (15 / 16) * (5 / 8) - (5 / 8) ** 2,
        "star": pentagram,
    }
    for shape in drawing.SHAPES:
        area = drawing.within(shape, u, v, radius).sum() / radius**2
        assert area == pytest.approx(expected[shape], rel=0.02), shape


def test_an_object_is_brighter_or_darker_than_what_it_covers(drawing):
    for seed in range(20):
        random = np.random.RandomState(seed)
        before = drawing._photo(random)
        after = before.copy()
        covered = drawing.cover("square", random)
        solid = 2 * covered >= drawing.FINE**2
        drawing._paint(after, covered, solid, random)
        inside = covered == drawing.FINE**2
        gap = drawing.photos.luminance(after)[inside].mean() - drawing.photos.luminance(before)[inside].mean()
        assert abs(gap) >= drawing.LEAST_GAP - 8  # the edge and what is clipped count a little
        np.testing.assert_array_equal(after[covered == 0], before[covered == 0])


def test_the_builder_gives_what_was_drawn(module, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(module.drawing, "SPLITS", {"train": 20, "validation": 2, "test": 2})
    builder = module.Builder(data_dir=tmp_path)
    builder.download_and_prepare()
    drawn = {scene.image.tobytes(): scene for scene in scenes[:20]}
    examples = list(tfds.as_numpy(builder.as_dataset(split="train")))
    assert {example["image"].tobytes() for example in examples} == set(drawn)
    for example in examples:
        scene = drawn[example["image"].tobytes()]
        np.testing.assert_array_equal(example["segmentation_mask"][..., 0], scene.mask)
        np.testing.assert_array_equal(example["objects"]["label"], scene.labels)
        boxes = example["objects"]["bbox"][:, [1, 0, 3, 2]] * module.drawing.SIZE
        np.testing.assert_allclose(boxes, scene.boxes, atol=1e-4)
    assert builder.info.features["objects"]["label"].names == list(module.drawing.SHAPES)
