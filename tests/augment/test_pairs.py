"""Two views of each picture: what they share, and how what stands out grows into the picture."""

import numpy as np
import pytest
import tensorflow as tf

from runner.augment import pairs
from runner.errors import InputError

SEED = tf.constant([3, 4], tf.int64)


def squares(count=6, side=32) -> np.ndarray:
    """Dark noisy pictures, each with a light square of a quarter of its side in another place."""
    random = np.random.default_rng(0)
    pictures = random.integers(20, 60, (count, side, side, 3))
    for number in range(count):
        pictures[number, number : number + 8, 2 * number : 2 * number + 8] = 230
    return pictures.astype("uint8")


def test_equal_seeds_give_equal_views_and_the_two_differ():
    pictures = squares()
    one, again, other = (pairs.two(pictures, seed, "contrastive") for seed in (SEED, SEED, SEED + 1))
    for name in ("first", "second"):
        assert one[name].dtype == tf.uint8 and one[name].shape == pictures.shape
        np.testing.assert_array_equal(one[name], again[name])
        assert (one[name].numpy() != other[name].numpy()).any()
    assert (one["first"].numpy() != one["second"].numpy()).any((1, 2, 3)).all()
    with pytest.raises(InputError, match="two views are one"):
        pairs.two(pictures, SEED, "none")


def test_what_stands_out_is_white_on_black_and_grows_into_the_picture():
    pictures = squares()
    figure = (pictures == 230).all(axis=3)
    plain = pairs.growing(tf.constant(pictures), 0.0).numpy()
    np.testing.assert_array_equal(plain, np.repeat(np.where(figure, 255, 0)[..., None], 3, axis=3))
    # The smaller side stands out, also where it is the darker one.
    np.testing.assert_array_equal(pairs.growing(tf.constant(255 - pictures), 0.0), plain)
    half = pairs.growing(tf.constant(pictures), 0.5).numpy()
    for number, shown in enumerate(half):
        assert (shown[figure[number]] == 230).all()
        ground = shown[~figure[number]].astype(int)
        assert (ground == ground[0]).all() and abs(
            ground[0] - pictures[number][~figure[number]].mean(0)
        ).max() <= 1
    np.testing.assert_array_equal(pairs.growing(tf.constant(pictures), 1.0), pictures)


def test_of_two_views_one_is_the_figure_alone_and_the_other_is_as_far_as_it_has_grown():
    pictures = squares()
    begun, ended = (pairs.two(pictures, SEED, "light", figure=True, grown=one) for one in (0.0, 1.0))
    np.testing.assert_array_equal(begun["first"], ended["first"])
    for shown in (begun["first"], begun["second"]):
        assert (shown.numpy() > 240).any((1, 2, 3)).all() and (shown.numpy() == 0).mean() > 0.8
    whole = pairs.two(pictures, SEED, "light")
    np.testing.assert_array_equal(ended["second"], whole["second"])


def test_a_picture_in_which_nothing_stands_out_gives_a_view_nevertheless():
    flat = np.full((3, 16, 16, 3), 90, "uint8")
    found = pairs.two(flat, SEED, "medium", figure=True, grown=0.4)
    assert found["second"].shape == flat.shape and found["second"].dtype == tf.uint8
