"""What belongs together is drawn together, in every interval of a bootstrap."""

import numpy as np
import pandas as pd
import pytest

from runner.scores import calibration, classification, detection, groups, intervals, operating_point, paired

CLASSES, COUNT, TIMES = ["well", "ill"], 60, 9
UNIT = pd.Series([f"patient {number // TIMES}" for number in range(COUNT * TIMES)])
"""Each of COUNT patients has TIMES examples, which are all alike."""


def table(ids) -> pd.DataFrame:
    """Predictions of two classes, of which the first COUNT ids decide."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, COUNT)
    logits = random.normal(size=(COUNT, 2)) + np.eye(2)[labels]
    known = {"id": np.arange(len(ids)), "label": labels[ids]}
    return classification.tables(known, {"": logits[ids].astype("float32")}, CLASSES)[""]


ONCE, OFTEN = table(np.arange(COUNT)), table(np.repeat(np.arange(COUNT), TIMES))


def test_units_are_groups_and_what_is_alone():
    column = pd.Series(["a", "", "b", "a", "", "b"], index=[10, 11, 12, 13, 14, 15])
    assert intervals.units(column, [13, 11, 10, 14]).tolist() == [0, 1, 0, 2]
    assert intervals.units(column, [10, 11, 12]) is None and intervals.units(column, []) is None
    assert intervals.units(pd.Series([""] * 3), [0, 1, 2]) is None and intervals.units(None, [1]) is None
    drawn = intervals.drawn(np.random.default_rng(0), 4, np.array([0, 1, 0, 2]), 50)
    assert (drawn[:, 0] == drawn[:, 2]).all() and (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()


@pytest.mark.parametrize(
    "numbers, name",
    [
        (lambda rows, of: classification.metrics(rows, CLASSES, of), "accuracy"),
        (lambda rows, of: classification.metrics(rows, CLASSES, of), "macro_f1"),
        (lambda rows, of: operating_point.areas(rows, "ill", of), "roc_auc"),
        (lambda rows, of: operating_point.areas(rows, "ill", of), "average_precision"),
        (lambda rows, of: operating_point.at(rows, "ill", 0.5, of), "f1"),
    ],
)
def test_examples_that_are_all_alike_say_as_much_as_one_of_them(numbers, name):
    once, alone, together = numbers(ONCE, None), numbers(OFTEN, None), numbers(OFTEN, UNIT)
    assert together[name] == alone[name] == pytest.approx(once[name])

    def width(found):
        return np.ptp(found[f"{name}_interval"])

    assert width(together) == pytest.approx(width(once), rel=0.2)
    assert width(alone) == pytest.approx(width(once) / 3, rel=0.2)
    # Without a group that has two examples, all is as it was without groups.
    assert numbers(ONCE, pd.Series([""] * COUNT)) == numbers(ONCE, pd.Series(map(str, range(COUNT)))) == once


def test_calibration_draws_groups_too():
    alone, together = (
        calibration.error(OFTEN, CLASSES, groups=of)["expected_calibration_error_interval"]
        for of in (None, UNIT)
    )
    assert np.ptp(together) > 1.5 * np.ptp(alone)
    nobody = calibration.error(ONCE, CLASSES, groups=pd.Series([""] * COUNT))
    assert nobody == calibration.error(ONCE, CLASSES)


def test_groups_that_are_compared_draw_what_belongs_together():
    clinic = np.where(np.arange(len(OFTEN)) < len(OFTEN) // 2, "north", "south")
    alone, together = (groups.per_group(OFTEN, clinic, CLASSES, of) for of in (None, UNIT))
    wide, narrow = (one["macro_f1_high"] - one["macro_f1_low"] for one in (together, alone))
    assert (wide > 2 * narrow).all()
    gaps = [
        groups.largest_gap(OFTEN, clinic, CLASSES, of, permutations=10)["accuracy"] for of in (None, UNIT)
    ]
    assert np.ptp(gaps[1]["gap_interval"]) > 2 * np.ptp(gaps[0]["gap_interval"])


def test_differences_of_two_models_draw_groups():
    random = np.random.default_rng(0)
    first, second = (random.random(COUNT) < share for share in (0.6, 0.8))
    once = paired.of_means(first, second)
    first, second = (np.repeat(one, TIMES) for one in (first, second))
    alone = paired.of_means(first, second)
    together = paired.of_means(first, second, intervals.units(UNIT, UNIT.index))
    assert together.value == alone.value == pytest.approx(once.value)
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.2)
    assert alone.high - alone.low == pytest.approx((once.high - once.low) / 3, rel=0.2)


def test_detections_are_drawn_in_groups_of_pictures():
    random = np.random.default_rng(0)
    pictures, times = 20, 4
    place = random.integers(0, 200, pictures)
    hit = random.random(pictures) < 0.6
    where = [(n, "a", place[n // times], 0, place[n // times] + 50, 50) for n in range(pictures * times)]
    truth = pd.DataFrame(where, columns=detection.TRUTH)
    found = truth[np.repeat(hit, times)].assign(score=0.9)
    result = detection.evaluate(truth, found, ["a"], range(pictures * times), 320)
    film = pd.Series([f"film {number // times}" for number in range(pictures * times)])
    grouped = result.numbers(film)
    assert result.numbers(pd.Series([""] * pictures * times)) == result.metrics
    assert grouped["ap50"] == result.metrics["ap50"]
    assert np.ptp(grouped["ap50_interval"]) > 1.5 * np.ptp(result.metrics["ap50_interval"])
    both = (result.truth, result.detections)
    none = (result.truth, result.detections.head(0))
    ids = np.arange(pictures * times)
    alone = paired.of_average_precision(none, both, ids)
    together = paired.of_average_precision(none, both, ids, intervals.units(film, ids))
    assert together.value == alone.value and together.high - together.low > 1.5 * (alone.high - alone.low)
