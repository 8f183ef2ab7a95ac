"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.text_classification.train --data ~/reviews.csv

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

import keras
import pandas as pd
import tensorflow as tf

from runner.data import weights as example_weights
from runner.data.examples import compared_groups
from runner.data.source import amount
from runner.devices import strategy
from runner.networks import inference
from runner.runs import run as runs
from runner.scores import assessment, classification, intervals, operating_point, paired
from runner.text.batches import batches
from runner.text.load import Texts
from runner.text.load import load as load_texts
from runner.text_networks import text_weights
from runner.text_runs import predict as new_texts
from runner.text_runs import reference
from runner.training import baselines, solved
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages
from runner.training.frozen import FrozenPrefix

from . import model, sections


def load(config: Config) -> Texts:
    """The three splits, tokenised, and their manifest."""
    examples = load_texts(
        config.data,
        text_weights.tokenizer(config.weights),
        config.length,
        seed=config.machine.seed,
        labels_per_class=amount(config.labels_per_class, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
    )
    operating_point.check_positive(config.positive, examples.classes)
    return examples


def fit(
    config: Config, examples: Texts, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
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
    fitted = fit_stages(
        network,
        batches(
            examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed, weights=weights
        ),
        batches(examples, "val", config.batch_size, weights=weights),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        frozen=FrozenPrefix() if config.keep_frozen else None,
        accumulate=config.accumulate,
        keep_start=config.solve_head,
    )
    return network, fitted


def fit_rivals(config: Config, examples: Texts) -> tuple[dict[str, keras.Model], dict[str, Fit]]:
    """Solve logistic regression on TF-IDF, which needs neither a network nor other texts, and on averaged
    word vectors, where there are weights to take them from.
    """
    rivals = {baselines.TF_IDF: model.build_rival(examples)}
    if config.weights != "none":
        rivals[baselines.VECTORS] = model.build_vectors(config, examples)
    weights = example_weights.of_examples(examples, config.class_weight)
    splits, fits = (examples.train, examples.val), {}
    for name, rival in rivals.items():
        fits[name] = solved.fit(rival, "head", *splits, weights, counts=name == baselines.TF_IDF)
    return rivals, fits


def judge(
    config: Config, networks: dict[str, keras.Model], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """What each network answers on a split, which is read once; see `classification.tables`."""
    networks = {name: model.of_ids(network) for name, network in networks.items()}
    return classification.tables(*inference.outputs(networks, split), classes)


def tables(judged: pd.DataFrame, examples: Texts) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per class, and a row per example."""
    return (
        classification.metrics(judged, examples.classes, examples.manifest["group"]),
        classification.per_class(judged, examples.classes, examples.manifest["group"]),
        judged,
    )


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The classes of texts by a complete run: tables as they come.

    inputs: files and folders of texts, tables with a column text, or texts themselves. Columns text,
    prediction, confidence, note, p:<class>; see `runner.text_runs.predict.class_tables`. Nothing is drawn
    into `folder`.
    """
    return new_texts.class_tables(run, inputs, batch_size)


def main(config: Config) -> Path:
    """Run everything and return the run folder."""
    with runs.start(config, __package__) as run:
        examples = run.load(load)
        # Weights that don't fit are answered here, and what the end needs of the network is tried.
        network, blocks = model.build(run.config, examples)
        model.of_texts(network, run.config, examples)
        run.check(network, blocks, examples)
        networks, fits = {}, {}
        if run.config.baselines:
            networks, fits = fit_rivals(run.config, examples)
        for name, arm in baselines.of_texts(run.config, lora=True).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        if run.is_chief:
            judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Texts, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, classes = run.config, examples.classes
    run.save_network(networks["staged"], lambda network: model.of_texts(network, config, examples))
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
    whole_network = model.of_texts(network, config, examples)
    run.attempt(kept.name, lambda: reference.write(kept, whole_network, examples, temperature=temperature))
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test, assessed=assessed)
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        assessment=assessed,
        **sections.sections(config, examples, predictions, network),
    )
    run.end({"classes": list(classes), "test": test} | assessed.record() | {"baselines": metrics})


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
