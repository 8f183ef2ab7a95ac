"""Weights for a backbone: what the word in a Config means, and loading them."""

import contextlib
import importlib.metadata
import json
import os
import re
import socket
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import atomic
from runner.errors import InputError, suggest
from runner.networks.families import (
    FAMILIES,
    Family,
    canonical,
    canonical_name,
    find,
    names_with_weights,
    weights_file,
)

if TYPE_CHECKING:
    import keras

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
MOST = 3e-3
"""The peak rate of Adam that weights which bear the most take: those of small networks, and new ones."""
DOWNLOAD_TIMEOUT = 15.0  # seconds without a byte before a download counts as failed


def resolve(weights: str | Path, family: Family, width: float) -> str | Path:
    """Return "imagenet", "none" or the file that `weights` means; InputError when there is none."""
    text = str(weights)
    if text.lower() == "none":
        return "none"
    if text.lower() == "imagenet":
        if not family.weights_file:
            raise InputError(
                f"There are no ImageNet weights for {family.name}; give weights='none', a run folder, or "
                "another backbone."
            )
        if width not in family.parameters:
            raise InputError(
                f"There are no ImageNet weights for {canonical_name(family, width)}; widths that have them: "
                f"{names_with_weights(family)}. {_other_choices()}"
            )
        return "imagenet"
    path = Path(os.path.expanduser(text))
    try:
        os.stat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name that is too long, or holds what no name can
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"weights={text[:80]!r} is no path ({reason}). {_other_choices()}") from None
    if (CHECKPOINTS / text / "card.json").is_file():
        path = CHECKPOINTS / text
    if path.is_dir():
        if (path / "card.json").is_file():
            return _checkpoint(path, canonical_name(family, width))
        if (path / "model.keras").is_file():
            return path / "model.keras"
        raise InputError(
            f"weights='{text}' is a folder with neither model.keras (a run) nor card.json (a checkpoint): "
            "give another."
        )
    if path.is_file():
        if path.suffix not in (".h5", ".hdf5", ".keras"):
            raise InputError(f"weights='{text}' is no weights file: give a .weights.h5, .h5 or .keras file.")
        return path
    if path.suffix or path.name != text:
        raise InputError(f"weights='{text}': there is no such file or folder. {_other_choices()}")
    raise InputError(
        f"Unknown weights '{text}'.{suggest(text, ['imagenet', 'none', *_checkpoints()])} Allowed are "
        f"imagenet, none, a name in checkpoints/ ({_listed(_checkpoints())}), or the path of a "
        ".weights.h5, .h5 or .keras file or of a run folder."
    )


def in_words(weights: str | Path) -> str:
    """Where weights come from: "imagenet, of keras.applications"; what is given is not opened."""
    text = str(weights)
    known = {"none": "none: random ones", "imagenet": "imagenet, of keras.applications"}
    if text.lower() in known:
        return known[text.lower()]
    return f"checkpoints/{text}" if (CHECKPOINTS / text / "card.json").is_file() else text


def backbone_of(weights: str | Path) -> str:
    """The backbone that the weights of a name in checkpoints/ are of, as their card says; "" for others."""
    card = CHECKPOINTS / str(weights) / "card.json"
    return json.loads(card.read_text(encoding="utf-8")).get("backbone", "") if card.is_file() else ""


def learning_rates(backbone: str, weights: str | Path) -> tuple[float, float]:
    """Peak rates of Adam that suit weights: of a new head on them, and of the weights themselves.

    A checkpoint says its own in `card.json` ("learning_rates"). Weights of large photo collections bear less:
    at 3e-3 most of their units die within the first steps (docs/stages.md has the measurements). Networks
    without BatchNorm bear a tenth of that.
    """
    if str(weights).lower() == "none":
        return 1e-2, MOST
    family, _ = find(backbone)
    card = CHECKPOINTS / str(weights) / "card.json"
    if card.is_file():
        rates = json.loads(card.read_text(encoding="utf-8")).get("learning_rates")
        if rates:
            return rates["head"], rates["backbone"]
    return (2e-3, 3e-4) if family.batch_norm else (2e-3, 3e-5)


