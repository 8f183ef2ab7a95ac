"""Two views of each picture: what they share, and that what stands out comes to stand on another ground."""

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
    one, again, other = (
        pairs.two(pictures, seed, "contrastive", background=0.5) for seed in (SEED, SEED, SEED + 1)
    )
    for name in ("first", "second"):
        assert one[name].dtype == tf.uint8 and one[name].shape == pictures.shape
        np.testing.assert_array_equal(one[name], again[name])
        assert (one[name].numpy() != other[name].numpy()).any()
    assert (one["first"].numpy() != one["second"].numpy()).any((1, 2, 3)).all()
    for wrong in ({"strength": "none"}, {"strength": "light", "background": 1.5}):
        with pytest.raises(InputError, match="two views must differ"):
            pairs.two(pictures, SEED, **wrong)


def test_what_stands_out_is_first_white_on_black_and_then_on_another_ground():
    pictures = squares()
    figure = (pictures == 230).all(axis=3)
    plain = pairs.on_other_grounds(tf.constant(pictures), SEED, 0.5, 0.0).numpy()
    np.testing.assert_array_equal(plain, np.repeat(np.where(figure, 255, 0)[..., None], 3, axis=3))
    full = pairs.on_other_grounds(tf.constant(pictures), SEED, 1.0).numpy().astype(int)
    grey = full.mean(axis=3)
    for number in range(len(pictures)):
        inside, outside = grey[number][figure[number]], grey[number][~figure[number]]
        assert inside.std() < 1 and abs(inside.mean() - outside.mean()) > 10
        # The ground is of another picture: pixel by pixel it has nothing of this one's.
        own = pictures[number].astype(int).mean(axis=2)[~figure[number]]
        assert abs(np.corrcoef(own, outside)[0, 1]) < 0.2
    # The smaller side stands out, also where it is the darker one.
    turned = pairs.on_other_grounds(tf.constant(255 - pictures), SEED, 0.5, 0.0).numpy()
    np.testing.assert_array_equal(turned, plain)


def test_of_a_share_of_views_the_ground_stays():
    pictures = np.concatenate([squares()] * 40)
    changed = pairs.on_other_grounds(tf.constant(pictures), SEED, 0.3).numpy()
    share = (changed != pictures).any(axis=(1, 2, 3)).mean()
    assert 0.2 < share < 0.4
    np.testing.assert_array_equal(pairs.on_other_grounds(tf.constant(pictures), SEED, 0.0), pictures)


def test_patches_are_put_in_another_order_and_none_is_lost():
    pictures = np.arange(2 * 9 * 10 * 3).reshape(2, 9, 10, 3) % 251
    found = pairs.shuffled(tf.constant(pictures, tf.int32), SEED).numpy()
    assert found.shape == pictures.shape and (found != pictures).any((1, 2, 3)).all()
    for one, other in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(np.sort(one[:8, :8].ravel()), np.sort(other[:8, :8].ravel()))
        parts = [
            sorted(part[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].tobytes() for i in range(4) for j in range(4))
            for part in (one, other.astype("int32"))
        ]
        assert parts[0] == parts[1]
    np.testing.assert_array_equal(found[:, 8:], pictures[:, 8:])  # what no patch takes stays
    np.testing.assert_array_equal(found[:, :8, 8:], pictures[:, :8, 8:])
