"""Learn from pictures without labels, judge what was learned by a few that have some, write the report.

    python -m templates.self_supervised.train --data ~/photos --labelled ~/sorted --backbone MobileNetV2 \
        --weights imagenet --image-size 96 --no-figure --flip

Results go to a new folder below runs/; open its report.html. That folder is what any template takes as
--weights.
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import keras
import pandas as pd
import tensorflow as tf

from runner.data.examples import Data
from runner.devices import strategy
from runner.errors import InputError
from runner.moving import rates
from runner.pictures import any_size
from runner.runs import run as runs
from runner.scores import classification
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import model, pictures, sections, similar, verdict
from .pictures import Pictures
from .watch import Watch

NEW_CLASSES = True
"""A finished run is judged on classes of any name (`runner evaluate`)."""


def load(config: Config) -> Pictures:
    """The pictures to learn from, resized, those to judge by, and their manifests."""
    return pictures.load(config)


def load_new(config: Config, data: str) -> Data:
    """Labelled pictures to judge a finished run by."""
    return pictures.load_labelled(config, data)


def fit(
    config: Config, examples: Pictures, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the network and train it through the stages of `config` without labels; go on from `checkpoints`
    if there are. What the loss needs above the features is left out of what is returned.

    Raises CollapseError where all pictures come to have the same projection.
    """
    config = rates.suited(config)
    watch = Watch(config, examples)
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config)
        learner = model.TwoViews(network, config, watch)
        learner.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            **strategy.compile_options(config.machine),
        )
    fitted = fit_stages(
        learner,
        pictures.two_views(config, examples),
        examples.judged.val.batch(config.batch_size),
        config.stages,
        blocks,
        monitor="val_loss",
        title=name or config.method,
        checkpoints=checkpoints,
    )
    return network, fitted


def judge(
    config: Config,
    networks: Mapping[str, keras.Model],
    split: tf.data.Dataset,
    classes: tuple[str, ...],
) -> dict[str, verdict.Judged]:
    """What each network answers on a split, which is read once: with heads (`model.with_heads`) as they are.
    Features alone get a head that is solved on a part of the split; without labels it is said which views
    they find again.
    """
    if not config.labelled:
        return verdict.found_again(config, networks, split)
    if all(isinstance(one.output, dict) for one in networks.values()):
        return verdict.judge(networks, split, classes)
    return {name: verdict.judge_features(config, one, split, classes) for name, one in networks.items()}


def tables(judged: verdict.Judged, examples: Pictures | Data) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per class, and a row per example; without labels a
    row of all pictures in the place of the classes'.
    """
    groups = (examples.judged if isinstance(examples, Pictures) else examples).manifest["group"]
    numbers, table = verdict.metrics(judged, groups, examples.classes), judged[max(judged)]
    if max(judged):
        return numbers, classification.per_class(table, examples.classes, groups), table
    row = {"class": pictures.CLASS, "found_again": numbers["found_again"], "support": numbers["examples"]}
    return numbers, pd.DataFrame([row]), table


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """For picture files, and those in folders, the pictures that a complete run learned from that are most
    like them: tables as they come. Their features go into `folder`.

    Columns path, similar_1 to similar_3 (paths), cosine_1 to cosine_3, note; see `similar.tables`.
    """
    return similar.tables(run, inputs, folder, batch_size)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        if run.strategy.num_replicas_in_sync > 1:
            raise InputError(
                "what a loss compares with is the whole batch, which is not divided over devices; give "
                "--strategy cpu, or show it one GPU."
            )
        examples = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config)
        for weights in verdict.sources(run.config, run.config.weights).values():
            model.build(verdict.with_weights(run.config, weights))
        any_size.build(network, run.config.resize)
        run.check(network, blocks, examples)
        name = run.config.method
        network, learned = fit(run.config, examples, name, run.checkpoints(name))
        if run.is_chief:
            # What is judged is the file that is handed out, as any template takes it for weights.
            run.save_network(network, lambda network: any_size.build(network, run.config.resize))
            networks, fits = verdict.fit_all(run.config, examples, str(run.folder), run.checkpoints)
            judge_and_report(run, examples, networks, fits | {name: learned})
        return run.folder


def judge_and_report(run: runs.Run, examples: Pictures, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, judged_by = run.config, examples.judged
    chosen_on = examples.few.get(max(config.labels), judged_by).val
    validation = verdict.validated(judge(config, networks, chosen_on, examples.classes))
    pick = verdict.chosen(config, validation)
    if not pick.startswith(config.method):
        before, _ = model.build(config)
        run.save_network(before, lambda network: any_size.build(network, config.resize))
    # The page tells of the training, whatever is handed out.
    fits[pick] = dataclasses.replace(
        fits[config.method], trained=fits[pick].trained, seconds=fits[pick].seconds
    )
    networks = baselines.compared(networks, validation)
    if not config.machine.test:
        table = verdict.comparison(config, networks, fits, validation, pick)
        return run.stop_at_validation(examples, fits, table, method=pick)
    # The test split is opened here, once, when nothing is left to choose.
    test_split = run.open_test(judged_by, networks)
    tested = judge(config, networks, test_split, examples.classes)
    found = {name: tables(one, examples)[0] for name, one in tested.items()}
    comparison = verdict.comparison(config, networks, fits, validation, pick, tested, found)
    test, per_class, predictions = tables(tested[pick], examples)
    run.save(examples, fits, method=pick, comparison=comparison, per_class=per_class, predictions=predictions)
    # As any template takes it.
    handed_out = model.build(config, str(run.folder))[0]
    known = similar.write(run.folder / similar.NAME, handed_out, config, examples)
    learned, alike = fits[config.method], (handed_out, known, test_split)
    run.card(sections.card(config, examples, pick), data={sections.title(config): judged_by}, metrics=test)
    run.report(
        sections.title(config),
        question=sections.question(config, examples, pick),
        data=judged_by,
        metrics=test,
        **sections.sections(config, examples, tested[pick], found, comparison, pick, learned, alike),
    )
    said = sections.worth(config, comparison, pick, learned.seconds)
    others = {name: one for name, one in found.items() if name != pick}
    run.end(
        {
            "classes": list(examples.classes),
            "test": test,
            "method": pick,
            "features": {
                name: float(learned.history[name].iloc[-1])
                for name in sections.SEEN
                if name in learned.history
            },
            "verdict": said,
            "baselines": others,
        },
        notes=(said,),
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
