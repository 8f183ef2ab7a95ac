"""Loggers that hear of a training while it runs: TensorBoard's event files, and MLflow's store.

Both get what history.csv holds, epoch by epoch; a run that goes on goes on there too. They are callbacks that
`fit_stages` tells, so that what is frozen is computed once with them as well.
"""

import importlib.util
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from runner.errors import InputError

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Of each logger, what has to be installed."""
FOLDER = "thaw.folder"
METHOD = "thaw.method"
"""Tags by which a run of MLflow is found again."""
LONGEST = 500
"""Characters of a parameter that MLflow's stores take."""


def check(names: Sequence[str]) -> None:
    """Raise InputError for a logger whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise InputError(
                f"--log {name} needs the package {PACKAGES[name]}, which is not installed: `pip install "
                f"{PACKAGES[name]}`, or leave it out."
            )


def make(
    names: Sequence[str], folder: Path, method: str, template: str, settings: Mapping[str, Any]
) -> tuple[keras.callbacks.Callback, ...]:
    """The callbacks of loggers for the training of one method of a run.

    names: "tensorboard" writes event files into FOLDER/tensorboard/METHOD, in Keras' layout; "mlflow" a run
    of the experiment that has the template's name, into the store that MLflow is set to
    (MLFLOW_TRACKING_URI; else mlflow.db here). folder: of the run. settings: names and plain values, which
    become its parameters.
    """
    made: list[keras.callbacks.Callback] = []
    for name in names:
        if name == "tensorboard":
            place = folder / "tensorboard" / method.replace(" ", "_")
            made.append(keras.callbacks.TensorBoard(place, write_graph=False))
        else:
            made.append(MLflow(folder, method, template, settings))
    return tuple(made)


class MLflow(keras.callbacks.Callback):
    """A row of numbers per epoch, step 1 for the first, in a run of MLflow's store.

    A training that goes on finds its run by its folder and method, and writes the steps that are not there.
    Where the store cannot be reached that is said once, and the training goes on without.
    """

    def __init__(self, folder: Path, method: str, template: str, settings: Mapping[str, Any]):
        super().__init__()
        self.folder, self.method, self.template, self.settings = folder, method, template, dict(settings)
        self._run = ""  # none

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._attempt(self._begin)

    def _attempt(self, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:  # a store may raise anything: SQL, HTTP, its own
            reason = " ".join(str(error).split())[:200]
            print(f"warning: MLflow's store could not be written, and is left alone from here on ({reason}).")
            self._run = ""

    def _begin(self) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(self.template)
        number = found.experiment_id if found else self._client.create_experiment(self.template)
        tags = {FOLDER: str(self.folder.resolve()), METHOD: self.method}
        query = " and ".join(f"tags.`{key}` = '{_quoted(value)}'" for key, value in tags.items())
        begun = self._client.search_runs([number], query, max_results=1)
        if begun:
            self._run = begun[0].info.run_id
            self._client.set_terminated(self._run, "RUNNING")
            there = self._client.get_metric_history(self._run, "loss")
            self._written = max((one.step for one in there), default=0)
            return
        title = f"{self.folder.name}: {self.method}"
        self._run = self._client.create_run(number, tags=tags, run_name=title).info.run_id
        self._written = 0
        told = [Param(key, str(value)[:LONGEST]) for key, value in self.settings.items()]
        self._client.log_batch(self._run, params=told)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._run and epoch + 1 > self._written:
            self._attempt(self._log, epoch + 1, dict(logs or {}))

    def _log(self, step: int, logs: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        numbers = {name: float(value) for name, value in logs.items()}
        rate = self.model.optimizer.learning_rate
        numbers["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        now = int(1000 * time.time())
        told = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=told)

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._run:
            self._attempt(self._client.set_terminated, self._run)


def _quoted(text: str) -> str:
    """For a value within quotes in MLflow's queries."""
    return text.replace("'", "\\'")
