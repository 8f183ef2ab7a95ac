"""Two processes train, evaluate and predict as one would; all hold the same weights; the chief writes."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.devices import multi_worker, strategy
from tests import several_workers

REPOSITORY = Path(__file__).parents[2]


def launch(folder: Path, *cases: str) -> str:
    """Run cases with two workers; return what they and `launch` printed."""
    command = [sys.executable, "-m", "runner", "launch", "--workers", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.several_workers", str(folder), *cases],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(folder: Path, case: str) -> list[dict[str, np.ndarray]]:
    return [dict(np.load(folder / f"{case}-{number}.npz")) for number in (0, 1)]


def assert_same(received: dict, expected: dict, tolerance: float = 0.0) -> None:
    assert sorted(received) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


# BatchNorm's variance over all replicas is E[x²] - E[x]², rounded otherwise than on one.
TOLERANCE = {"uneven": 1e-6, "accumulated": 1e-6, "batch_norm": 1e-5}


def test_two_processes(tmp_path):
    """One test for several cases, since it takes two processes 10 seconds to begin."""
    printed = launch(tmp_path, *TOLERANCE, "decisions", "unprepared")
    for case, tolerance in TOLERANCE.items():
        they_compute_what_one_does(case, *read(tmp_path, case), tolerance)
    the_chief_decides_and_what_each_has_is_put_together(*read(tmp_path, "decisions"), printed)
    for worker in read(tmp_path, "unprepared"):
        assert "none" not in worker["said"], "Keras can do it: `multi_worker.prepare` can do less"


@pytest.mark.slow
def test_they_share_the_computing_of_what_is_kept(tmp_path, monkeypatch):
    launch(tmp_path, "kept")
    monkeypatch.setenv("THAW_CACHE", "")  # which the case sets
    (chief, other), folder = read(tmp_path, "kept"), tmp_path / "alone"
    alone = several_workers.kept(tf.distribute.get_strategy(), folder)
    shares = [one.pop("computed").sum() for one in (chief, other, alone)]
    # Of 3 views and the validation, as 2 views of the second stage are among the 3 of the first but a file
    # of their own: 5 views of 21 pictures, and 6 pictures once.
    assert shares[2] == 5 * 21 + 6 == shares[0] + shares[1] and 0.3 < shares[0] / shares[2] < 0.7
    assert {int(one.pop("files")) for one in (chief, other, alone)} == {3}
    assert_same(chief, other)
    assert_same(chief, alone, 1e-5)


def they_compute_what_one_does(case, chief, other, tolerance):
    assert_same(chief, other)
    alone = several_workers.CASES[case](tf.distribute.get_strategy(), Path())
    assert_same(chief, alone, tolerance)
    untrained = several_workers.dense(case == "batch_norm").get_weights()[0]
    assert not np.allclose(alone["weight_0"], untrained, atol=1e-3)


def the_chief_decides_and_what_each_has_is_put_together(chief, other, printed):
    assert chief["from_chief"] == other["from_chief"] == "{'é': [0, None]}"
    assert chief["any"].tolist() == other["any"].tolist() == [True, False]
    full = "[Errno 28] No space left on device"
    assert chief["said"].tolist() == [f"OSError: {full}"] * 2
    stopped, turn = other["said"].tolist()
    assert stopped == f"InputError: the chief stopped: {full}" and "before it was this worker's turn" in turn
    rows = np.array([[0, 0.1], [0, 0.2], [1, 0.1], [1, 0.2]], dtype="float32")
    for worker, own in ((chief, rows[:2]), (other, rows[2:])):
        np.testing.assert_array_equal(worker["gathered"], rows)
        np.testing.assert_array_equal(worker["own"], own)
    assert "[0] worker 0 was here" in printed and "worker 1 was here" not in printed


@pytest.mark.slow
def test_a_fit_that_two_workers_were_cut_out_of_ends_as_one_that_was_not(tmp_path):
    launch(tmp_path, "staged", "resumed")
    chief, other = read(tmp_path, "resumed")
    assert_same(chief, other)
    assert_same(chief, read(tmp_path, "staged")[0])
    assert len(chief["history"]) == 3


def test_one_process_needs_nobody():
    alone = tf.distribute.get_strategy()
    assert multi_worker.number_of_workers(alone) == 1 and multi_worker.is_chief(alone)
    data, rows = several_workers.pairs(3, 2), np.arange(3.0)
    assert multi_worker.distribute(data, alone) is data
    assert multi_worker.gather(rows, alone) is rows and multi_worker.any_worker(True, alone)
    assert multi_worker.from_chief(lambda: "here", alone) == "here"
    model = several_workers.dense()
    before = dict(vars(model))
    multi_worker.prepare(model)
    assert vars(model).keys() == before.keys()


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        pytest.param(*one, marks=pytest.mark.slow if one[0] == "accumulated" else ())
        for one in TOLERANCE.items()
    ],
)
def test_two_replicas_in_one_process_compute_what_one_does(case, tolerance):
    alone = several_workers.CASES[case](tf.distribute.get_strategy(), Path())
    assert_same(several_workers.CASES[case](strategy.choose("mirrored"), Path()), alone, tolerance)


def test_rows_are_divided_in_order_and_none_is_lost():
    pair = strategy.choose("mirrored")
    for count in (1, 2, 5, 8):
        values = tf.data.Dataset.from_tensor_slices(np.arange(count)).batch(3)
        parts = [pair.experimental_local_results(one) for one in multi_worker.distribute(values, pair)]
        sizes = [[len(part) for part in one] for one in parts]
        assert all(first - second in (0, 1) for first, second in sizes)
        joined = np.concatenate([part.numpy() for one in parts for part in one])
        np.testing.assert_array_equal(joined, np.arange(count))


def test_what_was_trained_on_two_replicas_is_saved_as_plain_keras(tmp_path):
    with strategy.choose("mirrored").scope():
        model = several_workers.dense(batch_norm=True)
    multi_worker.prepare(model)
    data = several_workers.pairs(8, 4)
    model.fit(multi_worker.distribute(data, model.distribute_strategy), shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    values = next(iter(data))[0]
    np.testing.assert_array_equal(again(values), model(values))
    again.fit(data, shuffle=False, verbose=0)
