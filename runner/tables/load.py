"""Rows of a table with labels become one `Tables`: three datasets of rows as numbers, one manifest, and what
was wrong.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import examples, splits
from runner.data.checks import count
from runner.data.examples import Data
from runner.data.files import Row
from runner.data.sealed import Sealed
from runner.data.source import Source, in_columns, in_splits, ordered
from runner.data.splits import USED
from runner.errors import InputError
from runner.tables import checks, sources
from runner.tables import columns as columns_of
from runner.tables.columns import Column
from runner.tables.related import Related
from runner.tables.sources import UNIT, Table

MOST_CLASSES = 100


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are for; what is no role is input.

    label, split, group, weight: names of columns that are no input; split and group may be lacking where they
    have these names, and weight, how much a row counts in training, is "" for none. subgroup: what the
    results are also given for; no input where it is called so, and input where it is another column.
    leave_out: no input either. numbers, categories, dates: columns of a kind that is not the one that is
    written in them. missing: what stands for a missing value. zeros_missing: columns whose zeros do.
    encoding: of a text file.
    """

    label: str = "label"
    split: str = "split"
    group: str = "group"
    subgroup: str = "subgroup"
    weight: str = ""
    leave_out: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    missing: tuple[str, ...] = columns_of.MISSING
    zeros_missing: tuple[str, ...] = ()
    encoding: str = ""

    @property
    def kinds(self) -> dict[str, str]:
        """Name -> kind, where it is given."""
        return (
            dict.fromkeys(self.numbers, "number")
            | dict.fromkeys(self.categories, "category")
            | dict.fromkeys(self.dates, "date")
        )

    def inputs(self, cells: pd.DataFrame) -> list[str]:
        """The columns of a table that are input, in its order."""
        other = {self.label, self.split, self.group, self.weight, "subgroup", *self.leave_out}
        return [str(name) for name in cells if name not in other]


@dataclass(frozen=True, eq=False)
class Tables(Data):
    """`Data` of rows: an element's input is float32 (columns,), as `columns.coded` makes it.

    columns: what these are. cells: DataFrame of str by id, as they were found ("" for what is missing), also
    the columns that are no input; rows: float32 (examples, columns), all inputs. Those of test among them: to
    show, once that is open. related: another table to learn from before, or None.
    """

    columns: tuple[Column, ...] = ()
    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    related: Related | None = None


