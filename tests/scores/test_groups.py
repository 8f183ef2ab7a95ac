"""A planted gap between groups is found; where there is none, the largest of many counts as chance."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.report import figures
from runner.scores import calibration, classification, groups

CLASSES = ("<b>", "p:x", "7", "", "naïve, yes", "six")


def predictions_of(accuracies, classes=CLASSES, seed=0):
    """A prediction table with an example per accuracy, which is right with this probability."""
    random = np.random.default_rng(seed)
    accuracies = np.asarray(accuracies)
    number = len(classes)
    truth = random.integers(0, number, len(accuracies))
    predicted = (
        truth + (random.random(len(truth)) >= accuracies) * random.integers(1, number, len(truth))
    ) % number
    logits = random.normal(size=(len(truth), number))
    logits[np.arange(len(truth)), predicted] = logits.max(axis=1) + random.random(len(truth))
    return classification._table("model", 100 + np.arange(len(truth)), truth, logits, list(classes))


def test_one_group_has_the_numbers_of_the_whole_table():
    predictions = predictions_of(np.full(200, 0.7))
    row = groups.per_group(predictions, ["all"] * 200, CLASSES).iloc[0]
    whole = classification.metrics(predictions, CLASSES)
    for name in whole:
        if not name.endswith("_interval"):
            assert row[name] == pytest.approx(whole[name])
    error = calibration.error(predictions, CLASSES)
    assert row["expected_calibration_error"] == error["expected_calibration_error"]
    low, high = error["expected_calibration_error_interval"]
    assert (row["expected_calibration_error_low"], row["expected_calibration_error_high"]) == (low, high)
    width = np.diff(whole["macro_f1_interval"])[0]
    for place, end in enumerate(("low", "high")):
        assert row[f"macro_f1_{end}"] == pytest.approx(whole["macro_f1_interval"][place], abs=0.1 * width)
        assert row[f"accuracy_{end}"] == pytest.approx(whole["accuracy_interval"][place], abs=0.15 * width)


def test_each_group_has_the_numbers_of_its_own_rows_and_the_worst_comes_first():
    predictions = predictions_of(np.repeat([0.9, 0.4, 0.7], [60, 50, 40]))
    of = np.repeat(["good", "bad", ""], [60, 50, 40])
    shuffled = np.random.default_rng(0).permutation(150)
    predictions, of = predictions.iloc[shuffled].reset_index(drop=True), of[shuffled]
    table = groups.per_group(predictions, of, CLASSES)
    assert table["group"].tolist() == ["bad", "good"] and table["examples"].tolist() == [50, 60]
    for row in table.to_dict("records"):
        whole = classification.metrics(predictions[of == row["group"]], CLASSES)
        for name in whole:
            if not name.endswith("_interval"):
                assert row[name] == pytest.approx(whole[name])
                if name != "examples":
                    assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_a_column_of_the_manifest_is_matched_by_id():
    predictions = predictions_of(np.full(30, 0.5)).sample(frac=1, random_state=1)
    manifest = pd.DataFrame(
        {"group": [f"patient {number % 4}" if number % 5 else "" for number in range(200)]}
    )
    found = groups.names(predictions, manifest["group"])
    expected = [f"patient {number % 4}" if number % 5 else "" for number in predictions["id"]]
    assert found.tolist() == expected
    assert groups.names(predictions, expected).tolist() == expected


def test_names_read_back_from_csv_are_those_written(tmp_path):
    predictions = predictions_of([0.5] * 4)
    for written in (["7", "", "7", "12"], ["7", "8", "9", "9"], ["<b>", "", "a,b", "7.50"]):
        pd.DataFrame({"group": written}).to_csv(tmp_path / "manifest.csv", index=False)
        read = pd.read_csv(tmp_path / "manifest.csv")["group"]
        assert groups.names(predictions, read.to_numpy()).tolist() == written
    assert groups.names(predictions, [None, np.nan, 3, "x"]).tolist() == ["", "", "3", "x"]


def test_few_examples_are_marked_and_their_interval_is_wide():
    predictions = predictions_of(np.ones(32))
    table = groups.per_group(predictions, ["two"] * 2 + ["thirty"] * 30, CLASSES).set_index("group")
    assert table["few"].to_dict() == {"two": True, "thirty": False}
    assert table.loc["two", ["accuracy", "accuracy_low", "accuracy_high"]].tolist() == pytest.approx(
        [1, 0.342, 1], abs=1e-3
    )
    assert table["accuracy_low"]["thirty"] > 0.85
    # A bootstrap of thirty right examples has no spread: that is not certainty, so it gives no interval.
    for name, thirty in (
        ("macro_f1", True),
        ("weighted_recall", True),
        ("expected_calibration_error", False),
    ):
        assert table[name].notna().all()
        for end in ("low", "high"):
            assert table[f"{name}_{end}"].isna().to_dict() == {"two": True, "thirty": thirty}


def test_a_planted_gap_is_found_and_named():
    of = np.repeat(["a", "b", "c", ""], 100)
    predictions = predictions_of(np.repeat([0.85, 0.55, 0.8, 0.1], 100))
    found = groups.largest_gap(predictions, of, CLASSES, permutations=300)
    for name in ("accuracy", "macro_f1"):
        gap = found[name]
        assert (gap["lowest"], gap["highest"]) == ("b", "a") and gap["p_value"] == pytest.approx(1 / 301)
        assert gap["gap"] == pytest.approx(gap["highest_value"] - gap["lowest_value"])
        assert 0 < gap["gap_interval"][0] < gap["gap"] < gap["gap_interval"][1] < 0.6
        whole = classification.metrics(predictions[of == "b"], CLASSES)
        assert gap["lowest_value"] == pytest.approx(whole[name])
    assert (found["groups"], found["examples"], found["too_small"], found["without_group"]) == (
        3,
        300,
        0,
        100,
    )
    assert json.loads(json.dumps(found)) == found


def test_where_no_group_differs_the_p_value_is_uniform():
    of = np.repeat([f"group {number}" for number in range(12)], 25)
    values = {"accuracy": [], "macro_f1": []}
    for seed in range(80):
        predictions = predictions_of(np.full(300, 0.75), seed=seed)
        found = groups.largest_gap(predictions, of, CLASSES, permutations=60, resamples=10, seed=seed)
        assert found["accuracy"]["gap"] > 0.1  # the largest of many gaps is never small
        for name in values:
            values[name].append(found[name]["p_value"])
    for name in values:
        # The mean of 80 uniform values has a deviation of 0.032; equal gaps raise accuracy's a little.
        assert 0.40 < np.mean(values[name]) < 0.66
        assert np.mean(np.array(values[name]) <= 0.1) < 0.22


def test_groups_too_small_to_compare_are_left_out_of_the_gap():
    of = [f"patient {number // 2}" for number in range(60)] + ["a"] * 40 + ["b"] * 40
    predictions = predictions_of(np.full(140, 0.7))
    found = groups.largest_gap(predictions, of, CLASSES, permutations=50)
    assert (found["groups"], found["examples"], found["too_small"]) == (2, 80, 30)
    assert found["accuracy"]["gap"] == 0 and found["accuracy"]["p_value"] == 1  # both have 27 of 40 right
    assert {found["accuracy"]["lowest"], found["accuracy"]["highest"]} == {"a", "b"}
    alone = groups.largest_gap(predictions.head(60), of[:60], CLASSES)
    assert alone["accuracy"] is None and alone["macro_f1"] is None and alone["too_small"] == 30


def test_what_cannot_be_read_is_said_in_one_line():
    predictions = predictions_of([0.5] * 4)
    for call, words in (
        (lambda: groups.per_group(predictions, ["a"] * 3, CLASSES), "3 groups for 4 predictions"),
        (lambda: groups.per_group(predictions, pd.Series(["a"] * 103), CLASSES), "id 103 .*1 of 4 ids"),
        (lambda: groups.per_group(predictions, [""] * 4, CLASSES), "None of the 4 predictions"),
        (lambda: groups.largest_gap(predictions.head(0), [], CLASSES), "without rows"),
        (lambda: groups.per_group(predictions, ["a"] * 4, ("x", "y")), "none of the 2 classes"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_hundreds_of_groups_of_ten_thousand_examples_take_seconds():
    predictions = predictions_of(np.full(10_000, 0.8))
    of = [f"patient {number}" for number in np.random.default_rng(0).integers(0, 400, 10_000)]
    started = time.process_time()
    assert len(groups.per_group(predictions, of, CLASSES)) == 400
    groups.largest_gap(predictions, of, CLASSES)
    assert time.process_time() - started < 10


def test_the_plot_shows_at_most_twenty_groups_and_counts_the_others():
    predictions = predictions_of(np.full(300, 0.8))
    names = ["$x^2$ <b>" + "a" * 60, *(f"patient {number}" for number in range(49))]
    table = groups.per_group(predictions, np.array(names)[np.arange(300) % 50], CLASSES, resamples=10)
    axes = figures.group_bars(table, 0.8).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 21 and labels[10] == "… 30 more …"
    assert labels[0].startswith(str(table["group"][0])[:20]) and max(map(len, labels)) <= 31
    ordered = figures.group_bars(table.sort_values("group").head(3), 0.8)
    svg = figures.inline_svg(ordered, "Accuracy per group.", "groups")
    assert "$x^2$ &lt;b&gt;aaa" in svg and "more" not in svg
