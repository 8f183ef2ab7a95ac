"""A frozen dataclass becomes flags, a file and a saved record; mistakes are answered in one line.

A template's `Config` is an ordinary frozen dataclass. `run(main, Config)` turns its fields into flags with
tyro, calls `main(config)` and answers every `InputError` with one line and exit code 2. `Stage` lives here
and not beside the callback that uses it so that `--help` and a misspelt flag never wait for TensorFlow.
"""

import contextlib
import dataclasses
import io
import json
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from runner.errors import DivergenceError, InputError, LedgerError, OutOfMemory, suggest

ConfigType = TypeVar("ConfigType")


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer schedule: which weights train, for how long and how fast."""

    name: str
    """Shown in the log, the ledger and the report; unique within a schedule."""
    train: str = "head"
    """head | top:N (head and last N blocks) | above:NAME (head and all above a block) | all | norm | bias"""
    epochs: int = 10
    learning_rate: float = 1e-3
    """Peak learning rate of the stage."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    warmup: float = 0.0
    """Share of the stage's steps over which the rate climbs from 0 (cosine) or to its peak (one_cycle; 0
    means 0.3).
    """
    layer_decay: float = 1.0
    """Each block's rate is this times the rate of the block above it; 1 gives all the same rate."""
    patience: int | None = None
    """End the stage after this many epochs without a better validation value; None never does."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """frozen keeps the backbone's BatchNorm layers (statistics, scales, offsets) still; train lets them
    learn.
    """
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights the stage hands on: the best on validation, or the last."""

    def __post_init__(self) -> None:
        check_types(self)
        allowed = ("head", "top:N", "above:NAME", "all", "norm", "bias")
        if not re.fullmatch(r"head|all|norm|bias|top:[1-9]\d*|above:.+", self.train):
            raise InputError(
                f"stage {self.name!r}: train={self.train!r} is not one of {', '.join(allowed)}."
                f"{suggest(self.train, allowed)} Example: train='top:2'."
            )
        for field, fine, rule in (
            ("name", bool(self.name.strip()), "a name that is not empty"),
            ("epochs", self.epochs >= 1, "a whole number of at least 1"),
            ("learning_rate", 0 < self.learning_rate < float("inf"), "a number above 0"),
            ("warmup", 0 <= self.warmup < 1, "a share of the stage's steps, from 0 to below 1"),
            ("layer_decay", 0 < self.layer_decay <= 1, "a factor above 0 and at most 1"),
            ("patience", self.patience is None or self.patience >= 1, "None or a whole number of at least 1"),
        ):
            if not fine:
                raise InputError(
                    f"stage {self.name!r}: {field}={getattr(self, field)!r} cannot be used; give {rule}."
                )
        if self.warmup and self.schedule == "constant":
            raise InputError(
                f"stage {self.name!r}: warmup={self.warmup} has no effect with schedule='constant'; "
                "set schedule to 'cosine' or 'one_cycle', or warmup to 0."
            )


def check_stages(stages: Sequence[Stage]) -> None:
    """Raise InputError unless there is at least one stage and no two share a name."""
    names = [stage.name for stage in stages]
    if not names:
        raise InputError("no stages were given; give at least one, for example Stage('head', train='head').")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two stages are called {twice[0]!r}; the names {names} must differ, since the ledger and "
            "the report tell stages apart by name."
        )


