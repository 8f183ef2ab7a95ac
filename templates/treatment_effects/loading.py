"""A trial as a table: rows of people with a treatment, an outcome and what was known of them before."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import examples as examples_of
from runner.data.files import Row
from runner.data.sealed import Sealed
from runner.errors import InputError
from runner.networks import saved
from runner.tables import columns as columns_of
from runner.tables import layers, load, sources
from runner.tables.columns import Column
from runner.tables.load import Roles, Tables

from .config import Config

ARMS = ("control", "treated")
TRUTH = ("mu0", "mu1")
"""Columns with the expected outcomes without and with treatment, where somebody made the data and knows them;
they are read to score and for nothing else."""
LEAST = {"train": 5, "val": 2, "test": 2}
"""So many rows of each arm a split must have."""


@dataclass(frozen=True, eq=False)
class Trial(Tables):
    """`Tables` of a trial: the label of the manifest is the arm, and an element's label is float32 (2,), the
    treatment (0 or 1) and the outcome.

    treatment: int64 (examples,), -1 where it is not known. outcome: float64 (examples,). truth: float64
    (examples, 2), mu0 and mu1, or None. source: the larger trial, whose rows have the same columns, or None.
    """

    treatment: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    outcome: np.ndarray = field(default_factory=lambda: np.zeros(0))
    truth: np.ndarray | None = None
    source: "Trial | None" = None

    def of(self, split: str) -> np.ndarray:
        """The ids of a split."""
        return examples_of.ids(self.manifest, split)


def read(config: Config) -> Trial:
    """The small trial, and the larger one beside it where the network begins with that.

    The columns that both have are scaled as the larger trial has them, and its categories have their places
    first. Raises InputError in one line for what a person can put right.
    """
    if config.weights not in ("source", "none"):
        return one(config, config.data, layers.columns_in(saved.load(Path(config.weights).expanduser())))
    if config.weights == "none" and not config.source:
        return one(config, config.data)
    source = one(config, config.source, source=True)
    small = one(config, config.data, source.columns)
    if not {column.name for column in source.columns} & set(small.cells):
        raise InputError(
            f"source={config.source!r} and data={config.data!r} share no column of covariates; "
            "name the columns alike, or give --source '' --weights none."
        )
    source = dataclasses.replace(source, columns=small.columns)
    return dataclasses.replace(small, source=_made(source, columns_of.coded(source.cells, small.columns)))


def one(config: Config, data: str, known: tuple[Column, ...] = (), source: bool = False) -> Trial:
    """A trial alone; source: it is the larger one, of which no row is kept for a test."""
    table = sources.find(data, label=config.treatment)
    where = f"{'source' if source else 'data'}={data!r}"
    cells, problems = _checked(config, table.cells, table.names, where)
    truth = [name for name in TRUTH if name in cells]
    if len(truth) == 1:
        raise InputError(f"Received {where} with {truth[0]!r} alone; give both of mu0 and mu1, or none.")

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        """Of the small trial a name that is not there is a mistake; a larger one may lack it."""
        return tuple(name for name in names if not source or name in cells)

    roles = Roles(
        label=config.treatment,
        split=config.split,
        group=config.group,
        leave_out=(
            config.outcome,
            *truth,
            *(name for name in config.leave_out if not source or name in cells),
        ),
        categories=tuple(name for name in config.categories if not source or name in cells),
    )
    whole = source or config.test_fraction != 1
    table = dataclasses.replace(table, cells=cells, problems=[*table.problems, *problems])
    found = load.load(
        table,
        roles,
        seed=config.machine.seed,
        train_rows=config.train_rows if isinstance(config.train_rows, int) and not source else None,
        val_fraction=0.15 if source else config.val_fraction,
        test_fraction=0.02 if source else config.test_fraction,
        on_bad_data=config.on_bad_data,
        known=known,
    )
    manifest = found.manifest
    if source:
        manifest = manifest.assign(split=manifest["split"].replace("test", "train"))
    if tuple(found.classes) != ARMS:
        manifest = manifest.assign(label=examples_of.labels_of(manifest["label"].astype(object), ARMS))
    _check_splits(manifest, where, ("train", "val", "test") if whole and not source else
                  ("train", "val") if source else ("test",))  # fmt: skip
    own = {f.name: getattr(found, f.name) for f in dataclasses.fields(Tables)}
    own |= {"classes": ARMS, "manifest": manifest}
    treatment = manifest["label"].cat.codes.to_numpy(np.int64)
    outcome = columns_of.numbers(found.cells[config.outcome])
    known_truth = None
    if truth:
        known_truth = np.stack([columns_of.numbers(found.cells[name]) for name in TRUTH], axis=1)
        if np.isnan(known_truth[treatment >= 0]).any():
            raise InputError(f"Received {where} whose mu0 and mu1 lack some values; fill or remove them.")
    return _made(Trial(**own, treatment=treatment, outcome=outcome, truth=known_truth), found.rows)


def _made(trial: Trial, rows: np.ndarray) -> Trial:
    """The same trial with these rows as numbers, and datasets of them."""
    labels = np.stack([trial.treatment, trial.outcome], axis=1).astype(np.float32)

    def dataset(split: str) -> tf.data.Dataset:
        ids = trial.of(split)
        return tf.data.Dataset.from_tensor_slices({"id": ids, "input": rows[ids], "label": labels[ids]})

    train, val, test = (dataset(split) for split in ("train", "val", "test"))
    return dataclasses.replace(trial, rows=rows, train=train, val=val, test=Sealed(test))


def with_outcomes(trial: Trial, outcome: np.ndarray, truth: np.ndarray, source: Trial | None) -> Trial:
    """The same people with other outcomes, float64 (examples,), whose truth is known."""
    return _made(dataclasses.replace(trial, outcome=outcome, truth=truth, source=source), trial.rows)


def _checked(
    config: Config, cells: pd.DataFrame, names: list[str], where: str
) -> tuple[pd.DataFrame, list[Row]]:
    """The cells with the arm in words, "" for a row whose treatment or outcome is not known."""
    for what in ("treatment", "outcome"):
        sources.column_there(getattr(config, what), cells, what, where)
    blank = columns_of.blank(cells)
    told, outcome = blank[config.treatment], columns_of.numbers(blank[config.outcome])
    arms = columns_of.numbers(told)
    strange = (told != "").to_numpy() & ~np.isin(arms, (0, 1))
    if strange.any():
        values = sorted(set(told[strange]))
        raise InputError(
            f"Received {where} with the treatment {values[0]!r}; 0 (not treated) and 1 (treated) are "
            "allowed: leave rows of other treatments out, and compare two at a time."
        )
    if len(there := set(arms[~np.isnan(arms)])) < 2:
        alone = f"the treatment {there.pop():g} alone" if there else "no treatment"
        raise InputError(
            f"Received {where} with {alone}; both arms must be there, 0 and 1: without "
            "either there is nothing to compare."
        )
    readable = ~np.isnan(outcome)
    if not (said := (blank[config.outcome] != "").to_numpy()).any() or readable.sum() < 0.5 * said.sum():
        example = blank[config.outcome][said].iloc[0] if said.any() else ""
        raise InputError(
            f"Received {where} with the outcome {example!r}; a number is allowed, or 0 and 1: name the "
            "column (--outcome), or make numbers of its words."
        )
    for arm, name in enumerate(ARMS):
        own = outcome[readable & (arms == arm)]
        if not len(own) or len(own) < 2:
            raise InputError(f"Received {where} with {len(own)} outcomes of the arm {name}; give more rows.")
    if np.ptp(outcome[readable & ~np.isnan(arms)]) == 0:
        raise InputError(
            f"Received {where} whose outcome is {outcome[readable][0]:g} in every row; an outcome that "
            "differs is needed: there is no effect to find."
        )
    usable = readable & ~np.isnan(arms)
    arm = np.where(usable, np.where(arms == 1, ARMS[1], ARMS[0]), "")
    problems = [
        (names[row], "unlabelled", "its treatment or outcome is not known: it is left out")
        for row in np.flatnonzero(~usable)[:50]
    ]
    return cells.assign(**{config.treatment: arm.astype(object)}), problems


def _check_splits(manifest: pd.DataFrame, where: str, splits: tuple[str, ...]) -> None:
    for split in splits:
        counts = manifest.loc[manifest["split"] == split, "label"].value_counts()
        for arm in ARMS:
            if counts.get(arm, 0) < LEAST[split]:
                raise InputError(
                    f"Received {where} with {counts.get(arm, 0)} {arm} rows in {split}; at least "
                    f"{LEAST[split]} of each arm are needed there: give more rows, or another share."
                )
