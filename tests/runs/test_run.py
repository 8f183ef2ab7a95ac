"""The life of a run: what each call writes and prints, and what an exception leaves."""

import dataclasses
import json
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner import atomic
from runner.data.examples import Data, problems
from runner.data.sealed import Sealed
from runner.errors import InputError
from runner.machine import Machine
from runner.networks import saved
from runner.report import card
from runner.runs import folder
from runner.runs import run as runs
from runner.stage import Stage
from runner.training.fit import Fit


@dataclass(frozen=True)
class Config:
    """What a run asks of a Config."""

    backbone: str = "dense"
    weights: str = "some"
    stages: tuple[Stage, ...] = (Stage("head"),)
    batch_size: int = 4
    machine: Machine = Machine()


@pytest.fixture
def config(tmp_path):
    return Config(machine=Machine(run_dir=str(tmp_path / "run"), checkpoint_steps=3))


def load(config):
    """Six rows of numbers in three splits."""
    split = ["train"] * 3 + ["val"] * 2 + ["test"]
    label = pd.Categorical(list("ababab"))
    manifest = pd.DataFrame({"path": [f"row {i}" for i in range(6)], "split": split, "label": label})
    rows = tf.data.Dataset.from_tensors({"id": np.int64(5), "input": np.zeros(3, np.float32)})
    return Data(rows, rows, Sealed(rows), ("a", "b"), manifest, problems([]), unit="rows")


TASK = card.Task(
    title="rows",
    what="A classifier of rows into",
    prepared="nothing becomes of them",
    takes="rows",
    gives="logits",
    meant="For nothing.",
    score=("accuracy", "accuracy"),
    columns={"recall": "recall"},
)
METRICS = {"examples": 1, "accuracy": 0.5, "accuracy_interval": [0.2, 0.8]}


def end(run, examples, network, task=TASK, **shown):
    """What a template does when all is trained."""
    history = pd.DataFrame(
        {"epoch": [1], "stage": ["head"], "loss": [0.5], "val_loss": [0.6], "accuracy": [0.5]}
    )
    ledger = pd.DataFrame(
        [("head", "head", 2, True, 2, 0.1, 0)],
        columns=[
            "stage", "block", "variables", "to_train", "moved", "relative_change", "statistics_moved"
        ],
    )  # fmt: skip
    fit = Fit(history, ledger, 40.0)
    comparison = pd.DataFrame([("staged", 0.5, 0.2, 0.8)])
    comparison.columns = ["method", "test_accuracy", "low", "high"]
    assert len(list(run.open_test(examples, ["staged", "other"]))) == 1
    run.save_network(network)
    run.save(
        examples,
        {"staged": fit, "other": fit, "third": dataclasses.replace(fit, seconds=2.0)},
        comparison=comparison,
        per_class=pd.DataFrame({"class": ["a"], "recall": [0.5]}),
        predictions=pd.DataFrame({"id": [5]}),
        groups=None,
        truth=pd.DataFrame({"id": [5]}),
    )
    run.card(task, data={"rows": examples}, metrics=METRICS)
    run.report("rows", question="Why?", data=examples, **{"pictures": {}, "metrics": METRICS} | shown)
    run.end({"classes": ["a", "b"], "test": METRICS}, notes=["a note"])


def test_a_run_from_its_config_to_its_report(config, small_model, capsys):
    network, blocks = small_model()
    with runs.start(config, "somewhere.rows_of_numbers") as run:
        examples = run.load(load)
        assert [path.name for path in run.folder.iterdir()] == [".lock"]  # reserved
        run.check(network, blocks, examples)
        place = run.checkpoints("from scratch")
        assert (place.folder, place.steps) == (run.folder / "checkpoints" / "from_scratch", 3)
        assert run.is_chief
        with pytest.raises(RuntimeError, match="call it first"):
            run.end({})
        end(run, examples, network)
    assert {path.name for path in run.folder.iterdir()} == folder.FILES | {"truth.csv"}
    assert folder.read_complete(run.folder)["checkpoint_steps"] == 3
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["template"] == "somewhere.rows_of_numbers" and environment["training seconds"] == "42"
    readings = pd.read_csv(run.folder / "test_readings.csv")
    assert readings["reason"].tolist() == ["final numbers of staged, other; rows shown in the report"]
    assert "<title>Rows of numbers: rows" in (run.folder / "report.html").read_text()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 classes; rows: train 3, val 2, test 1" and said[1].startswith("precision: ")
    assert said[4] == f"run folder: {run.folder}"
    assert said[-2:] == ["a note", f"report: {run.folder / 'report.html'}"] and "staged" in said[-3]
    with pytest.raises(InputError, match="this run is complete"), runs.start(config, "x.y"):
        pass


