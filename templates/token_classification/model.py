"""The network: a pretrained encoder, dropout, and one new dense layer for each of its tokens."""

import keras

from runner.networks.backbones import Block
from runner.text import tags
from runner.text.load import Texts
from runner.text_networks import encoders, text_weights
from runner.text_networks.words import Columns, Words, tokenizer
from runner.text_runs import export

from .config import Config


def build(config: Config, data: Texts) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network of tokenised texts and its encoder's blocks, bottom first.

    int32 token ids (batch, up to data.length) in, float32 logits (batch, the same, tags) out, in the order of
    `text.tags`. The graph is flat: the encoder's layers are the model's layers. `of_texts` makes one that
    takes the texts themselves.
    """
    encoder = text_weights.build(config.backbone, config.weights, data.length, data.tokenizer)
    x = keras.layers.Dropout(config.dropout, name="dropout", dtype="float32")(encoder.output)
    logits = keras.layers.Dense(tags.count(len(data.classes)), dtype="float32", name="head")(x)
    return keras.Model(encoder.input, logits, name=encoder.name), encoders.blocks(encoder)


def of_texts(network: keras.Model, config: Config, data: Texts) -> keras.Model:
    """The same network for texts as they are: strings (batch,) in, of which `config.length` tokens are read.

    Gives "logits", float32 (batch, config.length, tags), and "words", int32 (batch, config.length, 2): where
    the word that a token begins starts and ends, in characters of the text, and -1 for any other token, whose
    logits say nothing.
    """
    text = keras.Input((), dtype="string", name="text")
    packed = Words(data.tokenizer, config.length, name="tokenizer")(text)
    ids = Columns((0,), name="tokens")(packed)
    logits = encoders.again(network.operations, {network.input.name: ids}, encoders.same)
    outputs = {"logits": logits, "words": Columns((1, 2), name="words")(packed)}
    return keras.Model(text, outputs, name=network.name)


def of_ids(network: keras.Model) -> keras.Model:
    """The network of a finished run for texts that are tokenised already; any other as it is."""
    return network if tokenizer(network) is None else export.of_ids(network, None)
