"""What belongs together is drawn together, in every interval of a bootstrap."""

import numpy as np
import pandas as pd
import pytest

from runner.scores import (
    calibration,
    classification,
    detection,
    groups,
    intervals,
    operating_point,
    paired,
    segmentation,
)

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


def test_a_share_of_groups_has_an_interval_of_groups():
    right = np.random.default_rng(5).random(COUNT) < 0.7
    often, whole = np.repeat(right, TIMES), np.repeat(np.arange(COUNT), TIMES)
    low, high = intervals.share(often, whole)
    alone = intervals.share(right)
    assert alone == tuple(map(float, intervals.wilson(right.sum(), COUNT)))
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.15)
    assert np.ptp(intervals.share(often)) < 0.45 * (high - low)
    # Without a mistake a bootstrap has no spread: the groups count, not their examples.
    assert intervals.share(np.ones(COUNT * TIMES, bool), whole) == intervals.share(np.ones(COUNT, bool))
    assert intervals.share(np.zeros(4, bool), np.array([7, 7, 9, 9])) == intervals.share(np.zeros(2, bool))


def widths(of):
    """Of every share that had Wilson's interval whatever belongs together."""
    found = operating_point.at(OFTEN, "ill", 0.5, of)
    classes = classification.per_class(OFTEN, CLASSES, of)
    bins = calibration.reliability(OFTEN, groups=of)
    clinic = np.where(np.arange(len(OFTEN)) < len(OFTEN) // 2, "north", "south")
    grouped = groups.per_group(OFTEN, clinic, CLASSES, of)
    return {
        **{name: np.ptp(found[f"{name}_interval"]) for name in ("sensitivity", "specificity", "precision")},
        "recall": (classes["recall_high"] - classes["recall_low"]).mean(),
        "reliability": (bins["accuracy_high"] - bins["accuracy_low"]).mean(),
        "group": (grouped["accuracy_high"] - grouped["accuracy_low"]).mean(),
    }


def test_no_interval_of_a_share_ignores_the_groups():
    alone, together = widths(None), widths(UNIT)
    assert all(together[name] > 2 * alone[name] for name in alone)


def test_shuffled_groups_and_swapped_answers_keep_together_what_belongs_together():
    """Of 60 patients with nine pictures each two clinics and two models differ by chance alone."""
    random = np.random.default_rng(11)
    few, clinic = [], np.where(np.arange(len(OFTEN)) % (2 * TIMES) < TIMES, "north", "south")
    for seed in range(20):
        labels = np.repeat(random.integers(0, 2, COUNT), TIMES)
        right = np.repeat(random.random(COUNT) < 0.8, TIMES)
        known = {"id": np.arange(len(labels)), "label": labels}
        logits = np.eye(2)[np.where(right, labels, 1 - labels)].astype("float32") * 2
        rows = classification.tables(known, {"": logits}, CLASSES)[""]
        gap = groups.largest_gap(rows, clinic, CLASSES, UNIT, resamples=10, permutations=100, seed=seed)
        few.append(gap["accuracy"]["p_value"])
    assert np.mean(np.array(few) <= 0.05) <= 0.2  # 0.05 is expected; of shuffled pictures half would be
    whole = np.repeat(np.arange(COUNT), TIMES)
    first, second = (np.repeat(random.random(COUNT) < 0.7, TIMES) for _ in range(2))
    assert paired.swapped(first, second, whole) > paired.mcnemar(first, second)[2]
    assert paired.swapped(np.zeros(60, bool), np.ones(60, bool), np.arange(60) // 3) < 0.001
    once = np.arange(COUNT)
    few, many = (random.random(COUNT) < share for share in (0.5, 0.8))
    assert paired.swapped(few, many, once) == pytest.approx(paired.mcnemar(few, many)[2], abs=0.03)


def test_masks_and_boxes_have_intervals_by_class_and_between_methods():
    random = np.random.default_rng(12)
    confusion = random.integers(1, 50, (40, 3, 3)) + 60 * np.eye(3, dtype=int)
    confusion[:, 2, :] = 0  # a class that the truth does not have
    worse = confusion + random.integers(0, 40, (40, 3, 3)) * (1 - np.eye(3, dtype=int))
    worse[:, 2, :] = 0
    first, second = (
        segmentation.Counts(np.arange(40), one, np.full((40, 3), 0.5)) for one in (worse, confusion)
    )
    table = segmentation.per_class(second, "abc").iloc[:2]
    for name in ("iou", "recall"):
        assert ((table[f"{name}_low"] < table[name]) & (table[name] < table[f"{name}_high"])).all()
    assert np.isnan(segmentation.per_class(second, "abc")["iou_low"][2])
    found = segmentation.difference(first, second)
    low, high = segmentation.metrics(second)["miou_interval"]
    assert 0 < found.low < found.value < found.high and found.high - found.low < high - low
    assert found.value == pytest.approx(
        segmentation.metrics(second)["miou"] - segmentation.metrics(first)["miou"]
    )
    twice = segmentation.Counts(np.arange(80), np.repeat(confusion, 2, axis=0), np.full((80, 3), 0.5))
    pairs = pd.Series(np.repeat(np.arange(40), 2).astype(str))
    narrow, wide = (segmentation.per_class(twice, "abc", of) for of in (None, pairs))
    wide, narrow = (one["iou_high"] - one["iou_low"] for one in (wide, narrow))
    assert wide[0] > 1.2 * narrow[0]

    def boxes(count, move):
        where = np.tile([10.0, 10, 30, 30], (count, 1)) + move
        return pd.DataFrame(
            {"id": range(count), "class": ["a"] * count} | dict(zip(detection.BOX, where.T, strict=True))
        )

    truth = boxes(30, np.zeros((30, 1)))
    seen = boxes(30, np.where(random.random(30) < 0.7, 0.0, 40)[:, None]).assign(score=random.random(30))
    judged = detection.evaluate(truth, seen, ["a", "b"], range(30), 64)
    perfect = detection.evaluate(truth, truth.assign(score=0.5), ["a", "b"], range(30), 64)
    classes = judged.classes()
    assert classes.columns.tolist()[:5] == ["class", "boxes", "AP", "AP_low", "AP_high"]
    assert classes["recall_low"][0] < classes["recall"][0] < classes["recall_high"][0]
    assert classes.loc[1, ["AP_low", "recall_high"]].isna().all()
    assert 0 < judged.less_than(perfect).low <= judged.less_than(perfect).value
    of = pd.Series(["x"] * 15 + ["y"] * 15)
    assert not judged.classes(of).equals(classes)
