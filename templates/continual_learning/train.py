"""Load tasks, train on one after another in every way, test once at the end, write the report.

    python -m templates.continual_learning.train --data ~/photos --tasks "cat dog" "horse cow"

Results go to a new folder below runs/; open its report.html.
"""

from runner import flags, quiet

from .config import FROZEN, Config

if __name__ == "__main__":
    # The flags come before the imports that take seconds, so that --help and a misspelt flag are answered
    # at once.
    with flags.exit_on_input_error():
        CONFIG = flags.parse(Config)
        quiet.import_tensorflow()

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.examples import Data
from runner.devices import strategy
from runner.errors import InputError
from runner.moving import rates
from runner.networks import inference
from runner.picture_runs import predict as new_pictures
from runner.pictures import any_size
from runner.runs import folder as folders
from runner.runs import run as runs
from runner.scores import assessment, classification, paired
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit

from . import answers, batches, learners, loading, method, model, sections
from .learners import Learned
from .tasks import Stream

ORDER = (*FROZEN, "naive", "EWC", "SI", "LwF", "replay", "DER++")
"""What can be handed out: of equally good ones the first, which keeps the least."""


def load(config: Config) -> Stream:
    """The pictures of all tasks, resized, and their manifest."""
    return loading.load(config)


def load_new(config: Config, data: str) -> Data:
    """Labelled pictures of the run's classes, to judge it by."""
    return loading.load_new(config, data)


def fit(
    config: Config, examples: Stream, name: str = "naive", checkpoints: Checkpointing | None = None
) -> tuple[Learned, Fit]:
    """Take the method `name` through the tasks; go on from `checkpoints` if there are. A name that is no
    method is "joint" with the stages of `config`.
    """
    config, kind = rates.suited(config), name if name in ORDER else "joint"
    with strategy.scope(config.machine, config.backbone):
        if kind in FROZEN:
            return learners.solve(config, examples, kind)
        return learners.train(config, examples, kind, name, checkpoints)


def fit_all(
    config: Config, examples: Stream, checkpoints: Callable[[str], Checkpointing | None] = lambda name: None
) -> tuple[dict[str, Learned], dict[str, Fit]]:
    """Every method of the config, and "joint" from scratch where there are weights to begin with. What goes
    on with an earlier run has neither of the two that need all pictures.

    checkpoints: gives the place of a method's state, such as `Run.checkpoints`.
    """
    goes_on = bool(config.continue_from)
    arms = {name: config for name in config.methods if not (goes_on and name == "joint")}
    if config.baselines and config.weights not in baselines.UNTRAINED and not goes_on:
        arms = baselines.from_scratch(config) | arms
    if goes_on and "joint" in config.methods:
        print("joint is left out: it needs the pictures of all tasks, and those of before are not trained on")
    found, fits = {}, {}
    for name, arm in arms.items():
        found[name], fits[name] = fit(arm, examples, name, checkpoints(name))
    return found, fits


