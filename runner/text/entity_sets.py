"""Texts with entities from TFDS: its own data sets by name, and those of datasets/.

A set that can be read has one text and one sequence of entities, each with start, end and type.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from runner.data import builders
from runner.errors import InputError
from runner.scores.entities import Span
from runner.text.decoding import Unreadable, decode

KINDS = ("type", "label")
"""What the type of an entity may be called."""


class Marked(NamedTuple):
    """A text as it is stored; path is a slice of TFDS, "composed_notes/train[0]"."""

    path: str
    text: str
    split: str
    group: str
    spans: list[Span]


class Keys(NamedTuple):
    """Names of the features that are meant; kind: of the type within an entity, group: "" for none."""

    text: str
    entities: str
    kind: str
    group: str


def find(source: str) -> list[Marked]:
    """Read the texts of `tfds:NAME[/config][:version]` or of datasets/NAME, made if missing, in their order.

    split is train, val or test, or "" in every row where there is one split alone. Spans are not looked at:
    they may leave their text. Raises InputError for a name that is not there, for features of another kind,
    for bytes that are no UTF-8, and for types that are not published.
    """
    builder, keys, chosen = builders.prepared(source, _keys)
    features = builder.info.features
    names = getattr(features[keys.entities].feature[keys.kind], "names", None)
    wanted = {key: features[key] for key in (keys.text, keys.entities, keys.group) if key}
    found = []
    for name, split in chosen.items():
        parts = builders.read_split(builder, name, tfds.decode.PartialDecoding(wanted))
        for number, part in enumerate(parts):
            path = f"{builder.name}/{name}[{number}]"
            entities, group = part[keys.entities], part[keys.group] if keys.group else ""
            kinds = [
                _text(one, path, source) if names is None else _name(int(one), names, path, source)
                for one in entities[keys.kind]
            ]
            spans = list(zip(entities["start"].tolist(), entities["end"].tolist(), kinds, strict=True))
            of = _text(group, path, source) if isinstance(group, bytes) else str(group)
            text = _text(part[keys.text], path, source)
            found.append(Marked(path, text, split if len(chosen) > 1 else "", of, spans))
    return found


def _keys(source: str, features: Any) -> Keys:
    """Find the features that are meant among those of a builder."""
    items = dict(features.items()) if hasattr(features, "items") else {}
    texts = [key for key, feature in items.items() if key != "group" and _is_text(feature)]
    kinds = {key: kind for key, feature in items.items() if (kind := _kind(feature))}
    text = "text" if "text" in texts else texts[0] if len(texts) == 1 else ""
    entities = "entities" if "entities" in kinds else next(iter(kinds)) if len(kinds) == 1 else ""
    if not text or not entities:
        shown = (f"{key} ({', '.join(inner)})" if (inner := _inner(of)) else key for key, of in items.items())
        raise InputError(
            f"Received data={source!r} with the features {', '.join(shown)}; expected one text (text) and "
            "one sequence of start, end and type or label (entities): choose a dataset with entities."
        )
    return Keys(text, entities, kinds[entities], "group" if "group" in items else "")


def _inner(feature: Any) -> dict[str, Any]:
    """The features of which a feature is a sequence, {} for another one."""
    if isinstance(feature, tfds.features.Sequence) and hasattr(feature.feature, "items"):
        return dict(feature.feature.items())
    return {}


def _kind(feature: Any) -> str:
    """What the type is called in a sequence of entities, "" where a feature is none."""
    inner = _inner(feature)
    ends = [inner[key] for key in ("start", "end") if key in inner]
    kinds = [key for key in KINDS if key in inner and (_is_text(inner[key]) or _has_names(inner[key]))]
    whole = all(one.shape == () and np.issubdtype(one.np_dtype, np.integer) for one in ends)
    return kinds[0] if len(ends) == 2 and whole and kinds else ""


def _is_text(feature: Any) -> bool:
    return isinstance(feature, tfds.features.Text) and np.dtype(feature.np_dtype) == object


def _has_names(feature: Any) -> bool:
    return isinstance(feature, tfds.features.ClassLabel) and bool(feature.names)


def _name(number: int, names: list[str], path: str, source: str) -> str:
    if number < 0:  # so TFDS marks labels that were never published
        raise InputError(
            f"Received data={source!r}, whose text {path!r} has an entity without a type ({number}); choose "
            "another dataset."
        )
    return names[number]


def _text(raw: Any, path: str, source: str) -> str:
    try:
        return decode(raw if isinstance(raw, bytes) else raw.encode())
    except Unreadable as error:
        raise InputError(
            f"Received data={source!r}, whose text {path!r} {error}; choose another dataset."
        ) from None
