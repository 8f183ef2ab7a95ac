"""Put the parts together: batches from a `Data`, and `fit`, which runs the stages in one `model.fit`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import pandas as pd
import tensorflow as tf

from runner import augment
from runner.backbones import Block
from runner.config import Stage
from runner.progress import EpochLines
from runner.stages import StagedUnfreezing

# The shuffle buffer holds pictures. Those that are in memory anyway (at most as many bytes, see data.load)
# it only points at; of others it holds as many as fit: 14,000 of 224 x 224 RGB.
SHUFFLE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Fit:
    """What one `fit` leaves beside the trained model."""

    history: pd.DataFrame
    """A row per epoch: epoch, stage, stage_epoch, learning_rate, loss, val_loss, metrics, seconds."""
    ledger: pd.DataFrame
    """A row per stage and block: what was to train and what moved; see `trainable.ledger`."""
    seconds: float
    """Wall time of the whole fit, tracing included."""


def batches(
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
) -> tf.data.Dataset:
    """Turn one split of a `Data` into what `model.fit` takes: (images, labels) batches.

    images: uint8 (batch, height, width, channels), augmented with `strength` (see `augment.dataset`);
    labels: float32 (batch, classes), one-hot, mixed where MixUp or CutMix mixed the pictures. The same seed
    gives the same batches; with `shuffle` each epoch has its own order.
    """
    if shuffle:
        bytes_each = tf.TensorShape(examples.element_spec["image"].shape).num_elements() or 2**18
        buffer = min(int(examples.cardinality()), max(1000, SHUFFLE_BYTES // bytes_each))
        examples = examples.shuffle(buffer, seed=seed, reshuffle_each_iteration=True)
    batched = examples.batch(batch_size).map(
        lambda batch: {**batch, "label": tf.one_hot(batch["label"], len(classes))},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batched = augment.dataset(batched, strength, seed=seed, flip=flip, mixup=mixup, cutmix=cutmix)
    return batched.map(lambda batch: (batch["image"], batch["label"])).prefetch(tf.data.AUTOTUNE)


def fit(
    model: keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    stages: Sequence[Stage],
    blocks: Sequence[Block],
    *,
    monitor: str = "val_loss",
    title: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fit:
    """Run the stages on a compiled model and return the history and the ledger.

    Args:
        model: compiled under its strategy's scope; its weights are changed in place.
        train, validation: batches that `model.fit` takes, such as those of `batches`.
        stages: run in order, each on what the one before left.
        blocks: the backbone's blocks (`backbones.blocks(backbone)`).
        monitor: which entry of the logs decides the best epoch of a stage, always measured on validation.
        title: printed above the progress.
        callbacks: more Keras callbacks, run after the stages' own.

    Raises InputError before the first epoch for stages that the model cannot run, LedgerError when a stage
    moved what it was not to move, DivergenceError when the loss becomes NaN or infinite.
    """
    staged = StagedUnfreezing(stages, blocks, monitor=monitor)
    clock, lines = EpochSeconds(), EpochLines(staged, title=title)
    # One iterator for the whole fit: starting the augmentation's compiled functions anew takes 0.3 s, three
    # quarters of an epoch of 200 small pictures. The epochs stay what they were, also the last small batch.
    steps = int(train.cardinality())
    if steps > 0:
        train = train.repeat()
    started = time.perf_counter()
    try:
        model.fit(
            train,
            validation_data=validation,
            epochs=staged.epochs,
            steps_per_epoch=steps if steps > 0 else None,
            verbose=0,
            shuffle=False,  # `train` shuffles itself
            callbacks=[clock, staged, *callbacks, lines],
        )
    finally:
        lines.close()
    seconds = time.perf_counter() - started
    return Fit(staged.history.assign(seconds=clock.seconds), staged.ledger, seconds)


class EpochSeconds(keras.callbacks.Callback):
    """Wall time of each epoch, validation included, in `seconds`."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(round(time.perf_counter() - self.started, 4))
