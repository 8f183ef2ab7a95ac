"""The trained translator as others can run it.

    python -m runner export RUN --format savedmodel litert onnx

A SavedModel takes texts and gives their translations, search and all (a program that serves it loads the
operations of the package tensorflow-text first). LiteRT and ONNX have no strings, and neither the search is
in those files: they take token ids and the pieces written so far and give the logits of the piece that
follows at each place. Both lists of words stand beside them, for a tokenizer and a search of the device.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from runner import atomic
from runner.runs import formats
from runner.text_networks import encoders, pieces, translators
from runner.text_networks import words as word_layers
from runner.text_networks.pieces import Pieces
from runner.text_runs import export, translate

WRITTEN = "pieces.txt"
"""A piece of translations a line, the line's number from 0 its id."""
SEARCH = (
    "begin with the piece `begin` and zeros behind it; of the logits at the place of the last piece the "
    "largest (greedy search) is the piece that follows, which is put behind it, until that is "
    "`end_of_translation`; the pieces `never_written` do not count. Put pieces "
    f"together, and read {pieces.SPACE} as a space"
)


def run(
    run_folder: str | Path, wanted: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the network of a run that translates; return for each file or folder its largest relative
    difference: of a SavedModel that of the scores of its translations, else of the logits.

    run_folder: of a complete run. wanted: names from `runs.formats.NAMES`. output: folder for the results, by
    default `run_folder`/export.

    Writes decision.json beside them, and where a file takes ids `export.VOCABULARY` and WRITTEN.
    Raises InputError for a folder that is no complete run of translations, and what `runs.formats` raises.
    """
    formats.check(wanted)
    run_folder = Path(os.path.expanduser(run_folder))
    network = translate.load(run_folder)
    layer, decoder = word_layers.tokenizer(network), translators.decoder_of(network)
    place = atomic.place(output, "--output") if output else run_folder / "export"
    apart = set(wanted) - {"savedmodel"}
    names = Pieces(decoder.pieces).names
    beside = export.how(layer) | {
        "begin": pieces.BEGIN,
        "end_of_translation": pieces.END,
        "never_written": [pieces.PADDING, pieces.BEGIN, pieces.UNKNOWN],
        "longest_translation": decoder.length,
        "decision": SEARCH,
    }
    texts = np.array(export.PROBES, dtype=object)
    answers = network(tf.constant(texts), training=False)
    found: dict[Path, float] = {}
    for name in wanted:
        if name == "savedmodel":
            taken = tf.TensorSpec((None,), tf.string, name="text")
            given, logits, whole = texts, answers["score"].numpy(), network
        else:
            taken = tf.TensorSpec((None, layer.length, 2), tf.int32, name="pairs")
            whole = of_ids(network, layer.length)
            given = _begun(np.asarray(layer(tf.constant(texts))), len(names))
            logits = np.asarray(whole(given, training=False))
        found |= formats.export(whole, taken, [given], [logits], [name], place, beside)
    if apart:
        export.write_vocabulary(layer.tokenizer, place)
        _list(place / WRITTEN, names)
    return found


def _list(path: Path, words: Sequence[str]) -> None:
    lines = "".join(f"{word}\n" for word in words)
    atomic.write(path, lambda temporary: temporary.write_text(lines, encoding="utf-8"))


def of_ids(network: keras.Model, length: int | None) -> keras.Model:
    """The network of a run for ids, int32 (batch, length, 2): tokens of a text, and the pieces written so
    far; to the logits of the pieces that follow, float32 (batch, length, pieces). length None takes any.
    """
    both = keras.Input((length, 2), dtype="int32", name="pairs")
    hidden = translators.encoded(network)
    operations = keras.Model(network.input, hidden).operations
    source, target = (
        word_layers.Columns((one,), name=name)(both) for one, name in enumerate(("source", "target"))
    )
    hidden = encoders.again(operations, {word_layers.ids(network): source}, encoders.same)
    decoder = translators.copy(translators.decoder_of(network), hidden.shape[-1])
    return keras.Model(both, decoder(translators.Beside(name="beside")([hidden, target])), name=network.name)


def _begun(ids: np.ndarray, size: int) -> np.ndarray:
    """Rows of tokens with a few pieces beside them, as a search would have them."""
    target = np.full_like(ids, pieces.PADDING)
    target[:, 0] = pieces.BEGIN
    some = np.arange(1, min(6, ids.shape[1]))
    target[:, some] = len(pieces.SPECIAL) + some % max(1, size - len(pieces.SPECIAL))
    return np.stack([ids, target], axis=-1).astype(np.int32)
