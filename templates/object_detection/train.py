"""Load the data, train in stages, compare with two baselines, test once, write the report.

    python -m templates.object_detection.train --data ~/photos --backbone MobileNetV2 --weights imagenet

Results go to a new folder below runs/; open its report.html.
"""

from runner import fields, flags, quiet
from runner.training import batch_norm

from .config import Config

if __name__ == "__main__":
    # The flags come before the imports that take seconds, so that --help and a misspelt flag are answered
    # at once.
    with flags.exit_on_input_error():
        CONFIG = flags.parse(Config)
    quiet.import_tensorflow()

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner import atomic
from runner.devices import environment as machine_environment
from runner.devices import multi_worker, precision, strategy
from runner.errors import InputError
from runner.picture_runs import answers, export
from runner.picture_runs import predict as new_pictures
from runner.pictures import batches as batching
from runner.pictures import boxes
from runner.pictures import load as data
from runner.report import page as report
from runner.runs import folder
from runner.scores import detection
from runner.training import baselines, trainable
from runner.training import fit as training

from . import method, model, sections


def load(config: Config) -> data.Data:
    """The three splits, resized, with their boxes, and their manifest."""
    return data.load(
        boxes.find(config.data),
        config.image_size,
        seed=config.seed,
        train_examples=config.train_examples,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )


def methods(config: Config) -> dict[str, Config]:
    """What is trained and compared: the staged schedule, and two baselines with as many epochs in all."""
    return baselines.methods(config, frozen="frozen backbone")


def fit(
    config: Config, examples: data.Data, title: str = "", checkpoints: Path | None = None
) -> tuple[keras.Model, training.Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
    keras.utils.set_random_seed(config.seed)
    strategy.set_deterministic(config.deterministic)
    precision.use(config.precision, config.backbone)
    with strategy.choose(config.strategy).scope():
        network, blocks = model.build(config, examples)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=method.loss,
            jit_compile={"auto": "auto", "on": True, "off": False}[config.jit],
            steps_per_execution=config.steps_per_execution,
        )
    target = method.target(model.grid(network, config.strides))
    source = dict(
        examples=examples.train,
        classes=examples.classes,
        batch_size=config.batch_size,
        shuffle=True,
        seed=config.seed,
        target=target,
        whole_batches=True,  # its weights are those of the batch
    )
    augmented = source | {"strength": config.augment, "flip": config.flip}
    fitted = training.fit(
        network,
        batching.batches(**augmented),
        batching.batches(examples.val, examples.classes, config.batch_size, target=target),
        config.stages,
        blocks,
        title=title,
        train_from=lambda step, **share: batching.named_batches(**augmented, start=step, **share),
        checkpoints=checkpoints,
        checkpoint_steps=config.checkpoint_steps,
        checkpoint_minutes=config.checkpoint_minutes,
        accumulate=config.accumulate,
    )
    if any(stage.batch_norm == "train" for stage in config.stages):
        plain = batching.batches(**source).map(lambda images, labels, weights: images)
        batch_norm.reestimate(network, plain)
    return network, fitted


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    chosen = strategy.choose(config.strategy)  # several workers connect before TensorFlow does anything else
    with multi_worker.only_chief_prints(chosen):
        return train_and_report(config, chosen)


