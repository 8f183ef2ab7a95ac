"""Random views of a batch of photos: one fused geometric warp and one fused colour transform per image.

Every image of a batch draws its own parameters from a stateless seed. Flip, crop, zoom, stretch, rotation,
shear and translation become one affine matrix, so the image is sampled once; brightness, contrast, saturation
and hue become one 3x4 matrix, so each pixel is coloured once. Pixels are computed in whole numbers (a pixel
is one int32, positions have 16 binary places): a seed gives the same bytes on any number of threads. Masks
and boxes go through the same matrix as their image (`warp`).

    batches = augment.dataset(batches, "medium", seed=0, flip=True, mixup=0.2)
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from runner.augment import mixing, warp
from runner.augment.draws import fold
from runner.augment.matrices import LUMA, STRENGTHS, colour_matrices, draws, geometric_matrices
from runner.errors import InputError, suggest

MIDDLE_GREY = 128
"""Shown beyond the border of an image with a mask or boxes: near 0 after any usual preprocessing."""

Seed: TypeAlias = Sequence[int] | tf.Tensor
"""Two whole numbers; a tensor of them is int64 (2,)."""

_BOX_LABELS = ("box_labels", "classes")


def apply(
    images: np.ndarray | tf.Tensor, seed: Seed, strength: str, flip: bool = False, fill: int | None = None
) -> tf.Tensor:
    """Return one random view of each image.

    images: uint8 (batch, height, width, 3), RGB.
    seed: two whole numbers, a list or a tensor (2,); the same seed gives the same bytes.
    strength: one of `STRENGTHS`; "none" returns the images as they are, whatever `flip` says.
    flip: mirror every second image left to right, on average. Off unless asked for: a mirrored flower is a
    flower, a mirrored digit, letter or road sign is something else.
    fill: the grey level, 0..255, of what lies beyond the border; None shows the image mirrored there.
    Returns uint8 (batch, height, width, 3). Raises `InputError` for an unknown strength, other images and
    another fill.
    """
    _check_strength(strength)
    _check_fill(fill)
    images = tf.convert_to_tensor(images)
    warp.check_images(images)
    if strength == "none":
        return images
    return show(draw({"input": images}, seed, strength, flip), fill=fill)["input"]


def apply_to_batch(
    batch: dict,
    seed: Seed,
    strength: str,
    flip: bool = False,
    *,
    fill: int | None = None,
    ignore: int = 255,
    least_visible: float = 0.3,
) -> dict:
    """Return the batch with one random view of each image, and its mask and boxes as that view shows them.

    batch: "input" as for `apply`, and any of
    "mask": class indices, uint8 or int32 (batch, height, width) or (batch, height, width, 1);
    "boxes": float32 (batch, n, 4), x_min, y_min, x_max, y_max in pixels, of the edges: the box of a whole
    image is (0, 0, width, height); rows without a box are -1 throughout;
    "box_labels" or "classes", beside "boxes": int32 or int64 (batch, n), -1 in rows without a box.
    What else is in the batch is passed on as it is, and "none" passes on everything.
    seed, strength, flip: as for `apply`; the images that `apply` returns, but for the border.
    fill: the grey level, 0..255, of what lies beyond the image's border. With a mask or boxes it is always
    one level (None: `MIDDLE_GREY`), never the image mirrored: a mirrored object would have no box.
    ignore: the mask's index beyond the border; give it to the loss as the index to leave out.
    least_visible: a box is dropped when less than this share of its area is in the view, or less than one
    pixel of a side: its row and its label become -1. A box in a turned view is the upright hull of the turned
    box and so larger than the object; see `warp.transform_boxes`.
    Returns a new dict. Raises `InputError` for other dtypes, shapes and options. Values are the loader's job
    and not looked at: boxes without area or of NaN are dropped, those with x_min beyond x_max set right.
    """
    _check_strength(strength)
    _check_fill(fill)
    names = [name for name in ("input", "mask", "boxes", *_BOX_LABELS) if name in batch]
    batch = batch | {name: _tensor(batch[name]) for name in names}
    _check_batch(batch, ignore, least_visible)
    if strength == "none":
        return batch
    batch = draw(batch, seed, strength, flip)
    return show(batch, fill=fill, ignore=ignore, least_visible=least_visible)


def draw(batch: dict, seed: Seed, strength: str, flip: bool = False) -> dict:
    """Return the batch with what `show` needs: "geometric" float32 (batch, 2, 3), where each view's pixels
    come from, and "colour" float32 (batch, 3, 4), see `geometric_matrices` and `colour_matrices`.

    It takes a few hundredths of the time of `show`, which may then run elsewhere. strength: not "none".
    """
    drawn = draws(seed, tf.shape(batch["input"])[0])
    geometric, colour = _matrices(batch["input"], drawn, strength, bool(flip))
    return batch | {"geometric": geometric, "colour": colour}


def show(batch: dict, *, fill: int | None = None, ignore: int = 255, least_visible: float = 0.3) -> dict:
    """Return the views that `draw` has drawn, without the matrices; together they are `apply_to_batch`."""
    batch = dict(batch)
    geometric, colour, images = batch.pop("geometric"), batch.pop("colour"), batch["input"]
    shapes = {"mask", "boxes", *_BOX_LABELS} & set(batch)
    if shapes and fill is None:
        fill = MIDDLE_GREY
    batch["input"] = _views(images, geometric, colour, fill)
    if "mask" in shapes:
        sizes = tf.shape(batch["mask"])[:3], tf.shape(images)[:3]  # where they are known only now
        tf.debugging.assert_equal(*sizes, "The masks and the images of a batch differ in size.")
        batch["mask"] = warp.transform_masks(batch["mask"], geometric, ignore)
    if "boxes" in shapes:
        _, height, width, _ = tf.unstack(tf.shape(images))
        boxes, seen = warp.transform_boxes(batch["boxes"], geometric, height, width, least_visible)
        batch["boxes"] = boxes
        for name in shapes.intersection(_BOX_LABELS):
            batch[name] = tf.where(seen, batch[name], tf.cast(-1, batch[name].dtype))
    return batch


def preview(
    image: np.ndarray | tf.Tensor, strength: str, count: int, seed: int = 0, flip: bool = False
) -> np.ndarray:
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
    fill: int | None = None,
    ignore: int = 255,
    least_visible: float = 0.3,
    only_draw: bool = False,
) -> tf.data.Dataset:
    """Return the batches augmented, each pass over them differently, in parallel and in the same order.

    batches: elements are dicts with "input" uint8 (batch, height, width, 3) and, for mixup or cutmix, "label"
    float32 (batch, classes), one-hot; "mask", "boxes" and their labels go along with the image, see
    `apply_to_batch`; what else is in the dict is passed on as it is.
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
    fill, ignore, least_visible: see `apply_to_batch`.
    only_draw: leave the images as they are and add the matrices with which `show` makes the same views of
    them on a device; not with mixup or cutmix.
    Raises `InputError` for an unknown strength, a negative alpha, elements of another kind, and mixup or
    cutmix with masks or boxes.
    """
    view = views(
        batches.element_spec,
        strength,
        flip=flip,
        mixup=mixup,
        cutmix=cutmix,
        fill=fill,
        ignore=ignore,
        least_visible=least_visible,
        only_draw=only_draw,
    )
    mixes = mixup > 0 or cutmix > 0
    drawn = with_draws(batches, strength, seed=seed, mixes=mixes, start=start)
    if strength == "none" and not mixes:
        return drawn
    return drawn.map(view, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def with_draws(
    batches: tf.data.Dataset, strength: str, *, seed: int, mixes: bool = False, start: int | None = None
) -> tf.data.Dataset:
    """The cheap half of `dataset`: the batches with all that is random about their views.

    That is "draws", a row for each image (see `draws`), and where mixup or cutmix `mixes` "mixing_seed",
    int64 (2,). The other half, `views`, can then run elsewhere, and on some of a batch's rows alone. seed and
    start as for `dataset`.
    """
    steps = batches.cardinality()
    if start is not None:
        batches = batches.repeat().skip(start)
    if strength == "none" and not mixes:
        return batches
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)
    if start is not None:
        seeds = seeds.take(steps).repeat().skip(start)

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and looking for it takes a second
    def add(batch, batch_seed):
        if strength != "none":
            count = tf.shape(tf.nest.flatten(batch)[0])[0]
            batch = batch | {"draws": draws(fold(batch_seed, 0), count)}
        return batch | {"mixing_seed": fold(batch_seed, 1)} if mixes else batch

    pairs = tf.data.Dataset.zip(batches, seeds)
    return pairs.map(add, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def views(
    spec: dict,
    strength: str,
    *,
    flip: bool = False,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    fill: int | None = None,
    ignore: int = 255,
    least_visible: float = 0.3,
    only_draw: bool = False,
) -> Callable[[dict], dict]:
    """The costly half of `dataset`: a function that makes the views of a batch of `with_draws`.

    Without mixup and cutmix it looks at each row alone: of some rows of a batch it makes the same views as of
    all. spec: the batches' `element_spec`, before `with_draws`. The others, and what is raised, as for
    `dataset`.
    """
    _check_strength(strength)
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not (math.isfinite(alpha) and alpha >= 0):
            raise InputError(f"{name} is {alpha}; give the alpha of its Beta distribution: 0 (off) or above.")
    _check_fill(fill)
    if not isinstance(spec, dict) or "input" not in spec:
        raise InputError(f'Received a dataset of {spec}; give dicts with an "input", in batches.')
    shapes = _check_batch(spec, ignore, least_visible)
    mixes = mixup > 0 or cutmix > 0
    if mixes and shapes:
        raise InputError(
            f"mixup is {mixup:g} and cutmix {cutmix:g}, and the dataset has {' and '.join(sorted(shapes))}; "
            "they mix one label per image only: set both to 0. Strength and flip are allowed."
        )
    if mixes and only_draw:
        raise InputError(
            f"mixup is {mixup:g} and cutmix {cutmix:g}, which mix finished views; set both to 0 "
            "to augment on the device, or augment in the input."
        )
    if mixes:
        label = spec.get("label")
        if label is None or label.dtype != tf.float32 or label.shape.rank != 2:
            raise InputError(
                f'mixup and cutmix mix labels; "label" is {label}; give float32 (batch, classes), one-hot '
                "(keras.ops.one_hot), or set both to 0."
            )

    @tf.autograph.experimental.do_not_convert
    def view(batch: dict) -> dict:
        batch = dict(batch)
        if strength != "none":
            geometric, colour = _matrices(batch["input"], batch.pop("draws"), strength, bool(flip))
            batch |= {"geometric": geometric, "colour": colour}
            if not only_draw:
                batch = show(batch, fill=fill, ignore=ignore, least_visible=least_visible)
        if mixes:
            images, labels = batch["input"], batch["label"]
            mixing_seed = batch.pop("mixing_seed")
            batch["input"], batch["label"] = mixing.mix(images, labels, mixing_seed, mixup, cutmix)
        return batch

    return view


# --- what is compiled ---------------------------------------------------------------------------


# A hundred operations on tiny tensors: compiled they cost a sixth.
@tf.function(jit_compile=True, autograph=False)
def _matrices(images, drawn, strength, flip):
    """The geometric and the colour matrices of a batch, from its `draws`."""
    _, height, width, _ = tf.unstack(tf.shape(images))
    # A sixteenth of the pixels is plenty for a mean, and a sum of whole numbers has one value in any order.
    sample = tf.cast(images[:, ::4, ::4], tf.int32)
    total = tf.cast(tf.reduce_sum(sample, [1, 2]), tf.float32)
    pixels = tf.cast(tf.shape(sample)[1] * tf.shape(sample)[2], tf.float32)
    mean_grey = tf.reduce_sum(total * LUMA, axis=1) / pixels
    geometric = geometric_matrices(drawn, height, width, strength, flip)
    return geometric, colour_matrices(drawn, mean_grey, strength)


def _views(images, geometric, colour, fill):
    views = warp.transform(images, geometric, colour)
    return views if fill is None else warp.cover(views, geometric, fill)


# --- what may come in -----------------------------------------------------------------------------


def _tensor(value):
    return value if tf.is_tensor(value) else tf.convert_to_tensor(value)


def _check_strength(strength):
    if strength not in STRENGTHS:
        allowed = ", ".join(STRENGTHS)
        near = suggest(strength, STRENGTHS)
        raise InputError(f"Received augmentation strength {strength!r}; choose one of {allowed}.{near}")


def _check_fill(fill):
    if fill is not None and fill not in range(256):
        raise InputError(f"fill is {fill}; give one grey level, 0 to 255, or None.")


def _check_batch(batch, ignore, least_visible) -> set:
    """Check the tensors of a batch, or their specs; return the names of those that go along with "input"."""
    if "input" not in batch:
        raise InputError(f'Received a batch of {", ".join(map(repr, batch))}; give a dict with an "input".')
    images, names = batch["input"], set()
    warp.check_images(images)
    if "mask" in batch:
        warp.check_masks(batch["mask"], images, ignore)
        names.add("mask")
    if "boxes" in batch:
        warp.check_boxes(batch["boxes"], images, least_visible)
        names.add("boxes")
        for name in batch.keys() & set(_BOX_LABELS):
            warp.check_box_labels(batch[name], batch["boxes"], name)
            names.add(name)
    return names
