"""datasets/composed_language: the same sentences everywhere; each split has words of its own."""

import hashlib
import re
from collections import Counter

import pytest

from tests.test_datasets import DATASETS, load


@pytest.fixture(scope="module")
def composing():
    return load(DATASETS / "composed_language", "_test_composed_language").composing


@pytest.fixture(scope="module")
def pairs(composing):
    return {split: composing.sentences(split) for split in composing.SPLITS}


def in_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def forms(composing, split: str) -> dict[str, str]:
    """All forms of the English words of a split, and their words in the invented language."""
    found = {}
    for kind, some in composing.meanings().items():
        for one in some:
            for word in one.english[split]:
                found[word.partition(":")[0]] = one.foreign
                if kind == "noun":
                    found[composing.plural(word)] = one.foreign + composing.PLURAL
                if kind == "verb":
                    found[composing.past(word)] = one.foreign
    return found


def test_the_sentences_are_the_same_on_every_machine(pairs):
    assert hashlib.sha256(repr(pairs).encode()).hexdigest() == (
        "e09237dc5dcf36e254329df5a499d6f72cacbacaccb97b3f43563a1027bce3f4"
    )


def test_they_are_all_different_within_and_between_splits(composing, pairs):
    for side in range(2):
        texts = [pair[side] for some in pairs.values() for pair in some]
        assert len(texts) == sum(composing.SPLITS.values()) and len(set(texts)) == len(texts)


def test_no_english_word_is_in_two_lists(composing):
    listed = Counter()
    for split in composing.SPLITS:
        listed.update(forms(composing, split).keys())
    small = {*composing.SMALL_WORDS, "an", "did"}
    assert max(listed.values()) == 1, [word for word, times in listed.items() if times > 1]
    assert not small & set(listed)
    # Nor do two of them share a beginning that would give one away to whoever knows the other.
    train = forms(composing, "train")
    for split in ("validation", "test"):
        for word, foreign in forms(composing, split).items():
            alike = [one for one in train if one[:5] == word[:5] and len(word) > 4]
            assert all(train[one].rstrip("n") != foreign.rstrip("n") for one in alike), (word, alike)


def test_each_meaning_has_words_in_every_split_and_one_word_there(composing):
    words = composing.meanings()
    foreign = [one.foreign for some in words.values() for one in some]
    assert len(set(foreign)) == len(foreign) and not set(foreign) & set(composing.SMALL_WORDS.values())
    for kind, some in words.items():
        for one in some:
            assert all(one.english[split] for split in composing.SPLITS)
            assert one.foreign[-1] in composing.ENDINGS[kind]


def test_half_of_the_words_of_validation_and_test_are_new(composing, pairs):
    known = {word for english, _ in pairs["train"] for word in in_words(english)}
    of_training = forms(composing, "train")
    for split in ("validation", "test"):
        new = [word for english, _ in pairs[split] for word in in_words(english) if word not in known]
        own = forms(composing, split)
        assert set(new) == {word for word in new if word in own}
        told = [word for english, _ in pairs[split] for word in in_words(english) if word in own]
        old = [word for english, _ in pairs[split] for word in in_words(english) if word in of_training]
        assert 0.4 < len(told) / (len(told) + len(old)) < 0.6
        with_new = sum(any(word not in known for word in in_words(english)) for english, _ in pairs[split])
        assert with_new / len(pairs[split]) > 0.9


def test_a_sentence_says_in_both_languages_the_same(composing, pairs):
    """Word by word, whatever their order: each noun, adjective, verb and adverb is there once."""
    small = {word: one for word, one in composing.SMALL_WORDS.items() if word != "?"} | {"an": "un"}
    for split, some in pairs.items():
        known = forms(composing, "train") | forms(composing, split) | small
        for english, foreign in some:
            expected = Counter(known[word] for word in in_words(english) if word != "did")
            expected[composing.SMALL_WORDS["?"]] += english.endswith("?")
            assert Counter(in_words(foreign)) == +expected, english
            assert english[-1] == foreign[-1] and english[0].isupper() and foreign[0].isupper()
            assert not re.search(r"  |\ba [aeio]|\ban [^aeiou]", english), english


def test_the_verb_comes_last_and_adjectives_behind_their_nouns(composing, pairs):
    words = composing.meanings()
    verbs, adjectives = ({one.foreign for one in words[kind]} for kind in ("verb", "adjective"))
    adverbs = {one.foreign for one in words["adverb"]}
    behind = {*adverbs, *(composing.SMALL_WORDS[one] for one in ("will", "?", "because"))}
    nouns = {form for one in words["noun"] for form in (one.foreign, one.foreign + composing.PLURAL)}
    for _, foreign in pairs["train"]:
        for clause in foreign.split(","):
            said = in_words(clause)
            place = next(i for i, word in enumerate(said) if word in verbs)
            assert set(said[place + 1 :]) <= behind, foreign
            assert all(said[i - 1] in nouns for i, word in enumerate(said) if word in adjectives)


def test_the_builder_stores_them_character_by_character(composing, pairs, tmp_path):
    import tensorflow_datasets as tfds

    builder = load(DATASETS / "composed_language", "_test_composed_language").Builder(data_dir=tmp_path)
    builder.download_and_prepare()
    for split, expected in pairs.items():
        read = {(one["en"].decode(), one["xx"].decode()) for one in tfds.as_numpy(builder.as_dataset(split))}
        assert read == set(expected)
