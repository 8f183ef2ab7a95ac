"""Copies of texts are found in all their forms, other texts are not, and no pair that counts escapes."""

import itertools

import numpy as np
import pytest

from runner.data import pairs
from runner.text import near_duplicates
from runner.text.checks import fold
from runner.text.near_duplicates import EVIDENCE, LONGEST, NEARLY, PUNCTUATION, SHARE, find, words

SENTENCE = "The quick harvester crossed seventeen muddy fields before anyone in Tipton noticed its absence."


def sentences(count: int, length: int = 14, seed: int = 0) -> list[str]:
    """Sentences of invented words, common and rare ones as in a language (Zipf)."""
    random = np.random.RandomState(seed)
    drawn = np.minimum(random.zipf(1.3, (count, length)), 5000)
    return [" ".join(f"w{number}" for number in row) for row in drawn]


@pytest.mark.parametrize(
    ("copy", "how"),
    [
        (f"  {SENTENCE.upper()}\n", pairs.SAME),
        (SENTENCE.replace("q", "ｑ"), pairs.SAME),  # full width, as NFKC folds it
        (SENTENCE.replace(".", " !") + " ;-)", PUNCTUATION),
        (SENTENCE.replace("muddy", "frozen"), NEARLY),
        (SENTENCE.replace("muddy ", ""), NEARLY),
        (SENTENCE + " The committee has asked for another report about ferries by Wednesday.", NEARLY),
    ],
)
def test_a_copy_is_found_among_others(copy, how):
    others = sentences(200)
    found = find([*others[:50], SENTENCE, *others[50:], copy])
    assert found[["first", "second", "how"]].to_numpy().tolist() == [[50, 201, how]]
    assert list(found) == pairs.COLUMNS and SHARE <= found["score"][0] <= 1


def test_what_is_not_alike_makes_no_pair():
    assert find(sentences(300, seed=1)).empty
    quotation = " ".join([SENTENCE, *sentences(40, seed=2)])
    assert find([SENTENCE, quotation, *sentences(200)]).empty  # a sentence of a page is no copy
    assert find(["good film", "bad film", "good book", *sentences(50)]).empty  # too short to tell anything


@pytest.mark.parametrize("texts", [[], ["one"], ["", " ", "\n"], ["!", "?"]])
def test_nothing_to_compare(texts):
    found = find(texts)
    assert found.empty and list(found) == pairs.COLUMNS
    assert (pairs.clusters(found, len(texts)) == -1).all()


def test_of_many_that_are_the_same_each_is_paired_with_the_first():
    found = find(["Fine!", "other", "fine!", "FINE!", ":-)", ":-)", ":-(", "fine"])
    assert found[["first", "second"]].to_numpy().tolist() == [[0, 2], [0, 3], [0, 7], [4, 5]]
    assert found["how"].tolist() == [pairs.SAME, pairs.SAME, PUNCTUATION, pairs.SAME]


def test_many_versions_of_one_text_stay_linked_and_few():
    versions = [f"{SENTENCE} number{i}" for i in range(300)]
    found = find([*versions, *sentences(3000)])
    assert len(found) <= 10 * 300
    clusters = pairs.clusters(found, 3300)
    assert len(set(clusters[:300])) == 1 and clusters[0] >= 0 and (clusters[300:] == -1).all()


def test_the_search_finds_what_comparing_all_pairs_finds():
    random = np.random.RandomState(3)
    texts = sentences(160, 24, seed=3)
    for text in texts[:100]:  # from one word changed to most
        parts = text.split()
        for place in random.permutation(len(parts))[: random.randint(1, 9)]:
            parts[place] = f"w{random.randint(5000)}"
        texts.append(" ".join(parts))
    sets = [set(words(fold(text))) for text in texts]
    idf = {word: np.log(len(texts) / sum(word in one for one in sets)) for word in set().union(*sets)}
    weight = [sum(idf[word] for word in one) for one in sets]
    least, expected = EVIDENCE + 2 * np.log(len(texts)), set()
    for one, other in itertools.combinations(range(len(texts)), 2):
        shared = sum(idf[word] for word in sets[one] & sets[other])
        low, high = sorted((weight[one], weight[other]))
        if shared >= SHARE * low and shared >= least and high <= LONGEST * low:
            expected.add((one, other))
    found = find(texts)
    assert len(expected) > 20
    assert set(zip(found["first"], found["second"], strict=True)) == expected


def test_scripts_without_spaces_are_compared_by_pairs_of_characters():
    assert words("映画は素晴らしい") == ["映画", "画は", "は素", "素晴", "晴ら", "らし", "しい"]
    assert words("don't stop") == ["don", "t", "stop"]
    text = "昨日友達と一緒に新しい駅前の映画館で二時間半の長い歴史映画を見ました"
    others = [
        "".join(chr(0x4E00 + n) for n in np.random.RandomState(i).randint(0, 900, 30)) for i in range(99)
    ]
    found = find([text, *others, text.replace("長い", "短い")])
    assert found[["first", "second"]].to_numpy().tolist() == [[0, 100]]


def test_blocks_change_nothing(monkeypatch):
    texts = [*sentences(60), *(f"{text} w77777" for text in sentences(60)[:30])]
    whole = find(texts)
    monkeypatch.setattr(near_duplicates, "_AT_ONCE", 7)
    monkeypatch.setattr(near_duplicates, "_PAIRS_AT_ONCE", 5)
    assert len(whole) and find(texts).equals(whole)
