"""A network of effects as a SavedModel: it takes columns, says what the network says, and what it gives."""

import json

import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.table_runs import effects_export
from runner.tables import columns as columns_of
from runner.tables import layers
from runner.tables.columns import Column
from templates.treatment_effects import method, model

COLUMNS = (Column("age", "number", mean=50.0, spread=10.0), Column("ward", "category", ("east", "west")))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects") / "run"
    folder.mkdir()
    network = model.network("TARNet", (4,), (), COLUMNS)
    wide = len(network.get_layer("prepared").of_column)
    whole = model.finished(
        network,
        method.Outcome(False, 3.0, 2.0),
        (np.zeros(4), np.ones(4), np.eye(5)),
        2.0,
        (np.linspace(-1, 1, wide), 0.5),
    )
    layers.of_columns(whole, COLUMNS).save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"policy_cost": 0.0}))
    record = {"classes": ["control", "treated"], "test": {}, "overlap": {"share": 0.1}}
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder, whole


def test_a_saved_model_takes_columns_and_says_what_the_network_says(run, tmp_path):
    folder, network = run
    found = effects_export.run(folder, output=tmp_path / "out")
    assert list(found.values())[0] < 1e-5
    served = tf.saved_model.load(str(tmp_path / "out" / "savedmodel"))
    given = {"age": tf.constant([40.0, np.nan]), "ward": tf.constant(["west", "nowhere"])}
    rows = np.float32([[40, columns_of.FIRST + 1], [np.nan, columns_of.UNSEEN]])
    told = np.asarray(served.serve(given))
    np.testing.assert_allclose(told, network(rows), atol=1e-5)
    np.testing.assert_allclose(told[:, 1] - told[:, 0], told[:, 2], atol=1e-5)
    beside = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert beside["gives"] == list(effects_export.GIVEN)
    assert "outside of 0.1 to 0.9" in beside["decision"] and "not for clinical use" in beside["decision"]


def test_other_formats_and_other_runs_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="give savedmodel"):
        effects_export.run(run[0], ["litert"], tmp_path / "out")
    with pytest.raises(InputError):
        effects_export.run(tmp_path)
    assert not (tmp_path / "out").exists()
