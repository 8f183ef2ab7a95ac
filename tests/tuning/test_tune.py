"""`python -m runner tune` from its flags to its page; killed, shared by workers, on a database server."""

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from runner import __main__, fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import folder, template
from runner.training import monitor
from runner.tuning import search, tune
from runner.tuning.options import Options, add_tune
from templates.image_classification.config import Config as ImageConfig
from tests.rows import train
from tests.rows.config import Config
from tests.rows.space import SPACE

ROOT = Path(__file__).parents[2]
SHORT = ["--stages.0.epochs", "1", "--stages.1.epochs", "1"]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """The smallest template is the only one, and runs/ is in a folder that goes away."""
    monkeypatch.setattr(template, "packages", lambda repository=None: ["tests.rows"])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "rows-tuning"


def test_default_and_best_are_tested_once_and_no_trial_is(rows, capsys):
    options = Options(search="random", trials=2, study="mine")
    assert tune.run("rows", options, SHORT) == 0
    told, place = capsys.readouterr().out, rows / "mine"
    table = pd.read_csv(place / "trials.csv")
    assert table["trial"].tolist() == [0, 1] and "complete" in set(table["state"])
    best = table.loc[table["val_loss"].idxmin()]
    name = f"trial_{best['trial']:04}"
    assert re.search(rf"best: trial {best['trial']}, val_loss {best['val_loss']:.4f}", told)
    assert {path.name for path in (place / "tested").iterdir() if path.is_dir()} == {"default", name}
    for tested in ("default", name):
        readings = pd.read_csv(place / "tested" / tested / "test_readings.csv")
        assert len(readings) == 1 and readings["reason"].item().startswith("final numbers of staged")
        assert {path.name for path in (place / "tested" / tested).iterdir()} == folder.FILES
    assert not list(place.glob("trial_*/test_readings.csv")) and not list(place.glob("trial_*/checkpoints"))
    # What is handed out is the better of both on validation.
    scores = {
        one: pd.read_csv(place / "tested" / one / "comparison.csv").filter(like="val_").iloc[0, 0]
        for one in ("default", name)
    }
    kept = "default" if scores["default"] > scores[name] else name
    chosen = fields.load(place / "best.json", Config)
    settings = json.loads((place / "tested" / kept / "config.json").read_text())
    assert fields.to_dict(chosen)["stages"] == settings["stages"]
    assert chosen.batch_size == settings["batch_size"] and chosen.stages[0].epochs == 1 and chosen.baselines
    assert ("best.json holds the default" in told.replace("\n", " ")) == (kept == "default")
    begun = json.loads((place / "tested" / name / "config.json").read_text())
    assert begun["stages"][1]["learning_rate"] == best["stages.1.learning_rate"] and not begun["baselines"]
    assert "opened once for each, after 2 trials on validation" in told and "points to the default" in told
    assert re.search(r"on the same 142 test examples", told.replace("\n", " "))
    page = (place / "tuning.html").read_text()
    assert "The best of 2 trials by val_loss" in page and "tested once" in page and "<svg" in page

    # The same command goes on; the test of what was tested is not opened again.
    before = (place / "tested" / "default" / "test_readings.csv").read_bytes()
    assert tune.run("rows", Options(search="random", trials=3, study="mine"), SHORT) == 0
    again = pd.read_csv(place / "trials.csv")
    assert len(again) == 3 and again.head(2).equals(table)
    assert (place / "tested" / "default" / "test_readings.csv").read_bytes() == before
    with pytest.raises(InputError, match="the study rows-mine began with config.seed '0'.*another --study"):
        tune.run("rows", options, [*SHORT, "--seed", "1"])


def quick(value=lambda config: config.batch_size / 100):
    """In the place of the module of a template: a run that costs nothing."""

    def main(config):
        assert not config.machine.test, "a trial"
        place = Path(config.machine.run_dir)
        for epoch in range(1, 5):
            monitor.tell(epoch, value(config))
        place.mkdir()
        (place / "metrics.json").write_text(json.dumps({"validation": {"monitor": value(config)}}))

    return SimpleNamespace(main=main)


def test_without_the_test_and_with_a_space_of_ones_own(rows, monkeypatch, capsys):
    monkeypatch.setattr(template, "train", lambda *given: quick())
    given = ["--no-test", "--stages.1.learning-rate", "0.001"]
    assert tune.run("rows", Options("grid", space=("batch_size=8,64", "val_fraction=0.1..0.2")), given) == 0
    told = capsys.readouterr().out
    assert "6 trials" in told and "batch_size: 8, 64" in told and "val_fraction: 0.1 to 0.2" in told
    assert "stages.1.learning_rate: " not in told  # fixed by its flag
    place = next(rows.iterdir())
    assert re.fullmatch("grid-[0-9a-f]{8}", place.name) and not (place / "tested").exists()
    assert "The test was not opened (--no-test)" in (place / "tuning.html").read_text()
    assert json.loads((place / "best.json").read_text())["batch_size"] == 8


