"""This template on some hundred made rows with another table beside them: it learns, moves what it says it
moves, and leaves a complete run folder whose network takes columns as they are.
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
from runner.table_runs import export
from runner.tables import layers

from . import method, model, train
from .config import Config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kept activations go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


def people(count: int, seed: int, hospital: bool = False) -> pd.DataFrame:
    """Rows behind which lies one risk, a product of two columns: no line tells it."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(random.normal(size=(count, 3)).round(4), columns=["a", "b", "c"])
    frame["job"] = random.choice(["nurse", "cook", "guard"], count)
    risk = 2 * frame["a"] * frame["b"] + (frame["job"] == "cook")
    frame.loc[random.random(count) < 0.05, "c"] = np.nan
    if hospital:
        frame["outcome_1"] = (risk + random.normal(size=count) > 0).astype(int)
        frame["outcome_2"] = (risk - frame["c"].fillna(0) > 0.5).astype(int)
        return frame
    frame["seen"] = [f"20{20 + row % 5}-0{1 + row % 9}-11" for row in range(count)]
    frame["sex"] = random.choice(["f", "m"], count)
    frame["ill"] = np.where(risk + 0.5 * random.normal(size=count) > 0.3, "yes", "no")
    return frame


@pytest.fixture
def tables(tmp_path):
    """The clinic's file and the hospital's."""
    people(300, 0).to_csv(tmp_path / "clinic.csv", index=False)
    people(1500, 1, hospital=True).to_csv(tmp_path / "hospital.csv", index=False)
    return tmp_path / "clinic.csv", tmp_path / "hospital.csv"


