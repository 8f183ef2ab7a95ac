"""Two views of each picture, as networks learn from that are given no labels: what the two share is all that
they can learn.

Where the views share their background, a network tells pictures by that and looks at nothing else. So the
first view may be what stands out alone, white on black, in which nothing of the background is left. It needs
to know nothing of what that is.
"""

import tensorflow as tf

from runner.augment import views
from runner.augment.draws import fold
from runner.errors import InputError

BINS = 64
"""Of the histogram that the threshold between figure and ground is taken from; each is 4 levels."""


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
    figure: the first view is its figure, white on black; the second is `growing`.
    grown: how far the second view has grown, 0 to 1; without `figure` it has no effect.
    Raises InputError for an unknown strength, "none", and other images.
    """
    if strength == "none":
        raise InputError(
            "Received strength='none', with which two views are one; give one of "
            f"{', '.join(views.STRENGTHS[1:])}."
        )
    first, second = (views.apply(images, fold(seed, number), strength, flip) for number in (2, 3))
    if figure:
        first, second = growing(first, 0.0), growing(second, grown)
    return {"first": first, "second": second}


def growing(images: tf.Tensor, grown: float | tf.Tensor) -> tf.Tensor:
    """Return pictures, uint8 like `images`, on their way from their figures to themselves.

    grown: 0, the figure white on black; until 1/2 it takes on its colours, and the ground its mean one; from
    there to 1 the ground becomes what it is. Small networks find nothing that a figure and its whole picture
    have in common for thousands of steps, unless they begin so.
    """
    pixels, stands_out = tf.cast(images, tf.int32), standing_out(images)[..., None]
    grown = tf.convert_to_tensor(grown, tf.float32)
    coloured, whole = (
        tf.cast(tf.round(256 * tf.clip_by_value(2 * grown - start, 0.0, 1.0)), tf.int32) for start in (0, 1)
    )
    behind = 256 - stands_out
    # In 64 bits: a sum over 4,096 pixels of 255 x 256 takes 28, and pictures may be larger.
    weight = tf.reduce_sum(tf.cast(behind, tf.int64), [1, 2], keepdims=True)
    mean = tf.reduce_sum(tf.cast(behind * pixels, tf.int64), [1, 2], keepdims=True) // tf.maximum(weight, 1)
    mean = tf.cast(mean, tf.int32)
    ground = mean + (pixels - mean) * whole // 256
    shown = (stands_out * pixels + behind * ground) // 256
    white = tf.minimum(stands_out, 255)
    return tf.cast((shown * coloured + white * (256 - coloured)) // 256, tf.uint8)


def standing_out(images: tf.Tensor) -> tf.Tensor:
    """How much of each pixel stands out from its picture, int32 (n, height, width), 0 to 256.

    That is the smaller side of the threshold that parts the luminance best (Otsu, "A threshold selection
    method from gray-level histograms", 1979), with a ramp of 32 levels; where nothing stands out it is some
    part of the picture. As a view beside the whole picture it is near to the saliency of Ryali et al.,
    "Characterizing and improving the robustness of self-supervised learning through background
    augmentations" (2021, arXiv:2103.12719), which is learned.
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
