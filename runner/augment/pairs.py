"""Two views of each picture, as networks learn from that are given no labels: what the two share is all that
they can learn.

Where the views share their background, a network tells pictures by that and looks at nothing else. So a view
may show what stands out in a picture on another ground (`on_other_grounds`), which needs to know nothing of
what that is.
"""

import tensorflow as tf

from runner.augment import views
from runner.augment.draws import fold, uniform
from runner.errors import InputError

BINS = 64
"""Of the histogram that the threshold between figure and ground is taken from; each is 4 levels."""
PATCHES = 4
"""A side: a ground is another picture with so many times so many patches in another order."""
TINT = 50
"""Levels by which figure and ground differ from grey at most, in each channel."""


def two(
    images: tf.Tensor,
    seed: tf.Tensor,
    strength: str,
    *,
    flip: bool = False,
    background: float = 0.0,
    grown: float | tf.Tensor = 1.0,
) -> dict[str, tf.Tensor]:
    """Return "first" and "second", two random views of each picture, uint8 (n, height, width, 3) each.

    images: uint8 (n, height, width, 3), RGB. seed: int64 (2,); the same seed gives the same bytes.
    strength, flip: of `views.apply`, but "none".
    background, grown: the share of views that show their figure on another ground, and how far these have
    grown, see `on_other_grounds`.
    Raises InputError for an unknown strength, other images and a share that is none.
    """
    if strength == "none" or not 0 <= background <= 1:
        raise InputError(
            f"Received strength={strength!r} and background={background}; two views must differ: give one "
            f"of {', '.join(views.STRENGTHS[1:])}, and a share from 0 to 1."
        )
    made = {}
    for number, name in enumerate(("first", "second")):
        own = fold(seed, number + 2)
        made[name] = views.apply(images, fold(own, 0), strength, flip)
        if background:
            made[name] = on_other_grounds(made[name], fold(own, 1), background, grown)
    return made


def on_other_grounds(
    images: tf.Tensor, seed: tf.Tensor, share: float, grown: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Return the pictures, of which a random share has what stands out on another ground, both in new
    colours: uint8 like `images`, (n, height, width, 3), n at least 2.

    What stands out is the smaller side of the threshold that parts the luminance best (Otsu, "A threshold
    selection method from gray-level histograms", 1979); where nothing does, it is some part of the picture.
    The ground is another picture of the batch with its patches in another order, so that no shape of that is
    left, darker than a light figure and lighter than a dark one. Such swaps by saliency are of Ryali et al.,
    "Characterizing and improving the robustness of self-supervised learning through background
    augmentations" (2021, arXiv:2103.12719); theirs is learned.

    grown: float32, from 0, where all pictures are white figures on black, to 1, with colours and grounds as
    above. Small networks find nothing in common to two views for thousands of steps, unless they begin so.
    """
    grown = tf.cast(tf.round(256 * tf.convert_to_tensor(grown, tf.float32)), tf.int32)
    count = tf.shape(images)[0]
    pixels = tf.cast(images, tf.int32)
    stands_out = _figure(pixels)[..., None]

    def drawn(number: int, low: int, high: int, channels: int = 1) -> tf.Tensor:
        found = uniform((count, 1, 1, channels), fold(seed, number), float(low), float(high))
        return tf.cast(tf.floor(found), tf.int32)

    # The figure's own shades stay, at half their contrast, around a level of its own.
    covered = tf.maximum(1, tf.reduce_sum(stands_out, [1, 2], keepdims=True))
    own = tf.reduce_sum(stands_out * pixels, [1, 2], keepdims=True) // covered
    level = drawn(0, 0, 256)
    figure = (pixels - own) // 2 + level + drawn(1, -TINT, TINT + 1, 3)
    figure = (figure * grown + 255 * (256 - grown)) // 256
    step = 1 + tf.cast(uniform((), fold(seed, 2)) * tf.cast(count - 1, tf.float32), tf.int32)
    ground = shuffled(tf.roll(pixels, step, axis=0), fold(seed, 3))
    area = tf.shape(pixels)[1] * tf.shape(pixels)[2]
    mean = tf.reduce_sum(ground, [1, 2], keepdims=True) // area
    below = tf.where(level > 128, drawn(4, 30, 120), drawn(5, 135, 220))
    ground = (ground - mean) * drawn(6, 50, 230) // 256 + below + drawn(7, -TINT, TINT + 1, 3)
    ground = ground * grown // 256
    figure, ground = (tf.clip_by_value(one, 0, 255) for one in (figure, ground))
    shown = (stands_out * figure + (256 - stands_out) * ground) // 256
    chosen = uniform((count, 1, 1, 1), fold(seed, 8)) * tf.cast(grown, tf.float32) < 256 * share
    return tf.cast(tf.where(chosen, shown, pixels), tf.uint8)


def _figure(pixels: tf.Tensor) -> tf.Tensor:
    """How much of each pixel stands out, int32 (n, height, width), 0 to 256."""
    red, green, blue = tf.unstack(pixels, axis=3)
    light = (77 * red + 150 * green + 29 * blue) // 256
    counts = tf.math.bincount(
        tf.reshape(light * BINS // 256, [tf.shape(light)[0], -1]), minlength=BINS, maxlength=BINS, axis=-1
    )
    # Otsu's criterion for each threshold: the variance between the two sides.
    counts, levels = tf.cast(counts, tf.float64), tf.range(BINS, dtype=tf.float64)
    below, sums = tf.cumsum(counts, axis=1), tf.cumsum(counts * levels, axis=1)
    every, total = below[:, -1:], sums[:, -1:]
    between = (total * below - sums * every) ** 2 / tf.maximum(below * (every - below), 1.0)
    # Where no pixel lies between the sides many thresholds are as good: the one in the middle.
    first = tf.argmax(between[:, :-1], axis=1, output_type=tf.int32)
    last = BINS - 2 - tf.argmax(between[:, -2::-1], axis=1, output_type=tf.int32)
    threshold = (first + last + 2) * (256 // BINS) // 2
    # A ramp of 32 levels: what is between the sides is a little of both.
    lighter = tf.clip_by_value(128 + 8 * (light - threshold[:, None, None]), 0, 256)
    half = tf.shape(light)[1] * tf.shape(light)[2] * 128
    larger = tf.reduce_sum(lighter, [1, 2], keepdims=True) > half
    return tf.where(larger, 256 - lighter, lighter)


def shuffled(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return pictures (n, height, width, channels) with PATCHES x PATCHES patches of each in a random order
    of its own; sides that PATCHES does not divide are gone on with at the right and below as they are.
    """
    count, height, width, channels = tf.unstack(tf.shape(images))
    high, wide = height // PATCHES, width // PATCHES
    whole = images[:, : high * PATCHES, : wide * PATCHES]
    parts = tf.reshape(whole, [count, PATCHES, high, PATCHES, wide, channels])
    parts = tf.reshape(tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [count, PATCHES**2, high, wide, channels])
    order = tf.argsort(uniform((count, PATCHES**2), seed), axis=1)
    parts = tf.reshape(tf.gather(parts, order, batch_dims=1), [count, PATCHES, PATCHES, high, wide, channels])
    parts = tf.reshape(
        tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [count, high * PATCHES, wide * PATCHES, channels]
    )
    right = tf.concat([parts, images[:, : high * PATCHES, wide * PATCHES :]], axis=2)
    return tf.concat([right, images[:, high * PATCHES :]], axis=1)
