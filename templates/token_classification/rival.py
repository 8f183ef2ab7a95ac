"""What costs nothing: the names of the training texts, looked up again, and the most frequent tag of each
word.
"""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from runner.scores.entities import Span, spans
from runner.text import tags
from runner.text.checks import fold
from runner.text.load import Texts
from runner.training import baselines
from runner.training.fit import Fit

LEAST = 0.5
"""A form is an entity where it was one in so many of its places in the training texts, at least."""
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, eq=False)
class Gazetteer:
    """Finds what the training texts have as entities: at each place the longest known form."""

    forms: Mapping[tuple[str, ...], str]
    """Folded words of a form to its type."""
    texts: Sequence[str]
    """By id."""
    trainable_variables: ClassVar[tuple] = ()

    def find(self, number: int) -> list[Span]:
        """The entities in the text with this id."""
        words = list(_words(self.texts[number]))
        longest = max(map(len, self.forms), default=0)
        found, place = [], 0
        while place < len(words):
            for size in range(min(longest, len(words) - place), 0, -1):
                some = words[place : place + size]
                if (kind := self.forms.get(tuple(word for _, _, word in some))) is not None:
                    found.append((some[0][0], some[-1][1], kind))
                    place += size - 1
                    break
            place += 1
        return found


@dataclass(frozen=True, eq=False)
class MostFrequent:
    """Gives each word the tag that it has most often in the training texts, and O to one that they lack."""

    of_word: Mapping[str, str]
    texts: Sequence[str]
    trainable_variables: ClassVar[tuple] = ()

    def find(self, number: int) -> list[Span]:
        """The entities in the text with this id."""
        words = list(_words(self.texts[number]))
        found = spans([self.of_word.get(word, "O") for _, _, word in words])
        return [(words[first][0], words[last - 1][1], kind) for first, last, kind in found]


def fit(data: Texts) -> tuple[dict[str, Any], dict[str, Fit]]:
    """Count what the training texts have: both rivals by their names, and a `Fit` without epochs of each."""
    started = time.perf_counter()
    as_entity: dict[tuple[str, ...], Counter] = defaultdict(Counter)
    of_word: dict[str, Counter] = defaultdict(Counter)
    marked = list(_marked(data))
    for words, named in marked:
        for word, tag in zip(words, named, strict=True):
            of_word[word][tag] += 1
        for first, last, kind in spans(named):
            as_entity[tuple(words[first:last])][kind] += 1
    often: Counter = Counter()
    sizes = {len(form) for form in as_entity}
    for words, _ in marked:
        for size in sizes:
            often.update(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    forms = {
        form: kinds.most_common(1)[0][0]
        for form, kinds in as_entity.items()
        if sum(kinds.values()) >= LEAST * often[form]
    }
    found = {word: counts.most_common(1)[0][0] for word, counts in of_word.items()}
    took = Fit(pd.DataFrame(), pd.DataFrame(), time.perf_counter() - started)
    both = {
        baselines.GAZETTEER: Gazetteer(forms, data.texts),
        baselines.MOST_FREQUENT: MostFrequent(found, data.texts),
    }
    return both, dict.fromkeys(both, took)


def _words(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and folded form of each word and sign of a text."""
    return ((one.start(), one.end(), fold(one[0])) for one in _WORD.finditer(text))


def _marked(data: Texts) -> Iterator[tuple[list[str], list[str]]]:
    """Of each training text its folded words and their tags."""
    seen: set[int] = set()
    for one in data.train.as_numpy_iterator():
        if one["id"] in seen:  # a further window
            continue
        seen.add(one["id"])
        there = one["classes"] >= 0
        words = list(_words(data.texts[one["id"]]))
        ends = np.array([word[:2] for word in words], np.int64).reshape(-1, 2)
        numbers = tags.of_words(ends, one["spans"][there], one["classes"][there])
        yield [word for _, _, word in words], [tags.named(number, data.classes) for number in numbers]
