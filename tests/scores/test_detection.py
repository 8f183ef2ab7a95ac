"""Average precision against cases that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.scores import detection


def table(rows, columns):
    return pd.DataFrame(rows, columns=columns)


def truth(*rows):
    """Squares of 100 pixels at x = y = place: (picture, class, place)."""
    return table([(number, name, at, at, at + 100, at + 100) for number, name, at in rows], detection.TRUTH)


def found(*rows):
    """(picture, class, place, score, wide): 100 pixels high and so many wide."""
    return table(
        [(number, name, at, at, at + wide, at + 100, score) for number, name, at, score, wide in rows],
        detection.DETECTIONS,
    )


def test_exact_boxes_are_perfect_and_pictures_without_detections_count():
    where = truth((7, "a", 0), (8, "a", 50), (9, "b", 10))
    right = found((7, "a", 0, 0.9, 100), (8, "a", 50, 0.8, 100), (9, "b", 10, 0.7, 100))
    metrics = detection.evaluate(where, right, ["a", "b"], [7, 8, 9], 640).metrics
    assert metrics["map"] == metrics["ap50"] == metrics["recall"] == 1
    # Without picture 8's: class a reaches recall .5, that is 51 of the 101 recalls, at precision 1.
    metrics = detection.evaluate(where, right.iloc[[0, 2]], ["a", "b"], [7, 8, 9], 640).metrics
    assert metrics["map"] == metrics["ap50"] == pytest.approx((51 / 101 + 1) / 2)
    # Nothing at all.
    metrics = detection.evaluate(where, right.iloc[:0], ["a", "b"], [7, 8, 9], 640).metrics
    assert metrics["map"] == metrics["ap50"] == metrics["recall"] == 0 and metrics["map_interval"] == [0, 0]


def test_the_first_class_counts():
    where = truth((1, "a", 0), (1, "b", 200))
    result = detection.evaluate(where, found((1, "b", 200, 0.9, 100)), ["a", "b"], [1], 640)
    assert result.per_class["AP"].tolist() == pytest.approx([0, 1]) and result.metrics[
        "map"
    ] == pytest.approx(0.5)


def test_false_positives_doubles_and_overlap_are_ranked_by_score():
    where = truth((1, "a", 0), (2, "a", 0))
    rows = [
        (1, "a", 300, 0.95, 100),  # nothing there
        (1, "a", 0, 0.9, 100),  # right
        (1, "a", 1, 0.8, 100),  # a second one on the same object
        (2, "a", 0, 0.7, 62),  # IoU .62: right at .50, .55 and .60 only
    ]
    result = detection.evaluate(where, found(*rows), ["a"], [1, 2], 640)
    # At IoU .5 right are the second and the fourth: precision 1/2 up to recall .5 (51 recalls) and from there
    # on (50), for 2 of 4 is 1/2 again. At .65 and above only the first half.
    assert result.metrics["ap50"] == pytest.approx(0.5)
    assert result.metrics["ap75"] == pytest.approx(0.5 * 51 / 101)
    assert result.metrics["map"] == pytest.approx((3 * 0.5 + 7 * 0.5 * 51 / 101) / 10)
    assert result.metrics["recall"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)
    assert result.detections["right"].tolist() == [False, True, False, True]
    assert result.truth["score"].tolist() == [0.9, 0.7]


def test_sizes_are_shares_of_the_picture():
    sides = (4, 10, 20)  # of 100 pixels: small below 5, large from 15
    where = table([(1, "a", 0, 30 * i, side, 30 * i + side) for i, side in enumerate(sides)], detection.TRUTH)
    result = detection.evaluate(where, where.iloc[[0, 2]].assign(score=0.9), ["a"], [1], 100)
    sizes = result.per_class[["small", "medium", "large"]].iloc[0]
    assert sizes.tolist() == pytest.approx([1, 0, 1])
    result = detection.evaluate(where.iloc[:1], where.iloc[:1].assign(score=0.9), ["a", "b"], [1], 100)
    assert result.metrics["ap_small"] == pytest.approx(1) and result.metrics["ap_large"] is None
    assert np.isnan(result.per_class["AP"].iloc[1])  # no b to find: it does not count


def test_the_bootstraps_precision_is_that_of_pycocotools():
    random = np.random.RandomState(0)
    boxes, guesses = [], []
    for picture in range(30):
        for _ in range(random.randint(1, 6)):
            x, y, wide, high = random.randint(1, 60, 4)
            name = "abc"[random.randint(3)]
            boxes.append((picture, name, x, y, x + wide, y + high))
            for _ in range(random.randint(0, 3)):
                shift = random.normal(0, 4, 4)
                guesses.append(
                    (picture, name, *(np.array([x, y, x + wide, y + high]) + shift), random.rand())
                )
    where, guessed = table(boxes, detection.TRUTH), table(guesses, detection.DETECTIONS)
    result = detection.evaluate(where, guessed, "abc", range(30), 640)
    for name in "abc":
        own = where[where["class"] == name]
        mine = result.detections[result.detections["class"] == name].sort_values(
            "score", ascending=False, kind="stable"
        )
        right = mine["right"].to_numpy()[None]
        precision = detection.average_precision(right, np.ones(len(mine), int), len(own))
        expected = result.per_class.set_index("class")["AP50"][name]
        assert precision[0] == pytest.approx(expected, abs=1e-9) and 0 < expected < 1
        # A picture that is drawn twice is as good as two of them.
        twice = detection.average_precision(right, np.full(len(mine), 2), 2 * len(own))
        assert twice[0] >= precision[0] - 1e-9
    low, high = result.metrics["ap50_interval"]
    assert low < result.metrics["ap50"] < high


def test_nothing_is_printed_and_what_does_not_fit_is_said(capsys):
    where = truth((1, "a", 0))
    detection.evaluate(where, found((1, "a", 0, 0.5, 100)), ["a"], [1], 640)
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="class b, which is not among"):
        detection.evaluate(where, found((1, "b", 0, 0.5, 100)), ["a"], [1], 640)
    with pytest.raises(InputError, match="id 2, which is not among"):
        detection.evaluate(where, found((2, "a", 0, 0.5, 100)), ["a"], [1], 640)
    with pytest.raises(InputError, match="without the column 'score'"):
        detection.evaluate(where, where, ["a"], [1], 640)
    with pytest.raises(InputError, match="without a single box"):
        detection.evaluate(where.iloc[:0], where.iloc[:0].assign(score=1.0), ["a"], [1], 640)


def test_as_many_detections_count_as_a_picture_has_objects():
    places = [(1, "a", 3 * number) for number in range(150)]
    where = truth(*places, (2, "a", 0))
    right = found(*((*place, 0.9, 100) for place in places))
    metrics = detection.evaluate(where, right, ["a"], [1, 2], 640).metrics
    assert metrics["most"] == 150 and metrics["recall"] == pytest.approx(150 / 151)
    assert detection.evaluate(where.tail(1), right.head(0), ["a"], [1, 2], 640).metrics["most"] == 100
