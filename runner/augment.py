"""Random views of a batch of photos: one fused geometric warp and one fused colour transform per image.

Every image of a batch draws its own parameters from a stateless seed. Flip, crop, zoom, stretch, rotation,
shear and translation become one affine matrix, so the image is sampled once; brightness, contrast, saturation
and hue become one 3x4 matrix, so each pixel is coloured once. Pixels are computed in whole numbers (a pixel
is one int32, positions have 16 binary places): a seed gives the same bytes on any number of threads.

    batches = augment.dataset(batches, "medium", seed=0, flip=True, mixup=0.2)
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from runner.errors import InputError, suggest


@dataclass(frozen=True)
class Magnitudes:
    """How far one strength goes; each image draws uniformly from the range a field gives."""

    smallest_crop: float
    """Zoomed in most, the view spans this share of the image's sides, at a random place."""
    largest_crop: float
    """Zoomed out most, it spans this share; beyond 1 the border shows the image mirrored."""
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
}
STRENGTHS = ("none", *MAGNITUDES)

_POSITION_BITS = 16
_COLOUR_BITS = 12
_RED_BLUE = 0x00FF00FF

# Rec. 601 luma and the colour axes I and Q: turning I and Q into each other moves the hue and leaves luma be.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_LUMA = _YIQ[0].astype("float32")


def apply(images, seed, strength: str, flip: bool = False):
    """Return one random view of each image.

    images: uint8 (batch, height, width, 3), RGB.
    seed: two whole numbers, a list or a tensor (2,); the same seed gives the same bytes.
    strength: one of `STRENGTHS`; "none" returns the images as they are, whatever `flip` says.
    flip: mirror every second image left to right, on average. Off unless asked for: a mirrored flower is a
    flower, a mirrored digit, letter or road sign is something else.
    Returns uint8 (batch, height, width, 3). Raises `InputError` for an unknown strength and other images.
    """
    _check_strength(strength)
    images = tf.convert_to_tensor(images)
    _check_images(images.dtype, images.shape)
    if strength == "none":
        return images
    return transform(images, *_matrices(images, tf.cast(seed, tf.int64), strength, bool(flip)))


def preview(image, strength: str, count: int, seed: int = 0, flip: bool = False) -> np.ndarray:
    """Return `count` random views of one image, uint8 (height, width, 3), as uint8 (count, height, width, 3).

    The others as for `apply`. Raises `InputError` as `apply` does.
    """
    image = tf.convert_to_tensor(image)
    return apply(tf.repeat(image[None], count, axis=0), (seed, 0), strength, flip).numpy()


