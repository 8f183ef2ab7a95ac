"""Load both domains, train each method, choose without target labels, test once, write the report.

    python -m templates.domain_adaptation.train --source ~/drawings --target ~/photos

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
from typing import Any

import keras
import pandas as pd
import tensorflow as tf

from runner.data import weights as example_weights
from runner.data.examples import Data
from runner.devices import strategy
from runner.errors import InputError
from runner.moving import rates
from runner.networks import inference
from runner.picture_runs import predict as new_pictures
from runner.pictures import any_size, gradcam, reference
from runner.pictures.batches import batches
from runner.runs import run as runs
from runner.scores import classification
from runner.training import baselines, solved
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import choice, method, model, sections, two_domains
from .two_domains import Domains, both_domains


def load(config: Config) -> Domains:
    """The splits of both domains, resized, those of the target without their labels, and their manifests."""
    return two_domains.load(config)


def load_new(config: Config, data: str) -> Data:
    """Labelled pictures to judge a finished run by, as those of the target are read."""
    return two_domains.load_one(config, data)


def fit(
    config: Config, domains: Domains, name: str, checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the classifier and train it with the method `name`; go on from `checkpoints` if there are.

    An epoch is one pass over the labelled source pictures, for every method. Where BatchNorm layers train,
    each domain is normalised by its own statistics, and what an adapting method hands on has the target's.
    """
    config = rates.suited(config)
    steps = int(domains.source.train.cardinality()) // config.batch_size
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, domains.source)
        adapting = model.Adapting(network, name, config, steps)
        adapting.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=config.label_smoothing
            ),
            metrics=["accuracy"],
            **strategy.compile_options(config.machine),
        )
    weights = example_weights.of_examples(domains.source)
    fitted = fit_stages(
        adapting,
        both_domains(config, domains, name),
        batches(domains.source, "val", config.batch_size, weights=weights),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
    )
    if baselines.called(name) == baselines.SCRATCH:
        method.adapt_batch_norm(network, pictures(config, domains.source))
    elif name != "source only" and learns_statistics(config):
        method.adapt_batch_norm(network, pictures(config, domains.target))
    return network, fitted


def fit_all(
    config: Config, domains: Domains, checkpoints: Callable[[str], Checkpointing | None] = lambda name: None
) -> tuple[dict[str, keras.Model], dict[str, Fit]]:
    """Train every method of the config; "AdaBN" is what "source only" trained, with other statistics.

    checkpoints: gives the place of a method's state, such as `Run.checkpoints`.
    """
    networks, fits = {}, {}
    for name in sorted(config.methods, key=lambda name: name != "source only"):
        if name == "AdaBN":
            networks[name], _ = model.build(config, domains.source)
            networks[name].set_weights(networks["source only"].get_weights())
            method.adapt_batch_norm(networks[name], pictures(config, domains.target))
            fits[name] = fits["source only"]
        else:
            networks[name], fits[name] = fit(config, domains, name, checkpoints(name))
    return networks, fits


def fit_rivals(
    config: Config, domains: Domains, checkpoints: Callable[[str], Checkpointing | None] = lambda name: None
) -> tuple[dict[str, keras.Model], dict[str, Fit]]:
    """What the source gives without adaptation and, but for one, without other pictures: logistic regression
    on its pixels and on what the backbone makes of them, and the network from scratch.
    """
    if not config.baselines:
        return {}, {}
    source, networks, fits = domains.source, model.build_rivals(config, domains.source), {}
    weights = example_weights.of_examples(source)
    for name, network in networks.items():
        fits[name] = solved.fit(network, "head", source.train, source.val, weights)
    if config.weights != "none":
        for name, arm in baselines.from_scratch(config).items():
            networks[name], fits[name] = fit(arm, domains, name, checkpoints(name))
    return networks, fits


def pictures(config: Config, examples: Data) -> tf.data.Dataset:
    """Batches of the training pictures of a domain, in random order, as they are."""
    return batches(examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed).plain()


def learns_statistics(config: Config) -> bool:
    """Whether a stage trains BatchNorm layers, so that training normalises each domain by its own."""
    return any(stage.batch_norm == "train" for stage in config.stages)


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
        domains = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, domains.source)
        check_batch_norm(run.config, network)
        reference.extractor(network, "head")
        any_size.build(network, run.config.resize)
        gradcam.choose_layer(network, blocks)
        choice.check(domains)
        run.check(network, blocks, domains)
        rivals, of_rivals = fit_rivals(run.config, domains, run.checkpoints)
        networks, fits = fit_all(run.config, domains, run.checkpoints)
        if run.is_chief:
            judge_and_report(run, domains, rivals | networks, of_rivals | fits, blocks)
        return run.folder


def judge_and_report(run: runs.Run, domains: Domains, networks: dict, fits: dict, blocks: Any) -> None:
    """Choose a method without a target label, judge all once on the test, and write what the run leaves."""
    config, classes = run.config, domains.classes
    # Whatever the choice meets, there is a network; what is chosen takes its place.
    run.save_network(networks["source only"], lambda network: any_size.build(network, config.resize))
    methods = {name: networks[name] for name in networks if name in config.methods}
    rivals = {name: networks[name] for name in networks if name not in config.methods}
    unlabelled = choice.compare(config, domains, methods, fits)
    pick = choice.chosen(unlabelled, config.choose_by)
    run.save_network(networks[pick], lambda network: any_size.build(network, config.resize))
    unlabelled, rivals = choice.beside(config, domains, unlabelled, rivals, fits)
    networks = rivals | methods
    if not config.machine.test:
        return run.stop_at_validation(domains, fits, unlabelled, method=pick)
    # The target's test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(domains.target, networks), classes)
    groups = domains.target.manifest["group"]
    comparison = choice.tested(unlabelled, tested, classes, groups)
    predictions, oracle = tested[pick], choice.oracle(comparison)
    test = classification.metrics(predictions, classes, groups)
    run.save(
        domains,
        fits,
        method=pick,
        comparison=comparison,
        per_class=classification.per_class(predictions, classes, groups),
        predictions=predictions,
    )
    kept = run.folder / "reference.npz"
    run.attempt(kept.name, lambda: reference.write(kept, networks[pick], domains.target))
    run.card(
        sections.card(config, domains, pick),
        data={f"{config.target} (target)": domains.target, f"{config.source} (source)": domains.source},
        metrics=test,
    )
    run.report(
        sections.title(config),
        question=sections.question(config, domains, pick, comparison),
        data=domains.target,
        metrics=test,
        **sections.sections(config, domains, pick, networks, blocks, predictions, comparison),
    )
    run.end(
        {
            "classes": list(classes),
            "test": test,
            "method": pick,
            "chosen_by": {name: choice.chosen(unlabelled, name) for name in choice.CRITERIA},
            "oracle": oracle,
            "comparison": comparison.astype(object).where(comparison.notna(), None).to_dict("records"),
        },
        notes=(
            f"chosen by {config.choose_by}, without a target label: {pick}",
            f"oracle (the best on the target's test labels, which chose nothing): {oracle}",
        ),
    )


def check_batch_norm(config: Config, network: keras.Model) -> None:
    """Raise InputError where AdaBN is to adapt BatchNorm layers and there are none."""
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    if "AdaBN" in config.methods and not normalised:
        rest = " ".join(f'"{name}"' for name in config.methods if name != "AdaBN")
        raise InputError(
            f"the method AdaBN needs BatchNorm layers, and {config.backbone} has none; leave it out: "
            f"--methods {rest}."
        )


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
