"""Self-supervised learning beside its template: finished runs on other data, and the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from runner import flags
from runner.errors import CollapseError, InputError
from runner.runs import compare, evaluate
from templates.self_supervised import train
from templates.self_supervised.config import Config
from templates.self_supervised.test_template import draw, small_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same pictures by two methods."""
    place = tmp_path_factory.mktemp("self_supervised")
    data = draw(place / "pictures")
    return [
        train.main(small_config(place, data, run_dir=str(place / name), method=name))
        for name in ("SimCLR", "VICReg")
    ]


def test_a_finished_run_is_judged_on_classes_it_never_heard_of(runs, tmp_path):
    data = draw(tmp_path / "others", ("red", "green"), start=5)
    (data / "green").rename(data / "grass")
    found = evaluate.run(train, Config, runs[0], str(data), tmp_path / "out")
    assert found.score == "accuracy" and 0 <= found.metrics["accuracy"] <= 1
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["classes"] == ["grass", "red"]
    # Four labels of each class taught a head, as many chose its regularisation, the rest was asked.
    assert written["judged"]["examples"] == 24 - 2 * 4 - 2 * 4


def test_runs_are_compared_on_the_same_test_pictures(runs):
    assert compare.run(runs, runs[0].parent / "compared").is_file()


def test_staged_and_from_scratch_are_judged_too_and_validation_can_be_the_end(tmp_path):
    data = draw(tmp_path / "pictures")
    config = small_config(
        tmp_path, data, baselines=True, supervised="letters_in_photos", tuning_epochs=1, test=False
    )
    made = train.main(config)
    assert not (made / "test_readings.csv").exists()
    table = pd.read_csv(made / "comparison.csv")
    assert set(table["method"]) == {
        "logistic regression on pixels",
        "untrained, frozen + solved",
        "supervised, frozen + solved",
        "supervised, staged",
        "SimCLR, frozen + solved",
        "SimCLR, staged",
        "from scratch",
    }
    assert json.loads((made / "metrics.json").read_text())["validation"]["accuracy"] >= 0


def test_a_collapse_ends_the_command_in_one_line(capsys):
    with pytest.raises(SystemExit) as stop, flags.exit_on_input_error():
        raise CollapseError("the features\ncollapsed")
    assert stop.value.code == 1 and capsys.readouterr().err == "error: the features collapsed\n"


def test_several_devices_are_refused_in_one_line(tmp_path):
    data = draw(tmp_path / "pictures")
    with pytest.raises(InputError, match="the whole batch, which is not divided over devices; give") as error:
        train.main(small_config(tmp_path, data, strategy="mirrored"))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_single_picture_is_answered_by_the_command(tmp_path):
    draw(tmp_path / "one", ("red",), 1)
    done = subprocess.run(
        [sys.executable, "-m", "templates.self_supervised.train", "--data", str(tmp_path / "one")]
        + ["--labelled", "", "--run-dir", str(tmp_path / "run")],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "1 usable picture" in done.stderr and done.stderr.count("\n") <= 2
