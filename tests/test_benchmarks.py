"""The benchmarks measure what they say: the same work on both sides, and failures are not passed over."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from benchmarks import (
    calibration,
    everything,
    floor,
    keras_guide,
    overhead,
    pictures,
    pytorch,
    search,
    shares,
    startup,
)
from runner.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.filterwarnings("ignore:.*shuffle=True.*")  # a bare fit on a dataset
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")


def job(**changed):
    """Flags of a benchmark that a small network answers in seconds."""
    small = dict(backbone="MobileNet-0.25", image_size=32, pictures=40, data="digits_in_photos", views=2)
    return argparse.Namespace(**{**small, "epochs": [2, 1, 0], "rounds": 2, "weights": "none", **changed})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "settled.weights.h5"
    keras_guide.settle("MobileNet-0.25", 32, path)
    return str(path)


def test_a_table_compares_rows_with_the_first_of_their_kind(tmp_path, capsys):
    results = {  # known numbers: json.tool hands them on as a training would
        "slow": {"seconds": [8.0, 4.0], "curve": [[4, 0.5], [8, 0.75], [12, 0.75]]},
        "fast": {"seconds": [2.0, 1.0], "curve": [[1, 0.5], [2, 0.6], [3, 0.8]]},
        "poor": {"seconds": [1.0, 1.0], "curve": [[1, 0.5], [2, 0.7]]},
        "slow augmented": {"seconds": [4.0, 2.0], "curve": [[4, 0.9], [6, 0.8]]},
    }
    commands = {}
    for row, result in results.items():
        path = tmp_path / f"{row}.json"
        path.write_text(json.dumps(result | {"gigabytes": 1.5}))
        commands[row] = ["json.tool", "--compact", str(path)]
    arguments = job(epochs=[2, 0, 1], weights="some.h5", pictures=80)
    keras_guide.print_head(arguments)
    keras_guide.compare(arguments, "Net", commands)
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    assert head == [
        *["backbone", "loop", "head, s", "all, s", "total, s", "times faster", "head, images/s"],
        *["all, images/s", "s to the first row's accuracy", "validation accuracy", "peak memory, GB"],
    ]
    assert rows == [
        ["Net", "slow", "8.0", "4.0", "12.0", "1.0", "20", "20", "8.0", "0.750", "1.5"],
        ["Net", "fast", "2.0", "1.0", "3.0", "4.0", "80", "80", "3.0", "0.800", "1.5"],
        ["Net", "poor", "1.0", "1.0", "2.0", "6.0", "160", "80", "not reached", "0.700", "1.5"],
        ["Net", "slow augmented", "4.0", "2.0", "6.0", "1.0", "40", "40", "4.0", "0.800", "1.5"],
    ]


def test_a_row_that_fails_ends_the_comparison_with_its_reason(capsys):
    with pytest.raises(SystemExit, match="(?s)gone failed:.*No module named"):
        keras_guide.compare(job(), "Net", {"gone": ["benchmarks.no_such_thing"]})


@pytest.mark.slow
def test_both_loops_report_every_stage_and_epoch(weights):
    for side, epochs in ((keras_guide.guide, [2, 0, 0]), (keras_guide.ours, [1, 1, 0])):
        found = side(job(weights=weights, epochs=epochs), "")
        ends = [end for end, _ in found["curve"]]
        assert len(found["seconds"]) == np.count_nonzero(epochs) and len(ends) == 2
        assert 0 < ends[0] < ends[1] <= sum(found["seconds"]) + 1e-6
        if side is keras_guide.ours:  # the second epoch is the second stage's
            assert ends[0] <= found["seconds"][0] + 1e-6 < ends[1]
        assert all(0 <= accuracy <= 1 for _, accuracy in found["curve"])


def test_too_many_pictures_are_refused():
    with pytest.raises(InputError, match="--pictures 5000: .*give at most"):
        keras_guide.few(job(pictures=5000))


@pytest.mark.slow
def test_overhead_gives_a_pair_per_round(weights, capsys):
    pairs = overhead.measure(job(epochs=1, rounds=1), weights)
    assert len(pairs) == 1 and all(0 < one < 60 for pair in pairs for one in pair)
    shown = capsys.readouterr()
    assert shown.out == "" and "stage head" in shown.err  # the output is for the table


@pytest.mark.slow
def test_floor_trains_the_same_upper_part_on_both_sides(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(floor, "HEAD_EPOCHS", 2)
    monkeypatch.setattr(floor, "TOP_EPOCHS", 2)
    monkeypatch.setenv("THAW_CACHE", str(tmp_path))  # set anew by the benchmark, put back after the test
    trained = []
    train_on_batch = keras.Model.train_on_batch

    def watched(model, *batch):
        trained.append(sum(int(np.prod(one.shape)) for one in model.trainable_variables))
        return train_on_batch(model, *batch)

    monkeypatch.setattr(keras.Model, "train_on_batch", watched)
    found = floor.measure(job(rounds=1), weights, tmp_path)
    assert [len(column) for column in found.values()] == [1] * 6
    assert min(min(column) for column in found.values()) > 0
    assert len(trained) == 2 * floor.TOP_EPOCHS
    weights_said = capsys.readouterr().err.rpartition("stage top: trains ")[2].partition(" weights)")[0]
    assert weights_said.rpartition("(")[2] == f"{trained[0]:,}"
    assert floor.ratio([2.0, 3.0, 9.0], [1.0, 2.0, 3.0]) == "2.00 (1.50 to 3.00)"


def test_shares_give_a_row_for_each_number_of_workers(capsys):
    table = shares.main("--workers 1 2 --image-size 16 --batch-size 8 --rounds 1".split())
    assert table["workers"].tolist() == [1, 2] and (table["pictures/s"] > 0).all()
    assert "pictures/s" in capsys.readouterr().out


def test_startup_sums_the_modules_of_a_package():
    code = "import json.decoder, email.message"
    found = startup.import_seconds(code)
    assert 0 < found["json"] and 0 < found["email"]
    assert found.total() < 2 * startup.seconds_of(code) + 1  # no module is counted in its parents as well


@pytest.mark.slow
def test_startup_sees_the_first_step_of_a_real_run(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ends = startup.until_first_step(["--stages.0.epochs", "1"], tmp_path / "run")
    assert len(ends) == 4 and ends == sorted(ends) and ends[0] > startup.seconds_of("pass")
    assert not (tmp_path / "run" / "metrics.json").exists()  # it was ended there


def test_startup_says_that_a_run_ended_before_its_first_step(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="ended before its first step"):
        startup.until_first_step(["--no-such-flag"], tmp_path / "run")


def test_results_name_what_failed_and_keep_the_rest(tmp_path, capfd):
    output = tmp_path / "RESULTS.md"
    commands = {
        "Good": ["-c", "print('| a table |')"],
        "Bad": ["-c", "import sys; print('so far'); sys.exit('reason')"],
        "Later": ["-c", "print('still runs')"],
    }
    assert everything.write_results(commands, output, "today, here") == ["Bad"]
    text = output.read_text()
    assert text.startswith("# Benchmark results\n\ntoday, here\n")
    good, bad, later = text.split("\n## ")[1:]
    assert good.startswith("Good\n\n`python -c ") and good.rstrip().endswith("| a table |")
    assert "**Failed** with exit code 1" in bad and "so far" in bad and "still runs" in later
    assert [path.name for path in tmp_path.iterdir()] == ["RESULTS.md"]
    shown = capfd.readouterr()
    assert "| a table |" in shown.out and "reason" in shown.err


def test_everything_names_benchmarks_that_there_are():
    for command in everything.COMMANDS.values():
        assert (ROOT / "benchmarks" / f"{command.split()[0]}.py").is_file()


def test_without_pytorch_one_line_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["pytorch"])
    pytorch.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert "pip install torch" in line


SAME_ANSWER = """
import sys
import numpy as np
import torch
from benchmarks import pytorch_side
arrays = dict(np.load(sys.argv[1]))
network = pytorch_side.ResNet50(3).eval()
pytorch_side.load_keras(network, arrays)
trunk = [one for name, one in [*network.named_parameters(), *network.named_buffers()]
         if not name.startswith(("head", "mean")) and not name.endswith("num_batches_tracked")]
