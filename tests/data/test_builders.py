"""Pictures from TFDS: a builder in datasets/, loaded by path, and a prepared set by name."""

import sys

import numpy as np
import pytest

from runner.data.examples import summary
from runner.errors import InputError
from runner.pictures import sources
from runner.pictures.load import load

BUILDER = """
import numpy as np
import tensorflow_datasets as tfds


class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({FEATURES}))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(i, split) for i, split in enumerate(SPLITS)}

    def _generate_examples(self, number, split):
        for i in range(COUNTS[split]):
            image = np.full((8, 8, 3), (number * 50 + i, i, 7), np.uint8)
            label = -1 if split in UNLABELLED else i % 3
            yield i, EXAMPLE
"""
FEATURES = (
    '"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(names=["x", "y", "z"])'
)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Writes datasets/NAME with the given splits; TFDS prepares it below tmp_path."""
    monkeypatch.setattr("runner.data.source.ROOT", tmp_path)
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "prepared"))

    def build(name, counts, features=FEATURES, example='{"image": image, "label": label}', unlabelled=()):
        folder = tmp_path / "datasets" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        code = (
            BUILDER.replace("FEATURES", features)
            .replace("EXAMPLE", example)
            .replace("SPLITS", repr([*counts]))
        )
        code = code.replace("COUNTS", repr(counts)).replace("UNLABELLED", repr(unlabelled))
        (folder / f"{name}_dataset_builder.py").write_text(code)
        return name

    return build


@pytest.mark.parametrize("memory_budget", [2**30, 0], ids=["in memory", "from files"])
def test_a_builder_by_path_with_its_splits(dataset, memory_budget):
    path = list(sys.path)
    loaded = load(dataset("toys", {"train": 30, "validation": 9, "test": 12}), 8, memory_budget=memory_budget)
    assert sys.path == path and "datasets" not in sys.modules
    assert loaded.classes == ("x", "y", "z")
    assert summary(loaded).loc["y"].tolist() == [10, 3, 4, 0, 0]
    loaded.test.open(None, "t")
    for number, split in enumerate(("train", "val", "test")):
        rows = loaded.manifest[loaded.manifest["split"] == split]
        for element in getattr(loaded, split):
            red, green, blue = element["input"][4, 4].numpy().astype(int)
            assert (red - green, blue) == (number * 50, 7)
            assert green % 3 == element["label"]
            assert rows["label"][int(element["id"])] == loaded.classes[green % 3]
    assert loaded.manifest["path"].iloc[0] == "toys/train[0]"


def test_a_path_in_the_manifest_is_a_tfds_slice(dataset):
    import tensorflow_datasets as tfds

    loaded = load(dataset("sliced", {"train": 30, "test": 12}), 8)
    builder = sources.find("sliced")
    assert builder.examples["path"].tolist() == loaded.manifest["path"].tolist()
    prepared = tfds.builder_from_directory(f"{tfds.core.constants.DATA_DIR}/sliced/1.0.0")
    (example,) = prepared.as_dataset(split="test[7:8]").as_numpy_iterator()
    row = loaded.manifest.index[loaded.manifest["path"] == "sliced/test[7]"][0]
    (element,) = [element for element in loaded.test.open(None, "t") if element["id"] == row]
    np.testing.assert_array_equal(example["image"], element["input"])


def test_one_split_is_divided_and_a_missing_one_carved(dataset):
    assert summary(load(dataset("single", {"everything": 60}), 8)).loc["x"].tolist() == [
        12,
        3,
        5,
        0,
        0,
    ]
    loaded = load(dataset("pair", {"train": 60, "test": 30}), 8)
    assert summary(loaded).loc["x"].tolist() == [17, 3, 10, 0, 0]


def test_groups_of_a_builder_stay_together(dataset):
    name = dataset(
        "visits",
        {"train": 60},
        FEATURES + ', "group": tfds.features.Text()',
        '{"image": image, "label": label, "group": f"patient {i // 5}"}',
    )
    loaded = load(name, 8)
    assert (loaded.manifest.groupby("group")["split"].nunique() == 1).all()
    assert loaded.manifest["group"].nunique() == 12


def test_a_split_without_labels_is_left_out(dataset):
    loaded = load(dataset("secret", {"train": 60, "test": 9}, unlabelled=("test",)), 8)
    assert set(loaded.problems["kind"][loaded.problems["path"] != ""]) == {"unlabelled", "blank"}
    assert len(loaded.manifest) == 60
    assert summary(loaded)["test"].sum() == 15


def test_prepared_sets_are_found_by_name(dataset):
    load(dataset("by_name", {"train": 30}), 8)
    assert len(load("tfds:by_name", 8).manifest) == 30
    assert len(load("tfds:by_name:1.0.0", 8).manifest) == 30
    with pytest.raises(InputError, match="TFDS"):
        load("tfds:by_name:9.9.9", 8)


def test_sets_that_do_not_fit_are_answered(dataset):
    text_only = dataset("texts", {"train": 3}, '"text": tfds.features.Text()', '{"text": "a"}')
    with pytest.raises(InputError, match="features text; expected one picture"):
        load(text_only, 8)
    with pytest.raises(InputError, match="one train split"):
        load(dataset("halves", {"left": 9, "right": 9}), 8)
    broken = dataset("broken", {"train": 3}, example="1 / 0")
    with pytest.raises(InputError, match="could not be prepared: .*division by zero"):
        load(broken, 8)
