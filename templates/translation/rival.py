"""What needs no network: word by word, with a dictionary that is counted from the training pairs."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from runner.text.bilingual import Pairs
from runner.text.checks import fold
from runner.training import baselines
from runner.training.fit import Fit

ROUNDS = 8
"""Of the counting; more change little."""
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_PART = re.compile(rf"{_WORD.pattern}|[^\w\s]")
NOTHING = ""
"""The word of no place, of which words may come that stand for no other (IBM's null word)."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Translates each word by itself, in the order of the text; a word that it does not know stays, as does
    each mark.
    """

    of_word: Mapping[str, str]
    """Folded words to their translation, "" for those that have none."""
    trainable_variables: ClassVar[tuple] = ()

    def translate(self, text: str) -> str:
        """The words of a text in their order, marks without a space before them."""
        found = ""
        for part in _PART.findall(text):
            found += f" {self.of_word.get(fold(part), part)}" if _WORD.match(part) else part
        found = " ".join(found.split())
        return found[:1].upper() + found[1:]


def fit(data: Pairs) -> tuple[dict[str, Any], dict[str, Fit]]:
    """Count the dictionary: it by its name, and a `Fit` without epochs.

    IBM's model 1 (Brown et al. 1993): how likely each word of a translation comes of each word of its text is
    what explains the pairs best, found by expectation and maximisation. Of each word the likeliest is taken.
    """
    started = time.perf_counter()
    ids = np.flatnonzero(data.manifest["split"] == "train")
    sources = [[NOTHING, *map(fold, _WORD.findall(data.texts[one]))] for one in ids]
    targets = [_WORD.findall(data.targets[one]) for one in ids]
    of_word = dictionary(sources, targets)
    took = Fit(pd.DataFrame(), pd.DataFrame(), time.perf_counter() - started)
    return {baselines.WORD_BY_WORD: Dictionary(of_word)}, {baselines.WORD_BY_WORD: took}


def dictionary(sources: list[list[str]], targets: list[list[str]]) -> dict[str, str]:
    """The likeliest word of a translation for each word of a text, "" where it is likelier that none is.

    sources, targets: the words of each text, NOTHING first, and of its translation.
    """
    known, own = ({word: number for number, word in enumerate(_each(some))} for some in (sources, targets))
    # All that may belong together: (word of a text, word of its translation, which word of all translations).
    rows = [
        (known[word], own[said], place)
        for place, said, words in (
            (place, said, words) for place, (said, words) in enumerate(_spoken(sources, targets))
        )
        for word in words
    ]
    if not rows:
        return {}
    word, said, place = np.array(rows, np.int64).T
    kinds, number = np.unique(word * len(own) + said, return_inverse=True)
    chance = np.ones(len(kinds))
    for _ in range(ROUNDS):
        shares = chance[number] / np.bincount(place, weights=chance[number])[place]
        counts = np.bincount(number, weights=shares)
        chance = counts / np.bincount(kinds // len(own), weights=counts)[kinds // len(own)]
    of, names, words = kinds // len(own), list(known), list(own)
    expected = np.bincount(of, weights=counts, minlength=len(known))
    often = np.bincount([known[one] for some in sources for one in some], minlength=len(known))
    order = np.lexsort((kinds, -chance, of))
    best = order[np.unique(of[order], return_index=True)[1]]
    # A word of which less than half a word comes has none.
    return {
        names[of[one]]: words[kinds[one] % len(own)] if expected[of[one]] >= 0.5 * often[of[one]] else ""
        for one in best
        if names[of[one]] != NOTHING
    }


def _each(texts: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(word for text in texts for word in text))


def _spoken(sources: list[list[str]], targets: list[list[str]]):
    """Each word of all translations, with the words of its text."""
    for words, spoken in zip(sources, targets, strict=True):
        for said in spoken:
            yield said, words
