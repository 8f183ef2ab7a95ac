"""Batches, described once: what a network trains on, from its first step or from any other.

A `Batches` gives an epoch of what `model.fit` takes, goes on after any number of steps, and gives a worker's
share; `training.fit` and `FrozenPrefix` ask it and know nothing of what an input is. `SplitBatches` are those
of a split of a `Data`. There, what is cheap and decides the order (shuffling, dividing into batches, drawing
the views) is the same for all; what is costly (decoding, augmenting) comes after it, batch by batch. So a
worker makes only the rows that it trains on, and input workers (`input_service`) may make them for it: the
batches are the same to the byte.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from runner.data.examples import Data
from runner.data.lengths import Lengths
from runner.devices import input_service
from runner.devices.multi_worker import Share
from runner.errors import InputError

if TYPE_CHECKING:
    import keras

# The shuffle buffer holds inputs. Those that are in memory anyway (a dataset only points at them) count as
# if it held them; of others it holds as many as fit: 14,000 pictures of 224 x 224 RGB.
SHUFFLE_BYTES = 2 * 2**30


def pair(batch: dict) -> Any:
    """What `model.fit` takes of a batch: (input, label), with "weight" (input, label, weight), and of one
    without a label the input alone.
    """
    return tuple(batch[name] for name in ("input", "label", "weight") if name in batch)[
        slice(None) if "label" in batch else 0
    ]


class Batches:
    """Batches of any kind.

    Args:
        make: called with (None, None) it gives one epoch of batches: dicts with "input", where there are some
            "label" and "weight", and "id", int64 (batch,), which names the examples in messages. Called with
            (step, share) it gives what comes after so many steps of all epochs, without end: the whole
            batches where share is None, else the share's rows of them, as `Share.split` would.
        steps: how many batches an epoch has; -1 where nobody knows.
    """

    def __init__(self, make: Callable[[int | None, Share | None], tf.data.Dataset], steps: int):
        self.make, self.steps = make, steps

    @classmethod
    def of(cls, dataset: tf.data.Dataset) -> "Batches":
        """Those of a dataset as `model.fit` takes it: inputs, (inputs, labels) or (inputs, labels, weights),
        in batches.

        A fit that goes on makes all that lies behind it once more and throws it away; that is exact for any
        dataset and costs no training step.
        """

        def name(*batch) -> dict:
            return dict(zip(("input", "label", "weight"), batch, strict=False))

        def make(start: int | None, share: Share | None) -> tf.data.Dataset:
            named = dataset.map(name)
            if start is not None:
                named = named.repeat().skip(start)
            return share.split(named) if share else named

        return cls(make, int(dataset.cardinality()))

    def named(self) -> tf.data.Dataset:
        """One epoch, as dicts."""
        return self.make(None, None)

    def epoch(self) -> tf.data.Dataset:
        """One epoch of what `model.fit` takes."""
        return self.named().map(pair).prefetch(tf.data.AUTOTUNE)

    def after(self, step: int, share: Share | None = None) -> tf.data.Dataset:
        """What comes after `step` batches of all epochs, without end, as dicts; with a share its rows."""
        return self.make(step, share)

    def plain(self) -> tf.data.Dataset | None:
        """One epoch of inputs as they are, without views of them, to estimate statistics by; None where there
        is no such thing.
        """
        return None

    def on_device(self) -> "OnDevice | None":
        """The same with the views left to the device that trains; None where that cannot be."""
        return None


@dataclass(frozen=True)
class OnDevice:
    """Batches whose views are drawn and not made, and the network that makes them."""

    batches: Batches
    wrap: "Callable[[keras.Model], keras.Model]"
    """Of a compiled network one that shares its layers, takes these batches in `fit`, and first makes the
    views.
    """


@dataclass(frozen=True)
class Views:
    """Random views of inputs, in two halves."""

    draw: Callable[[tf.data.Dataset, int | None], tf.data.Dataset]
    """The cheap half: of batches, and how many of all epochs are behind (None: one epoch), the same batches
    with all that is random about their views.
    """
    make: Callable[[dict], dict]
    """The costly half: makes the views of such a batch."""
    fingerprint: Callable[[], list]
    """What decides the views, the seeds among them: bytes and plain values."""
    mixes: bool = False
    """Whether rows of a batch are mixed with each other, so that all must be there."""
    on_device: "tuple[Callable[[dict], dict], Callable[[keras.Model], keras.Model]] | None" = None
    """In the place of `make` a function that puts what was drawn into "input", and `OnDevice.wrap`."""


class SplitBatches(Batches):
    """The batches of one split of a `Data`; the same seed gives the same batches.

    Args:
        data: a `data.Data`; a split of it is dicts with "id", "input" and, where there is one label, "label".
            A dataset with the attribute `undecoded` (see `pictures.decoding.dataset`) is shuffled and divided
            before anything is decoded.
        split: "train" or "val", or with `dataset` the split that its rows of the manifest bear.
        batch_size: rows of each batch, of all devices together; the last of an epoch may have fewer.
        shuffle: give each epoch its own order.
        seed: decides the order and the views; so does a global one (`keras.utils.set_random_seed`).
        views: random views of the inputs, or None.
        target: makes of a batch, a dict with all that the split has, one with "input", "label" in any
            structure, and sample weights as "weight" where there are some. None: a whole number as label
            becomes float32 (batch, classes), one-hot; any other label, also a row of whole numbers, stays.
        whole_batches: `target` looks at more than one row at a time, so that it needs all rows of a batch.
        drop_remainder: leave out the last batch of an epoch where it is smaller.
        weights: how much each row of the manifest counts, float32 (rows,) (`data.weights`): becomes "weight".
            Not with `target`, which makes those of its own.
        dataset: in the place of the split's own.
        lengths: inputs have different ones: batches are of neighbours in length, and as long as their
        longest.
            Not with `views` or `target`.
    """

    def __init__(
        self,
        data: Data,
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        views: Views | None = None,
        target: Callable[[dict], dict] | None = None,
        whole_batches: bool = False,
        drop_remainder: bool = False,
        weights: np.ndarray | None = None,
        dataset: tf.data.Dataset | None = None,
        lengths: Lengths | None = None,
    ):
        self.data, self.split, self.batch_size = data, split, batch_size
        self.shuffle, self.seed, self.views, self.target = shuffle, seed, views, target
        self.whole_batches, self.drop_remainder, self.weights = whole_batches, drop_remainder, weights
        if weights is not None and target is not None:
            raise InputError('weights go with labels; with a target give them as the "weight" that it makes.')
        if lengths is not None and (views or target):
            raise InputError("inputs of different lengths have no views and no target here; leave one out.")
        self.lengths = lengths
        self.examples = getattr(data, split) if dataset is None else dataset
        self.count = int(self.examples.cardinality())
        self._files, self._decode = getattr(self.examples, "undecoded", (self.examples, None))
        full, rest = divmod(self.count, batch_size)
        super().__init__(self._made, full + bool(rest and not drop_remainder))

    # ------------------------------------------------------------ what an epoch is made of

    def _ordered(self) -> tf.data.Dataset:
        """The batches of an epoch in its order, with nothing decoded."""
        files = self._files
        if self.shuffle:
            spec = self.examples.element_spec["input"]
            each = (spec.shape.num_elements() or 2**18) * spec.dtype.size
            buffer = min(self.count, max(1000, SHUFFLE_BYTES // each))
            files = files.shuffle(buffer, seed=self.seed, reshuffle_each_iteration=True)
        if self.lengths:
            seed = self.seed if self.shuffle else None
            options: dict[str, Any] = {"drop_remainder": self.drop_remainder, "seed": seed}
            return self.lengths.batch(files, self.batch_size, lambda pool: pool["id"], **options)
        return files.batch(self.batch_size, drop_remainder=self.drop_remainder)

    def _made(
        self, start: int | None, share: Share | None, make_view: Callable[[dict], dict] | None = None
    ) -> tf.data.Dataset:
        """What `Batches` calls `make`. After `start` steps it shuffles what lies before (some microseconds an
        example), but decodes inputs that are not in memory, and makes views, of none of it. Input workers
        make them where there are some, which inputs that don't fit in memory or are more than 2 GB cannot be:
        InputError.
        """
        view = make_view or (self.views.make if self.views else lambda batch: batch)

        def order() -> tf.data.Dataset:
            ordered = self._ordered()
            if self.views:
                return self.views.draw(ordered, start)
            return ordered if start is None else ordered.repeat().skip(start)

        @tf.autograph.experimental.do_not_convert
        def make(batch: dict) -> dict:
            batch = self._decode(batch) if self._decode else batch
            if self.target:
                return self.target(view(batch))
            batch = self.label(self.lengths.trim(batch) if self.lengths else batch)
            if "weight" not in batch or self.views is None or not self.views.mixes:
                return view(batch)
            # What is mixed is the loss of each label, which its weight is a factor of.
            weight = tf.cast(batch.pop("weight"), tf.float32)
            batch = view(batch | {"label": batch["label"] * weight[:, None]})
            weight = tf.reduce_sum(batch["label"], axis=-1)
            return batch | {
                "label": tf.math.divide_no_nan(batch["label"], weight[:, None]),
                "weight": weight,
            }

        # A whole batch takes long to decode: left to tf.data, the cores would be found one after another.
        at_once = min(8, os.cpu_count() or 1) if self._decode else tf.data.AUTOTUNE

        def work(ordered: tf.data.Dataset) -> tf.data.Dataset:
            return ordered.map(make, num_parallel_calls=at_once, deterministic=True)

        if start is None:
            ordered = order()
            if self.lengths:  # sorting forgets how many there are
                ordered = ordered.apply(tf.data.experimental.assert_cardinality(self.steps))
        else:
            # A dataset that shuffles moves on with each iterator made of it, and Keras makes one more under a
            # strategy. Made inside a function it begins anew with each: step n is the same batch for whoever
            # asks.
            once = tf.autograph.experimental.do_not_convert(lambda _: order())
            ordered = tf.data.Dataset.range(1).flat_map(once).with_options(self.examples.options())
        together = self.whole_batches or (self.views is not None and self.views.mixes)
        if share and not together:
            ordered = share.split(ordered)
        if start is None:
            made = work(ordered)
        else:
            self._check_can_be_sent()
            made = input_service.through(ordered, work)
        return share.split(made) if share and together else made

    def label(self, batch: dict) -> dict:
        """The batch with its label as the loss takes it where there is no `target`, and its weights."""
        batch = dict(batch)
        if batch["label"].dtype.is_integer and batch["label"].shape.rank == 1:
            batch["label"] = tf.one_hot(batch["label"], len(self.data.classes))
        if self.weights is not None:
            weight = tf.gather(tf.constant(self.weights, tf.float32), batch["id"])
            batch["weight"] = weight * tf.cast(batch["weight"], tf.float32) if "weight" in batch else weight
        return batch

    def _check_can_be_sent(self) -> None:
        """Raise InputError for inputs that the input workers cannot make, where there are some."""
        if not os.environ.get(input_service.VARIABLE):
            return
        if self._decode:
            raise InputError(
                "launch --input-workers was given, and the pictures don't fit in memory: they are decoded by "
                "Pillow, which only the training process can do. Leave --input-workers out (each training "
                "worker decodes only its own rows), or make image_size smaller."
            )
        specs = self.examples.element_spec.values()
        size = self.count * sum((spec.shape.num_elements() or 0) * spec.dtype.size for spec in specs)
        if size > input_service.MOST_BYTES:
            raise InputError(
                f"launch --input-workers was given, and the training examples take {size / 1e9:.1f} GB in "
                f"memory; at most {input_service.MOST_BYTES / 1e9:.1f} GB can be sent to the input workers. "
                "Leave --input-workers out, or make the inputs smaller."
            )

    def plain(self) -> tf.data.Dataset:
        """One epoch of inputs without views, shuffled where the batches are."""

        @tf.autograph.experimental.do_not_convert
        def make(batch: dict) -> tf.Tensor:
            return (self._decode(batch) if self._decode else batch)["input"]

        made = self._ordered().map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return made.prefetch(tf.data.AUTOTUNE)

    def on_device(self) -> OnDevice | None:
        """See `Batches`; with views that a device can make, and no `target`, which would need them made."""
        if self.views is None or self.views.on_device is None or self.target:
            return None
        put, wrap = self.views.on_device
        return OnDevice(Batches(lambda start, share: self._made(start, share, put), self.steps), wrap)

    # ------------------------------------------------------------ what is kept of inputs

    def not_kept(self) -> str:
        """Why nothing that was computed from single inputs can stand for them, in words; "" where it can."""
        if self.target is not None:
            return "what the loss compares with goes along with the input's views"
        if self.views and self.views.mixes:
            return "inputs are mixed with each other"
        if "weight" in self.examples.element_spec:
            return "the examples bring weights of their own"
        return "" if len(np.unique(self.keys)) == self.count else "an example stands in an epoch twice"

    @functools.cached_property
    def _of_dataset(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The keys that the dataset has, ascending, and their ids and labels.

        Not from the manifest: the dataset is what is trained on, and may be some of the split, or have other
        labels. What is still to be decoded has those of the manifest.
        """
        if self._decode:
            ids = np.flatnonzero(self.data.manifest["split"] == self.split).astype(np.int64)
            return ids, ids, self.data.manifest["label"].cat.codes.to_numpy(np.int64)[ids]
        key = self.key
        three = self.examples.map(lambda one: (one[key], one["id"], one["label"])).batch(1024)
        keys, ids, labels = (np.concatenate(parts) for parts in zip(*three.as_numpy_iterator(), strict=True))
        order = np.argsort(keys, kind="stable")
        return keys[order].astype(np.int64), ids[order].astype(np.int64), labels[order]

    @property
    def key(self) -> str:
        """What tells elements apart: "part" of windows, of which an example may have several, else "id"."""
        return "part" if "part" in self.examples.element_spec else "id"

    @property
    def keys(self) -> np.ndarray:
        """What each element has as `key`, int64 (count,), ascending."""
        return self._of_dataset[0]

    @property
    def ids(self) -> np.ndarray:
        """The elements' rows in the manifest, int64 (count,), in the order of `keys`."""
        return self._of_dataset[1]

    def labels(self) -> np.ndarray:
        """The label of each of `keys`, as the dataset has it: (count, ...)."""
        return self._of_dataset[2]

    def fingerprint(self, views: int) -> list:
        """What decides the inputs of `passes`: hashes of their contents, how they are made, a few of them as
        they are (a file may have changed since it was hashed), and with views what decides these.
        """
        drawn = [self.batch_size, *self.views.fingerprint()] if self.views else []
        first = next(self.examples.batch(min(16, self.count)).as_numpy_iterator())["input"]
        hashes = self.data.manifest["sha256"].iloc[self.ids].tolist()
        # Windows are cut by how they are labelled, too: of two splits with one text they may be others.
        labels = [self.labels()] if self.key == "part" else []
        return [self.data.recipe, hashes, first, views, *drawn, *labels]

    def parts(self, width: int) -> list[tuple[slice | np.ndarray, int | None]]:
        """The places of `keys` in parts of batch_size, and how many of `width` numbers a part needs.

        Inputs of different lengths go as neighbours, as far as the longest; where width is not theirs, None:
        all of them.
        """
        firsts = range(0, self.count, self.batch_size)
        if not self.lengths or width != self.lengths.rows:
            return [(slice(first, first + self.batch_size), None) for first in firsts]
        of = self.lengths.of[self.ids]
        order = np.argsort(of, kind="stable")
        parts = [np.sort(order[first : first + self.batch_size]) for first in firsts]
        return [(rows, int(of[rows].max())) for rows in parts]

    def passes(self, first: int, last: int, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
        """Passes `first` to below `last` over all examples, unshuffled, each with other views: (step, batch),
        counted from 0 over all passes. Of several workers each makes every so many-th batch. Inputs of
        different lengths come as neighbours in length, cut where the longest of a batch ends.
        """
        steps = -(-self.count // self.batch_size)
        batched = self._files.batch(self.batch_size)
        if self.lengths:
            batched = self.lengths.batch(self._files, self.batch_size, lambda pool: pool["id"])
        start = first * steps
        ordered = self.views.draw(batched, start) if self.views else batched.repeat().skip(start)
        ordered = ordered.take((last - first) * steps).enumerate(start)

        @tf.autograph.experimental.do_not_convert
        def make(step, batch: dict) -> tuple:
            batch = self._decode(batch) if self._decode else batch
            batch = self.lengths.trim(batch) if self.lengths else batch
            return step, self.views.make(batch) if self.views else batch

        made = ordered.shard(workers, worker).map(
            make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return made.prefetch(tf.data.AUTOTUNE)
