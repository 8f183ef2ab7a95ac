"""datasets/composed_reviews: the same reviews everywhere; each split praises and blames in its own words."""

import hashlib
import itertools
import re
from collections import Counter

import pytest

from tests.test_datasets import DATASETS, load


@pytest.fixture(scope="module")
def composing():
    return load(DATASETS / "composed_reviews", "_test_composed").composing


@pytest.fixture(scope="module")
def reviews(composing):
    return {split: composing.reviews(split) for split in composing.SPLITS}


def in_words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def test_the_reviews_are_the_same_on_every_machine(reviews):
    assert (
        hashlib.sha256(repr(reviews).encode()).hexdigest()
        == "d6474fbd5c2619101f5bb8671b555f370d8da41f08938c6d3ed25991b46739fd"
    )


def test_no_word_of_praise_or_blame_is_in_two_lists(composing):
    listed = Counter(word for split in composing.SPLITS for of in composing.words(split) for word in of)
    assert max(listed.values()) == 1
    sizes = {split: [len(of) for of in composing.words(split)] for split in composing.SPLITS}
    assert sizes == {"train": [10, 10], "validation": [10, 10], "test": [30, 30]}


def test_no_review_has_a_word_of_praise_or_blame_of_another_split_or_class(composing, reviews):
    for split, found in reviews.items():
        for text, label in found:
            others = {
                word
                for other in composing.SPLITS
                for of, listed in enumerate(composing.words(other))
                for word in listed
                if (other, of) != (split, label)
            }
            assert not in_words(text) & others
            assert len(in_words(text) & set(composing.words(split)[label])) == 2


def test_what_is_no_praise_or_blame_stands_in_all_splits_and_in_both_classes(composing, reviews):
    """Else something beside those words would tell the class, or the split."""
    told = {word for split in composing.SPLITS for of in composing.words(split) for word in of}
    for split in ("train", "test"):
        blame, praise = (
            Counter(word for text, of in reviews[split] if of == label for word in in_words(text) - told)
            for label in (0, 1)
        )
        common = {word for word in blame | praise if blame[word] + praise[word] >= 30}
        assert len(common) > 20
        # Of "a" and "an" the word behind decides, and there are few of those.
        assert all(1 / 3 < blame[word] / praise[word] < 3 for word in common - {"an"})
    shared = in_words(" ".join([*composing.FRAMES, *itertools.chain(*composing.THINGS.values())]))
    for found in reviews.values():
        assert all(in_words(text) <= told | shared | {*composing.THINGS, "a", "an"} for text, _ in found)


def test_reviews_are_all_different_and_half_of_them_praise(reviews):
    texts = [text for found in reviews.values() for text, _ in found]
    assert len(set(texts)) == len(texts) == 1000
    for found in reviews.values():
        assert 2 * sum(label for _, label in found) == len(found)


def test_reviews_are_written_as_sentences(composing, reviews):
    for found in reviews.values():
        for text, _ in found:
            assert re.fullmatch(r"[A-Z0-9].*[.!]", text) and not re.search(r"[{}]|  |[.!?] [a-z]", text), text
            assert not re.search(r"\ba [aeio]|\ban [^aeiou]|\ba un|\ban us", text), text
    assert composing.article("useless") == "a" and composing.article("unbearable") == "an"


def test_what_is_learned_word_by_word_does_not_carry_over(reviews):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    learner = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    learner.fit(*zip(*reviews["train"], strict=True))
    assert learner.score(*zip(*reviews["train"], strict=True)) > 0.99
    for split in ("validation", "test"):
        assert 0.4 < learner.score(*zip(*reviews[split], strict=True)) < 0.6
