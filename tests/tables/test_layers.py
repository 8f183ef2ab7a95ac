"""Rows as they are go into the network, in this process and in another."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.runs import formats
from runner.tables import columns as of
from runner.tables import layers, networks
from runner.tables.backbones import BACKBONES
from runner.tables.columns import Column

COLUMNS = (
    Column("age of it/them", "number", (), 50.0, 10.0),
    Column("job", "category", ("nurse", "cook")),
    Column("seen", "date", (), 18000.0, 100.0),
    Column("row", "number", (), 0.0, 2.0),
)
CELLS = pd.DataFrame(
    {
        "age of it/them": ["60", "", "400"],
        "job": ["cook", "", "pilot"],
        "seen": ["2019-04-14", "", "2023-02-29"],
        "row": ["1", "2", ""],
    }
)


def test_features_are_what_they_are_said_to_be():
    layer = layers.Prepared(of.record(COLUMNS))
    found = np.asarray(layer(of.coded(CELLS, COLUMNS)))
    assert layer.of_column.tolist() == [0, 2, 3, 0, 2, 3, 2, 2, 1, 1, 1, 1]
    np.testing.assert_allclose(found[0, :6], [1.0, 0.0, 0.5, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[1, :6], [0, 0, 1.0, 1, 1, 0])
    np.testing.assert_allclose(found[2, :6], [layers.FARTHEST, 0, 0, 0, 1, 1])
    np.testing.assert_allclose((found[0, 6:8] ** 2).sum(), 1, atol=1e-6)
    np.testing.assert_array_equal(found[:, 8:], [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(np.flatnonzero(layer.is_gone), [3, 4, 5, 8])
    np.testing.assert_array_equal(np.flatnonzero(layer.is_value), [0, 1, 2])


def test_cells_are_hidden_in_training_alone():
    layer = layers.Hidden(0.5, of.record(COLUMNS), seed=1)
    rows = np.tile(np.float32([[60, 3, 18000, 1]]), (2000, 1))
    np.testing.assert_array_equal(layer(rows, training=False), rows)
    drawn = np.asarray(layer(rows, training=True))
    gone = np.isnan(drawn)
    gone[:, 1] = drawn[:, 1] == of.GONE
    assert abs(gone.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(drawn[~gone], rows[~gone])


def whole(name):
    keras.utils.set_random_seed(0)
    made = networks.build(name, COLUMNS, width=8, depth=1)
    logits = keras.layers.Dense(2, name="head", dtype="float32")(made.features)
    return keras.Model(made.rows, logits, name=name)


def asked(network, cells):
    return np.asarray(
        network({name: tf.constant(one) for name, one in layers.as_inputs(cells, COLUMNS).items()})
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_columns_as_they_are_give_what_rows_give_also_elsewhere(name, tmp_path):
    network = whole(name)
    rows = np.asarray(network(of.coded(CELLS, COLUMNS)))
    assert np.isfinite(rows).all()
    model = layers.of_columns(network, COLUMNS)
    assert list(model.input) == ["age of it_them", "job", "seen", "row"]
    np.testing.assert_array_equal(asked(model, CELLS), rows)
    np.testing.assert_array_equal(layers.of_rows(model)(of.coded(CELLS, COLUMNS)), rows)
    assert layers.columns_in(model) == layers.columns_in(network) == COLUMNS
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "rows.npy", rows)
    CELLS.to_csv(tmp_path / "cells.csv", index=False)
    code = f"""
import keras, numpy as np, pandas as pd, tensorflow as tf
from runner.tables import layers
model = keras.models.load_model("{tmp_path}/model.keras")
cells = pd.read_csv("{tmp_path}/cells.csv", dtype=str, keep_default_na=False)
given = layers.as_inputs(cells, layers.columns_in(model))
found = np.asarray(model({{name: tf.constant(one) for name, one in given.items()}}))
np.testing.assert_array_equal(found, np.load("{tmp_path}/rows.npy"))
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_days_in_the_graph_are_those_of_the_table():
    dates = [
        "1970-01-01",
        "2000-02-29",
        "1969-12-31",
        "2023-02-29",
        "1900-03-01",
        "2024-12-31T23:59:59",
        "x",
        "",
        "1600-02-29",
        "2100-02-29",
        "2024-13-01",
    ]
    np.testing.assert_array_equal(
        layers.Days()(tf.constant(dates)), of.days(pd.Series(dates)).astype("float32")
    )


@pytest.mark.parametrize("name", sorted(formats.NAMES))
def test_missing_stays_missing_in_every_format(name, tmp_path):
    """tf2onnx wrote the choice of what is no date as a product, in which NaN stayed NaN."""
    rows = of.coded(CELLS, COLUMNS)
    given = keras.Input((len(COLUMNS),))
    network = keras.Model(given, layers.Prepared(of.record(COLUMNS))(given))
    taken = tf.TensorSpec((None, len(COLUMNS)), tf.float32, name="row")
    found = formats.export(network, taken, [rows], [np.asarray(network(rows))], [name], tmp_path, {})
    assert np.isnan(rows).any() and max(found.values()) < 1e-5
