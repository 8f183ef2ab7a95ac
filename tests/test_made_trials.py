"""datasets/made_trials: the same rows everywhere, effects that moved as far as is said, a fair coin."""

import numpy as np
import pandas as pd
import pytest

from tests.test_datasets import DATASETS, load


@pytest.fixture(scope="module")
def builder():
    return load(DATASETS / "made_trials", "_test_made_trials")


@pytest.fixture(scope="module")
def making(builder):
    return builder.making


def effects(table: pd.DataFrame) -> np.ndarray:
    return (table["mu1"] - table["mu0"]).to_numpy()


def test_the_first_rows_are_the_same_on_every_machine(making):
    first = making.trial(0, "large", 3)
    assert first["outcome"].round(6).tolist() == [4.810495, 6.063905, -1.594037]
    assert first[["smoker", "site"]].to_numpy().tolist() == [["no", "west"], ["no", "west"], ["no", "north"]]


def test_a_longer_table_begins_as_a_shorter_one_and_the_test_is_others(making):
    short, long = making.trial(1, "much", 50), making.trial(1, "much", 80)
    pd.testing.assert_frame_equal(short, long.head(50))
    other = making.trial(1, "much", 50, "test")
    assert not np.isclose(other["number_01"], short["number_01"]).any()
    assert not making.trial(2, "much", 50)["outcome"].equals(short["outcome"])


@pytest.mark.parametrize("world", [0, 1, 2])
def test_effects_move_as_far_as_is_said_and_treatment_is_a_coin(making, world):
    large = making.trial(world, "large", 4000)
    assert abs(large["treatment"].mean() - 0.5) < 0.03
    noise = large["outcome"] - np.where(large["treatment"], large["mu1"], large["mu0"])
    assert abs(noise.mean()) < 0.06 and 0.95 < noise.std() < 1.05
    assert 0.07 < large["number_03"].isna().mean() < 0.13
    # What decides nothing but the weights moves: the effect of the same rows, by how the outcome is made.
    of = making.world(world)
    random = np.random.default_rng(0)
    risks = np.tanh(random.normal(size=(20_000, len(of.bends))) @ of.bends)
    moved = np.column_stack([np.ones(len(risks)), risks / 0.65]) @ of.moved
    assert 0.6 < np.sqrt((moved**2).mean()) < 1.4
    assert making.MOVES["large"] == 0 < making.MOVES["little"] < making.MOVES["much"]


def test_the_parts_are_those_of_the_page(builder):
    rows = {part: rows for part, (_, rows) in builder.PARTS.items()}
    assert rows == {"large": 4000, "little_100": 100, "little_400": 400, "much_100": 100, "much_400": 400}
    assert {move for move, _ in builder.PARTS.values()} == set(builder.making.MOVES)