def small_config(tmp_path, tables, **changes) -> Config:
    config = Config(
        data=str(tables[0]),
        label="ill",
        subgroup="sex",
        train_rows=60,
        source=str(tables[1]),
        source_epochs=10,
        source_learning_rate=1e-2,
        width=16,
        depth=1,
        scratch_lengths=(1,),
        stages=(
            Stage("head", train="head", epochs=1, learning_rate=1e-3),
            Stage("top", train="top:2", epochs=1, learning_rate=1e-3),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


@pytest.mark.parametrize("baselines", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_leaves_everything_it_promises(tmp_path, tables, baselines):
    run = train.main(small_config(tmp_path, tables, baselines=baselines))
    assert {path.name for path in run.iterdir()} == folder.FILES | {"groups.csv"}
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert "What acting by it is worth" in page and "What the columns do" in page
    assert "pictures" not in page.split("</style>")[1]
    assert "pictures" not in (run / "MODEL_CARD.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    tested = pd.read_csv(run / "predictions.csv")
    assert pd.read_csv(run / "test_readings.csv")["pictures"].tolist() == [len(tested)]
    # The product of two columns was learned from the source: 60 rows show a line nothing.
    assert metrics["test"]["roc_auc"] > 0.75
    if baselines:
        rivals = metrics["baselines"]
        assert set(rivals) == {
            *("logistic regression", "gradient boosting", "scores of boosting on the source"),
            *("gradient boosting with those scores", "frozen + solved", "from scratch", "frozen backbone"),
        }
        assert rivals["logistic regression"]["roc_auc"] < metrics["test"]["roc_auc"] - 0.05
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert frozen["block"].tolist() == ["entry", "block1", "outcomes"]
    assert frozen[["moved", "relative_change"]].to_numpy().sum() == 0
    top = ledger.query("stage == 'top'").set_index("block")["moved"]
    assert top["entry"] == 0 and top["block1"] > 0 and top["outcomes"] == 2

    # The saved model takes columns as they are and gives what it was tested with.
    network = keras.models.load_model(run / "model.keras", compile=False)
    cells = pd.read_csv(tables[0], dtype=str, keep_default_na=False).iloc[tested["id"]].reset_index(drop=True)
    given = layers.as_inputs(cells, layers.columns_in(network))
    logits = np.asarray(network({name: tf.constant(one) for name, one in given.items()}))
    assert [metrics["classes"][index] for index in logits.argmax(1)] == tested["prediction"].tolist()
    found = export.run(run, ("savedmodel",))
    assert max(found.values()) < 1e-4

    # New rows: unseen categories, missing columns and cells that are no numbers are named, and answered.
    new = people(5, 9).drop(columns=["ill", "seen"])
    new["a"] = new["a"].astype(str)
    new.loc[0, "job"], new.loc[1, "a"] = "pilot", "much"
    new.to_csv(tmp_path / "new.csv", index=False)
    answers = pd.concat(train.predict(run, [str(tmp_path / "new.csv")], batch_size=2))
    assert answers["row"].tolist() == [f"new.csv:{line}" for line in range(2, 7)]
    assert answers["note"].tolist()[:2] == ["unseen: job; no column seen", "no number: a; no column seen"]
    assert answers[["p:no", "p:yes"]].sum(axis=1).to_numpy() == pytest.approx(1)

    # It judges labelled rows as it was judged.
    judged = evaluate.run(train, Config, run, str(tables[0]), tmp_path / "judged")
    assert judged.metrics["examples"] == 300 and len(judged.seen) == 105


def test_mistakes_are_found_before_anything_is_written(tmp_path, tables):
    for changes, message in (
        ({"label": "il"}, "label='il'.* Did you mean 'ill'"),
        ({"source": "none", "weights": "source"}, "a --source to learn from"),
        ({"backbone": "residual_mlp"}, "Did you mean 'residual-mlp'"),
        ({"train_rows": 1000}, "train_rows=1000 and"),
        ({"outcomes": ("outcome_3",)}, "outcomes='outcome_3'.* Did you mean 'outcome_"),
        ({"weights": str(tmp_path / "nowhere")}, "weights=.* cannot be used"),
        ({"stages": (Stage("top", train="top:9"),)}, "this backbone has 3 blocks"),
    ):
        with pytest.raises(InputError, match=message) as error:
            train.main(small_config(tmp_path, tables, **changes))
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_penalty_of_0_is_the_plain_model_and_a_large_one_holds_it(tmp_path, tables):
    config = small_config(tmp_path, tables, source_epochs=1, solve_head=False, keep_frozen=False)
    # Along a cosine: with a rate that stays, Adam steps back and forth around the start.
    stage = Stage("all", train="all", epochs=6, learning_rate=1e-2, schedule="cosine", keep="last")
    config = fields.replace(config, stages=(stage,))
    examples = train.load(config)
    source, _ = train.learn_source(config, examples)
    start = model.build(config, examples, source)[0].get_layer("entry").get_weights()[0]

    def trained(penalty: float) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        return train.fit(fields.replace(config, start_penalty=penalty), examples, source=source)[
            0
        ].get_weights()

    plain, none, held = trained(0.0), trained(0.0), trained(100.0)
    for one, other in zip(plain, none, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(held[0] - start).mean() < 0.5 * np.abs(plain[0] - start).mean()


def test_a_penalty_counts_squared_distance_from_the_start(tmp_path, tables):
    config = small_config(tmp_path, tables)
    network, blocks = model.build(config, train.load(config))
    method.stay_near(network, blocks, 0.0)
    assert network.losses == []
    method.stay_near(network, blocks, 2.0)
    layer = network.get_layer("entry")
    layer.kernel.assign_add(np.full(layer.kernel.shape, 0.5, "float32"))
    assert float(sum(network.losses)) == pytest.approx(0.25 * layer.kernel.shape[0] * layer.kernel.shape[1])


def test_columns_that_the_source_never_had_change_nothing_at_first(tmp_path, tables):
    config = small_config(tmp_path, tables, source_epochs=1)
    examples = train.load(config)
    source, _ = train.learn_source(config, examples)
    for backbone in ("residual-mlp", "ft-transformer"):
        arm = fields.replace(config, backbone=backbone)
        if backbone != config.backbone:
            source, _ = train.learn_source(arm, examples)
        network, _ = model.build(arm, examples, source)
        told = keras.Model(network.input, network.get_layer("outcomes").output)
        rows = examples.rows[:20]
        without = rows.copy()
        for place, column in enumerate(examples.columns):
            if column.name in model.absent(examples):
                without[:, place] = 0 if column.kind == "category" else np.nan
        assert (rows != without).any()
        np.testing.assert_allclose(told(rows), told(without), atol=1e-5)
        np.testing.assert_allclose(told(without), source(without), atol=1e-5)


def test_hidden_cells_are_learned_from_rows_without_labels(tmp_path, tables):
    frame = people(300, 0)
    frame.loc[100:, "ill"] = ""
    frame.to_csv(tables[0], index=False)
    config = small_config(tmp_path, tables, source="none", train_rows="all", source_epochs=3)
    assert model.begins(config) == "masked"
    examples = train.load(config)
    assert (examples.manifest["split"] == "unused").sum() == 200
    _, fitted = train.learn_source(config, examples)
    losses = fitted.history["val_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
