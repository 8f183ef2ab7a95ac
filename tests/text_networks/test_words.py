"""Word by word a text has the tokens that it has as a whole, and each word stands where it says."""

import re
import tempfile

import hypothesis
import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.text_networks import text_weights, tokens, words
from tests.text_networks.test_tokens import PIECES, TEXTS, WORDS

hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # else it makes .hypothesis here
PROPERTY = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def small():
    return keras_hub.models.BertTokenizer(WORDS, lowercase=True, strip_accents=True)


@pytest.fixture(scope="module")
def minilm():
    return text_weights.tokenizer("minilm")


LETTERS = [*map(chr, range(33, 127)), "Ġ", "Ċ", "Â", "ł", "Ã", "©", "ð", "Ł", "ĺ", "Ģ"]


@pytest.fixture(scope="module")
def pairs():
    """A small tokenizer of byte pairs, which knows the letters and signs of ASCII and some bytes beyond."""
    merges = ["r e", "c a", "Ġ re", "Ġ ca", "' s"]
    vocabulary = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "<mask>",
        *LETTERS,
        *(one.replace(" ", "") for one in merges),
    ]
    numbers = {name: number for number, name in enumerate(vocabulary)}
    return keras_hub.models.RobertaTokenizer(vocabulary=numbers, merges=merges)


def whole(tokenizer, texts) -> list[list[int]]:
    return tokens.graph(tokenizer)(tf.constant(texts)).to_list()


def said(tokenizer, text: str) -> list[str]:
    """What the words of a text read."""
    (found,) = words.in_memory(tokenizer, [text])
    return [text[start:end] for _, start, end in found.tolist() if start >= 0]


def differ(tokenizer, texts) -> dict[str, tuple]:
    """The texts whose tokens are others word by word, with both."""
    both = zip(texts, whole(tokenizer, texts), words.in_memory(tokenizer, texts), strict=True)
    return {ascii(text): (ids, part[:, 0].tolist()) for text, ids, part in both if ids != part[:, 0].tolist()}


# ---------------------------------------------------------------- the tokens


@pytest.mark.parametrize("which", ["small", "minilm"])
def test_word_by_word_the_tokens_are_those_of_the_whole_text(which, request):
    assert differ(request.getfixturevalue(which), [*TEXTS, *("".join(PIECES[i::7]) for i in range(7))]) == {}


@pytest.mark.parametrize("text", ["the\x0ccat", "the \x0c cat", "the\x0bcat", "the\x1ccat", "the\x85cat"])
def test_a_form_feed_and_other_controls_part_words_here_as_in_the_whole_text(small, text):
    assert differ(small, [text]) == {}


def test_what_stands_behind_a_nul_is_not_lost(small):
    """Whatever the tokens are: a network that is called with a text reads all of it."""
    assert "dog" in said(small, "the cat\0eats the dog")


PAIRED = [
    "read",
    " read cat",
    "The cat's re-read: 12 cats, don't!",
    "re\u00a0d caf\u00e9 \U0001f600",
    "we'll you've I'm they'd 'tis o'clock",
    "abc123def #tag @you a_b $3.50",
    "",
]


@pytest.mark.slow
def test_byte_pairs_keep_the_space_before_a_word_and_find_the_word_without_it(pairs):
    assert differ(pairs, PAIRED) == {}
    assert said(pairs, " read cat") == ["read", "cat"]
    assert said(pairs, "The cat's re-read: 12 cats, don't!") == [
        *("The", "cat", "'s", "re", "-", "read", ":", "12", "cats", ",", "don", "'t", "!")
    ]
    assert said(pairs, "caf\u00e9 \U0001f600") == ["caf\u00e9", "\U0001f600"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["read  cat", "read\ncat"])
def test_byte_pairs_of_white_space_alone_are_tokens_too(pairs, text):
    """RoBERTa was trained with them."""
    assert differ(pairs, [text]) == {}


