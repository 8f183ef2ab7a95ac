"""The network: a pretrained decoder whose head is a layer of its own."""

import keras

from runner.networks.backbones import Block
from runner.text.load import Texts
from runner.text_networks import decoder_weights, decoders, encoders
from runner.text_networks.tokens import Tokens
from runner.text_networks.words import tokenizer
from runner.text_runs import export

from .config import Config


def build(config: Config, data: Texts) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network of tokenised texts and its blocks, bottom first.

    int32 token ids (batch, up to data.length) in, float32 logits (batch, the same, tokens) of what comes
    after each out. The graph is flat. `of_texts` makes one that takes the texts themselves.
    """
    network = decoder_weights.build(
        config.backbone, config.weights, data.length, data.tokenizer, config.dropout
    )
    return network, decoders.blocks(network)


def of_texts(network: keras.Model, config: Config, data: Texts) -> keras.Model:
    """The same network for texts as they are: strings (batch,) in, of which `config.length` tokens are read.

    Gives "tokens", int32 (batch, config.length), the mark of a beginning first and padding behind, and
    "logits", float32 (batch, config.length, tokens), of what comes after each.
    """
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(data.tokenizer, config.length, ended=False, name="tokenizer")(text)
    logits = encoders.again(network.operations, {network.input.name: ids}, encoders.same)
    return keras.Model(text, {"tokens": ids, "logits": logits}, name=network.name)


def of_ids(network: keras.Model) -> keras.Model:
    """The network of a finished run for texts that are tokenised already; any other as it is."""
    return network if tokenizer(network) is None else export.of_ids(network, None)
