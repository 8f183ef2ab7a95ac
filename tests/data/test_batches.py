"""Batches of a split are the one description of what is trained on, weights among it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.data import kept
from runner.data.batches import SplitBatches
from runner.errors import InputError
from runner.pictures.batches import batches as picture_batches

COUNT = 30
WEIGHTS = np.linspace(0, 3, 40).astype("float32")


@pytest.fixture
def examples():
    """30 pictures, rows 5 to 34 of a manifest of 40, as a `Data` whose two splits are the same."""
    ids = np.arange(5, 35)
    elements = {
        "id": ids.astype("int64"),
        "input": np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype="uint8"),
        "label": (ids % 3).astype("int64"),
    }
    manifest = pd.DataFrame({"label": pd.Categorical.from_codes(np.arange(40) % 3, list("abc"))})
    manifest["split"] = np.where(np.isin(np.arange(40), ids), "train", "unused")
    train = tf.data.Dataset.from_tensor_slices(elements)
    return SimpleNamespace(train=train, val=train, classes=tuple("abc"), manifest=manifest)


def test_each_example_brings_its_weight(examples):
    made = SplitBatches(examples, "train", 8, shuffle=True, seed=1, weights=WEIGHTS)
    for batch in made.named():
        np.testing.assert_array_equal(batch["weight"], WEIGHTS[batch["id"]])
    inputs, labels, weights = next(iter(made.epoch()))
    assert len(inputs) == len(labels) == len(weights) == 8
    assert "weight" not in SplitBatches(examples, "train", 8).named().element_spec
    own = SplitBatches(
        SimpleNamespace(train=examples.train.map(lambda one: one | {"weight": 2}), classes=tuple("abc")),
        "train",
        8,
        weights=WEIGHTS,
    )
    for batch in own.named():
        np.testing.assert_array_equal(batch["weight"], 2 * WEIGHTS[batch["id"]])
    with pytest.raises(InputError, match="with a target give them as"):
        SplitBatches(examples, "train", 8, target=lambda batch: batch, weights=WEIGHTS)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_pictures_mix_the_loss_of_each(examples, options):
    made = picture_batches(examples, "train", COUNT, seed=1, weights=WEIGHTS, **options)
    plain = picture_batches(examples, "train", COUNT, seed=1, **options)
    batch, mixed = next(iter(made.named())), next(iter(plain.named()))
    np.testing.assert_array_equal(batch["input"], mixed["input"])
    own = WEIGHTS[batch["id"]]
    share = (
        1 - np.abs(mixed["label"] - np.eye(3)[batch["id"] % 3]).sum(axis=1) / 2
    )  # the next has another label
    expected = share[:, None] * own[:, None] * np.eye(3)[batch["id"] % 3]
    expected += ((1 - share) * np.roll(own, -1))[:, None] * np.roll(np.eye(3)[batch["id"] % 3], -1, axis=0)
    np.testing.assert_allclose(batch["label"] * batch["weight"][:, None], expected, atol=1e-5)
    np.testing.assert_allclose(batch["label"].numpy()[own + np.roll(own, -1) > 0].sum(axis=1), 1, rtol=1e-5)


def test_what_is_kept_stands_for_the_very_examples_with_their_labels_and_weights(examples):
    # Other examples, labels and order than the manifest says.
    examples.train = (
        examples.train.map(lambda one: one | {"label": 2 - one["label"]}).skip(3).shuffle(30, seed=0)
    )
    split = SplitBatches(examples, "train", 8, shuffle=True, seed=1, weights=WEIGHTS)
    assert split.ids.tolist() == list(range(8, 35))
    array = split.ids[None, :, None].astype("float32")
    seen = []
    for batch in kept.batches(array, split).named():
        seen += batch["id"].numpy().tolist()
        np.testing.assert_array_equal(batch["input"][:, 0], batch["id"])
        np.testing.assert_array_equal(batch["label"], np.eye(3)[2 - batch["id"] % 3])
        np.testing.assert_array_equal(batch["weight"], WEIGHTS[batch["id"]])
    assert sorted(seen) == split.ids.tolist()


def test_what_single_inputs_cannot_stand_for_is_not_kept(examples):
    def reason(train):
        return SplitBatches(SimpleNamespace(**vars(examples) | {"train": train}), "train", 8).not_kept()

    assert reason(examples.train) == ""
    assert "weights of their own" in reason(examples.train.map(lambda one: one | {"weight": 2.0}))
    assert "twice" in reason(examples.train.concatenate(examples.train.take(1)))
