"""Input workers make the elements that the training process would, in the same order, or say they cannot."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from runner.devices import input_service
from runner.errors import InputError
from runner.pictures import in_memory
from runner.pictures.batches import batches
from tests.stand_ins import data_of

REPOSITORY = Path(__file__).parents[2]


def pictures() -> tf.data.Dataset:
    """Shuffled batches of pictures in memory, from step 2 into the third epoch, each flipped its own way."""
    held = in_memory.aligned(10, 8)
    held[:] = np.random.default_rng(0).integers(0, 256, held.shape)
    (examples,) = in_memory.datasets(held, [np.arange(10)], {"label": np.arange(10) % 3})
    cheap = batches(data_of(examples, "abc"), "train", 4, shuffle=True, seed=3).after(2).take(5)
    seeds = tf.data.Dataset.random(seed=7).batch(2)

    def flipped(batch, seed):
        return {**batch, "input": tf.image.stateless_random_flip_left_right(batch["input"], seed)}

    return input_service.through(tf.data.Dataset.zip(cheap, seeds), lambda part: part.map(flipped))


def files(folder: str) -> tf.data.Dataset:
    """Pictures that TensorFlow reads: 7 for 2 workers, so that one makes more."""
    paths = tf.data.Dataset.from_tensor_slices([f"{folder}/{number}.png" for number in range(7)])
    return input_service.through(
        paths, lambda part: part.map(lambda path: {"image": tf.io.decode_png(tf.io.read_file(path))})
    )


def arrays(folder: str) -> dict[str, np.ndarray]:
    tf.random.set_seed(0)
    return {
        f"{kind} {number} {name}": value
        for kind, dataset in (("memory", pictures()), ("file", files(folder)))
        for number, element in enumerate(dataset.as_numpy_iterator())
        for name, value in element.items()
    }


def save(folder: str) -> None:
    """What each training worker of the test runs."""
    found = arrays(folder) | {"addresses": np.array(os.environ[input_service.VARIABLE].split())}
    number = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    np.savez(f"{folder}/{number}.npz", **found)


def launch(folder: Path, lines: str, *options: str) -> subprocess.Popen:
    (folder / "job_with_input.py").write_text(lines)
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "launch", *options, "-m", "job_with_input"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{folder}", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_two_training_workers_get_from_two_input_workers_what_they_would_make_themselves(tmp_path):
    for number in range(7):
        Image.new("RGB", (3, 2), (number, 0, 0)).save(tmp_path / f"{number}.png")
    lines = f"from tests.devices.test_input_service import save\nsave({str(tmp_path)!r})"
    process = launch(tmp_path, lines, "--workers", "2", "--input-workers", "2")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    expected = arrays(str(tmp_path))
    assert len(expected) == 5 * 3 + 7
    for worker in (0, 1):
        with np.load(tmp_path / f"{worker}.npz") as saved:
            found = dict(saved)
        assert len(set(found.pop("addresses"))) == 2
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.slow
def test_a_fit_on_what_input_workers_make_is_the_same_to_the_bit(tmp_path):
    found = {}
    for count in (0, 2):
        (tmp_path / str(count)).mkdir()
        place = str(tmp_path / str(count))
        lines = f"from tests import several_workers as s\ns.main(s.Path({place!r}), ['served'])"
        process = launch(tmp_path, lines, "--workers", "2", "--input-workers", str(count))
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, output + errors
        found[count] = [dict(np.load(tmp_path / str(count) / f"served-{number}.npz")) for number in (0, 1)]
    # One fit of the whole network: of each input worker one dataset.
    assert [int(worker.pop("sent")) for count in (0, 2) for worker in found[count]] == [0, 0, 2, 2]
    for worker in found[2]:
        assert worker.keys() == found[0][0].keys()
        for name, value in found[0][0].items():
            np.testing.assert_array_equal(worker[name], value, err_msg=name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_input_worker_that_is_killed_ends_the_job(tmp_path):
    lines = "import os, time\nprint(os.environ['THAW_INPUT_SERVICE'], flush=True)\ntime.sleep(100)"
    process = launch(tmp_path, lines, "--workers", "1", "--input-workers", "1", "--grace", "1")
    try:
        assert process.stdout.readline().startswith("[0] 127.0.0.1:")
        maker, trainer = children(process.pid)
        os.kill(maker, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 137 and "launch: worker input 0 ended with exit code 137" in errors
        assert not is_running(trainer)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_input_workers_end_with_the_job(tmp_path):
    process = launch(
        tmp_path,
        "import time; print('here', flush=True); time.sleep(1)",
        *"--workers 1 --input-workers 2".split(),
    )
    assert process.stdout.readline() == "[0] here\n"
    started = children(process.pid)
    process.communicate(timeout=60)
    assert process.returncode == 0 and len(started) == 3
    assert not any(map(is_running, started))


def test_without_input_workers_it_is_the_work_itself(monkeypatch):
    monkeypatch.delenv(input_service.VARIABLE, raising=False)
    made = []
    examples = tf.data.Dataset.range(3)
    result = input_service.through(examples, lambda part: made.append(part) or part)
    assert result is examples and made == [examples]


@pytest.mark.parametrize("how", ["numpy_function", "py_function", "from_generator"])
def test_what_runs_python_is_refused_in_one_line(monkeypatch, how):
    monkeypatch.setenv(input_service.VARIABLE, "127.0.0.1:1")
    examples, work = tf.data.Dataset.range(3), lambda part: part
    if how == "from_generator":
        examples = tf.data.Dataset.from_generator(
            lambda: iter([1]), output_signature=tf.TensorSpec((), tf.int64)
        )
    else:

        def work(part):
            return part.map(lambda value: getattr(tf, how)(lambda x: x, [value], tf.int64))

    with pytest.raises(InputError, match="runs Python.*make it in the training process") as caught:
        input_service.through(examples, work)
    assert "\n" not in str(caught.value)
