"""Confidences that are right by construction come out as such, and a known temperature is found again."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from runner.errors import InputError
from runner.report import figures
from runner.scores import calibration, classification, intervals

CLASSES = ("<b>", "p:x", "7", "", "naïve, yes")


def calibrated(examples, classes=CLASSES, seed=0, too_confident=1.0):
    """Labels drawn from softmax(logits), and a table made from `too_confident` times these logits."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(examples, len(classes)))
    chosen = scipy.special.softmax(logits, axis=1).cumsum(axis=1) > random.random((examples, 1))
    return classification._table(
        "model", np.arange(examples), chosen.argmax(axis=1), logits * too_confident, list(classes)
    )


def confident(confidences, right):
    """A table of two classes with these confidences, in which `right` says who is right."""
    confidences = np.asarray(confidences, np.float64)
    logits = np.stack([np.zeros(len(confidences)), scipy.special.logit(confidences)], axis=1)
    return classification._table(
        "model", np.arange(len(right)), np.asarray(right).astype(int), logits, ["a", "b"]
    )


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_factor_on_the_logits(factor):
    found = calibration.temperature(calibrated(5000, too_confident=factor), CLASSES)
    assert found == pytest.approx(factor, rel=0.04) and calibration.remark(found) == ""


def test_the_temperature_is_that_of_the_logits_themselves():
    table = calibrated(400, too_confident=5.0)
    random = np.random.default_rng(0)
    logits = 5.0 * 2 * random.normal(size=(400, len(CLASSES)))
    labels, _ = classification.truth_and_prediction(table, CLASSES)
    grid = np.exp(np.linspace(np.log(3), np.log(8), 4001))
    likelihoods = [
        scipy.special.log_softmax(logits / one, axis=1)[np.arange(400), labels].sum() for one in grid
    ]
    assert calibration.temperature(table, CLASSES) == pytest.approx(grid[np.argmax(likelihoods)], rel=1e-3)


def test_a_temperature_lowers_the_error_of_other_examples_to_what_chance_gives():
    temperature = calibration.temperature(calibrated(1000, too_confident=3.0), CLASSES)
    test = calibrated(1000, seed=1, too_confident=3.0)
    before = calibration.error(test, CLASSES)
    after = calibration.error(calibration.scale(test, temperature, CLASSES), CLASSES)
    assert before["expected_calibration_error_interval"][0] > before["if_calibrated_interval"][1]
    assert after["expected_calibration_error"] < after["if_calibrated_interval"][1]
    assert after["expected_calibration_error_interval"][0] == 0
    for name in ("negative_log_likelihood", "brier"):
        assert after[name] < before[name]


