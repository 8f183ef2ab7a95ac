"""What is the same in every template: files, functions and their order, baselines, the files of a run."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

from runner.machine import Machine
from runner.training import baselines
from runner.tuning import space as spaces

TEMPLATES = sorted(path.parent for path in (Path(__file__).parents[1] / "templates").glob("*/config.py"))
FILES = {
    "README.md",
    "__init__.py",
    "config.py",
    "space.py",
    "model.py",
    "train.py",
    "sections.py",
    "explore.ipynb",
    "requirements.txt",
    "test_template.py",
}
FUNCTIONS = ["load", "fit", "judge", "tables", "predict", "main", "judge_and_report"]
ARGUMENTS = {
    "load": ["config"],
    "fit": ["config", "examples", "name", "checkpoints"],
    "judge": ["config", "networks", "split"],
    "tables": ["judged", "examples"],
    "predict": ["run", "inputs"],
    "main": ["config"],
    "judge_and_report": ["run", "examples", "networks", "fits"],
}
"""The first arguments of each; two domains are what `examples` are elsewhere."""

pytestmark = pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)


def module(template: Path, name: str):
    return importlib.import_module(f"templates.{template.name}.{name}")


def test_the_same_files(template):
    there = {path.name for path in template.iterdir() if path.is_file()}
    assert there >= FILES
    assert all(name.endswith(".py") for name in there - FILES)


def test_the_same_functions_in_the_same_order(template):
    tree = ast.parse((template / "train.py").read_text())
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [name for name in defined if name in FUNCTIONS] == FUNCTIONS
    train = module(template, "train")
    for name, expected in ARGUMENTS.items():
        received = list(inspect.signature(getattr(train, name)).parameters)
        assert [one.replace("domains", "examples") for one in received[: len(expected)]] == expected, name
    for name in ("sections", "card", "question"):
        assert callable(getattr(module(template, "sections"), name))
    assert len((template / "train.py").read_text().splitlines()) <= 260


def test_without_the_test_it_stops_before_the_test_is_opened(template):
    end = (template / "train.py").read_text().partition("def judge_and_report(")[2]
    before, opens, _ = end.partition("run.open_test(")
    assert opens and "if not config.machine.test:" in before and "return run.stop_at_validation(" in before


def test_one_machine_and_the_same_baselines(template):
    config = module(template, "config").Config()
    assert config.machine == Machine()
    own = {field.name for field in dataclasses.fields(config)}
    assert not own & {field.name for field in dataclasses.fields(Machine)}
    # What compares methods that are told in its Config adds to them what starts from nothing.
    arms = baselines.from_scratch(config) if hasattr(config, "methods") else baselines.methods(config)
    names = baselines.NAMES[:1] if hasattr(config, "methods") else baselines.NAMES
    assert config.baselines and tuple(dict.fromkeys(map(baselines.called, arms))) == names


def test_its_space_fits_its_config(template):
    config, space = module(template, "config").Config(), module(template, "space").SPACE
    spaces.check(space, config)
    assert len(spaces.points(space.ranges, 2, 0)) > 1
    monitor = getattr(config, "monitor", "val_loss")
    assert space.direction != "auto" or monitor.endswith(("loss", "accuracy", "f1"))


def test_its_own_test_compares_the_files_of_a_run_with_those_of_all(template):
    text = (template / "test_template.py").read_text()
    assert "for path in run.iterdir()} == folder.FILES" in text
    assert '"could not be" not in (run / "report.html").read_text()' in text  # no part of it failed
