"""Word vectors of a file become an encoder that knows whole words."""

import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.text_networks import encoders, marking, text_weights, tokens, vectors

LINES = ["the 1 0 0.5", "cat 0 1 0", ", 0.5 0.5 0.5", "New York -1 2 3", "cat 9 9 9", "café 1 1 1"]


def written(folder, lines, name="small.txt"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("head", [[], ["6 3"]])
def test_the_three_forms_are_read(tmp_path, head):
    words, matrix = vectors.read(written(tmp_path, head + LINES))
    assert words == ["the", "cat", ",", "New York", "café"]
    np.testing.assert_array_equal(matrix[[0, 1, 3]], [[1, 0, 0.5], [0, 1, 0], [-1, 2, 3]])


def test_the_most_frequent_words_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "MOST", 2)
    assert vectors.read(written(tmp_path, LINES))[0] == ["the", "cat"]


@pytest.mark.parametrize(
    "lines, words",
    [
        (["the 1 2", "cat 1"], "line 2"),
        (["the 1 x"], "could not convert"),
        (["the 1 nan"], "line 1 has a number that is none"),
        (["the"], "line 1"),
        ([], "line 1"),
    ],
)
def test_what_is_no_file_of_vectors_is_one_line(tmp_path, lines, words):
    with pytest.raises(InputError, match=words) as error:
        vectors.read(written(tmp_path, lines))
    assert "a word and its numbers in each line" in str(error.value) and "\n" not in str(error.value)


def test_a_word_that_the_file_lacks_counts_nothing(tmp_path):
    path = written(tmp_path, [line for line in LINES if "York" not in line])
    tokenizer = text_weights.tokenizer(path)
    network = text_weights.build("auto", path, 16, tokenizer)
    assert [block.name for block in encoders.blocks(network)] == [
        "embeddings"
    ] and network.name == "word-vectors"
    ids = tokens.Tokens(tokenizer, 8)(tf.constant(["The CAT, xylophone café", "xylophone"]))
    mean = marking.MeanOfTokens()(network(ids))
    np.testing.assert_allclose(mean[0], np.mean([[1, 0, 0.5], [0, 1, 0], [0.5] * 3, [1, 1, 1]], axis=0))
    np.testing.assert_array_equal(mean[1], [0, 0, 0])
    lengths, unknown = tokens.counts(tokenizer, ["The CAT, xylophone", ""])
    assert lengths.tolist() == [6, 2] and unknown.tolist() == [1, 0]


def test_capitals_count_where_a_word_of_the_file_has_one(tmp_path):
    tokenizer = vectors.tokenizer(written(tmp_path, ["the 1 0", "May 0 1"], "cased.vec"))
    assert tokens.counts(tokenizer, ["May may"])[1].tolist() == [1]


def test_names_and_weights_go_together(tmp_path):
    path = written(tmp_path, LINES)
    tokenizer = text_weights.tokenizer(path)
    assert text_weights.build("word-vectors", path, 8, tokenizer).count_params() == 10 * 3
    with pytest.raises(InputError, match="are of word-vectors, not MiniLM-L6: give backbone 'auto'"):
        text_weights.build("MiniLM-L6", path, 8, tokenizer)
    with pytest.raises(InputError, match="Unknown encoder 'word-vectors'"):
        text_weights.build("word-vectors", "none", 8, tokenizer)


def test_the_first_layer_of_any_encoder_has_the_tokens_vectors():
    for name in ("BERT-tiny", "ELECTRA-small"):
        encoder = encoders.build(name, 50, 8)
        table = encoders.vectors_of(encoder)
        assert table.shape[0] == 50
        np.testing.assert_array_equal(table, encoder.get_layer("token_embedding").get_weights()[0])
