"""Load the data, learn from the source, train in stages, compare with rivals, test once, write the report.

    python -m templates.tabular.train --data ~/clinic.csv --source ~/hospital.csv --label outcome

Results go to a new folder below runs/; open its report.html.
"""

from runner import flags, quiet

from .config import Config

if __name__ == "__main__":
    # The flags come before the imports that take seconds, so that --help and a misspelt flag are answered
    # at once.
    with flags.exit_on_input_error():
        CONFIG = flags.parse(Config)
        quiet.import_tensorflow()

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import weights as example_weights
from runner.data.examples import compared_groups
from runner.data.source import datasets
from runner.devices import strategy
from runner.networks import saved
from runner.runs import run as runs
from runner.scores import assessment, classification, intervals, operating_point, ranking
from runner.table_runs import predict as new_rows
from runner.tables import layers, related
from runner.tables.batches import batches
from runner.tables.load import Roles, Tables
from runner.tables.load import load as load_table
from runner.training import baselines, solved
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages
from runner.training.frozen import FrozenPrefix

from . import method, model, rivals, sections
from .before import learn_source
from .rivals import arms

FEW = 100
"""Rows of data that comes along, where nobody says how many."""


def load(config: Config) -> Tables:
    """The three splits as rows of numbers, their manifest, and the source beside them."""
    roles = Roles(
        label=config.label,
        split=config.split,
        group=config.group,
        subgroup=config.subgroup,
        weight=config.weight,
        leave_out=config.leave_out,
        numbers=config.numbers,
        categories=config.categories,
        dates=config.dates,
        missing=config.missing,
        zeros_missing=config.zeros_missing,
        encoding=config.encoding,
    )
    trains = config.test_fraction != 1
    known, other = (), None
    if model.begins(config) not in ("source", "masked", "none"):
        known = layers.columns_in(saved.load(Path(model.begins(config)).expanduser()))
    if model.related(config) != "none" and trains:
        same = ("label", "leave_out", "missing", "zeros_missing", "encoding")
        given = {name: getattr(roles, name) for name in same}
        other = related.find(model.related(config), config.outcomes, **given)
    few = FEW if config.data.partition("/")[0].strip() in datasets() else None
    examples = load_table(
        config.data,
        roles,
        seed=config.machine.seed,
        train_rows=config.train_rows
        if isinstance(config.train_rows, int)
        else few
        if config.train_rows == "auto"
        else None,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        known=known,
        related=other,
    )
    operating_point.check_positive(config.positive, examples.classes)
    return examples


def fit(
    config: Config,
    examples: Tables,
    name: str = "",
    checkpoints: Checkpointing | None = None,
    source: keras.Model | None = None,
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are.

    source: of `learn_source`.
    """
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples, source)
        method.stay_near(network, blocks, config.start_penalty if config.weights != "none" else 0.0)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **strategy.compile_options(config.machine),
        )
    weights = example_weights.of_examples(examples, config.class_weight)
    if config.solve_head:
        solved.solve(network, "head", examples.train, examples.val, weights, factors=model.factors(network))
    fitted = fit_stages(
        network,
        batches(
            examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed, weights=weights
        ),
        batches(examples, "val", config.batch_size, weights=weights),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        frozen=FrozenPrefix() if config.keep_frozen else None,
        keep_start=config.solve_head,
    )
    return network, fitted


def fit_rivals(
    config: Config, examples: Tables, source: keras.Model | None, scores: rivals.Scores | None = None
) -> tuple[dict[str, Any], dict[str, Fit]]:
    """What needs no training of a network: the rivals, and the head that is solved on the frozen network.

    scores: as `rivals.fit` takes them.
    """
    networks, fits = rivals.fit(config, examples, scores)
    if source is not None:
        network, _ = model.build(config, examples, source)
        weights = example_weights.of_examples(examples, config.class_weight)
        given = (network, "head", examples.train, examples.val, weights)
        fits[baselines.SOLVED] = solved.fit(*given, factors=model.factors(network))
        networks[baselines.SOLVED] = network
    return networks, fits


def judge(
    config: Config, networks: dict[str, Any], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """What each method answers on a split, which is read once; see `classification.tables`."""
    parts = list(split.batch(1024).as_numpy_iterator())
    known = {name: np.concatenate([one[name] for one in parts]) for name in ("id", "input", "label")}
    rows = known.pop("input")
    logits = {name: rivals.answering(network)(rows) for name, network in networks.items()}
    return classification.tables(known, logits, classes)


def tables(judged: pd.DataFrame, examples: Tables) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one method as numbers, a row per class, and a row per example."""
    group = examples.manifest["group"]
    codes = judged["label"].cat.codes.to_numpy()
    p = classification.probabilities(judged, examples.classes)
    value, low, high = ranking.area(codes, p, intervals.units(group, judged["id"]))
    numbers = {"roc_auc": value, "roc_auc_interval": [low, high]}
    return (
        numbers | classification.metrics(judged, examples.classes, group),
        classification.per_class(judged, examples.classes, group),
        judged,
    )


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of rows by a complete run: tables as they come.

    inputs: .csv, .tsv or .parquet files with the columns of the run; see `runner.table_runs.predict`.
    Nothing is drawn into `folder`.
    """
    return new_rows.class_tables(run, inputs, batch_size)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        examples = run.load(load)
        network, blocks = model.build(run.config, examples)
        layers.of_columns(network, examples.columns)  # what is saved at the end is tried before
        run.check(network, blocks, examples)
        networks, fits = {}, {}
        source, learned = learn_source(run.config, examples, run.checkpoints("source"))
        if run.config.baselines:
            networks, fits = fit_rivals(run.config, examples, source)
        for name, arm in arms(run.config).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name), source)
        if run.is_chief:
            if learned is not None:
                fits["source"] = learned
            judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Tables, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, classes = run.config, examples.classes
    run.save_network(networks["staged"], lambda network: layers.of_columns(network, examples.columns))
    validation = judge(config, networks, examples.val, classes)
    chosen_on = {name: tables(table, examples)[0]["roc_auc"] for name, table in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, "roc_auc", chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks), classes)
    metrics = {name: tables(table, examples)[0] for name, table in tested.items()}
    comparison = baselines.table(
        config, networks, fits, "roc_auc", chosen_on, metrics, ("accuracy",), sections.apart(tested, examples)
    )
    network, predictions, test = networks["staged"], tested["staged"], metrics.pop("staged")
    assessed = assessment.assess(
        validation["staged"],
        predictions,
        classes,
        compared_groups(examples),
        config.positive,
        config.operating_point,
        examples.manifest["group"],
    )
    run.save(
        examples,
        fits,
        comparison=comparison,
        per_class=classification.per_class(predictions, classes, examples.manifest["group"]),
        predictions=predictions,
        groups=assessed.groups,
    )
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test, assessed=assessed)
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        score=("roc_auc", "ROC AUC"),
        assessment=assessed,
        **sections.sections(config, examples, tested, network, assessed, comparison),
    )
    run.end({"classes": list(classes), "test": test} | assessed.record() | {"baselines": metrics})


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