def check_types(record: Any) -> None:
    """Raise InputError when a field of a dataclass instance holds a value its annotation does not allow.

    Knows what a Config may hold: bool, int, float, str, Literal, `X | None`, and tuples. An int is fine
    where a float is expected; a bool is not fine where a number is.
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if not _fits(value, hints[field.name]):
            raise InputError(
                f"{type(record).__name__}.{field.name} = {value!r} is not {_in_words(hints[field.name])}."
            )


_RULES = {
    "labels_per_class": (lambda value: value is None or value >= 1, "None or at least 1"),
    "train_examples": (lambda value: value is None or value >= 1, "None or at least 1"),
    "dropout": (lambda value: 0 <= value < 1, "a share from 0 to below 1"),
    "label_smoothing": (lambda value: 0 <= value < 1, "a share from 0 to below 1"),
    "batch_size": (lambda value: value >= 1, "at least 1"),
    "steps_per_execution": (lambda value: value >= 1, "at least 1"),
    "weight_decay": (lambda value: 0 <= value < 1, "0 (off) or a number below 1"),
    "scratch_learning_rate": (lambda value: 0 < value < float("inf"), "a number above 0"),
    "checkpoint_steps": (lambda value: value is None or value >= 1, "None or at least 1"),
    "checkpoint_minutes": (lambda value: value is None or value > 0, "None or a number above 0"),
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
        common.append(("accumulate", 1 <= parts <= fields["batch_size"], "1 (off) to the batch_size"))
        common.append(("jit", parts == 1 or fields["jit"] != "on", no_xla))
    for field, fine, rule in (*rules, *common):
        if not fine:
            raise InputError(f"{field}={fields[field]!r} cannot be used; give {rule}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
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


def to_dict(config: Any) -> dict[str, Any]:
    """A Config as plain JSON types; `from_dict` reads it back to an equal Config."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(record: dict[str, Any], Config: type[ConfigType], where: str = "the record") -> ConfigType:
    """Rebuild a Config; a field that is absent keeps its default, an unknown one is an InputError that
    names the nearest.
    """
    if not isinstance(record, dict):
        raise InputError(
            f"{where}: expected a JSON object with the fields of {Config.__name__}, received "
            f"{type(record).__name__}."
        )
    fields = [field.name for field in dataclasses.fields(Config)]
    hints = typing.get_type_hints(Config)
    values = {}
    for name, value in record.items():
        if name not in fields:
            raise InputError(
                f"{where}: {name!r} is not a field of {Config.__name__}; its fields are "
                f"{', '.join(fields)}.{suggest(name, fields)}"
            )
        if typing.get_origin(hints[name]) is tuple and isinstance(value, list):
            item = typing.get_args(hints[name])[0]
            value = tuple(
                from_dict(entry, item, f"{where}: {name}[{index}]")
                if dataclasses.is_dataclass(item)
                else entry
                for index, entry in enumerate(value)
            )
        values[name] = value
    try:
        return Config(**values)
    except TypeError as error:  # a field without a default is absent
        raise InputError(f"{where}: {str(error).replace('__init__()', Config.__name__)}.") from None


def load(path: str | Path, Config: type[ConfigType]) -> ConfigType:
    """Read a Config from a JSON file, such as the `config.json` of an earlier run."""
    path = Path(os.path.expanduser(path))
    try:
        text = path.read_text(encoding="utf-8")
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


def parse(
    Config: type[ConfigType], arguments: Sequence[str] | None = None, description: str | None = None
) -> ConfigType:
    """Turn command-line flags into a Config.

    Every field is a flag (`--image-size 160 --stages.1.epochs 3`). `--config FILE` starts from a JSON file
    instead of the defaults; that is also how the number of stages changes. Raises InputError for what
    cannot be parsed and SystemExit(0) after `--help`.
    """
    import tyro

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    default = None
    for index, argument in enumerate(arguments):
        if argument == "--config" or argument.startswith("--config="):
            inline = argument.partition("=")[2]
            if not inline and index + 1 >= len(arguments):
                raise InputError(
                    "--config needs the path of a JSON file, for example --config runs/mine/config.json."
                )
            default = load(inline or arguments[index + 1], Config)
            del arguments[index : index + (1 if inline else 2)]
            break
    complaint = io.StringIO()
    options = {} if default is None else {"default": default}
    description = (
        description or Config.__doc__ or ""
    ) + "\n\n--config FILE: start from this JSON file (a run's config.json)."
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(Config, args=arguments, description=description, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro draws a box around its answer; as one line it also reads well in a log.
        text = re.sub(r"[╭╮╰╯│─]+", " ", complaint.getvalue()).split("For full helptext")[0]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise InputError(f"{' '.join(lines[1:] or lines)} (--help lists every flag)") from None


def run(
    main: Callable[[ConfigType], Any], Config: type[ConfigType], arguments: Sequence[str] | None = None
) -> None:
    """Entry point of a template: parse the flags, call `main(config)`; exit code 2 and one line for an
    InputError.
    """
    with exit_on_input_error():
        main(parse(Config, arguments))


@contextlib.contextmanager
def exit_on_input_error():
    """Print an InputError as one line on standard error and leave with exit code 2; a LedgerError, a
    DivergenceError or OutOfMemory with 1.
    """
    try:
        yield
    except (InputError, LedgerError, DivergenceError, OutOfMemory) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None  # 128 + SIGINT, as shells have it
