"""Texts in windows for networks that answer word by word: long texts are read in parts that overlap.

Each word is answered once, in the window where it has more around it. Nothing of a text is left out.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from runner.text import tags

OVERLAP = 0.25
"""What two windows that follow each other share, of a window."""


class Window(NamedTuple):
    """A part of a text, in tokens; ends are exclusive."""

    first: int
    last: int
    own_first: int
    """From here to `own_last` its answers count."""
    own_last: int


class Row(NamedTuple):
    """What a network reads of a window, and what its answers are of; int32 (length,) each."""

    ids: np.ndarray
    starts: np.ndarray
    """Of the word that a token begins, in characters of the whole text; -1 where no answer counts."""
    ends: np.ndarray


def cut(starts: np.ndarray, room: int) -> list[Window]:
    """The windows of a text of so many tokens: of at most `room` each, and between words where that can be.

    starts: int64 (tokens,), -1 for a token within a word.
    """
    tokens = len(starts)
    begins = np.flatnonzero(starts >= 0)

    def word_before(place: int, least: int) -> int:
        """The last beginning of a word up to `place`; `place` itself where none lies above `least`."""
        at = np.searchsorted(begins, place, side="right") - 1
        return int(begins[at]) if at >= 0 and begins[at] > least else place

    def end(first: int) -> int:
        return tokens if tokens - first <= room else word_before(first + room, first)

    bounds = [(0, end(0))]
    while bounds[-1][1] < tokens:
        first, last = bounds[-1]
        # From the last word with a quarter of the window behind it, else the next one.
        within = begins[(begins > first) & (begins <= last)]
        far = within[within <= last - int(OVERLAP * room)]
        follows = int(far[-1]) if len(far) else int(within[0]) if len(within) else last
        if end(follows) <= last:  # a long word stands behind: no farther than before
            follows = last
        bounds.append((follows, end(follows)))
    shared = [
        word_before((after[0] + before[1]) // 2, after[0] - 1) for before, after in itertools.pairwise(bounds)
    ]
    owned = zip([0, *shared], [*shared, tokens], strict=True)
    return [Window(*bound, *own) for bound, own in zip(bounds, owned, strict=True)]


def rows(parts: np.ndarray, length: int, special: tuple[int, int, int]) -> list[Row]:
    """What a network reads of a text, window by window.

    parts: int64 (tokens, 3), as of `text_networks.words.in_memory`. length: of a window, with the tokens of
    beginning and end. special: their ids, and that of padding.
    """
    begin, end, padding = special
    found = []
    for window in cut(parts[:, 1], length - 2):
        inside = parts[window.first : window.last]
        place = np.arange(window.first, window.last)
        own = (place >= window.own_first) & (place < window.own_last)
        behind = length - 2 - len(inside)
        ids = [begin, *inside[:, 0], end, *[padding] * behind]
        ends = [
            np.concatenate([[-1], np.where(own, inside[:, one], -1), [-1] * (behind + 1)]) for one in (1, 2)
        ]
        found.append(Row(np.array(ids, np.int32), *(one.astype(np.int32) for one in ends)))
    return found


def dataset(
    parts: Sequence[np.ndarray],
    ids: np.ndarray,
    arrays: dict[str, np.ndarray],
    length: int,
    special: tuple[int, int, int],
) -> tf.data.Dataset:
    """An element per window of the texts `ids`, in their order: {"id", "part", "input", "label", "starts",
    "ends", "spans", "classes"}. "part" numbers the windows.

    parts: of all texts, as for `rows`; arrays: "spans" int64 (texts, most, 2) and "classes" int64 (texts,
    most), -1 for none. "input", "label", "starts" and "ends" are int32 (length,), the label a tag of
    `text.tags`, -1 where no answer counts. Of several windows the first has the spans of its whole text.
    """
    found: dict[str, list] = {name: [] for name in ("id", "input", "label", "starts", "ends", *arrays)}
    for one in ids:
        there = arrays["classes"][one] >= 0
        spans, types = arrays["spans"][one][there], arrays["classes"][one][there]
        words = parts[one][parts[one][:, 1] >= 0, 1:]
        of_text = dict(zip(words[:, 0].tolist(), tags.of_words(words, spans, types).tolist(), strict=True))
        for number, row in enumerate(rows(parts[one], length, special)):
            label = [of_text[start] if start >= 0 else tags.NONE for start in row.starts.tolist()]
            found["id"].append(one)
            found["input"].append(row.ids)
            found["label"].append(np.array(label, np.int32))
            found["starts"].append(row.starts)
            found["ends"].append(row.ends)
            for name, values in arrays.items():
                found[name].append(values[one] if number == 0 else np.full_like(values[one], -1))
    shapes = dict.fromkeys(("input", "label", "starts", "ends"), (length,)) | {
        name: values.shape[1:] for name, values in arrays.items()
    }
    kinds = {"id": np.int64} | dict.fromkeys(("spans", "classes"), np.int64)
    columns = {
        name: np.array(values, kinds.get(name, np.int32)).reshape(len(values), *shapes.get(name, ()))
        for name, values in found.items()
    }
    columns["part"] = np.arange(len(columns["id"]), dtype=np.int64)
    return tf.data.Dataset.from_tensor_slices(columns)
