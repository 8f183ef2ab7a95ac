"""`python -m runner`: quick, and every mistake is answered in one line."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import __main__ as command_line
from runner.errors import InputError
from runner.networks import backbones

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = (
    "new",
    "backbones",
    "doctor",
    "launch",
    "predict",
    "evaluate",
    "compare",
    "shift",
    "tune",
    "seeds",
    "rank",
    "export",
)
LAUNCH = ["launch", "--workers", "1", "-m", "platform"]


def run(*arguments, folder=REPOSITORY):
    command = [sys.executable, "-m", "runner", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def imported_by(*arguments) -> set[str]:
    """The modules that a command imports, seen from a process of its own."""
    code = (
        "import contextlib, io, sys\n"
        "from runner import __main__\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    __main__.main({list(arguments)!r})\n"
        "print(*sys.modules)"
    )
    return set(subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True).split())


@pytest.mark.parametrize("arguments", [["--help"], ["new", "--help"], ["backbones"], LAUNCH])
def test_light_commands_import_nothing_heavy(arguments):
    heavy = {
        "tensorflow",
        "keras",
        "keras_cv",
        "tensorflow_datasets",
        "pandas",
        "sklearn",
        "matplotlib",
        "numpy",
    }
    assert not imported_by(*arguments) & (heavy | {"cookiecutter", "jinja2", "tyro"})


def test_help_answers_within_a_second():
    def seconds():
        start = time.perf_counter()
        assert run("--help").returncode == 0
        return time.perf_counter() - start

    # The best of three: the machine may be busy with something else.
    assert min(seconds() for _ in range(3)) < 1


def test_help_lists_exactly_the_commands_that_there_are():
    listed = run("--help").stdout
    for command in COMMANDS:
        assert f"\n    {command}" in listed
        assert run(command, "--help").returncode == 0
    assert command_line.parser().commands == COMMANDS
    assert run().stdout == listed


def test_new_is_listed_only_where_there_are_templates(tmp_path):
    assert command_line.parser(tmp_path).commands == COMMANDS[1:]


def test_backbones_prints_a_row_for_each_family():
    lines = run("backbones").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*backbones.BACKBONES, "SmallConv"]
    assert lines[0].split()[0] == "backbone"
    assert "14,714,688" in lines[1]


def test_doctor_returns_the_exit_code_of_the_check(capsys):
    import tensorflow as tf

    assert command_line.main(["doctor"]) == 0
    assert command_line.main(["doctor", "--gpu"]) == (0 if tf.config.list_physical_devices("GPU") else 1)
    assert capsys.readouterr().out.count("auto would use") == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nwe"], "Did you mean 'new'?"),
        (["--nonsense"], "--nonsense"),
        (["new"], "TEMPLATE, DEST"),
        (["new", "image_classification"], "DEST"),
        (["new", "image_clasification", "somewhere"], "Did you mean 'image_classification'?"),
        (["new", "image_classification", "somewhere", "--backbone", "ResNet51"], "Did you mean 'ResNet50'?"),
        (["new", "image_classification", "somewhere", "--data", "no/such/folder"], "no/such/folder"),
        (["new", "image_classification", "somewhere", "--bakcbone", "ResNet50"], "--bakcbone"),
        (["new", "image_classification", "two words"], "for example 'two_words'"),
        (["backbones", "more"], "more"),
    ],
)
def test_a_mistake_is_one_line_that_helps(arguments, expected):
    with pytest.raises(InputError) as error:
        command_line.main(arguments)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("somewhere").exists()


def test_a_mistake_ends_with_exit_code_2_and_no_traceback(tmp_path):
    result = run("new", "image_clasification", tmp_path / "somewhere")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert not list(tmp_path.iterdir())