def load(
    source: str | Path | Table,
    roles: Roles,
    *,
    seed: int = 0,
    train_rows: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    on_bad_data: str = "skip",
    known: Sequence[Column] = (),
    related: Related | None = None,
) -> Tables:
    """Load a table, split it, check it, and make numbers of its rows.

    source: as `sources.find` takes it, or its `Table`. Splits that it gives are kept; a missing val or test
    is carved out of train, stratified and seeded. Rows of one group, and identical rows, stay in one split.
    A row without a label is "unused": it may be learned from, as far as that needs no label.
    train_rows: train on so many rows, and validate on at most as many, each class by its share and at least
    two; the rest is "unused". val_fraction, test_fraction: share of the labelled rows there are to split; or
    0 and 1, to judge a finished network by all of them.
    on_bad_data: "skip" leaves out and names what cannot be read; "stop" raises.
    known: columns of an earlier network, which keep their places and vocabularies; the table's other columns
    come after them, where something is trained. related: whose columns count as known from its rows.
    Raises InputError for what a person can put right.
    """
    examples.check_options(seed, None, val_fraction, test_fraction, on_bad_data)
    table = source if isinstance(source, Table) else sources.find(source, roles.encoding, roles.label)
    where, trains = f"data={table.name!r}", test_fraction != 1
    cells = _checked(table, roles, where)
    found = _as_source(table, cells, roles, where)
    _check_labels(found, roles, trains)
    if (
        found.problems
        and on_bad_data == "stop"
        and any(kind == "unreadable" for _, kind, _ in found.problems)
    ):
        path, _, message = found.problems[0]
        raise InputError(f"Received {where} with {path!r}: {message}; repair it, or give on_bad_data='skip'.")

    manifest = examples.begin_manifest(found)
    inputs = roles.inputs(cells)
    names = list(dict.fromkeys([*(one.name for one in known), *(related.inputs if related else ()), *inputs]))
    names = names if trains else [one.name for one in known] or names
    manifest["sha256"], repeated = hashes(cells.reindex(columns=names, fill_value=""))
    labelled = (manifest["label"].notna()).to_numpy()
    given = set(manifest["split"]) - {""}
    dealt = np.full(len(manifest), "unused", dtype=object)
    dealt[labelled] = examples.divide(
        manifest[labelled].reset_index(drop=True),
        manifest["label"].cat.codes.to_numpy(np.int64)[labelled],
        seed=seed,
        unit=UNIT,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
    )
    manifest["split"] = dealt
    if train_rows is not None and trains:
        manifest["split"] = fewer(manifest, train_rows, seed)

    learnable = cells.loc[(manifest["split"] != "test").to_numpy(), inputs]
    columns = _columns(learnable, known, related, roles, trains, names)
    rows = columns_of.coded(cells, columns)
    told = [
        *found.problems,
        *columns_of.unreadable(cells, columns, table.names),
        *checks.everything(manifest, cells, columns, count(manifest, found.classes), repeated),
        *_unseen(rows, columns, manifest),
        *(related.shared(cells, manifest) if related and trains else ()),
    ]
    labels = manifest["label"].cat.codes.to_numpy(np.int64)
    train, val, test = (dataset(rows, labels, examples.ids(manifest, split)) for split in USED)
    return Tables(
        train,
        val,
        Sealed(test),
        found.classes,
        manifest,
        examples.problems(told),
        recipe=hashlib.sha256(repr(columns).encode()).hexdigest(),
        unit=UNIT,
        carved=splits.carved_in_words(given, val_fraction, test_fraction),
        columns=columns,
        cells=cells,
        rows=rows,
        related=None if related is None else related.coded(columns),
    )


