"""The house is built as docs/house.md says: every room has its wing, and no wing imports what it may not."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ROOMS, LINES = 16, 400
"""The most modules of a wing, and the most lines of a module (all of them: docstrings are read as well)."""
OUTSIDE = {"benchmarks", "datasets", "notebooks", "templates", "tests"}
"""What uses the runner, and what the runner therefore never imports."""


class Wing(NamedTuple):
    rooms: tuple[str, ...]
    """Modules as they are imported: "runner.errors", "runner.data.splits"."""
    may_import: frozenset[str]
    """Wings, itself and the ground included."""


@cache
def wings() -> dict[str, Wing]:
    """The table of docs/house.md."""
    rows = re.findall(r"^\| (?!wing|---)(.+) \|$", (ROOT / "docs/house.md").read_text(), re.MULTILINE)
    table = [[cell.strip() for cell in re.split(r" ?\| ?", row)] for row in rows]
    names = [name.strip("`/") for name, *_ in table]
    found = {}
    for name, (_, _, rooms, allowed) in zip(names, table, strict=True):
        within = "runner" if name in ("ground", "commands") else f"runner.{name}"
        also = names if allowed == "all" else [word for word in re.split(r",\s*", allowed) if word]
        assert set(also) <= set(names), f"{name} may import {also}, some of which is no wing"
        may = {name, "ground", *also} - ({"commands"} - {name})
        found[name] = Wing(
            tuple(f"{within}.{room}" for room in re.findall(r"`(\w+)`", rooms)), frozenset(may)
        )
    return found


@cache
def modules() -> dict[str, Path]:
    """Every module of the runner, without those that only name a wing."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / "runner").rglob("*.py"))
        if path.name != "__init__.py"
    }


def wing_of(module: str) -> str:
    return next(name for name, wing in wings().items() if module in wing.rooms)


def names_imported(tree: ast.AST) -> set[str]:
    """All names of modules, and of what is taken out of them, in import statements anywhere, also within
    functions and under TYPE_CHECKING, and in import_module("...").
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import within the runner names the whole path"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "import_module":
            names |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    return names


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules of the runner that it imports."""
    found = {}
    for module, path in modules().items():
        names = names_imported(ast.parse(path.read_text()))
        whole = {name for name in names if name in modules()}
        parts = {name.rpartition(".")[0] for name in names - whole}
        found[module] = whole | (parts & set(modules()))
    return found


def test_every_room_has_its_wing_and_every_room_named_is_there():
    named = [room for wing in wings().values() for room in wing.rooms]
    twice = sorted({room for room in named if named.count(room) > 1})
    missing, gone = sorted(set(modules()) - set(named)), sorted(set(named) - set(modules()))
    assert not twice and not missing and not gone, (
        f"the table of docs/house.md names {twice or 'none'} twice, lacks {missing or 'none'} and has "
        f"{gone or 'none'} that is not there"
    )
    for name, wing in wings().items():
        assert list(wing.rooms) == sorted(wing.rooms), (
            f"the rooms of {name} stand in the order of the alphabet"
        )


def test_no_wing_imports_what_its_row_does_not_allow():
    wrong = {
        (module, target)
        for module, targets in arrows().items()
        for target in targets
        if wing_of(target) not in wings()[wing_of(module)].may_import
    }
    assert wrong == set(), "move what is needed below, or hand it in as an argument"


def test_the_table_itself_allows_nothing_upwards():
    lower = []
    for name, wing in wings().items():
        if name != "commands":
            assert wing.may_import <= {*lower, name, "ground"} or wing.may_import == set(wings()) - {
                "commands"
            }
            lower.append(name)


def test_no_modules_import_each_other_in_a_circle():
    def reached(start: str) -> set[str]:
        found, left = set(), [start]
        while left:
            new = arrows()[left.pop()] - found
            found |= new
            left += new
        return found

    assert [module for module in modules() if module in reached(module)] == []


def test_the_runner_imports_nothing_that_uses_it():
    for module, path in modules().items():
        roots = {name.split(".")[0] for name in names_imported(ast.parse(path.read_text()))}
        assert not roots & OUTSIDE, f"{module} imports {sorted(roots & OUTSIDE)}"


def test_what_is_imported_from_the_runner_is_there():
    """An import within a function fails only when it is reached."""
    for module, path in modules().items():
        for name in names_imported(ast.parse(path.read_text())):
            if name.split(".")[0] == "runner":
                whole, _, part = name.rpartition(".")
                assert name in modules() or whole in modules(), f"{module} imports {name}"
                if name not in modules():
                    assert part in _defined(whole), f"{module} imports {name}, which is not there"


@cache
def _defined(module: str) -> set[str]:
    """The names that stand at the top of a module."""
    names = set()
    for node in ast.parse(modules()[module].read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {
            one.id for target in targets if target for one in ast.walk(target) if isinstance(one, ast.Name)
        }
    return names


def test_a_wing_is_named_by_one_docstring_and_nothing_else():
    for path in (ROOT / "runner").rglob("__init__.py"):
        first, *rest = ast.parse(path.read_text()).body
        assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant), path
        if path.parent.name == "runner":  # two variables of the environment, which are read on import
            assert [ast.unparse(one) for one in rest] == [
                "import os",
                "os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')",
                "os.environ['KERAS_BACKEND'] = 'tensorflow'",
            ]
        else:
            assert rest == [], f"{path} holds more than a docstring: an import names the room, not the wing"


def test_the_tests_mirror_the_house():
    for name, wing in wings().items():
        if name not in ("ground", "commands"):
            there = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / name).glob("test_*.py")}
            strange = there - {room.rpartition(".")[2] for room in wing.rooms}
            assert there and not strange, f"tests/{name} tests {sorted(strange)}, which is no room of it"


def test_wings_and_rooms_stay_small():
    for name, wing in wings().items():
        assert len(wing.rooms) <= ROOMS, (
            f"{name} has {len(wing.rooms)} rooms, at most {ROOMS}: make a second wing"
        )
    long = {name for name, path in modules().items() if len(path.read_text().splitlines()) > LINES}
    assert long == set(), f"more than {LINES} lines: let a second idea move out"


def _unclear(body: list[ast.stmt], within: str = "") -> list[str]:
    """Public functions, methods and constructors that leave the type of an argument or of the result open."""
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += _unclear(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments = [one for one in arguments if one.arg not in ("self", "cls")]
            result = node.returns is not None or node.name == "__init__"
            if not result or any(one.annotation is None for one in arguments):
                found.append(f"{within}{node.name}")
    return found


def test_public_functions_say_their_types():
    unclear = {
        module: names
        for module, path in modules().items()
        if (names := _unclear(ast.parse(path.read_text()).body))
    }
    assert unclear == {}
