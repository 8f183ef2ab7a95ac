"""Augmentation by the device that trains, and whether the network waits for its pictures."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.augment import on_device
from runner.devices.strategy import choose
from runner.errors import InputError
from runner.networks.backbones import Block
from runner.pictures.batches import batches as batches_of
from runner.stage import Stage
from runner.training import fit as training
from runner.training import speeds
from runner.training.checkpoint import Checkpointing
from tests.stand_ins import data_of

CLASSES = ("a", "b", "c")
STAGES = (
    Stage("head", epochs=2, learning_rate=1e-2),
    Stage("all", train="all", epochs=2, batch_norm="train"),
)


@pytest.fixture
def examples():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (20, 16, 16, 3), dtype="uint8")
    labels = np.arange(20) % 3
    elements = {"id": np.arange(20), "input": pictures, "label": labels}
    return data_of(tf.data.Dataset.from_tensor_slices(elements), CLASSES)


def compiled(replicas):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    with choose("mirrored" if replicas == 2 else "auto").scope():
        inputs = keras.Input((16, 16, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(inputs)
        x = keras.layers.Conv2D(4, 3, name="conv")(x)
        x = keras.layers.BatchNormalization(name="norm")(x)
        x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return model, (Block("norm", ("conv", "norm")),)


def fit(examples, augment_on, replicas=1, **options):
    model, blocks = compiled(replicas)
    options = {"shuffle": True, "seed": 3, "strength": "medium", "flip": True} | options
    checkpoints = options.pop("checkpoints", None)
    fitted = training.fit_stages(
        model,
        batches_of(examples, "train", 8, **options),
        batches_of(examples, "val", 8),
        STAGES,
        blocks,
        checkpoints=checkpoints,
        augment_on=augment_on,
    )
    return model, fitted


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_device_trains_on_the_views_that_the_input_would_make(examples, replicas):
    (model, fitted), (reference, expected) = (fit(examples, place, replicas) for place in ("device", "input"))
    for name in ("loss", "val_loss", "accuracy"):
        np.testing.assert_allclose(fitted.history[name], expected.history[name], rtol=1e-5)
    for ours, theirs in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_device_weighs_examples_as_the_input_does(examples):
    weights = np.linspace(0, 9, 20).astype("float32")
    (_, fitted), (_, expected) = (fit(examples, place, weights=weights) for place in ("device", "input"))
    np.testing.assert_allclose(fitted.history["loss"], expected.history["loss"], rtol=1e-5)
    assert fitted.history["loss"][0] > 2 * np.log(3)  # of an untrained network, at a mean weight of 4.5


def test_the_device_trains_with_what_the_model_was_compiled_with(examples):
    class Times(keras.losses.CategoricalCrossentropy):
        def __init__(self, times=1.0, **options):
            super().__init__(from_logits=True, **options)
            self.times = times

        def call(self, truth, logits):
            return self.times * super().call(truth, logits)

    model, _ = compiled(1)
    model.compile(keras.optimizers.SGD(), Times(50.0))
    wrapped = on_device.wrap(model)
    assert wrapped.loss is model.loss and wrapped.optimizer is model.optimizer


def test_a_training_step_of_ones_own_is_not_left_to_the_device(examples):
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    model, blocks = compiled(1)
    own = Own(model.input, model.output)
    own.compile("sgd", "categorical_crossentropy")
    train = batches_of(examples, "train", 8, strength="light")
    with pytest.raises(InputError, match="give augment_on='input'"):
        training.fit_stages(own, train, train, STAGES, blocks, augment_on="device")


def test_it_goes_on_where_it_stopped(examples, tmp_path, monkeypatch):
    whole, _ = fit(examples, "device")
    original = training.StagedUnfreezing.on_train_batch_end
    steps = []

    def stopping(self, batch, logs=None):
        original(self, batch, logs)
        steps.append(batch)
        if len(steps) == 8:  # of 3 an epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(training.StagedUnfreezing, "on_train_batch_end", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(examples, "device", checkpoints=Checkpointing(tmp_path, steps=1))
    monkeypatch.undo()
    model, fitted = fit(examples, "device", checkpoints=Checkpointing(tmp_path))
    assert len(fitted.history) == 4
    for ours, theirs in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_auto_stays_in_the_input_where_there_is_no_gpu(examples, monkeypatch):
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(on_device, "wrap", None)  # would fail
    assert len(fit(examples, "auto")[1].history) == 4


def test_what_cannot_be_done_is_answered(examples):
    with pytest.raises(InputError, match="one of auto, input, device"):
        fit(examples, "gpu")
    with pytest.raises(InputError, match="only for views that a device can make of each input alone"):
        fit(examples, "device", mixup=0.2)


# ---------------------------------------------------------------- who waits for whom


def batches(seconds, size=4):
    def slowly(number):
        time.sleep(seconds)
        return np.zeros((size, 2, 2, 3), "uint8")

    def pair(number):
        images = tf.ensure_shape(tf.numpy_function(slowly, [number], tf.uint8), (size, 2, 2, 3))
        return images, tf.zeros((size, 3))

    return tf.data.Dataset.range(60).map(pair)


def test_the_speed_of_the_input_is_that_of_its_slowest_part():
    assert 4 / 0.03 < speeds.input_speed(batches(0.01)) < 4 / 0.01


def test_measuring_the_training_moves_nothing(examples):
    model, _ = compiled(1)
    before = [variable.numpy() for variable in model.variables]
    assert speeds.training_speed(model, batches_of(examples, "val", 8).epoch()) > 0
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(("delay", "bound"), [(0.02, True), (0.0, False)])
def test_a_network_that_waits_is_told_so(delay, bound):
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])

    class Slow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.0 if bound else 0.02)

    model.compile("sgd", "mse")
    told = []
    watch = speeds.InputWatch(speeds.input_speed(batches(delay)), 4, told.append)
    model.fit(batches(delay), epochs=2, verbose=0, callbacks=[watch, Slow()])
    (found,) = told
    assert found.input_bound == bound and ("input-bound" in str(found)) == bound
