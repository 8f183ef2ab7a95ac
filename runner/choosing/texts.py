"""The networks of sources for texts, and what tells one from another."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from runner.choosing import features
from runner.choosing.candidates import Candidate
from runner.data.source import amount
from runner.runs import folder
from runner.text.load import Texts, load
from runner.text_networks import encoders, marking, text_weights
from runner.training import cache


def content(candidate: Candidate) -> Sequence[str | bytes]:
    """All that decides what the network of a source computes beside the token ids: for `features.of`."""
    code = [Path(inspect.getfile(one)).read_bytes() for one in (encoders, marking, text_weights)]
    source = text_weights.resolve(candidate.weights)
    place = Path(source.place)
    weights = source.place  # a preset, which KerasHub downloads
    if source.kind == "none":
        weights = "none"
    elif source.kind == "run":
        weights = features.digest(place / "model.keras")
    elif place.is_dir():
        files = sorted(one for one in place.rglob("*") if one.is_file())
        weights = cache.fingerprint(*[features.digest(one) for one in files])
    elif place.is_file():
        weights = features.digest(place)
    return [*code, candidate.backbone, weights]


def of_run(record: dict, tokenizer: Any, length: int) -> Texts:
    """The data of a run in the run's own splits, from its settings, in tokens of any tokenizer.

    Raises InputError where it cannot be read any more, KeyError where the run is of another kind.
    """
    return load(
        record["data"],
        tokenizer,
        length,
        seed=record["seed"],
        labels_per_class=amount(record["labels_per_class"], record["data"]),
        val_fraction=record["val_fraction"],
        test_fraction=record["test_fraction"],
    )


def network(candidate: Candidate, data: Texts) -> features.Network:
    """From token ids int32 (batch, length) to what stands for a text, and the classifier of a run.

    That is the mean of the tokens, as the template takes it; of a run that took the first, the first.
    Raises InputError for weights that do not fit.
    """
    if candidate.weights.lower() == "none":
        keras.utils.set_random_seed(0)  # the same untrained network every time
    encoder = text_weights.build(candidate.backbone, candidate.weights, data.length, data.tokenizer)
    first = candidate.run is not None and folder.read_complete(candidate.run).get("pooling") == "first"
    pool = (marking.FirstToken if first else marking.MeanOfTokens)(name="pool", dtype="float32")
    pooled = keras.Model(encoder.input, pool(encoder.output))
    if candidate.run is None:
        return pooled, None
    return pooled, features.of_head(text_weights.network(candidate.run), pooled.output.shape[-1])
