"""Load classes that no split shares, train, choose on some, test on new ones once, write the report.

    python -m templates.few_shot.train --data ~/drawings --new-classes "" --ways 5 --shots 1 5

Results go to a new folder below runs/; open its report.html.
"""

from runner import flags, quiet

from .config import HANDED_OUT, Config

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

from runner.data.examples import Data
from runner.devices import strategy
from runner.errors import InputError
from runner.moving import rates
from runner.pictures import any_size
from runner.pictures.batches import batches
from runner.runs import run as runs
from runner.scores import classification
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import answers, classes, learners, model, sections, support
from .answers import Judged, Learner
from .batches import of_episodes

TRAINED = ("softmax", "ProtoNet", "MAML", "first-order MAML", "ANIL")
"""The methods that `fit` trains."""
WATCH = 40
"""Validation episodes that are answered after each epoch."""
NEW_CLASSES = True
"""A finished run is judged on classes of any name (`runner evaluate`)."""


def load(config: Config) -> Data:
    """The pictures in splits that share no class, resized, and their manifest."""
    return classes.load(config)


def load_new(config: Config, data: str) -> Data:
    """Pictures of new classes, to judge a finished run by."""
    return classes.load_new(config, data)


def fit(
    config: Config, examples: Data, name: str = "softmax", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the classifier and train it with the method `name`, on the training classes alone; go on from
    `checkpoints` if there are. A name that is no method is "softmax" with the stages of `config`.
    """
    config, kind = rates.suited(config), name if name in TRAINED else "softmax"
    stages = config.stages
    if kind != "softmax":  # there is no head to be trained first
        stages = tuple(stage for stage in stages if stage.train != "head") or stages
    heads = config.ways if kind not in ("softmax", "ProtoNet") else None
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples, heads)
        learner = model.ByEpisodes(network, kind, config)
        learner.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=config.label_smoothing if kind == "softmax" else 0.0
            ),
            metrics=["accuracy"],
            **strategy.compile_options(config.machine),
        )
    seed, watched = config.machine.seed, (config.ways, config.compare_shots, config.queries)
    if kind == "softmax":
        known = dataclasses.replace(examples, classes=examples.classes[: model.known_classes(examples)])
        train = batches(
            known,
            "train",
            config.batch_size,
            shuffle=True,
            seed=seed,
            strength=config.augment,
            flip=config.flip,
        )
    else:
        of_training, epochs = model.training_episode(config, kind), sum(stage.epochs for stage in stages)
        train = of_episodes(examples, "train", *of_training, config.epoch_episodes, epochs, seed + 1)
    fitted = fit_stages(
        learner,
        train,
        of_episodes(examples, "val", *watched, WATCH, 1, seed + 2),
        stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
    )
    return network, fitted


def fit_all(
    config: Config, examples: Data, checkpoints: Callable[[str], Checkpointing | None] = lambda name: None
) -> tuple[dict[str, Learner], dict[str, Fit]]:
    """Every method of the config, and "softmax" from scratch where there are weights to begin with.

    checkpoints: gives the place of a method's state, such as `Run.checkpoints`.
    """
    found, fits = learners.untrained(config, examples)
    arms = {name: config for name in TRAINED if name in config.methods}
    if config.baselines and config.weights != "none":
        arms = baselines.from_scratch(config) | arms
    for name, arm in arms.items():
        network, fits[name] = fit(arm, examples, name, checkpoints(name))
        found[name] = learners.trained(arm, examples, name, network, fits[name])
    return found, fits


def judge(
    config: Config,
    networks: Mapping[str, Learner | keras.Model],
    split: tf.data.Dataset,
    classes_of: Sequence[str],
    count: int | None = None,
) -> dict[str, Judged]:
    """What each learner answers in the same episodes of a split, which is read once.

    A network alone answers by class means of what it gives. count: of episodes; None as many as the test has.
    """
    made = {name: one if isinstance(one, Learner) else Learner(one) for name, one in networks.items()}
    arrays = classes.arrays(split)
    drawn = learners.draw(config, arrays[1], count or config.episodes)
    return answers.judge(made, arrays, drawn, config.shots, config.compare_shots, classes_of)


def tables(judged: Judged, examples: Data) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one learner as numbers, a row per new class, and a row per query and episode."""
    table = answers.predictions(judged)
    new = examples.manifest["label"][examples.manifest["split"] == "test"]
    names = [name for name in examples.classes if name in set(new)]
    # The same picture is asked in many episodes: what is drawn for an interval is pictures.
    alone = pd.Series(judged.ids.astype(str), judged.ids)
    return answers.metrics(judged), classification.per_class(table, names, alone), table


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of picture files, and of those in folders, by a complete run: tables as they come.

    inputs: first the support, a folder with a folder of pictures per class or a file of `support.write`; then
    what is to be told apart. Columns path, prediction ("none of these" below the run's threshold),
    confidence, note, p:<class>; see `support.class_tables`. Nothing is drawn into `folder`.
    """
    return support.class_tables(run, inputs, batch_size)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        if run.strategy.num_replicas_in_sync > 1:
            raise InputError(
                "episodes are not divided over devices; give --strategy cpu, or show it one GPU."
            )
        examples = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, examples)
        any_size.build(model.cosine(network), run.config.resize)
        run.check(network, blocks, examples)
        found, fits = fit_all(run.config, examples, run.checkpoints)
        if run.is_chief:
            judge_and_report(run, examples, found, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Data, networks: dict, fits: dict) -> None:
    """Choose a method on the validation classes, judge all once on the new ones, and write what is left."""
    config = run.config
    validation = judge(config, networks, examples.val, examples.classes, config.val_episodes)
    chosen_on = {name: float(one.right(config.compare_shots).mean()) for name, one in validation.items()}
    pick = answers.chosen(validation, HANDED_OUT)
    run.save_network(networks[pick].network, lambda network: any_size.build(network, config.resize))
    fits[pick] = dataclasses.replace(fits[pick], value=chosen_on[pick])
    networks = baselines.compared(networks, chosen_on)
    scratch = [name for name in chosen_on if baselines.called(name) == baselines.SCRATCH]
    recipes = {baselines.SCRATCH: max(scratch, key=lambda name: chosen_on[name])} if scratch else {}
    pretrained = {
        name: config.weights not in baselines.UNTRAINED and name not in ("pixels", baselines.SCRATCH)
        for name in networks
    }
    beside: tuple[Any, ...] = (fits, networks, pretrained, pick, recipes)
    if not config.machine.test:
        table = answers.comparison(validation, None, *beside)
        return run.stop_at_validation(examples, fits, table, method=pick)
    at, scale = answers.thresholds(validation[pick]), answers.temperature(validation[pick])
    # The test split is opened here, once, when nothing is left to choose.
    test_split = run.open_test(examples, networks)
    tested = judge(config, networks, test_split, examples.classes)
    test, per_class, _ = tables(tested[pick], examples)
    comparison = answers.comparison(validation, tested, *beside)
    by_method = {name: answers.metrics(one) for name, one in tested.items()}
    refused = answers.refusing(tested[pick], at)
    run.save(
        examples,
        fits,
        method=pick,
        comparison=comparison,
        per_class=per_class,
        predictions=answers.predictions(tested[pick], scale),
    )
    run.card(sections.card(config, examples, pick), data={sections.title(config): examples}, metrics=test)
    run.report(
        sections.title(config),
        question=sections.question(config, examples, pick),
        data=examples,
        metrics=test,
        **sections.sections(config, tested, classes.arrays(test_split), pick, by_method, refused, per_class),
    )
    run.end(
        {
            "classes": [name for name in examples.classes if name in set(per_class["class"])],
            "test": test,
            "method": pick,
            "temperature": scale,
            "none_of_these": at,
            "refusing": refused,
            "baselines": {name: one for name, one in by_method.items() if name != pick},
        },
        notes=(f"chosen on {len(validation[pick].episodes.query)} validation episodes: {pick}",),
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
