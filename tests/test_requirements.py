"""requirements/: each template is told all that it needs and nothing else."""

import ast
import functools
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest

from runner import new

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
# Imported where they happen to be there, or asked for by a message when they are wanted.
OPTIONAL = {"IPython", "mlflow", "onnxruntime", "optuna", "pillow_heif", "tf2onnx", "pytest"}
# Imported by a library that does not declare it, or by which it is wanted for what is done with it here.
UNDECLARED = {"importlib_resources", "safetensors", "tensorflow_text"}


def listed(path: Path, included: bool = True) -> list[str]:
    """The names of the packages that a file asks for, with those of the files that it includes."""
    names = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if include := re.fullmatch(r"-r (\S+)", line):
            names += listed(path.parent / include[1]) if included else []
        elif package := re.match(r"[\w-]+", line):
            names.append(package[0])
    return names


@functools.cache
def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere, by its full name; `from a import b` gives a and a.b."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(source) for source in cells)
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def libraries(paths) -> set[str]:
    """The libraries that files import, and the modules of the runner that they import, and so on."""
    unread, read, found = list(paths), set(), set()
    while unread:
        path = unread.pop()
        if path in read:
            continue
        read.add(path)
        for name in imported(path):
            top, *rest = name.split(".")
            if top == "runner":
                module = REPOSITORY.joinpath("runner", *rest)
                unread += [
                    file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()
                ]
            elif top not in sys.stdlib_module_names | {"templates"}:
                found.add(top)
    return found - OPTIONAL


brought_by = functools.cache(importlib.metadata.packages_distributions)


def distributions(names: set[str]) -> set[str]:
    """The packages, in lower case and with `_`, that bring these modules."""
    return {brought_by()[name][0].lower().replace("-", "_") for name in names}


wings_of = functools.cache(new.wings)
every_template = pytest.mark.parametrize("application", new.applications())


def of_template(application: str) -> set[str]:
    names = listed(REPOSITORY / "templates" / application / "requirements.txt")
    return {name.lower().replace("-", "_") for name in names}


def code_of(application: str) -> list[Path]:
    """The template's own code, the commands that a copy of it has, and what makes the data it starts with."""
    template = REPOSITORY / "templates" / application
    data = re.findall(
        r'^    \w+: [^=\n]+ = "(\w+)"', (template / "config.py").read_text(), flags=re.MULTILINE
    )
    datasets = [path for name in data for path in (REPOSITORY / "datasets" / name).glob("*.py")]
    if any("photos" in path.read_text(encoding="utf-8") for path in datasets):
        datasets.append(REPOSITORY / "datasets" / "photos.py")
    names = {tuple(name.split(".")) for name in imported(REPOSITORY / "runner" / "__main__.py")}
    commands = [
        REPOSITORY.joinpath(*name).with_suffix(".py")
        for name in names
        if name[0] == "runner" and name[1:2] and name[1] in wings_of(application)
    ]
    own = [*template.glob("*.py"), *template.glob("*.ipynb")]
    return [
        path for path in (*own, *datasets, *commands) if path.is_file() and not path.stem.endswith("_test")
    ]


@every_template
def test_what_a_template_imports_is_in_its_requirements(application):
    assert distributions(libraries(code_of(application))) <= of_template(application)


@every_template
def test_nothing_is_in_its_requirements_that_its_wings_do_not_import(application):
    wings = [path for name in wings_of(application) for path in (REPOSITORY / "runner" / name).glob("*.py")]
    needed = distributions(libraries([*code_of(application), *wings])) | UNDECLARED
    assert of_template(application) <= needed


def test_only_templates_with_boxes_ask_for_pycocotools():
    asking = {application for application in new.applications() if "pycocotools" in of_template(application)}
    assert asking == {"object_detection"}


def test_all_of_it_is_the_sum_of_the_parts():
    everything = listed(REPOSITORY / "requirements.txt")
    assert everything and not listed(REPOSITORY / "requirements.txt", included=False)
    assert len(everything) == len(set(everything))  # a package stands in one file
    for application in new.applications():
        assert not listed(REPOSITORY / "templates" / application / "requirements.txt", included=False)
        assert of_template(application) <= {name.lower().replace("-", "_") for name in everything}
    assert "cookiecutter" in everything and "cookiecutter" not in of_template("image_classification")


def test_every_requirement_has_a_lowest_version_to_try():
    for path in (*REQUIREMENTS.glob("*.txt"), REPOSITORY / "requirements-dev.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert re.match(r"#|-r |[\w-]+>=\d[\d.]*(,<\d+)?(; [^#]+)?( +#|$)", line), f"{path.name}: {line}"
