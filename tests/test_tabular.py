"""The template on tables beyond its own test: killed, and on two replicas."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from runner import fields
from runner.devices import strategy
from runner.stage import Stage
from templates.tabular import train
from templates.tabular.config import Config

ROOT = Path(__file__).resolve().parent.parent


def start(run: Path, config: Path) -> subprocess.Popen:
    """A source, and two stages after it."""
    config.write_text(
        '{"stages": [{"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.001},'
        ' {"name": "all", "train": "all", "epochs": 30, "learning_rate": 0.0003}]}'
    )
    command = [
        *(sys.executable, "-m", "templates.tabular.train", "--run-dir", str(run)),
        *("--config", str(config), "--no-baselines", "--deterministic", "--source-epochs", "3"),
    ]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    for name in ("whole", "killed"):
        process, states = start(tmp_path / name, tmp_path / "config.json"), tmp_path / name / "checkpoints"
        while name == "killed" and process.poll() is None:
            if any(path.name > "epoch-00003" for path in (states / "staged").glob("*.npz")):
                process.kill()
            threading.Event().wait(0.01)
        output = process.communicate(timeout=600)[0]
        if name == "killed":
            assert process.returncode == -9, output
            process = start(tmp_path / name, tmp_path / "config.json")
            output = process.communicate(timeout=600)[0]
            assert "an unfinished run, which goes on" in output
        assert process.returncode == 0, output
    for file in ("history.csv", "ledger.csv", "predictions.csv", "per_class.csv"):
        tables = [
            pd.read_csv(tmp_path / name / file).drop(columns="seconds", errors="ignore")
            for name in ("whole", "killed")
        ]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["residual-mlp", "ft-transformer"])
def test_two_replicas_train_as_one(backbone):
    def trained(chosen: str):
        keras.utils.set_random_seed(3)
        stages = (Stage("all", train="all", epochs=3, learning_rate=1e-3),)
        # Without dropout, which draws other numbers on each replica, and in batches that divide.
        config = fields.replace(
            Config(),
            source="none",
            weights="none",
            stages=stages,
            backbone=backbone,
            strategy=chosen,
            dropout=0.0,
            batch_size=20,
            train_rows=100,
        )
        network, fitted = train.fit(config, train.load(config))
        return fitted.history["loss"].to_numpy(), network.get_weights()

    alone, pair = trained("cpu"), trained("mirrored")
    assert strategy.choose("mirrored").num_replicas_in_sync == 2
    np.testing.assert_allclose(pair[0], alone[0], rtol=2e-3)
    for one, other in zip(alone[1], pair[1], strict=True):
        np.testing.assert_allclose(other, one, rtol=0.05, atol=3e-3)