def test_an_exception_leaves_the_folder_and_the_next_run_goes_on(config, small_model, capsys):
    network, blocks = small_model()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), runs.start(config, "x.rows") as run:
            run.check(network, blocks, run.load(load))
            raise ZeroDivisionError
    assert {"config.json", "manifest.csv"} <= {path.name for path in run.folder.iterdir()}
    assert capsys.readouterr().out.count("(an unfinished run, which goes on)") == 1
    folder.end(run.folder)


def test_what_cannot_run_is_answered_before_there_is_a_folder(config, small_model):
    network, blocks = small_model()
    for changes, part in (
        ({"stages": (Stage("top", train="top:9"),)}, "this backbone has"),
        ({"weights": "none"}, "no stage lets learn"),
        ({"batch_size": 0}, "batch_size=0"),
    ):
        with (
            pytest.raises(InputError, match=part),
            runs.start(dataclasses.replace(config, **changes), "x.y") as run,
        ):
            run.check(network, blocks, run.load(load))
        assert not run.folder.exists()


def test_batch_norm_above_the_backbone_is_not_looked_at(config, small_model):
    _, blocks = small_model()
    rows = keras.Input((8, 8, 3))
    under = keras.layers.Conv2D(4, 3, name="block")(rows)
    added = keras.layers.BatchNormalization(name="added")(under)
    head = keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling2D()(added))
    changed = dataclasses.replace(config, weights="none", stages=(Stage("all", train="all"),))
    with runs.start(changed, "x.y") as run:
        block = dataclasses.replace(blocks[0], name="block", layers=("block",))
        run.check(keras.Model(rows, head), [block], run.load(load))
    folder.end(run.folder)


def test_a_loss_of_the_templates_own_is_not_saved():
    row = keras.Input((3,))
    network = keras.Model(row, keras.layers.Dense(1)(row))
    assert saved.without_own_loss(network) is network  # never compiled
    network.compile(loss=keras.losses.MeanSquaredError())
    assert saved.without_own_loss(network) is network
    network.compile(loss=lambda truth, found: (truth - found) ** 2)
    plain = saved.without_own_loss(network)
    assert not plain.compiled and plain.weights[0] is network.weights[0]


def test_what_only_shows_results_costs_a_line_and_not_the_run(config, small_model, capsys):
    network, blocks = small_model()

    def breaks():
        raise ZeroDivisionError("of this")

    broken = dataclasses.replace(TASK, columns={"recall": "is not there"})
    with runs.start(config, "x.rows") as run:
        examples = run.load(load)
        run.check(network, blocks, examples)
        run.attempt("a drawing", breaks)
        end(run, examples, network, broken, overlays=breaks, no_such_part=1)
    assert {path.name for path in run.folder.iterdir()} == folder.FILES | {"truth.csv"}
    assert folder.read_complete(run.folder)
    said = capsys.readouterr().out
    page = (run.folder / "report.html").read_text()
    for line in ("a drawing: ZeroDivisionError (of this)", "MODEL CARD.md: ", "report.html: TypeError"):
        assert f"could not be made: {line}" in said and line in page
    assert "could not be made" in (run.folder / "MODEL_CARD.md").read_text()


