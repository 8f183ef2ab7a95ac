"""What a search may change of a template's Config, as data: a template's `space.py` holds a `Space`.

    SPACE = Space({"stages.0.learning_rate": LogUniform(1e-3, 1e-1), "batch_size": Choice((16, 32))})

A range goes by the path of its field as flags do: `dropout`, `stages.0.learning_rate`. This module imports
neither TensorFlow nor Optuna: it goes along with a copied-out template.
"""

import dataclasses
import itertools
import math
import random
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runner import fields
from runner.errors import InputError, suggest

MOST_POINTS = 100_000
"""Of a grid; more are never tried."""


@dataclass(frozen=True)
class LogUniform:
    """Any number between two above 0, equally likely in each octave: rates, weight decay."""

    low: float
    high: float

    def grid(self, points: int) -> list[float]:
        """So many numbers from low to high, each the same times the one before."""
        if points == 1:
            return [math.sqrt(self.low * self.high)]
        steps = [n / (points - 1) for n in range(points)]
        inner = [self.low * (self.high / self.low) ** step for step in steps[1:-1]]
        return [float(self.low), *inner, float(self.high)]


@dataclass(frozen=True)
class Uniform:
    """Any number between two: shares, such as dropout."""

    low: float
    high: float

    def grid(self, points: int) -> list[float]:
        """So many numbers from low to high, evenly apart."""
        if points == 1:
            return [(self.low + self.high) / 2]
        inner = [self.low + (self.high - self.low) * n / (points - 1) for n in range(1, points - 1)]
        return [float(self.low), *inner, float(self.high)]


@dataclass(frozen=True)
class Integers:
    """Any whole number between two, both included: epochs, layers."""

    low: int
    high: int

    def grid(self, points: int) -> list[int]:
        """At most so many whole numbers from low to high, as evenly apart as they go."""
        return sorted({round(one) for one in Uniform(self.low, self.high).grid(points)})


@dataclass(frozen=True)
class Choice:
    """One of several: plain values (texts, numbers, True, False, None), or a mapping from a name to anything
    a field can hold, such as a whole schedule of stages.
    """

    options: Sequence[Any] | Mapping[str, Any]

    def grid(self, points: int) -> list[Any]:
        """All of them, by the names they have, whatever `points` is."""
        return list(self.options)

    def value(self, name: Any) -> Any:
        """What a field is given for one of `grid`."""
        return self.options[name] if isinstance(self.options, Mapping) else name


Range = LogUniform | Uniform | Integers | Choice


@dataclass(frozen=True)
class Space:
    """What is searched, and what is to be best."""

    ranges: Mapping[str, Range]
    """By the path of the field. A path of several fields, parted by spaces, such as "backbone weights", is a
    `Choice` of tuples with a value for each: what only goes together.
    """
    objective: str = "monitor"
    """monitor: the number, on validation, by which the template's `stages` pick an epoch; only with it trials
    can be stopped early. Else a number of "validation" in the metrics.json of a run with `--no-test`.
    """
    direction: Literal["auto", "maximize", "minimize"] = "auto"
    """auto knows it of losses, accuracies and F1."""


def fields_of(path: str) -> list[str]:
    """The fields that a range is for."""
    return path.split()


def set_field(config: Any, path: str, value: Any) -> Any:
    """The Config with another value at a path such as `dropout`, `seed` or `stages.0.learning_rate`.

    Raises InputError for a path that it does not have, with the nearest one, and for a value that it refuses.
    """
    name, *rest = path.split(".")
    known = fields.names(type(config))
    if name not in known:
        raise InputError(
            f"space: {path!r}: {name!r} is not a field of {type(config).__name__}; its fields are "
            f"{', '.join(known)}.{suggest(name, known)}"
        )
    if not rest:
        return fields.replace(config, **{name: value})
    parts = getattr(config, name, None)
    if not isinstance(parts, tuple) or len(rest) != 2 or not re.fullmatch(r"\d+", rest[0]):
        raise InputError(f"space: {path!r} is no field; a path within a list reads stages.0.learning_rate.")
    number, inner = int(rest[0]), rest[1]
    if number >= len(parts):
        raise InputError(
            f"space: {path!r}: there are {len(parts)} {name}, from 0; leave it out with --fix {path}, or "
            "give another --config."
        )
    own = [field.name for field in dataclasses.fields(parts[number])]
    if inner not in own:
        raise InputError(
            f"space: {path!r}: {inner!r} is not a field of {name}; they have {', '.join(own)}."
            + suggest(inner, own)
        )
    changed = dataclasses.replace(parts[number], **{inner: value})
    return fields.replace(config, **{name: (*parts[:number], changed, *parts[number + 1 :])})


def apply(config: Any, ranges: Mapping[str, Range], chosen: Mapping[str, Any]) -> Any:
    """The Config with what was chosen from each range, whole lists first and what lies within them last.

    chosen: for each path of `ranges` a number, or the name of an option.
    """
    for path in sorted(ranges, key=lambda path: "." in path):
        found = ranges[path]
        value = found.value(chosen[path]) if isinstance(found, Choice) else chosen[path]
        names = fields_of(path)
        for name, one in zip(names, value if len(names) > 1 else (value,), strict=True):
            config = set_field(config, name, one)
    return config


