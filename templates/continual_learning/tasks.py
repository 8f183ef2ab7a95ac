"""The tasks that come one after another: which examples and classes each has, and which may be answered."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner import cells
from runner.data.examples import Data
from runner.data.source import Source, amount, ordered
from runner.data.splits import USED
from runner.errors import InputError, suggest
from runner.pictures.load import load as load_pictures

from .config import Config

TASKS = 5
"""How many there are where nothing says it."""


@dataclass(frozen=True)
class Tasks:
    """What comes one after another."""

    names: tuple[str, ...]
    own: np.ndarray
    """bool (tasks, classes): the classes of each."""
    scenario: str
    before: int = 0
    """How many of them an earlier run was trained on; no training example of theirs is there."""

    @property
    def seen(self) -> np.ndarray:
        """bool (tasks, classes): those that had come when each was over."""
        return np.logical_or.accumulate(self.own, axis=0)

    def allowed(self, now: int, tasks: np.ndarray) -> np.ndarray:
        """bool (n, classes): what may be answered for examples of these tasks when `now` is the last that
        came: all that had come, or where the task is told the classes of that.
        """
        if self.scenario == "task":
            return self.own[tasks]
        return np.broadcast_to(self.seen[now], (len(tasks), self.own.shape[1]))

    def record(self, classes: Sequence[str]) -> list[dict]:
        """As metrics.json has it."""
        names = np.array(classes, object)
        return [
            {"name": name, "classes": names[own].tolist()}
            for name, own in zip(self.names, self.own, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Stream(Data):
    """A `Data` in tasks: an element also has "task", int64 (), and where the task is told "allowed", bool
    (classes,), those of the task; the manifest has the column task.
    """

    tasks: Tasks | None = None

    @property
    def told(self) -> Tasks:
        """The tasks, which every stream has."""
        assert self.tasks is not None
        return self.tasks

    def in_words(self) -> str:
        counts = [
            f"{name} ({own.sum()} classes)" for name, own in zip(self.told.names, self.told.own, strict=True)
        ]
        return f"{super().in_words()}\ntasks, in their order: {'; '.join(counts)}"


# ---------------------------------------------------------------- from a source to a stream


def pictures(config: Config, source: Source) -> Data:
    return load_pictures(
        dataclasses.replace(source, name=config.data),
        config.image_size,
        seed=config.machine.seed,
        labels_per_class=amount(config.labels_per_class, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
        one_class=bool(config.continue_from),
    )


def divided(config: Config, found: Source, count: int) -> tuple[Source, tuple[str, ...], np.ndarray]:
    """The examples that some task has, with their classes in the order of the tasks; the tasks' names; and
    the number of each example's task, int64 (n,).
    """
    if config.tasks == ("column",):
        column = _column(config, found)
        names = tuple(dict.fromkeys(column))
        names = ordered(set(names)) if all(name.isdecimal() for name in names) else names
        task_of = {name: number for number, name in enumerate(names)}
        if config.scenario != "domain":
            by_class = found.examples.assign(task=column).groupby("label")["task"].unique()
            torn = by_class[by_class.map(len) > 1]
            if len(torn):
                raise InputError(
                    f"Received data={config.data!r}, whose class {torn.index[0]!r} stands in the tasks "
                    f"{' and '.join(map(repr, torn.iloc[0][:2]))}: with scenario={config.scenario!r} a class "
                    "belongs to one; move its pictures, or give --scenario domain."
                )
            classes = sorted(found.classes, key=lambda name: task_of[by_class[name][0]])
            found = dataclasses.replace(found, classes=tuple(classes))
        return found, names, np.array([task_of[name] for name in column], np.int64)
    lists = _lists(config, found.classes, count)
    task_of = {name: number for number, names in enumerate(lists) for name in names}
    chosen = found.examples["label"].isin(task_of).to_numpy()

    def read() -> Iterator[str | bytes]:
        return itertools.compress(found.read(), chosen)

    rows = found.examples[chosen].reset_index(drop=True)
    classes = tuple(itertools.chain.from_iterable(lists))
    names = tuple(", ".join(one) for one in lists)
    codes = rows["label"].map(task_of).to_numpy(np.int64)
    return dataclasses.replace(found, examples=rows, classes=classes, read=read), names, codes


def _lists(config: Config, classes: Sequence[str], count: int) -> list[list[str]]:
    """The classes of each task."""
    given = config.tasks
    if config.scenario == "domain":
        return [list(classes)]
    if not given or (len(given) == 1 and given[0].strip().isdecimal()):
        wanted = int(given[0]) if given else min(count, len(classes))
        if not 1 <= wanted <= len(classes):
            raise InputError(
                f"tasks={given} asks for {wanted} tasks, data={config.data!r} has {len(classes)} classes; "
                f"give 1 to {len(classes)}, or the classes of each task."
            )
        return [[str(name) for name in part] for part in np.array_split(np.array(classes, object), wanted)]
    if "column" in given:
        raise InputError(f"tasks={given}: column stands alone, or names a class that is no task of its own.")
    lists = []
    for one in given:
        parts = [one.strip()] if one.strip() in classes else one.split(",") if "," in one else one.split()
        lists.append([part.strip() for part in parts if part.strip()])
    everything = list(itertools.chain.from_iterable(lists))
    for number, names in enumerate(lists, start=1):
        if not names:
            raise InputError(f"tasks={given}: task {number} names no class; give its classes, as in '0 1'.")
        for name in names:
            if name not in classes:
                raise InputError(
                    f"tasks={given}: data={config.data!r} has no class {name!r}; its classes are "
                    f"{in_words_of(classes)}.{suggest(name, classes)}"
                )
            if everything.count(name) > 1:
                raise InputError(
                    f"tasks={given}: class {name!r} stands in two tasks; each belongs to one. (The same "
                    "classes in other pictures are --scenario domain, with a column task.)"
                )
    return lists


def _column(config: Config, found: Source) -> list[str]:
    """The column task of the CSV file, a cell per example."""
    path = Path(os.path.expanduser(config.data.strip()))
    if path.suffix.lower() != ".csv" or not path.is_file():
        raise InputError(
            f"tasks=('column',) was given and data={config.data!r} is no CSV file; give one with the columns "
            'path,label,task, or the classes of each task (--tasks "0 1" "2 3").'
        )
    table = cells.read(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = [str(name).strip().lower() for name in table.columns]
    if "task" not in table or len(table) != len(found.examples):
        raise InputError(
            f"tasks=('column',) was given and {path} has the columns {', '.join(table.columns)}; add "
            "one called task, which says to which task each picture belongs."
        )
    column = [str(one).strip() for one in table["task"]]
    if "" in column:
        raise InputError(f"{path}: the task of row {column.index('') + 1} is empty; fill it in.")
    return column


def own_of(data: Data, codes: np.ndarray, count: int, config: Config) -> np.ndarray:
    labels = data.manifest["label"].cat.codes.to_numpy()
    own = np.zeros((count, len(data.classes)), bool)
    own[codes, labels] = True
    return np.ones_like(own) if config.scenario == "domain" else own


def tagged(data: Data, told: Tasks, codes: np.ndarray) -> Stream:
    """The same examples with the number of each one's task."""
    table = tf.constant(codes, tf.int64)

    def tag(one: dict) -> dict:
        return one | {"task": tf.gather(table, one["id"])}

    kind = pd.CategoricalDtype(list(told.names))
    parts = {field.name: getattr(data, field.name) for field in dataclasses.fields(Data)}
    parts |= {"train": data.train.map(tag), "val": data.val.map(tag), "test": data.test.map(tag)}
    parts["manifest"] = data.manifest.assign(task=pd.Categorical.from_codes(codes, dtype=kind))
    return Stream(**parts, tasks=told)


def with_allowed(stream: Stream, told: Tasks) -> Stream:
    """The same with "allowed", for what is told its task."""
    table = tf.constant(told.own)

    def allow(one: dict) -> dict:
        return one | {"allowed": tf.gather(table, one["task"])}

    return dataclasses.replace(
        stream, train=stream.train.map(allow), val=stream.val.map(allow), test=stream.test.map(allow)
    )


def check(config: Config, stream: Stream) -> None:
    """Raise InputError for a task with nothing to train, choose or be judged on, or nothing to tell apart."""
    told = stream.told
    counts = stream.manifest.groupby(["task", "split"], observed=False).size().unstack(fill_value=0)
    for number, name in enumerate(told.names):
        count = int(told.own[number].sum())
        if count < 2 and (config.scenario == "task" or number == 0):
            raise InputError(
                f"task {name!r} has one class, and nothing to tell it from; give it two at least."
            )
        for split in USED if number >= told.before else ():
            if not counts.get(split, pd.Series(dtype=int)).get(name, 0):
                raise InputError(
                    f"task {name!r} has no {split} pictures; add some (a split of its own, or more of "
                    "its classes), or leave the task out."
                )


def in_words_of(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
