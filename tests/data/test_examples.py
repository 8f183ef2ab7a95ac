"""Rows that are no pictures are divided, thinned, checked and counted by the same functions."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.data import examples, pairs
from runner.data.sealed import Sealed
from runner.data.source import Source
from runner.errors import InputError


def rows(count=60, classes=("sick", "well"), **columns) -> pd.DataFrame:
    """A manifest of rows of a table, classes in turn."""
    labels = [classes[i % len(classes)] for i in range(count)]
    found = pd.DataFrame({"path": [f"row {i}" for i in range(count)], "label": labels, "split": ""})
    found = found.assign(group="", subgroup="").assign(**columns)
    source = Source(found, tuple(classes), lambda: iter(()))
    return examples.begin_manifest(source).assign(sha256=[f"{i:064}" for i in range(count)])


def divided(manifest, **options) -> pd.DataFrame:
    labels = manifest["label"].cat.codes.to_numpy(np.int64)
    return manifest.assign(split=examples.divide(manifest, labels, unit="rows", **options))


def test_rows_are_divided_in_proportion_and_the_same_again():
    table = divided(rows(), seed=3)
    counts = pd.crosstab(table["label"], table["split"])
    assert counts.to_numpy().tolist() == [[8, 18, 4], [8, 18, 4]]  # test, train, val
    assert (divided(rows(), seed=3)["split"] == table["split"]).all()
    assert (divided(rows(), seed=4)["split"] != table["split"]).any()


def test_pairs_that_join_groups_stay_together_while_the_splits_come_out():
    """Twenty groups of 30; pairs join them two by two, and one group to all others."""
    manifest = rows(600, group=[f"patient {i // 30:02}" for i in range(600)])

    def torn(links, given=None):
        alike = pd.DataFrame([(*link, "", 9.0) for link in links], columns=pairs.COLUMNS)
        table = divided(manifest, clusters=pairs.clusters(alike, 600))
        assert (table.groupby("group")["split"].nunique() == 1).all()
        shares = table["split"].value_counts(normalize=True)
        assert 0.1 <= shares["val"] <= 0.225 and 0.17 <= shares["test"] <= 0.375
        return int(pairs.conflicts(alike, table)[0].sum())

    assert torn([(60 * one, 60 * one + 30 + one) for one in range(10)]) == 0  # units of 10 %
    every = [(one, 30 * one + 5) for one in range(1, 20)]
    assert 0 < torn(every) <= 14  # all is one unit; dropping every pair tears more than half of 19


def test_groups_and_pairs_stay_together_and_given_splits_stay():
    groups = [f"patient {i // 4}" for i in range(60)]
    table = divided(rows(group=groups))
    assert (table.groupby("group")["split"].nunique() == 1).all()
    alike = pd.DataFrame([(2 * i, 59 - 2 * i, "", 9.0) for i in range(15)], columns=pairs.COLUMNS)
    clusters = pairs.clusters(alike, 60)
    split = divided(rows(), clusters=clusters)["split"].to_numpy()
    assert (split[alike["first"]] == split[alike["second"]]).all()
    given = ["train", "val", "test"] * 20
    assert divided(rows(split=given))["split"].tolist() == given
    without_val = ["train", "train", "test"] * 20
    table = divided(rows(split=without_val))
    assert ((table["split"] == "test") == (np.array(without_val) == "test")).all()
    assert (table["split"] == "val").sum() == 6


def test_few_labels_are_nested_and_the_rest_is_unused():
    five, ten = (divided(rows(), labels_per_class=k)["split"].to_numpy() for k in (5, 10))
    assert (ten[five == "train"] == "train").all() and (five == "train").sum() == 10
    assert set(five) == {"train", "val", "test", "unused"}
    together = divided(rows(), train_examples=7)["split"]
    assert (together == "train").sum() == 7 and (together == "val").sum() == 7


def test_what_cannot_be_used_is_skipped_and_keeps_its_label():
    table = rows()
    table.loc[:3, "sha256"] = ""
    table = divided(table)
    assert (table["split"][:4] == "skipped").all() and table["label"][0] == "sick"


def test_messages_speak_of_rows():
    def message(manifest, **options) -> str:
        with pytest.raises(InputError) as error:
            divided(manifest, **options)
        assert "picture" not in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "add rows to train" in message(rows(split=["train", "test"] * 28 + ["train", "val"] * 2))
    assert "18 training rows" not in message(rows(), labels_per_class=40)
    assert "36 training rows" in message(rows(), train_examples=400)
    assert "group 'a' in the splits" in message(rows(split=["train", "val", "test"] * 20, group="a"))
    assert "none came to" in message(rows(4))
    found = Source(rows(4)[["path", "label"]], ("sick",), lambda: iter(()))
    with pytest.raises(InputError, match="two classes are needed"):
        examples.check_source(found, "'table.csv'", None, None, "rows")
    with pytest.raises(InputError, match="for rows with one label each"):
        two = Source(rows(4)[["path", "label"]], ("sick", "well"), lambda: iter(()))
        examples.check_source(two, "'table.csv'", None, 5, "rows")


def test_the_counts_are_said_in_words():
    table = divided(rows(), labels_per_class=5)
    empty = tf.data.Dataset.range(0)
    common = dict(train=empty, val=empty, test=Sealed(empty), classes=("sick", "well"), manifest=table)
    data = examples.Data(**common, problems=examples.problems([]), unit="rows")
    assert data.in_words() == "2 classes; rows: unused 26, test 16, train 10, val 8"
    assert examples.summary(data).loc["sick"].tolist() == [5, 4, 8, 13, 0]
    boxed = examples.Data(
        **common,
        problems=examples.problems([]),
        amounts=np.full((60, 2), 3),
        unit="pictures",
        counted="boxes",
    )
    assert boxed.in_words().startswith("2 classes, 360 boxes; pictures: unused 26")


def test_no_label_is_no_category_and_an_empty_cell(tmp_path):
    table = rows(4)
    table.loc[1, "label"] = None
    table.to_csv(tmp_path / "manifest.csv", index=False)
    again = pd.read_csv(tmp_path / "manifest.csv", dtype=str, keep_default_na=False)
    assert again["label"].tolist() == ["sick", "", "sick", "well"]
    assert table["label"].cat.codes.tolist() == [0, -1, 0, 1]


def test_few_examples_have_something_in_each_split_where_any_has():
    manifest = pd.DataFrame({"path": "", "split": ["train"] * 30 + ["val"] * 30 + ["test"] * 30})
    manifest["group"], manifest["sha256"] = "", [str(row) for row in range(90)]
    manifest["label"] = examples.labels_of([""] * 90, ["a"])
    amounts = np.zeros((90, 1), np.int64)
    amounts[[7, 40, 80]] = 1
    for seed in range(3):
        options = dict(seed=seed, train_examples=2)
        split = examples.divide(manifest, examples.rarest(amounts), amounts=amounts, **options)
        before = examples.divide(manifest, examples.rarest(amounts), **options)
        assert split[7] == "train" and split[40] == "val" and (split == "unused").sum() == 56
        assert (split == before).sum() >= 86  # one chosen instead of another
        options = dict(seed=seed, train_examples=30)
        every = examples.divide(manifest, examples.rarest(amounts), amounts=amounts, **options)
        assert every.tolist() == manifest["split"].tolist()
