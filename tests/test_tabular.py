"""The template on tables beyond its own test: killed, and on two replicas."""

import keras
import numpy as np
import pytest

from runner import fields
from runner.devices import strategy
from runner.stage import Stage
from templates.tabular import train
from templates.tabular.config import Config
from tests import killed


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    """A source, and two stages after it."""
    (tmp_path / "config.json").write_text(
        '{"stages": [{"name": "head", "train": "head", "epochs": 2, "learning_rate": 0.001},'
        ' {"name": "all", "train": "all", "epochs": 30, "learning_rate": 0.0003}]}'
    )
    flags = ("--config", tmp_path / "config.json", "--no-baselines", "--source-epochs", 3)
    tables = ("history.csv", "ledger.csv", "predictions.csv", "per_class.csv")
    killed.ends_as_one_that_was_not("tabular", flags, tmp_path, "epoch-00003", tables)


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
