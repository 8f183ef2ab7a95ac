"""Batches from the examples of a `Data`: what `model.fit` takes, and what each worker makes of them.

What is cheap and decides the order (shuffling, dividing into batches, drawing the views) is the same for all;
what is costly (decoding, augmenting) comes after it, batch by batch. So a worker makes only the rows that it
trains on, and input workers (`input_service`) may make them for it: the batches are the same to the byte.
"""

import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from runner.augment import views as augment
from runner.devices import input_service
from runner.devices.multi_worker import Share
from runner.errors import InputError

# The shuffle buffer holds pictures. Those that are in memory anyway (at most as many bytes, see data.load)
# it only points at; of others it holds as many as fit: 14,000 of 224 x 224 RGB.
SHUFFLE_BYTES = 2 * 2**30


def batches(examples: tf.data.Dataset, classes: Sequence[str], batch_size: int, **options) -> tf.data.Dataset:
    """Turn one split of a `Data` into what `model.fit` takes: (images, labels) batches.

    images: uint8 (batch, height, width, channels), augmented; labels: float32 (batch, classes), one-hot, and
    mixed where MixUp or CutMix mixed the pictures; or what `target` makes of them. options: of
    `named_batches`.
    """
    named = named_batches(examples, classes, batch_size, **options)
    return named.map(pair).prefetch(tf.data.AUTOTUNE)


def named_batches(
    examples: tf.data.Dataset,
    classes: Sequence[str],
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    strength: str = "none",
    flip: bool = False,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    target: Callable[[dict], dict] | None = None,
    whole_batches: bool = False,
    fill: int | None = None,
    ignore: int = 255,
    drop_remainder: bool = False,
    start: int | None = None,
    only_draw: bool = False,
    share: Share | None = None,
) -> tf.data.Dataset:
    """The same batches, as dicts of "id" int64 (batch,), "input" and "label".

    The same seed gives the same batches; with `shuffle` each epoch has its own order.
    strength, flip, mixup, cutmix, fill, ignore: see `augment.dataset`.
    target: for boxes and masks, makes of an augmented batch, a dict with the arrays of the `Data`, one with
    "input", "label" in any structure, and sample weights as "weight" where there are some.
    whole_batches: `target` looks at more than one row at a time, so that it needs all rows of a batch.
    drop_remainder: leave out the last batch of an epoch where it is smaller.
    start: None for one epoch in each pass; a number gives what comes after so many batches of all epochs,
    without end. That shuffles what lies before (some microseconds an example), but decodes pictures that are
    not in memory, and augments, none of it. Made by the input workers where there are some
    (`input_service`), which pictures that don't fit in memory or are more than 2 GB cannot be: InputError.
    only_draw: leave the augmentation to the device, see `augment.dataset`; a batch then has its matrices too.
    share: gives each replica's rows of each batch instead of the batch, see `Share.split`, and makes no
    others. Where rows mix (MixUp, CutMix, `whole_batches`) all are made and the others thrown away.
    """
    bytes_each = tf.TensorShape(examples.element_spec["input"].shape).num_elements() or 2**18
    count = int(examples.cardinality())
    buffer = min(count, max(1000, SHUFFLE_BYTES // bytes_each))
    mixes = mixup > 0 or cutmix > 0
    spec = examples.batch(batch_size).element_spec
    if target is None:
        spec = spec | {"label": tf.TensorSpec((None, len(classes)), tf.float32)}
    view = augment.views(
        spec,
        strength,
        flip=flip,
        mixup=mixup,
        cutmix=cutmix,
        fill=fill,
        ignore=ignore,
        only_draw=only_draw,
    )
    # Pictures that don't fit in memory: shuffled as paths, decoded batch by batch. See `decoding.dataset`.
    files, decode = getattr(examples, "undecoded", (examples, None))

    def order() -> tf.data.Dataset:
        ordered = files.shuffle(buffer, seed=seed, reshuffle_each_iteration=True) if shuffle else files
        batched = ordered.batch(batch_size, drop_remainder=drop_remainder)
        return augment.with_draws(batched, strength, seed=seed, mixes=mixes, start=start)

    @tf.autograph.experimental.do_not_convert
    def make(batch: dict) -> dict:
        batch = decode(batch) if decode else batch
        if target is None:
            batch = batch | {"label": tf.one_hot(batch["label"], len(classes))}
        batch = view(batch)
        return target(batch) if target else batch

    # A whole batch takes long to decode: left to tf.data, the cores would be found one batch after another.
    at_once = min(8, os.cpu_count() or 1) if decode else tf.data.AUTOTUNE

    def work(ordered: tf.data.Dataset) -> tf.data.Dataset:
        return ordered.map(make, num_parallel_calls=at_once, deterministic=True)

    if start is None:
        ordered = order()
    else:
        # A dataset that shuffles moves on with each iterator made of it, and Keras makes one more under a
        # strategy. Made inside a function it begins anew with each: step n is the same batch for whoever
        # asks.
        once = tf.autograph.experimental.do_not_convert(lambda _: order())
        ordered = tf.data.Dataset.range(1).flat_map(once).with_options(examples.options())
    together = mixes or whole_batches
    if share and not together:
        ordered = share.split(ordered)
    if start is None:
        made = work(ordered)
    else:
        _check_can_be_sent(examples, decode is not None)
        made = input_service.through(ordered, work)
    return share.split(made) if share and together else made


def pair(batch: dict) -> tuple:
    """What `model.fit` takes of a batch of `named_batches`: (images, labels) or (images, labels, weights)."""
    if "geometric" in batch:  # to be augmented on the device
        return {name: batch[name] for name in ("input", "geometric", "colour")}, batch["label"]
    if "weight" in batch:
        return batch["input"], batch["label"], batch["weight"]
    return batch["input"], batch["label"]


def _check_can_be_sent(examples: tf.data.Dataset, decodes: bool) -> None:
    """Raise InputError for pictures that the input workers cannot make, where there are some."""
    if not os.environ.get(input_service.VARIABLE):
        return
    if decodes:
        raise InputError(
            "launch --input-workers was given, and the pictures don't fit in memory: they are decoded by "
            "Pillow, which only the training process can do. Leave --input-workers out (each training worker "
            "decodes only its own rows), or make image_size smaller."
        )
    each = sum((spec.shape.num_elements() or 0) * spec.dtype.size for spec in examples.element_spec.values())
    size = int(examples.cardinality()) * each
    if size > input_service.MOST_BYTES:
        raise InputError(
            f"launch --input-workers was given, and the training pictures take {size / 1e9:.1f} GB in "
            f"memory; at most {input_service.MOST_BYTES / 1e9:.1f} GB can be sent to the input workers. "
            "Leave --input-workers out, or make image_size smaller."
        )
