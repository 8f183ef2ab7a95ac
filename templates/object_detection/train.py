"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.object_detection.train --data ~/photos --backbone MobileNetV2 --weights imagenet

Results go to a new folder below runs/; open its report.html.
"""

from runner import fields, flags, quiet

from .config import Config

if __name__ == "__main__":
    # The flags come before the imports that take seconds, so that --help and a misspelt flag are answered
    # at once.
    with flags.exit_on_input_error():
        CONFIG = flags.parse(Config)
        quiet.import_tensorflow()

from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.examples import Data
from runner.data.source import amount
from runner.devices import strategy
from runner.moving import rates
from runner.networks import inference
from runner.picture_runs import answers, export
from runner.picture_runs import predict as new_pictures
from runner.pictures import any_size, boxes
from runner.pictures.batches import batches
from runner.pictures.load import load as load_pictures
from runner.runs import decision
from runner.runs import run as runs
from runner.scores import detection
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import method, model, rival, sections


def load(config: Config) -> Data:
    """The three splits, resized, with their boxes, and their manifest."""
    return load_pictures(
        boxes.find(config.data),
        config.image_size,
        seed=config.machine.seed,
        train_examples=amount(config.train_examples, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )


def fit(
    config: Config, examples: Data, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
    config = rates.suited(config)
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=method.loss,
            **strategy.compile_options(config.machine),
        )
    target = method.target(model.grid(network, config.strides))
    train = batches(
        examples,
        "train",
        config.batch_size,
        shuffle=True,
        seed=config.machine.seed,
        strength=config.augment,
        flip=config.flip,
        target=target,
        whole_batches=True,  # its weights are those of the batch
    )
    fitted = fit_stages(
        network,
        train,
        batches(examples, "val", config.batch_size, target=target),
        config.stages,
        blocks,
        title=name,
        checkpoints=checkpoints,
        accumulate=config.accumulate,
    )
    return network, fitted


def judge(
    config: Config, networks: dict[str, keras.Model], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, detection.Evaluation]:
    """How good each network is on a split, which is read once."""
    spec = split.batch(32).element_spec["input"]
    # No picture of the set has more boxes than there are rows for.
    most = max(detection.MOST, split.element_spec["boxes"].shape[0])
    steps = {name: _step(network, spec, config, most) for name, network in networks.items()}
    ids, truth, found = [], [], {name: [] for name in networks}
    for known, answered in inference.batches(steps, split, 32):
        ids.extend(known["id"].tolist())
        there = known["classes"] >= 0
        truth.append(_table(known["id"], known["boxes"], known["classes"], there, classes))
        for name, (where, scores, numbers, count) in answered.items():
            valid = np.arange(scores.shape[1])[None] < count[:, None]
            table = _table(known["id"], where, numbers, valid, classes)
            found[name].append(table.assign(score=scores[valid]))
    truth = pd.concat(truth, ignore_index=True)
    return {
        name: detection.evaluate(truth, pd.concat(tables, ignore_index=True), classes, ids, config.image_size)
        for name, tables in found.items()
    }


def tables(judged: detection.Evaluation, examples: Data) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per class, and a row per detection."""
    groups = examples.manifest["group"]
    return judged.numbers(groups), judged.classes(groups), judged.detections


def predict(
    run: str | Path,
    inputs: Iterable[str | Path],
    *,
    folder: Path | None = None,
    batch_size: int = 64,
    least_score: float | None = None,
) -> Iterator[pd.DataFrame]:
    """What a complete run finds in picture files, and in those of folders: tables as they come, a row per
    detection (columns of `runner.picture_runs.answers.boxes`), and in `folder` pictures with their boxes.

    least_score: of what is told, 0..1; None is the run's own `shown_score`.
    Raises InputError for a folder that is no complete run, a path that is not there, and no file at all.
    """
    network, config = export.load(Path(run))
    classes, _ = decision.classes_of(run)
    known = {name: config[name] for name in ("shown_score", "overlap") if name in config}
    kept = fields.from_dict(known, Config, str(run))  # checked as those of a training are
    least = kept.shown_score if least_score is None else least_score
    most = new_pictures.most_of(run)
    for batch in new_pictures.stream(inputs, config, batch_size, shown=folder is not None):
        found = None
        if len(batch.pictures):
            output = network.predict_on_batch(batch.pictures)
            parts = method.decode(output, most=most, least_score=least, iou=kept.overlap)
            found = tuple(part.numpy() for part in parts)
        yield answers.boxes(batch, found, classes, config, folder)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        examples = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, examples)
        any_size.build(network, run.config.resize)
        method.check_boxes(run.config, examples, model.grid(network, run.config.strides))
        run.check(network, blocks, examples)
        networks, fits = {}, {}
        if run.config.baselines:
            networks[baselines.SAME_BOXES], fits[baselines.SAME_BOXES] = rival.fit(run.config, examples)
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
    chosen_on = {name: result.metrics["ap50"] for name, result in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, "ap50", chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks), classes)
    metrics = {name: tables(result, examples)[0] for name, result in tested.items()}
    staged, groups = tested["staged"], examples.manifest["group"]
    apart = {name: one.less_than(staged, groups)[:3] for name, one in tested.items() if one is not staged}
    comparison = baselines.table(config, networks, fits, "ap50", chosen_on, metrics, ("map",), apart)
    test = metrics.pop("staged")
    run.save(
        examples,
        fits,
        comparison=comparison,
        per_class=staged.classes(groups),
        predictions=staged.detections,
        truth=staged.truth,
    )
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test)
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        **sections.sections(config, examples, staged),
    )
    run.end({"classes": list(classes), "test": test, "baselines": metrics})


def _step(network: keras.Model, spec: tf.TensorSpec, config: Config, most: int):
    """From pictures to detections, compiled once."""
    return inference.forward(network, lambda found: method.decode(found, most=most, iou=config.overlap), spec)


def _table(ids, where, numbers, there, classes) -> pd.DataFrame:
    """A row for each box that is there: ids (batch,), where (batch, n, 4), numbers and there (batch, n)."""
    picture = np.broadcast_to(ids[:, None], there.shape)[there]
    table = pd.DataFrame(where[there].astype("float64"), columns=detection.BOX)
    table.insert(0, "class", np.array(classes, object)[numbers[there]])
    table.insert(0, "id", picture)
    return table


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
