"""The scores are what their papers define: against slow, direct computations, cases known by hand, and what
may not change them.
"""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from runner.choosing import transferability
from runner.errors import InputError


def clusters(examples: int, width: int, classes: int = 3, apart: float = 1.0, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = np.arange(examples) % classes
    centres = random.normal(size=(classes, width)) * apart
    return centres[labels] + random.normal(size=(examples, width)), labels


def rotation(width: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(5).normal(size=(width, width)))[0]


# ---------------------------------------------------------------- LogME


def log_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """The maximum over both precisions of the density of the targets, written down as the normal it is."""

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = features @ features.T / alpha + np.eye(len(targets)) / beta
        return -multivariate_normal(np.zeros(len(targets)), covariance).logpdf(targets)

    starts = [[a, b] for a in (-2.0, 2.0, 5.0) for b in (-1.0, 2.0, 5.0)]
    found = [minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-4}).fun for start in starts]
    return -min(found)


@pytest.mark.parametrize(("examples", "width"), [(24, 4), (15, 30)])
def test_logme_is_the_best_evidence_of_a_normal_model(examples, width):
    features, labels = clusters(examples, width)
    expected = np.mean([log_evidence(features, (labels == one).astype(float)) for one in range(3)]) / examples
    assert transferability.logme(features, labels) == pytest.approx(expected, abs=2e-4)


def test_logme_is_what_the_papers_iteration_ends_at():
    features, labels = clusters(60, 8)
    evidences = []
    for one in range(3):
        y, (examples, width) = (labels == one).astype(float), features.shape
        alpha = beta = 1.0
        for _ in range(500):
            a = alpha * np.eye(width) + beta * features.T @ features
            m = beta * np.linalg.solve(a, features.T @ y)
            gamma = np.trace(beta * np.linalg.solve(a, features.T @ features))
            residual = ((features @ m - y) ** 2).sum()
            alpha, beta = gamma / (m @ m), (examples - gamma) / residual
        logs = width * np.log(alpha) + examples * np.log(beta / (2 * np.pi)) - np.linalg.slogdet(a)[1]
        evidences.append((logs - beta * residual - alpha * m @ m) / 2 / examples)
    assert transferability.logme(features, labels) == pytest.approx(np.mean(evidences), abs=2e-4)


def test_logme_of_features_that_say_nothing_is_that_of_the_constant_model():
    """All zero: y ~ N(0, q I) with q = mean y^2 = 1/2, whose log density at the best q is known."""
    labels = np.arange(20) % 2
    expected = -(np.log(2 * np.pi * 0.5) + 1) / 2
    assert transferability.logme(np.zeros((20, 3)), labels) == pytest.approx(expected, abs=1e-9)


def test_logme_and_h_score_stay_the_same_under_rotation_and_scale():
    features, labels = clusters(40, 6)
    for score in (transferability.logme, transferability.h_score):
        plain = score(features, labels)
        assert score(7.5 * features @ rotation(6), labels) == pytest.approx(plain, abs=1e-9)
        assert score(features[::-1], labels[::-1] + 4) == pytest.approx(plain, abs=1e-9)  # names, order


@pytest.mark.parametrize("score", [transferability.logme, transferability.h_score])
@pytest.mark.parametrize("width", [5, 200])
def test_classes_that_lie_farther_apart_score_higher(score, width):
    found = [score(*clusters(60, width, apart=apart)) for apart in (0.0, 0.5, 2.0)]
    assert found == sorted(found) and found[2] - found[0] > 0.05


# ---------------------------------------------------------------- the H-score


@pytest.mark.parametrize(("examples", "width"), [(50, 6), (12, 40)])
def test_h_score_is_the_trace_with_scikit_learns_shrinkage(examples, width):
    features, labels = clusters(examples, width)
    fitted = LedoitWolf().fit(features)
    means = np.stack([features[labels == one].mean(0) for one in labels]) - features.mean(0)
    between = means.T @ means / examples
    expected = np.trace(np.linalg.solve(fitted.covariance_, (1 - fitted.shrinkage_) * between))
    assert transferability.h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_h_score_of_classes_without_spread_is_one_less_than_their_number():
    """Within a class all are alike, so that without shrinkage C = B; with n growing it vanishes."""
    features, labels = np.repeat(np.eye(3), 4000, axis=0), np.repeat(np.arange(3), 4000)
    assert transferability.h_score(features, labels) == pytest.approx(2.0, abs=2e-2)
    assert transferability.h_score(np.ones((6, 2)), np.arange(6) % 2) == 0.0


# ---------------------------------------------------------------- LEEP and NCE


def test_leep_and_nce_of_a_table_that_can_be_done_by_hand():
    """Four examples of source class 0, of which three have label a; four of class 1, all with label b."""
    answers, labels = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1, 1, 1])
    expected = (3 * np.log(3 / 4) + np.log(1 / 4)) / 8
    assert transferability.nce(answers, labels) == pytest.approx(expected)
    assert transferability.leep(np.eye(2)[answers], labels) == pytest.approx(expected)  # hard answers


def test_leep_of_soft_answers_is_the_sum_of_its_definition():
    random = np.random.default_rng(0)
    theta, labels = random.dirichlet(np.ones(4), size=30), random.integers(0, 3, 30)
    total = 0.0
    for row, label in zip(theta, labels, strict=True):
        chances = [
            sum(one[z] for one, other in zip(theta, labels, strict=True) if other == label)
            / theta[:, z].sum()
            for z in range(4)
        ]
        total += np.log(sum(chance * row[z] for z, chance in enumerate(chances)))
    assert transferability.leep(theta, labels) == pytest.approx(total / 30)


def test_answers_that_say_nothing_leave_the_entropy_of_the_labels():
    labels = np.repeat([0, 1, 2, 3], 5)
    assert transferability.nce(np.zeros(20, int), labels) == pytest.approx(-np.log(4))
    assert transferability.leep(np.full((20, 7), 1 / 7), labels) == pytest.approx(-np.log(4))
    assert transferability.nce(labels * 10, labels) == pytest.approx(0, abs=1e-12)


def test_leep_is_not_below_nce_of_the_same_hard_answers():
    random = np.random.default_rng(3)
    answers, labels = random.integers(0, 5, 50), random.integers(0, 3, 50)
    assert transferability.leep(np.eye(5)[answers], labels) >= transferability.nce(answers, labels) - 1e-12


# ---------------------------------------------------------------- what cannot be


def test_classes_of_one_example_and_few_labels_have_scores():
    features, labels = clusters(7, 50)
    labels[-1] = 9
    assert np.isfinite(transferability.logme(features, labels))
    assert 0 <= transferability.h_score(features, labels) <= 3


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        (np.ones((3, 2)), np.zeros(4, int), r"shape \(3, 2\)"),
        (np.ones(3), np.zeros(3, int), r"\(examples, features\)"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "not finite"),
        (np.zeros((0, 2)), np.zeros(0, int), "at least one"),
    ],
)
def test_what_is_no_table_of_features_is_refused_in_one_line(values, labels, expected):
    for score in (transferability.logme, transferability.h_score, transferability.leep):
        with pytest.raises(InputError, match=expected) as error:
            score(values, labels)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="softmax"):
        transferability.leep(np.array([[0.5, 0.9]]), np.zeros(1, int))
