"""BLEU and chrF are sacreBLEU's, of all sentences and of each; intervals are over sentences."""

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics import BLEU, CHRF

from runner.errors import InputError
from runner.scores import translation

WANTED = [
    "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
    "Ein Boston Terrier läuft über saftig-grünes Gras vor einem weißen Zaun.",
    "Fünf Leute in Winterjacken und mit Helmen stehen im Schnee.",
    "Leute reparieren das Dach eines Hauses.",
    "Ja!",
    "3,5 % der Leute (oder mehr) sagten: „nein“.",
]


def spoiled(seed: int, share: float = 0.4) -> list[str]:
    """Sentences of which words are lost, doubled, swapped and others."""
    random, found = np.random.default_rng(seed), []
    for text in WANTED * 6:
        words = text.split()
        for place in range(len(words)):
            if random.random() < share:
                words[place] = random.choice(["", "Hund", words[place][::-1], words[0], f"{words[place]} da"])
        if random.random() < share:
            words = words[::-1]
        found.append(" ".join(words))
    return found


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_scores_are_those_of_sacrebleu(share):
    found, wanted = spoiled(3, share), WANTED * 6
    counts = translation.count(found, wanted)
    ours = translation.score(counts)
    assert 100 * ours["bleu"] == pytest.approx(BLEU().corpus_score(found, [wanted]).score, abs=1e-6)
    assert 100 * ours["chrf"] == pytest.approx(CHRF().corpus_score(found, [wanted]).score, abs=1e-6)
    table = translation.Answers(np.arange(len(found)), wanted, wanted, found).sentences()
    single = BLEU(effective_order=True)
    for row, (said, asked) in enumerate(zip(found, wanted, strict=True)):
        assert 100 * table["bleu"][row] == pytest.approx(single.sentence_score(said, [asked]).score, abs=1e-6)
        assert 100 * table["chrf"][row] == pytest.approx(CHRF().sentence_score(said, [asked]).score, abs=1e-6)


def test_nothing_found_and_nothing_right_are_0():
    for found in ([""] * len(WANTED), ["xyz"] * len(WANTED)):
        assert translation.score(translation.count(found, WANTED))["bleu"] == 0
        assert BLEU().corpus_score(found, [WANTED]).score == 0
    assert translation.score(translation.count([""], ["a"])) == {"bleu": 0.0, "chrf": 0.0}
    with pytest.raises(InputError, match="received 0 translations"):
        translation.count([], [])
    with pytest.raises(InputError, match="1 translations and 6"):
        translation.count(["a"], WANTED)


def test_signatures_say_what_decides_the_numbers():
    told = translation.signatures()
    assert "tok:13a" in told["bleu"] and "case:mixed" in told["bleu"] and "version:" in told["bleu"]
    assert "nc:6" in told["chrf"] and "nw:0" in told["chrf"]


def test_intervals_are_over_sentences_or_groups_of_them():
    found, wanted = spoiled(1), WANTED * 6
    counts, ids = translation.count(found, wanted), np.arange(36)
    result = translation.metrics(counts, ids)
    low, high = result["bleu_interval"]
    assert 0 < low < result["bleu"] < high < 1 and result["examples"] == 36
    random = np.random.default_rng(7)
    drawn = []
    for _ in range(300):
        rows = random.integers(36, size=36)
        drawn.append(BLEU().corpus_score([found[i] for i in rows], [[wanted[i] for i in rows]]).score / 100)
    np.testing.assert_allclose(np.percentile(drawn, [2.5, 97.5]), [low, high], atol=0.02)
    groups = pd.Series([f"g{row // 18}" for row in ids])
    of_two = translation.metrics(counts, ids, groups)
    assert of_two["bleu"] == result["bleu"] and of_two["bleu_interval"] != result["bleu_interval"]


def test_a_difference_is_of_the_same_sentences():
    wanted, ids = WANTED * 6, np.arange(36)
    worse, better = (translation.Answers(ids, wanted, wanted, spoiled(2, share)) for share in (0.5, 0.2))
    found = worse.less_than(better)
    numbers = [one.numbers()["bleu"] for one in (worse, better)]
    assert found.value == pytest.approx(numbers[1] - numbers[0]) and found.low > 0
    assert worse.less_than(worse)[:3] == (0.0, 0.0, 0.0)


def test_bands_of_length_hold_each_sentence_once():
    wanted = WANTED * 6
    answers = translation.Answers(np.arange(36), wanted, wanted, spoiled(4))
    sizes = [len(text.split()) for text in wanted]
    bands = translation.by_length(answers, sizes)
    assert bands["support"].sum() == 36 and bands["class"].is_unique
    assert (bands["bleu_low"] <= bands["bleu_high"]).all()
    same = translation.by_length(answers, [3] * 36)
    assert same["class"].tolist() == ["3 words"] and same["support"].tolist() == [36]
