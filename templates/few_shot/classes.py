"""Pictures whose splits differ in their classes: known ones to train on, others to choose on, new ones to
test.
"""

import dataclasses
import hashlib
import inspect
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import examples
from runner.data.checks import copies
from runner.data.examples import Data
from runner.data.files import SPLIT_WORDS
from runner.data.sealed import Sealed
from runner.data.source import ROOT, Source, datasets
from runner.data.splits import USED
from runner.errors import InputError
from runner.pictures import decoding, images, in_memory, sources, square

from . import episodes
from .config import Config

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of `arrays`."""


def load(config: Config) -> Data:
    """The pictures of all classes, in splits that share no class; `Data.classes` begins with those to train
    on.

    Pictures are kept in memory. Raises InputError for classes that stand in two splits, for names that are
    none, and where a split has too few classes or pictures for its episodes.
    """
    known = found(config.data)
    split_of = divide(config, known)
    parts = [taken(known, split_of, pooled(config.data))]
    if config.new_classes:
        new = found(config.new_classes)
        both = sorted(set(new.classes) & set(split_of))
        if both:
            raise InputError(
                f"Received data={config.data!r} and new_classes={config.new_classes!r}, which both have "
                f"{in_words(both)}: the test must be of classes that nothing was trained or chosen on. "
                "Rename or remove them in one of the two."
            )
        split_of |= dict.fromkeys(new.classes, "test")
        parts.append(taken(new, dict.fromkeys(new.classes, "test"), pooled(config.new_classes)))
    return decoded(config, joined(parts), split_of)


def load_new(config: Config, data: str) -> Data:
    """Labelled pictures of classes that a finished run may never have heard of: all of them are its test."""
    new = found(data)
    split_of = dict.fromkeys(new.classes, "test")
    return decoded(config, taken(new, split_of, pooled(data)), split_of)


def found(data: str) -> Source:
    """The pictures that `data` names, as `sources.find`; and folders train, val and test of class folders
    that differ, which elsewhere must be the same.
    """
    root = Path(os.path.expanduser(data.strip()))
    there = data.strip() and root.is_dir()
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if there else []
    splits = [
        one for one in folders if one.name.lower() in SPLIT_WORDS and any(map(Path.is_dir, one.iterdir()))
    ]
    if len(splits) < 2 or len(splits) < len(folders):
        return sources.find(data)
    each = []
    for one in splits:
        part = sources.find(str(one))
        path = f"{one.name}/" + part.examples["path"]
        rows = part.examples.assign(split=SPLIT_WORDS[one.name.lower()], path=path)
        each.append(dataclasses.replace(part, examples=rows))
    return joined(each)


def pooled(data: str) -> bool:
    """Whether the splits of a source are of pictures, as a data set's are, and say nothing of its classes."""
    return data.strip() in datasets() or data.strip().startswith("tfds:")


def divide(config: Config, known: Source) -> dict[str, str]:
    """The split of each class of `data`: as its splits are, as the Config names them, or drawn by the seed.

    Raises InputError for a class in two splits and a name that is no class.
    """
    rows = known.examples
    given = rows["split"].ne("").any() and not pooled(config.data)
    if given:
        of = rows.groupby("label")["split"].unique()
        torn = of[of.map(len) > 1]
        if len(torn):
            raise InputError(
                f"Received data={config.data!r}, whose {in_words(sorted(torn.index))} stand in "
                f"{' and '.join(sorted(torn.iloc[0]))}: the splits must differ in their classes. Put all "
                "pictures of a class into one, or leave the splits out to have the classes divided here."
            )
        split_of = of.map(lambda splits: splits[0]).to_dict()
    else:
        split_of = dict.fromkeys(known.classes, "train")
    for split, names in (("val", config.val_classes), ("test", config.test_classes)):
        unknown = [name for name in names if name not in split_of]
        if unknown:
            raise InputError(
                f"{split}_classes names {in_words(unknown)}, which data={config.data!r} does not have; its "
                f"classes are {in_words(list(known.classes))}."
            )
        if names and split in split_of.values():
            raise InputError(
                f"{split}_classes={names} and data={config.data!r} with a {split} split both say which "
                f"classes are {split}; leave one out."
            )
        split_of |= dict.fromkeys(names, split)
    if config.new_classes and "test" in split_of.values():
        raise InputError(
            f"Received data={config.data!r} with a test split and new_classes={config.new_classes!r}: both "
            "are the test; leave one out (--new-classes '')."
        )
    # Test first: what is held out does not depend on what is chosen on.
    free = [name for name in known.classes if split_of[name] == "train"]
    order = [str(name) for name in np.random.RandomState(config.machine.seed).permutation(free)]
    wanted = {} if config.new_classes else {"test": config.test_fraction}
    for split, share in (wanted | {"val": config.val_fraction}).items():
        if split not in split_of.values():
            count = round(share * len(free))
            split_of |= dict.fromkeys(order[:count], split)
            order = order[count:]
    return split_of