def test_where_no_trial_comes_to_its_end_it_says_why(rows, monkeypatch, capsys):
    def main(config):
        raise InputError("the pictures are too small")

    monkeypatch.setattr(template, "train", lambda *given: SimpleNamespace(main=main))
    assert tune.run("rows", Options(trials=2), []) == 1
    assert "no trial came to its end (2 failed): InputError: the pictures are too small" in (
        capsys.readouterr().err
    )


def test_a_default_that_fails_costs_the_comparison_alone(rows, monkeypatch, capsys):
    def main(config):
        if config.machine.test and "default" in config.machine.run_dir:
            raise InputError("batch_size=32 is more than there are rows")
        place = Path(config.machine.run_dir)
        place.mkdir()
        for name in ("config.json", "model.keras"):
            (place / name).write_text("{}")
        (place / "metrics.json").write_text(json.dumps({"validation": {"monitor": config.batch_size / 100}}))

    monkeypatch.setattr(template, "train", lambda *given: SimpleNamespace(main=main))
    assert tune.run("rows", Options("random", trials=1), []) == 0
    said = "There is no comparison: the run default failed (batch_size=32 is more than there are rows)."
    assert said in capsys.readouterr().out and said in next(rows.glob("*/tuning.html")).read_text()


def test_mistakes_are_answered_before_anything_is_made(rows, monkeypatch):
    def refused(message, options=None, arguments=(), name="rows"):
        with pytest.raises(InputError, match=message):
            tune.run(name, options or Options(), list(arguments))
        assert not rows.exists()

    refused("There is no template 'row'; there are: tests.rows", name="row")
    refused("--run-dir here: several runs get folders of their own", arguments=["--run-dir", "here"])
    refused("--search best is not one of bayes, random, grid", Options("best"))
    refused("the grid has 9 points; give at most as many", Options("grid", trials=10))
    refused(r"--fix dropout: the space has stages\.1\.learning_rate", Options(fix=("dropout",)))
    refused("'dropout' is not a field of Config", Options(space=("dropout=0..1",)))
    refused("nothing is left to search", Options(fix=("batch_size", "stages.1.learning_rate")))
    refused("several workers that train one network", arguments=["--strategy", "multi_worker"])
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        refused('run `pip install "optuna>=5,<6"`')
    monkeypatch.setattr(template, "packages", lambda repository=None: ["tests.report"])
    monkeypatch.setattr(template, "config_class", lambda package: Config)
    refused("tests.report has no space.py; write one", name="report")
    for wrong in ({"trials": 0}, {"minutes": 0.0}, {"workers": 0}, {"grid_points": 0}, {"study": "a/b"}):
        with pytest.raises(InputError, match=f"--{next(iter(wrong)).replace('_', '-')} .* cannot be used"):
            Options(**wrong)


def test_flags_of_both_stand_on_one_line():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_tune(parser)
    given = "templates.x --trials 5 --space a=1..2 b=1,2 --no-prune --batch-size 4 --stages.0.epochs 2 --s 1"
    known, flags = parser.parse_known_args(given.split())
    options = Options.of(known)
    assert (known.template, options.trials, options.space, options.prune) == (
        "templates.x", 5, ("a=1..2", "b=1,2"), False
    )  # fmt: skip
    assert flags == ["--batch-size", "4", "--stages.0.epochs", "2", "--s", "1"]
    with pytest.raises(InputError, match="unrecognized arguments: --batch-size 4"):
        __main__.main(["compare", "a", "b", "--batch-size", "4"])
    with pytest.raises(InputError, match="not allowed with argument --trials"):
        __main__.main(["tune", "x", "--trials", "5", "--minutes", "1"])


def test_workers_are_told_the_whole_search(rows, monkeypatch):
    asked = []
    monkeypatch.setattr(template, "train", lambda *given: quick())
    monkeypatch.setattr(
        tune.subprocess,
        "Popen",
        lambda command, **options: asked.append(command) or SimpleNamespace(wait=lambda: 0, poll=lambda: 0),
    )
    options = Options("random", trials=4, workers=2, space=("val_fraction=0.1..0.2",), prune=False)
    given = ["--no-test", "--seed", "3"]
    assert tune.run("rows", options, given) == 0
    assert len(asked) == 2 and asked[0] == asked[1]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_tune(parser)
    known, flags = parser.parse_known_args(asked[0][4:])
    told = Options.of(known)
    assert told == Options(
        "random", trials=4, study=next(rows.iterdir()).name, space=options.space, prune=False, join=True
    )
    assert flags == given
    tune.run("rows", Options("grid", minutes=5.0, workers=1, study="timed"), given)
    assert tune.run("rows", Options("grid", minutes=5.0, workers=2, study="timed"), given) == 0
    told = Options.of(parser.parse_known_args(asked[2][4:])[0])
    assert told.trials is None and 4.9 < told.minutes <= 5


