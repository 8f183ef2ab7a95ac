"""Load the data, train in stages, compare with two baselines, test once, write the report.

    python -m templates.semantic_segmentation.train --data ~/streets --backbone MobileNetV2 --weights imagenet

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

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from runner.errors import InputError
from runner.picture_runs import answers, export
from runner.picture_runs import predict as new_pictures
from runner.pictures import batches as batching
from runner.pictures import load as data
from runner.pictures import masks
from runner.report import page as report
from runner.runs import folder
from runner.scores import segmentation
from runner.training import baselines, trainable
from runner.training import fit as training

from . import method, model
from .sections import sections


def load(config: Config) -> data.Data:
    """The three splits with masks, resized, and their manifest."""
    examples = data.load(
        masks.find(config.data, config.ignore, config.classes),
        config.image_size,
        seed=config.seed,
        train_examples=config.train_examples,
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


def targets(config: Config, examples: data.Data) -> Callable[[dict], dict]:
    """What the loss compares an augmented batch with: "label", the masks, and "weight", float32 per pixel.

    The weight is that of the pixel's class (`segmentation.class_weights`), and 0 where the mask is ignored.
    """
    of_train = examples.amounts[(examples.manifest["split"] == "train").to_numpy()]
    weights = np.zeros(256, np.float32)
    weights[: len(examples.classes)] = segmentation.class_weights(of_train, config.class_weights)

    def target(batch: dict) -> dict:
        mask = batch["mask"]
        return {
            "id": batch["id"],
            "input": batch["input"],
            "label": mask,
            "weight": tf.gather(weights, tf.cast(mask, tf.int32)),
        }

    return target


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
            loss=method.Loss(config.dice),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile={"auto": "auto", "on": True, "off": False}[config.jit],
            steps_per_execution=config.steps_per_execution,
        )
    common = dict(classes=examples.classes, batch_size=config.batch_size, target=targets(config, examples))
    source = dict(
        examples=examples.train,
        shuffle=True,
        seed=config.seed,
        strength=config.augment,
        flip=config.flip,
        ignore=masks.IGNORE,
        **common,
    )
    fitted = training.fit(
        network,
        batching.batches(**source),
        batching.batches(examples.val, **common),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=title,
        train_from=lambda step, **share: batching.named_batches(**source, start=step, **share),
        checkpoints=checkpoints,
        checkpoint_steps=config.checkpoint_steps,
        checkpoint_minutes=config.checkpoint_minutes,
        augment_on="input",
        accumulate=config.accumulate,
    )
    if any(stage.batch_norm == "train" for stage in config.stages):
        plain = batching.batches(examples.train, shuffle=True, seed=config.seed, **common)
        batch_norm.reestimate(network, plain.map(lambda images, labels, weights: images))
    return network, fitted


def views(config: Config, element: dict, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What training sees of one element: so many random views, "input" and "mask"."""
    batch = {name: tf.repeat(element[name][None], count, axis=0) for name in ("input", "mask")}
    seen = augment.apply_to_batch(batch, (seed, 0), config.augment, config.flip, ignore=masks.IGNORE)
    return {name: seen[name].numpy() for name in batch}


