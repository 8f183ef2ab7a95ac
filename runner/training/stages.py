"""Staged unfreezing as one Keras callback: it moves a running `fit` from stage to stage.

    model.compile("adam", loss, metrics=["accuracy"])
    staged = StagedUnfreezing(stages, backbones.blocks(backbone))
    model.fit(train, validation_data=validation, epochs=staged.epochs, callbacks=[staged])

Why one `fit` can do it. Keras fixes three things when `fit` starts: the traced train function, which
updates the weights that were trainable then; the optimizer, built for those weights only; and its step
count, which Adam's bias correction uses. So the callback builds the optimizer once for every weight that
any stage trains, and on entering a stage it sets the flags, puts the optimizer's state back to its start
and has the train function traced anew. The result equals, bit for bit, a fresh `compile` and `fit` per
stage (a test holds that, with one replica and with two).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.errors import DivergenceError, InputError
from runner.moving import ledger, optimizers, rates, trainable
from runner.networks.backbones import Block
from runner.stage import Stage, check_stages
from runner.training import monitor as monitoring
from runner.training import resuming

UNKNOWN = (math.inf, math.inf)
"""The `StagedUnfreezing.value` of weights that nobody judged: any other is better."""


class StagedUnfreezing(keras.callbacks.Callback):
    """Run stages one after another inside one `model.fit`.

    Give `fit` at least `epochs` (the sum over the stages); it stops by itself when the last stage is done.
    After `fit`, `ledger` and `history` hold a row per stage and block and a row per epoch. A stage that keeps
    the best epoch hands on what it received where none of its epochs was better on validation.

    Args:
        stages: what trains, for how long and how fast; see `config.Stage`.
        blocks: the backbone's blocks, bottom first (`backbones.blocks(backbone)`); the rest of the model is
            the head.
        monitor: the entry of the epoch's logs that says which epoch of a stage is best and when its
            patience ends.
        mode: "min" or "max"; "auto" asks the metric itself (`monitor.sign`).
        reset_optimizer: start each stage with a fresh optimizer state; False carries moments and step count
            on.
        steps_per_epoch: needed only for a schedule on data of unknown length.
        whole: the network that stages and blocks speak of, where `fit` trains a part of it that shares its
            layers (`frozen.cut`).

    With `only` set to a stage's number, the next `fit` runs that stage alone, after those before it. Stages
    that never ran, since something else ended `fit`, are named at its end and in `never_ran`; the one that it
    ended in hands on what it was to hand on.

    Raises InputError at the start of `fit` for an unknown block, too few epochs, an optimizer that brings a
    schedule of its own or cannot be made anew, and a monitor that nobody knows the better side of,
    LedgerError at the end of a stage that moved something else than it was to move, and DivergenceError after
    the step whose loss is NaN or infinite.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        blocks: Sequence[Block],
        monitor: str = "val_loss",
        mode: str = "auto",
        reset_optimizer: bool = True,
        steps_per_epoch: int | None = None,
        whole: keras.Model | None = None,
    ):
        super().__init__()
        check_stages(stages)
        for stage in stages:
            # Numbers, or an answer to whoever left them open.
            assert stage.share and (stage.learning_rate == "auto" or stage.rate)
        if mode not in ("auto", "min", "max"):
            raise InputError(f"mode='{mode}' is not one of auto, min, max.")
        self.stages, self.blocks = tuple(stages), tuple(blocks)
        self.monitor, self.mode = monitor, mode
        self.reset_optimizer = reset_optimizer
        self.steps_per_epoch = steps_per_epoch
        self.whole = whole
        self.only: int | None = None
        self.range_tests: dict[str, pd.DataFrame] = {}  # of stages whose rate was found, by their names
        self.stopped = False  # by another callback, where each stage has a fit of its own
        self.never_ran: list[str] = []
        self.index = self.stage_epoch = 0
        self.epochs = sum(stage.epochs for stage in self.stages)
        self.ledgers: list[pd.DataFrame] = []
        self.rows: list[dict] = []
        self.before: list[np.ndarray] = []  # the weights that the stage began with
        self.received = UNKNOWN  # their `value`
        self.start = UNKNOWN  # the same of what the first stage begins with, where it was judged
        self.best_weights: list[np.ndarray] | None = None
        self.saved: tuple[dict, dict[str, np.ndarray]] | None = None

    @property
    def network(self) -> keras.Model:
        """What stages and blocks speak of: the model of `fit`, or the whole that it is a part of."""
        return self.whole or self.model

    @property
    def stage(self) -> Stage:
        """The stage that is running."""
        return self.stages[self.index]

    @property
    def goes_on(self) -> bool:
        """Whether another fit follows this one, for the next stage."""
        return self.only is not None and self.entering and not self.stopped

    @property
    def ledger(self) -> pd.DataFrame:
        """What each finished stage moved, a row per stage and block; see `ledger.entries`."""
        return pd.concat(self.ledgers, ignore_index=True) if self.ledgers else pd.DataFrame()

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: epoch and stage_epoch (from 1), stage, learning_rate (at its end), the logs, and
        handed_on: whether the stage handed on the weights of this epoch. A stage without such a row handed on
        what it received.
        """
        return pd.DataFrame(self.rows)

    def on_train_begin(self, logs: dict | None = None) -> None:
        planned = self.params.get("epochs", self.epochs)
        if planned < self.epochs:
            raise InputError(
                f"fit was given epochs={planned}, but the stages need {self.epochs} "
                f"({' + '.join(str(stage.epochs) for stage in self.stages)}); pass epochs=staged.epochs."
            )
        if not self.model._trainable_variables and not self.model.weights:
            raise InputError("the model has no weights yet; build it before fit.")
        if not self.only:
            self.ledgers, self.rows, self.received = [], [], self.start
        self.calls = 0  # of the train function in this epoch
        self.begun_epoch: tuple[int, list[np.ndarray]] | None = None
        self.passed_by = 0  # of these calls, how many only stood for steps of an earlier fit
        self.steps = self.steps_per_epoch or self.params.get("steps")
        scheduled = [stage.name for stage in self.stages if stage.schedule != "constant"]
        if scheduled and not self.steps:
            raise InputError(
                f"stage '{scheduled[0]}' has a schedule, but the length of the training data is unknown; "
                "pass steps_per_epoch to StagedUnfreezing, or give the dataset one (assert_cardinality)."
            )
        picks = any(stage.keep == "best" or stage.patience for stage in self.stages)
        self.sign = monitoring.sign(self.model, self.monitor, self.mode) if picks else 1
        self.begun = False
        with self.model.distribute_strategy.scope():
            self._rebuild_optimizer()
        if self.saved is None:
            self._enter(self.only or 0)
        else:
            resuming.go_on(self, *self.saved)

    def _rebuild_optimizer(self) -> None:
        """A fresh optimizer of the same configuration, built for every weight that some stage trains."""
        old = self.model.optimizer
        if not isinstance(getattr(optimizers.inner(old), "_learning_rate", None), keras.Variable):
            raise InputError(
                "the optimizer was compiled with a learning-rate schedule, but each stage sets the rate; "
                "compile with a number and give the stage schedule='cosine' or 'one_cycle'."
            )
        chosen = [
            trainable.select(self.network, self.blocks, stage.train, stage.batch_norm)
            for stage in self.stages
        ]
        optimizers.check_averages(old, self.stages, chosen)
        here = chosen if self.only is None else [chosen[self.only]]
        wanted = {id(variable) for variables in here for variable in variables}
        optimizer = optimizers.renewed(old, [one for one in self.model.weights if id(one) in wanted])
        self.model.optimizer = optimizer
        # Some optimizers do not start at zero (Adagrad's accumulator, Nadam's product, a dynamic loss scale).
        self.optimizer_start = [variable.numpy() for variable in optimizer.variables]

    def _enter(self, index: int) -> None:
        self.index, self.stage_epoch, self.entering = index, 0, False
        self.best, self.best_weights, self.waited = UNKNOWN, None, 0
        stage, optimizer = self.stage, self.model.optimizer
        self.to_train = trainable.set_trainable(self.network, self.blocks, stage.train, stage.batch_norm)
        self.before = ledger.snapshot(self.network)
        if index == 0 or self.reset_optimizer:
            for variable, start in zip(optimizer.variables, self.optimizer_start, strict=True):
                variable.assign(start)
        optimizer.learning_rate = stage.rate
        rates.scale(optimizer, rates.factors(self.network, self.blocks, stage))
        self.model.make_train_function(force=True)

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """What `resume` needs to go on from here, between two steps: plain JSON types, and arrays."""
        return resuming.state(self)

    def resume(self, record: dict, arrays: dict[str, np.ndarray]) -> None:
        """Let the next `fit` go on from what `state` gave; pass it `initial_epoch=len(record["rows"])` and
        data that begins after the last step that was taken.

        Raises InputError when the stages are not those of the record; the weights are compared when `fit`
        starts.
        """
        stages = json.loads(json.dumps([dataclasses.asdict(stage) for stage in self.stages]))
        for number, (ours, theirs) in enumerate(zip(stages, record["stages"], strict=False)):
            if ours["learning_rate"] == "auto" and ours["name"] == theirs["name"]:
                ours["learning_rate"] = theirs["learning_rate"]
                self.set_rate(number, theirs["learning_rate"])
        if record["stages"] != stages:
            raise InputError(
                "the checkpoint was written with other stages; finish the run with those it began with, or "
                "delete its checkpoints to train anew."
            )
        self.saved = record, arrays

    def set_rate(self, index: int, rate: float) -> None:
        """Give a stage the rate that was found for it."""
        stage = dataclasses.replace(self.stages[index], learning_rate=rate)
        self.stages = (*self.stages[:index], stage, *self.stages[index + 1 :])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if not self.begun:
            self._check_room(epoch)
        if self.entering:
            self._enter(self.index + 1)
        self.calls = self.passed_by = 0
        if self.begun_epoch:
            resuming.go_on_in_epoch(self, *self.begun_epoch)
            self.begun_epoch = None

    def _check_room(self, epoch: int) -> None:
        """Raise InputError where `fit` begins at an epoch after which the stages to come have no room."""
        self.begun = True
        left = self.params.get("epochs", self.epochs) - epoch
        done = self.stage.epochs if self.entering else self.stage_epoch
        needed = self.epochs - sum(stage.epochs for stage in self.stages[: self.index]) - done
        if self.only is None and left < needed:
            raise InputError(
                f"fit begins at epoch {epoch + 1} of {epoch + left}, and the stages need {needed} more: some "
                "would never run. Give initial_epoch=0; to go on with an interrupted training use "
                "runner.training.fit.fit_stages with checkpoints, for BackupAndRestore knows of no stages."
            )

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # With steps_per_execution = k this runs, and the rate changes, every k steps.
        if self.stage.schedule != "constant":
            step = self.stage_epoch * self.steps + batch
            rate = rates.at(self.stage, step, self.stage.epochs * self.steps)
            self.model.optimizer.learning_rate = rate

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # The log is the mean over the epoch so far, already a Python float: one bad step spoils it at once.
        self.calls += 1
        self._check_loss("loss", logs, f"step {batch + 1}")

    def _check_loss(self, name: str, logs: dict | None, when: str) -> None:
        value = float((logs or {}).get(name, 0.0))
        if math.isfinite(value):
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        policy = keras.mixed_precision.global_policy().name
        precision = f"{policy} may be too coarse: try float32. " if "16" in policy else ""
        raise DivergenceError(
            f"stage '{self.stage.name}', epoch {self.stage_epoch + 1}, {when}: {name} became {value} at "
            f"learning rate {rate:.3g}. Give this stage a learning_rate of "
            f"{self.stage.rate / 10:.3g} or a longer warmup. {precision}If it happens in the first "
            "steps at any rate, look for NaN or huge values in the data."
        )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs if logs is not None else {}
        self._check_loss("val_loss", logs, "validation")
        stage = self.stage
        self.stage_epoch, self.calls = self.stage_epoch + 1, 0
        if self.monitor not in logs and (stage.keep == "best" or stage.patience):
            raise InputError(
                f"'{self.monitor}' is not among the logs of fit ({', '.join(logs)}); pass validation_data "
                "to fit, or another monitor, or stages with keep='last' and no patience."
            )
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append(
            dict(
                epoch=epoch + 1,
                stage=stage.name,
                stage_epoch=self.stage_epoch,
                learning_rate=rate,
                **{name: float(value) for name, value in logs.items()},
                handed_on=False,
            )
        )
        value = self.value(logs)
        if value < self.best:
            self.best, self.waited = value, 0
            if stage.keep == "best":
                self.best_weights = ledger.snapshot(self.network)
        else:
            self.waited += 1
        handed_on = min(self.received, self.best) if stage.keep == "best" else value
        monitoring.tell(epoch + 1, self.sign * handed_on[0])
        if self.stage_epoch == stage.epochs or (stage.patience and self.waited >= stage.patience):
            self._leave()

    def value(self, logs: Mapping[str, Any]) -> tuple[float, float]:
        """What decides which weights are best, lower first: `monitor`, of equals the validation loss.

        A hundred validation examples give a hundred accuracies, which many epochs share.
        """
        return self.sign * float(logs.get(self.monitor, math.nan)), float(logs.get("val_loss", 0.0))

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.goes_on:
            return
        ended = len(self.ledgers)  # so many stages
        within = bool(self.before and self.stage_epoch)
        self.never_ran = [stage.name for stage in self.stages[ended + within :]]
        if within:
            self._leave()
        if self.never_ran:
            print(
                f"warning: fit ended in stage '{self.stage.name}' after {len(self.rows)} of {self.epochs} "
                f"epochs, by another callback or for want of epochs; never ran: {', '.join(self.never_ran)}."
            )

    def _leave(self) -> None:
        """Hand on the best epoch, or what was received where no epoch was better on validation than that.

        The ledger tells what the stage moved, also where that is not handed on.
        """
        optimizer = optimizers.inner(self.model.optimizer)
        if optimizer.use_ema:  # as Keras does when fit ends, but before the ledger
            optimizer.finalize_variable_values(self.model.trainable_weights)
        rows, best_weights = self.rows[-self.stage_epoch :], self.best_weights
        if best_weights is not None:
            ledger.restore(self.network, best_weights)
        self.ledgers.append(
            ledger.entries(self.network, self.blocks, self.before, self.to_train, self.stage.name)
        )
        values = [self.value(row) for row in rows]
        if best_weights is not None and self.received <= self.best:
            ledger.restore(self.network, self.before)
        elif best_weights is not None:
            rows[values.index(self.best)]["handed_on"] = True
            self.received = self.best
        else:
            rows[-1]["handed_on"] = True
            self.received = values[-1]
        self.before, self.best_weights = [], None
        self.entering = self.index + 1 < len(self.stages)
        if not self.entering or self.only is not None:
            self.model.stop_training = True