def dataset(rows: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> tf.data.Dataset:
    """The elements of some rows: {"id": int64 (), "input": float32 (columns,), "label": int64 ()}."""
    return tf.data.Dataset.from_tensor_slices({"id": ids, "input": rows[ids], "label": labels[ids]})


def _checked(table: Table, roles: Roles, where: str) -> pd.DataFrame:
    """The cells with "" for what is missing; raises InputError for a role of a column that is not there."""
    sources.column_there(roles.label, table.cells, "label", where)
    usual = {one.name: one.default for one in dataclasses.fields(Roles)}
    for what in ("split", "group", "subgroup", "weight"):
        name = getattr(roles, what)
        if name and name != usual[what]:
            sources.column_there(name, table.cells, what, where)
    for what in ("leave_out", "zeros_missing"):
        for name in getattr(roles, what):
            sources.column_there(name, table.cells, what, where)
    columns_of.check_kinds(roles.kinds, [str(name) for name in table.cells], where)
    if not roles.inputs(table.cells):
        raise InputError(f"Received {where} without a column of input beside {roles.label!r}; add one.")
    return columns_of.blank(table.cells, roles.missing, roles.zeros_missing)


def _as_source(table: Table, cells: pd.DataFrame, roles: Roles, where: str) -> Source:
    """What all kinds of examples have of the table: labels, splits, groups, weights."""
    plain = pd.DataFrame({"path": table.names, "label": cells[roles.label]}, dtype=object)
    for what in ("split", "group", "subgroup", "weight"):
        name = getattr(roles, what)
        if name and name in cells:
            plain[what] = cells[name]
    said = plain["label"] != ""
    if "split" in plain:  # a row without a label needs none
        plain.loc[~said & (plain["split"] == ""), "split"] = "train"
    given = in_splits(plain, table.lines, f"Received {where}", needed=())
    found, problems = in_columns(given, table.lines, f"Received {where}")
    classes = ordered(set(found["label"]) - {""})
    return Source(found, classes, lambda: iter(()), [*table.problems, *problems], name=table.name)


def _check_labels(found: Source, roles: Roles, trains: bool) -> None:
    labelled = Source(
        found.examples[found.examples["label"] != ""], found.classes, found.read, name=found.name
    )
    examples.check_source(labelled, repr(found.name), None, None, UNIT, trains)
    if len(found.classes) > MOST_CLASSES:
        raise InputError(
            f"Received data={found.name!r}, whose column {roles.label!r} has {len(found.classes)} different "
            f"labels; at most {MOST_CLASSES} classes can be told apart: name another (--label), or make "
            "ranges of its numbers."
        )


def _columns(
    learnable: pd.DataFrame,
    known: Sequence[Column],
    related: Related | None,
    roles: Roles,
    trains: bool,
    names: Sequence[str],
) -> tuple[Column, ...]:
    """Known ones first; the others by the rows that may be learned from, those of the related table too."""
    if known and not trains:
        return tuple(known)
    there = {one.name for one in known}
    both = learnable
    if related is not None:
        both = pd.concat([related.cells[list(related.inputs)], learnable], ignore_index=True).fillna("")
    new = [name for name in names if name not in there]
    return (*known, *columns_of.describe(both[new], roles.kinds))


def hashes(cells: pd.DataFrame) -> tuple[list[str], bool]:
    """The content hash of each row, and whether most rows are like another one: then a hash is of the row's
    place too, since such rows are many cases and no copies.
    """
    joined = ["\x1f".join(row) for row in cells.itertuples(index=False, name=None)]
    repeated = len(set(joined)) < 0.5 * len(joined)
    if repeated:
        joined = [f"{row}\x1f{one}" for row, one in enumerate(joined)]
    return [hashlib.sha256(one.encode("utf-8", "surrogatepass")).hexdigest() for one in joined], repeated


def fewer(manifest: pd.DataFrame, train_rows: int, seed: int) -> np.ndarray:
    """The splits with all but `train_rows` of train, and as many of val, set to "unused".

    Each class keeps its share, and two rows of every class that has them stay. Nested: with the same seed,
    what is chosen for 30 is chosen for 100.
    """
    chosen = manifest["split"].to_numpy(dtype=object, copy=True)
    codes = manifest["label"].cat.codes.to_numpy()
    available = int((chosen == "train").sum())
    least = 2 * len(manifest["label"].cat.categories)
    if not least <= train_rows <= available:
        raise InputError(
            f"Received train_rows={train_rows} and {available} labelled rows to train on; allowed: {least} "
            f"to {available}, or all."
        )
    for stream, split in enumerate(("train", "val")):
        there = np.flatnonzero(chosen == split)
        order = np.random.RandomState([seed, stream]).permutation(there)
        # A row's turn: the how-manieth of its class it is, by the share of the class; the first two at once.
        turn = np.empty(len(order))
        for code in np.unique(codes[there]):
            of_class = np.flatnonzero(codes[order] == code)
            place = np.arange(len(of_class))
            turn[of_class] = np.where(place < 2, -1, (place + 0.5) * len(order) / len(of_class))
        chosen[order[np.argsort(turn, kind="stable")][train_rows:]] = "unused"
    return chosen


def _unseen(rows: np.ndarray, columns: Sequence[Column], manifest: pd.DataFrame) -> list[Row]:
    """Say how many test rows have a category that nothing was learned of; kind "unseen"."""
    tested = columns_of.unseen(rows[examples.ids(manifest, "test")], columns)
    return [
        (
            "",
            "unseen",
            f"{number} test rows have a {name!r} that no {columns_of.LEAST} rows to learn from have: all "
            "such count as one",
        )
        for name, number in tested[tested > 0].items()
    ]