def judge(
    config: Config, networks: Mapping[str, Any], split: tf.data.Dataset, classes: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """What each network answers on a split after the last task; see `classification.tables`.

    networks: of `fit`, or networks alone. Where the task is told, other tasks' classes are not answered.
    """
    made = {name: one.network if isinstance(one, Learned) else one for name, one in networks.items()}
    known, logits = inference.outputs(made, split)
    if "allowed" in known:
        logits = {name: np.where(known["allowed"], one, -method.FAR) for name, one in logits.items()}
    return classification.tables(known, logits, classes)


def tables(judged: pd.DataFrame, examples: Data) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per class, and a row per example."""
    groups = examples.manifest["group"]
    return (
        classification.metrics(judged, examples.classes, groups),
        classification.per_class(judged, examples.classes, groups),
        judged,
    )


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of picture files, and of those in folders, by a complete run: tables as they come.

    Columns path, prediction, confidence, note, p:<class>; of a run whose tasks are told also "if <task>", the
    answer to who tells it. Nothing is drawn into `folder`.
    """
    found = new_pictures.class_tables(run, inputs, batch_size)
    record = folders.read_metrics(Path(run).expanduser())
    for table in found:
        for task in record.get("tasks", []) if record.get("scenario") == "task" else []:
            chances = table[[f"p:{name}" for name in task["classes"]]]
            answer = chances.fillna(-1).idxmax(axis=1).str.removeprefix("p:")
            table[f"if {task['name']}"] = answer.where(chances.notna().any(axis=1))
        yield table


def matrices(
    learned: Mapping[str, Learned], examples: Stream, dataset: tf.data.Dataset
) -> dict[str, answers.Matrix]:
    """What each method was right on after each task, on a split; what is still is computed once for all."""
    rows: dict[tuple, batches.Rows] = {}
    found = {}
    for name, one in learned.items():
        if one.key not in rows:
            rows[one.key] = batches.rows_of(dataset, one.below)
        found[name] = answers.matrix(one, rows[one.key], examples.told)
    return found


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        if run.strategy.num_replicas_in_sync > 1:
            raise InputError("tasks are not divided over devices; give --strategy cpu, or show it one GPU.")
        examples = run.load(load)
        learners.check_steps(run.config, examples)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, examples)
        any_size.build(network, run.config.resize)
        run.check(network, blocks, examples)
        learned, fits = fit_all(run.config, examples, run.checkpoints)
        if run.is_chief:
            judge_and_report(run, examples, learned, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Stream, networks: dict, fits: dict) -> None:
    """Choose a method on validation, judge all once on the test, and write what is left."""
    config, classes, told = run.config, examples.classes, examples.told
    validation = judge(config, networks, examples.val, classes)
    chosen_on = {
        name: float((table["label"] == table["prediction"]).mean()) for name, table in validation.items()
    }
    pick = answers.chosen(chosen_on, ORDER)
    run.save_network(networks[pick].network, lambda network: any_size.build(network, config.resize))
    record = {"scenario": told.scenario, "tasks": told.record(classes)}
    learners.keep(run.folder, {name: one for name, one in networks.items() if name in ORDER}, record)
    fits[pick] = dataclasses.replace(fits[pick], value=chosen_on[pick])
    networks = baselines.compared(networks, chosen_on)
    kept = {name: one.bytes if name in ORDER else np.nan for name, one in networks.items()}
    if not config.machine.test:
        table = baselines.table(config, networks, fits, "accuracy", chosen_on)
        return run.stop_at_validation(examples, fits, table, method=pick)
    # The test split is opened here, once, when nothing is left to choose.
    test_split = run.open_test(examples, networks)
    tested = judge(config, networks, test_split, classes)
    after = matrices(networks, examples, test_split)
    by_method = {
        name: tables(table, examples)[0] | answers.numbers(after[name], told) | {"kept_bytes": kept[name]}
        for name, table in tested.items()
    }
    right = {name: (table["label"] == table["prediction"]).to_numpy() for name, table in tested.items()}
    apart = {name: paired.of_means(one, right[pick])[:3] for name, one in right.items() if name != pick}
    comparison = baselines.table(
        config, networks, fits, "accuracy", chosen_on, by_method, answers.NUMBERS, apart
    ).assign(kept_bytes=list(kept.values()))
    test, per_class, predictions = tables(tested[pick], examples)
    groups = examples.manifest["task"].astype(str)
    assessed = assessment.assess(validation[pick], predictions, classes, groups)
    run.save(
        examples,
        fits,
        method=pick,
        comparison=comparison,
        per_class=per_class,
        predictions=predictions,
        matrix=answers.table(after, told),
        groups=assessed.groups,
    )
    shown: tuple[Any, ...] = (config, examples, pick)
    run.card(sections.card(*shown), data={config.data: examples}, metrics=by_method[pick], assessed=assessed)
    run.report(
        Path(config.data).name,
        question=sections.question(*shown),
        data=examples,
        metrics=test,
        assessment=assessed,
        **sections.sections(*shown, after, by_method, fits, predictions),
    )
    metrics = {"classes": list(classes), "test": by_method.pop(pick), "method": pick} | record
    run.end(
        metrics | assessed.record() | {"baselines": by_method},
        notes=(f"chosen on validation pictures of all tasks: {pick}",),
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
