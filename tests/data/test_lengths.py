"""Batches of neighbours in length: every example once an epoch, no batch longer than its longest needs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.augment import views as augment
from runner.data import kept, lengths
from runner.data.batches import SplitBatches
from runner.devices.multi_worker import Share
from runner.errors import InputError

COUNT, ROWS, SIZE = 77, 40, 8


@pytest.fixture(scope="module")
def examples():
    """77 rows of 40 numbers, of which the first 1 to 40 are the example's id, and the rest 0."""
    long = np.random.default_rng(0).integers(1, ROWS + 1, COUNT + 3)
    ids = np.arange(3, COUNT + 3)
    inputs = np.where(np.arange(ROWS) < long[ids, None], ids[:, None], 0).astype("int32")
    elements = {"id": ids.astype("int64"), "input": inputs, "label": (ids % 2).astype("int64")}
    manifest = pd.DataFrame(
        {"split": ["unused"] * 3 + ["train"] * COUNT, "sha256": list(map(str, range(COUNT + 3)))}
    )
    train = tf.data.Dataset.from_tensor_slices(elements)
    data = SimpleNamespace(train=train, classes=("a", "b"), manifest=manifest, recipe="")
    return data, lengths.Lengths(long, ROWS)


def batches(examples, shuffle: bool = True, **options) -> SplitBatches:
    data, of = examples
    return SplitBatches(data, "train", SIZE, shuffle=shuffle, seed=3, lengths=of, **options)


def told(made) -> list[list[int]]:
    return [batch["id"].numpy().tolist() for batch in made]


@pytest.mark.parametrize("pool", [2, 32])
def test_an_epoch_has_each_example_once_and_batches_of_neighbours(examples, monkeypatch, pool):
    monkeypatch.setattr(lengths, "POOL", pool)
    made, long, widths = batches(examples), examples[1].of, []
    epoch = list(made.named())
    assert len(epoch) == made.steps == int(made.named().cardinality()) == 10
    assert sorted(one for some in told(epoch) for one in some) == list(range(3, COUNT + 3))
    for batch in epoch:
        ids, widest = batch["id"].numpy(), long[batch["id"]].max()
        assert batch["input"].shape[1] == min(-(-widest // 8) * 8, ROWS)
        assert ((batch["input"].numpy() == ids[:, None]).sum(axis=1) == long[ids]).all()  # nothing is cut off
        np.testing.assert_array_equal(batch["label"], np.eye(2)[ids % 2])
        widths.append(batch["input"].shape[1])
    spread = np.mean([np.ptp(long[some]) for some in told(epoch)])
    unsorted = np.mean(
        [np.ptp(long[some]) for some in told(SplitBatches(examples[0], "train", SIZE).named())]
    )
    assert spread < (0.2 if pool == 32 else 0.75) * unsorted and len(set(widths)) > 2


def test_rows_that_are_no_multiple_of_what_is_rounded_to():
    of = lengths.Lengths(np.array([3, 11, 12]), 12)
    trimmed = [
        of.trim({"id": np.array([one]), "input": np.ones((1, 12, 2))})["input"].shape for one in range(3)
    ]
    assert trimmed == [(1, 8, 2), (1, 12, 2), (1, 12, 2)]


def test_epochs_differ_and_a_seed_repeats_them(examples):
    made = batches(examples)
    twice, again = (told(batches(examples).after(0).take(20)) for _ in range(2))
    assert twice == again and twice[:10] != twice[10:]
    assert sorted(sum(twice[10:], [])) == list(range(3, COUNT + 3))
    assert [some for some in told(made.named())] == twice[:10]
    other = SplitBatches(examples[0], "train", SIZE, shuffle=True, seed=4, lengths=examples[1])
    assert told(other.named()) != twice[:10]
    plain = told(batches(examples, shuffle=False).named())
    assert plain == told(batches(examples, shuffle=False).named())
    assert sum(plain, []) == sorted(range(3, COUNT + 3), key=lambda one: (examples[1].of[one], one))


@pytest.mark.parametrize("start", [1, 7, 13])
def test_after_any_step_comes_what_would_have_come(examples, start):
    whole = told(batches(examples).after(0).take(20))
    assert told(batches(examples).after(start).take(20 - start)) == whole[start:]
    shares = [list(batches(examples).after(start, Share(2, 2, worker)).take(3)) for worker in range(2)]
    for step, parts in enumerate(zip(*shares, strict=True)):
        assert sum((one["id"].numpy().tolist() for one in parts), []) == whole[start + step]


@pytest.mark.parametrize("shape", [(ROWS, 3), (3,)])
def test_what_is_kept_comes_in_the_same_batches(examples, shape):
    """Rows of states are cut as the inputs are; what was pooled has nothing to be cut."""
    made = batches(examples)
    array = np.zeros((1, COUNT, *shape), "float32") + made.ids.reshape(1, COUNT, *[1] * len(shape))
    stands_in = kept.batches(array, made)
    for start in (0, 13):
        expected = list(made.after(start).take(8))
        for one, other in zip(expected, stands_in.after(start).take(8), strict=True):
            np.testing.assert_array_equal(one["id"], other["id"])
            assert len(shape) == 1 or other["input"].shape[1] == one["input"].shape[1]
            assert (other["input"].numpy().reshape(len(one["id"]), -1) == one["id"].numpy()[:, None]).all()
    assert int(stands_in.named().cardinality()) == 10


def test_views_and_targets_have_no_lengths(examples):
    for more in ({"target": lambda batch: batch}, {"views": augment}):
        with pytest.raises(InputError, match="inputs of different lengths have no views and no target here"):
            batches(examples, **more)


def test_what_else_is_as_long_as_its_input_is_cut_with_it(examples):
    """Labels of tokens; what is not named stays, whatever its shape."""
    long = examples[1].of
    of = lengths.Lengths(long, ROWS, ("input", "label"))
    ids = np.flatnonzero(long <= 10)[:3]
    rows = np.tile(np.arange(ROWS), (3, 1))
    batch = {"id": ids, "input": rows, "label": rows + 100, "spans": rows}
    found = {name: np.asarray(value) for name, value in of.trim(batch).items()}
    longest = -(-long[ids].max() // 8) * 8
    np.testing.assert_array_equal(found["input"], rows[:, :longest])
    np.testing.assert_array_equal(found["label"], rows[:, :longest] + 100)
    assert found["spans"].shape == (3, ROWS) and found["id"].tolist() == ids.tolist()
    assert lengths.Lengths(long, ROWS).trim(batch)["label"].shape == (3, ROWS)


def test_batches_of_labelled_tokens_keep_label_and_input_together(examples):
    data, plain = examples
    tokens = data.train.map(lambda one: one | {"label": tf.where(one["input"] > 0, one["input"] * 2, -1)})
    data = SimpleNamespace(**vars(data) | {"train": tokens})
    of = lengths.Lengths(plain.of, ROWS, ("input", "label"))
    made = SplitBatches(data, "train", SIZE, shuffle=True, seed=3, lengths=of)
    for batch in made.named():
        rows, label = batch["input"].numpy(), batch["label"].numpy()
        assert label.dtype == "int32" and label.shape == rows.shape  # no one-hot of whole rows
        np.testing.assert_array_equal(label, np.where(rows > 0, rows * 2, -1))
    stands_in = kept.batches(np.zeros((1, COUNT, ROWS, 2), "float32"), made)
    for one, other in zip(made.after(0).take(4), stands_in.after(0).take(4), strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        assert other["input"].shape[1] == other["label"].shape[1]
