"""The templates on texts beyond their own tests: after a kill, on two replicas, in half precision."""

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
from runner.machine import Machine
from runner.stage import Stage
from templates.text_classification import train as text_classification
from templates.text_generation import train as text_generation
from templates.token_classification import train as token_classification
from templates.translation import train as translation

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = {
    "text_classification": text_classification,
    "token_classification": token_classification,
    "text_generation": text_generation,
    "translation": translation,
}
FEW = {
    "text_classification": ("labels-per-class", 20),
    "token_classification": ("train-examples", 40),
    "text_generation": ("train-characters", 4000),
    "translation": ("train-examples", 40),
}
SMALL = {"text_generation": "GPT-tiny"}
"""The backbone, where it is not BERT-tiny."""


def start(template: str, run: Path, folder: Path) -> subprocess.Popen:
    """A training of three stages, the first of which keeps what lies below it."""
    few, count = FEW[template]
    (folder / "config.json").write_text(
        '{"stages": [{"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.003},'
        ' {"name": "top", "train": "top:1", "epochs": 3, "learning_rate": 0.001},'
        ' {"name": "all", "train": "all", "epochs": 2, "learning_rate": 0.001}]}'
    )
    command = [
        *(sys.executable, "-m", f"templates.{template}.train", "--run-dir", str(run), "--batch-size", "8"),
        *("--config", str(folder / "config.json"), "--weights", "none"),
        *("--backbone", SMALL.get(template, "BERT-tiny")),
        *("--no-baselines", "--deterministic", "--checkpoint-steps", "2", f"--{few}", str(count)),
    ]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "THAW_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(template, tmp_path):
    for name in ("whole", "killed"):
        process, states = start(template, tmp_path / name, tmp_path), tmp_path / name / "checkpoints"
        while name == "killed" and process.poll() is None:
            # Within the second stage, whose inputs are what was kept.
            if any(path.name > "epoch-00002" for path in (states / "staged").glob("*.npz")):
                process.kill()
            threading.Event().wait(0.01)
        output = process.communicate(timeout=600)[0]
        if name == "killed":
            assert process.returncode == -9, output
            process = start(template, tmp_path / name, tmp_path)
            output = process.communicate(timeout=600)[0]
            assert "an unfinished run, which goes on" in output
        assert process.returncode == 0, output
    for file in ("history.csv", "ledger.csv", "predictions.csv"):
        tables = [
            pd.read_csv(tmp_path / name / file).drop(columns="seconds", errors="ignore")
            for name in ("whole", "killed")
        ]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


def small(template: str, rate: float = 1e-3, **machine) -> fields.ConfigType:
    """Two epochs of all weights and one of the top layer, on the data that comes with a template."""
    few, count = FEW[template]
    stages = (
        Stage("all", train="all", epochs=2, learning_rate=rate),
        Stage("top", train="top:1", epochs=1, learning_rate=rate),
    )
    backbone = SMALL.get(template, "BERT-tiny")
    base = TEMPLATES[template].Config(weights="none", backbone=backbone, stages=stages, batch_size=8)
    base = fields.replace(base, dropout=0.0, baselines=False)
    if hasattr(base, "solve_head"):
        base = fields.replace(base, solve_head=False)
    return fields.replace(base, **{few.replace("-", "_"): count}, machine=Machine(**machine))


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_two_replicas_train_as_one(template, tmp_path, monkeypatch):
    """Batches of texts of other lengths, and of other numbers of words, on each."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path))
    # The encoder's own dropout draws other numbers on each replica.
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, inputs, training=False: inputs)
    # Adam divides by the size of a gradient, and where that is rounding, as of many positions of a decoder,
    # so is its step. SGD takes the sum over replicas as it is, and is compared more closely.
    summed = template == "translation"
    if summed:
        monkeypatch.setattr(keras.optimizers, "Adam", lambda **_: keras.optimizers.SGD())

    def trained(chosen: str):
        keras.utils.set_random_seed(3)
        config = small(template, rate=0.1 if summed else 1e-3, strategy=chosen)
        examples = TEMPLATES[template].load(config)
        network, fitted = TEMPLATES[template].fit(config, examples)
        return fitted.history["loss"].to_numpy(), network.get_weights()

    alone = trained("cpu")
    pair = trained("mirrored")
    assert strategy.choose("mirrored").num_replicas_in_sync == 2
    np.testing.assert_allclose(pair[0], alone[0], rtol=1e-3)
    close = {"rtol": 1e-3, "atol": 1e-5} if summed else {"rtol": 0.05, "atol": 2e-3}
    for one, other in zip(alone[1], pair[1], strict=True):
        np.testing.assert_allclose(other, one, **close)
    assert alone[0][1] < alone[0][0]  # it learned


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_half_precision_learns_what_full_does(template, tmp_path, monkeypatch):
    monkeypatch.setenv("THAW_CACHE", str(tmp_path))
    losses = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(3)
        config = small(template, precision=policy)
        examples = TEMPLATES[template].load(config)
        network, fitted = TEMPLATES[template].fit(config, examples)
        assert network.get_layer("transformer_layer_0").compute_dtype == policy.removeprefix("mixed_")
        losses[policy] = fitted.history["loss"].to_numpy()
    np.testing.assert_allclose(losses["mixed_bfloat16"], losses["float32"], rtol=0.1)