def train_and_report(config: Config, chosen: tf.distribute.Strategy) -> Path:
    """The same under a strategy: all workers train, and the chief alone judges and writes."""
    template, record = Path(__file__).parent.name, fields.to_dict(config)
    config = strategy.for_all_devices(config, chosen)
    run = Path(multi_worker.from_chief(lambda: str(folder.choose(config.run_dir, template, record)), chosen))
    with multi_worker.chief_first(chosen):  # data that must be prepared is, once
        examples = load(config)
    print(
        f"{len(examples.classes)} classes, {examples.amounts.sum()} boxes; pictures: "
        + ", ".join(f"{split} {count}" for split, count in examples.manifest["split"].value_counts().items())
    )
    print(precision.use(config.precision, config.backbone))
    # Weights that don't fit and stages that don't exist are answered here, not after the first baseline.
    strategy.check_batch_size(config.batch_size, chosen)
    network, blocks = model.build(config, examples)
    print(trainable.plan(network, blocks, config.stages).to_string(index=False))
    batch_norm.check(network, config.weights, config.stages)
    check_boxes(config, examples, model.grid(network, config.strides))
    export.any_size(network, config.resize)  # what the end of the run needs is tried before hours of training
    goes_on = multi_worker.from_chief(lambda: folder.begin(run, record, examples.manifest), chosen)
    print(f"run folder: {run}" + (" (an unfinished run, which goes on)" if goes_on else ""))
    networks, fits = {}, {}
    for name, arm in methods(config).items():
        networks[name], fits[name] = fit(arm, examples, name, run / "checkpoints" / name.replace(" ", "_"))
    if not multi_worker.is_chief(chosen):
        multi_worker.wait(chosen)
        return run

    validation = evaluate(networks, examples.val, examples.classes, config)
    # The test split is opened here, once, when nothing is left to choose.
    test = examples.test.open(
        run / "test_readings.csv", f"final numbers of {', '.join(networks)}; pictures shown in the report"
    )
    results = evaluate(networks, test, examples.classes, config)
    scores = {}
    for name, result in results.items():
        low, high = result.metrics["ap50_interval"]
        scores[name] = {
            "val_ap50": validation[name].metrics["ap50"],
            "test_ap50": result.metrics["ap50"],
            "low": low,
            "high": high,
            "test_map": result.metrics["map"],
        }
    comparison = baselines.table(networks, fits, scores)
    environment = machine_environment.describe(
        training_seconds=sum(fitted.seconds for fitted in fits.values())
    )
    page = write(
        run,
        config,
        examples,
        networks["staged"],
        Results(fits["staged"], comparison, results["staged"], environment),
    )
    atomic.write_json(
        run / "metrics.json",
        {
            "classes": list(examples.classes),
            "test": results["staged"].metrics,
            "baselines": {name: result.metrics for name, result in results.items() if name != "staged"},
        },
    )
    folder.end(run)
    print(comparison.to_string(index=False, float_format=lambda number: f"{number:.3f}"))
    print(f"report: {page}")
    multi_worker.wait(chosen)
    return run


def check_boxes(config: Config, examples: data.Data, grid: method.Points) -> None:
    """Say of how many boxes in the first 2,000 training pictures no point answers, so that nothing learns
    them; InputError if of all.
    """
    count = taken = 0
    for batch in examples.train.take(2000).batch(64):
        labels = method.assign(batch["boxes"], batch["classes"], grid).numpy()
        count += int((batch["classes"].numpy() >= 0).sum())
        taken += sum(len(np.unique(label[label[:, 0] >= 0, 1:5], axis=0)) for label in labels)
    if not taken:
        raise InputError(
            f"received {count} training boxes, of which no point of the strides {config.strides} on "
            f"{config.image_size} pixels answers for any; give a larger image_size or smaller strides."
        )
    if taken < 0.99 * count:
        print(
            f"{count - taken} of {count} training boxes are learned by no point: smaller than a cell, or "
            "with the centre of a smaller one; a larger image_size or a stride of 4 finds more"
        )