x = network.conv1(torch.from_numpy(arrays["pictures"]).flip(1).float() - network.mean)
with torch.no_grad():
    x = network.conv5(network.conv4(network.conv3(network.conv2(x))))
print(sum(one.numel() for one in trunk), "tensorflow" in sys.modules)
np.save(sys.argv[2], x.numpy())
"""


@needs_torch
def test_the_pytorch_network_is_keras_resnet50_but_for_its_superfluous_biases(tmp_path):
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    random = np.random.default_rng(0)
    biases = 0
    for layer in model.layers:  # also what is 0 or 1 in a new network must arrive at its place
        for variable in layer.weights:
            if variable.name in ("bias", "beta", "moving_mean"):
                variable.assign(random.normal(0, 0.1, variable.shape))
            if variable.name in ("gamma", "moving_variance"):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
            biases += (variable.name == "bias") * int(np.prod(variable.shape))
    pictures = random.integers(0, 256, (2, 64, 64, 3), dtype="uint8")
    expected = model.predict(
        keras.applications.resnet.preprocess_input(pictures.astype("float32")), verbose=0
    )
    np.savez(tmp_path / "job.npz", pictures=pictures.transpose(0, 3, 1, 2), **pytorch.named_weights(model))
    command = [sys.executable, "-c", SAME_ANSWER, str(tmp_path / "job.npz"), str(tmp_path / "out.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert (model.count_params(), biases) == (23_587_712, 26_560)
    assert done.stdout.split() == [str(23_587_712 - 26_560), "False"]
    found = np.load(tmp_path / "out.npy").transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@needs_torch
def test_the_pytorch_loop_trains_what_each_stage_names_and_leaves_batch_norm_still(tmp_path):
    code = """
