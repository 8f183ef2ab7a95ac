"""The study: what is drawn, what a kill changes (nothing), what is pruned, which mistakes are answered."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.stage import Stage
from runner.training import monitor
from runner.tuning import search, trials
from runner.tuning.space import Choice, LogUniform, Space
from tests.rows.config import Config

SPACE = Space({"stages.0.learning_rate": LogUniform(1e-4, 1e-1), "batch_size": Choice((16, 32, 64))})


@pytest.fixture(autouse=True)
def nothing_to_clear(monkeypatch):
    monkeypatch.setattr(trials.keras.utils, "clear_session", lambda: None)


def job(kind="random", **changes):
    config = Config(stages=(Stage("head", epochs=8),), machine=Machine(seed=changes.pop("seed", 0)))
    return search.Job("tests.rows", config, changes.pop("space", SPACE), kind, **changes)


def studied(given, folder, name="study"):
    folder.mkdir(exist_ok=True)
    return search.open_study(given, {"search": given.search}, name, f"sqlite:///{folder / 'study.db'}")


def fake(kills=()):
    """A template whose loss is known, and which is killed at these calls: before, within or after a trial."""
    calls = iter(range(1000))

    def main(config):
        call = next(calls)
        place = Path(config.machine.run_dir)
        value = abs(config.stages[0].rate - 0.01) + config.batch_size / 1000
        for epoch in range(1, 9):
            monitor.tell(epoch, value + 1 / epoch)
            if kills and call in kills and epoch == kills[call]:
                raise KeyboardInterrupt
        place.mkdir(exist_ok=True)
        validation = {"monitor": value, "accuracy": 1 - value, "loss": value}
        (place / "metrics.json").write_text(json.dumps({"validation": validation}))
        if kills and kills.get(call) == 9:
            raise KeyboardInterrupt

    return SimpleNamespace(main=main)


def rows(study, given):
    table = search.table(study, given).drop(columns="seconds")
    return json.loads(table.to_json(orient="records"))


@pytest.mark.parametrize("kind", search.SEARCHES)
def test_a_search_that_is_killed_ends_as_one_that_is_not(tmp_path, kind, capsys):
    given = job(kind)
    whole = studied(given, tmp_path / "whole")
    most = 7
    search.work(whole, given, tmp_path / "whole", fake(), most)
    expected = rows(whole, given)
    assert len(expected) == most and {row["state"] for row in expected} == {"complete", "pruned"}
    cut = fake({0: 1, 1: 9, 3: 1, 5: 1, 7: 1})
    killed = 0
    while True:
        study = studied(given, tmp_path / "cut")
        try:
            search.work(study, given, tmp_path / "cut", cut, most)
            break
        except KeyboardInterrupt:
            killed += 1
            assert sum(row["state"] == "running" for row in rows(study, given)) == 1
    assert killed >= 3
    for ours, theirs in zip(rows(study, given), expected, strict=True):
        assert ours == theirs
    assert "best 0.0" in capsys.readouterr().out


def test_seeds_and_searches_draw_something_else(tmp_path):
    def drawn(given, name):
        study = studied(given, tmp_path / name)
        search.work(study, given, tmp_path / name, fake(), 5)
        return [tuple(one.params.values()) for one in study.get_trials()]

    first = drawn(job(prune=False), "first")
    assert len(set(first)) == 5
    assert first != drawn(job(seed=1, prune=False), "other")
    grid = drawn(job("grid", prune=False), "grid")
    assert {one[0] for one in grid} <= set(LogUniform(1e-4, 1e-1).grid(3)) and len(set(grid)) == 5


def test_workers_share_a_study_and_take_no_trial_twice(tmp_path):
    own = Space(SPACE.ranges, objective="loss", direction="minimize")  # nobody listens within another's trial
    given, folder = job(space=own), tmp_path / "study"
    studies = [studied(given, folder) for _ in range(2)]
    inner = fake()

    def main(config):  # while the first is at a trial, the second takes others
        if Path(config.machine.run_dir).name == "trial_0001":
            search.work(studies[1], given, folder, inner, 4)
        inner.main(config)

    search.work(studies[0], given, folder, SimpleNamespace(main=main), 6)
    found = rows(studied(given, folder), given)
    assert [row["state"] for row in found] == ["complete"] * 6
    alone = studied(given, tmp_path / "alone")
    search.work(alone, given, tmp_path / "alone", fake(), 6)
    assert rows(alone, given) == found  # at random: what is drawn follows from the number alone


def test_pruning_stops_what_is_behind_and_never_the_last_epoch(tmp_path):
    given = job("grid")
    study = studied(given, tmp_path / "study")
    search.work(study, given, tmp_path / "study", fake(), 9)
    table = search.table(study, given)
    stopped = table[table["state"] == "pruned"]
    assert set(stopped["epochs"]) <= {2, 4} and len(stopped)  # a quarter and half of 8 epochs
    assert table.loc[table["state"] == "complete", "epochs"].eq(8).all()
    best = search.finished(study, given)[0]
    assert best.value == pytest.approx(table["val_loss"].min()) and best.params["batch_size"] == 16
    own = Space(SPACE.ranges, objective="accuracy", direction="maximize")
    given = job(space=own)
    study = studied(given, tmp_path / "own")
    search.work(study, given, tmp_path / "own", fake(), 4)
    assert given.direction == "maximize" and set(search.table(study, given)["state"]) == {"complete"}


def test_a_trial_that_fails_is_recorded_and_the_next_one_runs(tmp_path, capsys):
    def main(config):
        if config.batch_size == 16:
            raise InputError("batch_size=16 does not fit")
        fake().main(config)

    space = Space({"batch_size": Choice((16, 32)), "scratch_learning_rate": Choice((-1.0, 1.0))})
    given = job("grid", space=space, prune=False)
    study = studied(given, tmp_path / "study")
    search.work(study, given, tmp_path / "study", SimpleNamespace(main=main), 4)
    table = search.table(study, given)
    assert sorted(table["state"]) == ["complete"] * 2 + ["failed"] * 2
    assert table.loc[table["state"] == "failed", "reason"].str.contains("does not fit").all()
    assert "failed: InputError: batch_size=16 does not fit" in capsys.readouterr().out


def test_another_study_or_database_is_answered(tmp_path):
    given = job()
    studied(given, tmp_path)
    with pytest.raises(InputError, match="began with search 'random'.*another --study"):
        studied(job("grid"), tmp_path)
    for url in ("nonsense", "postgresql://me:secret@127.0.0.1:1/none", "sqlite:////nowhere/at/all.db"):
        with pytest.raises(InputError, match="--storage .* cannot be used") as caught:
            search.open_study(given, {}, "study", url)
        assert "secret" not in str(caught.value)


def test_which_way_is_better(tmp_path):
    def of(monitor):
        config = SimpleNamespace(monitor=monitor, machine=Machine(), stages=())
        return search.Job("t", config, SPACE).direction

    assert (of("val_loss"), of("val_accuracy"), of("val_f1")) == ("minimize", "maximize", "maximize")
    with pytest.raises(InputError, match="nothing says which way val_tokens is better"):
        assert of("val_tokens")
    assert job().objective == "val_loss"  # of a Config that does not say
    assert fields.names(Config)
