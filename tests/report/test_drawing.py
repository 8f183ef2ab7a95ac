"""Boxes and masks are drawn where they belong, in colours that differ."""

import numpy as np

from runner.report import drawing


def test_a_box_is_drawn_on_the_pixels_of_its_rim():
    picture = drawing.boxes(np.zeros((32, 32, 3), np.uint8), [(4, 8, 12, 20, (255, 0, 0), "")], side=64)
    rows, columns = np.nonzero(picture[..., 0])
    assert picture.shape == (64, 64, 3)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (8, 16, 23, 39)


def test_a_mask_colours_its_classes_and_leaves_what_is_none_gray():
    palette = drawing.colours(3)
    assert len({tuple(colour) for colour in palette}) == 3
    picture = np.full((2, 3, 3), (30, 60, 90), np.uint8)
    shown = drawing.overlay(picture, np.array([[0, 1, 2], [255, 1, 0]], np.uint8), palette, share=1.0)
    assert np.array_equal(shown[0], palette) and shown[1, 0].tolist() == [60, 60, 60]


def test_masks_are_compared_three_by_three():
    pictures, masks = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
    palette = drawing.colours(2)
    sheet = drawing.compared(pictures, masks, masks + 1, ["one", "two"], palette, side=64)
    wide = drawing.compared(pictures, masks, masks + 1, ["one", "two"], palette, columns=1, side=64)
    assert sheet.shape[1] > 6 * 64 > wide.shape[1] > 3 * 64 and wide.shape[0] > 2 * 64
    assert {tuple(colour) for colour in palette} <= {
        tuple(pixel) for pixel in drawing.legend("ab", palette).reshape(-1, 3)
    }