import copy
import numpy as np
import torch
from benchmarks import pytorch_side
torch.manual_seed(0)
pictures, labels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype="uint8"), np.arange(4) % 3
arrays = dict(train_pictures=pictures, val_pictures=pictures, train_labels=labels, val_labels=labels)
network = pytorch_side.ResNet50(3)
norms = [name for name, one in network.named_modules() if isinstance(one, torch.nn.BatchNorm2d)]
for epochs, bfloat16 in (([1, 0, 0], False), ([0, 1, 0], True)):
    before = copy.deepcopy(network.state_dict())
    found = pytorch_side.train(network, arrays, epochs, (1e-3,) * 3, 2, bfloat16)
    moved = [name for name, one in network.state_dict().items() if not torch.equal(one, before[name])]
    still = not any(name.rpartition(".")[0] in norms for name in moved)
    print(*sorted({name.split(".")[0] for name in moved}), still, len(found["seconds"]), len(found["curve"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["head True 1 1", "conv5 head True 1 1"], done.stderr


def test_the_interval_of_the_calibration_error_is_measured_where_the_truth_is_known():
    found = calibration.measure("middling", "too sure, T = 2", 100, tables=20, resamples=50)
    assert found["held, %"] >= 75 and 0.08 < found["true error"] < 0.2 and found["width"] < 0.3
    calibrated = calibration.measure("sure", "calibrated", 300, tables=3, resamples=50)
    assert calibrated["true error"] == 0


@pytest.mark.parametrize("kind", ["grid", "random", "bayes"])
def test_the_regret_of_a_search_is_read_off_the_table(kind):
    known = pd.DataFrame(search.points(search.SPACE.ranges, 0, 0))
    known["value"] = np.arange(len(known)) / 100
    curve = search.regret(known, search.base(), kind, 0)
    assert len(curve) == len(known) == 30 and curve == sorted(curve, reverse=True) and curve[0] < 0.3
    assert (
        curve == search.regret(known, search.base(), kind, 0) != search.regret(known, search.base(), kind, 1)
    )
    if kind == "grid":  # every point once
        assert curve[-1] == 0


def test_pictures_of_tables_are_the_same_again_and_name_every_method(tmp_path):
    random = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([[30, 100], range(3)], names=["rows", "seed"])
    wide = pd.DataFrame(random.uniform(0.5, 0.9, (6, 4)), index, ["ours", "b", "c", "d"])
    settings = [
        (world, rows, move) for world in range(3) for rows in (100, 400) for move in ("little", "much")
    ]
    errors = pd.DataFrame(
        [(*one, name, random.uniform(0.5, 2)) for one in settings for name in ("b", "ours")],
        columns=["world", "rows", "move", "method", "root_pehe"],
    )
    for draw in (
        lambda path: pictures.lines(wide, ("ours", "b", "c", "d"), path),
        lambda path: pictures.bars(errors, ("b", "ours"), path),
    ):
        drawn = []
        for place in ("first", "second"):
            (tmp_path / place).mkdir(exist_ok=True)
            draw(tmp_path / place / "picture.svg")
            drawn.append((tmp_path / place / "picture.svg").read_text())
        assert drawn[0] == drawn[1] and ">ours<" in drawn[0] and "</svg>" in drawn[0]