def study_of(place, space=SPACE, url="", name=""):
    config = Config(stages=Config().stages, machine=Machine())
    job = search.Job("tests.rows", config, space, "random")
    storage = search.optuna.storages.RDBStorage(url or f"sqlite:///{place / 'study.db'}")
    return job, search.optuna.load_study(study_name=name or f"rows-{place.name}", storage=storage)


def command(*given):
    return [sys.executable, "-m", "tests.tuning.rows_command", *given]


def started(tmp_path, *given, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command(*given), cwd=tmp_path, env=environment, text=True, **options)


@pytest.mark.slow
def test_killed_five_times_it_is_the_study_that_it_would_have_been(tmp_path):
    given = ["tune", "rows", "--search", "bayes", "--trials", "12", "--deterministic"]
    given += ["--stages.0.epochs", "6", "--stages.1.epochs", "18"]
    whole = started(tmp_path, *given, "--study", "whole")
    assert whole.wait() == 0
    draw, kills = random.Random(0), 0
    while True:
        process = started(tmp_path, *given, "--study", "cut", stdout=subprocess.PIPE)
        if kills < 5:
            assert any(line.startswith("study: ") for line in process.stdout)
            time.sleep(draw.uniform(0.3, 5))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.stdout.close()
            continue
        process.communicate()
        assert process.returncode == 0 and kills == 5
        break
    found = []
    for name in ("whole", "cut"):
        place = tmp_path / "runs" / "rows-tuning" / name
        job, study = study_of(place)
        found.append(
            [
                (one.number, one.state.name, one.value, one.params, one.intermediate_values)
                for one in study.get_trials()
            ]
        )
        tested = sorted(path.name for path in (place / "tested").iterdir() if path.is_dir())
        networks = [
            train.keras.models.load_model(place / "tested" / one / "model.keras", compile=False)
            for one in tested
        ]
        found[-1].append((tested, [np.concatenate([w.ravel() for w in n.get_weights()]) for n in networks]))
    (whole_tested, whole_weights), (cut_tested, cut_weights) = found[0].pop(), found[1].pop()
    assert found[0] == found[1] and len(found[0]) == 12
    assert whole_tested == cut_tested
    for ours, theirs in zip(whole_weights, cut_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_two_workers_share_one_study(tmp_path):
    given = ["tune", "rows", "--search", "random", "--trials", "8", "--study", "both", "--no-prune"]
    workers = [started(tmp_path, *given, *more) for more in ([], ["--join"])]
    assert [one.wait() for one in workers] == [0, 0]
    place = tmp_path / "runs" / "rows-tuning" / "both"
    job, study = study_of(place)
    trials = study.get_trials()
    assert [one.number for one in trials] == list(range(8))
    assert {one.state.name for one in trials} == {"COMPLETE"}
    assert len({one.user_attrs["worker"] for one in trials}) == 2
    assert len({tuple(one.params.items()) for one in trials}) == 8
    assert len(list((place / "tested").glob("*/metrics.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("templates/*/space.py")))
def test_every_template_is_tuned_by_its_space_alone(tmp_path, name):
    config = template.config_class(f"templates.{name}")()
    given = [flag for n in range(len(config.stages)) for flag in (f"--stages.{n}.epochs", "1")]
    given += {
        "image_classification": ["--labels-per-class", "2"],
        "text_classification": ["--labels-per-class", "4", "--length", "16", "--backbone", "BERT-tiny"],
        "domain_adaptation": ["--labels-per-class", "7", "--methods", "source only", "MCC"],
        "few_shot": ["--methods", "softmax", "--val-episodes", "10"],
        "self_supervised": ["--data", "digits_in_photos", "--no-baselines", "--tuning-epochs", "0"],
        "continual_learning": ["--labels-per-class", "4", "--batch-size", "4", "--methods", "replay"],
        "text_generation": ["--train-characters", "2000"],
        "treatment_effects": ["--source", "", "--weights", "none", "--simulations", "0"],
        "translation": ["--train-examples", "40", "--length", "16", "--backbone", "BERT-tiny"],
        "token_classification": ["--train-examples", "40", "--length", "32", "--backbone", "BERT-tiny"],
    }.get(name, ["--train-examples", "16"])
    given += ["--weights", "none"] if "BERT-tiny" in given else []
    for join in ([], ["--workers", "2"]) if name == "image_classification" else ([],):
        done = subprocess.run(
            [sys.executable, "-m", "runner", "tune", f"templates.{name}", "--trials", "2", "--no-prune"]
            + ["--search", "random", *join, "--study", f"workers{len(join)}", *given],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        place = tmp_path / "runs" / f"{name}-tuning" / f"workers{len(join)}"
        assert "complete" in set(pd.read_csv(place / "trials.csv")["state"]), done.stdout
        assert len(list((place / "tested").glob("*/test_readings.csv"))) == 2
        assert not list(place.glob("trial_*/test_readings.csv"))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def postgresql(tmp_path_factory):
    """The URL of an empty database of a server that was started for this test, and ends with it."""
    if not shutil.which("initdb") or not shutil.which("postgres"):
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("pg8000", reason="pg8000, which speaks to PostgreSQL, is not installed")
    place = tmp_path_factory.mktemp("postgresql")
    # It does not run as root.
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    if user:
        for one in (place, place.parent, place.parent.parent):
            one.chmod(0o755)
        shutil.chown(place, "nobody")
    data, port = place / "data", free_port()
    subprocess.run(
        ["initdb", "-D", str(data), "-U", "thaw", "-A", "trust", "-E", "UTF8", "--locale", "C"],
        check=True, capture_output=True, cwd=place, **user,
    )  # fmt: skip
    server = subprocess.Popen(
        ["postgres", "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(place)],
        stderr=subprocess.DEVNULL, cwd=place, **user,
    )  # fmt: skip
    try:
        import pg8000

        for _ in range(100):
            try:
                pg8000.connect("thaw", host="127.0.0.1", port=port, database="postgres").close()
                break
            except Exception:
                time.sleep(0.2)
        yield f"postgresql+pg8000://thaw:secret@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


@pytest.mark.slow
def test_two_workers_share_a_study_on_a_database_server(tmp_path, postgresql):
    given = ["tune", "rows", "--search", "bayes", "--trials", "6", "--study", "server", "--no-prune"]
    given += ["--storage", postgresql]
    workers = [started(tmp_path, *given, *more) for more in ([], ["--join"])]
    assert [one.wait() for one in workers] == [0, 0]
    place = tmp_path / "runs" / "rows-tuning" / "server"
    assert not (place / "study.db").exists() and len(list((place / "tested").glob("*/metrics.json"))) == 2
    assert "secret" not in (place / "tuning.html").read_text()
    job, study = study_of(place, url=postgresql)
    trials = study.get_trials()
    assert [one.state.name for one in trials] == ["COMPLETE"] * 6
    assert len({one.user_attrs["worker"] for one in trials}) == 2
    # Killed there, it goes on there.
    more = [*given[:5], "8", *given[6:]]
    process = started(tmp_path, *more, stdout=subprocess.PIPE)
    assert any(line.startswith("study: ") for line in process.stdout)
    time.sleep(2)
    process.kill()
    process.communicate()
    assert started(tmp_path, *more).wait() == 0
    assert [one.state.name for one in study_of(place, url=postgresql)[1].get_trials()] == ["COMPLETE"] * 8


def test_a_ranking_says_which_sources_are_searched(rows):
    place = rows / "ranked"
    place.mkdir(parents=True)
    sources = [
        {"source": f"{name} with weights", "backbone": name, "weights": "letters_in_photos", "rank": number}
        for number, name in enumerate(("a", "b", "c", "d"), 1)
    ]
    sources.insert(1, {"source": "untrained", "backbone": "a", "weights": "none", "rank": 0})
    (place / "rank.json").write_text(json.dumps({"sources": sources}))
    assert tune.ranked(str(place)) == {f"{name} with weights": (name, "letters_in_photos") for name in "abc"}
    package = "templates.image_classification"
    with pytest.raises(InputError, match="--rank .* and --backbone both say where to start from"):
        tune.space_of(package, None, Options(rank=str(place)), ["--backbone", "VGG16"])
    with pytest.raises(InputError, match="no rank.json; give a folder that `rank` made"):
        tune.ranked(str(rows))
    config = ImageConfig()
    for one in sources:
        one["backbone"] = "MobileNet-0.25"
    (place / "rank.json").write_text(json.dumps({"sources": sources}))
    space = tune.space_of(package, config, Options(rank=str(place)), [])
    assert space.ranges["backbone weights"].options["a with weights"] == (
        "MobileNet-0.25",
        "letters_in_photos",
    )
