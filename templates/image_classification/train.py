"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.image_classification.train --data ~/photos --backbone MobileNetV2 --weights imagenet

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
import pandas as pd
import tensorflow as tf

from runner.data import weights as example_weights
from runner.data.examples import Data, compared_groups
from runner.data.source import amount
from runner.devices import strategy
from runner.moving import rates
from runner.networks import inference
from runner.picture_runs import predict as new_pictures
from runner.pictures import any_size, gradcam, reference
from runner.pictures.batches import batches
from runner.pictures.load import load as load_pictures
from runner.runs import run as runs
from runner.scores import assessment, classification, intervals, operating_point, paired
from runner.training import baselines, solved
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages
from runner.training.frozen import FrozenPrefix

from . import model, sections


def load(config: Config) -> Data:
    """The three splits, resized, and their manifest."""
    examples = load_pictures(
        config.data,
        config.image_size,
        seed=config.machine.seed,
        labels_per_class=amount(config.labels_per_class, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )
    operating_point.check_positive(config.positive, examples.classes)
    return examples


def fit(
    config: Config, examples: Data, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
    config = rates.suited(config)
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=config.label_smoothing
            ),
            metrics=["accuracy"],
            **strategy.compile_options(config.machine),
        )
    weights = example_weights.of_examples(examples, config.class_weight)
    if config.solve_head:
        solved.solve(network, "head", examples.train, examples.val, weights)
    train = batches(
        examples,
        "train",
        config.batch_size,
        shuffle=True,
        seed=config.machine.seed,
        strength=config.augment,
        flip=config.flip,
        mixup=config.mixup,
        cutmix=config.cutmix,
        weights=weights,
    )
    fitted = fit_stages(
        network,
        train,
        batches(examples, "val", config.batch_size, weights=weights),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        frozen=FrozenPrefix(views=config.views) if config.keep_frozen else None,
        augment_on=config.augment_on,
        accumulate=config.accumulate,
        keep_start=config.solve_head,
    )
    return network, fitted


def fit_rival(config: Config, examples: Data) -> tuple[keras.Model, Fit]:
    """Solve logistic regression on pixels, which needs neither a network nor other pictures."""
    rival = model.build_rival(config, examples)
    weights = example_weights.of_examples(examples, config.class_weight)
    return rival, solved.fit(rival, "head", examples.train, examples.val, weights)


def judge(
    config: Config, networks: dict[str, keras.Model], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """What each network answers on a split, which is read once; see `classification.tables`."""
    return classification.tables(*inference.outputs(networks, split), classes)


def tables(judged: pd.DataFrame, examples: Data) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per class, and a row per example."""
    return (
        classification.metrics(judged, examples.classes, examples.manifest["group"]),
        classification.per_class(judged, examples.classes, examples.manifest["group"]),
        judged,
    )


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of picture files, and of those in folders, by a complete run: tables as they come.

    Columns path, prediction, confidence, note, p:<class>; see `runner.picture_runs.predict.class_tables`.
    Nothing is drawn into `folder`.
    """
    return new_pictures.class_tables(run, inputs, batch_size)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        examples = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, examples)
        reference.extractor(network, "head")
        any_size.build(network, run.config.resize)
        gradcam.choose_layer(network, blocks)
        run.check(network, blocks, examples)
        networks, fits = {}, {}
        if run.config.baselines:
            networks[baselines.PIXELS], fits[baselines.PIXELS] = fit_rival(run.config, examples)
        for name, arm in baselines.methods(run.config).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        if run.is_chief:
            judge_and_report(run, examples, networks, fits, blocks)
        return run.folder


def judge_and_report(run: runs.Run, examples: Data, networks: dict, fits: dict, blocks: Any) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, classes = run.config, examples.classes
    run.save_network(networks["staged"], lambda network: any_size.build(network, config.resize))
    validation = judge(config, networks, examples.val, classes)
    chosen_on = {
        name: float((table["label"] == table["prediction"]).mean()) for name, table in validation.items()
    }
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, "accuracy", chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks), classes)
    metrics = {name: tables(table, examples)[0] for name, table in tested.items()}
    right = {name: (table["label"] == table["prediction"]).to_numpy() for name, table in tested.items()}
    whole = intervals.units(examples.manifest["group"], tested["staged"]["id"])
    apart = {name: paired.of_means(one, right["staged"], whole)[:3] for name, one in right.items()}
    apart.pop("staged")
    comparison = baselines.table(config, networks, fits, "accuracy", chosen_on, metrics, apart=apart)
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
    kept, temperature = run.folder / "reference.npz", assessed.temperature
    run.attempt(kept.name, lambda: reference.write(kept, network, examples, temperature=temperature))
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test, assessed=assessed)
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        assessment=assessed,
        **sections.sections(config, examples, predictions, network, blocks),
    )
    run.end({"classes": list(classes), "test": test} | assessed.record() | {"baselines": metrics})


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
