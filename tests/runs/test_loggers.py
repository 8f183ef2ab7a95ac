"""TensorBoard's files and MLflow's store hold what history.csv does, with what is frozen kept and over a
restart, and a lack of them is one line before anything begins.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import loggers
from runner.stage import Stage
from templates.text_classification import train
from templates.text_classification.config import Config


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of a run on 32 short texts, whose folder, cache and stores go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = [
        (f"The {thing} {verb} {how}", kind)
        for kind, things in (("animal", "cat dog horse cow"), ("tool", "hammer saw drill file"))
        for thing in things.split()
        for verb in ("runs", "rests")
        for how in ("well", "badly")
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv("texts.csv", index=False)
    return Config(
        data="texts.csv",
        backbone="BERT-tiny",
        weights="none",
        length=16,
        batch_size=8,
        baselines=False,
        stages=(
            Stage("head", train="head", epochs=2, learning_rate=0.01),
            Stage("top", train="top:1", epochs=2, learning_rate=1e-3, schedule="cosine"),
        ),
        machine=Machine(run_dir=str(tmp_path / "run"), test=False, log=("tensorboard", "mlflow")),
    )


def of_mlflow() -> dict[str, list[float]]:
    """All numbers of the one run in the store of this folder, by name, in the order of their steps."""
    from mlflow import MlflowClient

    client = MlflowClient()
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags[loggers.METHOD] == "staged"
    assert run.data.params["batch_size"] == "8" and "top:1" in run.data.params["stages"]
    found = {}
    for name in run.data.metrics:
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda one: one.step)
        assert [one.step for one in history] == [1, 2, 3, 4]
        found[name] = [one.value for one in history]
    return found


def of_tensorboard(folder) -> dict[str, list[float]]:
    """What the event files of a folder hold, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [float(tensor_util.make_ndarray(one.tensor_proto)) for one in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_both_agree_with_the_history_while_what_is_frozen_is_kept(config, capsys):
    run = train.main(config)
    history = pd.read_csv(run / "history.csv")
    assert "computed once" in capsys.readouterr().out and len(history) == 4
    stored = of_mlflow()
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(stored)
    for name, values in stored.items():
        np.testing.assert_allclose(values, history[name], rtol=1e-6)
    written = of_tensorboard(run / "tensorboard" / "staged" / "validation")
    np.testing.assert_allclose(written["epoch_loss"], history["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(written["epoch_accuracy"], history["val_accuracy"], rtol=1e-6)
    trained = of_tensorboard(run / "tensorboard" / "staged" / "train")
    np.testing.assert_allclose(trained["epoch_loss"], history["loss"], rtol=1e-6)
    np.testing.assert_allclose(trained["epoch_learning_rate"], history["learning_rate"], rtol=1e-5)


def test_a_run_that_goes_on_goes_on_in_the_store(config, monkeypatch):
    class Killed(BaseException):
        pass

    ended = keras.callbacks.CallbackList.on_epoch_end

    def stop(self, epoch, logs=None):
        ended(self, epoch, logs)
        if epoch == 2:
            raise Killed

    monkeypatch.setattr(keras.callbacks.CallbackList, "on_epoch_end", stop)
    with pytest.raises(Killed):
        train.main(fields.replace(config, log=("mlflow",)))
    monkeypatch.undo()
    monkeypatch.chdir(config.machine.run_dir + "/..")
    run = train.main(config)
    history = pd.read_csv(run / "history.csv")
    for name, values in of_mlflow().items():
        np.testing.assert_allclose(values, history[name], rtol=1e-6)
    # TensorBoard was asked for when it went on, and has what came then.
    written = of_tensorboard(run / "tensorboard" / "staged" / "validation")
    np.testing.assert_allclose(written["epoch_loss"][-1:], history["val_loss"][-1:], rtol=1e-6)


def test_a_store_that_fails_is_said_and_the_training_goes_on(config, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    run = train.main(fields.replace(config, log=("mlflow",)))
    assert "MLflow's store could not be written" in capsys.readouterr().out
    assert json.loads((run / "metrics.json").read_text())["validation"]


def test_what_is_not_installed_is_named_before_anything_begins(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="--log mlflow needs the package mlflow.*pip install mlflow"):
        train.main(config)
    assert not Path(config.machine.run_dir).exists()
