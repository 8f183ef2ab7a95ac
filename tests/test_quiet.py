"""A command's first line on the terminal is its own."""

import logging
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from runner import quiet
from runner.errors import InputError
from runner.networks import backbones

ROOT = Path(__file__).resolve().parent.parent


def test_importing_tensorflow_writes_nothing_but_lets_other_lines_through():
    code = (
        "import sys\nfrom runner import quiet\nquiet.import_tensorflow()\n"
        "import tensorflow as tf\ntf.config.list_physical_devices()\nprint('mine', file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0 and answer.stderr == "mine\n"


def test_only_the_warning_about_tracing_is_held_back(caplog):
    log = logging.getLogger("tensorflow")
    log.propagate, propagates = True, log.propagate
    try:
        with quiet.about_tracing():
            log.warning(
                "5 out of the last 5 calls to f triggered tf.function retracing. Tracing is expensive"
            )
            log.warning("something else")
        log.warning("6 out of the last 6 calls to g triggered tf.function retracing.")
    finally:
        log.propagate = propagates
    assert [record.getMessage().split()[0] for record in caplog.records] == ["something", "6"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_runs_on_tensorflow_whatever_the_machine_prefers(backend):
    code = "import os, runner; print(os.environ['KERAS_BACKEND'])"
    environment = {"KERAS_BACKEND": backend, "PATH": ""}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert answer.stdout == "tensorflow\n"


def test_keras_on_something_else_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(
        InputError, match="Keras on jax; TensorFlow is what .* import runner before keras"
    ) as error:
        quiet.settle_keras()
    assert "\n" not in str(error.value)


def test_networks_are_built_with_channels_last_whatever_keras_json_says():
    keras.config.set_image_data_format("channels_first")
    try:
        network = backbones.build("MobileNet-0.25", 32, "none")
        assert keras.config.image_data_format() == "channels_last" and network.output.shape == (
            None,
            1,
            1,
            256,
        )
    finally:
        keras.config.set_image_data_format("channels_last")
