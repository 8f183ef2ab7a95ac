"""The trained network of texts as others can run it.

    python -m runner export RUN --format savedmodel litert onnx

A SavedModel takes the texts themselves (a program that serves it loads the operations of the package
tensorflow-text first). LiteRT and ONNX have no strings to cut up: those files take token ids, and beside them
stand the vocabulary and how it is used, for a tokenizer of the device; of byte pairs also which are joined.
"""

import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner import atomic
from runner.runs import decision, formats
from runner.text import tags
from runner.text_networks import encoders, tokens
from runner.text_networks import words as word_layers
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

    Writes decision.NAME beside them, and where a file takes token ids the vocabulary.
    Raises InputError for a folder that is no complete run on texts, and what `runs.formats` raises.
    """
    formats.check(wanted)
    run_folder = Path(os.path.expanduser(run_folder))
    network, _, _ = predict.load(run_folder)
    layer = word_layers.tokenizer(network)
    place = atomic.place(output, "--output") if output else run_folder / "export"
    prepared = how(layer)
    of_words = isinstance(layer, word_layers.Words)
    several = isinstance(network.output, dict)
    shape = (network.output["logits"] if several else network.output).shape
    beside = decision.record(run_folder, shape[1:], prepared)
    if of_words:
        beside["tags"] = [tags.named(one, beside["classes"]) for one in range(shape[-1])]
    elif several:
        beside["decision"] = "the largest logit of a place is of the likeliest token behind it"
    texts = np.array(PROBES, dtype=object)
    found_now = network(tf.constant(texts), training=False)
    logits = np.asarray(found_now["logits"] if several else found_now)
    found: dict[Path, float] = {}
    for name in wanted:
        if name == "savedmodel":
            taken, given, whole = tf.TensorSpec((None,), tf.string, name="text"), texts, network
        else:
            taken = tf.TensorSpec((None, layer.length), tf.int32, name="tokens")
            read = np.asarray(layer(tf.constant(texts)))
            given, whole = read[..., 0] if of_words else read, of_ids(network, layer.length)
        found |= formats.export(whole, taken, [given], [logits], [name], place, beside)
    if set(wanted) - {"savedmodel"}:
        write_vocabulary(layer.tokenizer, place)
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


def write_vocabulary(tokenizer: Any, place: Path) -> None:
    """Write what a tokenizer of the device needs: VOCABULARY, or of byte pairs the files that GPT-2's own
    tokenizer has, vocabulary.json and merges.txt.
    """
    if tokens.of_words(tokenizer):
        lines = "".join(f"{word}\n" for word in tokenizer.get_vocabulary())
        atomic.write(place / VOCABULARY, lambda temporary: temporary.write_text(lines, encoding="utf-8"))
        return
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_assets(folder)
        for path in sorted(Path(folder).iterdir()):
            atomic.write(place / path.name, functools.partial(shutil.copyfile, path))
