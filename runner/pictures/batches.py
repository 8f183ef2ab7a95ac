"""Batches of pictures with random views of them, from the examples of a `Data`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from runner.augment import draws, matrices, on_device, views, warp
from runner.data.batches import SplitBatches, Views
from runner.data.examples import Data


def batches(
    data: Data,
    split: str,
    batch_size: int,
    *,
    strength: str = "none",
    flip: bool = False,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    fill: int | None = None,
    ignore: int = 255,
    seed: int = 0,
    target: Callable[[dict], dict] | None = None,
    dataset: tf.data.Dataset | None = None,
    **options,
) -> SplitBatches:
    """The batches of a split of a `Data`: input uint8 (batch, height, width, 3), augmented; label float32
    (batch, classes), one-hot, and mixed where MixUp or CutMix mixed the pictures; or what `target` makes.

    data, split, batch_size, seed, target, dataset, options (shuffle, whole_batches, drop_remainder): see
    `SplitBatches`.
    strength, flip, mixup, cutmix, fill, ignore: see `augment.views.dataset`.
    Raises InputError for an augmentation that cannot be.
    """
    examples = getattr(data, split) if dataset is None else dataset
    spec = examples.batch(batch_size).element_spec
    if target is None:
        spec = spec | {"label": tf.TensorSpec((None, len(data.classes)), tf.float32)}
    mixes = mixup > 0 or cutmix > 0
    shape: dict[str, Any] = dict(flip=flip, mixup=mixup, cutmix=cutmix, fill=fill, ignore=ignore)
    make = views.views(spec, strength, **shape)  # which also checks
    random = None
    if strength != "none" or mixes:

        def draw(ordered: tf.data.Dataset, start: int | None) -> tf.data.Dataset:
            return views.with_draws(ordered, strength, seed=seed, mixes=mixes, start=start)

        def fingerprint() -> list:
            code = [Path(inspect.getfile(one)).read_bytes() for one in (views, draws, matrices, warp)]
            seeds = [
                int(one) for one in tf.data.Dataset.random(seed=seed).take(2)
            ]  # the global one among them
            return [*code, strength, flip, seeds]

        device = None
        if not mixes and target is None:
            only_draw = views.views(spec, strength, flip=flip, only_draw=True)
            device = (lambda batch: on_device.put(only_draw(batch)), on_device.wrap)
        random = Views(draw, make, fingerprint, mixes, device)
    return SplitBatches(
        data, split, batch_size, seed=seed, views=random, target=target, dataset=dataset, **options
    )
