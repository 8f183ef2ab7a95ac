"""The template on treatment effects beyond its own test: killed, on two replicas, from an earlier run."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from runner import fields
from runner.devices import strategy
from runner.machine import Machine
from runner.runs import evaluate
from runner.stage import Stage
from templates.treatment_effects import learners, train
from templates.treatment_effects.config import Config
from tests import killed

SHORT = Stage("source", train="all", epochs=3, learning_rate=3e-3, schedule="cosine")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    """A larger trial, and two stages after it."""
    (tmp_path / "config.json").write_text(
        '{"source_stages": [{"name": "source", "train": "all", "epochs": 3, "learning_rate": 0.003}],'
        ' "stages": [{"name": "heads", "train": "head", "epochs": 2, "learning_rate": 0.003},'
        ' {"name": "all", "train": "all", "epochs": 30, "learning_rate": 0.001}]}'
    )
    flags = ("--config", tmp_path / "config.json", "--no-baselines", "--simulations", 0)
    tables = ("history.csv", "ledger.csv", "predictions.csv", "policies.csv")
    killed.ends_as_one_that_was_not("treatment_effects", flags, tmp_path, "epoch-00003", tables)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["TARNet", "DragonNet", "S-learner", "T-learner"])
def test_two_replicas_train_as_one(backbone):
    def trained(chosen: str):
        keras.utils.set_random_seed(3)
        stages = (Stage("all", train="all", epochs=3, learning_rate=1e-3),)
        # Batches that divide: of an odd one the replicas' means count alike, whatever their number of rows.
        # And one training: what a first one rounds otherwise, a second one begins with.
        config = fields.replace(
            Config(),
            source="",
            weights="none",
            stages=stages,
            backbone=backbone,
            strategy=chosen,
            batch_size=16,
            train_rows=64,
        )
        learned, fitted = train.fit(config, train.load(config))
        return fitted.history["loss"].to_numpy(), learned.network.get_weights()

    alone, pair = trained("cpu"), trained("mirrored")
    assert strategy.choose("mirrored").num_replicas_in_sync == 2
    np.testing.assert_allclose(pair[0], alone[0], rtol=2e-3)
    for one, other in zip(alone[1], pair[1], strict=True):
        np.testing.assert_allclose(other, one, rtol=0.05, atol=3e-3)


@pytest.mark.slow
def test_a_network_begins_with_an_earlier_run(tmp_path):
    machine = Machine(run_dir=str(tmp_path / "first"))
    config = Config(
        source_stages=(SHORT,),
        stages=(Stage("heads", train="head", epochs=1, learning_rate=1e-3),),
        baselines=False,
        simulations=0,
        machine=machine,
    )
    first = train.main(config)
    again = fields.replace(config, weights=str(first), data="made_trials/much_100", source="")
    again = fields.replace(again, run_dir=str(tmp_path / "second"))
    trial = train.load(again)
    before = learners.start_of(again, trial, None)
    answered = pd.concat(train.predict(first, [table(trial, tmp_path)]))
    there = answered["note"].eq("").to_numpy()
    expected = before.expected(trial.rows[trial.of("val")])
    np.testing.assert_allclose(answered["treated"][there], expected[there, 1], atol=1e-3)
    assert (train.main(again) / "metrics.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("test", [True, False])
def test_effects_without_overlap_are_withheld_wherever_they_are_told(tmp_path, test):
    random = np.random.default_rng(0)
    x, other = random.normal(size=(2, 400))
    # Whoever has a high x is treated, a low x is not; between them a coin decides.
    treatment = ((x > 0.6) | ((x > -0.6) & (random.random(400) < 0.5))).astype(int)
    people = pd.DataFrame({"x": x, "other": other, "treatment": treatment})
    people["outcome"] = other + treatment * (1 + x) + 0.1 * random.normal(size=400)
    people.to_csv(tmp_path / "trial.csv", index=False)
    config = Config(
        data=str(tmp_path / "trial.csv"),
        source="",
        weights="none",
        stages=(Stage("all", train="all", epochs=3, learning_rate=1e-2),),
        baselines=False,
        simulations=0,
        machine=Machine(run_dir=str(tmp_path / "run"), test=test),
    )
    run = train.main(config)
    handed = pd.concat(train.predict(run, [config.data]))
    left = handed["note"].ne("")
    far = left.to_numpy()[np.abs(x) > 1.7]
    assert 20 < left.sum() < 300 and far.mean() > 0.8 and not left.to_numpy()[np.abs(x) < 0.3].any()
    evaluate.run(train, Config, run, config.data, tmp_path / "judged")
    judged = pd.read_csv(tmp_path / "judged" / "predictions.csv").set_index("id").sort_index()
    assert judged["effect"].isna().tolist() == judged["note"].notna().tolist() == left.tolist()
    if test:
        tested = pd.read_csv(run / "predictions.csv").set_index("id")
        assert tested["effect"].isna().tolist() == left[tested.index].tolist()


def table(trial, folder: Path) -> str:
    """The validation rows of a trial as a file."""
    trial.cells.iloc[trial.of("val")].to_csv(folder / "rows.csv", index=False)
    return str(folder / "rows.csv")
