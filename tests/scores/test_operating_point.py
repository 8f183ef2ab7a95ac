"""The curves and areas are scikit-learn's, and the threshold is the best of the examples it was chosen on."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from runner.errors import InputError
from runner.report import figures
from runner.scores import classification, operating_point

CLASSES = ("p:x", "<b>")


def table(truth, scores, classes=CLASSES):
    """A prediction table in which the second class has the probabilities `scores`."""
    logits = np.stack([np.zeros(len(scores)), scipy.special.logit(np.asarray(scores, np.float64))], axis=1)
    return classification._table(
        "model", np.arange(len(truth)), np.asarray(truth).astype(int), logits, list(classes)
    )


def random_table(examples=300, seed=0, positives=0.3, classes=CLASSES, digits=None):
    random = np.random.default_rng(seed)
    truth = random.random(examples) < positives
    scores = scipy.special.expit(random.normal(size=examples) + 1.5 * truth - 1)
    return table(truth, scores if digits is None else scores.round(digits), classes), truth


@pytest.mark.parametrize("digits", [None, 1])  # with one digit many scores are equal
def test_curves_and_areas_are_scikit_learns(digits):
    predictions, truth = random_table(digits=digits)
    scores = predictions["p:<b>"].to_numpy()
    roc, precision_recall = operating_point.curves(predictions, "<b>")
    areas = operating_point.areas(predictions, "<b>", resamples=200)
    assert areas["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores))
    assert areas["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(truth, scores))
    assert areas["roc_auc"] == pytest.approx(
        sklearn.metrics.auc(roc["false_positive_rate"], roc["true_positive_rate"])
    )
    steps = np.diff(precision_recall["recall"]) * precision_recall["precision"][1:]
    assert areas["average_precision"] == pytest.approx(steps.sum())
    for curve in (roc, precision_recall):
        assert curve["threshold"][0] == np.inf and (np.diff(curve["threshold"][1:]) < 0).all()
    assert (areas["positives"], areas["negatives"]) == (truth.sum(), (~truth).sum())
    assert json.loads(json.dumps(areas)) == areas


def test_the_intervals_of_the_areas_are_those_of_resampled_examples():
    predictions, truth = random_table(digits=1)
    scores = predictions["p:<b>"].to_numpy()
    areas = operating_point.areas(predictions, "<b>", resamples=4000)
    random, direct = np.random.default_rng(1), []
    for _ in range(600):
        drawn = np.concatenate(
            [random.choice(np.flatnonzero(truth == side), np.sum(truth == side)) for side in (True, False)]
        )
        direct.append(
            (
                sklearn.metrics.roc_auc_score(truth[drawn], scores[drawn]),
                sklearn.metrics.average_precision_score(truth[drawn], scores[drawn]),
            )
        )
    for name, values in zip(("roc_auc", "average_precision"), np.transpose(direct), strict=True):
        expected = np.percentile(values, [2.5, 97.5])
        np.testing.assert_allclose(areas[f"{name}_interval"], expected, atol=0.6 * values.std())
        assert np.diff(areas[f"{name}_interval"]) == pytest.approx(3.92 * values.std(), rel=0.15)


@pytest.mark.parametrize(
    "criterion", ["youden", "f1", "specificity:0.8", "sensitivity:.9", "specificity:0.999"]
)
@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better_on_the_examples_it_was_chosen_on(criterion, seed):
    predictions, truth = random_table(80, seed)
    scores = predictions["p:<b>"].to_numpy()

    def quality(threshold):
        called = scores >= threshold
        if criterion == "f1":
            return sklearn.metrics.f1_score(truth, called, zero_division=0)
        shares = {"sensitivity": called[truth].mean(), "specificity": (~called[~truth]).mean()}
        if ":" in criterion:
            held, share = criterion.split(":")
            (other,) = shares.keys() - {held}
            return (shares[held] >= float(share), shares[other] if shares[held] >= float(share) else 0)
        return called[truth].mean() - called[~truth].mean()

    chosen = operating_point.choose(predictions, "<b>", criterion)
    midways = (np.unique(scores)[1:] + np.unique(scores)[:-1]) / 2
    assert quality(chosen) == pytest.approx(max(quality(one) for one in [0, *midways]))
    assert np.abs(scores - chosen).min() > 0  # midway: no example stands on it


def test_rare_positives_lower_the_threshold_of_f1_only():
    often, rarely = (random_table(20_000, positives=share)[0] for share in (0.5, 0.02))
    youden = [operating_point.choose(one, "<b>", "youden") for one in (often, rarely)]
    f1 = [operating_point.choose(one, "<b>", "f1") for one in (often, rarely)]
    assert youden[0] == pytest.approx(youden[1], abs=0.08)
    assert f1[0] < f1[1] - 0.15


def test_classes_that_are_told_apart_fully_get_the_line_midway():
    predictions = table([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9])
    assert operating_point.choose(predictions, "<b>") == pytest.approx(0.4, abs=1e-6)
    upside_down = table([1, 1, 0, 0], [0.1, 0.2, 0.6, 0.9])
    assert operating_point.choose(upside_down, "<b>", "f1") == 0.0  # everything is called positive
    assert operating_point.choose(predictions, "p:x") == pytest.approx(0.6, abs=1e-6)


def test_a_threshold_gives_scikit_learns_numbers_and_wilsons_intervals():
    predictions, truth = random_table()
    called = predictions["p:<b>"].to_numpy() >= 0.4
    found = operating_point.at(predictions, "<b>", 0.4)
    assert [found[name] for name in ("true_negatives", "false_positives", "false_negatives")] + [
        found["true_positives"]
    ] == sklearn.metrics.confusion_matrix(truth, called).ravel().tolist()
    assert found["sensitivity"] == pytest.approx(sklearn.metrics.recall_score(truth, called))
    assert found["specificity"] == pytest.approx(sklearn.metrics.recall_score(~truth, ~called))
    assert found["precision"] == pytest.approx(sklearn.metrics.precision_score(truth, called))
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(truth, called))
    expected = scipy.stats.binomtest(int(called[truth].sum()), int(truth.sum())).proportion_ci(
        method="wilson"
    )
    assert found["sensitivity_interval"] == pytest.approx([expected.low, expected.high])
    assert found["f1_interval"][0] < found["f1"] < found["f1_interval"][1]
    assert json.loads(json.dumps(found)) == found


def test_examples_of_one_class_give_none_and_no_error():
    predictions = table([1, 1, 1], [0.2, 0.6, 0.9])
    assert operating_point.curves(predictions, "<b>") is None
    assert operating_point.areas(predictions, "<b>") is None
    assert operating_point.choose(predictions, "<b>") is None
    found = operating_point.at(predictions, "<b>", 0.5)
    assert found["specificity"] is None and found["specificity_interval"] is None
    assert found["sensitivity"] == pytest.approx(2 / 3) and found["precision"] == 1
    nothing = operating_point.at(predictions, "p:x", 0.95)
    assert (nothing["sensitivity"], nothing["precision"], nothing["f1"]) == (None, None, None)


def test_a_table_read_back_from_csv_gives_the_same_numbers(tmp_path):
    predictions, _ = random_table(classes=("0", "1"))
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    again = pd.read_csv(tmp_path / "predictions.csv")  # the labels are integers now
    threshold = operating_point.choose(predictions, "1")
    assert operating_point.choose(again, 1) == pytest.approx(threshold, rel=1e-6)
    assert operating_point.at(again, 1, threshold) == operating_point.at(predictions, "1", threshold)
    assert operating_point.areas(again, 1) == operating_point.areas(predictions, "1")


def test_what_cannot_be_read_is_said_in_one_line():
    predictions, _ = random_table(10)
    three = classification._table("model", np.arange(2), np.arange(2), -np.eye(2, 3), ["a", "b", "c"])
    for call, words in (
        (lambda: operating_point.curves(three, "a"), "3 classes"),
        (lambda: operating_point.areas(predictions, "b"), "positive class 'b'; allowed are 'p:x' and '<b>'"),
        (lambda: operating_point.choose(predictions.head(0), "<b>"), "without rows"),
        (lambda: operating_point.choose(predictions, "<b>", "yuden"), "Did you mean 'youden'"),
        (lambda: operating_point.at(predictions, "<b>", 1.5), "threshold 1.5"),
        (lambda: operating_point.at(predictions, "<b>", float("nan")), "threshold nan"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_thousand_resamples_of_ten_thousand_examples_take_under_three_seconds():
    predictions, _ = random_table(10_000)
    started = time.process_time()
    operating_point.areas(predictions, "<b>")
    assert time.process_time() - started < 3


def test_the_plots_mark_the_chosen_point_on_the_curve():
    predictions, truth = random_table()
    roc, precision_recall = operating_point.curves(predictions, "<b>")
    point = operating_point.at(predictions, "<b>", operating_point.choose(predictions, "<b>"))
    for axes, across, up in (
        (figures.roc_curve(roc, point).axes[0], 1 - point["specificity"], point["sensitivity"]),
        (
            figures.precision_recall_curve(precision_recall, truth.mean(), point).axes[0],
            point["sensitivity"],
            point["precision"],
        ),
    ):
        curve, mark = axes.lines[1], axes.lines[2]
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((across, up))
        points = np.transpose(curve.get_data())
        assert np.abs(points - [across, up]).sum(axis=1).min() < 1e-9
    unmarked = figures.roc_curve(roc, point | {"specificity": None}).axes[0]
    assert len(unmarked.lines) == 2 and not unmarked.texts


def test_the_class_to_find_is_one_of_two():
    operating_point.check_positive("", ("a", "b", "c"))
    operating_point.check_positive("spam", ("ham", "spam"))
    for positive, classes, words in (
        ("a", ("a", "b", "c"), "the data has 3 classes"),
        ("spm", ("ham", "spam"), "Did you mean 'spam'"),
    ):
        with pytest.raises(InputError, match=words):
            operating_point.check_positive(positive, classes)


def test_a_decision_curve_by_hand():
    truth = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.3, 0.6, 0.2, 0.1])
    found = operating_point.net_benefit(truth, p, (0.25, 0.5)).set_index("threshold")
    # From .25 on: 2 found, 1 false alarm at odds 1/3. From .5 on: 1 found, 1 false alarm at odds 1.
    assert found.loc[0.25, "net_benefit"] == pytest.approx(2 / 5 - 1 / 5 / 3)
    assert found.loc[0.5, "net_benefit"] == pytest.approx(0)
    assert found.loc[0.25, "act_on_all"] == pytest.approx(2 / 5 - 3 / 5 / 3)
    assert found.loc[0.5, "act_on_all"] == pytest.approx(-1 / 5)


def test_who_knows_everything_finds_all_cases_at_no_cost_and_who_knows_nothing_is_of_no_use():
    truth = np.arange(100) < 30
    perfect = operating_point.net_benefit(truth, truth.astype(float))
    assert perfect["net_benefit"].to_numpy() == pytest.approx(0.3)
    assert operating_point.useful(perfect) == (0.01, 0.99)
    assert operating_point.useful(operating_point.net_benefit(truth, np.full(100, 0.3))) is None
