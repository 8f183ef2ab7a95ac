"""This template on some dozen short texts: it learns, moves what it says it moves, and leaves a complete run
folder whose network takes texts.
"""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import evaluate, folder
from runner.stage import Stage
from runner.text_networks import tokens

from . import sections, train
from .config import Config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kept activations go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def table(tmp_path):
    """Two classes a child can tell apart: 16 texts on animals and 16 on tools."""
    things = {
        "animal": ("cat dog horse cow", "eats sleeps"),
        "tool": ("hammer saw drill file", "cuts breaks"),
    }
    lines = ["text,label"]
    for name, (words, verbs) in things.items():
        lines += [
            f"The {thing} {verb} {how},{name}"
            for thing in words.split()
            for verb in verbs.split()
            for how in ("well", "badly")
        ]
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        backbone="BERT-tiny",
        weights="none",
        length=16,
        batch_size=8,
        scratch_lengths=(1,),
        stages=(
            Stage("head", train="head", epochs=1, learning_rate=0.01),
            Stage("top", train="top:1", epochs=1, learning_rate=1e-3),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


@pytest.mark.parametrize("baselines", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_leaves_everything_it_promises(tmp_path, table, baselines):
    run = train.main(small_config(tmp_path, table, baselines=baselines))
    assert {path.name for path in run.iterdir()} == folder.FILES | {"reference.npz"}
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert "test texts classified right" in page and "Answers, word by word" in page
    assert "pictures" not in page.split("</style>")[1] and "BatchNorm" not in page
    assert "pictures" not in (run / "MODEL_CARD.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    tested = pd.read_csv(run / "predictions.csv")
    assert pd.read_csv(run / "test_readings.csv")["pictures"].tolist() == [len(tested)]
    assert metrics["test"]["accuracy"] == pytest.approx((tested["label"] == tested["prediction"]).mean())
    rivals = {
        "from scratch",
        "frozen backbone",
        "fine-tuned at once",
        "LoRA",
        "logistic regression on TF-IDF",
    }
    assert set(metrics["baselines"]) == (rivals if baselines else set())
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert frozen["block"].tolist() == ["embeddings", "transformer_layer_0", "transformer_layer_1"]
    assert frozen[["moved", "relative_change"]].to_numpy().sum() == 0
    top = ledger.query("stage == 'top'").set_index("block")["moved"]
    assert top["transformer_layer_1"] == 16 and top["transformer_layer_0"] == top["embeddings"] == 0

    # The saved model takes texts and predicts what it was tested with.
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert any(isinstance(layer, tokens.Tokens) for layer in model.layers)
    texts = pd.read_csv(table)["text"].iloc[tested["id"]].tolist()
    logits = np.asarray(model(tf.constant(texts)))
    assert [metrics["classes"][index] for index in logits.argmax(1)] == tested["prediction"].tolist()
    answers = pd.concat(train.predict(run, [str(table), "The goat eats well"], batch_size=5))
    assert len(answers) == 33 and answers["text"].iloc[-1] == "The goat eats well"
    assert answers["text"].iloc[0] == "texts.csv:2" and answers["note"].eq("").all()
    assert answers[["p:animal", "p:tool"]].sum(axis=1).to_numpy() == pytest.approx(1)

    # It judges labelled texts as it answers them.
    judged = evaluate.run(train, Config, run, str(table), tmp_path / "judged")
    right = answers["prediction"][:-1].to_numpy() == pd.read_csv(table)["label"].to_numpy()
    assert judged.metrics["accuracy"] == right.mean() and len(judged.seen) == 32 - len(tested)


def test_mistakes_are_found_before_anything_is_written(tmp_path, table):
    with pytest.raises(InputError, match="length=2"):
        small_config(tmp_path, table, length=2)
    with pytest.raises(InputError, match="a learning_rate and a backbone_rate for each"):
        small_config(tmp_path, table, stages=(Stage("all", train="all", learning_rate=None),))
    with pytest.raises(InputError, match="this backbone has 3 blocks"):
        train.main(small_config(tmp_path, table, stages=(Stage("top", train="top:99"),)))
    with pytest.raises(InputError, match="Unknown encoder 'BERT-huge'"):
        train.main(small_config(tmp_path, table, backbone="BERT-huge"))
    with pytest.raises(InputError, match="minilm"):
        train.main(small_config(tmp_path, table, weights="minilmm"))
    with pytest.raises(InputError, match="which is not there"):
        train.main(small_config(tmp_path, tmp_path / "nowhere.csv"))
    assert not (tmp_path / "run").exists()


def test_classes_and_texts_count_as_they_are_told_to(tmp_path, table, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "fit_stages", lambda model, *given, **options: seen.extend(given[:2]))
    lines = table.read_text().splitlines()
    weighed = [f"{line},{1 + number % 2}" for number, line in enumerate(lines[1:27])]
    table.write_text("\n".join([f"{lines[0]},weight", *weighed]) + "\n")
    config = small_config(tmp_path, table, class_weight="balanced", solve_head=False)
    examples = train.load(config)
    train.fit(config, examples)
    sums = np.zeros(2)
    for batch in seen[0].named():
        sums += batch["weight"].numpy() @ batch["label"].numpy()
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert "counts by its weight and so that all classes count alike" in sections.question(config, examples)
    assert "after training on all labelled texts" in sections.question(config, examples)
