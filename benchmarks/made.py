"""Modules of data sets that are made by code, by their place: `datasets` is the name of another package."""

import importlib.util
import sys
from types import ModuleType

from runner.data.source import dataset_folder


def module(dataset: str, name: str) -> ModuleType:
    """datasets/<dataset>/<name>.py."""
    known = f"_made_{dataset}_{name}"
    spec = importlib.util.spec_from_file_location(known, dataset_folder(dataset) / f"{name}.py")
    assert spec and spec.loader  # a file of Python
    sys.modules[known] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]
