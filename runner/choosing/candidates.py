"""The sources that are at hand, and what a word after `--sources` means."""

import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import InputError, suggest
from runner.networks import families, pretrained
from runner.runs import folder

UNTRAINED = "MobileNet-0.25"
"""The backbone of the source `none` for pictures: the image template's."""
UNTRAINED_TEXT = "BERT-tiny"
"""The same for texts: what the text template trains from scratch."""
NO_LICENCE = "–"


@dataclass(frozen=True)
class Candidate:
    """A backbone and the weights that it would start from."""

    backbone: str
    """Of `families`, or of `text_networks.encoders`, in its one spelling."""
    weights: str
    """As the templates take it: imagenet, minilm, none, a checkpoint, a file, the folder of a run."""
    licence: str = NO_LICENCE
    """What its card says; NO_LICENCE where nothing does."""
    run: Path | None = None
    """The folder where it is a finished run, which has a classifier and says what it was trained on."""

    @property
    def name(self) -> str:
        """For tables: "MobileNet-0.25=letters_in_photos"."""
        return f"{self.backbone}={self.place}"

    @property
    def place(self) -> str:
        """Where the weights come from, without folders and endings."""
        return re.sub(r"(\.weights)?\.(h5|hdf5|keras)$", "", Path(self.weights).name) or self.weights


def of_pictures(given: Sequence[str] = ()) -> list[Candidate]:
    """The sources for pictures that are named, or where none is those that are at hand: the checkpoints of
    this repository, ImageNet weights in the Keras cache, and the untrained network.

    given: each BACKBONE=WEIGHTS with what the image template takes for both; the name of a checkpoint; the
    folder of a complete run; a weights file without a head, whose backbone is known by its number of
    parameters; a backbone, with its ImageNet weights; or none, the untrained network.
    Raises InputError for what is none of these, is named twice, or is a single source.
    """
    if not given:
        names = [
            one for one in checkpoints() if _card(one)["backbone"].partition("-")[0] in families.BACKBONES
        ]
        given = [*names, *in_keras_cache(), "none"]
    return _distinct([_of_pictures(one.strip()) for one in given])


def of_texts(given: Sequence[str] = ()) -> list[Candidate]:
    """The sources for texts that are named, or minilm and the untrained network.

    given: each minilm, a folder in Hugging Face's form or KerasHub's, the folder of a complete run, a file of
    word vectors, or a preset; none, the untrained network; or BACKBONE=WEIGHTS.
    Raises InputError as `of_pictures`.
    """
    return _distinct([_of_texts(one.strip()) for one in given or ("minilm", "none")])


def checkpoints() -> list[str]:
    """The names of the checkpoints of this repository."""
    return sorted(path.parent.name for path in pretrained.CHECKPOINTS.glob("*/card.json"))


def in_keras_cache() -> list[str]:
    """The backbones, with their widths, whose ImageNet weights Keras has downloaded before."""
    return [
        families.canonical_name(family, width)
        for family in families.FAMILIES
        for width in family.parameters
        if pretrained.imagenet_path(family, width, family.native_size).is_file()
    ]


def _of_pictures(text: str) -> Candidate:
    backbone, equals, weights = text.partition("=")
    if equals and not os.path.exists(os.path.expanduser(text)):
        return _checked(backbone, weights or "imagenet")
    if text.lower() == "none":
        return Candidate(UNTRAINED, "none")
    if text in checkpoints():
        card = _card(text)
        if card["backbone"].partition("-")[0] not in families.BACKBONES:
            raise InputError(
                f"--sources {text}: this checkpoint holds {card['backbone']}, which is no network of "
                f"pictures; leave it out. {_allowed()}"
            )
        return Candidate(card["backbone"], text, str(card.get("licence", NO_LICENCE)))
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        return _of_folder(path, text, _checked)
    if path.is_file():
        return _checked(_by_size(path), text)
    if "/" in text or path.suffix in (".h5", ".keras", ".hdf5"):
        raise InputError(f"--sources {text}: there is no such file or folder. {_allowed()}")
    try:
        return _checked(text, "imagenet")
    except InputError:
        if text.partition("-")[0].lower() in map(str.lower, families.BACKBONES):
            raise
        known = [*checkpoints(), "none", *families.BACKBONES]
        raise InputError(
            f"--sources {text}: there is no such source.{suggest(text, known)} {_allowed()}"
        ) from None


