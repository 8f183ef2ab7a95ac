"""From what a Config names to a stream of tasks; also where data arrives later, for a finished run."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner import fields
from runner.data import examples as examples_of
from runner.data.examples import Data
from runner.errors import InputError
from runner.pictures import sources
from runner.runs import folder

from . import memory, tasks
from .config import Config
from .tasks import Stream, Tasks


def load(config: Config) -> Stream:
    """The pictures of all tasks, resized, and their manifest.

    With `continue_from` the earlier run's tasks come first, of which validation and test pictures alone are
    there, as far as its data still is. Raises InputError for classes that no picture has or that stand in two
    tasks, for a task without pictures to train, choose or be judged on, and for a run that cannot go on.
    """
    stream = _load(config)
    tasks.check(config, stream)
    return tasks.with_allowed(stream, stream.told) if config.scenario == "task" else stream


def load_new(config: Config, data: str) -> Data:
    """Labelled pictures to judge a finished run by; config.weights is the run's folder, by `evaluate`."""
    examples = tasks.pictures(dataclasses.replace(config, data=data), sources.find(data))
    if config.scenario != "task":
        return examples
    record = folder.read_metrics(Path(config.weights))
    told = _recorded(record, "task")
    place = {
        name: int(np.flatnonzero(own)[0]) for name, own in zip(record["classes"], told.own.T, strict=True)
    }
    codes = examples.manifest["label"].map(place).astype(float).fillna(0).astype(int).to_numpy()
    return tasks.with_allowed(tasks.tagged(examples, told, codes), told)


def _load(config: Config) -> Stream:
    if config.continue_from:
        return _continued(config)
    source, names, codes = tasks.divided(config, sources.find(config.data), tasks.TASKS)
    if config.scenario == "domain" and config.tasks != ("column",):
        raise InputError(
            f"scenario='domain' was given with tasks={config.tasks}: its tasks have the same classes, and "
            "something else must tell them apart; give a CSV file with a column task, and --tasks column."
        )
    data = tasks.pictures(config, source)
    return tasks.tagged(
        data, Tasks(names, tasks.own_of(data, codes, len(names), config), config.scenario), codes
    )


# ---------------------------------------------------------------- data that arrives later

SAME = ("scenario", "backbone", "image_size", "resize")
"""Settings that a run which goes on with another's cannot change."""


def earlier(config: Config) -> tuple[Config, dict[str, Any]]:
    """The Config of the run that is continued, and its metrics.json.

    Raises InputError for a run of something else, and for settings with which its weights do not go.
    """
    run = Path(os.path.expanduser(config.continue_from))
    record, metrics = folder.read_complete(run), folder.read_metrics(run)
    if "tasks" not in metrics:
        raise InputError(f"continue_from={str(run)!r} is no run of continual learning; give one that is.")
    before = fields.from_dict(record, Config, str(run / "config.json"))
    differing = [name for name in SAME if getattr(before, name) != getattr(config, name)]
    trained = [[(one.train, one.batch_norm) for one in each.stages] for each in (before, config)]
    for name in config.methods:
        if name != "joint":
            memory.check(run, name)
    if differing:
        name = differing[0]
        raise InputError(
            f"continue_from={str(run)!r} was trained with {name}={getattr(before, name)!r}, now it is "
            f"{getattr(config, name)!r}; give the same."
        )
    if trained[0] != trained[1]:
        raise InputError(
            f"continue_from={str(run)!r} trains {trained[0]} in its stages, now they train {trained[1]}; "
            "give the same (epochs and rates may differ)."
        )
    return before, metrics


def _recorded(metrics: Mapping[str, Any], scenario: str) -> Tasks:
    """The tasks of metrics.json."""
    own = [[name in one["classes"] for name in metrics["classes"]] for one in metrics["tasks"]]
    names = tuple(str(one["name"]) for one in metrics["tasks"])
    return Tasks(names, np.array(own, bool).reshape(len(names), -1), scenario)


