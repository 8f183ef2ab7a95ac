"""A frozen dataclass becomes a saved record and comes back from one; what its fields may hold is checked.

A template's `Config` is an ordinary frozen dataclass; `runner.flags` turns its fields into flags.
"""

import dataclasses
import json
import os
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from runner.errors import InputError, suggest

ConfigType = TypeVar("ConfigType", bound=Any)
"""A template's own dataclass, with the fields that are named where it is used."""


def check_types(record: Any) -> None:
    """Raise InputError when a field of a dataclass instance holds a value its annotation does not allow.

    Knows what a Config may hold: bool, int, float, str, Literal, `X | None`, and tuples. An int is fine
    where a float is expected; a bool is not fine where a number is.
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if not fits(value, hints[field.name]):
            raise InputError(
                f"{type(record).__name__}.{field.name} = {value!r} is not {_in_words(hints[field.name])}."
            )


AT_LEAST = re.compile(r"(specificity|sensitivity):(0?\.\d*[1-9]\d*)")
"""A share that an operating point is to reach, such as specificity:0.95."""
_RULES = {
    "labels_per_class": (lambda value: not isinstance(value, int) or value >= 1, "all or at least 1"),
    "train_examples": (lambda value: not isinstance(value, int) or value >= 1, "all or at least 1"),
    "train_rows": (lambda value: not isinstance(value, int) or value >= 1, "all or at least 1"),
    "train_characters": (lambda value: not isinstance(value, int) or value >= 1, "all or at least 1"),
    "dropout": (lambda value: 0 <= value < 1, "a share from 0 to below 1"),
    "label_smoothing": (lambda value: 0 <= value < 1, "a share from 0 to below 1"),
    "batch_size": (lambda value: value >= 1, "at least 1"),
    "steps_per_execution": (lambda value: value >= 1, "at least 1"),
    "weight_decay": (lambda value: 0 <= value < 1, "0 (off) or a number below 1"),
    "scratch_learning_rate": (lambda value: 0 < value < float("inf"), "a number above 0"),
    "scratch_lengths": (
        lambda value: len(value) > 0 and all(one >= 1 for one in value),
        "one or more whole numbers of at least 1, such as 1 5",
    ),
    "checkpoint_steps": (lambda value: value is None or value >= 1, "None or at least 1"),
    "checkpoint_minutes": (lambda value: value is None or value > 0, "None or a number above 0"),
    "operating_point": (
        lambda value: value in ("youden", "f1") or AT_LEAST.fullmatch(value) is not None,
        "youden, f1, or what is to be reached, such as specificity:0.95 or sensitivity:0.9",
    ),
    "seed": (lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647"),
}
"""What the fields may hold that templates have in common."""


def check_fields(record: Any, *rules: tuple[str, bool, str]) -> None:
    """Raise InputError for the first field of a Config that cannot be used.

    rules: of the template, (field, whether its value is fine, what is allowed). Those of the fields that
    templates have in common, such as batch_size, come by themselves.
    """
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    common = [(name, fine(fields[name]), rule) for name, (fine, rule) in _RULES.items() if name in fields]
    if "accumulate" in fields:
        parts = fields["accumulate"]
        no_xla = "'auto' or 'off' with accumulate: XLA computes all parts at once, which saves no memory"
        jit = fields["machine"].jit
        common.append(("accumulate", 1 <= parts <= fields["batch_size"], "1 (off) to the batch_size"))
        if parts > 1 and jit == "on":
            raise InputError(f"jit={jit!r} cannot be used; give {no_xla}.")
    for field, fine, rule in (*rules, *common):
        if not fine:
            raise InputError(f"{field}={fields[field]!r} cannot be used; give {rule}.")


def fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if hint is float:
        if isinstance(value, int) and abs(value) > sys.float_info.max:  # no float is as large
            return False
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {typing.get_args(hint)[0].__name__}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _nested(Config: type) -> dict[str, type]:
    """The fields of a dataclass that are dataclasses themselves, such as `machine: Machine`."""
    hints = typing.get_type_hints(Config)
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(Config)
        if dataclasses.is_dataclass(hints[field.name])
    }


def names(Config: type) -> list[str]:
    """The names of all fields in order, those of a nested dataclass in its place: as flags and files go."""
    nested = _nested(Config)
    return [
        name
        for field in dataclasses.fields(Config)
        for name in (names(nested[field.name]) if field.name in nested else [field.name])
    ]


def replace(config: ConfigType, **changes: Any) -> ConfigType:
    """As `dataclasses.replace`, where the fields of a nested dataclass also go by their own names:
    `replace(config, seed=1)` for `config.machine.seed`.
    """
    for outer, inner in _nested(type(config)).items():
        within = {name: changes.pop(name) for name in names(inner) if name in changes}
        if within:
            changes[outer] = replace(changes.get(outer, getattr(config, outer)), **within)
    return dataclasses.replace(config, **changes)


def to_dict(config: Any) -> dict[str, Any]:
    """A Config as plain JSON types, flat: the fields of a nested dataclass stand beside the others.
    `from_dict` reads it back to an equal Config.
    """
    record = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            record.update(to_dict(value))
        else:
            record[field.name] = value
    return json.loads(json.dumps(record, default=dataclasses.asdict))


def from_dict(record: dict[str, Any], Config: type[ConfigType], where: str = "the record") -> ConfigType:
    """Rebuild a Config; a field that is absent keeps its default, an unknown one is an InputError that
    names the nearest.
    """
    if not isinstance(record, dict):
        raise InputError(
            f"{where}: expected a JSON object with the fields of {Config.__name__}, received "
            f"{type(record).__name__}."
        )
    allowed = names(Config)
    hints = typing.get_type_hints(Config)
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name not in allowed:
            raise InputError(
                f"{where}: {name!r} is not a field of {Config.__name__}; its fields are "
                f"{', '.join(allowed)}.{suggest(name, allowed)}"
            )
        if typing.get_origin(hints.get(name)) is tuple and isinstance(value, list):
            item = typing.get_args(hints[name])[0]
            value = tuple(
                from_dict(entry, item, f"{where}: {name}[{index}]")
                if isinstance(item, type) and dataclasses.is_dataclass(item)
                else entry
                for index, entry in enumerate(value)
            )
        values[name] = value
    for outer, inner in _nested(Config).items():
        values[outer] = from_dict(
            {name: values.pop(name) for name in names(inner) if name in values}, inner, where
        )
    try:
        return Config(**values)
    except TypeError as error:  # a field without a default is absent
        raise InputError(f"{where}: {str(error).replace('__init__()', Config.__name__)}.") from None


def load(path: str | Path, Config: type[ConfigType]) -> ConfigType:
    """Read a Config from a JSON file, such as the `config.json` of an earlier run."""
    path = Path(os.path.expanduser(path))
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin a file with a mark
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path that no system has
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(
            f"--config {path}: cannot be read ({reason}); give the config.json of a run, or a JSON file "
            f"with fields of {Config.__name__}."
        ) from None
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"--config {path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg})."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets ...
        raise InputError(f"--config {path}: not the JSON of a config ({error}).") from None
    return from_dict(record, Config, f"--config {path}")
