"""Decision curves with known answers."""

import numpy as np
import pytest

from runner.scores import net_benefit


def test_a_small_case_by_hand():
    truth = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.3, 0.6, 0.2, 0.1])
    found = net_benefit.curve(truth, p, (0.25, 0.5)).set_index("threshold")
    # From .25 on: 2 found, 1 false alarm at odds 1/3. From .5 on: 1 found, 1 false alarm at odds 1.
    assert found.loc[0.25, "net_benefit"] == pytest.approx(2 / 5 - 1 / 5 / 3)
    assert found.loc[0.5, "net_benefit"] == pytest.approx(0)
    assert found.loc[0.25, "act_on_all"] == pytest.approx(2 / 5 - 3 / 5 / 3)
    assert found.loc[0.5, "act_on_all"] == pytest.approx(-1 / 5)


def test_who_knows_everything_finds_all_cases_at_no_cost_and_who_knows_nothing_is_of_no_use():
    truth = np.arange(100) < 30
    perfect = net_benefit.curve(truth, truth.astype(float))
    assert perfect["net_benefit"].to_numpy() == pytest.approx(0.3)
    assert net_benefit.useful(perfect) == (0.01, 0.99)
    assert net_benefit.useful(net_benefit.curve(truth, np.full(100, 0.3))) is None
