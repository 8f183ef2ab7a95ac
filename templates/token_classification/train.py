"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.token_classification.train --data ~/notes.jsonl

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

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.source import amount
from runner.devices import strategy
from runner.networks import inference
from runner.runs import run as runs
from runner.scores import entities
from runner.text import entities as sources
from runner.text import tags
from runner.text.batches import batches
from runner.text.load import Texts
from runner.text.load import load as load_texts
from runner.text_networks import text_weights
from runner.text_runs import entities as new_texts
from runner.training import baselines, solved
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages
from runner.training.frozen import FrozenPrefix

from . import method, model, rival, sections


def load(config: Config) -> Texts:
    """The three splits, tokenised, with their entities, and their manifest."""
    return load_texts(
        sources.find(config.data),
        text_weights.tokenizer(config.weights),
        config.length,
        seed=config.machine.seed,
        train_examples=amount(config.train_examples, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
    )


def fit(
    config: Config, examples: Texts, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
    asked = [int((one["label"] != tags.NONE).sum()) for one in examples.train.as_numpy_iterator()]
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=method.Loss(words=float(np.mean(asked))),
            metrics=[method.F1()],
            **strategy.compile_options(config.machine),
        )
    if config.solve_head:
        solved.solve(network, "head", examples.train, examples.val)
    fitted = fit_stages(
        network,
        batches(examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed),
        batches(examples, "val", config.batch_size),
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


def judge(
    config: Config, networks: Mapping[str, Any], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, entities.Answers]:
    """Which entities each network, or rival without one, finds in a split, which is read once."""
    trained = {name: model.of_ids(one) for name, one in networks.items() if isinstance(one, keras.Model)}
    steps = {name: inference.forward(network) for name, network in trained.items()}
    parts, logits = [], {name: [] for name in steps}
    for known, answered in inference.batches(steps, split, 32):
        parts.append(known)
        for name, found in answered.items():
            # Of the words alone: all the rest is never asked.
            logits[name].append(found[known["starts"] >= 0])
    known = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    ids = np.unique(known["id"])
    wanted = entities.from_arrays(known["id"], known["spans"], known["classes"], classes)
    found = {
        name: new_texts.found(known, np.concatenate(some), ids, classes) for name, some in logits.items()
    }
    for name in networks.keys() - trained.keys():
        found[name] = entities.table([networks[name].find(one) for one in ids], ids).assign(score=1.0)
    return {name: entities.Answers(found[name], wanted, ids, classes) for name in networks}


def tables(judged: entities.Answers, examples: Texts) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per type, and a row per entity that was found."""
    groups = examples.manifest["group"]
    found, _ = judged.matched(examples.texts)
    return judged.numbers(groups), judged.types(groups), found


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The entities that a complete run finds in texts: tables as they come, a row for each.

    inputs: files and folders of texts, tables with a column text, or texts themselves; see
    `runner.text_runs.entities.tables`, also for what stands in `folder`.
    """
    return new_texts.tables(run, inputs, folder, batch_size)


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
            networks, fits = rival.fit(examples)
        for name, arm in baselines.of_texts(run.config).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        if run.is_chief:
            judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Texts, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, classes, groups = run.config, examples.classes, examples.manifest["group"]
    run.save_network(networks["staged"], lambda network: model.of_texts(network, config, examples))
    validation = judge(config, networks, examples.val, classes)
    chosen_on = {name: answers.numbers(resamples=1)["f1"] for name, answers in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, "f1", chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks), classes)
    metrics = {name: tables(answers, examples)[0] for name, answers in tested.items()}
    staged = tested["staged"]
    apart = {name: one.less_than(staged, groups)[:3] for name, one in tested.items() if one is not staged}
    comparison = baselines.table(config, networks, fits, "f1", chosen_on, metrics, ("macro_f1",), apart)
    test = metrics.pop("staged")
    found, wanted = staged.matched(examples.texts)
    run.save(
        examples,
        fits,
        comparison=comparison,
        per_class=staged.types(groups),
        predictions=found,
        truth=wanted,
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


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
