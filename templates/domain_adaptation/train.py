"""Load both domains, train each method, choose without target labels, test once, write the report.

    python -m templates.domain_adaptation.train --source ~/drawings --target ~/photos

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
import pandas as pd
import tensorflow as tf
from markupsafe import Markup

from runner import atomic
from runner.devices import environment as machine_environment
from runner.devices import multi_worker, precision, strategy
from runner.errors import InputError
from runner.picture_runs import export
from runner.picture_runs import predict as new_pictures
from runner.pictures import batches as batching
from runner.pictures import gradcam, reference
from runner.report import figures
from runner.report import page as report
from runner.report.sheets import sheet
from runner.runs import folder
from runner.scores import classification
from runner.training import fit as training
from runner.training import trainable

from . import choice, method, model
from .two_domains import Domains, batches, load


def fit(
    config: Config, domains: Domains, name: str, checkpoints: Path | None = None
) -> tuple[keras.Model, training.Fit]:
    """Build the classifier and train it with the method `name`; go on from `checkpoints` if there are.

    An epoch is one pass over the labelled source pictures, for every method. Where BatchNorm layers train,
    each domain is normalised by its own statistics, and what an adapting method hands on has the target's.
    """
    keras.utils.set_random_seed(config.seed)
    strategy.set_deterministic(config.deterministic)
    precision.use(config.precision, config.backbone)
    steps = int(domains.source.train.cardinality()) // config.batch_size
    with strategy.choose(config.strategy).scope():
        network, blocks = model.build(config, domains.source)
        adapting = model.Adapting(network, name, config, steps)
        adapting.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=config.label_smoothing
            ),
            metrics=["accuracy"],
            jit_compile={"auto": "auto", "on": True, "off": False}[config.jit],
            steps_per_execution=config.steps_per_execution,
        )
    epoch = batches(config, domains, name).map(lambda batch: (batch["input"], batch["label"])).take(steps)
    fitted = training.fit(
        adapting,
        epoch.apply(tf.data.experimental.assert_cardinality(steps)),
        batching.batches(domains.source.val, domains.classes, config.batch_size),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        train_from=lambda step, **share: batches(config, domains, name, step, **share),
        checkpoints=checkpoints,
        checkpoint_steps=config.checkpoint_steps,
        checkpoint_minutes=config.checkpoint_minutes,
    )
    if name != "source only" and learns_statistics(config):
        method.adapt_batch_norm(network, target_pictures(config, domains))
    return network, fitted


def fit_all(
    config: Config, domains: Domains, checkpoints: Path | None = None
) -> tuple[dict[str, keras.Model], dict[str, training.Fit]]:
    """Train every method of the config; "AdaBN" is what "source only" trained, with other statistics."""
    networks, fits = {}, {}
    for name in sorted(config.methods, key=lambda name: name != "source only"):
        if name == "AdaBN":
            networks[name], _ = model.build(config, domains.source)
            networks[name].set_weights(networks["source only"].get_weights())
            method.adapt_batch_norm(networks[name], target_pictures(config, domains))
            fits[name] = fits["source only"]
        else:
            place = checkpoints and checkpoints / name.replace(" ", "_")
            networks[name], fits[name] = fit(config, domains, name, place)
    return networks, fits


def target_pictures(config: Config, domains: Domains) -> tf.data.Dataset:
    """Batches of the target's training pictures, in random order, as they are."""
    plain = batching.batches(
        domains.target.train, domains.classes, config.batch_size, shuffle=True, seed=config.seed
    )
    return plain.map(lambda images, labels: images)


