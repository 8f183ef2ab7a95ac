"""The trained network of texts as others can run it.

    python -m runner export RUN --format savedmodel litert onnx

A SavedModel takes the texts themselves (a program that serves it loads the operations of the package
tensorflow-text first). LiteRT and ONNX have no strings to cut up: those files take token ids, and beside them
stand the vocabulary and how it is used, for a tokenizer of the device.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner import atomic
from runner.errors import InputError
from runner.networks import encoders, tokens
from runner.networks import words as word_layers
from runner.runs import decision, formats
from runner.text import tags
from runner.text_runs import predict

VOCABULARY = "vocabulary.txt"
"""A token a line, the line's number from 0 its id."""
PROBES = (
    "A short one.",
    "Two sentences. The second one is a good deal longer than the first, and says nothing more.",
    "Äpfel, naïve cafés & 3 emoji 🙂🙂🙂 (1,234.50 €)",
    "",
)
"""Texts that an exported file is compared on."""


def run(
    run_folder: str | Path, wanted: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the model of a run on texts; return for each file or folder its largest relative difference.

    run_folder: of a complete run. wanted: names from `runs.formats.NAMES`. output: folder for the results, by
    default `run_folder`/export.

    Writes decision.NAME beside them, and where a file takes token ids VOCABULARY.
    Raises InputError for a folder that is no complete run on texts, and what `runs.formats` raises.
    """
    formats.check(wanted)
    run_folder = Path(os.path.expanduser(run_folder))
    network, _, _ = predict.load(run_folder)
    layer = word_layers.tokenizer(network)
    place = atomic.place(output, "--output") if output else run_folder / "export"
    prepared = how(layer)
    vocabulary = words(layer.tokenizer) if set(wanted) - {"savedmodel"} else []
    of_words = isinstance(network.output, dict)
    shape = (network.output["logits"] if of_words else network.output).shape
    beside = decision.record(run_folder, shape[1:], prepared)
    if of_words:
        beside["tags"] = [tags.named(one, beside["classes"]) for one in range(shape[-1])]
    texts = np.array(PROBES, dtype=object)
    found_now = network(tf.constant(texts), training=False)
    logits = np.asarray(found_now["logits"] if of_words else found_now)
    found: dict[Path, float] = {}
    for name in wanted:
        if name == "savedmodel":
            taken, given, whole = tf.TensorSpec((None,), tf.string, name="text"), texts, network
        else:
            taken = tf.TensorSpec((None, layer.length), tf.int32, name="tokens")
            read = np.asarray(layer(tf.constant(texts)))
            given, whole = read[..., 0] if of_words else read, of_ids(network, layer.length)
        found |= formats.export(whole, taken, [given], [logits], [name], place, beside)
    if vocabulary:
        lines = "".join(f"{word}\n" for word in vocabulary)
        atomic.write(place / VOCABULARY, lambda temporary: temporary.write_text(lines, encoding="utf-8"))
    return found


def of_ids(network: keras.Model, length: int | None) -> keras.Model:
    """The network of a run for token ids, int32 (batch, length), in the place of texts, to its logits; length
    None takes any.
    """
    ids = keras.Input((length,), dtype="int32", name="tokens")
    outputs = network.output
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    operations = keras.Model(network.input, logits).operations
    given = {word_layers.ids(network): ids}
    return keras.Model(ids, encoders.again(operations, given, encoders.same), name=network.name)


def how(layer: tokens.Tokens | word_layers.Words) -> dict[str, Any]:
    """How texts become token ids, in plain JSON types."""
    start, end, padding = tokens.special(layer.tokenizer)
    settings = ("lowercase", "strip_accents", "split_on_cjk", "suffix_indicator", "oov_token")
    return {
        "length": layer.length,
        "tokenizer": type(layer.tokenizer).__name__,
        **{name: getattr(layer.tokenizer, name) for name in settings if hasattr(layer.tokenizer, name)},
        **({"before": tokens.CLEANED} if tokens.of_words(layer.tokenizer) else {}),
        "start": start,
        "end": end,
        "padding": padding,
    }


def words(tokenizer: Any) -> list[str]:
    """The vocabulary in the order of its ids; InputError for a tokenizer that is more than its words."""
    if not tokens.of_words(tokenizer):
        raise InputError(
            f"--format litert and onnx take token ids, and {type(tokenizer).__name__} cuts texts by more "
            "than a list of words: give savedmodel, which holds the tokenizer."
        )
    return list(tokenizer.get_vocabulary())
