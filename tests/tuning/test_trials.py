"""One trial: it stops at validation, opens no test, and whatever ends it is told."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from runner import fields
from runner.data.sealed import Sealed
from runner.errors import DivergenceError, InputError
from runner.machine import Machine
from runner.training import monitor
from runner.tuning import trials
from tests.rows import train
from tests.rows.config import Config


def config(place, **changes):
    return trials.config_of(fields.replace(Config(machine=Machine()), **changes), place)


def ends_by(error):
    def main(config):
        raise error

    return SimpleNamespace(main=main)


def test_a_trial_that_opens_the_test_fails(tmp_path, monkeypatch):
    test = Sealed(tf.data.Dataset.range(3))
    test.open(None, "before the search")

    def opens(run, examples, networks, fits):
        run.save_network(networks["staged"])
        list(run.open_test(examples, networks))

    monkeypatch.setattr(train, "judge_and_report", opens)
    told = []
    place = tmp_path / "trial"
    found = trials.run(train, config(place), "monitor", lambda *one: told.append(one), tmp_path / "log")
    assert found.state == "failed" and "the test split stays closed" in found.reason
    assert not (place / "test_readings.csv").exists() and not (place / "checkpoints").exists()
    assert [epoch for epoch, _ in told] == list(range(1, 9))
    for reads in (lambda: next(iter(test)), lambda: test.open(None, "directly, past the run")):
        found = trials.run(
            SimpleNamespace(main=lambda config, reads=reads: reads()),
            config(place), "monitor", None, tmp_path / "log"
        )  # fmt: skip
        assert found.state == "failed" and "this is a trial of a search" in found.reason
    assert len(list(test)) == 3  # after the trials as before


def test_a_trial_is_the_run_that_it_would_be_alone(tmp_path):
    """To the bit, whatever ran in the process before; and the objective is what the run says of itself."""
    alone = train.main(config(tmp_path / "alone", batch_size=64))
    told = {}
    found = trials.run(
        train, config(tmp_path / "trial", batch_size=64), "monitor", told.__setitem__, tmp_path / "log"
    )
    assert found.state == "complete" and "the test was not opened" in (tmp_path / "log").read_text()
    networks = [
        train.keras.models.load_model(place / "model.keras", compile=False)
        for place in (alone, tmp_path / "trial")
    ]
    for ours, theirs in zip(*(one.get_weights() for one in networks), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    recorded = json.loads((alone / "metrics.json").read_text())["validation"]
    assert found.value == recorded["monitor"] == trials.value_of(alone, "monitor")
    assert list(told) == list(range(1, 9))
    values = list(told.values())
    assert values == sorted(values, reverse=True)  # of what would be handed on: it never becomes worse
    with pytest.raises(InputError, match="infomax is None on validation; there is accuracy, loss|monitor"):
        trials.value_of(alone, "infomax")
    again = trials.run(ends_by(AssertionError), config(tmp_path / "trial"), "monitor", None, tmp_path / "log")
    assert again.value == found.value  # killed after its end: nothing runs anew


def test_what_ends_a_trial_is_told(tmp_path):
    def ended(error):
        return trials.run(ends_by(error), config(tmp_path / "t"), "monitor", None, tmp_path / "log")

    for error in (
        InputError("no"),
        DivergenceError("loss became nan"),
        MemoryError("too large"),
        KeyError("x"),
    ):
        found = ended(error)
        assert found.state == "failed" and type(error).__name__ in found.reason and found.value is None
    assert ended(trials.Pruned()).state == "pruned"
    for error in (KeyboardInterrupt(), SystemExit(143), OSError(28, "No space left on device")):
        with pytest.raises(type(error)):
            ended(error)
    full = InputError("No space left on device")
    full.__cause__ = OSError(28, "No space left on device")
    with pytest.raises(
        InputError
    ):  # of the system, not of the settings: the search would fail trial by trial
        ended(full)
    monitor.tell(1, 0.5)  # nobody listens any more