def taken(source: Source, split_of: Mapping[str, str], pool: bool) -> Source:
    """The same source with the split of each row's class. pool: the source's own splits are of pictures; a
    class then takes those of the split of the same name, where there are any.
    """
    rows = source.examples
    own, wanted = rows["split"], rows["label"].map(split_of)
    keep = (own == wanted) | ~wanted.isin(set(own)) if pool else pd.Series(True, rows.index)
    chosen = keep.to_numpy()

    def read() -> Iterator[str | bytes]:
        return itertools.compress(source.read(), chosen)

    return dataclasses.replace(
        source, examples=rows.assign(split=wanted)[chosen].reset_index(drop=True), read=read
    )


def joined(parts: list[Source]) -> Source:
    """Several sources as one."""
    return Source(
        pd.concat([one.examples for one in parts], ignore_index=True),
        tuple(dict.fromkeys(name for one in parts for name in one.classes)),
        lambda: itertools.chain.from_iterable(one.read() for one in parts),
        [row for one in parts for row in one.problems],
    )


def decoded(config: Config, source: Source, split_of: Mapping[str, str]) -> Data:
    """Decode every picture and check that each split has enough for its episodes."""
    names = tuple(name for split in USED for name in source.classes if split_of[name] == split)
    counts = {split: source.examples["label"][source.examples["split"] == split] for split in USED}
    # What cannot be is said before a picture is decoded; what cannot be read may change it.
    check(config, {split: rows.value_counts() for split, rows in counts.items()}, split_of)
    pictures = in_memory.aligned(len(source.examples), config.image_size)
    facts, _, _, _, problems = decoding.look_at_all(source, config.image_size, config.resize, pictures)
    unreadable = [row for row in problems if row[1] == "unreadable"]
    if unreadable and config.on_bad_data == "stop":
        raise InputError(
            f"{unreadable[0][0]!r} cannot be read ({unreadable[0][2]}), and {len(unreadable) - 1} more; "
            "repair or remove them, or skip them with --on-bad-data skip."
        )
    table = examples.begin_manifest(dataclasses.replace(source, classes=names)).join(facts)
    table.loc[table["sha256"] == "", "split"] = "skipped"
    usable = {split: table["label"][table["split"] == split].astype(str) for split in USED}
    check(config, {split: rows.value_counts() for split, rows in usable.items()}, split_of)
    labels = table["label"].cat.codes.to_numpy(np.int64)
    ids = [examples.ids(table, split) for split in USED]
    train, val, test = in_memory.datasets(pictures, ids, {"label": labels})
    told = [*source.problems, *problems, *copies(table), *known_before(config.weights, split_of)]
    code = hashlib.sha256(b"".join(Path(inspect.getfile(one)).read_bytes() for one in (images, square)))
    return Data(
        train,
        val,
        Sealed(test),
        names,
        table,
        examples.problems(told),
        recipe=f"{config.resize} {config.image_size} {code.hexdigest()}",
        unit="pictures",
        carved=", ".join(f"{split} {list(split_of.values()).count(split)} classes" for split in USED),
    )


def check(config: Config, counts: Mapping[str, pd.Series], split_of: Mapping[str, str]) -> None:
    """Raise InputError where a split cannot be used.

    counts: of each split, how many pictures each of its classes has.
    """
    only_judged = set(split_of.values()) == {"test"}
    for split in ("test",) if only_judged else ("val", "test"):
        episodes.check(counts[split], config.ways, max(config.shots), config.queries, split)
    if not only_judged and len(counts["train"]) < 2:
        raise InputError(
            f"Received {len(counts['train'])} class to train on, beside {len(counts['val'])} to choose on "
            f"and {len(counts['test'])} for the test; at least two are needed: add classes, or name fewer "
            "--val-classes."
        )
    if "ProtoNet" in config.methods and not only_judged:
        given = config.train_ways, config.train_shots, config.train_queries
        episodes.check(counts["train"], *given, "training", "--train-")
    if {"MAML", "first-order MAML", "ANIL"} & set(config.methods) and not only_judged:
        given = config.ways, config.train_shots, config.train_queries
        episodes.check(counts["train"], *given, "training")


def known_before(weights: str, split_of: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """A row for each split with classes that a checkpoint of this repository was trained on, by its card."""
    card = ROOT / "checkpoints" / weights / "card.json"
    if weights in ("none", "imagenet") or not card.is_file():
        return []
    learned = set(json.loads(card.read_text(encoding="utf-8")).get("classes", ()))
    rows = []
    for split, means in (
        ("val", "what is chosen on them may be too sure"),
        ("test", "the test says too much"),
    ):
        names = [name for name, of in split_of.items() if of == split and name in learned]
        if names:
            rows.append(("", "seen", f"the weights {weights} know {in_words(names)} of {split}: {means}"))
    return rows


def in_words(names: list[str]) -> str:
    """ "class 'a'", or "classes 'a', 'b', ... (12)"."""
    shown = ", ".join(repr(name) for name in names[:5])
    if len(names) == 1:
        return f"class {shown}"
    return f"classes {shown}{f', ... ({len(names)})' if len(names) > 5 else ''}"


def arrays(dataset: tf.data.Dataset) -> Arrays:
    """A split as arrays: id int64 (n,), label int64 (n,), pictures uint8 (n, size, size, 3)."""
    parts = list(dataset.batch(256).as_numpy_iterator())
    ids, labels, pictures = (
        np.concatenate([one[name] for one in parts]) for name in ("id", "label", "input")
    )
    return ids, labels, pictures