def test_the_network_is_there_whatever_the_judging_meets(config, small_model, capsys):
    network, blocks = small_model()
    saved = "The trained network is .*model.keras; the same command judges it again"
    with pytest.raises(InputError, match=f"nothing to judge. {saved}"), runs.start(config, "x.rows") as run:
        run.check(network, blocks, run.load(load))
        run.save_network(network)
        raise InputError("nothing to judge.")
    assert keras.models.load_model(run.folder / "model.keras").count_params() == network.count_params()
    with pytest.raises(ZeroDivisionError), runs.start(config, "x.rows") as run:
        run.check(network, blocks, run.load(load))
        run.save_network(network)
        raise ZeroDivisionError
    assert "The trained network is" in capsys.readouterr().err
    with pytest.raises(InputError, match="No space left on device: make room; the same command goes on with"):
        with runs.start(config, "x.rows") as run:
            run.check(network, blocks, run.load(load))
            raise OSError(28, "No space left on device")
    with pytest.raises(
        InputError, match=r"\[Errno 2\] No such file or directory: 'x': put it back; the same"
    ):
        with runs.start(config, "x.rows") as run:
            run.check(network, blocks, run.load(load))
            read = tf.data.Dataset.range(1).map(
                lambda one: tf.py_function(lambda _: open("x"), [one], tf.int64)
            )
            list(read)
    with pytest.raises(RuntimeError, match="before the judging"):
        with runs.start(config, "x.rows") as run:
            run.save(None, {}, comparison=None, per_class=None, predictions=None)
    folder.end(run.folder)


def test_a_split_without_anything_to_judge_by_is_said_before_there_is_a_folder(config, small_model):
    network, blocks = small_model()
    boxes = np.array([[1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [1, 1]])

    def without(config):
        return dataclasses.replace(load(config), amounts=boxes, counted="boxes", unit="pictures")

    said = "a val split of 2 pictures without boxes; .* train 2 of 3, val 0 of 2, test 1 of 1"
    with pytest.raises(InputError, match=said), runs.start(config, "x.y") as run:
        run.check(network, blocks, run.load(without))
    assert not run.folder.exists()


def test_a_disk_that_is_full_at_any_file_is_one_line_and_the_same_command_goes_on(
    config, small_model, monkeypatch
):
    network, blocks = small_model()
    written, refused = atomic.write, []

    def go():
        with runs.start(config, "x.rows") as run:
            examples = run.load(load)
            run.check(network, blocks, examples)
            end(run, examples, network)
        return run.folder

    first, last = ["manifest.csv", "config.json"], ["metrics.json"]
    for name in [*first, *sorted(folder.FILES - {*first, *last}), *last]:

        def write(path, save, name=name):
            if path.name == name:
                refused.append(name)
                raise OSError(28, "No space left on device")
            return written(path, save)

        monkeypatch.setattr(atomic, "write", write)
        with pytest.raises(InputError, match="No space left on device: make room; the same command goes on"):
            go()
        assert refused[-1] == name
        monkeypatch.setattr(atomic, "write", written)
    run = go()
    assert {path.name for path in run.iterdir()} == folder.FILES | {"truth.csv"}


def test_the_terminal_says_what_was_found_in_the_data(config, small_model, capsys, tmp_path):
    """Before the training, and where to read it; problems.csv is there from then on."""
    told = problems([("", "near-duplicate", "22 pairs stand in two splits"), ("a.png", "unreadable", "no")])
    with runs.start(config, "templates.rows") as run:
        examples = dataclasses.replace(run.load(load), problems=told, carved="val (15 %) carved from train")
        assert examples.in_words().endswith("(val (15 %) carved from train)")
        run.check(*small_model(), examples)
        kept = pd.read_csv(run.folder / "problems.csv", keep_default_na=False)
        assert kept[["severity", "kind"]].to_numpy().tolist() == [
            ["serious", "near-duplicate"],
            ["to look at", "unreadable"],
        ]
    said = capsys.readouterr().out
    assert "data: 2 problems: 1 serious (1 near-duplicate); 1 to look at (1 unreadable)" in said
    assert f"read them in {tmp_path / 'run' / 'problems.csv'}" in said
    assert "  serious: 22 pairs stand in two splits\n" in said
