"""runner/scores/segmentation.py: numbers of predicted masks against cases worked out by hand."""

import numpy as np
import pytest

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
