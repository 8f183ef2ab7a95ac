"""sister_tables: the same rows on every machine, and what is known of them."""

import hashlib

import numpy as np
import pytest
import sklearn.metrics
from sklearn.linear_model import LogisticRegression

from tests.test_datasets import DATASETS, load

worlds = load(DATASETS / "sister_tables", "_test_sister_tables").worlds


@pytest.fixture(scope="module")
def world():
    return worlds.World(0)


def test_the_first_rows_are_the_same_on_every_machine(world):
    table = worlds.table(world, "train")
    assert len(table) == 1500 and list(table)[-2:] == ["subgroup", "label"]
    written = table.head(50).to_csv(index=False).encode()
    assert hashlib.sha256(written).hexdigest() == (
        "76a7d50c6dcd26cd99de1357c1a95bd5195bc240f3f48d976d9363eb6c2af372"
    )


def test_parts_and_worlds_are_others(world):
    first, second = (worlds.table(world, part) for part in ("train", "test"))
    rows = [
        set(one.drop(columns=["label", "subgroup"]).itertuples(index=False, name=None))
        for one in (first, second)
    ]
    assert not rows[0] & rows[1]
    assert not worlds.table(worlds.World(1), "train").equals(first)
    hospital = worlds.table(world, "hospital")
    assert len(hospital) == 10_000 and not set(worlds.NEW) & set(hospital)
    assert [name for name in hospital if name.startswith("outcome")] == [f"outcome_{n}" for n in range(1, 9)]


def test_outcomes_come_as_often_as_their_chances_say_and_cells_are_missing_by_chance(world):
    part = world.part("hospital")
    np.testing.assert_allclose(part.outcomes.mean(axis=0), part.chances.mean(axis=0), atol=0.015)
    assert abs(part.gone.mean() - worlds.MISSING) < 0.002
    for chances, outcomes in zip(part.chances.T, part.outcomes.T, strict=True):
        sure = chances > 0.9
        assert outcomes[sure].mean() == pytest.approx(chances[sure].mean(), abs=0.02)


def test_nobody_can_be_better_than_the_chances_and_a_line_is_far_from_it(world):
    part, train = world.part("test"), world.part("train")
    best = sklearn.metrics.roc_auc_score(part.outcomes[:, 0], part.chances[:, 0])
    assert best == pytest.approx(0.8795, abs=1e-4)
    line = LogisticRegression(max_iter=500).fit(train.numbers, train.outcomes[:, 0])
    found = sklearn.metrics.roc_auc_score(part.outcomes[:, 0], line.decision_function(part.numbers))
    assert found < best - 0.1
