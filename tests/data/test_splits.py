"""Shares come out exact, units stay whole, a seed decides, and few labels nest."""

import time

import numpy as np
import pytest

from runner.data import splits

FRACTIONS = {"test": 0.25, "val": 0.15}


def alone(count):
    return np.arange(count)


def test_units_join_through_any_key_and_through_others():
    groups = ["a", "", "a", "", "b", ""]
    hashes = ["1", "2", "3", "3", "4", "2"]
    # Rows 0 and 2 share a group, 2 and 3 a hash; 1 and 5 a hash; 4 is alone. "" joins nobody.
    assert splits.units(groups, hashes).tolist() == [0, 1, 0, 0, 2, 1]
    assert splits.units(["", "", ""], ["x", "y", "z"]).tolist() == [0, 1, 2]
    assert splits.units([], []).tolist() == []


def test_a_group_and_a_hash_of_the_same_name_are_different():
    assert splits.units(["same", ""], ["x", "same"]).tolist() == [0, 1]


def test_each_class_gets_its_rounded_share():
    labels = np.repeat([0, 1, 2], [100, 40, 20])
    dealt = splits.carve(labels, alone(160), FRACTIONS)
    for label, expected in ((0, (60, 15, 25)), (1, (24, 6, 10)), (2, (12, 3, 5))):
        assert (
            tuple((dealt[labels == label] == split).sum() for split in ("train", "val", "test")) == expected
        )


def test_small_classes_reach_every_split_train_first():
    for count, expected in ((1, {"train"}), (2, {"train", "test"}), (3, {"train", "test", "val"})):
        labels = np.repeat([0, 1], [count, 50])
        assert set(splits.carve(labels, alone(count + 50), FRACTIONS)[:count]) == expected


def test_a_class_of_enough_units_reaches_every_split_whatever_else_its_rows_show():
    shown = np.zeros((23, 2), int)
    shown[:3, 0] = shown[:2, 1] = 1  # the first class stands in three rows, twice beside a rarer one
    rarest = np.array([1, 1, 0, *[2] * 20])
    assert set(splits.carve(rarest, alone(23), FRACTIONS)[:3]) == {"train", "test"}
    assert set(splits.carve(rarest, alone(23), FRACTIONS, amounts=shown)[:3]) == {"train", "test", "val"}
    # Also where the shares would give one split all that there is.
    labels = np.repeat([0, 1], [3, 30])
    assert set(splits.carve(labels, alone(33), {"test": 0.8, "val": 0.1})[:3]) == {"train", "test", "val"}


@pytest.mark.parametrize("seed", range(5))
def test_what_reaches_more_splits_takes_nothing_away(seed):
    random = np.random.RandomState(seed)
    shown = (random.rand(40, 5) < 0.15).astype(int)
    labels, patients = shown.argmax(axis=1), random.randint(0, 25, 40)
    before = splits.carve(labels, patients, FRACTIONS, seed)
    after = splits.carve(labels, patients, FRACTIONS, seed, shown)
    for label in range(5):
        reached = [set(dealt[shown[:, label] > 0]) for dealt in (before, after)]
        assert reached[0] <= reached[1]
        if len(set(patients[shown[:, label] > 0])) >= 3:
            assert reached[1] == {"train", "val", "test"}
    assert all(len(set(after[patients == one])) == 1 for one in patients)


def test_the_seed_decides():
    labels = np.arange(200) % 4
    first = splits.carve(labels, alone(200), FRACTIONS, seed=3)
    np.testing.assert_array_equal(first, splits.carve(labels, alone(200), FRACTIONS, seed=3))
    assert (first != splits.carve(labels, alone(200), FRACTIONS, seed=4)).any()


def test_the_stream_is_frozen():
    """The split of a published result must come out the same in years to come."""
    dealt = splits.carve(np.arange(12) % 2, alone(12), FRACTIONS, seed=0)
    assert "".join(split[1] for split in dealt) == "arrerareerer"


@pytest.mark.parametrize("seed", range(5))
def test_units_stay_whole_and_shares_near(seed):
    random = np.random.RandomState(seed)
    labels = random.randint(0, 4, 1000)
    patients = random.randint(0, 60, 1000)  # about 17 pictures each, of several classes
    dealt = splits.carve(labels, patients, FRACTIONS, seed)
    for patient in range(60):
        assert len(set(dealt[patients == patient])) == 1
    for label in range(4):
        for split, share in (("test", 0.25), ("val", 0.15), ("train", 0.6)):
            assert abs((dealt[labels == label] == split).mean() - share) < 0.06


def test_one_split_can_be_carved_alone():
    dealt = splits.carve(np.zeros(100, int), alone(100), {"val": 0.15})
    assert (dealt == "val").sum() == 15 and (dealt == "train").sum() == 85


def test_a_giant_unit_goes_to_train():
    dealt = splits.carve(np.zeros(100, int), np.r_[np.zeros(70, int), np.arange(1, 31)], FRACTIONS)
    assert set(dealt[:70]) == {"train"}
    assert {"test", "val"} <= set(dealt[70:])


def test_many_rows_are_dealt_in_seconds():
    start = time.perf_counter()
    splits.carve(np.arange(50_000) % 100, alone(50_000), FRACTIONS)
    assert time.perf_counter() - start < 10


def test_few_is_nested_exact_and_seeded():
    labels = np.random.RandomState(0).randint(0, 5, 300)
    five, ten, other = (splits.few(labels, k, seed) for k, seed in ((5, 1), (10, 1), (5, 2)))
    assert (np.bincount(labels[five]) == 5).all() and (np.bincount(labels[ten]) == 10).all()
    assert (ten | five).sum() == ten.sum()
    assert (five != other).any()
    assert splits.few(labels, 1000).all()


def test_few_of_one_class_does_not_depend_on_the_others():
    labels = np.array([0] * 30 + [1] * 30)
    more = np.where(np.arange(60) < 30, 0, 1 + np.arange(60) % 2)
    np.testing.assert_array_equal(splits.few(labels, 4)[:30], splits.few(more, 4)[:30])
