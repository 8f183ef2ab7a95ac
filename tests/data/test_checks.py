"""Each fault that is planted among examples of any kind is named, and data without it raises no alarm."""

import numpy as np
import pandas as pd
import pytest

from runner.data import checks, examples, pairs, remarks, splits


def manifest(labels, **columns) -> pd.DataFrame:
    """An example to train on per label, each with content of its own, unless columns say otherwise."""
    count = len(labels)
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(count)], "label": pd.Categorical(list(labels))})
    facts = dict(split="train", group="", sha256=[f"{i:064}" for i in range(count)])
    return table.assign(**facts | columns)


def table_of(*rows) -> pd.DataFrame:
    return pd.DataFrame([(*row, 12.0) for row in rows], columns=pairs.COLUMNS)


def counts(**classes) -> pd.DataFrame:
    """Examples per class: name=(train, val, test)."""
    table = pd.DataFrame.from_dict(classes, orient="index", columns=["train", "val", "test"])
    return table.assign(unused=0, skipped=0)


def kinds(rows) -> list[str]:
    assert all("\n" not in message for _, _, message in rows)
    return [kind for _, kind, _ in rows]


# ---------------------------------------------------------------- counts and copies


def test_counts_are_of_codes_and_of_amounts():
    table = manifest("aabc", split=["train", "test", "skipped", "val"])
    table["label"] = table["label"].cat.set_categories(["c", "a", "b", "nan"])
    found = checks.count(table, ("c", "a", "b", "nan"))
    assert found.columns.tolist() == list(splits.SPLITS) and found.index.tolist() == ["c", "a", "b", "nan"]
    assert found.to_numpy().tolist() == [
        [0, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]
    table["label"] = pd.Categorical([None] * 4, categories=["c", "a", "b", "nan"])
    assert checks.count(table, ("c", "a", "b", "nan")).to_numpy().sum() == 0  # of no class, and not of "nan"
    amounts = np.array([[2, 0], [1, 1], [0, 0], [0, 3]])
    of_boxes = checks.count(table, ("one", "two"), amounts)
    assert of_boxes[["train", "val", "test"]].to_numpy().tolist() == [[1, 0, 1], [0, 1, 1]]


def test_copies_in_two_splits_or_with_two_labels_are_named():
    table = manifest("aab", split=["train", "test", "train"], sha256=["x", "x", "x"])
    assert kinds(checks.copies(table)) == ["duplicate", "label"]
    assert checks.copies(manifest("aab")) == []
    table["label"] = pd.Categorical([None] * 3, categories=["a", "b"])  # no label is not another label
    assert kinds(checks.copies(table)) == ["duplicate"]


# ---------------------------------------------------------------- pairs


def test_what_is_wrong_comes_first_and_one_of_each_cluster():
    table = manifest("aaaabaaa", split=[*["train"] * 3, "test", "train", "train", "unused", "train"])
    given = table_of(*((a, b, "as it is") for a, b in ((0, 1), (1, 2), (2, 3), (0, 4), (5, 6), (5, 7))))
    torn, argued = pairs.conflicts(given, table)
    assert torn.tolist() == [False, False, True, False, False, False]  # unused stands in no split
    assert argued.tolist() == [False, False, False, True, False, False]
    clusters = pairs.clusters(given, 8)
    ordered = pairs.worst_first(given, table, clusters)[["first", "second"]].to_numpy().tolist()
    assert ordered == [[2, 3], [0, 4], [0, 1], [5, 6], [1, 2], [5, 7]]
    assert pairs.worst_first(pairs.none(), table, clusters).empty


def test_a_chain_is_too_long_above_a_twentieth_and_ten():
    clusters = np.full(300, -1)
    clusters[:15], clusters[20:35], clusters[40:] = 0, 1, -1
    assert not splits.too_large(clusters).any()
    clusters[15] = 0
    assert splits.too_large(clusters).sum() == 16
    assert not splits.too_large(np.array([0] * 10 + [-1] * 10)).any()
    assert not splits.too_large(np.zeros(0, int)).any()


def test_clusters_go_through_others():
    clusters = pairs.clusters(table_of((0, 2, ""), (2, 5, ""), (4, 6, "")), 8)
    assert clusters[1] == clusters[3] == clusters[7] == -1
    assert clusters[0] == clusters[2] == clusters[5] >= 0 and clusters[4] == clusters[6] >= 0
    assert clusters[0] != clusters[4]
    assert pairs.clusters(pairs.none(), 3).tolist() == [-1, -1, -1]


# ---------------------------------------------------------------- class names


@pytest.mark.parametrize(
    "one, other, words",
    [
        (("Cat", 50), ("cat", 50), "differ in case only"),
        (("cat ", 50), ("cat", 50), "white space"),
        (("red fox", 50), ("red  fox", 50), "white space"),
        (("red_fox", 50), ("Red-Fox", 50), "white space"),
        (("caf\u00e9", 50), ("cafe\u0301", 50), "Unicode form"),
        (("roses m²", 50), ("roses m2", 50), "spelling"),
        (("rose", 50), ("roses", 50), "singular and plural"),
        (("fox", 50), ("foxes", 50), "singular and plural"),
        (("cherry", 50), ("cherries", 50), "singular and plural"),
        (("dandelion", 50), ("dandelon", 50), "one letter apart"),
        (("dandelion", 50), ("dandeloin", 50), "one letter apart"),
        (("sunflower", 50), ("sunflowar", 3), "one letter apart"),
        (("cat", 500), ("cst", 2), "one letter apart"),
    ],
)
def test_names_of_one_class_are_found(one, other, words):
    rows = checks.class_names(pd.Series(dict([one, other, ("tulip", 50)])))
    assert kinds(rows) == ["label"] and words in rows[0][2] and repr(one[0]) in rows[0][2]


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "rat", "bat"),
        ("class1", "class2", "class10"),
        ("image 01", "image 02"),
        ("grade A", "grade B", "grade AB"),
        ("0", "1", "10", "11"),
        ("a", "b", "c"),
        ("rose", "nose"),
        ("type_i", "type_ii", "type_iii"),
        ("stage 1s", "stage 2s"),
        ("日", "目"),
        ("-", "_", "+"),
    ],
)
def test_names_of_different_classes_are_let_be(names):
    assert checks.class_names(pd.Series(dict.fromkeys(names, 50))) == []


