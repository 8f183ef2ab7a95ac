"""The templates on texts beyond their own tests: after a kill, on two replicas, in half precision."""

import keras
import numpy as np
import pytest

from runner import fields
from runner.devices import strategy
from runner.machine import Machine
from runner.stage import Stage
from templates.text_classification import train as text_classification
from templates.text_generation import train as text_generation
from templates.token_classification import train as token_classification
from templates.translation import train as translation
from tests import killed

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


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(template, tmp_path):
    """Three stages, of which the first two keep what lies below them; it is killed within the second."""
    few, count = FEW[template]
    (tmp_path / "config.json").write_text(
        '{"stages": [{"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.003},'
        ' {"name": "top", "train": "top:1", "epochs": 3, "learning_rate": 0.001},'
        ' {"name": "all", "train": "all", "epochs": 2, "learning_rate": 0.001}]}'
    )
    flags = [
        *("--config", tmp_path / "config.json", "--batch-size", 8, "--weights", "none"),
        *("--backbone", SMALL.get(template, "BERT-tiny"), "--no-baselines"),
        *("--checkpoint-steps", 2, f"--{few}", count),
    ]
    tables = ("history.csv", "ledger.csv", "predictions.csv")
    cache = {"THAW_CACHE": str(tmp_path / "cache")}
    killed.ends_as_one_that_was_not(template, flags, tmp_path, "epoch-00002", tables, cache)


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