def test_many_texts_at_once_are_as_each_alone(small):
    texts = [TEXTS[i % len(TEXTS)][:40] for i in range(2 * len(TEXTS))]
    at_once, alone = (
        words.in_memory(small, texts, at_once=7),
        [words.in_memory(small, [one]) for one in texts],
    )
    assert words.in_memory(small, []) == []
    for one, (other,) in zip(at_once, alone, strict=True):
        assert one.dtype == np.int64 and one.shape[1] == 3
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- where words stand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café crème, naïve!", ["Café", "crème", ",", "naïve", "!"]),
        ("a\u0301b e\u0300 cat", ["a\u0301b", "e\u0300", "cat"]),
        ("İstanbul ßtraße ﬁn", ["İstanbul", "ßtraße", "ﬁn"]),
        ("中文cat 日本", ["中", "文", "cat", "日", "本"]),
        ("\U00020000cat", ["\U00020000", "cat"]),
        ("😀 cat😀 👨‍👩‍👧 🇩🇪x", ["😀", "cat😀", "👨‍👩‍👧", "🇩🇪x"]),
        ("two\u00a0words\u2003more\u2028lines\u3000here", ["two", "words", "more", "lines", "here"]),
        ("soft\u00adhyphen zero\u200bwidth", ["soft\u00adhyphen", "zero\u200bwidth"]),
        ("don't e.g. $3", ["don", "'", "t", "e", ".", "g", ".", "$", "3"]),
        ("“so” – «fr» ¿qué?", ["“", "so", "”", "–", "«", "fr", "»", "¿", "qué", "?"]),
        ("  cat \r\n dog\t", ["cat", "dog"]),
        ("Привет, мир עברית हिन्दी", ["Привет", ",", "мир", "עברית", "हिन्दी"]),
        ("x" * 300 + " cat", ["x" * 300, "cat"]),
        ("", []),
        (" \t\r\n", []),
        ("\u200b \u00ad \x07", []),
    ],
)
def test_starts_and_ends_cut_out_the_word_that_a_person_sees(small, text, expected):
    assert said(small, text) == expected


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b"])
def test_what_nobody_sees_at_the_ends_of_a_word_is_no_part_of_it(small, mark):
    """Else the entity "cat", marked to the character, were not to be found behind it."""
    assert said(small, f"the {mark}cat dog{mark} eat") == ["the", "cat", "dog", "eat"]


def test_a_token_within_a_word_begins_none(small):
    (found,) = words.in_memory(small, ["The cats eat"])
    names = [small.id_to_token(one) for one in found[:, 0].tolist()]
    assert names == ["the", "cat", "##s", "eat"]
    assert found[:, 1].tolist() == [0, 4, -1, 9] and found[:, 2].tolist() == [3, 8, -1, 12]


@pytest.mark.parametrize("which", ["small", pytest.param("pairs", marks=pytest.mark.slow)])
def test_bytes_that_are_no_text_do_not_stop_it(which, request):
    broken = [b"the cat \xff\xfe dog \xf0\x9f\x98 the", b"\xe9", b"na\xefve cat", b"\x80\x80", b"cat\xc3"]
    for raw, found in zip(broken, words.in_memory(request.getfixturevalue(which), broken), strict=True):
        starts, ends = found[found[:, 1] >= 0, 1:].T
        assert (starts < ends).all() and (starts[1:] >= ends[:-1]).all() and (ends <= len(raw)).all()


WRITTEN = st.lists(
    st.text(max_size=12)
    | st.sampled_from(WORDS[5:])
    | st.sampled_from(PIECES)
    | st.sampled_from(" \n\t\u00a0\u3000\u00ad\u0301\u0338=<>'😀中"),
    max_size=12,
).map("".join)
# Two controls that have tests of their own.
ORDINARY = WRITTEN.map(lambda text: re.sub("[\x0c\0]", "", text))
CONTROLS = dict.fromkeys([*range(32), *range(0x7F, 0xA0)])


@pytest.mark.parametrize("which", ["small", "minilm", pytest.param("pairs", marks=pytest.mark.slow)])
def test_whatever_stands_there_words_ascend_and_hold_no_space(which, request):
    tokenizer = request.getfixturevalue(which)

    @PROPERTY
    @given(st.lists(ORDINARY, min_size=1, max_size=8))
    def holds(texts):
        if which != "pairs":
            assert differ(tokenizer, texts) == {}
        for text, found in zip(texts, words.in_memory(tokenizer, texts), strict=True):
            first = found[:, 1] >= 0
            assert (found[~first, 1:] == -1).all() and (not len(first) or first[0])
            starts, ends = found[first, 1:].T
            assert (starts < ends).all() and (starts[1:] >= ends[:-1]).all() and (ends <= len(text)).all()
            if which != "pairs":  # of byte pairs spaces beyond ASCII are signs
                forms = [text[start:end].translate(CONTROLS) for start, end in found[first, 1:]]
                assert not any(re.search(r"\s", form) for form in forms), forms

    holds()


