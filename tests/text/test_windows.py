"""Long texts are read in windows: each word is answered once, with as much around it as can be."""

import tempfile

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.scores import entities
from runner.text import tags, windows

hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # else it makes .hypothesis here
PROPERTY = settings(max_examples=300, derandomize=True, database=None, deadline=None)
LENGTHS = st.lists(st.integers(1, 4) | st.integers(1, 30), max_size=40)
"""Of the words of a text, in tokens."""
ROOMS = st.integers(1, 24)
SPECIAL = (101, 102, 0)
CLASSES = ("person", "place")


def parts_of(lengths: list[int]) -> np.ndarray:
    """The tokens of a text whose words have so many each; the words are 3 characters and a space."""
    rows = []
    for number, length in enumerate(lengths):
        rows.append((1000 + len(rows), 4 * number, 4 * number + 3))
        rows += [(1000 + len(rows) + more, -1, -1) for more in range(length - 1)]
    return np.array(rows, np.int64).reshape(-1, 3)


def begins_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths])[: len(lengths)]


# ---------------------------------------------------------------- where texts are cut


@PROPERTY
@given(LENGTHS, ROOMS)
def test_every_token_is_owned_once_and_lies_in_its_window(lengths, room):
    starts = parts_of(lengths)[:, 1]
    found = windows.cut(starts, room)
    owned = [place for one in found for place in range(one.own_first, one.own_last)]
    assert owned == list(range(len(starts)))
    for one in found:
        assert one.first <= one.own_first <= one.own_last <= one.last <= one.first + room
    assert found[0].first == 0 and found[-1].last == len(starts)
    assert all(after.first <= before.last for before, after in zip(found, found[1:], strict=False))


@PROPERTY
@given(LENGTHS, ROOMS)
def test_a_word_that_a_window_can_hold_is_answered_where_all_of_it_stands(lengths, room):
    found = windows.cut(parts_of(lengths)[:, 1], room)
    begins = set(begins_of(lengths).tolist())
    for begin, length in zip(begins_of(lengths).tolist(), lengths, strict=True):
        (window,) = [one for one in found if one.own_first <= begin < one.own_last]
        assert length > room or begin + length <= window.last
    for one in found[:-1]:  # a window ends within a word only where it holds nothing else
        assert one.last in begins or not begins & set(range(one.first + 1, one.last + 1))


@PROPERTY
@given(LENGTHS, ROOMS)
def test_no_window_lies_within_another(lengths, room):
    """It would cost a forward pass, and answer its words with less around them than the other has."""
    found = windows.cut(parts_of(lengths)[:, 1], room)
    for before, after in zip(found, found[1:], strict=False):
        assert before.first < after.first and before.last < after.last, (before, after)


def test_a_word_longer_than_a_window_is_read_in_pieces():
    found = windows.cut(parts_of([2, 20, 2])[:, 1], 8)
    assert [one.last - one.first <= 8 for one in found] == [True] * len(found)
    assert found[0][:2] == (0, 2) and found[-1].last == 24 and len(found) >= 4


@pytest.mark.parametrize("room", [4, 7, 8, 62, 126])
def test_windows_of_short_words_are_full_and_share_a_quarter(room):
    starts = parts_of([1] * 500)[:, 1]
    found = windows.cut(starts, room)
    for before, after in zip(found, found[1:], strict=False):
        assert before.last - before.first == room
        assert before.last - after.first == int(windows.OVERLAP * room)
        middle = (after.first + before.last) / 2
        assert abs(before.own_last - middle) < 1 and before.own_last == after.own_first
    least = int(windows.OVERLAP * room) // 2
    for one in found[1:]:  # but for its ends a text is answered with an eighth of a window around it
        assert one.own_first - one.first >= least
    for one in found[:-1]:
        assert one.last - one.own_last >= least


def test_words_of_several_tokens_share_about_a_quarter():
    lengths = np.random.default_rng(0).integers(1, 5, 400).tolist()
    found = windows.cut(parts_of(lengths)[:, 1], 64)
    begins = set(begins_of(lengths).tolist())
    for before, after in zip(found, found[1:], strict=False):
        assert {before.last, after.first, before.own_last} <= begins
        assert 16 <= before.last - after.first <= 16 + 4 and before.last - before.first > 64 - 4


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_a_text_that_fits_is_one_window(count):
    assert windows.cut(parts_of([1] * count)[:, 1], 8) == [(0, count, 0, count)]


# ---------------------------------------------------------------- what a network reads


