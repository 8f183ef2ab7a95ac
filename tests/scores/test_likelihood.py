"""Bits per character and the probability of one: by hand, with intervals, and of two models on the same
texts.
"""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.scores.likelihood import Told

CHARACTERS = np.array([100, 50, 200, 80])


def told(bits: list[float]) -> Told:
    return Told(np.arange(4), np.array(bits) * CHARACTERS * np.log(2), CHARACTERS)


def test_bits_are_weighed_by_characters_and_make_a_probability():
    one = told([2, 2, 2, 2])
    assert one.bits == pytest.approx(2)
    numbers = one.numbers()
    assert numbers["probability"] == pytest.approx(0.25) and numbers["characters"] == 430
    assert numbers["probability_interval"] == pytest.approx([0.25, 0.25]) and numbers["examples"] == 4
    mixed = told([1, 3, 2, 4])
    assert mixed.bits == pytest.approx((100 + 150 + 400 + 320) / 430)
    low, high = mixed.numbers()["bits_per_character_interval"]
    assert 1 <= low < mixed.bits < high <= 4
    assert mixed.numbers()["probability_interval"] == pytest.approx([2**-high, 2**-low])
    table = mixed.per_passage()
    assert table["bits_per_character"].tolist() == pytest.approx([1, 3, 2, 4])
    assert table["probability"].tolist() == pytest.approx([0.5, 0.125, 0.25, 0.0625])


def test_two_models_are_compared_passage_by_passage():
    better, worse = told([1, 3, 2, 4]), told([1.5, 3.5, 2.5, 4.5])
    apart = worse.less_than(better)
    assert apart.value == pytest.approx(2**-better.bits - 2**-worse.bits) and apart.verdict == "above"
    assert better.less_than(worse).verdict == "below"
    assert better.less_than(better) == (0, 0, 0, 4)
    with pytest.raises(InputError, match="other passages"):
        better.less_than(Told(np.arange(1, 5), better.nats, CHARACTERS))


def test_what_belongs_together_is_drawn_together():
    one = Told(np.arange(40), np.repeat([100.0, 400.0], 20) * np.log(2), np.full(40, 100))
    low, high = one.numbers()["bits_per_character_interval"]
    together = one.numbers(pd.Series(["a"] * 20 + ["b"] * 20))["bits_per_character_interval"]
    assert together == pytest.approx([1, 4])  # both of one kind, or of the other
    assert 1.8 < low < 2.5 < high < 3.2 and one.bits == pytest.approx(2.5)


def test_no_text_is_said():
    with pytest.raises(InputError, match="no text"):
        Told(np.zeros(0, int), np.zeros(0), np.zeros(0, int))
