"""How far views may go, and the two matrices of each: where its pixels come from and what colour they take.

A view is drawn as eleven numbers a picture (`draws`), of which everything else follows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from runner.augment.draws import fold, uniform


@dataclass(frozen=True)
class Magnitudes:
    """How far one strength goes; each image draws uniformly from the range a field gives."""

    smallest_crop: float
    """Zoomed in most, the view spans this share of the image's sides, at a random place."""
    largest_crop: float
    """Zoomed out most, it spans this share; beyond 1 what is outside the image shows, see `apply`."""
    stretch: float
    """Height against width changes by a factor between 1 / (1 + stretch) and 1 + stretch."""
    rotation: float
    """Degrees, either way."""
    shear: float
    """Degrees by which upright lines lean, either way."""
    shift: float
    """Share of the side, either way, on top of the crop's random place."""
    brightness: float
    """All values times 1 - brightness to 1 + brightness."""
    contrast: float
    """Distance from the image's mean grey times 1 - contrast to 1 + contrast."""
    saturation: float
    """Distance of a pixel from its own grey times 1 - saturation to 1 + saturation."""
    hue: float
    """Degrees on the colour circle, either way; grey value and luma stay."""


MAGNITUDES = {
    "light": Magnitudes(0.88, 1.00, 0.00, 5.0, 0.0, 0.03, 0.10, 0.10, 0.10, 0.0),
    "medium": Magnitudes(0.70, 1.05, 0.10, 12.0, 5.0, 0.05, 0.20, 0.20, 0.30, 6.0),
    "strong": Magnitudes(0.55, 1.10, 0.20, 25.0, 10.0, 0.05, 0.30, 0.30, 0.50, 15.0),
    # For pairs of views without labels, which must differ in colour most of all (SimCLR, section 3.2).
    "contrastive": Magnitudes(0.50, 1.00, 0.30, 10.0, 5.0, 0.00, 0.60, 0.60, 0.90, 40.0),
}
STRENGTHS = ("none", *MAGNITUDES)

# Rec. 601 luma and the colour axes I and Q: turning I and Q into each other moves the hue and leaves luma be.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
LUMA = _YIQ[0].astype("float32")
"""What red, green and blue weigh in a pixel's grey."""


def draws(seed: Sequence[int] | tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return what decides the views of `count` images: float32 (count, 11), uniform from -1 to below 1."""
    return _draws(tf.cast(seed, tf.int64), tf.zeros((count,)))


# Always compiled: XLA deals the numbers out in another order than TensorFlow's own operations.
@tf.function(jit_compile=True, autograph=False)
def _draws(seed, images):
    count = tf.shape(images)[0]
    parts = [uniform((count, width), fold(seed, part), -1.0, 1.0) for part, width in enumerate((7, 4))]
    return tf.concat(parts, axis=1)


def geometric_matrices(
    drawn: tf.Tensor, height: tf.Tensor, width: tf.Tensor, strength: str, flip: bool = False
) -> tf.Tensor:
    """Return float32 (count, 2, 3): where each view's pixels come from. drawn: from `draws`.

    Pixel (x, y) of the view shows the image at matrix @ (x, y, 1); both in pixels, x to the right, y down,
    (0, 0) the centre of the top left pixel. strength: any of `STRENGTHS` but "none".
    """
    magnitudes = MAGNITUDES[strength]
    zoom, stretch, rotation, shear, shift_x, shift_y, side = tf.unstack(drawn[:, :7], axis=1)
    smallest, largest = math.log(magnitudes.smallest_crop), math.log(magnitudes.largest_crop)
    crop = tf.exp((largest + smallest) / 2 + (largest - smallest) / 2 * zoom)
    half_stretch = tf.exp(math.log1p(magnitudes.stretch) / 2 * stretch)
    span_x, span_y = crop * half_stretch, crop / half_stretch
    if flip:
        span_x = tf.where(side < 0, -span_x, span_x)
    angle = math.radians(magnitudes.rotation) * rotation
    lean = tf.tan(math.radians(magnitudes.shear) * shear)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    # rotation @ shear @ diag(span_x, span_y)
    xx, xy = cosine * span_x, (cosine * lean - sine) * span_y
    yx, yy = sine * span_x, (sine * lean + cosine) * span_y
    room = tf.maximum(1.0 - crop, 0.0) / 2 + magnitudes.shift
    width, height = tf.cast(width, tf.float32), tf.cast(height, tf.float32)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    from_x = centre_x - (xx * centre_x + xy * centre_y) + room * shift_x * width
    from_y = centre_y - (yx * centre_x + yy * centre_y) + room * shift_y * height
    return tf.stack([tf.stack([xx, xy, from_x], axis=1), tf.stack([yx, yy, from_y], axis=1)], axis=1)


def colour_matrices(drawn: tf.Tensor, mean_grey: tf.Tensor, strength: str) -> tf.Tensor:
    """Return float32 (count, 3, 4): matrix @ (red, green, blue, 1) is a pixel's new colour, in levels 0..255.

    drawn: from `draws`. mean_grey: float32 (count,), the mean luma of each image, around which contrast
    turns.
    """
    magnitudes = MAGNITUDES[strength]
    *_, brightness, contrast, saturation, hue = tf.unstack(drawn, axis=1)
    brightness = 1 + magnitudes.brightness * brightness
    contrast = 1 + magnitudes.contrast * contrast
    saturation = 1 + magnitudes.saturation * saturation
    angle = math.radians(magnitudes.hue) * hue
    # Back from YIQ with luma kept and the colour plane turned by the angle and stretched by the saturation.
    cosine, sine = saturation * tf.cos(angle), saturation * tf.sin(angle)
    back = np.linalg.inv(_YIQ)
    keep = np.outer(back[:, 0], _YIQ[0])
    along = np.outer(back[:, 1], _YIQ[1]) + np.outer(back[:, 2], _YIQ[2])
    across = np.outer(back[:, 2], _YIQ[1]) - np.outer(back[:, 1], _YIQ[2])
    constant = lambda matrix: tf.constant(matrix, tf.float32)[None]  # noqa: E731
    turned = constant(keep) + constant(along) * cosine[:, None, None] + constant(across) * sine[:, None, None]
    linear = turned * (brightness * contrast)[:, None, None]
    offset = brightness * (1 - contrast) * mean_grey
    return tf.concat([linear, tf.tile(offset[:, None, None], [1, 3, 1])], axis=2)
