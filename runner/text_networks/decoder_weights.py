"""Weights for a text decoder and the tokenizer that goes with them: what the word in a Config means."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import InputError
from runner.networks.pretrained import CHECKPOINTS
from runner.text_networks import decoders, text_weights, words
from runner.text_networks.text_weights import Source

if TYPE_CHECKING:
    import keras

SOURCE = "docstrings_gpt"
"""The decoder of `checkpoints/`."""
CHOICES = (
    f"{SOURCE}, none (random weights, its vocabulary), bytes (random weights, each byte a token), a folder "
    "in KerasHub's or Hugging Face's form, the folder of an earlier run, or the name of a KerasHub preset of "
    "GPT-2, which is downloaded"
)
END = "<|endoftext|>"


def resolve(weights: str | Path) -> Source:
    """What `weights` means; nothing is loaded.

    weights: "docstrings_gpt"; "none", random weights with its vocabulary; "bytes", random weights with every
    byte a token; a folder in KerasHub's or Hugging Face's form; a run folder (with model.keras); a preset of
    KerasHub, by name or as hf://USER/MODEL.
    Raises InputError for what is not there, and for a folder that holds neither.
    """
    text = str(weights).strip()
    if text.lower() in ("none", SOURCE):
        return Source("none" if text.lower() == "none" else "preset", str(CHECKPOINTS / SOURCE))
    if text.lower() == "bytes":
        return Source("bytes", "")
    kinds = tuple(dict.fromkeys(decoder.backbone for decoder in decoders.DECODERS.values()))
    return text_weights.found(text, (SOURCE, "none", "bytes"), CHOICES, kinds)


def is_pretrained(weights: str | Path) -> bool:
    """Whether weights have learned something before."""
    return str(weights).strip().lower() not in ("none", "bytes")


def tokenizer(weights: str | Path) -> Any:
    """The KerasHub tokenizer that goes with weights; raises InputError as `resolve` does."""
    source = resolve(weights)
    if source.kind == "bytes":
        return of_bytes()
    if source.kind != "run":
        return text_weights.preset(source.place, "Tokenizer", CHOICES)
    layer = words.tokenizer(text_weights.network(Path(source.place)))
    if layer is None:
        raise InputError(f"weights='{weights}': the network of this run takes no texts; give {CHOICES}.")
    return layer.tokenizer


def build(
    name: str,
    weights: str | Path,
    length: int,
    tokenizer: Any,
    dropout: float | None = None,
) -> "keras.Model":
    """The decoder `name` with these weights, as `decoders.copy` gives it.

    name: of `decoders.DECODERS`, or "auto" for the one that the weights are of. tokenizer: of `tokenizer`.
    Raises InputError for weights that are of another decoder or vocabulary, or cannot be read, and what
    `decoders` raises.
    """
    source, automatic = resolve(weights), name.strip().lower() == "auto"
    size = tokenizer.vocabulary_size()
    if source.kind in ("none", "bytes"):
        if automatic:
            raise InputError(
                f"backbone='auto' with weights='{weights}': name one of {', '.join(decoders.DECODERS)}."
            )
        return decoders.build(name, size, length, dropout=dropout)
    wanted = "" if automatic else decoders.find(name)[0]
    if source.kind == "run":
        network = text_weights.network(Path(source.place))
        if words.tokenizer(network) is None or not decoders.is_one(network):
            raise InputError(
                f"weights='{weights}': the network of this run is no decoder of texts; give {CHOICES}."
            )
        made = decoders.of_network(network, words.ids(network), length, dropout)
    else:
        backbone = text_weights.preset(source.place, "Backbone", CHOICES)
        made = decoders.copy(backbone, length, decoders.called(backbone), dropout=dropout)
    known = made.output.shape[-1]
    if known < size:
        raise InputError(
            f"weights='{weights}' know {known:,} tokens, and the vocabulary has {size:,}: they do not go "
            "together."
        )
    if wanted and wanted != made.name:
        raise InputError(
            f"weights='{weights}' are of {made.name}, not {name}: give backbone 'auto', or others."
        )
    return made


def of_bytes() -> Any:
    """A tokenizer of which every byte is a token: byte pairs without a pair."""
    import keras_hub

    # GPT-2 writes bytes that show nothing as letters from 256 on.
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [one for one in range(256) if one not in shown]
    names = {one: chr(one) for one in shown} | {one: chr(256 + at) for at, one in enumerate(hidden)}
    # KerasHub's table of pairs must not be empty; this one stands in no text in UTF-8.
    never = names[255]
    vocabulary = {names[one]: one for one in range(256)} | {END: 256, never + never: 257}
    return keras_hub.models.GPT2Tokenizer(vocabulary, [f"{never} {never}"])