def _continued(config: Config) -> Stream:
    """The tasks of an earlier run, and those of `data` after them."""
    before, metrics = earlier(config)
    old = _recorded(metrics, config.scenario)
    source, names, codes = tasks.divided(config, sources.find(config.data), 1)
    known = tuple(metrics["classes"])
    both = [name for name in source.classes if name in known]
    if config.scenario != "domain" and both:
        raise InputError(
            f"data={config.data!r} has the class {both[0]!r}, which {config.continue_from!r} was trained on "
            "already; what comes later has new classes, or --scenario domain."
        )
    if config.scenario == "domain" and len(both) < len(source.classes):
        new = next(name for name in source.classes if name not in known)
        raise InputError(
            f"data={config.data!r} has the class {new!r}, which {config.continue_from!r} does not know: "
            f"with scenario='domain' the classes stay {tasks.in_words_of(known)}."
        )
    if config.scenario == "domain" and config.tasks != ("column",):
        names = (Path(config.data).name,)
    twice = [name for name in names if name in old.names]
    if twice:
        raise InputError(f"the task {twice[0]!r} was there before; give what comes later another name.")
    data = tasks.pictures(config, source)
    classes = known if config.scenario == "domain" else known + data.classes
    count = len(old.names) + len(names)
    own = np.zeros((count, len(classes)), bool)
    own[: len(old.names), : len(known)] = old.own
    places = np.array([classes.index(name) for name in data.classes])
    own[codes + len(old.names), places[data.manifest["label"].cat.codes]] = True
    own = np.ones_like(own) if config.scenario == "domain" else own
    told = Tasks(old.names + names, own, config.scenario, before=len(old.names))
    try:
        past = _load(before)
    except InputError as error:
        said = f"the data of {config.continue_from} cannot be read, so that its tasks are not judged: {error}"
        row = examples_of.problems([("", "missing", said)])
        data = dataclasses.replace(data, problems=pd.concat([data.problems, row], ignore_index=True))
        return _after(None, data, classes, places, told, codes)
    return _after(past, data, classes, places, told, codes)


def _after(
    past: Stream | None,
    data: Data,
    classes: tuple[str, ...],
    places: np.ndarray,
    told: Tasks,
    codes: np.ndarray,
) -> Stream:
    """Two streams as one, without the training pictures of the first."""
    offset = 0 if past is None else len(past.manifest)
    table = tf.constant(places, tf.int64)

    def moved(one: dict) -> dict:
        return one | {"label": tf.gather(table, one["label"])}

    codes = codes + told.before
    names = data.manifest["label"].astype(str)
    now = dataclasses.replace(
        data,
        train=data.train.map(moved),
        val=data.val.map(moved),
        test=data.test.map(moved),
        classes=classes,
        manifest=data.manifest.assign(label=examples_of.labels_of(names, classes)),
    )
    stream = tasks.tagged(now, told, codes)
    if past is None:
        return stream

    def later(one: dict) -> dict:
        return one | {"id": one["id"] + offset}

    kind = pd.CategoricalDtype(list(told.names))
    gone = past.manifest["split"].replace({"train": "unused"})
    first = past.manifest.assign(
        split=gone,
        label=examples_of.labels_of(past.manifest["label"].astype(str), classes),
        task=past.manifest["task"].astype(str).astype(kind),
    )
    pairs = data.near_duplicates
    if len(pairs):
        pairs = pairs.assign(first=pairs["first"] + offset, second=pairs["second"] + offset)
    return dataclasses.replace(
        stream,
        train=stream.train.map(later),
        val=past.val.concatenate(stream.val.map(later)),
        test=past.test.followed_by(stream.test.map(later)),
        manifest=pd.concat([first, stream.manifest], ignore_index=True),
        near_duplicates=pairs,
        odd={one + offset: picture for one, picture in data.odd.items()},
    )
