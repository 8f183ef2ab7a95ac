"""The tasks as batches that follow each other, and what a network sees of the examples."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from runner.data.batches import Batches
from runner.data.examples import Data
from runner.devices.multi_worker import Share
from runner.errors import InputError
from runner.networks import inference


@dataclass(frozen=True)
class Rows:
    """Examples in memory: inputs (n, ...), ids, labels and tasks, int64 (n,)."""

    inputs: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    tasks: np.ndarray

    def __getitem__(self, which: np.ndarray) -> "Rows":
        return Rows(self.inputs[which], self.ids[which], self.labels[which], self.tasks[which])


_KEPT: weakref.WeakKeyDictionary[Data, dict] = weakref.WeakKeyDictionary()
"""What still parts of networks gave for the splits of a `Data`, for methods that share them."""


def rows_of(dataset: tf.data.Dataset, below: keras.Model | None) -> Rows:
    """A split as arrays; below: the still part of a network, whose outputs stand in place of the inputs."""
    step = None if below is None else inference.forward(below)
    parts = []
    for batch in dataset.batch(64).prefetch(tf.data.AUTOTUNE):
        given = batch["input"] if step is None else step(batch["input"])
        parts.append((given.numpy(), *(batch[name].numpy() for name in ("id", "label", "task"))))
    if not parts:  # a run that goes on without the data of before
        raise InputError("a split has no pictures; give it some.")
    inputs, ids, labels, tasks = (np.concatenate(one) for one in zip(*parts, strict=True))
    return Rows(inputs, ids, labels.astype(np.int64), tasks.astype(np.int64))


def kept_rows(examples: Data, split: str, below: keras.Model | None, key: tuple) -> Rows:
    """`rows_of` a split that is not sealed, computed once for all methods of the same key."""
    there = _KEPT.setdefault(examples, {})
    if (split, *key) not in there:
        there[split, *key] = rows_of(getattr(examples, split), below)
    return there[split, *key]


def stream(
    pool: Rows,
    news: Sequence[np.ndarray],
    classes: int,
    batch_size: int,
    epochs: int,
    steps: int,
    seed: int,
    kept: Sequence[np.ndarray] | None = None,
) -> Batches:
    """Batches of one task after another, as `model.Continual` takes them.

    pool: all examples there are. news: of each task its rows of the pool. epochs: of a task; steps: of an
    epoch, the same for all tasks, so that a small task is passed more often. Every batch is full: the order
    is one shuffled pass after another. kept: rows that a method rehearses in each task, none in the first of
    all; each batch draws twice as many of them as it has new ones, with replacement.

    Step n is the same batch whenever it is asked for, so that a training which goes on is the one that was
    stopped. Raises InputError for more than one worker.
    """
    every = steps * epochs
    order, place, olds, slots = [], [], [], []
    for number, rows in enumerate(news):
        random = np.random.RandomState([seed, number])
        passes = -(-every * batch_size // len(rows))
        chosen = np.concatenate([random.permutation(len(rows)) for _ in range(passes)])
        chosen = chosen[: every * batch_size].reshape(every, batch_size)
        order.append(rows[chosen])
        place.append(chosen)
        if kept is not None:
            there = kept[number]
            drawn = random.randint(max(len(there), 1), size=(every, 2 * batch_size))
            slots.append(drawn)
            olds.append(there[drawn] if len(there) else np.full_like(drawn, -1))
    numbers = {"new": tf.constant(np.concatenate(order)), "place": tf.constant(np.concatenate(place))}
    if kept is not None:
        numbers |= {"old": tf.constant(np.concatenate(olds)), "slot": tf.constant(np.concatenate(slots))}
    inputs, ids, labels, tasks = map(tf.constant, (pool.inputs, pool.ids, pool.labels, pool.tasks))
    total = every * len(news)

    @tf.autograph.experimental.do_not_convert
    def batch(step):
        at = {name: tf.gather(one, step % total) for name, one in numbers.items()}
        rows = at["new"]
        given = {"new": tf.gather(inputs, rows), "task": tf.gather(tasks, rows), "place": at["place"]}
        if kept is not None:
            # Before anything was kept the first example stands there, and counts 0.
            old = tf.maximum(at["old"], 0)
            given |= {
                "old": tf.gather(inputs, old),
                "old_label": tf.one_hot(tf.gather(labels, old), classes),
                "old_task": tf.gather(tasks, old),
                "old_weight": tf.cast(at["old"] >= 0, tf.float32),
                "slot": at["slot"],
            }
        return {
            "input": given,
            "label": tf.one_hot(tf.gather(labels, rows), classes),
            "id": tf.gather(ids, rows),
        }

    def make(start: int | None, share: Share | None) -> tf.data.Dataset:
        if share and share.workers > 1:
            raise InputError("tasks are not divided over workers; start one.")
        of_all = tf.data.Dataset.range(steps) if start is None else tf.data.Dataset.range(start, 2**62)
        return of_all.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return Batches(make, steps)


def plain(rows: Rows, classes: int, batch_size: int) -> Batches:
    """All rows in their order, as `model.Continual` is validated on."""
    given = {"new": rows.inputs, "task": rows.tasks}
    labels = np.eye(classes, dtype=np.float32)[rows.labels]
    dataset = tf.data.Dataset.from_tensor_slices({"input": given, "label": labels, "id": rows.ids})

    def make(start: int | None, share: Share | None) -> tf.data.Dataset:
        one = dataset.batch(batch_size)
        return one if start is None else one.repeat().skip(start)

    return Batches(make, -(-len(rows.ids) // batch_size))
