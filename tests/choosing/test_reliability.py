"""The correlation is Vigna's, and what is committed follows from the rows that are committed beside it."""

import numpy as np
import pandas as pd
import pytest

from runner.choosing import reliability


def rows(**scores) -> pd.DataFrame:
    """Two sets, four sources whose accuracies rise."""
    truth = np.array([0.5, 0.6, 0.7, 0.8])
    filled = {name: truth for name in (*reliability.MEASURES, reliability.SIZE)} | scores
    names = {"source": list("abcd"), reliability.TRUTH: truth} | filled
    return pd.concat([pd.DataFrame(names).assign(data=name) for name in ("one", "two")], ignore_index=True)


def test_weighted_tau_weighs_what_stands_high():
    truth = np.arange(8.0)
    assert reliability.weighted_tau(truth, truth) == pytest.approx(1)
    assert reliability.weighted_tau(-truth, truth) == pytest.approx(-1)
    top, bottom = truth.copy(), truth.copy()
    top[[6, 7]], bottom[[0, 1]] = top[[7, 6]], bottom[[1, 0]]
    assert reliability.weighted_tau(top, truth) < reliability.weighted_tau(bottom, truth) < 1
    # By hand: three sources, one pair the wrong way round; weights 1, 1/2, 1/3 and pairs add them.
    assert reliability.weighted_tau(np.array([2.0, 3.0, 1.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(
        (4 / 3 + 5 / 6 - 3 / 2) / (4 / 3 + 5 / 6 + 3 / 2)
    )


def test_what_cannot_be_ranked_has_no_tau():
    truth = np.arange(4.0)
    assert np.isnan(reliability.weighted_tau(np.ones(4), truth))
    assert np.isnan(reliability.weighted_tau(np.array([1, 2, np.nan, np.nan]), truth))


def test_summary_says_what_the_first_choice_lost():
    found = reliability.summary(
        rows(
            logme=np.array([4.0, 3, 2, 1]),
            leep=np.array([np.nan, 1, 0, np.nan]),
            probe=np.array([0.1, 0.2, 0.4, 0.3]),
        )
    )
    of = found["measures"]
    assert of["h_score"]["tau"] == pytest.approx(1) and of["h_score"]["within"] == 2
    assert of["logme"]["tau"] == pytest.approx(-1) and of["logme"]["lost"]["one"] == pytest.approx(0.3)
    assert of["probe"]["lost"]["two"] == pytest.approx(0.1) and of["probe"]["within"] == 0
    assert of["leep"]["sources"] == 2 and np.isnan(of["leep"]["tau"])
    assert of["leep"]["lost"]["one"] == pytest.approx(0.2)  # of all sources, also those without a classifier
    assert found["fits"] == 8 and found["chance"] == pytest.approx(0.15)
    assert "1.00 (" in reliability.in_words(found, "h_score")


def test_what_is_committed_follows_from_its_rows():
    known, table = reliability.read(), pd.read_csv(reliability.ROWS)
    again = reliability.summary(table)
    assert known["sets"] == again["sets"] and known["sources"] == again["sources"]
    assert len(known["sets"]) >= 6 and len(known["sources"]) >= 8
    for name, of in again["measures"].items():
        assert known["measures"][name]["tau"] == pytest.approx(of["tau"], abs=1e-9)
        assert known["measures"][name]["within"] == of["within"]
    assert {"date", "command", "how"} <= set(known["made"])
