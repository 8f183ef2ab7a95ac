"""Continual learning beside its template: tasks by a column, whose task is told, data that arrives later."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from runner import fields
from runner.errors import InputError
from runner.runs import compare, evaluate
from templates.continual_learning import answers, loading, memory, tasks, train
from templates.continual_learning.config import Config
from templates.continual_learning.test_template import SIX, draw, small_config


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def run(tmp_path_factory, pictures):
    config = small_config(tmp_path_factory.mktemp("runs"), pictures, tasks=("red green", "blue yellow"))
    return train.main(config)


def test_the_numbers_of_a_matrix_are_known():
    told = tasks.Tasks(("a", "b", "c"), np.eye(3, 6, dtype=bool) | np.eye(3, 6, 3, dtype=bool), "class")
    n = np.nan
    right = np.array([[0.9, n, n], [0.6, 0.8, n], [0.3, 0.9, 0.7]])
    found = answers.numbers(answers.Matrix(right, right + 0.1), told)
    assert found["average"] == pytest.approx(1.9 / 3) and found["told"] == pytest.approx(2.2 / 3)
    assert found["forgetting"] == pytest.approx((0.6 - 0.1) / 2)
    assert found["backward_transfer"] == pytest.approx((-0.6 + 0.1) / 2)
    assert np.isnan(found["forward_transfer"])
    full = np.array([[0.9, 0.5, 0.3], [0.6, 0.8, 0.4], [0.3, 0.9, 0.7]])
    domain = dataclasses.replace(told, scenario="domain")
    found = answers.numbers(answers.Matrix(full, full), domain)
    assert found["forward_transfer"] == pytest.approx((0.5 + 0.4) / 2 - 1 / 6)
    np.testing.assert_array_equal(told.allowed(1, np.array([0, 1]))[0], [1, 1, 0, 1, 1, 0])
    alone = dataclasses.replace(told, scenario="task").allowed(1, np.array([0, 1]))
    np.testing.assert_array_equal(alone, told.own[:2])


def test_a_reservoir_keeps_each_example_with_equal_chance():
    times = np.zeros(30)
    for seed in range(1500):
        kept = memory.plan(np.zeros(30, int), np.repeat([0, 1], 15), 2, 0, 6, "reservoir", seed, 0)
        assert len(set(kept[1])) == len(kept[1]) == 6
        times[kept[1]] += 1
    assert times.mean() == 300 and np.abs(times - 300).max() < 5 * np.sqrt(300 * 0.8)


def test_a_column_says_the_task_and_classes_may_come_again_in_another_domain(tmp_path, pictures):
    rows = [
        f"pictures/{name}/0-{n}.png,{name},{'later' if n % 2 else 'first'}"
        for name in SIX[:2]
        for n in range(14)
    ]
    listed = pictures.parent / "list.csv"
    listed.write_text("\n".join(["path,label,task", *rows]) + "\n")
    config = small_config(tmp_path, listed, tasks=("column",), scenario="domain")
    told = train.load(config).told
    assert told.names == ("first", "later") and told.own.all()
    with pytest.raises(InputError, match="class 'green' stands in the tasks 'first' and 'later'"):
        train.load(fields.replace(config, scenario="class"))
    # What is learned of the first domain holds in the second, before that is trained on.
    made = train.main(fields.replace(config, methods=("class means",)))
    matrix = pd.read_csv(made / "matrix.csv")
    assert len(matrix) == 4 and (matrix["accuracy"] > 0.9).all()
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["test"]["forward_transfer"] == pytest.approx(0.5) and metrics["test"]["forgetting"] == 0
    assert "forward transfer" in (made / "report.html").read_text()
    new = listed.with_name("new.csv")
    new.write_text("\n".join(["path,label", *(row.rpartition(",")[0] for row in rows)]) + "\n")
    changes = {"tasks": (), "methods": ("class means",), "continue_from": str(made)}
    later = fields.replace(config, data=str(new), **changes)
    told = loading.load(later).told
    assert told.names == ("first", "later", "new.csv") and told.before == 2 and told.own.all()


def test_a_run_goes_on_with_a_task_that_nobody_knew(run, pictures, tmp_path):
    new = draw(tmp_path / "new", ("pink", "cyan"))
    config = small_config(tmp_path, new, tasks=(), continue_from=str(run))
    later = train.main(config)
    metrics = json.loads((later / "metrics.json").read_text())
    assert metrics["classes"] == ["red", "green", "blue", "yellow", "cyan", "pink"]
    assert [one["name"] for one in metrics["tasks"]] == ["red, green", "blue, yellow", "cyan, pink"]
    assert metrics["test"]["accuracy"] > 0.9
    weights, kept, _ = memory.read(later, "streaming LDA")
    before, old, _ = memory.read(run, "streaming LDA")
    np.testing.assert_array_equal(kept["means"][:4], old["means"])
    assert (kept["counts"][4:] > 0).all() and weights[0].shape == (before[0].shape[0], 6)
    _, kept, _ = memory.read(later, "replay")
    assert np.bincount(kept["labels"]).tolist() == [2] * 6
    examples = loading.load(config)
    earlier = examples.manifest[examples.manifest["task"] != "cyan, pink"]
    assert len(earlier) == 56 and "train" not in set(earlier["split"])
    # What was known before is judged again: its rows are those of the first run.
    first, both = (pd.read_csv(one / "matrix.csv").query("after == 'blue, yellow'") for one in (run, later))
    first, both = (one.set_index(["method", "on"])["accuracy"] for one in (first, both))
    pd.testing.assert_series_equal(both.sort_index(), first.sort_index())
    assert pd.read_csv(later / "comparison.csv")["test_forgetting"].notna().all()
    for place, said in ((tmp_path, "no folder of a run"), (later, "has the class 'cyan', which")):
        with pytest.raises(InputError, match=said):
            loading.load(fields.replace(config, continue_from=str(place)))
    with pytest.raises(InputError, match="kept nothing for 'SI', but for replay, streaming_LDA"):
        loading.load(fields.replace(config, methods=("replay", "SI")))
    with pytest.raises(InputError, match="was trained with image_size=16"):
        loading.load(fields.replace(config, image_size=32))


def test_whose_task_is_told_answers_among_its_classes(tmp_path, pictures):
    config = small_config(
        tmp_path, pictures, scenario="task", tasks=("red green", "blue yellow"), methods=("class means",)
    )
    made = train.main(config)
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["test"]["average"] == metrics["test"]["told"] and metrics["scenario"] == "task"
    found = pd.concat(train.predict(made, [pictures / "red"]))
    assert set(found["if blue, yellow"]) <= {"blue", "yellow"}
    assert (found["if red, green"] == "red").mean() > 0.9


def test_a_finished_run_is_judged_on_other_pictures_and_compared(run, pictures, tmp_path):
    others = draw(tmp_path / "others", ("red", "blue"), count=5, start=9)
    found = evaluate.run(train, Config, run, str(others), tmp_path / "out")
    assert found.metrics["accuracy"] > 0.9 and found.metrics["examples"] == 10
    with pytest.raises(InputError, match="does not know the class 'pink'"):
        evaluate.run(train, Config, run, str(draw(tmp_path / "pink", ("red", "pink"))))
    changes = {"scenario": "task", "methods": ("class means",), "tasks": ("red blue", "green yellow")}
    told = train.main(small_config(tmp_path, pictures, **changes))
    found = evaluate.run(train, Config, told, str(others), tmp_path / "told")
    predictions = pd.read_csv(tmp_path / "told" / "predictions.csv")
    assert found.metrics["accuracy"] > 0.9 and (predictions[["p:green", "p:yellow"]] == 0).all(axis=None)
    assert compare.run([run, told], tmp_path / "compared").is_file()


def test_the_data_of_before_may_be_gone(tmp_path):
    old = draw(tmp_path / "old", SIX[:4])
    first = train.main(small_config(tmp_path, old, tasks=("1",), methods=("class means",)))
    old.rename(tmp_path / "moved")
    new = draw(tmp_path / "new", SIX[4:])
    config = small_config(
        tmp_path,
        new,
        tasks=(),
        methods=("class means",),
        continue_from=str(first),
        run_dir=str(tmp_path / "2"),
    )
    later = train.main(config)
    assert pd.read_csv(later / "problems.csv")["message"].str.contains("cannot be read").sum() == 1
    assert set(pd.read_csv(later / "matrix.csv")["on"]) == {"cyan, pink"}
    assert json.loads((later / "metrics.json").read_text())["test"]["examples"] == 8
