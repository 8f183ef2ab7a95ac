"""Load a trial, learn from a larger one, go on in stages, compare, test once, write the report.

    python -m templates.treatment_effects.train --data ~/trial.csv --source ~/larger_trial.csv

Results go to a new folder below runs/; open its report.html. Not for clinical use.
"""

from runner import flags, quiet

from .config import Config

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

import keras
import pandas as pd
import tensorflow as tf

from runner.data import remarks
from runner.runs import run as runs
from runner.scores import intervals
from runner.tables import layers
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit

from . import answers, learners, loading, model, sections, simulate
from .learners import Learned, Learner
from .loading import Trial


def load(config: Config) -> Trial:
    """The small trial in its splits, with the larger one beside it."""
    return loading.read(config)


def fit(
    config: Config,
    examples: Trial,
    name: str = "staged",
    checkpoints: Checkpointing | None = None,
    start: Learned | None = None,
) -> tuple[Learned, Fit]:
    """Build the network and train it through the stages of `config`; go on from `checkpoints` if there are.

    start: what it begins with, as `learners.start_of` gives it; None trains that first, where the config
    begins with weights.
    """
    if start is None:
        start = learners.start_of(config, examples, None)
    start = None if config.weights == "none" else start
    return learners.train(config, examples, config.stages, config.batch_size, name, checkpoints, start)


def fit_all(
    config: Config, examples: Trial, checkpoints: Callable[[str], Checkpointing | None] = lambda name: None
) -> tuple[dict[str, Learner], dict[str, Fit]]:
    """Every method: rivals without a network, the source as it is, its frozen representation under ridge, and
    what is trained.

    checkpoints: gives the place of a method's state, such as `Run.checkpoints`.
    """
    networks, fits = learners.rivals(config, examples) if config.baselines else ({}, {})
    start = learners.start_of(config, examples, checkpoints(learners.SOURCE))
    if start is not None:
        if config.baselines:
            networks[baselines.AS_IT_CAME] = start
            fits[baselines.AS_IT_CAME] = Fit(pd.DataFrame(), pd.DataFrame(), 0.0, trained=0)
        networks[baselines.SOLVED], fits[baselines.SOLVED] = learners.solve(config, examples, start)
    arms = baselines.methods(config)
    if start is None:
        arms.pop("frozen backbone", None)  # a random representation that stays
    for name, arm in arms.items():
        if baselines.called(name) == baselines.SCRATCH:
            # No BatchNorm that would make early epochs look bad, and few rows to learn by heart.
            arm = dataclasses.replace(arm, stages=(dataclasses.replace(arm.stages[0], keep="best"),))
        networks[name], fits[name] = fit(arm, examples, name, checkpoints(name), start)
    return networks, fits


def judge(
    config: Config, networks: Mapping[str, Any], split: tf.data.Dataset, classes: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """What each network expects of the rows of a split, which is read once: columns id, treatment, outcome,
    untreated, treated, effect.

    networks: of `fit_all`, or the network of a finished run.
    """
    asked = {
        name: learners.Saved(layers.of_rows(one)) if isinstance(one, keras.Model) else one
        for name, one in networks.items()
    }
    return answers.judge(asked, list(split.batch(4096).as_numpy_iterator()))


def tables(judged: pd.DataFrame, examples: Trial) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per arm, and a row per example."""
    predictions = answers.with_truth(judged, examples)
    return answers.metrics(predictions, examples), answers.per_arm(predictions), predictions


def withheld(
    run: str | Path, network: keras.Model, predictions: pd.DataFrame, examples: Trial
) -> pd.DataFrame:
    """The predictions of `tables` by a complete run as `predict` would hand them out: with intervals, and a
    note in the place of effect and outcomes where its trial had no overlap. `runner evaluate` asks for it.
    """
    return answers.withheld(predictions, layers.of_rows(network), examples, answers.share_of(run))


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The effect for each row of tables by a complete run: tables as they come.

    Columns row, effect, low, high (95 %), untreated, treated, propensity, note. Where the trial has no
    overlap, effect and outcomes are withheld, and the note says so. Nothing is drawn into `folder`. Not for
    clinical use.
    """
    return answers.of_tables(run, inputs, batch_size)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        examples = run.load(load)
        network, blocks = model.build(run.config, examples)
        layers.of_columns(network, examples.columns)
        run.check(network, blocks, examples)
        if examples.source is not None:
            print(f"source: {examples.source.in_words()}")
            print(*remarks.in_words(examples.source.problems, "the source's problems"), sep="\n")
        networks, fits = fit_all(run.config, examples, run.checkpoints)
        # Before any effect is shown: the same methods where the truth is known.
        print(
            "simulated truths on the same covariates:" if run.config.simulations else "nothing is simulated"
        )
        tried = simulate.tried(run.config, examples, fit_all, run.checkpoints) if config.machine.test else []
        if run.is_chief:
            judge_and_report(run, examples, networks, fits, tried)
        return run.folder


def judge_and_report(
    run: runs.Run, examples: Trial, networks: dict, fits: dict, tried: list[simulate.Tried]
) -> None:
    """Choose on validation's factual loss, judge all once on the test, and write what the run leaves."""
    config = run.config
    validation = learners.losses(networks, examples)
    chosen_on = {name: answers.explained(one, examples) for name, one in validation.items()}
    pick = learners.chosen(validation)
    overlap = answers.overlap(examples)
    finished = answers.finish(config, examples, networks[pick], simulate.factor(tried, pick), overlap)
    run.save_network(finished, lambda network: layers.of_columns(network, examples.columns))
    fits[pick] = dataclasses.replace(fits[pick], value=float(validation[pick].mean()))
    networks = baselines.compared(networks, chosen_on)
    beside: tuple[Any, ...] = (config, networks, fits, chosen_on)
    if not config.machine.test:
        more = {"overlap": overlap.record()}
        return run.stop_at_validation(examples, fits, answers.comparison(*beside), method=pick, more=more)
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks))
    found = {name: tables(one, examples) for name, one in tested.items()}
    metrics = {name: numbers for name, (numbers, _, _) in found.items()}
    told = {name: one for name, (_, _, one) in found.items()}
    whole = intervals.units(examples.manifest["group"], told[pick]["id"])
    comparison = answers.comparison(*beside, told, metrics, pick, whole)
    test, per_arm, predictions = found[pick]
    predictions = answers.withheld(predictions, finished, examples, overlap.share)
    policy = answers.policies(config, predictions, examples, overlap)
    run.save(
        examples,
        fits,
        method=pick,
        comparison=comparison,
        per_class=per_arm,
        predictions=predictions,
        simulations=simulate.table(tried) if tried else None,
        policies=policy,
        balance=overlap.balance,
    )
    shown: tuple[Any, ...] = (config, examples, pick, overlap)
    run.card(sections.card(*shown, test), data={config.data: examples}, metrics=test)
    run.report(
        Path(config.data).name,
        question=sections.question(*shown),
        data=examples,
        metrics=test,
        **sections.sections(*shown, tried, predictions, metrics, policy),
    )
    record = {"method": pick, "overlap": overlap.record(), "policy_cost": config.policy_cost}
    run.end(
        {"classes": list(examples.classes), "test": metrics.pop(pick)} | record | {"baselines": metrics},
        notes=(*overlap.notes, f"chosen on validation's factual loss: {pick}", sections.NOT_CLINICAL),
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
