"""Two views of each picture: what they share, and how what stands out comes before another ground."""

import numpy as np
import pytest
import tensorflow as tf

from runner.augment import pairs
from runner.augment.matrices import LUMA
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


def test_what_stands_out_begins_white_on_black_and_comes_before_another_ground():
    pictures = squares()
    figure = (pictures == 230).all(axis=3)
    plain = pairs.repainted(tf.constant(pictures), SEED, 1, 0.0).numpy()
    np.testing.assert_array_equal(plain, np.repeat(np.where(figure, 255, 0)[..., None], 3, axis=3))
    # The smaller side stands out, also where it is the darker one.
    np.testing.assert_array_equal(pairs.repainted(tf.constant(255 - pictures), SEED, 1, 0.0), plain)
    third, whole = (pairs.repainted(tf.constant(pictures), SEED, 1, one).numpy() for one in (1 / 3, 1.0))
    colours = []
    for number in range(len(pictures)):
        before, own = pictures[number - 1], figure[number]
        mean = before[~figure[number - 1]].mean(0)
        assert np.abs(third[number][~own].astype(float) - mean).max() <= 1
        # The other picture's ground, and its mean where that one's own figure was.
        covered = figure[number - 1] & ~own
        np.testing.assert_array_equal(whole[number][~own & ~covered], before[~own & ~covered])
        assert np.abs(whole[number][covered].astype(float) - mean).max() <= 1
        # One colour, the same in both, far from what is around it.
        (colour,) = np.unique(whole[number][own], axis=0)
        np.testing.assert_array_equal(third[number][own], np.tile(colour, (own.sum(), 1)))
        assert abs(float((colour - mean) @ LUMA)) >= 68
        colours.append(tuple(colour))
    assert len(set(colours)) == len(pictures)


def test_of_two_views_both_are_as_far_as_they_have_grown_and_share_neither_colour_nor_ground():
    pictures = squares()
    begun, ended = (pairs.two(pictures, SEED, "light", figure=True, grown=one) for one in (0.0, 1.0))
    for shown in (begun["first"], begun["second"]):
        assert (shown.numpy() > 220).any((1, 2, 3)).all() and (shown.numpy() < 60).mean() > 0.8
    first, second = (ended[name].numpy().astype(float).mean((1, 2)) for name in ("first", "second"))
    assert (np.abs(first - second).max(axis=1) > 1).all()
    again = pairs.two(pictures, SEED, "light", figure=True, grown=1.0)
    np.testing.assert_array_equal(again["first"], ended["first"])


def test_a_picture_in_which_nothing_stands_out_gives_a_view_nevertheless():
    flat = np.full((3, 16, 16, 3), 90, "uint8")
    found = pairs.two(flat, SEED, "medium", figure=True, grown=0.4)
    assert found["second"].shape == flat.shape and found["second"].dtype == tf.uint8
