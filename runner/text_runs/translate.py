"""Translations by trained networks: of the tokenised texts of a split, and of new texts by a finished run."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.errors import InputError
from runner.networks import inference, saved
from runner.runs import folder
from runner.text_networks import tokens, translators, words
from runner.text_networks.marking import present
from runner.text_networks.pieces import Pieces
from runner.text_runs import predict


def searcher(network: keras.Model, beams: int) -> Callable[[Any], dict[str, np.ndarray]]:
    """What a network with a decoder makes of tokenised pairs, int32 (batch, length, 2), of which the texts
    alone are read: {"greedy", "found": str (batch,) by one beam and by `beams`; "sure": float32 (batch,),
    0..1, the mean probability of a piece of what was found}.

    network: as it is trained, or of a finished run. Both searches are one compiled function, which is traced
    here: a call traces nothing, whatever number of texts comes.
    """
    decoder = translators.decoder_of(network)
    if decoder is None:
        raise InputError(f"The model '{network.name}' has no decoder; give one that translates.")
    hidden = translators.encoded(network)
    layer = words.tokenizer(network)
    encoder = keras.Model(network.input if layer is None else layer.output, hidden)
    pieces = Pieces(decoder.pieces)

    def both(pairs: tf.Tensor) -> tuple:
        states = encoder(pairs if layer is None else pairs[..., 0], training=False)
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(present(states), tf.int32), axis=1))
        states = states[:, :longest]
        greedy, mean = translators.search(decoder, states, 1, decoder.length)
        found, sure = (greedy, mean)
        if beams > 1:
            found, sure = translators.search(decoder, states, beams, decoder.length)
        return greedy, found, tf.exp(sure)

    spec = tf.TensorSpec((None, None, 2), tf.int32)
    compiled = tf.function(both, input_signature=[spec], autograph=False).get_concrete_function()

    def call(pairs: Any) -> dict[str, np.ndarray]:
        greedy, found, sure = (one.numpy() for one in compiled(tf.convert_to_tensor(pairs, tf.int32)))
        said = {"greedy": greedy, "found": found}
        texts = {name: np.array([pieces.decode(row) for row in ids], object) for name, ids in said.items()}
        return texts | {"sure": sure}

    return call


def load(run_folder: str | Path) -> keras.Model:
    """The network of a complete run that translates texts; InputError for any other."""
    run_folder = Path(os.path.expanduser(run_folder))
    folder.read_complete(run_folder)
    network = saved.load(run_folder)
    if words.tokenizer(network) is None or translators.decoder_of(network) is None:
        raise InputError(f"{run_folder}: its network translates no texts; give a run of translation.")
    return network


def tables(
    run_folder: str | Path, inputs: Iterable[str | Path], batch_size: int = 64
) -> Iterator[pd.DataFrame]:
    """The translations of texts by a run: a table for each batch, a row per text.

    Columns text (a file, FILE:LINE of a table, or the text itself), translation, score (0..1: the mean
    probability of a piece; an order, no probability of being right), note. What cannot be read has no
    translation. The index is the number of the text.
    Raises InputError for a folder that is no complete run of translations, and what `predict.texts` raises.
    """
    network = load(run_folder)
    layer = words.tokenizer(network)
    step = inference.forward(network, spec=tf.TensorSpec((None,), tf.string))
    stream, first = predict.texts(list(inputs)), 0
    while some := list(islice(stream, batch_size)):
        names, said, notes = (list(part) for part in zip(*some, strict=True))
        rows = [row for row, text in enumerate(said) if text is not None and text.strip()]
        found = np.full(len(some), None, object)
        score = np.full(len(some), np.nan)
        for row, text in enumerate(said):
            if text is not None and not text.strip():
                found[row], notes[row] = "", "empty"
        if rows:
            there = [said[row] for row in rows]
            answers = step(tf.constant(there))
            found[rows] = [one.decode() for one in answers["translation"].numpy()]
            score[rows] = answers["score"].numpy()
            for row, long in zip(rows, tokens.lengths(layer.tokenizer, there), strict=True):
                if long > layer.length:
                    notes[row] = f"cut off: {layer.length} of {long} tokens were read"
        index = pd.RangeIndex(first, first + len(some))
        yield pd.DataFrame({"text": names, "translation": found, "score": score, "note": notes}, index)
        first += len(some)
