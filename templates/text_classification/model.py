"""The network: a pretrained encoder, one vector for the text, dropout, and one new dense layer."""

import keras
import numpy as np

from runner.networks.backbones import Block
from runner.text.load import Texts
from runner.text_networks import encoders, marking, text_weights
from runner.text_networks.tokens import Tokens, special
from runner.text_networks.words import tokenizer
from runner.text_runs import export

from .config import Config


def build(config: Config, data: Texts) -> tuple[keras.Model, tuple[Block, ...]]:
    """The classifier of tokenised texts and its encoder's blocks, bottom first.

    int32 token ids (batch, up to data.length) in, float32 logits (batch, classes) out. The graph is flat: the
    encoder's layers are the model's layers. `of_texts` makes one that takes the texts themselves.
    """
    encoder = text_weights.build(config.backbone, config.weights, data.length, data.tokenizer)
    pool = {"mean": marking.MeanOfTokens, "first": marking.FirstToken}[config.pooling]
    x = pool(name="pool", dtype="float32")(encoder.output)
    x = keras.layers.Dropout(config.dropout, name="dropout", dtype="float32")(x)
    logits = keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x)
    return keras.Model(encoder.input, logits, name=encoder.name), encoders.blocks(encoder)


def of_texts(network: keras.Model, config: Config, data: Texts) -> keras.Model:
    """The same network for texts as they are: strings (batch,) in, of which `config.length` tokens are
    read.
    """
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(data.tokenizer, config.length, name="tokenizer")(text)
    logits = encoders.again(network.operations, {network.input.name: ids}, encoders.same)
    return keras.Model(text, logits, name=network.name)


def of_ids(network: keras.Model) -> keras.Model:
    """The network of a finished run for texts that are tokenised already; any other as it is."""
    return network if tokenizer(network) is None else export.of_ids(network, None)


def build_rival(data: Texts) -> keras.Model:
    """Logistic regression on TF-IDF, whose head is still to be solved: token ids as `build` takes them to
    logits.

    A text is the counts of its tokens, each times log((1 + n) / (1 + d)) + 1 for a token in d of n training
    texts (Spärck Jones 1972, smoothed as scikit-learn does), and of length 1. Tokens of no training text
    count nothing.
    """
    rows = np.stack([one["input"] for one in data.train.as_numpy_iterator()])
    there, found = np.unique(np.concatenate([np.unique(row) for row in rows]), return_counts=True)
    words = ~np.isin(there, special(data.tokenizer))
    there, idf = there[words], np.log((1 + len(rows)) / (1 + found[words])) + 1
    ids = keras.Input((data.length,), dtype="int32", name="tokens")
    # Column 0 counts what is not known, and weighs nothing.
    counts = keras.layers.IntegerLookup(vocabulary=there.tolist(), output_mode="count")(ids)
    x = keras.layers.Rescaling([0.0, *idf])(counts)
    x = keras.layers.UnitNormalization()(x)
    return keras.Model(ids, keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x))


def build_vectors(config: Config, data: Texts) -> keras.Model:
    """Logistic regression on the mean of the tokens' vectors, whose head is still to be solved: token ids as
    `build` takes them to logits.

    The vectors are those of the encoder's first layer, which knows words and no order and no context.
    """
    encoder = text_weights.build(config.backbone, config.weights, data.length, data.tokenizer)
    table = encoders.vectors_of(encoder)
    ids = keras.Input((None,), dtype="int32", name="tokens")
    layer = keras.layers.Embedding(*table.shape, name="vectors", dtype="float32")
    hidden = marking.Marked(special(data.tokenizer)[2], name="marked", dtype="float32")([layer(ids), ids])
    x = marking.MeanOfTokens(name="pool", dtype="float32")(hidden)
    layer.set_weights([table])
    return keras.Model(ids, keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x))
