"""A table becomes splits of rows: roles, missing labels, groups, few rows, and another table beside it."""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.tables import batches, load, related
from runner.tables import columns as of


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=300).round(4), "job": random.choice(["a", "b"], 300)})
    frame["patient"] = [f"p{row // 3}" for row in range(300)]
    frame["sex"] = random.choice(["f", "m"], 300)
    frame["label"] = np.where(frame["x"] + random.normal(size=300) > 0.8, "ill", "well")
    return frame


def write(frame, tmp_path, name="t.csv"):
    frame.to_csv(tmp_path / name, index=False)
    return str(tmp_path / name)


def test_roles_groups_and_batches(table, tmp_path):
    roles = load.Roles(group="patient", subgroup="sex")
    found = load.load(write(table, tmp_path), roles)
    assert [one.name for one in found.columns] == ["x", "job", "sex"]
    assert found.classes == ("ill", "well") and found.unit == "rows"
    split = found.manifest.groupby("group")["split"].nunique()
    assert (split == 1).all() and set(found.manifest["subgroup"]) == {"f", "m"}
    given, label = next(iter(batches.batches(found, "train", 8).epoch()))
    assert given.shape == (8, 3) and label.shape == (8, 2)
    element = next(iter(found.train))
    np.testing.assert_array_equal(element["input"], found.rows[int(element["id"])])


def test_nothing_is_learned_from_the_test(table, tmp_path):
    table["split"] = ["train"] * 200 + ["val"] * 50 + ["test"] * 50
    table.loc[250:, "x"] = 1e6
    table.loc[250:, "job"] = "only in test"
    found = load.load(write(table, tmp_path), load.Roles(leave_out=("sex", "patient")))
    x, job = found.columns
    assert abs(x.mean) < 1 and sorted(job.vocabulary) == ["a", "b"]
    assert found.problems["kind"].tolist().count("unseen") == 1


def test_rows_without_a_label_are_kept_for_what_needs_none(table, tmp_path):
    table.loc[:99, "label"] = ""
    found = load.load(write(table, tmp_path), load.Roles(group="patient"))
    assert (found.manifest["split"][:100] == "unused").all()
    assert found.manifest["label"][:100].isna().all() and found.classes == ("ill", "well")


def test_few_rows_keep_the_shares_and_are_nested(table, tmp_path):
    path = write(table.drop(columns="patient"), tmp_path)
    few, more = (load.load(path, load.Roles(), train_rows=count).manifest for count in (20, 60))
    first, second = (set(one.index[one["split"] == "train"]) for one in (few, more))
    assert len(first) == 20 and len(second) == 60 and first < second
    share = (more["label"] == "ill").mean()
    assert abs((more.loc[list(second), "label"] == "ill").mean() - share) < 0.05
    with pytest.raises(InputError, match="train_rows=3"):
        load.load(path, load.Roles(), train_rows=3)


def test_rows_are_known_again_by_their_cells(table, tmp_path):
    path = write(table, tmp_path)
    found = load.load(path, load.Roles(group="patient"))
    again = load.load(
        path, load.Roles(group="patient"), known=found.columns, val_fraction=0.0, test_fraction=1.0
    )
    assert again.manifest["sha256"].tolist() == found.manifest["sha256"].tolist()
    assert (again.manifest["split"] == "test").all() and again.columns == found.columns
    np.testing.assert_array_equal(again.rows, found.rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "lable"}, "label='lable', and .* has no such column.* Did you mean 'label'"),
        ({"group": "patiant"}, "group='patiant'.* Did you mean 'patient'"),
        ({"numbers": ("nothing",)}, "number 'nothing'"),
        ({"leave_out": ("x", "job", "sex", "patient")}, "without a column of input"),
        ({"label": "x"}, "different labels; at most 100 classes"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(table, tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as error:
        load.load(write(table, tmp_path), load.Roles(**changes))
    assert "\n" not in str(error.value)


def test_a_related_table_has_columns_and_outcomes_of_its_own(table, tmp_path):
    source = table.rename(columns={"label": "outcome_a"}).drop(columns="sex")
    source["outcome_b"] = np.where(source["x"] > 0, "1", "0")
    source.loc[:9, "outcome_b"] = ""
    source["lab"] = source["x"] * 2 + 100
    other = related.find(write(source[:200], tmp_path, "s.csv"), leave_out=("patient",))
    assert other.outcome_names == ("outcome_a", "outcome_b") and other.inputs == ("x", "job", "lab")
    assert np.isnan(other.outcomes[:10, 1]).all() and set(other.outcomes[10:, 1]) == {0, 1}
    found = load.load(write(table, tmp_path), load.Roles(group="patient"), related=other)
    assert [one.name for one in found.columns] == ["x", "job", "lab", "sex"]
    assert found.related.rows.shape == (200, 4)
    assert (found.related.rows[:, 3] == of.GONE).all() and np.isnan(found.rows[:, 2]).all()
    assert found.problems["kind"].tolist().count("columns") == 1
    with pytest.raises(InputError, match="has 199 different values"):
        related.find(tmp_path / "s.csv", ("x",))
