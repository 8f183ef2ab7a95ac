"""A network that takes pictures of any size makes them square as training did."""

import keras
import numpy as np
import pytest
from PIL import Image

from runner.errors import InputError
from runner.pictures import any_size, square

SIZE = 64


def photos(count=2):
    """Smooth pictures of several shapes, uint8, each in a batch of `count`."""
    random = np.random.default_rng(3)
    shapes = ((SIZE, SIZE), (200, 123), (91, 150), (30, 41), (7, 300))
    coarse = [Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in shapes]
    pictures = [
        np.asarray(one.resize((width, height), Image.Resampling.BICUBIC))
        for one, (height, width) in zip(coarse, shapes, strict=True)
    ]
    return [np.stack([one] * count) for one in pictures]


@pytest.mark.parametrize("how", square.RESIZES)
def test_the_resize_inside_the_model_is_that_of_training(how):
    """Within 1 of 255 at every pixel, since Pillow rounds twice; the portable form to the bit."""
    picture = keras.Input((None, None, 3), dtype="uint8", name="image")
    small = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    model = any_size.build(keras.Model(small, keras.ops.cast(small, "float32")), how)
    portable = any_size.PortableResize(SIZE, how)
    for (one, _), size in zip(photos(), ("same", "large", "odd", "grows", "strip"), strict=True):
        pillow = square.resize(Image.fromarray(one), SIZE, how)
        inside = np.asarray(model(one[None]))[0]
        assert np.abs(inside - pillow).max() < 1, size
        np.testing.assert_array_equal(np.asarray(portable(one[None].astype("float32")))[0], pillow, size)
    assert picture.shape == model.input.shape


def test_another_word_for_the_resizing_is_refused():
    with pytest.raises(InputError, match="crop, pad, stretch"):
        any_size.build(keras.Sequential([keras.Input((8, 8, 3))]), "zoom")
