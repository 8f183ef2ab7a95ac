"""How like translations are to those of people: BLEU (Papineni et al. 2002) and chrF (Popovic 2015), as
sacreBLEU counts them (Post 2018, arXiv:1804.08771), with intervals.

Both are made of sums over sentences, such as how many runs of four words are also in the wanted translation.
`Counts` keeps them sentence by sentence, so that a resample of sentences costs an addition. Scores are 0..1,
a hundredth of what sacreBLEU prints.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sacrebleu.metrics import BLEU, CHRF

from runner.errors import InputError
from runner.scores import intervals, paired

WORDS, CHARACTERS, BETA = 4, 6, 2
"""The longest runs of BLEU and of chrF, and how many times as much recall counts as precision in chrF."""
SCORES = ("bleu", "chrf")


@dataclass(frozen=True, eq=False)
class Counts:
    """What both scores are made of, a row per sentence; float64."""

    bleu: np.ndarray
    """(sentences, 2 + 2 * WORDS): words that were found, words that were wanted, then for runs of 1 to WORDS
    words how many are right, and how many were found.
    """
    chrf: np.ndarray
    """(sentences, 3 * CHARACTERS): for runs of 1 to CHARACTERS characters how many were found, wanted, and
    are right.
    """

    def __len__(self) -> int:
        return len(self.bleu)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one method makes of texts, and what people did."""

    ids: np.ndarray
    sources: Sequence[str]
    wanted: Sequence[str]
    found: Sequence[str]
    greedy: Sequence[str] | None = None
    """Of a network that searches: what it writes when it always takes the likeliest piece."""
    sure: np.ndarray | None = None
    """The mean probability of a piece, 0..1."""

    def numbers(self, groups: pd.Series | None = None, resamples: int = 1000) -> dict:
        """`metrics`, and the scores of `greedy` as greedy_bleu and greedy_chrf."""
        result = metrics(count(self.found, self.wanted), self.ids, groups, resamples=resamples)
        if self.greedy is not None:
            plain = score(count(self.greedy, self.wanted))
            result |= {f"greedy_{name}": value for name, value in plain.items()}
        return result

    def sentences(self) -> pd.DataFrame:
        """A row per sentence, in the order of `ids`: id, source, wanted, found, bleu, chrf (0..1 of that
        sentence alone), and where known greedy and sure.
        """
        counts = count(self.found, self.wanted)
        table = pd.DataFrame({"id": self.ids, "source": self.sources, "wanted": self.wanted})
        table = table.assign(found=list(self.found))
        if self.greedy is not None:
            table["greedy"] = list(self.greedy)
        table["bleu"], table["chrf"] = bleu(counts.bleu, effective=True), chrf(counts.chrf)
        return table if self.sure is None else table.assign(sure=self.sure)

    def less_than(self, other: "Answers", groups: pd.Series | None = None) -> paired.Difference:
        """BLEU of the other less that of this one; `difference`."""
        counts = [count(one.found, one.wanted) for one in (self, other)]
        return difference(counts[0], counts[1], self.ids, groups)


def signatures() -> dict[str, str]:
    """How sacreBLEU writes down what decides its numbers: "bleu" and "chrf"."""
    return {"bleu": str(_told(BLEU())), "chrf": str(_told(CHRF()))}


def _told(metric: BLEU | CHRF):
    metric.corpus_score(["a b c d"], [["a b c d"]])  # it learns from that how many references there are
    return metric.get_signature()


def count(found: Sequence[str], wanted: Sequence[str]) -> Counts:
    """Count what both scores are made of, for translations and those that are wanted, sentence by sentence.

    Words are those of sacreBLEU's tokeniser 13a; chrF counts characters without white space. Raises
    InputError where there is none, or not one for each.
    """
    if len(found) != len(wanted) or not len(found):
        raise InputError(
            f"received {len(found)} translations and {len(wanted)} that are wanted; give one for each, and "
            "one at least."
        )
    metric = BLEU(effective_order=True)
    words = np.zeros((len(found), 2 + 2 * WORDS))
    characters = np.zeros((len(found), 3 * CHARACTERS))
    for row, (said, asked) in enumerate(zip(found, wanted, strict=True)):
        one = metric.sentence_score(said, [asked])
        words[row] = [one.sys_len, one.ref_len, *one.counts, *one.totals]
        characters[row] = _runs(said, asked)
    return Counts(words, characters)


def _runs(said: str, asked: str) -> list[int]:
    """The row of `Counts.chrf`."""
    both = ["".join(text.split()) for text in (said, asked)]
    found: list[int] = []
    for size in range(1, CHARACTERS + 1):
        runs = [Counter(text[at : at + size] for at in range(len(text) - size + 1)) for text in both]
        # As sacreBLEU: nothing of a length that the wanted one is too short for counts as found.
        found += [runs[0].total() * bool(runs[1]), runs[1].total(), (runs[0] & runs[1]).total()]
    return found


