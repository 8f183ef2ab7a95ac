"""A learning rate for a stage by a range test: some steps with a rate that climbs from far too low to far too
high, of which nothing stays but the curve of the loss (Smith 2017, arXiv:1506.01186, section 3.3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.devices import multi_worker
from runner.errors import InputError
from runner.moving import optimizers, rates, trainable
from runner.training import resuming

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 120
"""Twenty steps for each factor of ten."""
SMOOTHED = 0.9
"""Share of the past in the running mean of the loss: its memory is ten steps, half a factor of ten."""
WINDOW = 21
"""Steps whose mean stands for the one in their middle: a factor of ten."""
LOST = 3.0
"""Where the loss has so many times its lowest value the test ends: no higher rate is of use."""


@dataclass(frozen=True)
class Found:
    """What a range test gave."""

    rate: float
    curve: pd.DataFrame
    """A row per step: learning_rate, loss (of that batch), smoothed."""


def run(model: keras.Model, fit: Callable[..., Any], staged: Any, index: int, steps: int = STEPS) -> Found:
    """Find the rate of a stage on the weights as they are, which it leaves as they were, random states too.

    model: the network, or the part of it that the stage runs. fit: trains `model` for an epoch of so many
    steps: fit(steps, callbacks). staged: the `StagedUnfreezing`. index: of the stage.
    Raises InputError where no rate makes the loss fall.
    """
    network, stage = staged.network, staged.stages[index]
    before = [(one, keras.ops.convert_to_numpy(one)) for one in resuming.state_variables(network)]
    optimizer = model.optimizer
    climbing = Climbing(np.geomspace(LOWEST, HIGHEST, steps))
    try:
        with model.distribute_strategy.scope():
            chosen = trainable.set_trainable(network, staged.blocks, stage.train, stage.batch_norm)
            ids = {id(one) for one in chosen}
            model.optimizer = optimizers.renewed(optimizer, [one for one in model.weights if id(one) in ids])
            rates.scale(model.optimizer, rates.factors(network, staged.blocks, stage))
        model.make_train_function(force=True)
        fit(steps, [climbing])
    finally:
        for variable, value in before:
            variable.assign(value)
        model.optimizer = optimizer
    curve = climbing.curve()
    # Each worker has the losses of its own rows; all must go on with one rate.
    rate = multi_worker.from_chief(lambda: suggested(curve), model.distribute_strategy)
    if rate is None:
        raise InputError(
            f"stage {stage.name!r}: learning_rate='auto': no rate from {LOWEST:g} to {HIGHEST:g} made the "
            "loss fall in a range test; look at the labels, or give a number."
        )
    return Found(rate, curve)


class Climbing(keras.callbacks.Callback):
    """Sets a higher rate before each step, and ends the epoch where the loss is lost.

    climb: the rate of each step.
    """

    def __init__(self, climb: Sequence[float] | np.ndarray):
        super().__init__()
        self.climb = [float(one) for one in climb]
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.sum = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.model.optimizer.learning_rate = self.climb[min(batch, len(self.climb) - 1)]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # The log is the mean over the epoch so far. A last, smaller batch counts as the others here.
        total = float((logs or {})["loss"]) * (batch + 1)
        taken = batch + 1 - len(self.losses)  # several where Python is asked after several steps only
        loss, self.sum = (total - self.sum) / taken, total
        self.rates += self.climb[len(self.rates) : batch + 1]
        self.losses += [loss] * taken
        smooth = smoothed(self.losses)
        if not np.isfinite(smooth[-1]) or smooth[-1] > LOST * max(smooth.min(), 1e-6):
            self.model.stop_training = True

    def curve(self) -> pd.DataFrame:
        """See `Found.curve`; without steps whose loss is no number."""
        losses = np.array(self.losses)
        there = np.isfinite(losses)
        table = pd.DataFrame({"learning_rate": np.array(self.rates)[there], "loss": losses[there]})
        return table.assign(smoothed=smoothed(losses[there]))


def smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """The running mean of losses, each step SMOOTHED of the one before, without the bias of its beginning."""
    mean, found = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = SMOOTHED * mean + (1 - SMOOTHED) * float(loss)
        found.append(mean / (1 - SMOOTHED**step))
    return np.array(found)


def suggested(curve: pd.DataFrame) -> float | None:
    """The rate in the middle, by its logarithm, between that at which the loss falls fastest and that at
    which it is lowest; None where it falls nowhere.

    The first is what Smith's successors take, and too low here: a test of a few steps for each rate is still
    at the beginning where a training at that rate would long be further. The second is the edge of what the
    network bears. Both are of the mean over WINDOW steps around each step, which lags behind nothing, and
    without the ends that have no such steps: batches differ by more than a step brings.
    """
    losses, rate = curve["loss"].to_numpy(), curve["learning_rate"].to_numpy()
    if len(losses) < 2 * WINDOW:
        return None
    smooth = np.convolve(losses, np.ones(WINDOW) / WINDOW, "valid")
    rate = rate[WINDOW // 2 :][: len(smooth)]
    lowest = int(smooth.argmin())
    slope = np.gradient(smooth, np.log(rate))[: lowest + 1]
    fastest = int(slope.argmin())
    middle = (rate[lowest] * rate[fastest]) ** 0.5
    return float(f"{middle:.3g}") if slope[fastest] < 0 else None
