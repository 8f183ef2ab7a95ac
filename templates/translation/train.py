"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.translation.train --data ~/pairs.tsv

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
from runner.runs import run as runs
from runner.scores import translation as scores
from runner.text import bilingual, translations
from runner.text.bilingual import Pairs
from runner.text_networks import text_weights
from runner.text_runs import translate
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages
from runner.training.frozen import FrozenPrefix

from . import method, model, rival, sections


def load(config: Config) -> Pairs:
    """The three splits, tokenised, and their manifest."""
    return bilingual.load(
        translations.find(config.data, config.languages),
        text_weights.tokenizer(config.weights),
        config.length,
        config.pieces,
        seed=config.machine.seed,
        train_examples=amount(config.train_examples, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
    )


def fit(
    config: Config, examples: Pairs, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
    of_training = examples.manifest["split"] == "train"
    pieces = np.minimum(examples.manifest["pieces"][of_training], examples.length)
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples)
        network.compile(
            # No gradients are clipped: each replica would clip its own, and the steps would be others.
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None, beta_2=0.98),
            loss=method.Loss(float(pieces.mean()), config.smoothing),
            metrics=[method.Accuracy()],
            **strategy.compile_options(config.machine),
        )
    fitted = fit_stages(
        network,
        bilingual.batches(examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed),
        bilingual.batches(examples, "val", config.batch_size),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        frozen=FrozenPrefix() if config.keep_frozen else None,
        accumulate=config.accumulate,
    )
    return network, fitted


def judge(
    config: Config, networks: Mapping[str, Any], split: tf.data.Dataset, classes: tuple[str, ...] = ()
) -> dict[str, scores.Answers]:
    """What each network, or rival without one, makes of the texts of a split, which is read once."""
    steps = {
        name: translate.searcher(network, config.beams)
        for name, network in networks.items()
        if isinstance(network, keras.Model)
    }
    parts, found = [], {name: [] for name in steps}
    for batch in split.batch(64).prefetch(tf.data.AUTOTUNE):
        parts.append(batch)
        for name, step in steps.items():
            found[name].append(step(batch["input"]))
    known = {key: np.concatenate([one[key].numpy() for one in parts]) for key in ("id", "source", "target")}
    sources, wanted = ([one.decode() for one in known[name]] for name in ("source", "target"))
    judged = {}
    for name, one in networks.items():
        if name not in steps:
            said = {"found": [one.translate(text) for text in sources]}
        else:
            said = {key: np.concatenate([part[key] for part in found[name]]) for key in found[name][0]}
        judged[name] = scores.Answers(known["id"], sources, wanted, **said)
    return judged


def tables(judged: scores.Answers, examples: Pairs) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """What `judge` found of one network as numbers, a row per band of lengths, and a row per sentence."""
    sizes = [len(text.split()) for text in judged.sources]
    numbers = judged.numbers(examples.manifest["group"])
    return numbers, scores.by_length(judged, sizes), judged.sentences()


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """What a complete run translates texts into: tables as they come, a row for each.

    inputs: files and folders of texts, tables with a column text, or texts themselves; see
    `runner.text_runs.translate.tables`. Nothing is written into `folder`.
    """
    return translate.tables(run, inputs, batch_size)


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
        for name, arm in baselines.of_texts(run.config, at_once=False).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        if run.is_chief:
            judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Pairs, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, groups = run.config, examples.manifest["group"]
    run.save_network(networks["staged"], lambda network: model.of_texts(network, config, examples))
    validation = judge(config, networks, examples.val)
    chosen_on = {name: answers.numbers(resamples=1)["bleu"] for name, answers in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, "bleu", chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks))
    metrics = {name: tables(answers, examples)[0] for name, answers in tested.items()}
    staged = tested["staged"]
    apart = {name: one.less_than(staged, groups)[:3] for name, one in tested.items() if one is not staged}
    comparison = baselines.table(config, networks, fits, "bleu", chosen_on, metrics, ("chrf",), apart)
    test, by_length, sentences = metrics.pop("staged"), *tables(staged, examples)[1:]
    run.save(examples, fits, comparison=comparison, per_class=by_length, predictions=sentences)
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test)
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        **sections.sections(config, examples, test, by_length, sentences),
    )
    run.end({"classes": [], "signatures": scores.signatures(), "test": test, "baselines": metrics})


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
