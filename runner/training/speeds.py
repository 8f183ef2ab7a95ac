"""Whether a network waits for its pictures: how fast the input makes them, how fast training takes them."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

SECONDS = 0.5
"""How long the input is measured, after its first batch."""
BATCHES = 50
"""After how many batches the measurement ends at the latest."""


@dataclass(frozen=True)
class Speeds:
    """Pictures per second: what the input makes alone, and what training takes."""

    input: float
    training: float

    @property
    def input_bound(self) -> bool:
        """Whether the network waits for its pictures: training has four fifths of the input's own speed."""
        return self.training > 0.8 * self.input

    def __str__(self) -> str:
        found = f"input alone {self.input:,.0f} examples/s, training {self.training:,.0f}"
        return f"{found}: input-bound" if self.input_bound else found


def input_speed(batches: tf.data.Dataset) -> float:
    """Pictures per second that batches, of (images, labels) or with weights, come in at when
    nothing else runs.
    """
    iterator = iter(batches)
    next(iterator)  # compiles the augmentation and fills the shuffle buffer
    count, started = 0, time.perf_counter()
    for batch in itertools.islice(iterator, BATCHES):
        count += len(tf.nest.flatten(batch)[0])
        if time.perf_counter() - started > SECONDS:
            break
    return count / (time.perf_counter() - started)


def training_speed(network: keras.Model, batches: tf.data.Dataset, accumulate: int = 1) -> float:
    """Pictures per second of forward and backward passes over one batch on every replica.

    accumulate: in so many parts, of which one is measured; see `accumulation`.
    Nothing moves: the gradients are not applied, and random layers and BatchNorm run as in inference.
    """
    part = tf.nest.map_structure(lambda whole: whole[: -(-len(whole) // accumulate)], next(iter(batches)))
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(part)

    @tf.function(autograph=False)
    def step(images, labels, weights):
        with tf.GradientTape() as tape:
            loss = network.compute_loss(images, labels, network(images, training=False), weights)
        return [tf.reduce_sum(one) for one in tape.gradient(loss, network.trainable_variables)]

    def run() -> float:
        started = time.perf_counter()
        [one.numpy() for one in step(images, labels, weights)]
        return time.perf_counter() - started

    run()
    replicas = network.distribute_strategy.num_replicas_in_sync
    return replicas * len(tf.nest.flatten(images)[0]) / min(run() for _ in range(3))


class InputWatch(keras.callbacks.Callback):
    """Compare the speed of the first epoch with that of the input alone.

    Args:
        input_speed: what `input_speed` measured.
        pictures: in each step.
        tell: called once, with the `Speeds`.
    """

    def __init__(self, input_speed: float, pictures: int, tell: Callable[[Speeds], None]):
        super().__init__()
        self.input_speed, self.pictures, self.tell = input_speed, pictures, tell
        self.first: tuple[int, float] | None = None
        self.told = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        if self.first is None:
            self.first = batch, now  # the step that traced
        self.last = batch, now

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.told and self.first and self.last[0] > self.first[0]:
            steps, seconds = (end - start for start, end in zip(self.first, self.last, strict=True))
            self.tell(Speeds(self.input_speed, steps * self.pictures / seconds))
            self.told = True