@PROPERTY
@given(LENGTHS, st.integers(3, 24))
def test_rows_hold_the_tokens_and_ask_each_word_once(lengths, length):
    parts = parts_of(lengths)
    found = windows.rows(parts, length, SPECIAL)
    for row, window in zip(found, windows.cut(parts[:, 1], length - 2), strict=True):
        inside = parts[window.first : window.last, 0].tolist()
        padding = [0] * (length - 2 - len(inside))
        assert row.ids.tolist() == [101, *inside, 102, *padding]
        assert {one.dtype for one in row} == {np.dtype("int32")} and {len(one) for one in row} == {length}
        assert ((row.starts >= 0) == (row.ends >= 0)).all()
        assert (row.starts[[0, len(inside) + 1]] == -1).all() and (row.starts[len(inside) + 1 :] == -1).all()
    asked = [one for row in found for one in np.stack([row.starts, row.ends], 1)[row.starts >= 0].tolist()]
    assert asked == [[4 * number, 4 * number + 3] for number in range(len(lengths))]


def made(texts: list[list[int]], spans: list[list], ids, length: int) -> list[dict]:
    """The elements of texts whose words have so many tokens, with entities (first word, last word, class)."""
    most = max(1, *map(len, spans))
    arrays = {
        "spans": np.full((len(texts), most, 2), -1, np.int64),
        "classes": np.full((len(texts), most), -1, np.int64),
    }
    for row, some in enumerate(spans):
        for place, (first, last, kind) in enumerate(some):
            arrays["spans"][row, place] = 4 * first, 4 * last + 3
            arrays["classes"][row, place] = kind
    found = windows.dataset(
        [parts_of(one) for one in texts], np.array(ids, np.int64), arrays, length, SPECIAL
    )
    return list(found.as_numpy_iterator())


TEXTS = [[1, 2, 1], [], [1] * 30, [3] * 12]
SPANS = [[(0, 1, 1)], [], [(2, 3, 0), (4, 4, 0), (8, 19, 1), (29, 29, 0)], [(5, 6, 1)]]


def test_elements_are_windows_of_the_texts_asked_for_in_their_order():
    found = made(TEXTS, SPANS, [2, 0, 1], 12)
    ids = [int(one["id"]) for one in found]
    assert ids == [2, 2, 2, 2, 0, 1]
    assert {one["id"].dtype for one in found} == {np.dtype("int64")}
    for one in found:
        asked = one["starts"] >= 0
        assert ((one["label"] >= 0) == asked).all() and one["input"].shape == one["label"].shape == (12,)
        assert {one[name].dtype for name in ("input", "label", "starts", "ends")} == {np.dtype("int32")}
        assert {one[name].dtype for name in ("spans", "classes")} == {np.dtype("int64")}
    empty = found[-1]
    assert empty["input"].tolist() == [101, 102, *[0] * 10]
    assert (empty["label"] == -1).all() and (empty["spans"] == -1).all()


@pytest.mark.parametrize("length", [4, 7, 12, 40])
def test_the_whole_truth_comes_back_from_spans_and_from_labels(length):
    found = made(TEXTS, SPANS, range(4), length)
    columns = {name: np.stack([one[name] for one in found]) for name in found[0]}
    wanted = {
        (row, CLASSES[kind], 4 * first, 4 * last + 3)
        for row, some in enumerate(SPANS)
        for first, last, kind in some
    }
    table = entities.from_arrays(columns["id"], columns["spans"], columns["classes"], CLASSES)
    assert len(table) == len(wanted) == len(set(table.itertuples(index=False, name=None)) & wanted)
    seen = set()
    for row in range(4):  # spans stand in the first window alone, labels in all
        of_text = {name: values[columns["id"] == row] for name, values in columns.items()}
        assert (of_text["classes"][1:] == -1).all()
        asked = of_text["starts"] >= 0
        words = np.stack([of_text["starts"][asked], of_text["ends"][asked]], 1)
        logits = 9.0 * np.eye(tags.count(2))[of_text["label"][asked]]
        seen |= {(row, kind, start, end) for (start, end, kind), _ in tags.spans(words, logits, CLASSES)}
    assert seen == wanted


def test_of_no_texts_there_are_no_elements_but_their_form():
    parts, arrays = [parts_of([1, 1])], {"spans": np.zeros((1, 3, 2), int), "classes": np.zeros((1, 3), int)}
    found = windows.dataset(parts, np.zeros(0, np.int64), arrays, 8, SPECIAL)
    assert found.cardinality() == 0 and found.element_spec["input"] == tf.TensorSpec([8], tf.int32)
    assert found.element_spec["spans"] == tf.TensorSpec([3, 2], tf.int64)
    assert found.element_spec["id"] == tf.TensorSpec([], tf.int64)
