"""`fit` gives the history and the ledger of what it did."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.stage import Stage
from runner.training import fit as training


def test_fit_returns_a_row_per_epoch_and_the_ledger(small_model, small_data, capsys):
    model, blocks = small_model()
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
    fitted = training.fit_stages(
        model, data, data, [Stage("a", epochs=2), Stage("b", train="top:1", epochs=1)], blocks, title="a try"
    )
    assert fitted.history["stage"].tolist() == ["a", "a", "b"]
    assert set(fitted.history) >= {
        "epoch",
        "stage_epoch",
        "learning_rate",
        "loss",
        "val_loss",
        "accuracy",
        "val_accuracy",
        "seconds",
    }
    assert len(fitted.ledger) == 2 * 4 and fitted.seconds >= fitted.history["seconds"].sum() * 0.9
    assert capsys.readouterr().out.startswith("a try")


def test_two_runs_with_one_seed_give_the_same_history(small_model, small_data):
    def history():
        model, blocks = small_model(dropout=0.5)
        model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
        data = tf.data.Dataset.from_tensor_slices(small_data)
        # Not the shuffled data to validate on: two readers of one shuffle race for its orders.
        return training.fit_stages(
            model,
            data.shuffle(40, seed=1).batch(20),
            data.batch(20),
            [Stage("a", epochs=2), Stage("b", train="all", epochs=2)],
            blocks,
        ).history["loss"]

    np.testing.assert_array_equal(history(), history())


@pytest.mark.parametrize(("builds", "times"), [(True, 1), (False, 2)])
def test_the_training_step_is_traced_once_for_each_stage(small_model, small_data, monkeypatch, builds, times):
    """Where this fails for False, Keras or TensorFlow no longer needs `_build_metrics`."""
    original, traced = keras.Model.train_step, []

    def counting(self, data):
        traced.append(self.name)
        return original(self, data)

    monkeypatch.setattr(keras.Model, "train_step", counting)
    if not builds:
        monkeypatch.setattr(training, "_build_metrics", lambda model, labels: None)
    model, blocks = small_model()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    batches = tf.data.Dataset.from_tensor_slices(small_data).batch(8)
    training.fit_stages(model, batches, batches, [Stage("all", train="all", epochs=1)], blocks)
    assert len(traced) == times
