"""Texts become the ids that the published tokenizer gives, whatever characters are in them."""

import subprocess
import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
import tokenizers

from runner.text_networks import encoders, marking, text_weights, tokens

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "eat", "##s", "cafe", ".", "中"]
TEXTS = [
    "The weather is lovely today.",
    "Café crème à la carte, naïve Ångström ÀÉÎÕÜ",
    "a\u0301 e\u0300 decomposed",
    "UPPER lower MiXeD İstanbul",
    "你好世界 日本語テキスト and 中文",
    "Привет, мир! Ελληνικά עברית العربية हिन्दी",
    "I love it😀😀 👍🏽 👨‍👩‍👧 🇩🇪",
    "",
    " \t\r\n  ",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "x" * 5000,
    "don't stop-it's e.g. $3.50 @you #tag 50% `^~+<=>|",
    "“quoted” — ‘so’ – «fr» ¿qué? 5€ 3£",
    "two\u00a0words, \u2003more\u2028lines\u3000here\u202fthere",
    "zero\u200bwidth \u200djoined\ufeff soft\u00adhyphen \u202ertl\u202c",
    "bell\x07 escape\x1b[0m delete\x7f next\x85line \ufffd",
    "one two three four five six seven eight nine ten " * 9,
]


@pytest.fixture(scope="module")
def minilm():
    """MiniLM's tokenizer here, and as its publishers have it."""
    published = tokenizers.Tokenizer.from_file(str(text_weights.minilm() / "tokenizer.json"))
    published.no_truncation()
    published.no_padding()
    return text_weights.tokenizer("minilm"), published


@pytest.fixture(scope="module")
def small():
    return keras_hub.models.BertTokenizer(WORDS, lowercase=True, strip_accents=True)


@pytest.fixture(scope="module")
def pairs():
    """A small tokenizer of byte pairs, as RoBERTa's is."""
    vocabulary = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "<mask>",
        "r",
        "e",
        "a",
        "d",
        "Ġ",
        "c",
        "t",
        "re",
        "ca",
        "Â",
        "ł",
    ]
    vocabulary = {name: number for number, name in enumerate(vocabulary)}
    return keras_hub.models.RobertaTokenizer(vocabulary=vocabulary, merges=["r e", "c a"])


# ---------------------------------------------------------------- the ids


def test_the_tokens_are_those_of_the_published_tokenizer(minilm):
    tokenizer, published = minilm
    expected = [one.ids for one in published.encode_batch(TEXTS)]
    assert tokens.lengths(tokenizer, TEXTS).tolist() == [len(one) for one in expected]
    for length in (3, 16, 128):
        published.enable_truncation(length)
        published.enable_padding(length=length)
        rows = [one.ids for one in published.encode_batch(TEXTS)]
        published.no_truncation()
        published.no_padding()
        found = np.asarray(tokens.Tokens(tokenizer, length)(tf.constant(TEXTS)))
        for text, one, other in zip(TEXTS, found.tolist(), rows, strict=True):
            assert one == other, f"{text[:40]!r} at {length}"


PIECES = [
    *map(chr, range(1, 0x250)),
    *"…—“”€中日😀👍\u0301\u0308\u200b\u200d\u2028\u3000\ufeff\ufffd",
    *" " * 200,
    *"aeinrst" * 20,
]
KNOWN = set("ßſŉĲĳĿŀǄǅǆǇǈǉǊǋǌǱǲǳªº²³¹¼½¾µ¨´¯¸…")
"""What Unicode folds into other characters and the published tokenizer leaves as it is."""


def test_any_characters_become_the_published_tokens(minilm):
    """Random texts of Latin letters, signs, spaces, controls, accents apart, emoji and Chinese."""
    tokenizer, published = minilm
    random, pool = np.random.default_rng(0), [one for one in PIECES if one not in KNOWN]
    texts = ["".join(random.choice(pool, random.integers(1, 60))) for _ in range(600)]
    found = tokens.Tokens(tokenizer, 160)(tf.constant(texts)).numpy()
    for text, row in zip(texts, found.tolist(), strict=True):
        expected = published.encode(text).ids
        assert row[: len(expected)] == expected and not any(row[len(expected) :]), ascii(text)


def test_beginning_end_and_padding(small):
    assert tokens.special(small) == (2, 3, 0)
    found = tokens.Tokens(small, 6)(
        tf.constant(["The CAT eats.", "", "Café", "dog dog dog dog dog", "中cat"])
    )
    assert found.dtype == "int32" and found.numpy().tolist() == [
        [2, 5, 6, 8, 9, 3],
        [2, 3, 0, 0, 0, 0],
        [2, 10, 3, 0, 0, 0],
        [2, 7, 7, 7, 7, 3],
        [2, 12, 6, 3, 0, 0],
    ]
    assert tokens.Tokens(small, 2)(tf.constant(["cat"])).numpy().tolist() == [[2, 3]]


