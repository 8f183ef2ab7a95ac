"""Copies are found however they were saved, cut or turned, and different pictures are let be."""

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from runner.data.pairs import COLUMNS, none
from runner.pictures import images, near_duplicates

COUNT = 60


def scene(number: int, size=(120, 90)) -> Image.Image:
    """A picture with detail at all scales, as a photo has, and a colour cast."""
    random = np.random.default_rng(number)
    width, height = size
    layers = sum(
        s * gaussian_filter(random.normal(size=(height, width, 3)), (s, s, 0)) for s in (2, 5, 12, 30)
    )
    layers = layers.mean(-1, keepdims=True) + 0.3 * layers
    low, high = np.percentile(layers, [1, 99])
    return Image.fromarray(np.uint8(np.clip((layers - low) / (high - low), 0, 1) * 255))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cut(image: Image.Image, share: float) -> Image.Image:
    """Take `share` of the width and height off, at the right and at the bottom."""
    return image.crop((0, 0, round(image.width * (1 - share)), round(image.height * (1 - share))))


def find(pictures):
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    looks = [images.look(buffer.getvalue(), picture) for picture in pictures]
    thumbnails, colours = (
        np.stack([getattr(one, name) for one in looks]) for name in ("thumbnail", "colour")
    )
    return near_duplicates.find(thumbnails, colours, [one.width * one.height for one in looks])


@pytest.mark.parametrize(
    "change, least",
    [
        (lambda image: jpeg(image, 30), 1),
        (lambda image: jpeg(image, 60), 1),
        (lambda image: image.resize((60, 45)), 1),
        (lambda image: image.resize((200, 100)), 1),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.9), 1),
        (lambda image: ImageEnhance.Contrast(image).enhance(1.2), 1),
        (lambda image: image.convert("L").convert("RGB"), 1),
        (lambda image: cut(image, 0.03), 0.9),
    ],
    ids=["q30", "q60", "half", "stretched", "darker", "contrast", "gray", "cut"],
)
def test_changed_copies_are_found_and_nothing_else(change, least):
    originals = [scene(number) for number in range(COUNT)]
    pairs = find(originals + [change(image) for image in originals])
    expected = {(number, number + COUNT) for number in range(COUNT)}
    found = set(zip(pairs["first"], pairs["second"], strict=True))
    assert found <= expected and len(found) >= least * COUNT
    assert set(pairs["how"]) == {"as it is"} and pairs["score"].is_monotonic_decreasing


@pytest.mark.parametrize(
    "turn, how",
    [
        (Image.Transpose.FLIP_LEFT_RIGHT, "mirrored"),
        (Image.Transpose.FLIP_TOP_BOTTOM, "flipped top to bottom"),
        (Image.Transpose.ROTATE_180, "upside down"),
        (Image.Transpose.ROTATE_90, "turned left by 90°"),  # Pillow counts against the clock
        (Image.Transpose.ROTATE_270, "turned right by 90°"),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_turned_copies_are_found_with_their_way(turn, how):
    originals = [scene(number) for number in range(COUNT)]
    pairs = find(originals + [jpeg(image.transpose(turn), 80) for image in originals])
    assert set(zip(pairs["first"], pairs["second"], strict=True)) == {
        (number, number + COUNT) for number in range(COUNT)
    }
    assert set(pairs["how"]) == {how}


def test_the_eight_ways_are_the_symmetries_of_the_square():
    """HOW says in words what `_laid` does, so that a person can undo it."""
    square = np.arange(9).reshape(1, 3, 3)
    right = np.rot90(square[0], -1)
    expected = {
        "as it is": square[0],
        "mirrored": square[0][:, ::-1],
        "flipped top to bottom": square[0][::-1],
        "upside down": square[0][::-1, ::-1],
        "turned right by 90°": right,
        "turned right by 90° and mirrored": right[:, ::-1],
        "turned left by 90°": right[::-1, ::-1],
        "turned left by 90° and mirrored": right[::-1, ::-1][:, ::-1],
    }
    assert set(expected) == set(near_duplicates.HOW)
    for number, how in enumerate(near_duplicates.HOW):
        np.testing.assert_array_equal(near_duplicates._laid(square, np.array([number]))[0], expected[how])


def test_digits_and_empty_pictures_are_no_copies_of_each_other():
    for side in (8, 28):  # as they are, and enlarged, where few of the pixels say anything of their own
        digits = [Image.fromarray(np.uint8(digit * 15)).convert("RGB") for digit in load_digits().images]
        assert find([digit.resize((side, side)) for digit in digits]).empty
    grays = [Image.new("RGB", (50, 50), (level,) * 3) for level in range(0, 250, 5)]
    noisy = [
        Image.fromarray(np.asarray(one) + np.uint8(np.random.default_rng(i).integers(0, 3, (50, 50, 3))))
        for i, one in enumerate(grays)
    ]
    assert find(grays + noisy).empty


def test_the_same_shape_in_another_colour_is_another_thing():
    def disc(colour):
        image = scene(0).convert("L").convert("RGB")
        ImageDraw.Draw(image).ellipse((20, 10, 90, 80), fill=colour)
        return image

    red, blue = (200, 30, 30), (30, 60, 250)  # of about one brightness
    assert find([disc(red), disc(blue)]).empty
    assert len(find([disc(red), jpeg(disc(red), 60)])) == 1


def test_nothing_and_one_picture_give_no_pairs():
    for count in (0, 1):
        pairs = near_duplicates.find(
            np.zeros((count, 32, 32), np.uint8), np.zeros((count, 8, 8, 2), np.uint8), [1024] * count
        )
        assert pairs.empty and list(pairs.columns) == COLUMNS
        assert pairs.dtypes.equals(none().dtypes)


def test_thousands_take_seconds():
    random = np.random.default_rng(0)
    smooth = gaussian_filter(random.normal(size=(5_000, 32, 32)), (0, 1.5, 1.5))
    thumbnails = np.uint8(np.clip(128 + 300 * smooth, 0, 255))
    start = time.perf_counter()
    assert near_duplicates.find(thumbnails, np.full((5_000, 8, 8, 2), 128, np.uint8), [4096] * 5_000).empty
    assert time.perf_counter() - start < 15
