"""Text decoders of KerasHub as one flat graph from token ids to logits (`build`, `copy`), and a step of it
that remembers (`step`).

Between two layers there is one tensor, as in `encoders`, so that the network can be divided after any block.
The head is a layer of its own: it begins as the table of token vectors turned on its side, which is what
GPT-2 has for a head, and then learns by itself. A stage can so train the head and leave the vectors below as
they are, and what lies between is computed once.

A token is told from those before it alone: what stands behind a text, padding too, changes nothing in it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner import quiet
from runner.errors import InputError
from runner.networks.backbones import Block
from runner.text_networks import encoders
from runner.text_networks.encoders import Encoder

if TYPE_CHECKING:
    import keras

DECODERS = {
    "GPT-tiny": Encoder("GPT2Backbone", 4, 4, 128, 512, 128),
    "DistilGPT-2": Encoder("GPT2Backbone", 6, 12, 768, 3072, 1024),
    "GPT-2": Encoder("GPT2Backbone", 12, 12, 768, 3072, 1024),
    "GPT-2-medium": Encoder("GPT2Backbone", 24, 16, 1024, 4096, 1024),
}
"""GPT-tiny is `checkpoints/docstrings_gpt`; the others are those of Radford et al. 2019 and Hugging Face."""
HEAD = "head"


def find(name: str) -> tuple[str, Encoder]:
    """The name as `DECODERS` writes it, in any case, and what it stands for; InputError where none does."""
    return encoders.find(name, DECODERS)


def called(backbone: Any) -> str:
    """The name that `DECODERS` has for a KerasHub backbone, else its class and sizes."""
    return encoders.called(backbone, DECODERS)


def build(name: str, vocabulary_size: int, length: int, dropout: float | None = None) -> "keras.Model":
    """A decoder of `DECODERS` with random weights, as `copy` gives it, and positions for `length` tokens at
    least.

    Raises InputError for a name that there is not, and for a length that is not allowed.
    """
    import keras_hub

    quiet.settle_keras()
    full_name, decoder = find(name)
    sizes = decoder.arguments() | {"vocabulary_size": vocabulary_size}
    sizes["max_sequence_length"] = max(sizes["max_sequence_length"], length)
    return copy(keras_hub.models.GPT2Backbone(**sizes), length, full_name, dropout)


def copy(backbone: Any, length: int, name: str, dropout: float | None = None) -> "keras.Model":
    """A GPT-2 of KerasHub as one flat graph, with its weights, layers of its own, and a head.

    length: of the longest row of token ids, for which the network must have positions. dropout:
    share of what layers give that training hides; None leaves it as the network has it.

    Returns a model int32 (batch, any length) -> float32 logits (batch, length, tokens) of what comes after
    each token, input name "tokens".
    Raises InputError for another class, and for a length that the network has no positions for.
    """
    import keras

    if type(backbone).__name__ != "GPT2Backbone":
        raise InputError(f"{type(backbone).__name__} is no decoder that is known here; give one of GPT-2.")
    _check(length, int(backbone.max_sequence_length), name)
    ids = keras.Input((None,), dtype="int32", name="tokens")
    operations = keras.Model(backbone.input, backbone.output).operations
    hidden = encoders.again(operations, {"token_ids": ids}, _with_dropout(dropout))
    kernel = backbone.token_embedding.get_weights()[0].T
    logits = _head(kernel.shape[1])(hidden)
    made = keras.Model(ids, logits, name=name)
    made.get_layer(HEAD).set_weights([kernel])
    return made


def of_network(network: "keras.Model", ids: str, length: int, dropout: float | None = None) -> "keras.Model":
    """The decoder in the network of a run, as `copy` gives it, in the precision of now and with its own head.

    ids: the name of the layer or input that gives the token ids. Raises InputError as `copy` does.
    """
    import keras

    _check(length, positions(network), network.name)
    new = keras.Input((None,), dtype="int32", name="tokens")
    operations = keras.Model(network.input, network.get_layer(HEAD).output).operations
    logits = encoders.again(operations, {ids: new}, _with_dropout(dropout))
    return keras.Model(new, logits, name=network.name)


def _head(tokens: int) -> Any:
    import keras

    return keras.layers.Dense(tokens, use_bias=False, dtype="float32", name=HEAD)


def _with_dropout(dropout: float | None) -> Callable:
    """For `encoders.again`: the same layer in the precision of now, with another dropout."""
    import keras

    def fresh(layer: Any, inputs: list) -> tuple[Any, list]:
        config = layer.get_config()
        if config.get("name") != HEAD:
            config["dtype"] = keras.config.dtype_policy().name
        for name in ("dropout", "rate"):
            if dropout is not None and name in config:
                config[name] = dropout
        return type(layer).from_config(config), inputs

    return fresh


def _check(length: int, longest: int, name: str) -> None:
    if isinstance(length, bool) or not isinstance(length, int) or not 2 <= length <= longest:
        raise InputError(f"length={length!r} is not allowed: {name} has positions for 2 to {longest} tokens.")


def positions(network: "keras.Model") -> int:
    """How many tokens a network of `copy` has positions for."""
    return int(network.get_layer("position_embedding").sequence_length)


def blocks(network: "keras.Model") -> tuple[Block, ...]:
    """The blocks of a network of `copy`, bottom first: "embeddings", "transformer_layer_0" and so on; the
    normalisation above the last belongs to that.

    Raises InputError for a network without such layers.
    """
    layers = _layers(network)
    if not layers:
        raise InputError(
            f"The model '{network.name}' has no layers of a decoder; give one that decoders.build made."
        )
    at = network.layers.index
    found = [Block("embeddings", *_named(network.layers[: at(layers[0])]))]
    ends = [*(at(layer) for layer in layers[1:]), at(network.get_layer(HEAD))]
    for layer, end in zip(layers, ends, strict=True):
        found.append(Block(layer.name, *_named(network.layers[at(layer) : end])))
    return tuple(found)


def _named(layers: list) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    return tuple(layer.name for layer in layers), tuple(layers)


def is_one(network: "keras.Model") -> bool:
    """Whether a network, also one of a run, is made of what `copy` makes."""
    return bool(_layers(network)) and any(layer.name == HEAD for layer in network.layers)


def _layers(network: "keras.Model") -> list:
    import keras_hub

    return [layer for layer in network.layers if isinstance(layer, keras_hub.layers.TransformerDecoder)]


def cache(network: "keras.Model", batch: Any, length: int) -> Any:
    """An empty memory for `step`: (batch, layers, 2, length, heads, width of a head), of the network's
    numbers.
    """
    from keras import ops

    layers = _layers(network)
    attention = layers[0]._self_attention_layer
    shape = (batch, len(layers), 2, length, layers[0].num_heads, attention._key_dim)
    return ops.zeros(shape, dtype=layers[0].compute_dtype)


def step(network: "keras.Model", ids: Any, memory: Any, place: Any) -> tuple[Any, Any]:
    """Logits of what comes after each of some tokens, and the memory with what was computed of these.

    network: of `copy`. ids: int32 (batch, n), which stand at `place` and behind. memory: of `cache`, with
    what stands before. Equal to the network on the whole text, and costs n tokens.
    """
    from keras import ops

    of = network.get_layer
    tokens, found = of("token_embedding")(ids), []
    hidden = tokens + of("position_embedding")(tokens, start_index=place)
    for number, layer in enumerate(_layers(network)):
        hidden, part = layer(
            hidden,
            self_attention_cache=memory[:, number],
            self_attention_cache_update_index=place,
            training=False,
        )
        found.append(part)
    return of(HEAD)(of("layer_norm")(hidden)), ops.stack(found, axis=1)
