"""Load the data, train in stages, compare with two baselines, test once, write the report.

    python -m templates.image_classification.train --data ~/photos --backbone MobileNetV2 --weights imagenet

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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner import atomic
from runner.augment import views as augment
from runner.devices import environment as machine_environment
from runner.devices import multi_worker, precision, strategy
from runner.errors import InputError, suggest
from runner.picture_runs import export
from runner.picture_runs import predict as new_pictures
from runner.pictures import batches as batching
from runner.pictures import gradcam, reference
from runner.pictures import load as data
from runner.report import card
from runner.report import page as report
from runner.runs import folder
from runner.scores import assessment, classification
from runner.training import baselines, frozen, trainable
from runner.training import fit as training

from . import model


def load(config: Config) -> data.Data:
    """The three splits, resized, and their manifest."""
    return data.load(
        config.data,
        config.image_size,
        seed=config.seed,
        labels_per_class=config.labels_per_class,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )


def methods(config: Config) -> dict[str, Config]:
    """What is trained and compared: the staged schedule, and two baselines with as many epochs in all."""
    return baselines.methods(config)


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
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=config.label_smoothing
            ),
            metrics=["accuracy"],
            jit_compile={"auto": "auto", "on": True, "off": False}[config.jit],
            steps_per_execution=config.steps_per_execution,
        )
    source = dict(
        examples=examples.train,
        classes=examples.classes,
        batch_size=config.batch_size,
        shuffle=True,
        seed=config.seed,
        strength=config.augment,
        flip=config.flip,
        mixup=config.mixup,
        cutmix=config.cutmix,
    )
    mixes = config.mixup > 0 or config.cutmix > 0
    prefix = None
    if config.keep_frozen and not mixes:  # these mix pictures, not activations
        prefix = frozen.FrozenPrefix(
            examples,
            batch_size=config.batch_size,
            seed=config.seed,
            strength=config.augment,
            flip=config.flip,
            resize=config.resize,
            views=config.views,
        )
    fitted = training.fit(
        network,
        batching.batches(**source),
        batching.batches(examples.val, examples.classes, config.batch_size),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=title,
        train_from=lambda step, **share: batching.named_batches(**source, start=step, **share),
        checkpoints=checkpoints,
        checkpoint_steps=config.checkpoint_steps,
        checkpoint_minutes=config.checkpoint_minutes,
        frozen=prefix,
        train_on_device=None
        if mixes or config.augment == "none"
        else lambda step, **share: batching.named_batches(**source, start=step, only_draw=True, **share),
        augment_on="input" if mixes or config.augment == "none" else config.augment_on,
        accumulate=config.accumulate,
    )
    if any(stage.batch_norm == "train" for stage in config.stages):
        plain = batching.batches(
            examples.train, examples.classes, config.batch_size, shuffle=True, seed=config.seed
        )
        batch_norm.reestimate(network, plain.map(lambda images, labels: images))
    return network, fitted


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
        f"{len(examples.classes)} classes; pictures: "
        + ", ".join(f"{split} {count}" for split, count in examples.manifest["split"].value_counts().items())
    )
    check_classes(config, examples.classes)
    print(precision.use(config.precision, config.backbone))
    # Weights that don't fit and stages that don't exist are answered here, not after the first baseline.
    strategy.check_batch_size(config.batch_size, chosen)
    network, blocks = model.build(config, examples)
    print(trainable.plan(network, blocks, config.stages).to_string(index=False))
    batch_norm.check(network, config.weights, config.stages)
    # What the end of the run needs of the network is tried before hours of training.
    reference.extractor(network, "head")
    export.any_size(network, config.resize)
    gradcam.choose_layer(network, blocks)
    goes_on = multi_worker.from_chief(lambda: folder.begin(run, record, examples.manifest), chosen)
    print(f"run folder: {run}" + (" (an unfinished run, which goes on)" if goes_on else ""))
    networks, fits = {}, {}
    for name, arm in methods(config).items():
        networks[name], fits[name] = fit(arm, examples, name, run / "checkpoints" / name.replace(" ", "_"))
    if not multi_worker.is_chief(chosen):
        multi_worker.wait(chosen)
        return run

    validation = classification.predict(networks, examples.val, examples.classes)
    # The test split is opened here, once, when nothing is left to choose.
    test = examples.test.open(
        run / "test_readings.csv", f"final numbers of {', '.join(networks)}; pictures shown in the report"
    )
    predictions = classification.predict(networks, test, examples.classes)
    metrics = {name: classification.metrics(table, examples.classes) for name, table in predictions.items()}
    scores = {}
    for name, chosen_on in validation.items():
        low, high = metrics[name]["accuracy_interval"]
        scores[name] = {
            "val_accuracy": float((chosen_on["label"] == chosen_on["prediction"]).mean()),
            "test_accuracy": metrics[name]["accuracy"],
            "low": low,
            "high": high,
        }
    comparison = baselines.table(networks, fits, scores)
    assessed = assessment.assess(
        validation["staged"],
        predictions["staged"],
        examples.classes,
        data.compared_groups(examples),
        config.positive,
        config.operating_point,
    )
    environment = machine_environment.describe(
        training_seconds=sum(fitted.seconds for fitted in fits.values())
    )
    results = Results(
        fits["staged"], comparison, predictions["staged"], metrics["staged"], assessed, environment
    )
    page = write(run, config, examples, networks["staged"], blocks, results)
    atomic.write_json(
        run / "metrics.json",
        {"classes": list(examples.classes), "test": metrics["staged"]}
        | assessed.record()
        | {"baselines": {name: numbers for name, numbers in metrics.items() if name != "staged"}},
    )
    folder.end(run)
    print(comparison.to_string(index=False, float_format=lambda number: f"{number:.3f}"))
    print(f"report: {page}")
    multi_worker.wait(chosen)
    return run


def check_classes(config: Config, classes: Sequence[str]) -> None:
    """Raise InputError where `config.positive` is none of two classes."""
    if config.positive and (len(classes) != 2 or config.positive not in classes):
        raise InputError(
            f"positive={config.positive!r}: the data has {len(classes)} classes ({', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}); give one of two, or leave it out."
            + suggest(config.positive, classes)
        )


@dataclass(frozen=True)
class Results:
    """What came of the staged schedule, and its comparison with the baselines."""

    fitted: training.Fit
    comparison: pd.DataFrame
    predictions: pd.DataFrame
    metrics: dict
    assessed: assessment.Assessment
    environment: dict


def write(
    run: Path, config: Config, examples: data.Data, network: keras.Model, blocks, results: Results
) -> Path:
    """All files of the run folder but metrics.json; return the path of the report."""
    atomic.write_json(run / "environment.json", results.environment)
    atomic.write_csv(run / "problems.csv", examples.problems)
    atomic.write_csv(run / "history.csv", results.fitted.history)
    atomic.write_csv(run / "ledger.csv", results.fitted.ledger)
    atomic.write_csv(run / "comparison.csv", results.comparison)
    atomic.write_csv(run / "predictions.csv", results.predictions)
    if results.assessed.groups is not None:
        atomic.write_csv(run / "groups.csv", results.assessed.groups)
    atomic.write(run / "model.keras", export.any_size(network, config.resize).save)
    reference.write(
        run / "reference.npz", network, examples, layer="head", temperature=results.assessed.temperature
    )
    card.write(
        run / "MODEL_CARD.md",
        config=fields.to_dict(config),
        stages=config.stages,
        data=examples,
        comparison=results.comparison,
        metrics=results.metrics,
        per_class=classification.per_class(results.predictions, examples.classes),
        assessed=results.assessed,
        environment=results.environment,
    )
    return write_report(run, config, examples, network, blocks, results)


def write_report(
    run: Path, config: Config, examples: data.Data, network: keras.Model, blocks, results: Results
) -> Path:
    """One self-contained page, report.html."""
    few = "all" if config.labels_per_class is None else f"{config.labels_per_class}"
    name = Path(config.data).name
    shown = {}  # one picture of each of the first four classes
    for element in examples.train.as_numpy_iterator():
        if len(shown) == min(4, len(examples.classes)):
            break
        shown.setdefault(int(element["label"]), element["input"])
    augmented = np.stack(
        [
            np.concatenate(
                [picture[None], augment.preview(picture, config.augment, 5, seed=index, flip=config.flip)]
            )
            for index, picture in enumerate(shown.values())
        ]
    )
    classes, predictions = examples.classes, results.predictions
    pictures = report.collect_pictures(examples, predictions)
    explained = predictions[predictions["id"].isin(report.explained_ids(predictions, classes))]
    return report.write(
        run / "report.html",
        title=f"{Path(__file__).parent.name.replace('_', ' ').capitalize()}: {name}",
        question=f"How well can {config.backbone}, started from the weights {Path(config.weights).name}, "
        f"tell the {len(classes)} classes of {name} apart after training on {few} labelled pictures "
        "per class, and what does each way of using it bring?",
        data=examples,
        pictures=pictures,
        augmented=augmented,
        stages=config.stages,
        history=results.fitted.history,
        ledger=results.fitted.ledger,
        comparison=results.comparison,
        predictions=predictions,
        metrics=results.metrics,
        per_class=classification.per_class(predictions, classes),
        confusion=classification.confusion(predictions, classes),
        assessment=results.assessed,
        overlays=gradcam.explain(network, blocks, explained, pictures, classes),
        environment=results.environment,
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