def dataset(
    batches: tf.data.Dataset,
    strength: str,
    *,
    seed: int,
    flip: bool = False,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    start: int | None = None,
) -> tf.data.Dataset:
    """Return the batches augmented, each pass over them differently, in parallel and in the same order.

    batches: elements are dicts with "image" uint8 (batch, height, width, 3) and, for mixup or cutmix, "label"
    float32 (batch, classes), one-hot; what else is in the dict is passed on as it is.
    seed: two datasets made with the same seed from the same batches give the same first epoch, the same
    second epoch and so on, in any process, and these epochs differ. A global seed
    (`keras.utils.set_random_seed`) counts as well.
    strength, flip: see `apply`.
    mixup: alpha of MixUp, 0 = off. Each image becomes w * image + (1 - w) * the next image of the batch,
    w ~ Beta(alpha, alpha), and its label likewise (Zhang et al. 2018, arXiv:1710.09412). Images stay uint8:
    w is a multiple of 1 / 256, exactly so in the label, and pixels are rounded to whole grey levels.
    cutmix: alpha of CutMix, 0 = off. A rectangle of the next image is pasted into each; it has 1 - w of the
    area before the border cuts it, w ~ Beta(alpha, alpha), and labels are mixed by the pixels from each
    (Yun et al. 2019, arXiv:1905.04899). With both on, a coin picks one of the two for each batch.
    start: None, or how many batches of all epochs are behind: gives the batches from there on without end,
    as `repeat().skip(start)` of the result would, but nothing is augmented only to be thrown away. Needs
    batches of known cardinality.
    Raises `InputError` for an unknown strength, a negative alpha and elements of another kind.
    """
    _check_strength(strength)
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not (math.isfinite(alpha) and alpha >= 0):
            raise InputError(f"{name} is {alpha}; give the alpha of its Beta distribution: 0 (off) or above.")
    spec = batches.element_spec
    if not isinstance(spec, dict) or "image" not in spec:
        raise InputError(f'Received a dataset of {spec}; give dicts with an "image", in batches.')
    _check_images(spec["image"].dtype, spec["image"].shape)
    mixes = mixup > 0 or cutmix > 0
    if mixes:
        label = spec.get("label")
        if label is None or label.dtype != tf.float32 or label.shape.rank != 2:
            raise InputError(
                f'mixup and cutmix mix labels; "label" is {label}; give float32 (batch, classes), one-hot '
                "(keras.ops.one_hot), or set both to 0."
            )

    def augmented(element, batch_seed):
        element = dict(element)
        element["image"] = apply(element["image"], _fold(batch_seed, 0), strength, flip)
        if mixes:
            mixing_seed = _fold(batch_seed, 1)
            mixed = _mix(element["image"], element["label"], mixing_seed, mixup, cutmix)
            element["image"], element["label"] = mixed
        return element

    steps = batches.cardinality()
    if start is not None:
        batches = batches.repeat().skip(start)
    if strength == "none" and not mixes:
        return batches
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)
    if start is not None:
        seeds = seeds.take(steps).repeat().skip(start)
    pairs = tf.data.Dataset.zip(batches, seeds)
    return pairs.map(augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


# --- the two matrices of an image -----------------------------------------------------------------


@tf.function(jit_compile=True)  # a hundred operations on tiny tensors: compiled they cost a sixth
def _matrices(images, seed, strength, flip):
    """The geometric and the colour matrices of a batch."""
    count, height, width, _ = tf.unstack(tf.shape(images))
    # A sixteenth of the pixels is plenty for a mean, and a sum of whole numbers has one value in any order.
    sample = tf.cast(images[:, ::4, ::4], tf.int32)
    total = tf.cast(tf.reduce_sum(sample, [1, 2]), tf.float32)
    pixels = tf.cast(tf.shape(sample)[1] * tf.shape(sample)[2], tf.float32)
    mean_grey = tf.reduce_sum(total * _LUMA, axis=1) / pixels
    geometric = geometric_matrices(seed, count, height, width, strength, flip)
    return geometric, colour_matrices(seed, mean_grey, strength)


def _fold(seed, number):
    # Philox by name: left to choose, TensorFlow takes another generator on another device or when compiled.
    return tf.random.fold_in(seed, number, alg="philox")


def _uniform(shape, seed, low=0.0, high=1.0):
    return tf.random.stateless_uniform(shape, seed, low, high, alg="philox")


def geometric_matrices(seed, count, height, width, strength: str, flip: bool = False):
    """Return float32 (count, 2, 3): where each view's pixels come from.

    Pixel (x, y) of the view shows the image at matrix @ (x, y, 1); both in pixels, x to the right, y down,
    (0, 0) the centre of the top left pixel. strength: any of `STRENGTHS` but "none".
    """
    magnitudes = MAGNITUDES[strength]
    draws = _uniform((count, 7), _fold(seed, 0), -1.0, 1.0)
    zoom, stretch, rotation, shear, shift_x, shift_y, side = tf.unstack(draws, axis=1)
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


def colour_matrices(seed, mean_grey, strength: str):
    """Return float32 (count, 3, 4): matrix @ (red, green, blue, 1) is a pixel's new colour, in levels 0..255.

    mean_grey: float32 (count,), the mean luma of each image, around which contrast turns.
    """
    magnitudes = MAGNITUDES[strength]
    draws = _uniform((tf.shape(mean_grey)[0], 4), _fold(seed, 1), -1.0, 1.0)
    brightness = 1 + magnitudes.brightness * draws[:, 0]
    contrast = 1 + magnitudes.contrast * draws[:, 1]
    saturation = 1 + magnitudes.saturation * draws[:, 2]
    angle = math.radians(magnitudes.hue) * draws[:, 3]
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


def transform(images, geometric, colour):
    """Return the images sampled once through `geometric` and coloured once through `colour`.

    images: uint8 (batch, height, width, 3), sides up to 16,384 pixels; geometric: float32 (batch, 2, 3) and
    colour: float32 (batch, 3, 4), see `geometric_matrices` and `colour_matrices`. Bilinear; beyond the border
    the image goes on mirrored. Returns uint8 of the same shape.
    """
    # Three compiled steps, not one: XLA fuses across gathers by computing them again for every use (at 224 px
    # on two cores 600 to 1,000 images/s as one, 1,900 as three; ImageProjectiveTransformV3 alone 500).
    geometric = tf.cast(tf.round(geometric * 2**_POSITION_BITS), tf.int32)
    colour = tf.cast(tf.round(colour * 2**_COLOUR_BITS), tf.int32)
    packed = _pack(images)
    return _blend(*_corners(packed, geometric), geometric, colour)


_IMAGES = tf.TensorSpec((None, None, None, 3), tf.uint8)
_PACKED = tf.TensorSpec((None, None, None), tf.int32)
_GEOMETRIC = tf.TensorSpec((None, 2, 3), tf.int32)
_COLOUR = tf.TensorSpec((None, 3, 4), tf.int32)


@tf.function(jit_compile=True, input_signature=[_IMAGES])
def _pack(images):
    """One int32 a pixel: red, green, blue and zero from the lowest byte up."""
    images = tf.cast(images, tf.int32)
    return images[..., 0] + images[..., 1] * 2**8 + images[..., 2] * 2**16


def _positions(geometric, height, width):
    """Where in the image each pixel of the view lies: int32 with 16 binary places, mirrored into it."""
    columns, rows = tf.range(width)[None, None, :], tf.range(height)[None, :, None]
    entry = lambda i, j: geometric[:, i, j][:, None, None]  # noqa: E731
    x = entry(0, 0) * columns + (entry(0, 1) * rows + entry(0, 2))
    y = entry(1, 0) * columns + (entry(1, 1) * rows + entry(1, 2))
    last_x, last_y = (width - 1) * 2**_POSITION_BITS, (height - 1) * 2**_POSITION_BITS
    x, y = last_x - tf.abs(last_x - tf.abs(x)), last_y - tf.abs(last_y - tf.abs(y))
    return tf.maximum(x, 0), tf.maximum(y, 0)


@tf.function(jit_compile=True, input_signature=[_PACKED, _GEOMETRIC])
def _corners(packed, geometric):
    """The four image pixels around each position: left and right above, left and right below."""
    count, height, width = tf.unstack(tf.shape(packed))
    x, y = _positions(geometric, height, width)
    first = (tf.range(count) * (height * width))[:, None, None]
    row, column = tf.bitwise.right_shift(y, _POSITION_BITS), tf.bitwise.right_shift(x, _POSITION_BITS)
    corner = first + row * width + column
    pixels, last = tf.reshape(packed, [-1]), count * height * width - 1
    # In the last row or column the neighbour beyond has weight 0, so it may be any pixel that exists.
    neighbours = (0, 1, width, width + 1)
    return tuple(tf.gather(pixels, tf.minimum(corner + neighbour, last)) for neighbour in neighbours)


def _between(start, end, share):
    """start + (end - start) * share / 256 for each byte of int32, rounded: two bytes a multiplication."""
    both, half = tf.constant(_RED_BLUE), tf.constant(0x00800080)
    low_start, low_end = tf.bitwise.bitwise_and(start, both), tf.bitwise.bitwise_and(end, both)
    low = tf.bitwise.right_shift(low_start * 256 + (low_end - low_start) * share + half, 8)
    high_start = tf.bitwise.bitwise_and(tf.bitwise.right_shift(start, 8), both)
    high_end = tf.bitwise.bitwise_and(tf.bitwise.right_shift(end, 8), both)
    high = high_start * 256 + (high_end - high_start) * share + half
    low, high = tf.bitwise.bitwise_and(low, both), tf.bitwise.bitwise_and(high, ~_RED_BLUE)
    return tf.bitwise.bitwise_or(low, high)


@tf.function(jit_compile=True, input_signature=[_PACKED] * 4 + [_GEOMETRIC, _COLOUR])
def _blend(top_left, top_right, bottom_left, bottom_right, geometric, colour):
    """Weigh the four corners by distance, colour the result, unpack it to bytes."""
    _, height, width = tf.unstack(tf.shape(top_left))
    x, y = _positions(geometric, height, width)
    share_x = tf.bitwise.bitwise_and(tf.bitwise.right_shift(x, _POSITION_BITS - 8), 255)
    share_y = tf.bitwise.bitwise_and(tf.bitwise.right_shift(y, _POSITION_BITS - 8), 255)
    top, bottom = _between(top_left, top_right, share_x), _between(bottom_left, bottom_right, share_x)
    pixel = _between(top, bottom, share_y)
    channels = [tf.bitwise.bitwise_and(tf.bitwise.right_shift(pixel, shift), 255) for shift in (0, 8, 16)]
    entry = lambda i, j: colour[:, i, j][:, None, None]  # noqa: E731
    packed, half = 0, 2 ** (_COLOUR_BITS - 1)
    for i in range(3):
        value = sum((entry(i, j) * channels[j] for j in range(3)), entry(i, 3) + half)
        packed += tf.clip_by_value(tf.bitwise.right_shift(value, _COLOUR_BITS), 0, 255) * 2 ** (8 * i)
    return tf.bitcast(packed, tf.uint8)[..., :3]


# --- MixUp and CutMix -----------------------------------------------------------------------------


def _mix(images, labels, seed, mixup: float, cutmix: float):
    """Mix each image and label of a batch with its neighbour's (the last with the first's); see `dataset`."""
    other_images, other_labels = tf.roll(images, -1, axis=0), tf.roll(labels, -1, axis=0)
    if mixup and cutmix:
        coin = _uniform((), _fold(seed, 0)) < 0.5
        images, kept = tf.cond(
            coin,
            lambda: _mixup(images, other_images, _beta(tf.shape(images)[0], seed, mixup)),
            lambda: _cutmix(images, other_images, seed, cutmix),
        )
    elif mixup:
        images, kept = _mixup(images, other_images, _beta(tf.shape(images)[0], seed, mixup))
    else:
        images, kept = _cutmix(images, other_images, seed, cutmix)
    return images, kept[:, None] * labels + (1 - kept[:, None]) * other_labels


def _beta(count, seed, alpha: float):
    """float32 (count,) from Beta(alpha, alpha); float64 inside: both gammas are near 0 for a small alpha."""
    alpha = tf.constant(alpha, tf.float64)
    gammas = tf.random.stateless_gamma((count, 2), _fold(seed, 1), alpha, dtype=tf.float64)
    return tf.cast(tf.math.divide_no_nan(gammas[:, 0], gammas[:, 0] + gammas[:, 1]), tf.float32)


def _mixup(images, others, weight):
    """The mixed images and the share of each that is its own, a multiple of 1 / 256, float32 (batch,)."""
    weight = tf.cast(tf.round(weight * 256), tf.int32)
    return _weigh(images, others, weight), tf.cast(weight, tf.float32) / 256


@tf.function(jit_compile=True, input_signature=[_IMAGES, _IMAGES, tf.TensorSpec((None,), tf.int32)])
def _weigh(images, others, weight):
    images, others = tf.cast(images, tf.int32), tf.cast(others, tf.int32)
    weight = weight[:, None, None, None]
    return tf.cast(tf.bitwise.right_shift(others * 256 + (images - others) * weight + 128, 8), tf.uint8)


def _cutmix(images, others, seed, alpha: float):
    """The images with a rectangle of the others pasted in, and the share of pixels kept, float32 (batch,)."""
    count, height, width, _ = tf.unstack(tf.shape(images))
    side = tf.sqrt(1 - _beta(count, seed, alpha))
    centres = _uniform((count, 2), _fold(seed, 2))

    def ends(length, centre):
        length = tf.cast(length, tf.float32)
        first = tf.round(tf.maximum(centre * length - side * length / 2, 0))
        last = tf.round(tf.minimum(centre * length + side * length / 2, length))
        return tf.cast(first, tf.int32), tf.cast(last, tf.int32)

    (top, bottom), (left, right) = ends(height, centres[:, 0]), ends(width, centres[:, 1])
    kept = 1 - tf.cast((bottom - top) * (right - left), tf.float32) / tf.cast(height * width, tf.float32)
    return _paste(images, others, tf.stack([top, bottom, left, right], axis=1)), kept


@tf.function(jit_compile=True, input_signature=[_IMAGES, _IMAGES, tf.TensorSpec((None, 4), tf.int32)])
def _paste(images, others, boxes):
    """The images, and the others from row top to before bottom and from column left to before right."""
    top, bottom, left, right = (boxes[:, i][:, None, None, None] for i in range(4))
    _, height, width, _ = tf.unstack(tf.shape(images))
    rows, columns = tf.range(height)[None, :, None, None], tf.range(width)[None, None, :, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return tf.where(inside, others, images)


# --- what may come in -----------------------------------------------------------------------------


def _check_strength(strength):
    if strength not in STRENGTHS:
        allowed = ", ".join(STRENGTHS)
        near = suggest(strength, STRENGTHS)
        raise InputError(f"Received augmentation strength {strength!r}; choose one of {allowed}.{near}")


def _check_images(dtype, shape):
    if dtype != tf.uint8 or shape.rank != 4 or shape[-1] != 3:
        raise InputError(
            f"Received images of {dtype.name} {shape}; augmentation takes uint8 (batch, height, width, 3): "
            "give it batches of raw RGB, before any scaling."
        )