def _checked(backbone: str, weights: str, run: Path | None = None) -> Candidate:
    """With the backbone's own spelling and weights that there are, as far as a look tells."""
    family, width = families.find(backbone)
    pretrained.resolve(weights, family, width)
    return Candidate(families.canonical_name(family, width), weights, _licence(weights), run)


def _of_texts(text: str) -> Candidate:
    from runner.text_networks import encoders, text_weights

    backbone, equals, weights = text.partition("=")
    if not equals or os.path.exists(os.path.expanduser(text)):
        backbone, weights = ("auto", text) if text.lower() != "none" else (UNTRAINED_TEXT, "none")
    place = Path(os.path.expanduser(weights))
    if (place / "model.keras").is_file():
        record = folder.read_complete(place)
        if "pooling" not in record:
            raise InputError(
                f"--sources {text}: this run is of no classifier of texts; give one that text_classification "
                "made."
            )
        return Candidate(str(record["backbone"]), weights, _licence(str(record["weights"])), place)
    source = text_weights.resolve(weights)
    if backbone == "auto" and source.kind == "vectors":
        backbone = "word-vectors"
    elif backbone == "auto" and weights.lower() == "minilm":
        backbone = "MiniLM-L6"
    elif backbone not in ("auto", "word-vectors"):
        backbone = encoders.find(backbone)[0]
    return Candidate(backbone, weights, _licence(weights))


def _of_folder(path: Path, text: str, checked: Callable[..., Candidate]) -> Candidate:
    """A folder of a run, or a checkpoint that lies elsewhere."""
    if (path / "card.json").is_file():
        card = folder.read_json(path / "card.json")
        return checked(str(card.get("backbone", "")), text)
    record = folder.read_complete(path)
    if "image_size" not in record or "backbone" not in record:
        raise InputError(f"--sources {text}: this run is not on pictures; leave it out.")
    found = checked(str(record["backbone"]), text, path)
    return Candidate(found.backbone, text, _licence(str(record.get("weights", ""))), path)


def _licence(weights: str) -> str:
    """What a card beside the weights says."""
    for place in (pretrained.CHECKPOINTS / weights, Path(os.path.expanduser(weights))):
        if (place / "card.json").is_file():
            return str(folder.read_json(place / "card.json").get("licence", NO_LICENCE))
    return NO_LICENCE


def _card(name: str) -> dict:
    return json.loads((pretrained.CHECKPOINTS / name / "card.json").read_text(encoding="utf-8"))


def parameters_in(path: Path) -> int:
    """How many numbers a weights file holds, without those of an optimizer.

    Raises InputError where it is no such file.
    """
    import h5py

    counts: list[int] = []

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "optimizer" not in name and "seed" not in name:
            counts.append(int(item.size))

    try:
        pretrained.check_size(path)
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as stream:
                with h5py.File(stream) as file:
                    file.visititems(add)
        else:
            with h5py.File(path) as file:
                file.visititems(add)
    except Exception as error:  # h5py and zipfile raise almost anything on a file that is none
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is no weights file ({reason}); give a .weights.h5, .h5 or .keras file."
        ) from error
    return sum(counts)


def _by_size(path: Path) -> str:
    """The one backbone that has as many parameters as a file."""
    total = parameters_in(path)
    found = [
        families.canonical_name(family, width)
        for family in families.FAMILIES
        for width, count in family.parameters.items()
        if count == total
    ]
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"--sources {path} holds {total:,} parameters, which are those of "
        f"{' or '.join(found) or 'no backbone'} without a head; say whose they are: BACKBONE=FILE."
    )


def _distinct(found: list[Candidate]) -> list[Candidate]:
    seen: set[tuple[str, str]] = set()
    for one in found:
        if (one.backbone, one.weights) in seen:
            raise InputError(f"--sources names {one.name} twice; name each source once.")
        seen.add((one.backbone, one.weights))
    if len(found) < 2:
        raise InputError(
            f"--sources gives one source, {found[0].name}, and a ranking needs two; add `none`, the "
            "untrained network, to see what the weights bring."
        )
    return found


def _allowed() -> str:
    return (
        "Give BACKBONE=WEIGHTS, the name of a checkpoint "
        f"({', '.join(checkpoints()) or 'none there'}), the folder of a run, a weights file, a backbone for "
        "its ImageNet weights, or none."
    )