def check(space: Space, config: Any) -> None:
    """Raise InputError for a range that is none, and for the first field or end of a range that the Config
    refuses by itself.
    """
    if not space.ranges:
        raise InputError("space: nothing is left to search; give a range, such as --space dropout=0..0.5.")
    for path, found in space.ranges.items():
        if isinstance(found, Choice):
            fine = len(found.options) > 0
            several = len(fields_of(path))
            if fine and several > 1:
                values = [found.value(one) for one in found.options]
                fine = all(isinstance(one, tuple) and len(one) == several for one in values)
        else:
            ends = (found.low, found.high)
            fine = all(math.isfinite(one) for one in ends) and found.low < found.high
            fine = fine and (not isinstance(found, LogUniform) or found.low > 0)
        if not fine:
            raise InputError(
                f"space: {path}: {found} is no range; give a lower end below the upper one (above 0 where it "
                "is logarithmic), or options, for several fields each a tuple of as many."
            )
        for value in found.grid(2):
            try:
                apply(config, {path: found}, {path: value})
            except InputError as error:
                prefix = "" if str(error).startswith("space:") else f"space: {path}: "
                raise InputError(f"{prefix}{error}") from error


def points(ranges: Mapping[str, Range], per_range: int, seed: int) -> list[dict[str, Any]]:
    """All combinations of `per_range` values of each range (of a `Choice` all), in random order: so that the
    first of them are no corner. Raises InputError for more than MOST_POINTS.
    """
    grids = [found.grid(per_range) for found in ranges.values()]
    count = math.prod(map(len, grids))
    if count > MOST_POINTS:
        raise InputError(
            f"the grid has {count:,} points; search at random, or leave ranges out with --fix "
            f"({', '.join(ranges)})."
        )
    found = [dict(zip(ranges, values, strict=True)) for values in itertools.product(*grids)]
    random.Random(seed).shuffle(found)
    return found


def in_words(found: Range) -> str:
    """A range as people read it."""
    if isinstance(found, Choice):
        return ", ".join(map(str, found.grid(0)))
    kind = {LogUniform: ", logarithmic", Integers: ", whole"}.get(type(found), "")
    return f"{found.low:g} to {found.high:g}{kind}"


def record(space: Space) -> dict[str, Any]:
    """The space in plain JSON types, by which two are told apart."""
    return {
        "objective": space.objective,
        "direction": space.direction,
        "ranges": {
            path: {"kind": type(found).__name__, **fields.to_dict(found)}
            for path, found in space.ranges.items()
        },
    }


def without(space: Space, names: Iterable[str], *, known: bool = True) -> Space:
    """The space without what says something of these fields.

    known: InputError for a name that no range is for.
    """
    ranges = dict(space.ranges)
    for name in names:
        hit = [
            path
            for path in ranges
            if any(name == one or name.startswith(f"{one}.") for one in fields_of(path))
        ]
        if known and not hit:
            raise InputError(
                f"--fix {name}: the space has {', '.join(ranges) or 'nothing'}.{suggest(name, ranges)}"
            )
        for path in hit:
            del ranges[path]
    return dataclasses.replace(space, ranges=ranges)


def named_by(arguments: Sequence[str]) -> list[str]:
    """The fields that flags of a template name: `--stages.0.learning-rate 1` is stages.0.learning_rate."""
    flags = [one[2:].partition("=")[0].replace("-", "_") for one in arguments if one.startswith("--")]
    return [name for one in flags for name in dict.fromkeys((one, one.removeprefix("no_")))]


def parse(text: str, config: Any) -> tuple[str, Range]:
    """A range as it is written on the command line, and its path: `dropout=0..0.5`,
    `stages.0.learning_rate=1e-4..1e-1:log`, `batch_size=16,32`. Raises InputError for anything else.
    """
    path, equals, given = text.partition("=")
    if not equals or not path or not given:
        raise InputError(
            f"--space {text}: write FIELD=LOW..HIGH, FIELD=LOW..HIGH:log, or FIELD=ONE,ANOTHER, such as "
            "dropout=0..0.5."
        )
    whole = _hint(path, config) is int
    if ends := re.fullmatch(r"([^,]+?)\.\.([^,]+?)(:log)?", given):
        try:
            low, high = (float(one) for one in ends.groups()[:2])
        except ValueError:
            raise InputError(f"--space {text}: {given!r} does not go from number to number.") from None
        if whole and not ends[3] and low.is_integer() and high.is_integer():
            return path, Integers(int(low), int(high))
        return path, LogUniform(low, high) if ends[3] else Uniform(low, high)
    return path, Choice(tuple(_plain(one.strip(), _hint(path, config)) for one in given.split(",")))


def _hint(path: str, config: Any) -> Any:
    """The annotation of a field, Any where there is none of that name; `set_field` says so."""
    name, *rest = path.split(".")
    holder: Any = type(config)
    for outer, inner in typing.get_type_hints(holder).items():
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and name in fields.names(inner):
            holder = inner if outer != name else holder
    if rest:
        values = getattr(config, name, None)
        holder, name = (type(values[0]), rest[-1]) if isinstance(values, tuple) and values else (None, name)
    return typing.get_type_hints(holder).get(name, Any) if holder is not None else Any


def _plain(text: str, hint: Any) -> Any:
    """A text as the first of None, True, False, a whole number, a number and a text that the field takes."""
    words: dict[str, Any] = {
        "None": None,
        "none": None,
        "True": True,
        "true": True,
        "False": False,
        "false": False,
    }
    candidates: list[Any] = [words[text]] if text in words else []
    for kind in (int, float):
        try:
            candidates.append(kind(text))
        except ValueError:
            continue
    for value in (*candidates, text):
        if hint is not Any and fields.fits(value, hint):
            return value
    return candidates[0] if candidates and hint is Any else text
