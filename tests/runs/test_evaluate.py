"""Finished runs are judged on other labelled data: its classes are the run's, and nothing is trained."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.data import examples as rows
from runner.data.examples import Data, labels_of, problems
from runner.data.sealed import Sealed
from runner.errors import InputError
from runner.runs import evaluate


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "old"
    labels_per_class: int | None = 5
    val_fraction: float = 0.15
    test_fraction: float = 0.25


def data(elements, names, classes, amounts=None):
    manifest = pd.DataFrame({"path": names, "split": "test", "label": labels_of(names, classes)})
    test = Sealed(tf.data.Dataset.from_tensor_slices(elements))
    return Data(None, None, test, classes, manifest, problems([]), amounts=amounts)


def template(examples):
    asked = []

    def load(config):
        asked.append(config)
        return examples

    return SimpleNamespace(load=load, asked=asked)


def test_everything_is_asked_for_and_nothing_is_thinned():
    there = template(data({"id": [0, 1], "label": [0, 1]}, ["a", "b"], ("a", "b")))
    examples, known = evaluate.load(there, Config(), "new", ("a", "b"))
    assert examples is there.load(None) and known == ("a", "b")
    assert there.asked[0] == Config("new", None, 0.0, 1.0)


def test_some_of_the_classes_are_counted_as_the_run_counts_them():
    elements = {
        "id": [0, 1],
        "label": np.array([1, 0]),
        "classes": np.array([[0, -1], [1, 1]]),
        "mask": np.array([[[0, 1, 255]]] * 2, np.uint8),
    }
    found = data(elements, ["dog", "bee"], ("bee", "dog"), amounts=np.array([[1, 0], [0, 2]]))
    examples, known = evaluate.load(template(found), Config(), "new", ("ant", "bee", "cat", "dog"))
    assert known == ("bee", "dog") and examples.classes == ("ant", "bee", "cat", "dog")
    first, second = examples.test.open(None, "to look").as_numpy_iterator()
    assert (first["label"], second["label"]) == (3, 1) and first["label"].dtype == np.int64
    assert first["classes"].tolist() == [1, -1] and second["classes"].tolist() == [3, 3]
    assert first["mask"].tolist() == [[1, 3, 255]] and first["mask"].dtype == np.uint8
    assert examples.amounts.tolist() == [[0, 1, 0, 0], [0, 0, 0, 2]]
    assert examples.manifest["label"].tolist() == ["dog", "bee"]
    assert examples.manifest["label"].cat.codes.tolist() == [3, 1]


def test_a_class_in_another_unicode_form_is_the_same_class():
    found = template(data({"id": [0, 1], "label": [0, 1]}, ["cafe\u0301", "tea"], ("cafe\u0301", "tea")))
    examples, known = evaluate.load(found, Config(), "new", ("caf\u00e9", "tea"))
    assert known == examples.classes == ("caf\u00e9", "tea")
    assert examples.manifest["label"].tolist() == ["caf\u00e9", "tea"]


def test_a_class_that_the_run_does_not_know_is_named():
    found = template(data({"id": [0], "label": [0]}, ["elk"], ("elk",)))
    with pytest.raises(InputError, match="does not know the class 'elk'; its classes are ant, bee: rename"):
        evaluate.load(found, Config(), "new", ("ant", "bee"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["", "", ""], ["test", "test", "skipped"]), (["train", "test", ""], ["unused", "test", "skipped"])],
)
def test_a_test_split_is_judged_where_there_is_one_and_else_everything(given, expected):
    manifest = pd.DataFrame({"split": given, "sha256": ["1", "2", ""]})
    split = rows.divide(manifest, np.zeros(3, int), val_fraction=0.0, test_fraction=1.0)
    assert split.tolist() == expected


def test_data_without_anything_usable_is_refused():
    with pytest.raises(InputError, match="no usable rows"):
        rows.divide(
            pd.DataFrame({"split": [""], "sha256": [""]}), np.zeros(1, int), test_fraction=1.0, unit="rows"
        )


def test_an_output_that_is_there_is_not_overwritten(tmp_path):
    with pytest.raises(InputError, match="exists; give another name"):
        evaluate._place(tmp_path, "photos", tmp_path)
    assert evaluate._place(tmp_path, "~/new photos/", None) == tmp_path / "evaluate" / "new photos"
