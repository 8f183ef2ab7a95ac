"""Entities as tags of words, and back: O outside, I-<type> within, and B-<type> for the first word of an
entity that follows one of its own type at once (IOB1; Ramshaw and Marcus 1995, cmp-lg/9505040).

So B is rare, and whether a word begins an entity or goes on with it is nothing to learn: in the usual IOB2,
where each entity begins with B, a name of two words became two names whenever a network was unsure of that.

Tags are numbers: 0 is O, 1 + 2k is B and 2 + 2k is I of the class k; -1 stands for what has no tag.
"""

from collections.abc import Sequence

import numpy as np
import scipy.special

from runner.scores.entities import Span

NONE = -1


def count(classes: int) -> int:
    """How many tags there are for so many types."""
    return 1 + 2 * classes


def named(number: int, classes: Sequence[str]) -> str:
    """A tag as `scores.entities` reads it, such as "I-city"; classes: names."""
    return f"{'IB'[number % 2]}-{classes[(number - 1) // 2]}" if number else "O"


def of_words(words: np.ndarray, spans: np.ndarray, types: np.ndarray) -> np.ndarray:
    """The tag of each word: int64 (n,).

    words: int64 (n, 2), start and end of each, ascending. spans: int64 (m, 2) in the same characters,
    ascending and without overlaps; types: int64 (m,), numbers of classes. A word belongs to the first entity
    that it shares a character with.
    """
    tags = np.zeros(len(words), np.int64)
    if not len(spans):
        return tags
    before = -1
    for word, entity in enumerate(np.searchsorted(spans[:, 1], words[:, 0], side="right").tolist()):
        inside = entity < len(spans) and spans[entity, 0] < words[word, 1]
        if inside:
            follows = before not in (-1, entity) and types[before] == types[entity]
            tags[word] = 1 + 2 * types[entity] + (not follows)
        before = entity if inside else -1
    return tags


def within_words(words: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Which spans begin or end within a word, or hold none, so that no tags of words say them: bool (m,)."""
    if not len(spans):
        return np.zeros(0, bool)
    return ~(np.isin(spans[:, 0], words[:, 0]) & np.isin(spans[:, 1], words[:, 1]))


def spans(words: np.ndarray, logits: np.ndarray, classes: Sequence[str]) -> list[tuple[Span, float]]:
    """The entities that the logits of a text's words say, in their order, each with its score.

    words: int64 (n, 2), start and end of each, ascending; logits: (n, tags). The tag of a word is that of the
    largest logit, read by the rule of CoNLL (`scores.entities.spans`). The score, 0..1, is the smallest
    probability that one of its words gives the type: no probability of the entity, but in an order that
    follows it.
    """
    if not len(words):
        return []
    p = scipy.special.softmax(logits.astype("float64"), axis=1)
    of_type = np.minimum(p[:, 1::2] + p[:, 2::2], 1.0)
    found: list[tuple[Span, float]] = []
    before = 0
    for (start, end), tag, sure in zip(words.tolist(), logits.argmax(axis=1).tolist(), of_type, strict=True):
        kind = (tag - 1) // 2
        if tag and tag % 2 == 0 and before and (before - 1) // 2 == kind:
            (first, _, name), least = found[-1]
            found[-1] = (first, end, name), min(least, float(sure[kind]))
        elif tag:
            found.append(((start, end, classes[kind]), float(sure[kind])))
        before = tag
    return found
