"""Two views of each picture, as networks learn from that are given no labels: what the two share is all that
they can learn.

Where the views share their background, a network tells pictures by that and looks at nothing else; where they
share a colour, by the colour. So both may be repainted: what stands out, in a colour drawn at random, on the
ground of another picture. It needs to know nothing of what stands out.
"""

import tensorflow as tf

from runner.augment import views
from runner.augment.draws import fold, uniform
from runner.augment.matrices import LUMA
from runner.errors import InputError

BINS = 64
"""Of the histogram that the threshold between figure and ground is taken from; each is 4 levels."""
CONTRAST = 70.0
"""Levels of lightness that a figure's colour is from the mean of its ground, where there is room."""


def two(
    images: tf.Tensor,
    seed: tf.Tensor,
    strength: str,
    *,
    flip: bool = False,
    figure: bool = False,
    grown: float | tf.Tensor = 1.0,
) -> dict[str, tf.Tensor]:
    """Return "first" and "second", two random views of each picture, uint8 (n, height, width, 3) each.

    images: uint8 (n, height, width, 3), RGB. seed: int64 (2,); the same seed gives the same bytes.
    strength, flip: of `views.apply`, but "none".
    figure: both are views of the picture as `repainted`, each in its own way.
    grown: see `repainted`; without `figure` it has no effect.
    Raises InputError for an unknown strength, "none", and other images.
    """
    if strength == "none":
        raise InputError(
            "Received strength='none', with which two views are one; give one of "
            f"{', '.join(views.STRENGTHS[1:])}."
        )
    shown = [images, images]
    if figure:
        # On the grounds of two different pictures.
        shown = [repainted(images, fold(seed, 4 + n), shift, grown) for n, shift in enumerate((1, 3))]
    first, second = (views.apply(one, fold(seed, 2 + n), strength, flip) for n, one in enumerate(shown))
    return {"first": first, "second": second}


def repainted(images: tf.Tensor, seed: tf.Tensor, shift: int, grown: float | tf.Tensor = 1.0) -> tf.Tensor:
    """Return pictures, uint8 like `images`, whose figure has a random colour, before another one's ground.

    The figure is what stands out (`standing_out`); the ground is that of the picture `shift` places before,
    whose own figure gives way to its mean ground. As in BG-Swaps of Ryali et al., "Characterizing and
    improving the robustness of self-supervised learning through background augmentations" (2021,
    arXiv:2103.12719), whose saliency is learned; the colour is drawn anew beside.

    images: uint8 (n, height, width, 3). seed: int64 (2,).
    grown: 0 shows the figure white on black; until 1/3 it takes on its colour, and the ground the mean one of
    what it will be; from there to 1 the ground becomes what it is. Networks that start from nothing find what
    two whole pictures have in common many times more slowly.
    """
    pixels = tf.cast(images, tf.float32)
    figure = tf.cast(standing_out(images), tf.float32)[..., None] / 256
    grown = tf.convert_to_tensor(grown, tf.float32)
    coloured, whole = tf.clip_by_value(3 * grown, 0.0, 1.0), tf.clip_by_value((3 * grown - 1) / 2, 0.0, 1.0)
    mean = tf.reduce_sum((1 - figure) * pixels, [1, 2], keepdims=True)
    mean /= tf.maximum(tf.reduce_sum(1 - figure, [1, 2], keepdims=True), 1.0)
    mean, others = (tf.roll(one, shift, 0) for one in (mean, (1 - figure) * pixels + figure * mean))
    ground = coloured * (mean + whole * (others - mean))
    painted = coloured * apart(_colours(seed, images), mean) + (1 - coloured) * 255
    return tf.cast(tf.round(figure * painted + (1 - figure) * ground), tf.uint8)


# Always compiled: XLA deals the numbers out in another order than TensorFlow's own operations.
@tf.function(jit_compile=True, autograph=False)
def _colours(seed, images):
    return uniform((tf.shape(images)[0], 1, 1, 3), fold(seed, 0), 0.0, 255.0)


def apart(colours: tf.Tensor, ground: tf.Tensor) -> tf.Tensor:
    """Return colours, float32 (n, 1, 1, 3) of 0..255, moved away from a ground whose lightness is within
    `CONTRAST` of theirs, to the side that has more room.
    """
    own, behind = (tf.reduce_sum(one * LUMA, -1, keepdims=True) for one in (colours, ground))
    moved = colours + tf.where(behind > 127.5, -1.5 * CONTRAST, 1.5 * CONTRAST)
    return tf.clip_by_value(tf.where(tf.abs(own - behind) < CONTRAST, moved, colours), 0.0, 255.0)


def standing_out(images: tf.Tensor) -> tf.Tensor:
    """How much of each pixel stands out from its picture, int32 (n, height, width), 0 to 256.

    That is the smaller side of the threshold that parts the luminance best (Otsu, "A threshold selection
    method from gray-level histograms", 1979), with a ramp of 32 levels; where nothing stands out it is some
    part of the picture.
    """
    red, green, blue = tf.unstack(tf.cast(images, tf.int32), axis=3)
    light = (77 * red + 150 * green + 29 * blue) // 256
    bins = tf.reshape(light * BINS // 256, [tf.shape(light)[0], -1])
    counts = tf.math.bincount(bins, minlength=BINS, maxlength=BINS, axis=-1)
    # Otsu's criterion for each threshold: the variance between the two sides.
    counts, levels = tf.cast(counts, tf.float64), tf.range(BINS, dtype=tf.float64)
    below, sums = tf.cumsum(counts, axis=1), tf.cumsum(counts * levels, axis=1)
    every, total = below[:, -1:], sums[:, -1:]
    between = (total * below - sums * every) ** 2 / tf.maximum(below * (every - below), 1.0)
    # Where no pixel lies between the sides many thresholds are as good: the one in the middle.
    first = tf.argmax(between[:, :-1], axis=1, output_type=tf.int32)
    last = BINS - 2 - tf.argmax(between[:, -2::-1], axis=1, output_type=tf.int32)
    threshold = (first + last + 2) * (256 // BINS) // 2
    lighter = tf.clip_by_value(128 + 8 * (light - threshold[:, None, None]), 0, 256)
    half = tf.shape(light)[1] * tf.shape(light)[2] * 128
    larger = tf.reduce_sum(lighter, [1, 2], keepdims=True) > half
    return tf.where(larger, 256 - lighter, lighter)
