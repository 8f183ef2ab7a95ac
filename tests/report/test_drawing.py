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


def test_masks_are_compared_with_a_map_of_their_errors():
    pictures, masks = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
    palette = drawing.colours(2)
    sheet = drawing.compared(pictures, masks, masks + 1, ["one", "two"], palette, side=64)
    wide = drawing.compared(pictures, masks, masks + 1, ["one", "two"], palette, columns=1, side=64)
    assert sheet.shape[1] > 8 * 64 > wide.shape[1] > 4 * 64 and wide.shape[0] > 2 * 64
    assert {tuple(colour) for colour in palette} <= {
        tuple(pixel) for pixel in drawing.legend("ab", palette).reshape(-1, 3)
    }
    picture = np.full((1, 4, 3), 80, np.uint8)
    truth, predicted = np.array([[0, 1, 255, 1]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
    wrong = (drawing.errors(picture, truth, predicted, 2) == drawing.ERROR).all(axis=2)
    assert wrong.tolist() == [[False, True, False, False]]  # what is ignored is no error


def overlap(one, other):
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    return max(0, sides[0]) * max(0, sides[1])


def test_labels_cover_no_other_label_and_no_object_that_they_need_not():
    size, picture, taken = (60, 16), (300, 300), []
    # Three boxes nearly on one place, and one at each border.
    boxes = [(100, 100, 160, 150), (102, 98, 161, 152), (98, 102, 158, 149)]
    boxes += [(0, 0, 40, 30), (270, 0, 299, 40), (250, 280, 299, 299)]
    for box in boxes:
        place = drawing.place_label(box, size, picture, boxes, taken)
        label = (*place, place[0] + size[0], place[1] + size[1])
        assert 0 <= label[0] and label[2] <= 300 and 0 <= label[1] and label[3] <= 300
        assert not any(overlap(label, other) for other in taken)
        assert sum(overlap(label, other) for other in boxes) < 0.2 * 60 * 16
        taken.append(label)
    assert drawing.place_label(boxes[0], size, picture, boxes, [(0, 0, 300, 300)]) is None
    # A box as large as the picture has its label inside.
    assert drawing.place_label((0, 0, 300, 300), size, picture, [(0, 0, 300, 300)], []) is not None


def test_texts_of_boxes_that_lie_on_each_other_are_drawn_apart():
    black, spots = np.zeros((64, 64, 3), np.uint8), []
    for shown in (((255, 0, 0), "first"), ((0, 255, 0), "second")):
        boxes = [
            (20, 20, 40, 40, c, t if (c, t) == shown else t)
            for c, t in (((255, 0, 0), "first"), ((0, 255, 0), "second"))
        ]
        drawn = drawing.boxes(black, boxes).astype(int)
        bare = drawing.boxes(black, [(*one[:5], "") for one in boxes]).astype(int)
        channel = 0 if shown[0][0] else 1
        new = (drawn - bare)[..., channel] > 200
        spots.append(np.argwhere(new))
    (first, second) = spots
    assert len(first) and len(second)
    assert (
        first[:, 0].max() < second[:, 0].min()
        or second[:, 0].max() < first[:, 0].min()
        or (first[:, 1].max() < second[:, 1].min() or second[:, 1].max() < first[:, 1].min())
    )