@pytest.mark.slow
def test_byte_pairs_have_other_specials_and_keep_every_character(pairs):
    """Cleaning is BERT's: here a no-break space is its two bytes, which the vocabulary has as letters."""
    assert tokens.special(pairs) == (0, 2, 1)
    found = tokens.Tokens(pairs, 6)(tf.constant(["read", "", "read read", "re\u00a0d"])).numpy()
    assert found.tolist() == [
        [0, 12, 7, 8, 2, 1],
        [0, 2, 1, 1, 1, 1],
        [0, 12, 7, 8, 9, 2],
        [0, 12, 14, 15, 8, 2],
    ]


def test_lengths_count_what_would_not_fit_too(small):
    texts = ["cat", "", "dog " * 300, "The cat eats."]
    found = tokens.lengths(small, texts, at_once=3)
    assert found.dtype == np.int64 and found.tolist() == [3, 2, 302, 7]
    assert tokens.lengths(small, []).shape == (0,)


def test_in_the_graph_of_a_dataset_and_of_a_model(small):
    texts = ["cat", "the dog eats", "", "dog " * 20, "."]
    layer = tokens.Tokens(small, 8)
    expected = layer(tf.constant(texts)).numpy()
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(layer)
    assert batches.element_spec.shape.as_list() == [None, 8]
    assert np.array_equal(np.concatenate(list(batches.as_numpy_iterator())), expected)
    text = keras.Input((), dtype="string")
    network = keras.Model(text, layer(text))
    assert network.output.shape == (None, 8) and network.output.dtype == "int32"
    assert np.array_equal(network(tf.constant(texts)), expected)
    assert np.array_equal(network.predict(tf.constant(texts), batch_size=2, verbose=0), expected)


def test_a_digest_is_of_vocabulary_and_settings(small, pairs):
    digest = tokens.digest(small)
    again = keras_hub.models.BertTokenizer(WORDS, lowercase=True, strip_accents=True, name="another")
    assert tokens.digest(again) == digest and len(digest) == 64
    others = [
        keras_hub.models.BertTokenizer([*WORDS[:-1], "国"], lowercase=True, strip_accents=True),
        keras_hub.models.BertTokenizer(WORDS, lowercase=True),
        keras_hub.models.DistilBertTokenizer(WORDS, strip_accents=True),
        pairs,
    ]
    assert len({digest, *map(tokens.digest, others)}) == 5


# ---------------------------------------------------------------- saved with the network


def network_of_texts(tokenizer) -> keras.Model:
    sizes = {
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 8,
        "max_sequence_length": 16,
    }
    backbone = keras_hub.models.BertBackbone(vocabulary_size=tokenizer.vocabulary_size(), **sizes)
    backbone.set_weights(
        [one + np.random.default_rng(1).normal(size=one.shape) for one in backbone.get_weights()]
    )
    encoder = encoders.copy(backbone, 16, "small", tokenizer.pad_token_id)
    text = keras.Input((), dtype="string", name="text")
    ids = tokens.Tokens(tokenizer, 16, name="tokenizer")(text)
    hidden = encoders.again(encoder.operations, {encoder.input.name: ids}, encoders.same)
    return keras.Model(text, keras.layers.Dense(3, name="head")(marking.MeanOfTokens(name="pool")(hidden)))


SAID = ["The cat eats.", "", "Café\u00a0dog 中 unknown", "dog " * 40]


@pytest.mark.parametrize("which", ["small", pytest.param("pairs", marks=pytest.mark.slow)])
def test_the_tokenizer_is_a_part_of_the_saved_network(which, request, tmp_path):
    network = network_of_texts(request.getfixturevalue(which))
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert np.array_equal(network(tf.constant(SAID)), loaded(tf.constant(SAID)))
    layers = [[one for one in model.layers if isinstance(one, tokens.Tokens)] for model in (network, loaded)]
    (first,), (second,) = layers
    assert tokens.digest(first.tokenizer) == tokens.digest(second.tokenizer) and second.length == 16


FRESH = """
import sys
import runner.text_networks.marking, runner.text_networks.tokens
import keras, numpy as np, tensorflow as tf
texts = tf.constant(np.load(sys.argv[1]).tolist())
for folder in sys.argv[2:]:
    network = keras.models.load_model(folder + "/model.keras", compile=False)
    np.save(folder + "/logits.npy", network(texts))
loaded = {name.split(".")[1] for name in sys.modules if name.startswith("runner.")}
assert loaded == {"networks"}, loaded
"""


@pytest.mark.slow
def test_in_a_fresh_process_two_imports_are_enough(small, pairs, tmp_path):
    networks = {name: network_of_texts(one) for name, one in (("small", small), ("pairs", pairs))}
    for name, network in networks.items():
        (tmp_path / name).mkdir()
        network.save(tmp_path / name / "model.keras")
    np.save(tmp_path / "texts.npy", np.array(SAID))
    given = [str(tmp_path / name) for name in ("texts.npy", *networks)]
    done = subprocess.run([sys.executable, "-c", FRESH, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, network in networks.items():
        assert np.array_equal(np.load(tmp_path / name / "logits.npy"), network(tf.constant(SAID)))