def evaluate(
    networks: dict[str, keras.Model], split: tf.data.Dataset, classes: tuple[str, ...], config: Config
) -> dict[str, detection.Evaluation]:
    """How good each network is on a split, which is read once."""
    batches = split.batch(32)
    step = {name: _step(network, batches.element_spec["input"], config) for name, network in networks.items()}
    ids, truth, found = [], [], {name: [] for name in networks}
    for batch in batches.prefetch(tf.data.AUTOTUNE):
        batch_ids = batch["id"].numpy()
        ids.extend(batch_ids.tolist())
        there = batch["classes"].numpy() >= 0
        truth.append(_table(batch_ids, batch["boxes"].numpy(), batch["classes"].numpy(), there, classes))
        for name in networks:
            where, scores, numbers, count = (part.numpy() for part in step[name](batch["input"]))
            valid = np.arange(scores.shape[1])[None] < count[:, None]
            table = _table(batch_ids, where, numbers, valid, classes)
            found[name].append(table.assign(score=scores[valid]))
    truth = pd.concat(truth, ignore_index=True)
    return {
        name: detection.evaluate(truth, pd.concat(tables, ignore_index=True), classes, ids, config.image_size)
        for name, tables in found.items()
    }


def _step(network: keras.Model, spec: tf.TensorSpec, config: Config):
    """From pictures to detections, compiled once (see `evaluation.predict`)."""

    def step(batch):
        return method.decode(network(batch, training=False), iou=config.overlap)

    return tf.function(step, input_signature=[spec]).get_concrete_function()


def _table(ids, where, numbers, there, classes) -> pd.DataFrame:
    """A row for each box that is there: ids (batch,), where (batch, n, 4), numbers and there (batch, n)."""
    picture = np.broadcast_to(ids[:, None], there.shape)[there]
    table = pd.DataFrame(where[there].astype("float64"), columns=detection.BOX)
    table.insert(0, "class", np.array(classes, object)[numbers[there]])
    table.insert(0, "id", picture)
    return table


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
    classes, _ = new_pictures.classes_of(run)
    least = config["shown_score"] if least_score is None else least_score
    for batch in new_pictures.stream(inputs, config, batch_size, shown=folder is not None):
        found = None
        if len(batch.pictures):
            output = network.predict_on_batch(batch.pictures)
            parts = method.decode(output, least_score=least, iou=config["overlap"])
            found = tuple(part.numpy() for part in parts)
        yield answers.boxes(batch, found, classes, config, folder)


@dataclass(frozen=True)
class Results:
    """What came of the staged schedule, and its comparison with the baselines."""

    fitted: training.Fit
    comparison: pd.DataFrame
    test: detection.Evaluation
    environment: dict


def write(run: Path, config: Config, examples: data.Data, network: keras.Model, results: Results) -> Path:
    """All files of the run folder but metrics.json; return the path of the report."""
    atomic.write_json(run / "environment.json", results.environment)
    atomic.write_csv(run / "problems.csv", examples.problems)
    atomic.write_csv(run / "history.csv", results.fitted.history)
    atomic.write_csv(run / "ledger.csv", results.fitted.ledger)
    atomic.write_csv(run / "comparison.csv", results.comparison)
    atomic.write_csv(run / "per_class.csv", results.test.per_class)
    atomic.write_csv(run / "predictions.csv", results.test.detections)
    atomic.write_csv(run / "truth.csv", results.test.truth)
    # A new model of the same layers is not compiled: the loss is not to be saved, for nothing else knows it.
    plain = keras.Model(network.input, network.output, name=network.name)
    atomic.write(run / "model.keras", export.any_size(plain, config.resize).save)
    few = "all" if config.train_examples is None else f"{config.train_examples}"
    name = Path(config.data).name
    return report.write(
        run / "report.html",
        title=f"{Path(__file__).parent.name.replace('_', ' ').capitalize()}: {name}",
        question=f"How well can {config.backbone}, started from the weights {Path(config.weights).name}, "
        f"find objects of {len(examples.classes)} classes in {name} after training on {few} pictures, and "
        "what does each way of using it bring?",
        data=examples,
        pictures=report.collect_pictures(examples),
        stages=config.stages,
        history=results.fitted.history,
        ledger=results.fitted.ledger,
        comparison=results.comparison,
        metrics=results.test.metrics,
        score=("ap50", "AP50"),
        sections=sections.of_run(config, examples, results.test),
        environment=results.environment,
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