def learns_statistics(config: Config) -> bool:
    """Whether a stage trains BatchNorm layers, so that training normalises each domain by its own."""
    return any(stage.batch_norm == "train" for stage in config.stages)


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
    strategy.check_batch_size(config.batch_size, chosen)
    with multi_worker.chief_first(chosen):  # data that must be prepared is, once
        domains = load(config)
    for name, examples in (("source", domains.source), ("target", domains.target)):
        counts = examples.manifest["split"].value_counts().items()
        print(f"{name}: " + ", ".join(f"{split} {count}" for split, count in counts))
    print(precision.use(config.precision, config.backbone))
    # Weights that don't fit and stages that don't exist are answered here, not after the first method.
    network, blocks = model.build(config, domains.source)
    print(trainable.plan(network, blocks, config.stages).to_string(index=False))
    check_batch_norm(config, network)
    # What the end of the run needs of the network is tried before hours of training.
    reference.extractor(network, "head")
    export.any_size(network, config.resize)
    gradcam.choose_layer(network, blocks)
    goes_on = multi_worker.from_chief(lambda: folder.begin(run, record, domains.manifest), chosen)
    print(f"run folder: {run}" + (" (an unfinished run, which goes on)" if goes_on else ""))
    networks, fits = fit_all(config, domains, run / "checkpoints")
    if not multi_worker.is_chief(chosen):
        multi_worker.wait(chosen)
        return run

    unlabelled = compare(config, domains, networks, fits)
    pick = choice.chosen(unlabelled, config.choose_by)
    # The target's test split is opened here, once, when nothing is left to choose.
    test = domains.target.test.open(
        run / "test_readings.csv", f"final numbers of {', '.join(networks)}; pictures shown in the report"
    )
    predictions = classification.predict(networks, test, domains.classes)
    comparison = tested(unlabelled, predictions, domains.classes)
    results = Results(
        pick,
        fits[pick],
        comparison,
        predictions[pick],
        classification.metrics(predictions[pick], domains.classes),
        machine_environment.describe(
            training_seconds=sum(one.seconds for name, one in fits.items() if name != "AdaBN")
        ),
    )
    page = write(run, config, domains, networks, blocks, results)
    print(comparison.to_string(index=False, float_format=lambda number: f"{number:.3f}"))
    print(f"chosen by {config.choose_by}, without a target label: {pick}")
    print(f"oracle (the best on the target's test labels, which chose nothing): {oracle(comparison)}")
    atomic.write_json(
        run / "metrics.json",
        {
            "classes": list(domains.classes),
            "test": results.metrics,
            "method": pick,
            "chosen_by": {name: choice.chosen(unlabelled, name) for name in choice.CRITERIA},
            "oracle": oracle(comparison),
            "comparison": comparison.to_dict("records"),
        },
    )
    folder.end(run)
    print(f"report: {page}")
    multi_worker.wait(chosen)
    return run


def check_batch_norm(config: Config, network: keras.Model) -> None:
    """Raise InputError where BatchNorm is missing, or would never learn."""
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    if "AdaBN" in config.methods and not normalised:
        rest = " ".join(f'"{name}"' for name in config.methods if name != "AdaBN")
        raise InputError(
            f"the method AdaBN needs BatchNorm layers, and {config.backbone} has none; leave it out: "
            f"--methods {rest}."
        )
    batch_norm.check(network, config.weights, config.stages)


def validation_parts(domains: Domains) -> dict[str, tf.data.Dataset]:
    return {"source": domains.source.val, "target": domains.target.val}


def compare(config: Config, domains: Domains, networks, fits) -> pd.DataFrame:
    """One row per method: what it took, and everything that can be known of it without a target label."""
    rows = []
    for name, network in networks.items():
        parts = validation_parts(domains)
        for side, examples in (("source_train", domains.source), ("target_train", domains.target)):
            parts[side] = examples.train.shuffle(10_000, seed=config.seed).take(choice.SAMPLE)
        seen = choice.look(network, parts)
        source, target = seen["source"], seen["target"]
        risk = choice.source_risk(source)
        rows.append(
            {
                "method": name,
                "epochs": len(fits[name].history),
                "seconds": round(fits[name].seconds, 1),
                "val_accuracy": 1 - risk,
                "source_risk": risk,
                "infomax": choice.infomax(target),
                "weighted_risk": choice.weighted_risk(
                    seen["source_train"], seen["target_train"], source, config.seed
                ),
                **choice.gap(source, target, config.seed),
            }
        )
    return pd.DataFrame(rows)


