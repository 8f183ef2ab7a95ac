"""Ranges as data: what they hold, where they go in a Config, and how they are written on the command line."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from tyro.conf import OmitArgPrefixes

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.stage import Stage
from runner.tuning import space
from runner.tuning.space import Choice, Integers, LogUniform, Space, Uniform

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Config:
    backbone: str = "small"
    weights: str = "none"
    dropout: float = 0.1
    batch_size: int = 8
    solve_head: bool = False
    augment: Literal["none", "light"] = "light"
    patience: int | None = None
    stages: tuple[Stage, ...] = (Stage("head"), Stage("all", train="all"))
    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self):
        fields.check_types(self)
        fields.check_fields(self)


def test_values_of_a_grid():
    assert LogUniform(1e-3, 1e-1).grid(3) == pytest.approx([1e-3, 1e-2, 1e-1])
    assert LogUniform(1e-4, 1e-2).grid(1) == pytest.approx([1e-3])
    assert Uniform(0.0, 0.5).grid(3) == [0.0, 0.25, 0.5] and Uniform(0, 1).grid(1) == [0.5]
    assert Integers(2, 12).grid(3) == [2, 7, 12] and Integers(1, 2).grid(5) == [1, 2]
    assert Choice(("a", None)).grid(1) == ["a", None] and Choice({"x": (1, 2)}).value("x") == (1, 2)


def test_a_grid_is_all_combinations_in_an_order_of_the_seed():
    ranges = {"dropout": Uniform(0.0, 0.5), "augment": Choice(("none", "light"))}
    found = space.points(ranges, 3, 0)
    assert len(found) == len({tuple(one.values()) for one in found}) == 6
    assert found == space.points(ranges, 3, 0) and found != space.points(ranges, 3, 1)
    with pytest.raises(InputError, match="the grid has 1,000,000 points.*--fix"):
        space.points({name: Uniform(0, 1) for name in "abcdef"}, 10, 0)


def test_what_is_chosen_goes_to_its_field():
    one = (Stage("only", epochs=4),)
    ranges = {
        "stages.0.learning_rate": LogUniform(1e-3, 1e-1),
        "stages": Choice({"one": one, "two": (Stage("a"), Stage("b"))}),
        "backbone weights": Choice({"large": ("large", "imagenet")}),
        "seed": Integers(0, 9),
    }
    chosen = {"stages.0.learning_rate": 0.02, "stages": "one", "backbone weights": "large", "seed": 3}
    found = space.apply(Config(), ranges, chosen)
    assert (found.backbone, found.weights, found.machine.seed) == ("large", "imagenet", 3)
    assert found.stages == (
        Stage("only", epochs=4, learning_rate=0.02),
    )  # the list first, then what lies in it


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"droput": Uniform(0, 0.5)}, "'droput' is not a field of Config.*Did you mean 'dropout'"),
        ({"stages.0.rate": Uniform(0, 1)}, "'rate' is not a field of stages; they have name, train"),
        (
            {"stages.2.epochs": Integers(1, 3)},
            "there are 2 stages, from 0; leave it out with --fix stages.2.ep",
        ),
        ({"stages.first.epochs": Integers(1, 3)}, "is no field; a path within a list reads stages.0.learn"),
        ({"dropout": Uniform(0.0, 1.5)}, "dropout=1.5 cannot be used; give a share"),
        ({"batch_size": Uniform(8, 16)}, "batch_size = 8 is not|batch_size = 8.0 is not a whole number"),
        ({"augment": Choice(("light", "heavy"))}, "augment = 'heavy' is not one of 'none', 'light'"),
        ({"stages.0.epochs": Integers(0, 3)}, "stage 'head': epochs=0 cannot be used"),
        ({"dropout": Uniform(0.5, 0.1)}, "is no range; give a lower end below the upper one"),
        ({"dropout": LogUniform(0.0, 0.1)}, "above 0 where it is logarithmic"),
        ({"dropout": Choice(())}, "is no range"),
        ({"backbone weights": Choice({"x": "y"})}, "for several fields each a tuple of as many"),
        ({}, "nothing is left to search"),
    ],
)
def test_a_range_that_does_not_fit_is_answered_before_anything_runs(ranges, message):
    with pytest.raises(InputError, match=f"^space: .*({message})"):
        space.check(Space(ranges), Config())


def test_ranges_as_they_are_written():
    def parsed(text):
        return space.parse(text, Config())

    assert parsed("dropout=0..0.5") == ("dropout", Uniform(0.0, 0.5))
    assert parsed("batch_size=8..64") == ("batch_size", Integers(8, 64))
    assert parsed("seed=0..9") == ("seed", Integers(0, 9))
    assert parsed("stages.0.learning_rate=1e-4..1e-1:log") == (
        "stages.0.learning_rate",
        LogUniform(1e-4, 1e-1),
    )
    assert parsed("batch_size=16,32")[1] == Choice((16, 32))
    assert parsed("dropout=0,0.5")[1] == Choice((0, 0.5))
    assert parsed("augment=none,light")[1] == Choice(("none", "light"))
    assert parsed("solve_head=True,false")[1] == Choice((True, False))
    assert parsed("patience=None,3")[1] == Choice((None, 3))
    assert parsed("stages.1.train=top:2,all")[1] == Choice(("top:2", "all"))
    for wrong in ("dropout", "dropout=", "=1..2", "dropout=low..high"):
        with pytest.raises(InputError, match=f"^--space {wrong}: "):
            parsed(wrong)


def test_what_is_fixed_leaves_the_space():
    whole = Space({"stages": Choice({}), "stages.0.epochs": Integers(1, 2), "a b": Choice(())}, "infomax")
    assert list(space.without(whole, ["stages.0.epochs"]).ranges) == ["a b"]  # a part of what is chosen
    assert list(space.without(whole, ["b"]).ranges) == ["stages", "stages.0.epochs"]
    assert space.without(whole, ["b"]).objective == "infomax"
    assert space.without(whole, ["other"], known=False) == whole
    with pytest.raises(InputError, match=r"--fix stage: the space has stages.*Did you mean 'stages'"):
        space.without(whole, ["stage"])
    given = ["--stages.0.learning-rate", "1", "--no-flip", "--batch-size=4", "x"]
    assert {"stages.0.learning_rate", "flip", "batch_size"} <= set(space.named_by(given))


def test_a_space_is_read_without_what_takes_seconds():
    code = (
        "import sys; import templates.image_classification.space; "
        "print({'tensorflow', 'keras', 'optuna', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
