"""What is this machine, and what a wrong wish is answered with."""

import dataclasses
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner import fields
from runner.devices import cluster, doctor, environment, precision, strategy
from runner.errors import InputError
from runner.moving import rates
from templates.image_classification import train as image_classification


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
        (lambda: precision.set_policy("float16"), "mixed_float16"),
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
    precision.set_policy("mixed_bfloat16")
    assert keras.layers.Dense(1).compute_dtype == "bfloat16"


def test_environment_says_what_a_result_depends_on():
    found = environment.describe("the command")
    assert found["keras"] == keras.__version__ and found["tensorflow"] == tf.__version__
    assert (
        found["command"] == "the command"
        and int(found["cores"]) >= 1
        and all(isinstance(v, str) for v in found.values())
    )
    assert 0.05 < environment.peak_memory_gigabytes() < 1000


def test_a_first_batch_that_does_not_divide_evenly_needs_help_in_keras():
    with strategy.choose("mirrored").scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors((np.zeros((19, 4), "float32"), np.zeros((19, 2), "float32")))
    with pytest.raises(tf.errors.InvalidArgumentError):  # else `multi_worker.prepare` can do less
        model.fit(data, shuffle=False, verbose=0)


TWO = ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("environment", "ask", "part"),
    [
        ({"TF_CONFIG": cluster.tf_config(TWO, 1)}, "mirrored", "TF_CONFIG names 2 workers"),
        ({"TF_CONFIG": cluster.tf_config(["a:1"], 0)}, "multi_worker", "names more than one worker"),
        ({}, "multi_worker", "python -m runner launch --workers N"),
        ({"TF_CONFIG": cluster.tf_config(TWO, 1)}, "auto", "TensorFlow has already looked at its devices"),
        ({}, "tpu", "none of TPU_NAME"),
    ],
)
def test_what_the_surroundings_do_not_allow_is_refused(monkeypatch, environment, ask, part):
    tf.config.list_logical_devices()  # TensorFlow has begun
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=part):
        strategy.choose.__wrapped__(ask)


def test_batch_and_learning_rates_grow_with_the_devices_where_they_are_to():
    pair, config = strategy.choose("mirrored"), rates.suited(image_classification.Config())
    assert strategy.for_all_devices(config, pair) is config
    for rule, factor in (("linear", 2), ("square_root", 2**0.5)):
        grown = strategy.for_all_devices(fields.replace(config, scale_learning_rate=rule), pair)
        assert grown.batch_size == 2 * config.batch_size
        assert grown.scratch_learning_rate == factor * config.scratch_learning_rate
        for ours, theirs in zip(grown.stages, config.stages, strict=True):
            assert ours == dataclasses.replace(theirs, learning_rate=factor * theirs.learning_rate)


def test_a_strategy_says_what_it_runs_on():
    assert strategy.reason(strategy.choose("mirrored")).startswith("2 replicas on ")
    assert strategy.reason(tf.distribute.get_strategy()).startswith("1 replica on ")


def test_doctor_prints_devices_and_products_and_ends_with_success(capsys):
    assert doctor.run() == 0
    printed = capsys.readouterr().out
    assert "auto would use" in printed and f"tensorflow {tf.__version__}" in printed
    for dtype in ("float32", "bfloat16", "float16"):
        line = next(line for line in printed.splitlines() if line.startswith(f"product {dtype}"))
        assert "GFLOP/s" in line and line.endswith(", finite")


def test_doctor_fails_where_a_product_is_wrong(capsys, monkeypatch):
    monkeypatch.setitem(doctor.LARGEST_ERROR, "bfloat16", 1e-5)
    assert doctor.run() == 1
    printed = capsys.readouterr()
    assert "WRONG" in printed.out and "error: the product in bfloat16 is wrong" in printed.err


@pytest.mark.parametrize("works", [True, False])
def test_doctor_fails_where_a_gpu_was_asked_for_or_has_a_driver_and_is_not_usable(
    works, capsys, monkeypatch, tmp_path
):
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert doctor.run(gpu=True) == 1
    assert "a GPU was asked for but TensorFlow sees no GPU" in capsys.readouterr().err
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + ("echo 570.1\n" if works else "echo no driver; exit 9\n"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert doctor.run() == 1
    assert f"an NVIDIA driver ({'570.1' if works else 'not usable'})" in capsys.readouterr().err
