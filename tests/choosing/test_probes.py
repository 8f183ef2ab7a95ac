"""The probes answer each example by what was fitted without it, and the intervals are as wide as they should
be.
"""

import numpy as np
import pytest

from runner.choosing import probes


def clusters(examples: int, width: int, apart: float = 2.0, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = np.arange(examples) % 3
    centres = random.normal(size=(3, width)) * apart
    return (centres[labels] + random.normal(size=(examples, width))).astype(np.float32), labels


def test_parts_hold_each_class_evenly_and_groups_whole():
    labels = np.repeat([0, 1, 2], [50, 10, 25])
    parts = probes.folds(labels)
    counts = np.array([np.bincount(parts[labels == one], minlength=probes.FOLDS) for one in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    whole = np.arange(85) // 5
    grouped = probes.folds(labels, whole)
    assert all(len(set(grouped[whole == one])) == 1 for one in range(17)) and len(set(grouped)) == 5
    assert len(set(probes.folds(labels, np.zeros(85, int)))) == 1  # all belong together


@pytest.mark.parametrize(("examples", "width", "apart"), [(40, 6, 0.7), (20, 60, 0.2)])
def test_the_linear_probe_answers_as_one_that_is_solved_without_the_part(examples, width, apart, monkeypatch):
    features, labels = clusters(examples, width, apart)
    parts = probes.folds(labels)
    monkeypatch.setattr(probes, "PENALTIES", (0.1,))
    values = (features - features.mean(0, dtype=float)) / features.std(0, dtype=float)
    values /= np.sqrt((values**2).sum(1).mean())
    values = np.column_stack([values, np.ones(examples)])
    expected = np.zeros(examples, int)
    for part in range(probes.FOLDS):
        within, without = parts == part, parts != part
        targets = (labels[without, None] == np.arange(3)).astype(float)
        normal = values[without].T @ values[without] + 0.1 * np.eye(width + 1)
        weights = np.linalg.solve(normal, values[without].T @ targets)
        expected[within] = (values[within] @ weights).argmax(1)
    assert (probes.linear(features, labels, parts) == expected).all()
    assert 0 < (expected == labels).mean() < 1  # so that the answers say something


def test_the_linear_probe_does_not_see_the_labels_that_it_answers():
    """Of features that say nothing it is right by chance, however many they are."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    found = probes.linear(random.normal(size=(300, 500)).astype(np.float32), labels, probes.folds(labels))
    assert abs((found == labels).mean() - 1 / 3) < 0.1


def test_neighbours_vote_and_those_of_the_own_part_have_no_voice():
    """Twelve on a circle, three clusters; each's own part holds the one next to it."""
    labels = np.repeat([0, 1, 2], 4)
    angles = labels * 2.1 + np.tile([0, 0.01, 0.2, 0.21], 3)
    features = np.column_stack([np.cos(angles), np.sin(angles)])
    parts = np.tile([0, 0, 1, 1], 3)
    assert (probes.neighbours(features, labels, parts) == labels).all()
    alone = np.array([0, 1, 1, 1])
    assert probes.neighbours(np.eye(4), alone, np.arange(4) % 2)[0] == 1  # a class of one cannot be answered
    assert (probes.neighbours(np.eye(4), alone, np.zeros(4, int)) == -1).all()


def test_few_labels_and_constant_features_are_answered():
    labels = np.repeat(np.arange(3), 5)
    for features in (np.ones((15, 4), np.float32), clusters(15, 4)[0]):
        assert probes.linear(features, labels, probes.folds(labels)).shape == (15,)
        assert probes.neighbours(features, labels, probes.folds(labels)).shape == (15,)


def test_the_error_by_halves_is_that_of_a_mean():
    values, labels = np.random.default_rng(0).normal(size=400), np.zeros(400, int)
    error = probes.halves(lambda rows: float(values[rows].mean()), labels)
    assert error == pytest.approx(values.std() / 20, rel=0.3)  # of 40 halves: 2.7 standard errors
    whole = np.arange(400) // 4
    together = probes.halves(lambda rows: float(values[whole][rows].mean()), labels, whole)
    assert together > 1.4 * error  # a group of four counts as one


def test_resamples_pair_the_sources():
    right = np.random.default_rng(1).random(200) < 0.7
    first, second = probes.resampled([right, right])
    assert (first == second).all() and first.std() == pytest.approx(np.sqrt(0.21 / 200), rel=0.1)
