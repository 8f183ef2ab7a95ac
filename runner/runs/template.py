"""Which template made a run: the package whose functions load, judge and predict for it."""

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from runner import fields
from runner.errors import InputError
from runner.runs import folder

REPOSITORY = Path(__file__).resolve().parents[2]


def packages(repository: Path = REPOSITORY) -> list[str]:
    """The templates there are, as package names: those of templates/, or in a project that was made from one
    the package beside runner/.
    """
    roots = ((repository / "templates", "templates."), (repository, ""))
    return [
        f"{prefix}{path.parent.name}"
        for root, prefix in roots
        for path in sorted(root.glob("*/train.py"))
        if path.with_name("config.py").is_file() and path.with_name("__init__.py").is_file()
    ]


def find(run: str | Path, config: dict[str, Any]) -> str:
    """The package of the template that made the run in this folder: what its environment.json says, else the
    template that the folder above is called by, else the one whose Config takes `config`.

    Imports no more than the config modules. Raises InputError where none or several fit.
    """
    run = Path(os.path.expanduser(run))
    there = packages()
    recorded = recorded_name(run)
    if _is_here(recorded):
        return recorded
    above = run.absolute().parent.name
    fitting = [name for name in there if _takes(name, config)]
    named = [name for name in fitting if name.rpartition(".")[2] == above]
    if len(named) == 1 or len(fitting) == 1:
        return (named or fitting)[0]
    found = f"several templates: {', '.join(fitting)}" if fitting else "none of the templates that are here"
    raise InputError(
        f"{run}: its config.json fits {found} ({', '.join(there) or 'there are none'}); give a run that one "
        'of them made, or name its package as "template" in its environment.json.'
    )


def recorded_name(run: Path) -> str:
    """What environment.json calls the template, "" where it does not."""
    try:
        record = folder.read_json(run / "environment.json")
    except InputError:
        return ""
    name = record.get("template", "")
    return name if isinstance(name, str) else ""


def config_class(package: str) -> type:
    """The Config of a template, without what takes seconds to import."""
    return importlib.import_module(f"{package}.config").Config


def train(package: str, *functions: str) -> ModuleType:
    """The train module of a template; raises InputError where it lacks one of `functions`."""
    module = importlib.import_module(f"{package}.train")
    lacking = [name for name in functions if not hasattr(module, name)]
    if lacking:
        raise InputError(
            f"{package}.train has no function {lacking[0]!r}, which this command calls; its README says what "
            "the template has in its place."
        )
    return module


def _takes(package: str, config: dict[str, Any]) -> bool:
    try:
        fields.from_dict(config, config_class(package))
    except InputError:
        return False
    return True


def _is_here(package: str) -> bool:
    """Whether a recorded name is that of a package in this repository; nothing else is imported for a run."""
    parts = package.split(".")
    return all(part.isidentifier() for part in parts) and REPOSITORY.joinpath(*parts, "train.py").is_file()