@pytest.mark.parametrize("name", ["nan", "NULL", "N/A", "None", "<NA>"])
def test_what_stands_for_a_missing_value_gets_a_remark(name):
    ((path, kind, message),) = checks.class_names(pd.Series({"rose": 50, name: 7}), "rows")
    assert (path, kind) == ("", "label")
    assert message.startswith(f"class {name!r} (7 rows) is what programs write where a value is missing")


def test_names_that_are_equal_as_numbers_get_a_remark():
    rows = checks.class_names(pd.Series(dict.fromkeys(["1", "1.0", "01", "2", "1e5", "nancy"], 5)))
    assert [message for *_, message in rows] == [
        "classes '1', '1.0', '01' are equal as numbers: merge them if they are one"
    ]


def test_ten_thousand_names_take_a_moment():
    random = np.random.default_rng(0)
    names = {"".join(chr(97 + i) for i in random.integers(0, 26, 12)) for _ in range(10_000)}
    assert checks.class_names(pd.Series(dict.fromkeys(names, 5))) == []


# ---------------------------------------------------------------- class sizes


def test_sizes_that_are_wrong_are_told():
    fine = dict(a=(60, 30, 30), b=(50, 30, 30))
    assert checks.class_sizes(counts(**fine)) == []
    rows = checks.class_sizes(counts(**fine, c=(3, 20, 20)))
    assert kinds(rows) == ["tiny", "imbalance"] and "'c' 3" in rows[0][2] and "'a' has 60" in rows[1][2]
    rows = checks.class_sizes(counts(**fine, c=(40, 0, 4)))
    assert kinds(rows) == ["missing", "tiny"]
    # Clopper and Pearson's interval of 4 right of 4 begins at the fourth root of 0.025.
    assert "4 right of 4" in rows[1][2] and "40 to 100 %" in rows[1][2]
    rows = checks.class_sizes(counts(a=(60, 12, 30), b=(60, 13, 30)))
    assert kinds(rows) == ["tiny"] and "val has 25" in rows[0][2] and "4.0 points" in rows[0][2]
    assert kinds(checks.class_sizes(counts(a=(60, 30, 30), b=(12, 30, 30)))) == ["imbalance"]


def test_messages_speak_of_the_kind_of_example():
    rows = checks.class_sizes(counts(a=(60, 12, 30), b=(3, 13, 5)), "rows")
    assert kinds(rows) == ["tiny"] * 3 + ["imbalance"]
    assert all("rows" in message and "picture" not in message for _, _, message in rows)
    assert "one row moves" in rows[2][2]
    rows = checks.rare_classes(counts(a=(60, 12, 30), b=(3, 13, 0)), "sentences")
    assert kinds(rows) == ["missing", "tiny"] and "in no test sentence" in rows[0][2]


def test_the_terminal_says_how_many_problems_of_which_severity_and_where():
    assert remarks.in_words(examples.problems([]), "x") == ["data: nothing was found wrong with it"]
    told = examples.problems(
        [
            ("a.png", "converted", "m"),
            ("", "tiny", "few"),
            ("b.png", "near-duplicate", "m"),
            ("", "near-duplicate", "22 pairs stand in two splits"),
            ("c.png", "unreadable", "m"),
        ]
    )
    assert remarks.in_words(told, "runs/x/problems.csv") == [
        "data: 5 problems: 2 serious (2 near-duplicate); 1 to look at (1 unreadable); 2 for your information "
        "(1 converted, 1 tiny); read them in runs/x/problems.csv",
        "  serious: 22 pairs stand in two splits",
        "  for your information: few",
    ]
    of_files = remarks.in_words(told[told["path"] != ""], "x")
    assert of_files == [
        "data: 3 problems: 1 serious (1 near-duplicate); 1 to look at (1 unreadable); 1 for your "
        "information (1 converted); read them in x"
    ]
    two = pd.concat([told.assign(domain="target")] * 7, ignore_index=True)
    lines = remarks.in_words(two, "x")
    assert lines[1].startswith("  target, serious: 22") and lines[-1] == "  and 2 more on the whole set"
    assert remarks.graded(told)["severity"].tolist()[:3] == ["for your information"] * 2 + ["serious"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "val (15 %) and test (25 %) carved from all"),
        (("train", "test"), "val (15 %) carved from train, test as given"),
        (("train", "val", "test"), "val and test as given"),
    ],
)
def test_which_splits_were_carved_is_said(given, words):
    assert splits.carved_in_words(given, 0.15, 0.25) == words
    assert splits.carved_in_words(given, 0.0, 1) == ""