def tested(unlabelled: pd.DataFrame, predictions: dict[str, pd.DataFrame], classes) -> pd.DataFrame:
    """The same rows with the accuracy on the target's test pictures, its interval, and "against_source_only":
    the difference with its 95 % interval, and "hurts" where that lies below 0.
    """
    right = {name: (table["label"] == table["prediction"]).to_numpy() for name, table in predictions.items()}
    rows = []
    for name in unlabelled["method"]:
        found = classification.metrics(predictions[name], classes)
        difference = right[name].astype(float) - right["source only"]
        mean, half = difference.mean(), 1.96 * difference.std() / len(difference) ** 0.5
        verdict = "hurts" if mean + half < 0 else "helps" if mean - half > 0 else "no difference"
        low, high = found["accuracy_interval"]
        rows.append(
            {
                "test_accuracy": found["accuracy"],
                "low": low,
                "high": high,
                "against_source_only": ""
                if name == "source only"
                else f"{verdict} ({100 * mean:+.1f} ± {100 * half:.1f} points)",
            }
        )
    return pd.concat([unlabelled, pd.DataFrame(rows)], axis=1)


def oracle(comparison: pd.DataFrame) -> str:
    """The method that is best on the target's test pictures: to be printed, never to be used."""
    return str(comparison["method"].iloc[int(comparison["test_accuracy"].argmax())])


@dataclass(frozen=True)
class Results:
    """What came of the chosen method, and its comparison with the others."""

    method: str
    fitted: training.Fit
    comparison: pd.DataFrame
    predictions: pd.DataFrame
    metrics: dict
    environment: dict


def write(run: Path, config: Config, domains: Domains, networks, blocks, results: Results) -> Path:
    """All files of the run folder but metrics.json; return the path of the report."""
    network = networks[results.method]
    problems = [
        examples.problems.assign(domain=name)
        for name, examples in (("target", domains.target), ("source", domains.source))
    ]
    atomic.write_json(run / "environment.json", results.environment)
    atomic.write_csv(run / "problems.csv", pd.concat(problems, ignore_index=True))
    atomic.write_csv(run / "history.csv", results.fitted.history)
    atomic.write_csv(run / "ledger.csv", results.fitted.ledger)
    atomic.write_csv(run / "comparison.csv", results.comparison)
    atomic.write_csv(run / "predictions.csv", results.predictions)
    atomic.write(run / "model.keras", export.any_size(network, config.resize).save)
    reference.write(run / "reference.npz", network, domains.target, layer="head")
    return write_report(run, config, domains, networks, blocks, results)


def pictures_section(config: Config, domains: Domains) -> report.Section:
    """Some training pictures of both domains, those of the source with their labels."""
    shown = []
    for name, examples in ((config.source, domains.source), (config.target, domains.target)):
        some = list(examples.train.shuffle(1000, seed=config.seed).take(16).as_numpy_iterator())
        names = [domains.classes[one["label"]] if one["label"] >= 0 else "" for one in some]
        shown.append((Path(name).name, sheet([one["input"] for one in some], names)))
    return report.Section(
        "The two domains",
        "Training pictures of the source with their labels, and of the target, whose labels stay hidden.",
        figures=shown,
    )


