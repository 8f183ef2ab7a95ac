"""Texts that say the same again: copied with another case or punctuation, a word changed, a sentence added.

Works on sets of words. Rare words propose pairs, which no pair can escape that counts, and what all shared
words tell decides.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from runner.data import pairs
from runner.text.checks import fold

PUNCTUATION, NEARLY = "but for signs", "nearly word for word"
SHARE, EVIDENCE = 0.7, 15.0
"""Of the shorter text, how much the other must have in common with it, as a share of its idf; and how much
that must be in nats, beyond what chance brings together somewhere in the set.

Measured on the 2,692 sentences of SST-2's dev and test, 3.6 million pairs: how many pairs count that are no
copies, and of edits of 1,346 of them how many are found, of those of 8 words and more:

| SHARE, EVIDENCE | no copies | a word changed | two words | other signs | a word left out | a sentence more |
| 0.6, 5          | 3         | .995           | .981      | 1           | .997            | .968            |
| 0.6, 10         | 2         | .977           | .953      | 1           | .981            | .958            |
| 0.7, 10         | 0         | .977           | .952      | 1           | .981            | .958            |
| 0.7, 15         | 0         | .947           | .901      | 1           | .949            | .934            |
| 0.7, 20         | 0         | .887           | .841      | 1           | .911            | .893            |

What is missed are short sentences, which tell too little to be sure.
"""
LONGEST = 4
"""How many times as much the longer of two may say; beyond that it is no copy but a quotation."""

_NEIGHBOURS = 10  # kept per text; a text of which there are more versions is linked through others
_AT_ONCE = 256  # texts: with 20,000 others at most 5 million candidates at a time, some 60 MB
_PAIRS_AT_ONCE = 100_000
_LOOKED_AT = 0.5  # share of a text's idf; more than 1 - SHARE, and more than that leaves fewer to compare
_WORD = re.compile(r"\w+")
# Scripts without spaces: Thai, Lao, Burmese, Khmer, Japanese, Chinese. There two characters are a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def words(text: str) -> list[str]:
    """The words of a folded text, without punctuation; pairs of characters where a script has no spaces."""
    found = []
    for word in _WORD.findall(text):
        if _UNSPACED.search(word) and len(word) > 2:
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


def find(texts: Sequence[str]) -> pd.DataFrame:
    """Find the pairs among texts that are the same after `checks.fold`, or nearly.

    Returns a DataFrame, a row per pair: first < second (row numbers), how (`pairs.SAME` after folding,
    PUNCTUATION where the words are the same in their order, or NEARLY), score (share of the shorter that both
    have, 0 to 1); best first. Of many with the same words each is paired with the first, and so is what is
    nearly the same as they are. Texts that are empty after folding make no pair.

    A word w of n texts that stands in d of them weighs idf = log(n / d) nats (Spärck Jones 1972): what it
    tells that a text has it, were words independent. For two texts with the word sets A and B, of weights
    w(A) <= w(B), share is w(A and B) / w(A), so that a sentence more costs nothing, and evidence is w(A and
    B) - 2 log n: there are about n^2 pairs. They count where share >= SHARE, evidence >= EVIDENCE and w(B) <=
    LONGEST w(A).

    Exact search (prefix filter: Chaudhuri, Ganti and Kaushik 2006): the rarest words of A, of half its
    weight, must have so much in common with B that all the rest could make it SHARE w(A).
    """
    folded = np.array([fold(text) for text in texts], dtype=object)
    # Texts of signs alone (":-)") are compared as they stand.
    spoken = np.array([" ".join(words(text)) or text for text in folded], dtype=object)
    codes, once = pd.factorize(spoken)
    rows = np.arange(len(codes))
    row_of = np.zeros(len(once), np.int64)
    row_of[codes[::-1]] = rows[::-1]  # the first row of each
    again = (row_of[codes] != rows) & (folded != "")
    same = (row_of[codes[again]], rows[again], np.ones(again.sum()))
    alike = np.where(folded[same[0]] == folded[same[1]], pairs.SAME, PUNCTUATION)
    near = _near(list(once))
    near = (row_of[near[0]], row_of[near[1]], near[2])
    first, second, score = (np.concatenate(both) for both in zip(same, near, strict=True))
    how = np.array([*alike, *[NEARLY] * len(near[0])], dtype=object)
    columns = (np.minimum(first, second), np.maximum(first, second), how, score.round(3))
    found = pd.DataFrame(dict(zip(pairs.COLUMNS, columns, strict=True)))
    found = found.astype({"first": np.int64, "second": np.int64, "score": np.float64})
    return found.sort_values(["score", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _near(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first, second and share of the pairs that count among texts of which no two are the same."""
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    if len(texts) < 2 or not any(map(words, texts)):
        return nothing
    there = CountVectorizer(analyzer=words, binary=True, dtype=np.float32).fit_transform(texts).tocsr()
    there.sort_indices()
    frequency = there.getnnz(axis=0)
    idf = np.log(len(texts) / frequency).astype(np.float32)
    weight = there @ idf
    least = EVIDENCE + 2 * np.log(len(texts))
    (rare, rest), common = _prefixes(there, idf, weight, frequency), there.T.tocsr()
    weighted = there.multiply(idf).tocsr()

    found = []
    for start in range(0, len(texts), _AT_ONCE):
        block = np.arange(start, min(start + _AT_ONCE, len(texts)))
        block = block[weight[block] >= least]
        if not len(block):
            continue
        proposed = (rare[block] @ common).tocoo()
        one, other = block[proposed.row], proposed.col.astype(np.int64)
        # The one says less than the other, or as much and stands before it.
        ordered = (weight[one] < weight[other]) | ((weight[one] == weight[other]) & (one < other))
        able = ordered & (weight[other] <= LONGEST * weight[one])
        # What is in common among the rare words, and all the rest, is the most that both can have; a
        # ten-thousandth more, for rounding.
        able &= proposed.data + rest[one] >= (SHARE - 1e-4) * weight[one]
        one, other = one[able], other[able]
        shared = np.concatenate([np.zeros(0), *_shared(weighted, there, one, other)])
        share = shared / weight[one]
        counts = (share >= SHARE) & (shared >= least)
        one, other, share = one[counts], other[counts], share[counts]
        best = np.lexsort((other, -share, one))
        one, other, share = one[best], other[best], share[best]
        turn = np.arange(len(one)) - np.searchsorted(one, one)
        kept = turn < _NEIGHBOURS
        found.append((one[kept], other[kept], share[kept]))
    first, second, shares = (np.concatenate(parts) for parts in zip(nothing, *found, strict=True))
    return first, second, shares


