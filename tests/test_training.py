"""Batches are reproducible and complete; `fit` gives the history and the ledger of what it did."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner import training
from runner.config import Stage

CLASSES = ("a", "b", "c", "d")


@pytest.fixture
def examples():
    """30 pictures (8, 8, 3) as `Data` holds them: unbatched dicts in a fixed order."""
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype="uint8")
    return tf.data.Dataset.from_tensor_slices(
        {"id": np.arange(30, dtype="int64"), "image": images, "label": np.arange(30, dtype="int64") % 4}
    )


def epoch(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def test_plain_batches_are_the_examples_in_order_with_one_hot_labels(examples):
    found = epoch(training.batches(examples, CLASSES, 8))
    assert [len(images) for images, _ in found] == [8, 8, 8, 6]
    np.testing.assert_array_equal(
        np.concatenate([images for images, _ in found]),
        np.stack([element["image"].numpy() for element in examples]),
    )
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in found]), np.eye(4, dtype="float32")[np.arange(30) % 4]
    )


def test_same_seed_same_epochs_another_seed_others_and_every_epoch_differs(examples):
    def make(seed):
        return training.batches(examples, CLASSES, 8, shuffle=True, seed=seed, strength="medium", mixup=0.2)

    first, again, other = make(1), make(1), make(2)
    one, two = epoch(first), epoch(first)
    for expected, received in zip([*one, *two], [*epoch(again), *epoch(again)], strict=True):
        np.testing.assert_array_equal(expected[0], received[0])
        np.testing.assert_array_equal(expected[1], received[1])
    assert not np.array_equal(one[0][0], two[0][0])
    assert not np.array_equal(one[0][0], epoch(other)[0][0])


def test_shuffling_keeps_every_example_and_its_label(examples):
    found = epoch(training.batches(examples, CLASSES, 8, shuffle=True, seed=3))
    label_of = {element["image"].numpy().tobytes(): int(element["label"]) for element in examples}
    pairs = [
        (image.tobytes(), label.argmax()) for images, labels in found for image, label in zip(images, labels)
    ]
    assert len({key for key, _ in pairs}) == 30 and all(label_of[key] == label for key, label in pairs)


def test_fit_returns_a_row_per_epoch_and_the_ledger(small_model, small_data, capsys):
    model, blocks = small_model()
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
    fitted = training.fit(
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
        data = tf.data.Dataset.from_tensor_slices(small_data).shuffle(40, seed=1).batch(20)
        return training.fit(
            model, data, data, [Stage("a", epochs=2), Stage("b", train="all", epochs=2)], blocks
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
    training.fit(model, batches, batches, [Stage("all", train="all", epochs=1)], blocks)
    assert len(traced) == times
