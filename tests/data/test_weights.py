"""How much each example counts: by its own weight, by its class, by both, or all alike."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from runner.data import weights
from runner.errors import InputError

LABELS = np.array([0] * 6 + [1] * 3 + [2] * 1 + [0, 1, 2, -1])
SPLITS = np.array(["train"] * 10 + ["val", "val", "test", "unused"])


def data(own=None):
    label = pd.Categorical.from_codes(LABELS, ["a", "b", "c"])
    manifest = pd.DataFrame({"label": label, "split": SPLITS})
    return SimpleNamespace(
        manifest=manifest if own is None else manifest.assign(weight=own),
        classes=("a", "b", "c"),
        unit="rows",
    )


def test_where_nothing_is_said_all_count_alike():
    assert weights.of_examples(data()) is None
    own = np.linspace(0, 3, 14)
    np.testing.assert_array_equal(weights.of_examples(data(own)), own.astype("float32"))


def test_balanced_classes_weigh_alike_as_scikit_learn_has_it():
    found = weights.of_examples(data(), "balanced")
    assert found.dtype == np.float32 and found[13] == 1
    np.testing.assert_allclose(found[:10], compute_sample_weight("balanced", LABELS[:10]), rtol=1e-6)
    np.testing.assert_allclose(found[10:13], found[[0, 6, 9]])  # by the counts of the training


def test_both_together_leave_each_class_the_same_sum():
    own = np.arange(1.0, 15.0)
    found = weights.of_examples(data(own), "balanced")
    sums = [found[:10][LABELS[:10] == label].sum() for label in range(3)]
    np.testing.assert_allclose(sums, own[:10].sum() / 3, rtol=1e-6)
    np.testing.assert_allclose(found[1] / found[0], 2, rtol=1e-6)


def test_what_has_no_weight_at_all_is_refused():
    with pytest.raises(InputError, match="all rows of the split val are 0"):
        weights.of_examples(data(np.where(SPLITS == "val", 0.0, 1.0)))
    with pytest.raises(InputError, match="cannot weigh the class 'c': its training weights are all 0"):
        weights.of_examples(data(np.where(LABELS == 2, 0.0, 1.0)), "balanced")
