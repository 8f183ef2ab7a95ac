"""Each fault that a table may have is planted, and found; a table without one has no remark."""

import numpy as np
import pandas as pd
import pytest

from runner.tables import load


@pytest.fixture
def table():
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"x": random.normal(size=400).round(4), "count": random.poisson(3, 400)})
    frame["pressure"] = random.normal(75, 12, 400).round(0)
    frame["gain"] = np.where(random.random(400) < 0.8, 0, random.integers(100, 20000, 400))
    frame["label"] = np.where(frame["x"] + random.normal(size=400) > 0, "ill", "well")
    return frame


def kinds(frame, tmp_path, **roles):
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = load.load(str(tmp_path / "t.csv"), load.Roles(**roles)).problems
    return {(kind, message) for kind, message in zip(found["kind"], found["message"], strict=True)}


def only(found, kind):
    return [message for one, message in found if one == kind]


def test_a_table_without_faults_has_no_remark(table, tmp_path):
    assert kinds(table, tmp_path) == set()


def test_impossible_zeros(table, tmp_path):
    table.loc[table.index % 40 == 0, "pressure"] = 0
    (message,) = only(kinds(table, tmp_path), "zeros")
    assert "'pressure' is 0 in 10 of" in message or "'pressure' is 0 in" in message
    assert "--zeros-missing 'pressure'" in message
    assert only(kinds(table, tmp_path, zeros_missing=("pressure",)), "zeros") == []


def test_a_column_that_is_the_label_and_one_that_tells_it(table, tmp_path):
    table["code"] = np.where(table["label"] == "ill", "J18", "Z00")
    table["days_in"] = np.where(table["label"] == "ill", 5, 1) + np.random.default_rng(0).random(400)
    found = only(kinds(table, tmp_path), "give-away")
    assert len(found) == 2 and any("'code' is the label" in one for one in found)
    assert any("'days_in' alone tells the label of 100.0 %" in one for one in found)


def test_ids_groups_and_constants(table, tmp_path):
    table["case"] = np.random.default_rng(0).permutation(400) + 1000
    table["patient_id"] = table.index // 2
    table["country"] = "here"
    found = kinds(table, tmp_path)
    assert len(only(found, "constant")) == 1
    assert any("'case' has" in one for one in only(found, "identity"))
    assert any("--group 'patient_id'" in one for one in only(found, "identity"))


def test_copies_and_contradictions(table, tmp_path):
    table["split"] = ["train"] * 250 + ["val"] * 50 + ["test"] * 100
    table.loc[399, ["x", "count", "pressure", "gain"]] = table.loc[0, ["x", "count", "pressure", "gain"]]
    table.loc[399, "label"] = "well" if table.loc[0, "label"] == "ill" else "ill"
    found = kinds(table, tmp_path)
    assert len(only(found, "duplicate")) == 1
    assert any("same cells and different labels" in one for one in only(found, "label"))


def test_a_table_of_few_categories_is_dealt_row_by_row(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.choice(["a", "b"], 200) for name in "pq"})
    frame["label"] = random.choice(["no", "yes"], 200)
    found = kinds(frame, tmp_path)
    assert any("more than half of the 200 rows" in one for one in only(found, "duplicate"))
