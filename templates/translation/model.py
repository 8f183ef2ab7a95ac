"""The network: a pretrained encoder reads, and a new decoder above it writes."""

import keras

from runner.networks.backbones import Block
from runner.text.bilingual import Pairs
from runner.text_networks import encoders, text_weights, translators
from runner.text_networks.tokens import Tokens
from runner.text_networks.words import Columns

from .config import Config


def build(config: Config, data: Pairs) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network of tokenised pairs and its encoder's blocks, bottom first.

    int32 (batch, up to data.length, 2) in, the tokens of the text and beside them the pieces of its
    translation, each after the one that it follows; float32 logits (batch, the same, pieces) out, of the
    pieces that follow. The graph is flat: the encoder's layers are the model's layers, and the decoder is one
    more. `of_texts` makes one that takes texts and writes.
    """
    encoder = text_weights.build(config.backbone, config.weights, config.length, data.tokenizer)
    both = keras.Input((None, 2), dtype="int32", name="pairs")
    source = Columns((0,), name="source")(both)
    hidden = encoders.again(encoder.operations, {encoder.input.name: source}, encoders.same)
    joined = translators.Beside(name="beside")([hidden, Columns((1,), name="target")(both)])
    logits = translators.Decoder(
        data.pieces.written,
        config.length,
        config.decoder_layers,
        config.decoder_width,
        config.decoder_heads,
        config.dropout,
        name="decoder",
    )(joined)
    network = keras.Model(both, logits, name=encoder.name)
    return network, encoders.blocks(network)


def of_texts(network: keras.Model, config: Config, data: Pairs) -> keras.Model:
    """The network that translates: strings (batch,) in, of which `config.length` tokens are read.

    Gives "translation", strings (batch,), found by a search with `config.beams`, and "score", float32
    (batch,), 0..1: the mean probability of its pieces.
    """
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(data.tokenizer, config.length, name="tokenizer")(text)
    hidden = translators.encoded(network)
    operations = keras.Model(network.input, hidden).operations
    hidden = encoders.again(operations, {"source": ids}, encoders.same)
    decoder = translators.copy(translators.decoder_of(network), hidden.shape[-1])
    outputs = translators.translations(decoder, hidden, config.beams, config.length)
    return keras.Model(text, outputs, name=network.name)