def test_scaling_is_a_softmax_of_divided_logits_and_moves_no_prediction():
    table, sharp = calibrated(300), calibrated(300, too_confident=4.0)
    table["origin"] = "kept"
    scaled = calibration.scale(table, 0.25, CLASSES)
    columns = [f"p:{name}" for name in CLASSES]
    np.testing.assert_allclose(scaled[columns], sharp[columns], rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(scaled["confidence"], scaled[columns].max(axis=1))
    assert scaled[columns].to_numpy().argmax(axis=1).tolist() == table[columns].to_numpy().argmax(
        axis=1
    ).tolist() and scaled["prediction"].equals(table["prediction"])
    assert list(scaled.columns) == list(table.columns) and scaled["p:<b>"].dtype == np.float32
    assert not table["confidence"].equals(scaled["confidence"])  # the table given is left alone


def test_probabilities_that_float32_rounds_to_0_stay_finite():
    table = calibrated(200, too_confident=200.0)
    assert (table.filter(regex="^p:") == 0).to_numpy().any()
    temperature = calibration.temperature(table, CLASSES)
    scaled = calibration.scale(table, temperature, CLASSES)
    assert 5 < temperature <= calibration.HIGHEST_TEMPERATURE
    assert np.isfinite(scaled.filter(regex="^p:")).all(axis=None)
    assert np.isfinite(calibration.error(table, CLASSES)["negative_log_likelihood"])


def test_a_validation_set_that_cannot_fit_a_temperature_ends_at_a_bound_and_says_so():
    easy = confident([0.8, 0.9, 0.7], [True, True, True])
    assert calibration.temperature(easy, ["a", "b"]) == calibration.LOWEST_TEMPERATURE
    wrong = confident([0.8, 0.9, 0.7], [False, False, False])
    assert calibration.temperature(wrong, ["a", "b"]) == calibration.HIGHEST_TEMPERATURE
    for bound in (calibration.LOWEST_TEMPERATURE, calibration.HIGHEST_TEMPERATURE):
        assert f"{bound:g}" in calibration.remark(bound) and "\n" not in calibration.remark(bound)
    alike = confident([0.5, 0.5], [True, False])
    assert calibration.temperature(alike, ["a", "b"]) == 1.0  # no temperature changes anything
    sure = confident([1 - 1e-12], [True])  # 1.0 as float32: nothing left to gain
    assert calibration.temperature(sure, ["a", "b"]) == 1.0


def test_the_error_is_the_gap_between_accuracy_and_confidence_in_bins_of_equal_size():
    # 40 examples of confidence 0.6 of which half are right, 40 of 0.9 which are all right.
    table = confident([0.6] * 40 + [0.9] * 40, [True, False] * 20 + [True] * 40)
    assert calibration.expected_error(table) == pytest.approx((0.1 + 0.1) / 2)
    bins = calibration.reliability(table)
    assert bins["examples"].tolist() == [40, 40] and bins["accuracy"].tolist() == [0.5, 1.0]
    assert bins[["low", "high"]].to_numpy() == pytest.approx(np.array([[0.6, 0.6], [0.9, 0.9]]))
    for row in bins.itertuples():
        expected = scipy.stats.binomtest(round(row.accuracy * 40), 40).proportion_ci(method="wilson")
        assert (row.accuracy_low, row.accuracy_high) == pytest.approx((expected.low, expected.high))
    # One bin cancels what two show: (0.75 right, 0.75 confident).
    assert calibration.expected_error(table, bins=1) == pytest.approx(0, abs=1e-6)


def test_bins_have_equal_sizes_whatever_the_order_of_the_rows():
    table = calibrated(600)
    sizes = calibration.reliability(table, bins=12)["examples"]
    assert len(sizes) == 12 and sizes.between(49, 51).all()
    assert len(calibration.reliability(table.head(90))) == 4  # of at least 20
    coarse = table.assign(confidence=table["confidence"].round(1))
    shuffled = coarse.sample(frac=1, random_state=0)
    assert calibration.expected_error(coarse) == pytest.approx(calibration.expected_error(shuffled))


def test_a_calibrated_model_shows_the_error_that_is_announced_for_it():
    found = [calibration.error(calibrated(200, seed=seed), CLASSES, resamples=100) for seed in range(60)]
    errors = [one["expected_calibration_error"] for one in found]
    announced = [one["if_calibrated"] for one in found]
    assert min(errors) > 0.02  # never 0, though these are calibrated
    assert np.mean(errors) == pytest.approx(np.mean(announced), rel=0.1)
    beyond = [one["expected_calibration_error"] > one["if_calibrated_interval"][1] for one in found]
    assert np.mean(beyond) < 0.12
    assert np.mean([one["expected_calibration_error_interval"][0] == 0 for one in found]) > 0.88


def test_the_interval_of_the_error_holds_its_true_value():
    true = calibration.expected_error(calibrated(200_000, seed=1000, too_confident=1.6))
    held = 0
    for seed in range(60):
        found = calibration.error(calibrated(400, seed=seed, too_confident=1.6), CLASSES, resamples=200)
        low, high = found["expected_calibration_error_interval"]
        assert low <= found["expected_calibration_error"] <= high
        held += low <= true <= high
    assert held >= 49  # 0.82 of 60


def test_likelihood_and_brier_score_are_scikit_learns():
    table = calibrated(300)
    probabilities = table[[f"p:{name}" for name in CLASSES]].to_numpy(np.float64)
    labels, _ = classification.truth_and_prediction(table, CLASSES)
    found = calibration.error(table, CLASSES)
    normalised = probabilities / probabilities.sum(axis=1, keepdims=True)  # off by float32's rounding
    assert found["negative_log_likelihood"] == pytest.approx(
        sklearn.metrics.log_loss(labels, normalised, labels=range(5)), rel=1e-5
    )
    assert found["brier"] == pytest.approx(np.mean(((probabilities - np.eye(5)[labels]) ** 2).sum(axis=1)))
    assert found["examples"] == 300 and json.loads(json.dumps(found)) == found


def test_a_table_read_back_from_csv_gives_the_same_numbers(tmp_path):
    digits = ["0", "1", "2"]
    table = calibrated(200, digits)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    again = pd.read_csv(tmp_path / "predictions.csv")
    assert calibration.temperature(again, digits) == pytest.approx(calibration.temperature(table, digits))
    expected = calibration.error(table, digits)
    for name, value in calibration.error(again, digits).items():
        assert value == pytest.approx(expected[name], rel=1e-5)


def test_what_cannot_be_read_is_said_in_one_line():
    table = calibrated(10)
    for call, words in (
        (lambda: calibration.error(table.head(0), CLASSES), "without rows"),
        (lambda: calibration.reliability(table.head(0)), "without rows"),
        (lambda: calibration.temperature(table.head(0), CLASSES), "without rows"),
        (lambda: calibration.expected_error(table, bins=0), "bins=0"),
        (lambda: calibration.scale(table, 0.0, CLASSES), "temperature 0.0"),
        (lambda: calibration.scale(table, 2.0, ("cat", "dog")), "no column 'p:cat'"),
        (lambda: calibration.temperature(table, ("cat", "dog")), "none of the 2 classes"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_thousand_resamples_of_ten_thousand_examples_take_under_two_seconds():
    table = calibrated(10_000)
    started = time.process_time()
    calibration.error(table, CLASSES)
    assert time.process_time() - started < 2


def test_the_share_of_counted_examples_has_wilsons_interval():
    counts = [(0, 5), (2, 2), (3, 10), (50, 100)]
    low, high = intervals.wilson(*np.transpose(counts))
    for place, (successes, examples) in enumerate(counts):
        expected = scipy.stats.binomtest(successes, examples).proportion_ci(method="wilson")
        assert (low[place], high[place]) == pytest.approx((expected.low, expected.high))
    assert [float(end) for end in intervals.wilson(0, 0)] == [0, 1]


def test_the_numbers_need_no_tensorflow():
    code = (
        "import sys; from runner.report import figures, page; "
        "from runner.scores import assessment, calibration, classification, groups, operating_point; "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_plot_shows_every_bin_before_and_after():
    table = calibrated(300, too_confident=3.0)
    before = calibration.reliability(table)
    after = calibration.reliability(calibration.scale(table, 3.0, CLASSES))
    axes = figures.reliability_plot(before, after).axes[0]
    assert [len(one.lines[0].get_xdata()) for one in axes.containers] == [15, 15]
    assert list(axes.containers[1].lines[0].get_ydata()) == after["accuracy"].tolist()
    svg = figures.inline_svg(figures.reliability_plot(before), 'a "description"', "reliability")
    assert "with temperature" not in svg and "as trained" in svg