def shift_section(domains: Domains, networks, results: Results) -> report.Section:
    """How far the domains lie apart to each network; as a picture before adaptation, after it, and to the
    network to which they look most alike.
    """
    columns = ["method", "mmd", "mmd_yardstick", "proxy_a_distance"]
    alike = results.comparison["method"].iloc[int(results.comparison["proxy_a_distance"].argmin())]
    shown = {"source only": "Before adaptation (source only)", results.method: f"After ({results.method})"}
    shown = {alike: f"Most alike ({alike})"} | shown
    sides = {}
    for name, title in sorted(shown.items(), key=lambda item: list(networks).index(item[0])):
        seen = choice.look(networks[name], validation_parts(domains))
        sides[title] = seen["source"], seen["target"]
    drawn = figures.inline_svg(
        choice.gap_figure(sides), "Scatter plots of source and target features, before and after.", "shift"
    )
    return report.Section(
        "The shift between the domains",
        "Features (what the last layer sees) of validation pictures, which nothing was trained on. mmd: the "
        "squared maximum mean discrepancy; without any shift it stays below its yardstick in 95 of 100 "
        "cases. Proxy A-distance: 0 where a linear classifier cannot tell the domains apart, 2 where it "
        "never errs. Neither proves anything of the accuracy: MCC and pseudo-labels do not bring the domains "
        "together, and domains can be brought together with their classes crossed.",
        tables=[("Distance of source and target features", results.comparison[columns])],
        figures=[("Features in the plane of their first two principal components", Markup(drawn))],
    )


def choice_section(config: Config, results: Results) -> report.Section:
    """What chose the method, what else could have, and what the test labels would have chosen."""
    table = results.comparison
    picks = [
        {"criterion": name, "picks": choice.chosen(table, name), "uses": "no label of the target"}
        for name in choice.CRITERIA
    ]
    picks.append({"criterion": "oracle", "picks": oracle(table), "uses": "the test labels: it chose nothing"})
    picks = pd.DataFrame(picks)
    accuracy = table.set_index("method")["test_accuracy"]
    picks["test_accuracy"] = accuracy[picks["picks"]].to_numpy()
    columns = ["method", "val_accuracy", *choice.CRITERIA, "test_accuracy", "against_source_only"]
    return report.Section(
        "The choice without target labels",
        f"This run was told to choose by {config.choose_by}, which picked {results.method}. Published tables "
        "choose on the target's test labels; that is the row oracle, which nobody has who needs this.\n\n"
        "Low is good for source_risk (the error on the source) and weighted_risk (the same, each picture "
        "weighted by how much it looks like the target), high for infomax (answers on the target that are "
        "certain and varied). Against source only: the difference on the same test pictures with its 95 % "
        "interval.",
        tables=[("What each criterion picks", picks), ("All methods", table[columns])],
    )


def write_report(run: Path, config: Config, domains: Domains, networks, blocks, results: Results) -> Path:
    """One self-contained page, report.html, about the chosen method on the target."""
    network = networks[results.method]
    classes, predictions = domains.classes, results.predictions
    source, target = (Path(one).name for one in (config.source, config.target))
    pictures = report.collect_pictures(domains.target, predictions)
    # Without those of training, which the page would show with their labels.
    tested_ids = set(predictions["id"])
    pictures = {one: picture for one, picture in pictures.items() if one in tested_ids}
    explained = predictions[predictions["id"].isin(report.explained_ids(predictions, classes))]
    return report.write(
        run / "report.html",
        title=f"{Path(__file__).parent.name.replace('_', ' ').capitalize()}: {source} to {target}",
        question=f"How well can {config.backbone}, trained on the labelled pictures of {source}, tell the "
        f"{len(classes)} classes of {target} apart, whose labels it never saw?\n\n"
        f"The method is {results.method}, chosen by {config.choose_by}, without a label of {target}. By the "
        f"test labels, which nobody has who needs this, {oracle(results.comparison)} would be best (the "
        "oracle choice; it chose nothing). Validation accuracy is that on the source.",
        data=domains.target,
        pictures=pictures,
        stages=config.stages,
        history=results.fitted.history,
        ledger=results.fitted.ledger,
        comparison=results.comparison,
        predictions=predictions,
        metrics=results.metrics,
        per_class=classification.per_class(predictions, classes),
        confusion=classification.confusion(predictions, classes),
        overlays=gradcam.explain(network, blocks, explained, pictures, classes),
        sections=[
            pictures_section(config, domains),
            choice_section(config, results),
            shift_section(domains, networks, results),
        ],
        environment=results.environment,
    )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
