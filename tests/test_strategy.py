"""What is this machine, and what a wrong wish is answered with."""

import keras
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
