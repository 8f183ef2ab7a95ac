"""What is this machine, and what a wrong wish is answered with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner import strategy
from runner.errors import InputError


def test_mirrored_takes_all_processors_where_there_is_no_gpu():
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert strategy.choose("mirrored").num_replicas_in_sync == 2  # the two logical CPUs of conftest.py
    assert strategy.choose("auto").num_replicas_in_sync == 1
    assert strategy.choose("cpu").num_replicas_in_sync == 1
    with pytest.raises(InputError, match="TensorFlow sees no GPU"):
        strategy.choose("gpu")


@pytest.mark.parametrize(
    "ask, part",
    [
        (lambda: strategy.choose("mirored"), "Did you mean 'mirrored'"),
        (lambda: strategy.set_precision("float16"), "mixed_float16"),
        (lambda: strategy.check_batch_size(0, tf.distribute.get_strategy()), "batch_size=0"),
        (
            lambda: strategy.check_batch_size(33, strategy.choose("mirrored")),
            "positive multiple of 2, for example 32",
        ),
    ],
)
def test_impossible_wishes_say_what_is_possible(ask, part):
    with pytest.raises(InputError, match=part):
        ask()


def test_precision_is_the_policy_of_new_layers():
    strategy.set_precision("mixed_bfloat16")
    assert keras.layers.Dense(1).compute_dtype == "bfloat16"


def test_environment_says_what_a_result_depends_on():
    found = strategy.environment("the command")
    assert found["keras"] == keras.__version__ and found["tensorflow"] == tf.__version__
    assert (
        found["command"] == "the command"
        and int(found["cores"]) >= 1
        and all(isinstance(v, str) for v in found.values())
    )
    assert 0.05 < strategy.peak_memory_gigabytes() < 1000


def test_doctor_prints_devices_and_ends_with_success(capsys):
    assert strategy.doctor() == 0
    printed = capsys.readouterr().out
    assert "auto would use" in printed and "GFLOP/s, finite" in printed


def two_replicas():
    """A compiled network with BatchNorm on two replicas."""
    with strategy.choose("mirrored").scope():
        inputs = keras.Input((4,))
        x = keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs))
        model = keras.Model(inputs, keras.layers.Dense(2)(x))
        model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def pairs(count, batch_size):
    random = np.random.default_rng(0)
    values = random.normal(size=(count, 4)).astype("float32")
    labels = np.eye(2, dtype="float32")[np.arange(count) % 2]
    return tf.data.Dataset.from_tensor_slices((values, labels)).batch(batch_size)


@pytest.mark.parametrize(("train", "validation"), [(19, 8), (16, 3), (5, 5)])
def test_a_first_batch_that_does_not_divide_evenly_trains_on_two_replicas(train, validation):
    model = two_replicas()
    strategy.build_from_one_replica(model)
    history = model.fit(pairs(train, 64), validation_data=pairs(validation, 64), epochs=2, verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    ours = two_replicas()
    strategy.build_from_one_replica(ours)
    theirs = two_replicas()
    ours.set_weights(theirs.get_weights())
    for one in (ours, theirs):
        one.fit(pairs(32, 8), epochs=2, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_keras_still_needs_help_with_such_a_batch():
    with pytest.raises(tf.errors.InvalidArgumentError):  # else `strategy.build_from_one_replica` can go
        two_replicas().fit(pairs(19, 64), verbose=0)


def test_a_last_batch_too_small_for_the_replicas_is_refused_before_it_trains():
    two = strategy.choose("mirrored")
    strategy.check_batch_size(8, two, {"train": 16, "val": 18})
    with pytest.raises(InputError, match="1 of the 17 pictures of train"):
        strategy.check_batch_size(8, two, {"train": 17})
