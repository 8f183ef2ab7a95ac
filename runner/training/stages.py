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
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from runner.errors import DivergenceError, InputError
from runner.networks.backbones import Block
from runner.stage import Stage, check_stages
from runner.training import ledger, optimizers, rates, trainable
from runner.training import monitor as monitoring


class StagedUnfreezing(keras.callbacks.Callback):
    """Run stages one after another inside one `model.fit`.

    Give `fit` at least `epochs` (the sum over the stages); it stops by itself when the last stage is done.
    After `fit`, `ledger` and `history` hold a row per stage and block and a row per epoch.

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
        if mode not in ("auto", "min", "max"):
            raise InputError(f"mode='{mode}' is not one of auto, min, max.")
        self.stages, self.blocks = tuple(stages), tuple(blocks)
        self.monitor, self.mode = monitor, mode
        self.reset_optimizer = reset_optimizer
        self.steps_per_epoch = steps_per_epoch
        self.whole = whole
        self.only: int | None = None
        self.never_ran: list[str] = []
        self.index = self.stage_epoch = 0
        self.epochs = sum(stage.epochs for stage in self.stages)
        self.ledgers: list[pd.DataFrame] = []
        self.rows: list[dict] = []
        self.before: list[np.ndarray] = []  # the weights that the stage began with
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
    def ledger(self) -> pd.DataFrame:
        """What each finished stage moved, a row per stage and block; see `ledger.entries`."""
        return pd.concat(self.ledgers, ignore_index=True) if self.ledgers else pd.DataFrame()

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: epoch and stage_epoch (from 1), stage, learning_rate (at its end), the logs."""
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
            self.ledgers, self.rows = [], []
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
            self._go_on(*self.saved)

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
        self.best, self.best_weights, self.waited = math.inf, None, 0
        stage, optimizer = self.stage, self.model.optimizer
        self.to_train = trainable.set_trainable(self.network, self.blocks, stage.train, stage.batch_norm)
        self.before = ledger.snapshot(self.network)
        if index == 0 or self.reset_optimizer:
            for variable, start in zip(optimizer.variables, self.optimizer_start, strict=True):
                variable.assign(start)
        optimizer.learning_rate = stage.learning_rate
        rates.scale(optimizer, rates.factors(self.network, self.blocks, stage))
        self.model.make_train_function(force=True)

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """What `resume` needs to go on from here, between two steps: plain JSON types, and arrays.

        The arrays are copies on the host: the weights and the seed states of random layers, the metrics'
        sums, the optimizer's variables, and, while a stage runs, its first weights and those of its best
        epoch.
        """
        variables, optimizer = _state_variables(self.network), self.model.optimizer.variables
        record = {
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "variables": [[variable.path, list(variable.shape)] for variable in (*variables, *optimizer)],
            "index": self.index,
            "stage_epoch": self.stage_epoch,
            "calls": self.calls,
            "entering": self.entering,
            "best": self.best,
            "waited": self.waited,
            "rows": self.rows,
            "ledgers": [table.to_dict("records") for table in self.ledgers],
        }
        groups = {
            "variable": [keras.ops.convert_to_numpy(variable) for variable in variables],
            "optimizer": [keras.ops.convert_to_numpy(variable) for variable in optimizer],
            "metric": [_per_replica(variable) for variable in self.model.metrics_variables],
            "before": self.before,
            "best": self.best_weights or [],
        }
        return record, {
            f"{name}_{i:05}": value for name, values in groups.items() for i, value in enumerate(values)
        }

    def resume(self, record: dict, arrays: dict[str, np.ndarray]) -> None:
        """Let the next `fit` go on from what `state` gave; pass it `initial_epoch=len(record["rows"])` and
        data that begins after the last step that was taken.

        Raises InputError when the stages are not those of the record; the weights are compared when `fit`
        starts.
        """
        stages = json.loads(json.dumps([dataclasses.asdict(stage) for stage in self.stages]))
        if record["stages"] != stages:
            raise InputError(
                "the checkpoint was written with other stages; finish the run with those it began with, or "
                "delete its checkpoints to train anew."
            )
        self.saved = record, arrays

    def _go_on(self, record: dict, arrays: dict[str, np.ndarray]) -> None:
        """Take up a saved state: the counterpart of `_enter`, which starts a stage from its beginning."""
        self.saved = None
        variables = [*_state_variables(self.network), *self.model.optimizer.variables]
        expected = record["variables"]
        if record["entering"] and self.only is not None:
            # The file has the optimizer of the stage before, which was for other weights; the next begins
            # with its own.
            variables = _state_variables(self.network)
            expected = expected[: len(variables)]
            arrays = {name: value for name, value in arrays.items() if not name.startswith("optimizer_")}
        found = [[list(variable.shape), variable.path.split("/")[-1]] for variable in variables]
        if found != [[shape, path.split("/")[-1]] for path, shape in expected]:
            raise InputError(
                "the checkpoint holds other weights than this model or its optimizer has; give the model it "
                "was written for, or delete its checkpoints to train anew."
            )
        values = {
            name: [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}_")]
            for name in ("variable", "optimizer", "metric", "before", "best")
        }
        for variable, value in zip(variables, values["variable"] + values["optimizer"], strict=True):
            variable.assign(value)
        self.index, self.stage_epoch, self.entering = (
            record[name] for name in ("index", "stage_epoch", "entering")
        )
        self.best, self.waited = record["best"], record["waited"]
        self.before, self.best_weights = values["before"], values["best"] or None
        self.rows = record["rows"]
        self.ledgers = [pd.DataFrame(rows) for rows in record["ledgers"]]
        stage = self.stage
        self.to_train = trainable.set_trainable(self.network, self.blocks, stage.train, stage.batch_norm)
        rates.scale(self.model.optimizer, rates.factors(self.network, self.blocks, stage))
        self.model.make_train_function(force=True)
        if record["calls"]:
            self.begun_epoch = record["calls"], values["metric"]

    def _go_on_in_epoch(self, calls: int, sums: list[np.ndarray]) -> None:
        """Let the first `calls` steps of this epoch pass without training, its metrics as they were after
        them.

        `fit` counts an epoch's steps from 0 and reads `train_function` anew for each.
        """
        for variable, values in zip(self.model.metrics_variables, sums, strict=True):
            copies = getattr(variable.value, "values", [variable])
            if len(values) != len(copies):
                raise InputError(
                    f"the checkpoint was written within an epoch on {len(values)} replicas, now there are "
                    f"{len(copies)}; go on with as many, or delete it to go on from the epoch before."
                )
            for copy, value in zip(copies, values, strict=True):
                copy.assign(value)
        self.passed_by = calls
        model, train_function = self.model, self.model.train_function

        def pass_by(iterator):
            if self.calls == calls - 1:
                model.train_function = train_function
            return model.get_metrics_result()

        model.train_function = pass_by

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if not self.begun:
            self._check_room(epoch)
        if self.entering:
            self._enter(self.index + 1)
        self.calls = self.passed_by = 0
        if self.begun_epoch:
            self._go_on_in_epoch(*self.begun_epoch)
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
            f"{self.stage.learning_rate / 10:.3g} or a longer warmup. {precision}If it happens in the first "
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
            )
        )
        value = self.sign * float(logs.get(self.monitor, math.nan))
        if value < self.best:
            self.best, self.waited = value, 0
            if stage.keep == "best":
                self.best_weights = ledger.snapshot(self.network)
        else:
            self.waited += 1
        if self.stage_epoch == stage.epochs or (stage.patience and self.waited >= stage.patience):
            self._leave()

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.entering and self.only is not None:
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
        optimizer = optimizers.inner(self.model.optimizer)
        if optimizer.use_ema:  # as Keras does when fit ends, but before the ledger
            optimizer.finalize_variable_values(self.model.trainable_weights)
        if self.best_weights is not None:
            ledger.restore(self.network, self.best_weights)
        self.ledgers.append(
            ledger.entries(self.network, self.blocks, self.before, self.to_train, self.stage.name)
        )
        self.before, self.best_weights = [], None
        self.entering = self.index + 1 < len(self.stages)
        if not self.entering or self.only is not None:
            self.model.stop_training = True


def _state_variables(model: keras.Model) -> list[keras.Variable]:
    """All weights and the seed states of random layers; metrics start anew each epoch."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _per_replica(variable: keras.Variable) -> np.ndarray:
    """A metric's sum, one row per replica: each has its own, and their total is another rounding."""
    return np.stack([copy.numpy() for copy in getattr(variable.value, "values", [variable])])
