"""This template on two dozen drawn pictures: it learns, moves what it says it moves, and leaves a
complete run folder.
"""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import folder
from runner.stage import Stage

from . import sections, train
from .config import Config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kept activations go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder_of_pictures(tmp_path):
    """Two classes a child can tell apart: 12 reddish and 12 bluish noisy squares."""
    random = np.random.default_rng(0)
    for name, colour in (("red", (190, 60, 60)), ("blue", (60, 60, 190))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            noise = random.normal(colour, 25, (40, 40, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(noise).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def small_config(tmp_path, pictures, **changes) -> Config:
    config = Config(
        data=str(pictures),
        backbone="MobileNet-0.25",
        weights="none",
        image_size=32,
        batch_size=8,
        scratch_lengths=(1,),
        stages=(
            Stage("head", train="head", epochs=2, learning_rate=0.05),
            Stage("all", train="all", epochs=2, learning_rate=1e-3, batch_norm="train"),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


@pytest.mark.parametrize("baselines", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_leaves_everything_it_promises(tmp_path, folder_of_pictures, baselines, capsys):
    run = train.main(small_config(tmp_path, folder_of_pictures, baselines=baselines))
    assert {path.name for path in run.iterdir()} == folder.FILES | {"reference.npz"}
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert "Settings: seed 0, MobileNet-0.25, " in page
    assert "BatchNorm learned in stage all." in page and "they were estimated anew from" in page
    assert "stages.1.batch_norm" in page  # a setting that is not the default
    assert "BatchNorm's statistics are estimated anew" in capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    manifest = pd.read_csv(run / "manifest.csv")
    tested = pd.read_csv(run / "predictions.csv")
    readings = pd.read_csv(run / "test_readings.csv")
    assert len(readings) == 1 and readings["pictures"].tolist() == [len(tested)]
    assert metrics["test"]["examples"] == len(tested) == (manifest["split"] == "test").sum()
    assert metrics["test"]["accuracy"] == pytest.approx((tested["label"] == tested["prediction"]).mean())
    rivals = {"from scratch", "frozen backbone", "logistic regression on pixels"}
    assert set(metrics["baselines"]) == (rivals if baselines else set())
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert len(frozen) and frozen[["moved", "relative_change", "statistics_moved"]].to_numpy().sum() == 0
    assert len(pd.read_csv(run / "history.csv")) == 4

    # The saved model takes raw pictures and predicts what it was tested with.
    model = keras.models.load_model(run / "model.keras", compile=False)
    examples = train.load(small_config(tmp_path, folder_of_pictures))
    images = np.stack([element["input"].numpy() for element in examples.test.open(None, "to compare")])
    chosen = [metrics["classes"][index] for index in model.predict(images, verbose=0).argmax(1)]
    assert chosen == tested["prediction"].tolist()


def test_mistakes_are_found_before_anything_is_written(tmp_path, folder_of_pictures):
    with pytest.raises(InputError, match="image_size=8"):
        small_config(tmp_path, folder_of_pictures, image_size=8)
    with pytest.raises(InputError, match="this backbone has"):
        train.main(small_config(tmp_path, folder_of_pictures, stages=(Stage("top", train="top:99"),)))
    frozen = (Stage("all", train="all"),)
    with pytest.raises(InputError, match="random weights, whose BatchNorm statistics no stage lets learn"):
        train.main(small_config(tmp_path, folder_of_pictures, stages=frozen))
    with pytest.raises(InputError):
        train.main(small_config(tmp_path, tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()


def test_classes_and_pictures_count_as_they_are_told_to(tmp_path, folder_of_pictures, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "fit_stages", lambda model, *given, **options: seen.extend(given[:2]))
    lines = [f"pictures/{name}/{n}.png,{name},{1 + n % 2}" for name in ("red", "blue") for n in range(12)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,weight", *lines[:18]]) + "\n")
    config = small_config(tmp_path, tmp_path / "list.csv", class_weight="balanced")
    examples = train.load(config)
    train.fit(config, examples)
    own, sums = examples.manifest["weight"].to_numpy(), np.zeros(2)
    for batch in seen[0].named():
        sums += batch["weight"].numpy() @ batch["label"].numpy()
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert sums.sum() == pytest.approx(own[examples.manifest["split"] == "train"].sum(), rel=1e-5)
    assert "weight" in seen[1].named().element_spec
    assert "after training on all labelled pictures" in sections.question(config, examples)
    assert (examples.manifest["split"] != "unused").all()  # without a word all labels of one's own count
    few = fields.replace(config, labels_per_class=5)
    assert "on 5 labelled pictures per class" in sections.question(few, examples)
    told = sections.question(config, examples)
    assert "counts by its weight and so that all classes count alike" in told
