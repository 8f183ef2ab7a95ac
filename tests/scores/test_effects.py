"""Scores of treatment effects: answers that are known beforehand."""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.scores import effects


def test_errors_of_effects_are_those_worked_out_by_hand():
    truth, found = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 8.0])
    assert effects.root_pehe(truth, found) == 2.0  # sqrt(16 / 4)
    assert effects.average_error(truth, found) == 1.0
    assert effects.root_pehe(truth, truth) == effects.average_error(truth, truth) == 0
    # Errors of both signs leave the average right and the effects wrong.
    assert effects.average_error(truth, truth[::-1]) == 0 < effects.root_pehe(truth, truth[::-1])
    with pytest.raises(InputError, match="4 and 3 rows"):
        effects.root_pehe(truth, truth[:3])


def test_overlap_of_equal_weights_is_every_row_and_one_huge_weight_is_about_one():
    treatment = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    table = effects.overlap(np.full(8, 0.3), treatment)
    assert table["arm"].tolist() == ["control", "treated"]
    assert table["effective_rows"].to_numpy() == pytest.approx([4, 4])
    odd = np.array([0.5, 0.5, 0.5, 0.001, 0.5, 0.5, 0.5, 0.5])
    treated = effects.overlap(odd, treatment).iloc[1]
    # Weights 2, 2, 2, 1000: 1006^2 / (12 + 10^6).
    assert treated["effective_rows"] == pytest.approx(1006**2 / 1_000_012)
    assert (treated["lowest_propensity"], treated["highest_propensity"]) == (0.001, 0.5)


def test_one_arm_other_treatments_and_certain_propensities_are_refused():
    for treatment in (np.ones(3), np.zeros(3), np.array([0, 1, 2])):
        with pytest.raises(InputError, match="0 and 1 are allowed, and both must be there"):
            effects.overlap(np.full(3, 0.5), treatment)
    with pytest.raises(InputError, match="above 0 and below 1 are allowed"):
        effects.overlap(np.array([0.0, 0.5, 0.5]), np.array([1, 0, 1]))


def test_nothing_is_trimmed_where_chances_are_alike_however_small():
    assert effects.trimmed(np.full(50, 0.02)) == 0
    assert effects.trimmed(np.linspace(0.3, 0.7, 50)) == 0


def test_what_is_trimmed_solves_the_equation_of_crump():
    random = np.random.default_rng(0)
    propensity = random.beta(0.5, 0.5, 20_000).clip(1e-6, 1 - 1e-6)
    share = effects.trimmed(propensity)
    cost, bound = 1 / (propensity * (1 - propensity)), 1 / (share * (1 - share))
    assert bound == pytest.approx(2 * cost[cost <= bound].mean(), rel=1e-9)
    # Crump et al. 2009, table 1: for Beta(0.5, 0.5) the optimal bound is about 0.1.
    assert 0.08 < share < 0.12
    kept = effects.supported(propensity, share)
    assert propensity[kept].min() >= share and propensity[~kept & (propensity < 0.5)].max() < share


def test_balance_is_the_difference_in_standard_deviations_and_weights_can_mend_it():
    random = np.random.default_rng(0)
    x = random.normal(size=40_000)
    propensity = 1 / (1 + np.exp(-x))
    treatment = (random.random(40_000) < propensity).astype(int)
    columns = np.stack([random.normal(size=40_000), x, np.ones(40_000)], axis=1)
    table = effects.balance(columns, treatment, ["noise", "confounder", "constant"], propensity)
    assert table["covariate"].iloc[0] == "confounder"
    found = table.set_index("covariate")
    one, zero = x[treatment == 1], x[treatment == 0]
    by_hand = (one.mean() - zero.mean()) / np.sqrt((one.var(ddof=1) + zero.var(ddof=1)) / 2)
    assert found.loc["confounder", "difference"] == pytest.approx(by_hand) and by_hand > 0.8
    assert abs(found.loc["confounder", "weighted"]) < effects.LARGE > abs(found.loc["noise", "difference"])
    assert found.loc["constant"].tolist() == [0, 0]
    apart = effects.balance(treatment[:, None] * 1.0, treatment, ["leak"])
    assert np.isinf(apart["difference"].item())