def _prefixes(
    there: csr_matrix, idf: np.ndarray, weight: np.ndarray, frequency: np.ndarray
) -> tuple[csr_matrix, np.ndarray]:
    """Return the rarest words of each text, which weigh _LOOKED_AT of it or a little more, with their idf and
    without those that no other text has; and what the rest weighs.
    """
    row = np.repeat(np.arange(there.shape[0]), np.diff(there.indptr))
    column = there.indices
    order = np.lexsort((column, -idf[column], row))
    row, column = row[order], column[order]
    each = idf[column].astype(np.float64)
    total = np.cumsum(each)
    begins = np.concatenate([[0.0], total])[there.indptr[:-1]]
    kept = total - each - begins[row] < _LOOKED_AT * weight[row]
    rest = np.bincount(row[~kept], each[~kept], minlength=there.shape[0])
    row, column = row[kept], column[kept]
    shared = frequency[column] > 1
    row, column = row[shared], column[shared]
    return csr_matrix((idf[column], (row, column)), shape=there.shape), rest


def _shared(
    weighted: csr_matrix, there: csr_matrix, one: np.ndarray, other: np.ndarray
) -> Iterator[np.ndarray]:
    """Weigh the words that pairs have in common."""
    for start in range(0, len(one), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        both = weighted[one[part]].multiply(there[other[part]])
        yield np.asarray(both.sum(axis=1), dtype=np.float64).ravel()