def _checkpoint(folder: Path, full_name: str) -> Path:
    """Return the weights file of a checkpoint folder; InputError when its card names another backbone."""
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        holds = canonical(card["backbone"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'card.json'} cannot be used: it needs JSON with a key 'backbone' "
            f"({_first_line(error)})."
        ) from error
    if holds != full_name:
        raise InputError(
            f"The checkpoint '{folder.name}' holds {holds}, not {full_name}: give backbone '{holds}' "
            "or other weights."
        )
    if not (folder / "backbone.weights.h5").is_file():
        raise InputError(
            f"The checkpoint '{folder.name}' is incomplete: {folder / 'backbone.weights.h5'} is "
            "missing; make it again."
        )
    return folder / "backbone.weights.h5"


def _checkpoints() -> list[str]:
    return sorted(weights.parent.name for weights in CHECKPOINTS.glob("*/backbone.weights.h5"))


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none there yet"


def _other_choices() -> str:
    return (
        f"Other choices: weights='none', a name in checkpoints/ ({_listed(_checkpoints())}), or the "
        "path of a .weights.h5, .h5 or .keras file or of a run folder."
    )


def imagenet_path(family: Family, width: float, image_size: int) -> Path:
    """Return where Keras keeps the ImageNet weights of this width and size, whether they are there or not."""
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    return folder / weights_file(family, width, image_size)


def load(backbone: "keras.Model", source: str | Path, plain: Callable, cached: Path) -> None:
    """Load weights into a backbone of ours.

    Args:
        backbone: the model from `backbones.build`.
        source: what `resolve` returned.
        plain: `plain(weights)` gives the same network from `keras.applications`, for files in its layout.
        cached: where Keras keeps the ImageNet weights.

    Raises:
        InputError: when there are no ImageNet weights to be had, or the file doesn't fit.
    """
    if source == "none":
        return
    if source == "imagenet":
        backbone.set_weights(_imagenet(backbone.name, plain, cached))
    else:
        with warnings.catch_warnings():
            # Keras warns a hundredfold of what it skips in a file that does not fit; we say it in one line.
            warnings.filterwarnings("ignore", message="Skipping|.*not loaded|.*could not be loaded")
            _load_file(backbone, Path(source), plain)
    _repair_efficientnet_scale(backbone)


