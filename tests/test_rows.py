"""The contract between the runner and a template, held by the smallest one: rows of numbers, no pictures."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import compare, evaluate, predict
from runner.training.stages import StagedUnfreezing
from tests.rows import train
from tests.rows.config import Config

ROOT = Path(__file__).parent.parent
FILES = {
    *("config.json", "environment.json", "manifest.csv", "problems.csv", "ledger.csv", "history.csv"),
    *("comparison.csv", "per_class.csv", "predictions.csv", "metrics.json", "model.keras", "MODEL_CARD.md"),
    *("report.html", "test_readings.csv"),
}
"""What every run folder has; templates add what is theirs."""


def config(folder: Path, **changes) -> Config:
    return dataclasses.replace(Config(machine=Machine(run_dir=str(folder))), **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train.main(config(tmp_path_factory.mktemp("rows") / "first"))


def test_it_is_short_and_imports_nothing_of_pictures():
    lines = [line for path in (ROOT / "tests/rows").glob("*.py") for line in path.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 120
    code = (
        "import sys; from tests.rows import train; "
        "print([one for one in sys.modules if one.startswith('runner.') "
        "and one.split('.')[1] in ('pictures', 'augment', 'picture_runs')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_leaves_what_every_run_leaves(run):
    assert {path.name for path in run.iterdir()} == FILES
    metrics, ledger = json.loads((run / "metrics.json").read_text()), pd.read_csv(run / "ledger.csv")
    assert metrics["test"]["accuracy"] > 0.85 and set(metrics["baselines"]) >= {
        "from scratch",
        "frozen backbone",
    }
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert len(frozen) == 2 and frozen[["moved", "relative_change", "statistics_moved"]].to_numpy().sum() == 0
    assert "rows: train 341" in train.load(config(run)).in_words()
    assert "pictures" not in (run / "MODEL_CARD.md").read_text().split("## Limits")[0]


def test_a_run_that_was_cut_goes_on_to_the_bit(run, tmp_path, monkeypatch):
    def weights(folder):
        model = train.keras.models.load_model(folder / "model.keras", compile=False)
        history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
        return [*model.get_weights(), history.select_dtypes("number").to_numpy()]

    whole = weights(run)
    original = StagedUnfreezing.on_epoch_end

    def cut(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 5:  # of the second stage, whose last state is that of the epoch before
            raise KeyboardInterrupt

    monkeypatch.setattr(StagedUnfreezing, "on_epoch_end", cut)
    with pytest.raises(KeyboardInterrupt):
        train.main(config(tmp_path / "cut", baselines=False))
    monkeypatch.undo()
    assert (tmp_path / "cut" / "checkpoints").is_dir()
    for ours, theirs in zip(
        weights(train.main(config(tmp_path / "cut", baselines=False))), whole, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_without_the_test_it_stops_at_validation_with_the_same_network(run, tmp_path, capsys):
    chosen = fields.replace(config(tmp_path / "chosen", baselines=False), test=False)
    folder = train.main(chosen)
    assert "the test was not opened (--no-test)" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == FILES - {
        *("per_class.csv", "predictions.csv", "MODEL_CARD.md", "report.html", "test_readings.csv")
    }
    weights = [train.keras.models.load_model(one / "model.keras", compile=False) for one in (run, folder)]
    for ours, theirs in zip(*(one.get_weights() for one in weights), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    record, table = json.loads((folder / "metrics.json").read_text()), pd.read_csv(folder / "comparison.csv")
    assert record["test"] == {} and not [name for name in table if name.startswith("test_")]
    assert record["validation"]["accuracy"] == table["val_accuracy"].item()
    # BatchNorm learned: what counts is the loss with the statistics that the network has in the end.
    loss = train.keras.losses.CategoricalCrossentropy(from_logits=True)
    examples = train.load(chosen)
    rows = next(iter(examples.val.batch(1000)))
    told = loss(np.eye(2)[rows["label"]], weights[1](rows["input"])).numpy()
    assert record["validation"]["monitor"] == pytest.approx(told, rel=1e-5)
    with pytest.raises(InputError, match="stopped at validation"):
        compare.read_all([run, folder])
    table = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "label"})
    table.head(60).to_csv(tmp_path / "new.csv", index=False)
    assert evaluate.run(train, Config, folder, str(tmp_path / "new.csv")).metrics["examples"] == 60


def test_a_run_without_the_test_that_opens_it_all_the_same_ends(tmp_path, monkeypatch):
    def opens(run, examples, networks, fits):
        run.save_network(networks["staged"])
        examples.test.open(None, "to choose by it")

    monkeypatch.setattr(train, "judge_and_report", opens)
    with pytest.raises(InputError, match=r"the test split stays closed: this run stops at validation"):
        train.main(fields.replace(config(tmp_path / "run", baselines=False), test=False))


def test_it_is_compared_judged_and_asked(run, tmp_path, capsys):
    other = train.main(config(tmp_path / "other", batch_size=64, baselines=False))
    page = compare.run([run, other], tmp_path)
    assert page.is_file() and "batch_size" in capsys.readouterr().out

    table = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "label"})
    table.head(60).to_csv(tmp_path / "new.csv", index=False)
    found = evaluate.run(train, Config, run, str(tmp_path / "new.csv"))
    assert found.metrics["examples"] == 60 and found.page.parent == run / "evaluate" / "new.csv"
    manifest = pd.read_csv(run / "manifest.csv").head(60)
    assert len(found.seen) == manifest["split"].isin(["train", "val"]).sum() > 0
    judged = json.loads((found.folder / "metrics.json").read_text())
    assert judged["seen"] == len(found.seen) and judged["judged"]["accuracy"] == found.metrics["accuracy"]

    table.drop(columns="label").head(5).to_csv(tmp_path / "asked.csv", index=False)
    answered = predict.run(train, run, [str(tmp_path / "asked.csv")], tmp_path / "answers.csv")
    assert answered.rows == 5 and len(pd.read_csv(tmp_path / "answers.csv")) == 5