def bleu(sums: np.ndarray, effective: bool = False) -> np.ndarray:
    """BLEU, 0..1, of sums as in `Counts.bleu`: (..., 2 + 2 * WORDS) to (...,).

    The geometric mean of the shares of runs that are right, times exp(1 - wanted / found) where fewer words
    were found than wanted. For a length none of whose runs is right 1/2, then 1/4 and so on stand in
    (sacreBLEU's smoothing "exp"). effective: of a sentence, lengths that it has no run of do not count.
    """
    found, wanted = sums[..., 0], sums[..., 1]
    right, total = sums[..., 2 : 2 + WORDS], sums[..., 2 + WORDS :]
    there = total > 0
    none = there & (right == 0)
    stands_in = 0.5 ** np.cumsum(none, axis=-1)
    shares = np.where(none, stands_in, right) / np.maximum(total, 1)
    orders = there.sum(axis=-1) if effective else np.full(found.shape, WORDS)
    logs = np.log(np.where(there, shares, 1.0 if effective else 1e-300)).sum(axis=-1)
    brevity = np.minimum(0.0, 1 - wanted / np.maximum(found, 1e-9))
    value = np.exp(logs / np.maximum(orders, 1) + np.maximum(brevity, -700))
    return np.where((right.sum(axis=-1) == 0) | (found == 0), 0.0, value)


def chrf(sums: np.ndarray) -> np.ndarray:
    """chrF, 0..1, of sums as in `Counts.chrf`: (..., 3 * CHARACTERS) to (...,).

    The mean over lengths of runs of F with BETA; lengths that one of both sides has no run of do not count.
    """
    found, wanted, right = (sums[..., one::3] for one in range(3))
    there = (found > 0) & (wanted > 0)
    precision = (right / np.maximum(found, 1) * there).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    recall = (right / np.maximum(wanted, 1) * there).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    below = BETA**2 * precision + recall
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1), 0.0)


def score(counts: Counts) -> dict[str, float]:
    """BLEU and chrF of all sentences together, 0..1."""
    return {"bleu": float(bleu(counts.bleu.sum(axis=0))), "chrf": float(chrf(counts.chrf.sum(axis=0)))}


def metrics(
    counts: Counts,
    ids: Sequence[int] | np.ndarray,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """`score` with bleu_interval and chrf_interval, examples, and brevity (words found for each that was
    wanted), ready for JSON.

    ids: of the sentences, in order; groups: the group of each, "" for none, indexed by id. The intervals are
    95 % percentile intervals of a bootstrap (Efron 1979; of BLEU: Koehn 2004) over sentences, or groups.
    """
    result: dict = score(counts)
    drawn = _drawn(counts, ids, groups, resamples, seed)
    for name, function, sums in (("bleu", bleu, counts.bleu), ("chrf", chrf, counts.chrf)):
        result[f"{name}_interval"] = intervals.percentile(function(drawn @ sums))
    found, wanted = counts.bleu[:, :2].sum(axis=0)
    return result | {"brevity": float(found / max(wanted, 1)), "examples": len(counts)}


def difference(
    first: Counts,
    second: Counts,
    ids: Sequence[int] | np.ndarray,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> paired.Difference:
    """BLEU of the second less that of the first on the same sentences, with its 95 % interval: each resample
    draws sentences, or groups of them, with what both made of them (Koehn 2004).
    """
    drawn = _drawn(first, ids, groups, resamples, seed)
    low, high = intervals.percentile(bleu(drawn @ second.bleu) - bleu(drawn @ first.bleu))
    value = score(second)["bleu"] - score(first)["bleu"]
    return paired.Difference(value, low, high, len(first))


def _drawn(counts: Counts, ids, groups: pd.Series | None, resamples: int, seed: int) -> np.ndarray:
    whole = None if groups is None else intervals.units(groups, ids)
    return intervals.drawn(np.random.default_rng(seed), len(counts), whole, resamples)


def by_length(answers: Answers, sizes: Sequence[int], bands: int = 4) -> pd.DataFrame:
    """A row per band of lengths, about as many sentences in each: class ("up to 8 words"), bleu, bleu_low,
    bleu_high, chrf, support (sentences).

    sizes: how long each text is, in words.
    """
    sizes = np.asarray(sizes)
    counts = count(answers.found, answers.wanted)
    ends = sorted({int(one) for one in np.quantile(sizes, np.arange(1, bands + 1) / bands)})
    rows, before = [], int(sizes.min()) - 1
    for end in ends:
        there = (sizes > before) & (sizes <= end)
        if not there.any():
            continue
        some = Counts(counts.bleu[there], counts.chrf[there])
        found = metrics(some, np.asarray(answers.ids)[there])
        name = f"{before + 1} to {end} words" if end > before + 1 else f"{end} words"
        low, high = found["bleu_interval"]
        rows.append(
            {"class": name, "bleu": found["bleu"], "bleu_low": low, "bleu_high": high}
            | {"chrf": found["chrf"], "support": int(there.sum())}
        )
        before = end
    return pd.DataFrame(rows)
