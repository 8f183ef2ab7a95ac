"""datasets/: the same bytes everywhere, each digit once, readable strokes, held-out fonts, loading."""

import hashlib
import importlib
import importlib.util
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

DATASETS = Path(__file__).resolve().parent.parent / "datasets"


def load(folder: Path, package: str):
    """Import a dataset's package by path, as somebody would who has no `datasets` on the import path."""
    spec = importlib.util.spec_from_file_location(
        package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[package] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])
    with tfds.core.registered.skip_registration():
        return importlib.import_module(f"{package}.{folder.name}_dataset_builder")


@pytest.fixture(scope="module")
def digits_builder():
    return load(DATASETS / "digits_in_photos", "_test_digits")


@pytest.fixture(scope="module")
def photos(digits_builder):
    return digits_builder.photos


def join(photos, chunks):
    return photos.Pictures(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


@pytest.fixture(scope="module")
def digits(photos):
    return {split: join(photos, photos.digits(split)) for split in photos.DIGIT_SPLITS}


@pytest.fixture(scope="module")
def letters(photos):
    return {split: join(photos, photos.letters(split, 1000)) for split in photos.LETTER_SPLITS}


def sha256(images):
    return hashlib.sha256(images.tobytes()).hexdigest()


def test_the_first_hundred_pictures_are_the_same_on_every_machine(digits, letters):
    assert (
        sha256(digits["train"].images[:100])
        == "ba45ec3c172ce80d9792ce50c3a705dd7ae6a9f84efdd635923cc43d09e08dd1"
    )
    assert (
        sha256(letters["train"].images[:100])
        == "f6ac2c32217bfcc332de58756b35465a5df5e3febf92a53622c96a1f883882a6"
    )


def test_every_digit_is_used_exactly_once(digits):
    from sklearn.datasets import load_digits

    rows = np.concatenate([split.sources for split in digits.values()])
    assert sorted(rows) == list(range(1797))
    for split in digits.values():
        np.testing.assert_array_equal(split.labels, load_digits().target[split.sources])


def test_digit_splits_have_their_sizes_and_each_class_in_proportion(photos, digits):
    counts = {split: np.bincount(pictures.labels, minlength=10) for split, pictures in digits.items()}
    assert {split: count.sum() for split, count in counts.items()} == {
        "train": 800,
        "validation": 200,
        "test": 797,
    }
    whole = sum(counts.values())
    for split, count in counts.items():
        assert np.abs(count - whole * photos.DIGIT_SPLITS[split] / 1797).max() <= 2


@pytest.mark.parametrize("name", ["digits", "letters"])
def test_the_stroke_differs_in_luminance_from_every_pixel_beneath_it(photos, name, request):
    for pictures in request.getfixturevalue(name).values():
        solid = pictures.masks == 255
        assert solid.reshape(len(solid), -1).sum(axis=1).min() >= 4  # no stroke is lost to blur
        gap = np.abs(photos.luminance(pictures.images) - photos.luminance(pictures.photos))
        assert gap[solid].min() >= photos.LEAST_LOCAL_GAP - 2  # rounding of the luminance
        mean = photos.luminance(pictures.photos).mean(axis=(1, 2))
        stroke = np.where(solid, photos.luminance(pictures.images), 0).sum(axis=(1, 2)) / solid.sum(
            axis=(1, 2)
        )
        assert (
            np.abs(stroke - mean).min() >= photos.LEAST_GAP - 10
        )  # clipping may move the mean of the photo a little


def test_where_the_mask_is_empty_the_photo_shows(digits):
    pictures = digits["validation"]
    empty = pictures.masks == 0
    assert 0.3 < empty.mean() < 0.95
    np.testing.assert_array_equal(pictures.images[empty], pictures.photos[empty])


def test_unseen_fonts_are_half_of_test_and_nowhere_else(photos, letters):
    assert not set(photos.SEEN_FONTS) & set(photos.UNSEEN_FONTS)
    assert set(letters["train"].sources) == set(letters["validation"].sources) == set(photos.SEEN_FONTS)
    unseen = np.isin(letters["test"].sources, photos.UNSEEN_FONTS)
    assert unseen.mean() == 0.5
    assert set(letters["test"].sources[unseen]) == set(photos.UNSEEN_FONTS)


def test_letters_merge_the_cases_that_look_alike_as_emnist_does(photos):
    _, letter_of, font_of = photos.distance_fields()
    drawn = np.bincount(letter_of[font_of == 0], minlength=37)
    merged = {letter for letter, count in zip(photos.LETTERS, drawn, strict=True) if count == 2}
    assert len(photos.LETTERS) == 37 and drawn.sum() == 52
    assert merged == set("CIJKLMOPSUVWXYZ")


def test_letter_classes_are_balanced_and_a_larger_count_only_appends(photos, letters):
    assert np.bincount(letters["train"].labels, minlength=37).min() >= 10  # 27 expected
    fewer = join(photos, photos.letters("train", 300))
    assert len(fewer.images) == 300
    np.testing.assert_array_equal(fewer.images, letters["train"].images[:300])
    np.testing.assert_array_equal(fewer.sources, letters["train"].sources[:300])


def test_no_two_pictures_are_alike(digits, letters):
    for splits in (digits, letters):
        hashes = [sha256(image) for pictures in splits.values() for image in pictures.images]
        assert len(set(hashes)) == len(hashes)


def test_outlines_fill_by_the_winding_rule(photos):
    square = np.array([[0, 0], [0, 8], [8, 8], [8, 0]])
    hole = np.array([[2, 2], [6, 2], [6, 6], [2, 6]])
    filled = photos.fill([square, hole], size=16, longer=8)
    expected = np.zeros((16, 16), bool)
    expected[4:12, 4:12] = True
    expected[6:10, 6:10] = False
    np.testing.assert_array_equal(filled, expected)


def test_scaling_weights_reproduce_a_constant(photos):
    for blur in (0, 7, 16):
        for offset in range(0, 256, 15):
            distances = np.abs(np.arange(-3, 4) * 256 - offset)
            total = photos.cubic_weights()[blur, np.minimum(distances, 512)].sum()
            assert abs(total - 4096) <= 4


def test_builder_loads_by_path_from_a_copy_beside_a_foreign_package_called_datasets(
    tmp_path, monkeypatch, digits
):
    shutil.copy(DATASETS / "photos.py", tmp_path)
    shutil.copytree(DATASETS / "digits_in_photos", tmp_path / "digits_in_photos")
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    monkeypatch.chdir(tmp_path)
    module = load(tmp_path / "digits_in_photos", "_test_digits_copy")
    builder = module.Builder(data_dir=tmp_path / "data")
    assert builder.name == "digits_in_photos"
    assert Path(module.photos.__file__) == tmp_path / "photos.py"
    assert "scikit-learn" in builder.info.description and "alpaydin" in builder.info.citation

    builder.download_and_prepare()
    for split, pictures in digits.items():
        read = list(tfds.as_numpy(builder.as_dataset(split=split)))
        assert len(read) == len(pictures.images)
        built = {sha256(example["image"]): int(example["label"]) for example in read}
        assert built == {
            sha256(image): int(label) for image, label in zip(pictures.images, pictures.labels, strict=True)
        }


def test_letters_builder_describes_its_features_and_configurations(tmp_path):
    module = load(DATASETS / "letters_in_photos", "_test_letters")
    builder = module.Builder(data_dir=tmp_path)
    assert builder.builder_config.name == "60k"
    assert builder.info.features["label"].names == list(module.photos.LETTERS)
    assert builder.info.features["image"].shape == (64, 64, 3)
    assert module.Builder(data_dir=tmp_path, config="240k").builder_config.train == 240_000