# ---------------------------------------------------------------- as a layer


def network_of(tokenizer, length: int) -> keras.Model:
    text = keras.Input((), dtype="string", name="text")
    packed = words.Words(tokenizer, length, name="tokenizer")(text)
    outputs = {
        "ids": words.Columns((0,), name="ids")(packed),
        "words": words.Columns((1, 2), name="words")(packed),
        "ends": words.Columns((2,), name="ends")(packed),
    }
    return keras.Model(text, outputs)


def test_a_row_has_beginning_words_end_and_padding(small):
    layer = words.Words(small, 6)
    found = layer(tf.constant(["The cats", "", "中 cat dog eat . the", "Café"])).numpy()
    assert found.dtype == "int32" and found.shape == (4, 6, 3)
    assert found[..., 0].tolist() == [
        [2, 5, 6, 9, 3, 0],
        [2, 3, 0, 0, 0, 0],
        [2, 12, 6, 7, 8, 3],
        [2, 10, 3, 0, 0, 0],
    ]
    assert found[0, :, 1].tolist() == [-1, 0, 4, -1, -1, -1]
    assert found[0, :, 2].tolist() == [-1, 3, 8, -1, -1, -1]
    assert (found[1, :, 1:] == -1).all()
    assert found[2, :, 1:].tolist() == [[-1, -1], [0, 1], [2, 5], [6, 9], [10, 13], [-1, -1]]
    same = tokens.Tokens(small, 6)(tf.constant(TEXTS)).numpy()
    np.testing.assert_array_equal(layer(tf.constant(TEXTS)).numpy()[..., 0], same)


def test_columns_are_one_or_several_that_follow_each_other():
    packed = tf.reshape(tf.range(2 * 4 * 3), (2, 4, 3))
    np.testing.assert_array_equal(words.Columns((0,))(packed), packed[..., 0])
    np.testing.assert_array_equal(words.Columns((2,))(packed), packed[..., 2])
    np.testing.assert_array_equal(words.Columns((1, 2))(packed), packed[..., 1:])
    again = words.Columns.from_config(words.Columns((1, 2), name="words").get_config())
    assert again.columns == (1, 2) and again.name == "words"


@pytest.mark.parametrize("which", ["small", pytest.param("pairs", marks=pytest.mark.slow)])
def test_saved_with_its_tokenizer_it_gives_the_same(which, request, tmp_path):
    tokenizer = request.getfixturevalue(which)
    network = network_of(tokenizer, 9)
    assert network.output["words"].shape == (None, 9, 2) and network.output["ids"].dtype == "int32"
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    texts = tf.constant([*TEXTS, *PAIRED])
    expected = words.in_memory(tokenizer, [*TEXTS, *PAIRED])
    for model in (network, loaded):
        found = {name: np.asarray(value) for name, value in model(texts).items()}
        for row, part in enumerate(expected):
            count = min(len(part), 7)
            np.testing.assert_array_equal(found["ids"][row, 1 : 1 + count], part[:7, 0])
            np.testing.assert_array_equal(found["words"][row, 1 : 1 + count], part[:7, 1:])
            assert (found["words"][row, 1 + count :] == -1).all() and (found["words"][row, 0] == -1).all()
        np.testing.assert_array_equal(found["ends"], found["words"][..., 1])
    layer = loaded.get_layer("tokenizer")
    assert layer.length == 9 and tokens.digest(layer.tokenizer) == tokens.digest(tokenizer)


def test_in_the_graph_of_a_dataset_it_gives_the_same(small):
    layer = words.Words(small, 8)
    batches = tf.data.Dataset.from_tensor_slices(TEXTS).batch(5).map(layer)
    assert batches.element_spec.shape.as_list() == [None, 8, 3]
    found = np.concatenate(list(batches.as_numpy_iterator()))
    np.testing.assert_array_equal(found, layer(tf.constant(TEXTS)))