def test_the_uplift_curve_ends_at_the_average_effect_and_rises_for_the_right_order():
    # Two helped by 2, two harmed by 2; each kind once treated and once not.
    treatment, outcome = np.array([1, 0, 1, 0]), np.array([3.0, 1.0, 0.0, 2.0])
    even = np.full(4, 0.5)
    curve = effects.uplift_curve(np.array([2, 2, -2, -2]), treatment, outcome, even)
    assert curve["share"].tolist() == [0, 0.5, 1] and curve["gain"].tolist() == [0, 1, 0]
    assert effects.qini(curve) == pytest.approx(0.5)  # the triangle of base 1 and height 1
    wrong = effects.uplift_curve(np.array([-2, -2, 2, 2]), treatment, outcome, even)
    assert effects.qini(wrong) == pytest.approx(-0.5)
    # All alike is no order: a straight line.
    alike = effects.uplift_curve(np.zeros(4), treatment, outcome, even)
    assert len(alike) == 2 and effects.qini(alike) == 0


def test_policy_values_are_right_where_either_the_model_or_the_propensity_is():
    random = np.random.default_rng(1)
    rows = 60_000
    x = random.normal(size=rows)
    propensity = 1 / (1 + np.exp(-x))
    treatment = (random.random(rows) < propensity).astype(int)
    mu0, mu1 = x, x + 1 + x  # an effect of 1 + x
    outcome = np.where(treatment, mu1, mu0) + random.normal(size=rows)
    policy = (1 + x > 0).astype(int)
    truth = np.where(policy, mu1, mu0).mean()
    zero, half = np.zeros(rows), np.full(rows, 0.5)
    wrong = {
        "model": effects.doubly_robust(treatment, outcome, propensity, zero, zero),
        "propensity": effects.doubly_robust(treatment, outcome, half, mu0, mu1),
        "no model": effects.inverse_propensity(treatment, outcome, propensity),
    }
    for name, scores in wrong.items():
        found = effects.policy_value(policy, scores)
        assert found.low < truth < found.high, name
        assert found.value == pytest.approx(truth, abs=0.06), name
    neither = effects.policy_value(policy, effects.doubly_robust(treatment, outcome, half, zero, zero))
    assert not neither.low < truth < neither.high
    # A shift of the outcome moves the value by as much, and its interval not at all.
    moved = effects.policy_value(policy, effects.inverse_propensity(treatment, outcome + 100, propensity))
    before = effects.policy_value(policy, wrong["no model"])
    assert np.subtract(moved, before) == pytest.approx([100, 100, 100])


def test_the_interval_of_a_mean_is_that_of_the_textbook_and_groups_widen_it():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    found = effects.mean(values)
    half = 1.959963984540054 * values.std(ddof=1) / 2
    assert found == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    alone = effects.mean(values, np.arange(4))
    assert alone == pytest.approx(found)
    twice = effects.mean(np.repeat(values, 2), np.repeat(np.arange(4), 2))
    assert twice == pytest.approx(found)  # a copy of every row brings nothing
    assert np.isinf(effects.mean(values, np.zeros(4, int)).high)


def test_the_intervals_hold_what_they_promise():
    random, within = np.random.default_rng(2), 0
    for _ in range(400):
        treatment = random.permutation(np.repeat([0, 1], 100))
        outcome = random.normal(size=200) + treatment
        scores = effects.inverse_propensity(treatment, outcome, np.full(200, 0.5))
        found = effects.policy_value(np.ones(200), scores)
        within += found.low < 1 < found.high
    assert 0.91 < within / 400 < 0.99


def test_the_r_loss_is_least_at_the_true_effect():
    random = np.random.default_rng(3)
    x, treatment = random.normal(size=20_000), random.integers(0, 2, 20_000)
    outcome = x + treatment * (1 + x) + random.normal(size=20_000)
    given = treatment, outcome, np.full(20_000, 0.5), x + (1 + x) / 2
    losses = pd.Series({scale: effects.r_loss(scale * (1 + x), *given) for scale in (0, 0.5, 1, 1.5)})
    assert losses.idxmin() == 1 and losses[1] == pytest.approx(1, abs=0.05)  # the noise's variance is left
    # Each further effect costs mean((t - e)^2 (tau - tau')^2), here 1/4 of mean((1 + x)^2) = 2.
    assert losses[0] - losses[1] == pytest.approx(0.5, abs=0.05)
