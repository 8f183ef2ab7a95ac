"""A part of the page that a template brings: text, tables, plots, and pictures side by side."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.report import sheets, words

SIDE = 360
"""Pixels of the longer side of a picture on the page; larger ones are shrunk."""


@dataclass(frozen=True)
class Panels:
    """One picture, or several that belong together, under one caption.

    pictures: (what it is, or "", and uint8 (h, w, 3)) each; four stand two by two on a narrow screen.
    """

    caption: str
    pictures: Sequence[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Gallery:
    """Pictures with captions that the page sets as text, as many in a row as its width has room for.

    least: pixels on the screen that one of `shown` takes at least, where the screen has as many.
    """

    shown: Sequence[Panels]
    least: int = 96


@dataclass(frozen=True)
class Quotation:
    """A text, word by word, under one caption.

    words: each with what it did for the answer, in nats of its log-odds: below 0 it spoke against it.
    """

    caption: str
    words: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Quotations:
    """Texts below each other, their words coloured by what they did: the strongest of all most."""

    shown: Sequence[Quotation]


@dataclass(frozen=True)
class Marked:
    """Texts below each other with their entities coloured by type.

    shown: (caption, lines) each; a line is what it is in a word, or "", a text, and its entities (start, end,
    type) in characters, ascending and without overlaps. classes: the types, by which colours are given.
    """

    shown: Sequence[tuple[str, Sequence[tuple[str, str, Sequence[tuple[int, int, str]]]]]]
    classes: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A part of the page that a template brings: a heading, text, tables, then figures.

    tables: (caption, DataFrame), shown with three digits after the point; figures: (caption, a Gallery,
    Quotations, Marked, a uint8 picture (h, w, 3), or SVG as Markup). Plots that follow each other stand side
    by side.
    """

    title: str
    text: str = ""
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    figures: Sequence[tuple[str, np.ndarray | Markup | Gallery | Quotations | Marked]] = ()


def made(section: Section) -> dict:
    """Return what the page needs of a section: tables as rows of text, pictures as data URIs."""
    drawn = [{"caption": caption, **_figure(figure)} for caption, figure in section.figures]
    return {
        "anchor": re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-"),
        "title": section.title,
        "paragraphs": words.paragraphs(section.text),
        "tables": [_table(caption, table) for caption, table in section.tables],
        "figures": [(kind, list(some)) for kind, some in itertools.groupby(drawn, lambda one: one["kind"])],
    }


def _table(caption: str, table: pd.DataFrame) -> dict:
    def text(value) -> str:
        if isinstance(value, (float, np.floating)):
            return "" if value != value else f"{value:.3f}"
        return str(value)

    return {
        "caption": caption,
        "columns": [str(name).replace("_", " ") for name in table.columns],
        "numeric": [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes],
        "rows": [[text(value) for value in row] for row in table.itertuples(index=False)],
    }


def _figure(figure: np.ndarray | Markup | Gallery | Quotations | Marked) -> dict:
    """{"kind": "plot", "gallery", "quotations", "marked" or "picture"} and what is shown."""
    if isinstance(figure, Marked):
        return {"kind": "marked", "shown": _marked(figure)}
    if isinstance(figure, Quotations):
        return {"kind": "quotations", "shown": _quoted(figure)}
    if isinstance(figure, Markup):
        return {"kind": "plot", "svg": figure}
    if not isinstance(figure, Gallery):
        return {"kind": "picture", "uri": sheets.data_uri(figure)}
    shown = [
        {
            "caption": one.caption,
            "panels": [{"words": what, "uri": sheets.data_uri(image, SIDE)} for what, image in one.pictures],
        }
        for one in figure.shown
    ]
    return {"kind": "gallery", "least": figure.least, "shown": shown}


LEAST = 0.5
"""An effect that colours a word fully, at least: else noise would where no word does anything."""


def _quoted(figure: Quotations) -> list[dict]:
    strongest = max([LEAST, *(abs(effect) for one in figure.shown for _, effect in one.words)])
    return [
        {
            "caption": one.caption,
            "words": [
                {"word": word, "depth": f"{abs(effect) / strongest:.2f}", "against": effect < 0}
                for word, effect in one.words
            ],
        }
        for one in figure.shown
    ]


def _marked(figure: Marked) -> list[dict]:
    """Each text as lines of parts, of which an entity has a type and a hue, in degrees."""
    # Around the circle by the golden angle, so that types next to each other differ most.
    hues = {name: round(137.508 * number + 210) % 360 for number, name in enumerate(figure.classes)}
    found = []
    for caption, lines in figure.shown:
        told = []
        for what, text, spans in lines:
            parts: list[dict[str, Any]] = []
            at = 0
            for start, end, kind in spans:
                parts += [
                    {"text": text[at:start]},
                    {"text": text[start:end], "type": kind, "hue": hues[kind]},
                ]
                at = end
            told.append(
                {"what": what, "parts": [one for one in [*parts, {"text": text[at:]}] if one["text"]]}
            )
        found.append({"caption": caption, "lines": told})
    return found