def _imagenet(name: str, plain: Callable, cached: Path) -> list:
    """Return the ImageNet weights as Keras itself loads them, from its cache or the network."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
            return plain("imagenet").get_weights()
    except Exception as error:  # get_file raises a bare Exception, a broken file OSError or ValueError
        state = "cannot be read" if cached.exists() else "is not there, and downloading it failed"
        raise InputError(
            f"No ImageNet weights for {name}: {cached} {state} ({_first_line(error)}). Put the file there "
            f"(KERAS_HOME moves the folder .keras). {_other_choices()}"
        ) from error
    finally:
        socket.setdefaulttimeout(previous)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _load_file(backbone, path: Path, plain: Callable) -> None:
    """Load a file in our layout or that of `keras.applications`, where it differs (ConvNeXt nests layers)."""
    import h5py

    try:
        check_size(path)
        if path.suffix == ".keras":
            _check_layers(backbone, path)
            backbone.load_weights(path)
            return
        with h5py.File(path) as file:
            legacy = "layer_names" in file.attrs or "model_weights" in file
            nested = "sequential" in file.get("layers", ())
        if legacy or nested:
            model = plain(None)
            model.load_weights(path)
            backbone.set_weights(model.get_weights())
        else:
            backbone.load_weights(path)
    except InputError:
        raise
    except Exception as error:  # Keras and h5py raise many kinds for a file that doesn't fit or isn't one
        raise InputError(
            f"{path} does not hold the weights of {backbone.name} ({_holds(path)}): give the backbone "
            f"that fits the file, or other weights.{other_version(path)}"
        ) from error


def check_size(path: Path) -> None:
    """Raise ValueError for a .keras or .h5 file that would take far more memory than it has bytes.

    Others errors, of zipfile and h5py, for what is no such file.
    """
    import h5py

    with contextlib.ExitStack() as within:
        weights: Any = path
        if path.suffix == ".keras":
            atomic.check_archive(path)
            weights = within.enter_context(zipfile.ZipFile(path)).open("model.weights.h5")
        file, total = within.enter_context(h5py.File(weights)), 0

        def add(name: str, item: Any) -> None:
            nonlocal total
            total += item.nbytes if isinstance(item, h5py.Dataset) else 0

        file.visititems(add)
    if total > atomic.UNPACKED + atomic.EXPANSION * os.path.getsize(path):
        raise ValueError(f"its {os.path.getsize(path):,} bytes would unpack to {total:,}")


def other_version(path: str | Path) -> str:
    """Say which Keras wrote a `.keras` file and which reads it, where these differ; "" where they do not, and
    where the file does not say.
    """
    try:
        atomic.check_archive(path)  # a pipe would not answer
        with zipfile.ZipFile(path) as archive:
            written = json.loads(archive.read("metadata.json"))["keras_version"]
    except Exception:  # what is wrong with the file is said elsewhere
        return ""
    here = importlib.metadata.version("keras")
    if written == here:
        return ""
    return (
        f" It was written by Keras {str(written)[:40]}, and this is Keras {here}: install that "
        "version, or write the file anew."
    )


def _check_layers(backbone, path: Path) -> None:
    """Fail unless a .keras file has the backbone's layers in their order by kind: so Keras matches them."""
    layers = json.loads(zipfile.ZipFile(path).read("config.json"))["config"]["layers"]
    for kind in {type(layer).__name__ for layer in backbone.layers if layer.weights}:
        wanted = [layer.name for layer in backbone.layers if type(layer).__name__ == kind]
        found = [layer["config"]["name"] for layer in layers if layer["class_name"] == kind]
        if found[: len(wanted)] != wanted:
            raise ValueError(f"the {kind} layers differ")


def _holds(path: Path) -> str:
    """Say in a few words what a weights file holds, as far as its parameter count and layer names tell."""
    import h5py

    names = set()
    counts = []

    def add(name, item):
        if isinstance(item, h5py.Dataset) and "optimizer" not in name and "seed" not in name:
            counts.append(item.size)

    try:
        check_size(path)
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                layers = json.loads(archive.read("config.json"))["config"]["layers"]
                names = {layer["config"]["name"] for layer in layers}
                with archive.open("model.weights.h5") as stream, h5py.File(stream) as file:
                    file.visititems(add)
        else:
            with h5py.File(path) as file:
                file.visititems(add)
    except Exception as error:
        return f"it cannot be read: {_first_line(error)}"
    total = sum(counts)
    sizes = {
        canonical_name(family, width): count
        for family in FAMILIES
        for width, count in family.parameters.items()
        if not names
        or (family.output in names and any(re.fullmatch(family.boundaries, name) for name in names))
    }
    if names:  # a classifier: the backbone is the largest that leaves room for a head
        fitting = [name for name, count in sizes.items() if count <= total]
        if fitting:
            return f"it seems to hold {max(fitting, key=sizes.__getitem__)} with a head"
    for name, count in sizes.items():
        if count == total:
            return f"it holds {name}"
    return f"it holds {total:,} parameters"


def _repair_efficientnet_scale(backbone) -> None:
    """Make EfficientNet's input scale right for weights that descend from the ImageNet files.

    Those files have the standard deviation where `Normalization` wants the variance. `keras.applications`
    mends it with one more layer, but only when called with weights="imagenet"; a file given by path comes out
    wrong. Squaring the variance in place gives the same numbers and one graph for all weights; squared, it is
    not recognised again.
    """
    import keras
    import numpy

    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            variance = keras.ops.convert_to_numpy(layer.adapt_variance)
            if numpy.allclose(variance, [0.229, 0.224, 0.225], atol=1e-4):
                layer.adapt_variance.assign(variance**2)
            layer.finalize_state()  # the layer computes with copies, which set_weights does not renew
