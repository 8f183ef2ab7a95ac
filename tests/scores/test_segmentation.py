"""runner/scores/segmentation.py: numbers of predicted masks against cases worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.scores import segmentation


def picture(text: str) -> np.ndarray:
    """Rows of digits as a mask; "-" is 255."""
    return np.array([[255 if one == "-" else int(one) for one in row] for row in text.split()], np.uint8)


TRUTH = picture("0011 0011 22-- 22--")
FOUND = picture("0001 0011 2211 0211")


def test_the_confusion_matrix_leaves_ignored_pixels_out():
    matrix = segmentation.confusion(TRUTH, FOUND, 4)
    assert matrix.tolist() == [[4, 0, 0, 0], [1, 3, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]]
    zeros = segmentation.confusion(np.where(TRUTH == 255, 3, TRUTH), FOUND, 4, ignore=0)
    assert zeros[0].sum() == 0 and zeros[3, 1] == 4


def test_numbers_of_the_matrix():
    counts = segmentation.count([7], TRUTH[None], FOUND[None], 4)
    numbers = segmentation.metrics(counts)
    # Class 0: 4 right, 2 wrongly found, 0 missed; 1 and 2: 3 right, 1 missed; class 3 is not in the truth.
    assert numbers["miou"] == pytest.approx((4 / 6 + 3 / 4 + 3 / 4) / 3)
    assert numbers["dice"] == pytest.approx((8 / 10 + 6 / 7 + 6 / 7) / 3)
    assert numbers["pixel_accuracy"] == pytest.approx(10 / 12)
    assert numbers["examples"] == 1 and numbers["miou_interval"] == [numbers["miou"]] * 2
    table = segmentation.per_class(counts, "abcd")
    assert table["iou"].tolist()[:3] == pytest.approx([4 / 6, 3 / 4, 3 / 4])
    assert table["precision"].tolist()[:3] == pytest.approx([4 / 6, 1, 1])
    assert table["recall"].tolist()[:3] == pytest.approx([1, 3 / 4, 3 / 4])
    assert table["pixels"].tolist() == [4, 4, 4, 0] and table["pictures"].tolist() == [1, 1, 1, 0]
    assert table.loc[3, ["iou", "dice", "precision", "recall", "boundary_f"]].isna().all()
    row = segmentation.per_picture(counts).iloc[0]
    assert row["id"] == 7 and row["miou"] == pytest.approx(numbers["miou"])


def test_a_class_that_is_only_found_is_no_mean_of_its_own():
    truth, found = np.zeros((1, 2, 2), np.uint8), np.array([[[0, 0], [0, 1]]], np.uint8)
    numbers = segmentation.metrics(segmentation.count([0], truth, found, 2))
    assert numbers["miou"] == pytest.approx(3 / 4) and numbers["pixel_accuracy"] == pytest.approx(3 / 4)


def test_boundaries_lie_on_both_sides_and_not_at_the_frame_or_at_what_is_ignored():
    edge = segmentation.boundary(TRUTH, TRUTH != 255)
    expected = picture("0110 1110 1100 0000").astype(bool)
    np.testing.assert_array_equal(edge, expected)


def test_boundary_scores_allow_the_tolerance_and_no_more():
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 1  # the diagonal is 57 pixels: one pixel is allowed
    for shift, expected in ((0, 1.0), (1, 1.0), (2, 0.0)):
        found = np.roll(truth, shift, axis=1)
        found[:, :shift] = 0
        assert segmentation.boundary_scores(truth, found, 2).tolist() == [expected] * 2
    # Half of the boundary is there, all of what is found is right: F = 2 * 1 * .5 / 1.5.
    half = truth.copy()
    known = np.ones_like(truth, bool)
    half[20:] = 255
    assert segmentation.boundary(half, half != 255).sum() == segmentation.boundary(truth, known).sum() / 2
    found = np.where(np.arange(40)[:, None] < 20, truth, 0)
    scores = segmentation.boundary_scores(truth, found, 3)
    # Of class 1 the found boundary also runs along row 19: 20 true and 19 false pixels, the first near.
    assert np.isnan(scores[2]) and 0.5 < scores[1] < 1
    assert segmentation.boundary_scores(truth, np.zeros_like(truth), 2).tolist() == [0, 0]


def test_scores_without_any_boundary_are_not_a_number():
    flat = np.zeros((8, 8), np.uint8)
    assert np.isnan(segmentation.boundary_scores(flat, flat, 2)).all()


def test_intervals_come_from_pictures_and_hold_the_value():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (30, 12, 12)).astype(np.uint8)
    wrong = random.random(truth.shape) < random.uniform(0, 0.6, (30, 1, 1))
    found = np.where(wrong, (truth + 1) % 3, truth)
    counts = segmentation.join(
        [
            segmentation.count(range(start, end), truth[start:end], found[start:end], 3)
            for start, end in ((0, 20), (20, 30))
        ]
    )
    numbers = segmentation.metrics(counts, seed=1)
    for name in ("miou", "dice", "pixel_accuracy", "boundary_f"):
        low, high = numbers[f"{name}_interval"]
        assert low < numbers[name] < high, name
    # Pixels of a picture go together: as many single pixels would give an interval a fifth as wide.
    low, high = numbers["pixel_accuracy_interval"]
    alone = 2 * 1.96 * np.sqrt(0.3 * 0.7 / truth.size)
    assert high - low > 3 * alone
    assert segmentation.metrics(counts, seed=1) == numbers
    assert counts.ids.tolist() == list(range(30))


def test_class_weights_balance_and_keep_the_scale():
    # Two pictures of 100 pixels: class 1 has 10 of one, class 2 none.
    amounts = np.array([[90, 10, 0], [100, 0, 0]])
    assert segmentation.class_weights(amounts, "none").tolist() == [1, 1, 0]
    inverse = segmentation.class_weights(amounts, "inverse")
    median = segmentation.class_weights(amounts, "median")
    assert inverse[1] / inverse[0] == pytest.approx(190 / 10)
    # Class 0 has 190 of 200 pixels, class 1 has 10 of the 100 of its picture.
    assert median[1] / median[0] == pytest.approx((100 / 10) / (200 / 190))
    for weights in (inverse, median):
        assert (weights * amounts).sum() == pytest.approx(200)
        assert weights[2] == 0


def test_a_class_that_the_truth_does_not_have_takes_nothing_from_the_boundaries():
    """Sixteen wrong pixels of a class that is in no picture."""
    truth = np.zeros((1, 64, 64), np.uint8)
    truth[:, :, 32:] = 1
    found = truth.copy()
    found[0, 4:8, 4:8] = 2
    counts = segmentation.count([0], truth, found, 3)
    assert np.isnan(counts.boundary[0, 2])
    numbers, table = segmentation.metrics(counts), segmentation.per_class(counts, "abc")
    assert (
        numbers["boundary_f"] == pytest.approx(counts.boundary[0, :2].mean()) and numbers["boundary_f"] > 0.9
    )
    assert (
        np.isnan(table["boundary_f"][2]) and table["boundary_f"][0] < 1
    )  # the blob is a false boundary there
    assert segmentation.per_picture(counts)["boundary_f"][0] == numbers["boundary_f"]


def masks(count, random, wrong=0.2):
    truth = random.integers(0, 2, (count, 12, 12)).astype(np.uint8)
    each = random.random((count, 1, 1)) * 2 * wrong  # pictures differ in how hard they are
    return truth, np.where(random.random(truth.shape) < each, 1 - truth, truth)


def test_pictures_without_a_known_pixel_do_not_spoil_the_intervals():
    truth, found = masks(3, np.random.default_rng(0))
    known = segmentation.metrics(segmentation.count([0, 1, 2], truth, found, 2))
    both = [np.concatenate([part, np.full_like(part[:2], 255)]) for part in (truth, found)]
    both[1][3:] = 0
    numbers = segmentation.metrics(segmentation.count(range(5), *both, 2))
    assert numbers == known | {"examples": 5}
    assert all(np.isfinite(numbers[f"{name}_interval"]).all() for name in ("miou", "dice", "pixel_accuracy"))
    void = segmentation.count([0], np.full((1, 4, 4), 255), np.zeros((1, 4, 4), int), 2)
    with pytest.raises(InputError, match="without a known pixel"):
        segmentation.metrics(void)


def test_intervals_draw_films_whole():
    """Each picture nine times: nine frames of a film say as much as one of them."""
    truth, found = masks(30, np.random.default_rng(1))
    once = segmentation.metrics(segmentation.count(range(30), truth, found, 2))
    counts = segmentation.count(range(270), np.repeat(truth, 9, axis=0), np.repeat(found, 9, axis=0), 2)
    film = pd.Series([f"film {number // 9}" for number in range(270)])
    alone, together = segmentation.metrics(counts), segmentation.metrics(counts, film)
    assert together["miou"] == alone["miou"] == pytest.approx(once["miou"])

    def width(numbers):
        return np.ptp(numbers["miou_interval"])

    assert width(together) == pytest.approx(width(once), rel=0.2)
    assert width(alone) == pytest.approx(width(once) / 3, rel=0.2)
    assert segmentation.metrics(counts, pd.Series([""] * 270)) == alone
