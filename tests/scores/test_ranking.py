"""The area under the ROC curve and its intervals, where the answer is known."""

import numpy as np
import pytest
import sklearn.metrics

from runner.scores import ranking


def two(scores):
    return np.stack([1 - np.asarray(scores), np.asarray(scores)], axis=1)


def test_a_small_case_by_hand():
    # Pairs of 1 with 0: .9 > .8, .9 > .3, .4 < .8, .4 > .3; a tie counts half.
    assert ranking.area(np.array([1, 1, 0, 0]), two([0.9, 0.4, 0.8, 0.3])).value == 0.75
    assert ranking.area(np.array([1, 0]), two([0.5, 0.5])).value == 0.5
    assert np.isnan(ranking.area(np.array([1, 1]), two([0.5, 0.4])).value)
    perfect = ranking.area(np.array([1, 1, 0, 0]), two([0.9, 0.8, 0.2, 0.1]))
    assert perfect.value == 1 and perfect.high == 1 and 0.5 < perfect.low < 1


def test_it_is_scikit_learns_also_of_three_classes_with_ties():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    p = random.dirichlet([1, 1, 1], 200).round(1) + 1e-9
    p /= p.sum(axis=1, keepdims=True)
    p = p.round(3)
    wanted = np.mean([sklearn.metrics.roc_auc_score(labels == one, p[:, one]) for one in range(3)])
    assert ranking.area(labels, p).value == pytest.approx(wanted)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Scores of the class are N(1, 1), of others N(0, 1): the area is Phi(1 / sqrt 2) = .760.
    random, inside = np.random.default_rng(1), 0
    for _ in range(400):
        labels = (random.random(120) < 0.3).astype(int)
        found = ranking.area(labels, two(random.normal(labels)))
        inside += found.low <= 0.7602 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_a_difference_of_the_same_model_is_nothing_and_rows_that_repeat_say_no_more():
    random = np.random.default_rng(2)
    labels = (random.random(300) < 0.4).astype(int)
    first, second = two(random.normal(labels)), two(random.normal(2 * labels))
    assert tuple(ranking.difference(labels, first, first)) == (0, 0, 0)
    apart = ranking.difference(labels, first, second)
    assert 0 < apart.low < apart.value < apart.high
    four = np.tile(np.arange(300), 4)
    again = ranking.area(np.tile(labels, 4), np.tile(first, (4, 1)), four)
    once = ranking.area(labels, first)
    assert again.low == pytest.approx(once.low, abs=1e-3) and again.high == pytest.approx(once.high, abs=1e-3)
