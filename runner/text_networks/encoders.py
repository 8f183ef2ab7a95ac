"""Text encoders of KerasHub as one flat graph (`build`, `copy`), and their named `blocks`.

Token ids go in and hidden states come out, and between two layers there is **one tensor**: what stands for
padding is zero there, so that each layer reads off what comes in which tokens there are. A network can so be
divided after any block, as one of pictures can (`training.frozen`), and the two parts compute to the bit what
the whole does. KerasHub's own networks hand the hidden states and a mask from layer to layer.

KerasHub is imported when a network is built: the table (`ENCODERS`) costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner import quiet
from runner.errors import InputError, suggest
from runner.networks.backbones import Block
from runner.text_networks import vectors

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Encoder:
    """What KerasHub is told to build an encoder or a decoder; the vocabulary comes from its tokenizer."""

    backbone: str
    """The class in `keras_hub.models`."""
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int = 512
    embedding_dim: int | None = None
    """Of ELECTRA, whose small network has narrower embeddings; else that of the layers."""

    def arguments(self) -> dict[str, Any]:
        """For the class, beside the size of the vocabulary."""
        sizes = {
            name: value for name, value in vars(self).items() if name not in ("backbone", "embedding_dim")
        }
        return sizes | ({} if self.embedding_dim is None else {"embedding_dim": self.embedding_dim})


ENCODERS = {
    "MiniLM-L6": Encoder("BertBackbone", 6, 12, 384, 1536),
    "BERT-tiny": Encoder("BertBackbone", 2, 2, 128, 512),
    "BERT-mini": Encoder("BertBackbone", 4, 4, 256, 1024),
    "BERT-small": Encoder("BertBackbone", 4, 8, 512, 2048),
    "BERT-medium": Encoder("BertBackbone", 8, 8, 512, 2048),
    "BERT-base": Encoder("BertBackbone", 12, 12, 768, 3072),
    "DistilBERT-base": Encoder("DistilBertBackbone", 6, 12, 768, 3072),
    "RoBERTa-base": Encoder("RobertaBackbone", 12, 12, 768, 3072),
    "ELECTRA-small": Encoder("ElectraBackbone", 12, 4, 256, 1024, embedding_dim=128),
    "ELECTRA-base": Encoder("ElectraBackbone", 12, 12, 768, 3072, embedding_dim=768),
}
"""By the names that papers and Hugging Face give them: BERT and its small ones (Devlin et al. 2019,
arXiv:1810.04805; Turc et al. 2019, arXiv:1908.08962), MiniLM (Wang et al. 2020, arXiv:2002.10957), DistilBERT
(Sanh et al. 2019, arXiv:1910.01108), RoBERTa (Liu et al. 2019, arXiv:1907.11692), ELECTRA (Clark et al. 2020,
arXiv:2003.10555)."""
PADDING = {"RobertaBackbone": 1}
"""The token id that stands for nothing, where it is not 0."""
VOCABULARY = {"ElectraBackbone": "vocab_size"}
"""What a class calls the size of its vocabulary, where it is not vocabulary_size."""


def find(name: str, among: Mapping[str, Encoder] = ENCODERS) -> tuple[str, Encoder]:
    """The name as the table writes it, in any case, and what it stands for; InputError where none does.

    among: `ENCODERS`, or `decoders.DECODERS`.
    """
    for known, encoder in among.items():
        if known.lower() == name.strip().lower():
            return known, encoder
    kind = "encoder" if among is ENCODERS else "decoder"
    raise InputError(f"Unknown {kind} '{name}'; there are {', '.join(among)}.{suggest(name, list(among))}")


def build(name: str, vocabulary_size: int, length: int, padding: int | None = None) -> "keras.Model":
    """An encoder of `ENCODERS` with random weights, as `copy` gives it.

    vocabulary_size, padding: of the tokenizer whose ids come in.
    Raises InputError for a name that there is not, and for a length that is not allowed.
    """
    import keras_hub

    quiet.settle_keras()
    full_name, encoder = find(name)
    sizes = encoder.arguments() | {VOCABULARY.get(encoder.backbone, "vocabulary_size"): vocabulary_size}
    return copy(getattr(keras_hub.models, encoder.backbone)(**sizes), length, full_name, padding)


def copy(backbone: Any, length: int, name: str, padding: int | None = None) -> "keras.Model":
    """A KerasHub encoder as one flat graph, with its weights and with layers of its own.

    backbone: of the classes in `ENCODERS`, such as `keras_hub.models.Backbone.from_preset` gives. length: of
    the longest row of token ids, for which the network must have positions. padding: the id that stands for
    nothing; None takes that of the network's own tokenizer.

    Returns a model int32 (batch, any length) -> hidden states (batch, length, width) in the compute dtype,
    input name "tokens"; what stands for `padding` has hidden states of 0. Its
    layers bear the names that KerasHub gave them, in every build the same.
    Raises InputError for another class, and for a length that the network has no positions for.
    """
    import keras
    import keras_hub

    from runner.text_networks import marking

    kind = type(backbone).__name__
    if kind not in {encoder.backbone for encoder in ENCODERS.values()}:
        raise InputError(
            f"{kind} is no encoder that is known here; give one of BERT, DistilBERT, RoBERTa or ELECTRA."
        )
    longest = int(backbone.max_sequence_length)
    if isinstance(length, bool) or not isinstance(length, int) or not 2 <= length <= longest:
        raise InputError(f"length={length!r} is not allowed: {name} has positions for 2 to {longest} tokens.")
    ids = keras.Input((None,), dtype="int32", name="tokens")
    segments = marking.FirstSegment(name="segments")(ids)
    padding = PADDING.get(kind, 0) if padding is None else padding
    hidden = backbone.output["sequence_output"] if isinstance(backbone.output, dict) else backbone.output
    given = {one.name: segments if one.name == "segment_ids" else ids for one in backbone.inputs}
    operations = keras.Model(backbone.input, hidden).operations
    layers = [one for one in operations if isinstance(one, keras_hub.layers.TransformerEncoder)]

    def fresh(layer, inputs):
        if layer not in layers:
            return type(layer).from_config(layer.get_config()), inputs
        before = (
            [marking.Marked(padding, name="marked")([inputs[0], ids])] if layer is layers[0] else inputs[:1]
        )
        return marking.EncoderLayer.from_config(layer.get_config()), before

    return keras.Model(ids, again(operations, given, fresh), name=name)


def again(operations: "Sequence[keras.Operation]", given: Mapping[str, Any], fresh: Callable) -> Any:
    """Call the layers of a network anew, in their order, and return what the last gives.

    given: what stands for the output of layers, by their names; what these were made of is left out. fresh:
    from a layer and the new tensors for its inputs to a layer without weights, and the tensors to call it on;
    it gets the weights of the old one.
    """
    import keras

    made: dict[int, Any] = {}
    for layer in operations:
        inputs = [made.get(id(one)) for one in keras.tree.flatten(layer.input)]
        if layer.name in given:
            made[id(layer.output)] = given[layer.name]
        elif any(one is not None for one in inputs):
            new, inputs = fresh(layer, [one for one in inputs if one is not None])
            made[id(layer.output)] = new(inputs if len(inputs) > 1 else inputs[0])
            new.set_weights(layer.get_weights())
    return made[id(operations[-1].output)]


def same(layer: Any, inputs: list) -> tuple[Any, list]:
    """For `again`: a layer of the same settings on the same inputs."""
    return type(layer).from_config(layer.get_config()), inputs


def vectors_of(encoder: "keras.Model") -> Any:
    """The vectors of all tokens in the first layer of an encoder of `build`, `copy` or `vectors.build`,
    float32 (tokens, width).
    """
    return next(layer for layer in encoder.layers if layer.weights).get_weights()[0]


def vocabulary_size(backbone: Any) -> int:
    """How many tokens a KerasHub backbone of the classes in `ENCODERS` knows."""
    return int(getattr(backbone, VOCABULARY.get(type(backbone).__name__, "vocabulary_size")))


def called(backbone: Any, among: Mapping[str, Encoder] = ENCODERS) -> str:
    """The name that the table has for a KerasHub backbone, else its class and sizes: "BertBackbone-3x64"."""
    for name, encoder in among.items():
        sizes = encoder.arguments()
        same = all(getattr(backbone, one, value) == value for one, value in sizes.items())
        if same and type(backbone).__name__ == encoder.backbone:
            return name
    return f"{type(backbone).__name__}-{backbone.num_layers}x{backbone.hidden_dim}"


def blocks(encoder: "keras.Model") -> tuple[Block, ...]:
    """The blocks of an encoder, bottom first: "embeddings", then "transformer_layer_0" and so on.

    encoder: of `build`, `copy` or `vectors.build` (which has "embeddings" alone), or a network built on top
    of it, also one that was saved and loaded again.
    Raises InputError for a network without such layers.
    """
    from runner.text_networks.marking import EncoderLayer

    words = [layer for layer in encoder.layers if layer.name == vectors.LAYER]
    if words:
        return (_block("embeddings", words),)
    below: list[Any] = []
    found: list[Block] = []
    for layer in encoder.layers:
        if isinstance(layer, EncoderLayer):
            if not found:
                found.append(_block("embeddings", below))
            found.append(_block(layer.name, [layer]))
        elif not found:
            below.append(layer)
    if not found:
        raise InputError(
            f"The model '{encoder.name}' has no layers of an encoder; give one that encoders.build made."
        )
    return tuple(found)


def _block(name: str, layers: list) -> Block:
    return Block(name, tuple(layer.name for layer in layers), tuple(layers))
