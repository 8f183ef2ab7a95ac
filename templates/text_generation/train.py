"""Load the data, train in stages, compare with baselines, test once, write the report.

    python -m templates.text_generation.train --data ~/novel.txt

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

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner import fields
from runner.data.batches import SplitBatches
from runner.data.source import amount
from runner.devices import multi_worker, strategy
from runner.runs import folder as run_folders
from runner.runs import run as runs
from runner.scores import likelihood
from runner.text import passages
from runner.text.load import Texts, load_passages
from runner.text_networks import decoder_weights
from runner.text_runs import generate
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages
from runner.training.frozen import FrozenPrefix

from . import method, model, rival, samples, sections


def load(config: Config) -> Texts:
    """The three splits, tokenised and in windows, and the manifest of their passages."""
    return load_passages(
        passages.find(config.data, config.val_fraction, config.test_fraction),
        decoder_weights.tokenizer(config.weights),
        config.length,
        seed=config.machine.seed,
        train_characters=amount(config.train_characters, config.data),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
    )


def fit(
    config: Config, examples: Texts, name: str = "", checkpoints: Checkpointing | None = None
) -> tuple[keras.Model, Fit]:
    """Build the model and train it through the stages of `config`; go on from `checkpoints` if there are."""
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build(config, examples)
        network.compile(
            optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
            loss=method.Loss(),
            metrics=[method.BitsPerToken()],
            **strategy.compile_options(config.machine),
        )
    fitted = fit_stages(
        network,
        SplitBatches(examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed),
        SplitBatches(examples, "val", config.batch_size),
        config.stages,
        blocks,
        monitor=config.monitor,
        title=name,
        checkpoints=checkpoints,
        frozen=FrozenPrefix() if config.keep_frozen else None,
        accumulate=config.accumulate,
        # What has learned before can go on with texts as it is.
        keep_start=decoder_weights.is_pretrained(config.weights),
        after_stage=_samples(config, examples, network, checkpoints) if name == "staged" else None,
    )
    return network, fitted


def _samples(
    config: Config, examples: Texts, network: keras.Model, checkpoints: Checkpointing | None
) -> Callable[[str, keras.Model], None] | None:
    """Keeps how the network goes on with texts, as it is now and after each stage, beside its checkpoints."""
    if checkpoints is None or not multi_worker.is_chief(network.distribute_strategy):
        return None
    path = checkpoints.folder.parent / samples.FILE
    tell = samples.of_stages(config, examples, path)
    if not path.is_file():
        tell(samples.START, network)
    return tell


def fit_rivals(config: Config, examples: Texts) -> tuple[dict[str, Any], dict[str, Fit]]:
    """What needs no training: counted sequences of characters, and weights that have learned before as they
    came; by name, with a `Fit` without epochs of each.
    """
    networks, fits = rival.fit(examples)
    if decoder_weights.is_pretrained(config.weights):
        networks[baselines.AS_IT_CAME] = model.build(config, examples)[0]
        fits[baselines.AS_IT_CAME] = Fit(pd.DataFrame(), pd.DataFrame(), 0.0)
    return networks, fits


def judge(
    config: Config, networks: Mapping[str, Any], split: tf.data.Dataset, classes: tuple[str, ...] = ()
) -> dict[str, pd.Series]:
    """What each passage of a split takes by each network, or rival without one, in nats by its id; the split
    is read once.
    """
    trained = {name: model.of_ids(one) for name, one in networks.items() if isinstance(one, keras.Model)}
    steps = {name: _taken(one) for name, one in trained.items()}
    owners, taken = [], {name: [] for name in steps}
    for batch in split.batch(config.batch_size).prefetch(tf.data.AUTOTUNE):
        asked = batch["label"].numpy() != passages.NOTHING
        owners.append(batch["owner"].numpy()[asked])
        for name, step in steps.items():
            taken[name].append(step(batch["input"], batch["label"]).numpy()[asked].astype(np.float64))
    owner = np.concatenate(owners)
    ids = np.unique(owner)
    place = np.searchsorted(ids, owner)
    sums = {
        name: np.bincount(place, weights=np.concatenate(taken[name]), minlength=len(ids))
        if name in trained
        else networks[name].nats(ids)
        for name in networks
    }
    return {name: pd.Series(one, pd.Index(ids, name="id")) for name, one in sums.items()}


def _taken(network: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """What each token takes by a network, compiled: of ids and the tokens that come next, both int32 (batch,
    length), float32 nats of that shape.
    """
    rows = tf.TensorSpec((None, None), tf.int32)

    def step(ids: tf.Tensor, following: tf.Tensor) -> tf.Tensor:
        return method.nats(following, network(ids, training=False))[0]

    return tf.function(step, input_signature=[rows, rows], autograph=False).get_concrete_function()


def tables(judged: pd.Series, examples: Texts) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """Numbers, a row per group of passages, and a row per passage, of what `judge` found."""
    told, groups = sections.told(judged, examples), examples.manifest["group"]
    passage = told.per_passage()
    named = examples.manifest.loc[passage["id"], "path"].to_numpy()
    return told.numbers(groups), sections.by_document(judged, examples), passage.assign(path=named)


def predict(
    run: str | Path, inputs: Iterable[str | Path], *, folder: Path | None = None, batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """How a complete run goes on with texts: tables as they come, a row for each, by the run's sampler.

    inputs: files and folders of texts, tables with a column text, or texts themselves.
    """
    config = fields.from_dict(run_folders.read_complete(Path(run).expanduser()), Config, str(run))
    return generate.tables(
        run,
        inputs,
        sampler_name=config.sampler,
        temperature=config.temperature,
        new_tokens=config.new_tokens,
        seed=config.machine.seed,
        batch_size=batch_size,
    )


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
        for name, arm in baselines.of_texts(run.config, scratch_keep="best", lora=True).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        if run.is_chief:
            judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run: runs.Run, examples: Texts, networks: dict, fits: dict) -> None:
    """Judge all methods, on validation and then once on the test, and write what the run leaves behind."""
    config, groups = run.config, examples.manifest["group"]
    run.save_network(networks["staged"], lambda network: model.of_texts(network, config, examples))
    validation = judge(config, networks, examples.val)
    chosen_on = {name: 2 ** -sections.told(one, examples).bits for name, one in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not config.machine.test:
        return run.stop_at_validation(
            examples, fits, baselines.table(config, networks, fits, likelihood.SCORE, chosen_on)
        )
    # The test split is opened here, once, when nothing is left to choose.
    tested = judge(config, networks, run.open_test(examples, networks))
    found = {name: tables(one, examples) for name, one in tested.items()}
    metrics = {name: numbers for name, (numbers, _, _) in found.items()}
    told = {name: sections.told(one, examples) for name, one in tested.items()}
    apart = {
        name: one.less_than(told["staged"], groups)[:3] for name, one in told.items() if name != "staged"
    }
    comparison = baselines.table(
        config, networks, fits, likelihood.SCORE, chosen_on, metrics, ("bits_per_character",), apart
    )
    test = metrics.pop("staged")
    _, per_document, per_passage = found["staged"]
    tested_ids = tested["staged"].index.tolist()
    found_by = run.attempt("continuations", lambda: samples.continued(config, examples, networks, tested_ids))
    by_stage = samples.with_authors(examples, samples.read(run.folder / "checkpoints" / samples.FILE))
    run.save(
        examples,
        fits,
        comparison=comparison,
        per_class=per_document,
        predictions=per_passage,
        continuations=found_by,
        by_stage=by_stage if len(by_stage) else None,
    )
    run.card(sections.card(config, examples), data={config.data: examples}, metrics=test)
    run.report(
        Path(config.data).name,
        question=sections.question(config, examples),
        data=examples,
        metrics=test,
        **sections.sections(config, examples, comparison, per_passage, found_by, by_stage),
    )
    run.end({"classes": list(examples.classes), "test": test, "baselines": metrics})


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main(CONFIG)
