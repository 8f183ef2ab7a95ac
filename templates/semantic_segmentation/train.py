"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.semantic_segmentation.train --data ~/streets --backbone MobileNetV2 --weights imagenet

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

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.examples import Data
from runner.data.source import amount
from runner.devices import strategy
from runner.errors import InputError
from runner.moving import rates
from runner.networks import inference
from runner.picture_runs import answers, export
from runner.picture_runs import predict as new_pictures
from runner.pictures import any_size, masks
from runner.pictures.batches import batches
from runner.pictures.load import load as load_pictures
from runner.runs import decision
from runner.runs import run as runs
from runner.scores import segmentation
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import method, model, rival, sections


def load(config: Config) -> Data:
    """The three splits with masks, resized, and their manifest."""
    examples = load_pictures(
        masks.find(config.data, config.ignore, config.classes),
        config.image_size,
        seed=config.machine.seed,
        train_examples=amount(config.train_examples, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )
    if len(examples.classes) < 2:
        raise InputError(
            f"data={config.data!r}: the masks have one class that counts, {examples.classes[0]!r}, so that "
            "there is nothing to tell apart; ignore less, or give the background a value of its own."
        )
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
            loss=method.Loss(config.dice),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            **strategy.compile_options(config.machine),
        )
    target = method.targets(config, examples)
    train = batches(
        examples,
        "train",
        config.batch_size,
        shuffle=True,
        seed=config.machine.seed,
        strength=config.augment,
        flip=config.flip,
        ignore=masks.IGNORE,
        target=target,
    )
    fitted = fit_stages(
        network,
        train,
        batches(examples, "val", config.batch_size, target=target),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        accumulate=config.accumulate,
    )
    return network, fitted


def judge(
    config: Config, networks: dict[str, keras.Model], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, segmentation.Counts]:
    """What each network gets right on a split, which is read once."""
    find = {name: masks_of(network) for name, network in networks.items()}
    counted = {name: [] for name in find}
    for known, answered in inference.batches(find, split, 32):
        for name, found in answered.items():
            counted[name].append(segmentation.count(known["id"], known["mask"], found, len(classes)))
    return {name: segmentation.join(parts) for name, parts in counted.items()}


def tables(judged: segmentation.Counts, examples: Data) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per class, and a row per picture."""
    pictures = segmentation.per_picture(judged)
    pictures.insert(1, "path", examples.manifest["path"].loc[pictures["id"]].to_numpy())
    numbers = segmentation.metrics(judged, examples.manifest["group"])
    per_class = segmentation.per_class(judged, examples.classes, examples.manifest["group"])
    return numbers, per_class, pictures


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The masks of picture files, and of those in folders, by a complete run: tables as they come, a row per
    picture with the share of each class (columns of `runner.picture_runs.answers.masks`), and in `folder` the
    masks at the pictures' own sizes and pictures with their masks.

    Raises InputError for a folder that is no complete run, a path that is not there, and no file at all.
    """
    network, config = export.load(Path(run))
    classes, _ = decision.classes_of(run)
    for batch in new_pictures.stream(inputs, config, batch_size, shown=folder is not None):
        logits = network.predict_on_batch(batch.pictures) if len(batch.pictures) else ()
        found = [one.argmax(axis=-1).astype(np.uint8) for one in np.asarray(logits)]
        yield answers.masks(batch, found, classes, config, folder)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        examples = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, examples)
        any_size.build(network, run.config.resize)
        run.check(network, blocks, examples)
        networks, fits = {}, {}
        if run.config.baselines:
            networks[baselines.PIXELS], fits[baselines.PIXELS] = rival.fit(run.config, examples)
        for name, arm in baselines.methods(run.config).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        if run.is_chief:
            judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Data, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, classes = run.config, examples.classes
    run.save_network(networks["staged"], lambda network: any_size.build(network, config.resize))
    validation = judge(config, networks, examples.val, classes)
    chosen_on = {name: segmentation.metrics(one, resamples=1)["miou"] for name, one in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, "miou", chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    test_pictures = run.open_test(examples, networks)
    tested = judge(config, networks, test_pictures, classes)
    metrics = {name: tables(counted, examples)[0] for name, counted in tested.items()}
    groups = examples.manifest["group"]
    apart = {
        name: segmentation.difference(counted, tested["staged"], groups)[:3]
        for name, counted in tested.items()
        if name != "staged"
    }
    also = ("dice", "boundary_f", "pixel_accuracy")
    comparison = baselines.table(config, networks, fits, "miou", chosen_on, metrics, also, apart)
    counts, _ = tested["staged"], metrics.pop("staged")
    test, per_class, pictures = tables(counts, examples)
    run.save(
        examples,
        fits,
        comparison=comparison,
        per_class=per_class,
        predictions=pictures,
    )
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test)
    find = masks_of(networks["staged"])
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        **sections.sections(config, examples, test_pictures, find, pictures, counts, test),
    )
    run.end({"classes": list(classes), "test": test, "baselines": metrics})


def masks_of(network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function: uint8 pictures (batch, s, s, 3) to each pixel's class, int64 (batch, s, s)."""
    return inference.forward(network, lambda logits: tf.argmax(logits, axis=-1))


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
