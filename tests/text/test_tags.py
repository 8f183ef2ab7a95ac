"""Entities become tags, and what a network says of words becomes entities, as the scores read tags."""

import itertools
import tempfile

import hypothesis
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.scores import entities
from runner.text import tags

hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # else it makes .hypothesis here
PROPERTY = settings(max_examples=200, derandomize=True, database=None, deadline=None)
CLASSES = ["person", "place", "thing"]
COUNT = tags.count(len(CLASSES))


def words(count: int) -> np.ndarray:
    """Words of 3 characters with a space between."""
    return np.array([(4 * one, 4 * one + 3) for one in range(count)], np.int64).reshape(-1, 2)


def tagged(count: int, spans: list) -> list[str]:
    """The names of the tags of so many words, with entities (start, end, class) in characters."""
    ends = np.array([one[:2] for one in spans], np.int64).reshape(-1, 2)
    types = np.array([one[2] for one in spans], np.int64)
    found = tags.of_words(words(count), ends, types)
    assert found.dtype == np.int64 and found.shape == (count,)
    return [tags.named(one, CLASSES) for one in found.tolist()]


# ---------------------------------------------------------------- entities to tags


def test_tags_have_the_names_that_scores_read():
    names = [tags.named(one, CLASSES) for one in range(COUNT)]
    assert names == ["O", "B-person", "I-person", "B-place", "I-place", "B-thing", "I-thing"]
    assert COUNT == 7 and tags.count(1) == 3
    assert entities.spans(["B-person", "I-person", "B-person", "O", "B-place"]) == [
        (0, 2, "person"),
        (2, 3, "person"),
        (4, 5, "place"),
    ]


def test_words_of_an_entity_are_within_it_and_b_parts_neighbours_of_one_type():
    assert tagged(6, [(0, 7, 0), (12, 15, 1)]) == ["I-person", "I-person", "O", "I-place", "O", "O"]
    assert tagged(4, [(0, 3, 1), (4, 11, 1), (12, 15, 1)]) == ["I-place", "B-place", "I-place", "B-place"]
    assert tagged(3, [(0, 3, 1), (4, 7, 0), (8, 11, 1)]) == ["I-place", "I-person", "I-place"]
    assert tagged(3, [(0, 3, 1), (8, 11, 1)]) == ["I-place", "O", "I-place"]
    assert tagged(4, []) == ["O"] * 4 and tagged(0, [(0, 3, 0)]) == []


def test_words_belong_to_what_they_share_a_character_with():
    # Ends within words: the word is tagged as a whole.
    assert tagged(4, [(1, 6, 0)]) == ["I-person", "I-person", "O", "O"]
    # An entity in the space between words is none of theirs, and ends are exclusive.
    assert tagged(3, [(3, 4, 0)]) == ["O"] * 3 and tagged(3, [(3, 5, 0)]) == ["O", "I-person", "O"]
    # Of two in one word the first has it; the second has the next word, which begins it.
    assert tagged(3, [(0, 1, 0), (2, 7, 1)]) == ["I-person", "I-place", "O"]
    assert tagged(3, [(0, 1, 1), (2, 7, 1)]) == ["I-place", "B-place", "O"]
    assert tagged(3, [(4, 5, 0), (6, 7, 1)]) == ["O", "I-person", "O"]


def test_spans_that_no_tags_say_are_named():
    spans = np.array([(0, 3), (4, 11), (1, 3), (4, 6), (3, 4), (12, 15)])
    assert tags.within_words(words(3), spans).tolist() == [False, False, True, True, True, True]
    assert tags.within_words(words(0), spans).all()
    none = tags.within_words(words(3), np.zeros((0, 2), np.int64))
    assert none.shape == (0,) and none.dtype == bool


@st.composite
def marked(draw):
    """How many words, and entities at their borders: (first word, last word exclusive, class)."""
    found, place = [], 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 2)), max_size=8)
    ):
        found.append((place + gap, place + gap + length, kind))
        place += gap + length
    return place + draw(st.integers(0, 2)), found


@PROPERTY
@given(marked())
def test_entities_at_the_borders_of_words_come_back_as_they_were(given_):
    count, found = given_
    spans = [(4 * first, 4 * last - 1, kind) for first, last, kind in found]
    ends = np.array([one[:2] for one in spans], np.int64).reshape(-1, 2)
    assert not tags.within_words(words(count), ends).any()
    number = tags.of_words(words(count), ends, np.array([one[2] for one in spans], np.int64))
    assert entities.spans([tags.named(one, CLASSES) for one in number.tolist()]) == [
        (first, last, CLASSES[kind]) for first, last, kind in found
    ]
    logits = 5.0 * np.eye(COUNT, dtype="float32")[number]
    said = tags.spans(words(count), logits, CLASSES)
    assert [one for one, _ in said] == [(start, end, CLASSES[kind]) for start, end, kind in spans]
    chances = scipy.special.softmax(5.0 * np.eye(COUNT)[1])
    assert all(score == pytest.approx(chances[1] + chances[2]) for _, score in said)


# ---------------------------------------------------------------- what a network says


@PROPERTY
@given(st.integers(0, 10_000), st.integers(0, 30), st.sampled_from([0.1, 3.0, 300.0]))
def test_any_logits_say_the_entities_that_the_scores_read_from_their_tags(seed, count, scale):
    logits = (np.random.default_rng(seed).normal(size=(count, COUNT)) * scale).astype("float32")
    found = tags.spans(words(count), logits, CLASSES)
    named = [tags.named(one, CLASSES) for one in logits.argmax(axis=1).tolist()]
    expected = [(4 * first, 4 * last - 1, kind) for first, last, kind in entities.spans(named)]
    assert [span for span, _ in found] == expected
    assert all(0 <= score <= 1 and np.isfinite(score) for _, score in found), found
    assert all(one[1] < other[0] for (one, _), (other, _) in itertools.pairwise(found))


def test_a_score_of_what_is_sure_is_no_more_than_1():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, COUNT)).astype("float32")
    logits[:, 1:3] += 40  # B and I of one type share all there is
    assert max(score for _, score in tags.spans(words(4000), logits, CLASSES)) <= 1


def test_the_score_is_that_of_the_word_least_sure_of_its_type():
    logits = np.zeros((3, 3))
    logits[0, 2], logits[1, 2], logits[2, 0] = 3.0, 1.0, 9.0
    ((span, score),) = tags.spans(words(3), logits, ["x"])
    assert span == (0, 7, "x") and score == pytest.approx((np.e + 1) / (np.e + 2))


def test_of_no_word_there_is_no_entity():
    assert tags.spans(words(0), np.zeros((0, COUNT), "float32"), CLASSES) == []
