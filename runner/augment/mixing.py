"""MixUp and CutMix: each picture of a batch mixed with the next one, and their labels likewise.

MixUp (Zhang et al. 2018, arXiv:1710.09412) lays one picture over the other, CutMix (Yun et al. 2019,
arXiv:1905.04899) pastes a rectangle of one into the other. Pixels are computed in whole numbers, and the
label says to the last digit which share of the pixels is whose. `augment.dataset` uses this.
"""

import tensorflow as tf

from runner.augment.draws import fold, uniform

_IMAGES = tf.TensorSpec((None, None, None, 3), tf.uint8)


def mix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the images and labels of a batch, each mixed with the next one's (the last with the first's).

    images: uint8 (batch, height, width, 3); labels: float32 (batch, classes), one-hot; seed: int64 (2,).
    mixup, cutmix: alpha of each, 0 = off, at least one above 0. With both a coin picks one for the batch.
    Returns uint8 and float32 of the same shapes.
    """
    other_images, other_labels = tf.roll(images, -1, axis=0), tf.roll(labels, -1, axis=0)
    if mixup and cutmix:
        coin = uniform((), fold(seed, 0)) < 0.5
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
    gammas = tf.random.stateless_gamma((count, 2), fold(seed, 1), alpha, dtype=tf.float64)
    return tf.cast(tf.math.divide_no_nan(gammas[:, 0], gammas[:, 0] + gammas[:, 1]), tf.float32)


def _mixup(images, others, weight):
    """The mixed images and the share of each that is its own, a multiple of 1 / 256, float32 (batch,)."""
    weight = tf.cast(tf.round(weight * 256), tf.int32)
    return _weigh(images, others, weight), tf.cast(weight, tf.float32) / 256


@tf.function(
    jit_compile=True, autograph=False, input_signature=[_IMAGES, _IMAGES, tf.TensorSpec((None,), tf.int32)]
)
def _weigh(images, others, weight):
    images, others = tf.cast(images, tf.int32), tf.cast(others, tf.int32)
    weight = weight[:, None, None, None]
    return tf.cast(tf.bitwise.right_shift(others * 256 + (images - others) * weight + 128, 8), tf.uint8)


def _cutmix(images, others, seed, alpha: float):
    """The images with a rectangle of the others pasted in, and the share of pixels kept, float32 (batch,)."""
    count, height, width, _ = tf.unstack(tf.shape(images))
    side = tf.sqrt(1 - _beta(count, seed, alpha))
    centres = uniform((count, 2), fold(seed, 2))

    def ends(length, centre):
        length = tf.cast(length, tf.float32)
        first = tf.round(tf.maximum(centre * length - side * length / 2, 0))
        last = tf.round(tf.minimum(centre * length + side * length / 2, length))
        return tf.cast(first, tf.int32), tf.cast(last, tf.int32)

    (top, bottom), (left, right) = ends(height, centres[:, 0]), ends(width, centres[:, 1])
    kept = 1 - tf.cast((bottom - top) * (right - left), tf.float32) / tf.cast(height * width, tf.float32)
    return _paste(images, others, tf.stack([top, bottom, left, right], axis=1)), kept


@tf.function(
    jit_compile=True, autograph=False, input_signature=[_IMAGES, _IMAGES, tf.TensorSpec((None, 4), tf.int32)]
)
def _paste(images, others, boxes):
    """The images, and the others from row top to before bottom and from column left to before right."""
    top, bottom, left, right = (boxes[:, i][:, None, None, None] for i in range(4))
    _, height, width, _ = tf.unstack(tf.shape(images))
    rows, columns = tf.range(height)[None, :, None, None], tf.range(width)[None, None, :, None]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return tf.where(inside, others, images)
