"""Flags, files and mistakes: every wrong value is one line that says what to do."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from tyro.conf import OmitArgPrefixes

from runner import fields, flags, stage
from runner.data import source
from runner.errors import DivergenceError, InputError, LedgerError, suggest
from runner.machine import Machine
from runner.stage import Stage

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Config:
    """A small one."""

    data: str = "digits"
    image_size: int = 64
    labels_per_class: int | Literal["all", "auto"] | None = "auto"
    flip: bool = False
    stages: tuple[Stage, ...] = (Stage("head"), Stage("all", train="all"))
    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self):
        fields.check_types(self)
        stage.check_stages(self.stages)


def test_every_field_is_a_flag():
    parsed = flags.parse(
        Config,
        [
            "--data",
            "x",
            "--image-size",
            "3",
            "--labels-per-class",
            "None",
            "--flip",
            "--stages.1.epochs",
            "7",
            "--stages.0.schedule",
            "cosine",
            "--seed",
            "5",
            "--deterministic",
        ],
    )
    assert parsed == Config(
        "x",
        3,
        None,
        True,
        (Stage("head", schedule="cosine"), Stage("all", train="all", epochs=7)),
        Machine(seed=5, deterministic=True),
    )


def test_a_saved_record_reads_back_equal_and_flags_override_it(tmp_path):
    made = Config(image_size=5, stages=(Stage("only", train="top:2", patience=3),), machine=Machine(seed=3))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields.to_dict(made)))
    assert fields.load(path, Config) == made
    path.write_bytes(path.read_text(encoding="utf-8").encode("utf-8-sig"))  # as Windows' editors save it
    assert fields.load(path, Config) == made
    assert flags.parse(Config, ["--config", str(path)]) == made
    changed = flags.parse(Config, [f"--config={path}", "--stages.0.epochs", "2", "--image-size", "6"])
    assert (changed.image_size, changed.stages[0].epochs, changed.stages[0].patience) == (6, 2, 3)
    assert changed.machine == Machine(seed=3)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("templates/*/config.py")))
def test_how_many_examples_is_a_number_or_a_word_and_old_records_still_say_all(name):
    kind = importlib.import_module(f"templates.{name}.config").Config
    fields_of_few = ("labels_per_class", "train_examples", "train_rows", "train_characters")
    field = next((name for name in fields_of_few if hasattr(kind(), name)), "")
    if not field:  # classes are divided there, and all of their pictures taken
        assert name in ("few_shot", "self_supervised")
        return
    flag = f"--{field.replace('_', '-')}"
    for word, value in (("all", "all"), ("7", 7), ("None", None)):
        assert getattr(flags.parse(kind, [flag, word]), field) == value
    assert source.amount(getattr(fields.from_dict({field: None}, kind), field), "digits_in_photos") is None
    with pytest.raises(InputError, match=f"{field}=0 cannot be used; give all or at least 1"):
        fields.from_dict({field: 0}, kind)
    with pytest.raises(InputError, match="'every' is not a whole number or"):
        fields.from_dict({field: "every"}, kind)


def test_few_labels_are_the_default_of_what_comes_along_alone(tmp_path):
    kind = importlib.import_module("templates.image_classification.config").Config
    asked = kind().labels_per_class
    assert source.amount(asked, "digits_in_photos") == 20
    for own in (str(tmp_path), "photos.csv", "tfds:digits"):
        assert source.amount(asked, own) is None and source.amount(5, own) == 5
    assert source.amount("all", "digits_in_photos") is None


def test_a_record_is_flat_and_fields_within_go_by_their_own_names():
    made = fields.replace(Config(), seed=4, image_size=7)
    assert made == Config(image_size=7, machine=Machine(seed=4))
    record = fields.to_dict(made)
    assert list(record) == fields.names(Config) and record["seed"] == 4 and "machine" not in record
    assert list(record)[-13:] == ["stages", *(field.name for field in dataclasses.fields(Machine))]
    with pytest.raises(InputError, match="'sed' is not a field of Config.*Did you mean 'seed'"):
        fields.from_dict({"sed": 3}, Config)
    with pytest.raises(InputError, match="seed=-1 cannot be used"):
        fields.from_dict({"seed": -1}, Config)


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--imge-size", "3"], "Perhaps you meant: --image-size"),
        (["--image-size", "three"], "--image-size"),
        (["--image-size"], "Missing value for argument '--image-size'"),
        (
            ["--stages.0.epochs", "0"],
            "stage 'head': epochs=0 cannot be used; give a whole number of at least 1",
        ),
        (["--stages.0.learning-rate", "-1"], "learning_rate=-1.0"),
        (["--stages.0.learning-rate", "nan"], "learning_rate=nan"),
        (["--stages.0.schedule", "linear"], "'constant', 'cosine', 'one_cycle'"),
        (["--stages.0.train", "top:0"], "top:N"),
        (["--stages.0.train", "al"], "Did you mean 'all'"),
        (["--stages.1.name", "head"], "two stages are called 'head'"),
        (["--stages.0.train", "lora"], "lora:RANK"),
        (["--stages.0.train", "lora:0"], "lora:RANK"),
        (["--stages.0.train", "lora:4", "--stages.1.train", "lora:8"], "LoRA of the ranks 4, 8"),
        (["--stages.0.train", "lora:4"], "train kernels that LoRA adds to"),
        (["--stages.0.layer-decay", "1.5"], "layer_decay=1.5"),
        (["--stages.0.patience", "0"], "patience=0"),
        (["--stages.0.warmup", "0.1"], "no effect with schedule='constant'"),
        (["--stages.5.epochs", "3"], "stages.5.epochs"),
        (["--steps-per-execution", "0"], "steps_per_execution=0 cannot be used; give at least 1"),
        (["--strategy", "gpus"], "'mirrored'"),
        (["photos"], "Unrecognized options: photos"),
        (["--config"], "needs the path"),
        (["--config", "nowhere.json"], "No such file"),
    ],
)
def test_wrong_flags_are_one_line_that_says_what_to_do(arguments, part):
    with pytest.raises(InputError) as caught:
        flags.parse(Config, arguments)
    assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, part",
    [
        ("{", "not valid JSON at line 1"),
        ("[1]", "expected a JSON object"),
        ('{"imagesize": 3}', "Did you mean 'image_size'"),
        ('{"image_size": "3"}', "image_size = '3' is not a whole number"),
        ('{"image_size": true}', "is not a whole number"),
        ('{"flip": 1}', "is not True or False"),
        ('{"stages": [{"train": "all"}]}', "missing 1 required positional argument: 'name'"),
        ('{"stages": "all"}', "is not a tuple of Stage"),
        ('{"stages": []}', "no stages were given"),
        ('{"stages": [{"name": "x", "epoch": 3}]}', "stages[0]: 'epoch' is not a field of Stage"),
    ],
)
def test_wrong_files_are_one_line_that_names_the_field(tmp_path, text, part):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        fields.load(path, Config)
    assert part in str(caught.value)


def test_an_input_error_ends_a_command_with_one_line_and_code_2(capsys):
    def main(parsed):
        raise InputError("received a,\nallowed b, do c.")

    with pytest.raises(SystemExit) as stop:
        flags.run(main, Config, [])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: received a, allowed b, do c.\n"


@pytest.mark.parametrize("kind", [LedgerError, DivergenceError])
def test_a_run_that_went_wrong_ends_a_command_with_one_line_and_code_1(kind, capsys):
    with pytest.raises(SystemExit) as stop, flags.exit_on_input_error():
        raise kind("stage 'head': block1 moved though it is frozen.")
    assert stop.value.code == 1 and capsys.readouterr().err.startswith("error: stage 'head'")


def test_suggest_finds_the_near_name_only():
    assert suggest("resnet5O", ["ResNet50", "VGG16"]) == " Did you mean 'ResNet50'?"
    assert suggest("zzz", ["ResNet50", "VGG16"]) == ""


TEMPLATES = sorted(path.parent.name for path in (ROOT / "templates").glob("*/config.py"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_field_of_a_template_is_a_dead_knob(name):
    """Each Config field is read somewhere outside its own definition and check."""
    readers = [path for path in (ROOT / "templates" / name).glob("*.py") if path.name != "config.py"]
    # These take a whole Config, or its machine.
    whole = ("devices/strategy.py", "training/baselines.py", "runs/run.py")
    code = "".join(path.read_text() for path in (*readers, *(ROOT / "runner" / one for one in whole)))
    for field in dataclasses.fields(importlib.import_module(f"templates.{name}.config").Config):
        assert re.search(rf"\bconfig\.{field.name}\b", code), f"nothing reads Config.{field.name}"
    for field in dataclasses.fields(Machine):
        assert re.search(rf"\bmachine\.{field.name}\b", code), f"nothing reads Machine.{field.name}"


def test_no_field_of_a_stage_is_a_dead_knob():
    readers = "".join(
        path.read_text() for wing in ("moving", "training") for path in (ROOT / "runner" / wing).glob("*.py")
    )
    for field in dataclasses.fields(Stage):
        assert f"stage.{field.name}" in readers, f"nothing reads Stage.{field.name}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_help_of_a_template_answers_without_tensorflow(name):
    code = (
        "import sys, runpy; sys.argv = ['train', '--help']\n"
        f"try: runpy.run_module('templates.{name}.train', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print('CODE', stop.code, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert any(f"--{one}" in answer.stdout for one in ("image-size", "length", "label", "treatment")), (
        answer.stderr
    )
    assert "CODE 0 False False" in answer.stdout


def test_what_is_no_stage_is_named():
    with pytest.raises(InputError, match="stages holds 'x', which is no Stage"):
        stage.check_stages("x")


@pytest.mark.parametrize("template", ["image_classification", "tabular", "text_classification"])
@pytest.mark.parametrize(
    "asked", ["specificity:0.95", "sensitivity:.9", "specificity:95", "recall:0.9", "yuden"]
)
def test_a_share_to_be_reached_is_one_or_is_answered(template, asked):
    own = importlib.import_module(f"templates.{template}.config").Config
    if asked in ("specificity:0.95", "sensitivity:.9"):
        assert own(operating_point=asked).operating_point == asked
    else:
        with pytest.raises(
            InputError, match="operating_point=.* cannot be used; give youden, f1, or what is to"
        ):
            own(operating_point=asked)
