"""What a run on texts keeps of them to compare new ones with (`data.reference`), and how they are read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from runner.data import reference
from runner.data.reference import SPLITS, Seen
from runner.networks import inference
from runner.text.load import Texts
from runner.text_networks import marking

LAYER = "head"
"""The layer whose input the last features are."""
BELOW = "marked"
"""The layer that gives the vectors of the tokens: what a text is made of, before any layer mixes them."""
CHARACTERS = 300
"""So much of a training text is kept, to be shown."""


def extractor(network: keras.Model) -> keras.Model:
    """Return the model that gives [features, logits], or [features, early, logits] of a network with layers
    between the vectors of tokens and its head.

    network: flat, of strings or token ids, logits (batch, classes) out. features: what the head reads, (n,
    d); early: the mean of the vectors of a text's tokens, as the first layer has them, float32 (n, e).
    """
    features = network.get_layer(LAYER).input
    if not early_layers(network):
        return keras.Model(network.input, [features, network.output])
    vectors = network.get_layer(BELOW).output
    early = marking.MeanOfTokens(name="early_mean", dtype="float32")(vectors)
    return keras.Model(network.input, [features, early, network.output])


def early_layers(network: keras.Model) -> tuple[str, ...]:
    """The name of the layer that the early features are of, or nothing where the head reads these."""
    mixes = any(isinstance(layer, marking.EncoderLayer) for layer in network.layers)
    return (BELOW,) if mixes and any(layer.name == BELOW for layer in network.layers) else ()


def write(
    path: str | Path, network: keras.Model, data: Texts, *, temperature: float = 1.0, batch_size: int = 64
) -> Path:
    """Write a reference of training and validation texts to an .npz file, at most `LIMIT` of each.

    network: the trained one, of texts as they are: strings (batch,) in. It holds the beginnings of the
    training texts; the test split is not looked at. temperature: what the run divides its logits by.
    """
    step = inference.forward(extractor(network))
    found, beginnings = {}, []
    for split in SPLITS:
        rows = reference.chosen(data.manifest, split)
        texts = [data.texts[row] for row in rows]
        found[split] = rows, read_texts(step, texts, temperature, batch_size)
        if split == "train":
            beginnings = [beginning(text).encode() for text in texts]
    return reference.write(
        path,
        found,
        beginnings,
        layer=LAYER,
        early_layers=early_layers(network),
        classes=data.classes,
        temperature=temperature,
    )


def read_texts(
    step: Callable[[Any], Sequence[Any]], texts: Sequence[str], temperature: float, batch_size: int = 64
) -> Seen:
    """What the network makes of texts; step: of `inference.forward`, of an `extractor`."""
    batches = [texts[first : first + batch_size] for first in range(0, len(texts), batch_size)]
    return reference.together([reference.see(step, tf.constant(one), temperature) for one in batches])


def beginning(text: str) -> str:
    """Of a text what a page shows, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= CHARACTERS else line[: CHARACTERS - 1] + "…"
