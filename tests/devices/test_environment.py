"""What a result depends on: the command as it can be given again."""

import shlex
import sys

import pytest

from runner.devices import environment


@pytest.mark.parametrize(
    "argument", ["~/my photos", "it's", "a;b", "$HOME", '"quoted"', "", "*.png", "plain"]
)
def test_a_recorded_command_can_be_given_again(monkeypatch, argument):
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "--data", argument])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert shlex.split(environment.describe()["command"]) == ["python", "train.py", "--data", argument]