def masks_of(network: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function: uint8 pictures (batch, s, s, 3) to each pixel's class, int64 (batch, s, s)."""
    pictures = tf.TensorSpec((None, *network.input.shape[1:]), tf.uint8)
    # Not `predict_on_batch`: with several replicas that runs each of them on the whole batch. Concrete, or
    # TensorFlow counts the networks of a comparison as one function that is traced over and over, and warns.
    find = tf.function(
        lambda batch: tf.argmax(network(batch, training=False), axis=-1), input_signature=[pictures]
    )
    return find.get_concrete_function()


def judge(
    find: dict[str, Callable], split: tf.data.Dataset, classes: Sequence[str], batch_size: int = 32
) -> dict[str, segmentation.Counts]:
    """What each network, given as `masks_of` it, gets right on a split, which is read once."""
    counted = {name: [] for name in find}
    for batch in split.batch(batch_size).prefetch(tf.data.AUTOTUNE):
        for name in find:
            found = find[name](batch["input"]).numpy()
            counted[name].append(
                segmentation.count(batch["id"].numpy(), batch["mask"].numpy(), found, len(classes))
            )
    return {name: segmentation.join(parts) for name, parts in counted.items()}


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The masks of picture files, and of those in folders, by a complete run: tables as they come, a row per
    picture with the share of each class (columns of `runner.picture_runs.answers.masks`), and in `folder` the
    masks at the pictures' own sizes and pictures with their masks.

    Raises InputError for a folder that is no complete run, a path that is not there, and no file at all.
    """
    network, config = export.load(Path(run))
    classes, _ = new_pictures.classes_of(run)
    for batch in new_pictures.stream(inputs, config, batch_size, shown=folder is not None):
        logits = network.predict_on_batch(batch.pictures) if len(batch.pictures) else ()
        found = [one.argmax(axis=-1).astype(np.uint8) for one in np.asarray(logits)]
        yield answers.masks(batch, found, classes, config, folder)


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
    print(precision.use(config.precision, config.backbone))
    # Weights that don't fit and stages that don't exist are answered here, not after the first baseline.
    strategy.check_batch_size(config.batch_size, chosen)
    network, blocks = model.build(config, examples)
    print(trainable.plan(network, blocks, config.stages).to_string(index=False))
    backbone = keras.Model(network.input, network.get_layer(blocks[-1].name).output)
    batch_norm.check(backbone, config.weights, config.stages)  # the decoder's always learn
    export.any_size(network, config.resize)  # tried before hours of training
    goes_on = multi_worker.from_chief(lambda: folder.begin(run, record, examples.manifest), chosen)
    print(f"run folder: {run}" + (" (an unfinished run, which goes on)" if goes_on else ""))
    networks, fits = {}, {}
    for name, arm in methods(config).items():
        networks[name], fits[name] = fit(arm, examples, name, run / "checkpoints" / name.replace(" ", "_"))
    if not multi_worker.is_chief(chosen):
        multi_worker.wait(chosen)
        return run

    find = {name: masks_of(network) for name, network in networks.items()}
    validation = judge(find, examples.val, examples.classes)
    # The test split is opened here, once, when nothing is left to choose.
    test = examples.test.open(
        run / "test_readings.csv", f"final numbers of {', '.join(networks)}; pictures shown in the report"
    )
    counts = judge(find, test, examples.classes)
    metrics = {name: segmentation.metrics(counted) for name, counted in counts.items()}
    scores = {}
    for name, numbers in metrics.items():
        low, high = numbers["miou_interval"]
        scores[name] = {
            "val_miou": segmentation.metrics(validation[name], resamples=1)["miou"],
            "test_miou": numbers["miou"],
            "low": low,
            "high": high,
            **{f"test_{one}": numbers[one] for one in ("dice", "boundary_f", "pixel_accuracy")},
        }
    comparison = baselines.table(networks, fits, scores)
    environment = machine_environment.describe(
        training_seconds=sum(fitted.seconds for fitted in fits.values())
    )
    results = Results(fits["staged"], comparison, counts["staged"], metrics["staged"], environment)
    # A new model of the same layers is not compiled: the loss is not to be saved, for nothing else knows it.
    plain = keras.Model(networks["staged"].input, networks["staged"].output, name=networks["staged"].name)
    atomic.write(run / "model.keras", export.any_size(plain, config.resize).save)
    page = write(run, config, examples, find["staged"], test, results)
    atomic.write_json(
        run / "metrics.json",
        {"classes": list(examples.classes), "test": metrics["staged"]}
        | {"baselines": {name: numbers for name, numbers in metrics.items() if name != "staged"}},
    )
    folder.end(run)
    print(comparison.to_string(index=False, float_format=lambda number: f"{number:.3f}"))
    print(f"report: {page}")
    multi_worker.wait(chosen)
    return run


@dataclass(frozen=True)
class Results:
    """What came of the staged schedule, and its comparison with the baselines."""

    fitted: training.Fit
    comparison: pd.DataFrame
    counts: segmentation.Counts
    metrics: dict
    environment: dict


def write(
    run: Path,
    config: Config,
    examples: data.Data,
    find: Callable,
    test: tf.data.Dataset,
    results: Results,
) -> Path:
    """The tables of the run folder and the report; return the path of the report."""
    pictures = segmentation.per_picture(results.counts)
    pictures.insert(1, "path", examples.manifest["path"].loc[pictures["id"]].to_numpy())
    atomic.write_json(run / "environment.json", results.environment)
    atomic.write_csv(run / "problems.csv", examples.problems)
    atomic.write_csv(run / "history.csv", results.fitted.history)
    atomic.write_csv(run / "ledger.csv", results.fitted.ledger)
    atomic.write_csv(run / "comparison.csv", results.comparison)
    atomic.write_csv(run / "pictures.csv", pictures)
    atomic.write_csv(run / "classes.csv", segmentation.per_class(results.counts, examples.classes))
    return write_report(run, config, examples, find, test, pictures, results)


def write_report(
    run: Path,
    config: Config,
    examples: data.Data,
    find: Callable,
    test: tf.data.Dataset,
    pictures: pd.DataFrame,
    results: Results,
) -> Path:
    """One self-contained page, report.html."""
    name = Path(config.data).name
    augmented = [
        np.concatenate([element["input"][None], views(config, element, 5, seed)["input"]])
        for seed, element in enumerate(examples.train.take(4).as_numpy_iterator())
    ]
    return report.write(
        run / "report.html",
        title=f"{Path(__file__).parent.name.replace('_', ' ').capitalize()}: {name}",
        question=f"How well can {config.backbone}, started from the weights {Path(config.weights).name}, "
        f"give every pixel of {name} one of {len(examples.classes)} classes, and what does each way of using "
        "it bring?",
        data=examples,
        augmented=np.stack(augmented),
        stages=config.stages,
        history=results.fitted.history,
        ledger=results.fitted.ledger,
        comparison=results.comparison,
        metrics=results.metrics,
        score=("miou", "mean IoU"),
        sections=sections(examples.classes, test, find, pictures, results.counts, results.metrics),
        environment=results.environment,
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
