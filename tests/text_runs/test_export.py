"""A network of texts as others run it: with its tokenizer, or on token ids with what makes them beside it."""

import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from tokenizers import ByteLevelBPETokenizer

from runner.text_networks import encoders, marking, tokens
from runner.text_runs import export

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "short", "one", ".", "##s", "two"]
SAID = ["a short one.", "", "two " * 20, "twos\u00a0a unknown"]


@pytest.fixture(scope="module")
def network():
    """A small encoder with a head, for texts of at most 8 tokens."""
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8}
    backbone = keras_hub.models.BertBackbone(vocabulary_size=len(WORDS), max_sequence_length=16, **sizes)
    encoder = encoders.copy(backbone, 8, "small")
    text = keras.Input((), dtype="string", name="text")
    ids = tokens.Tokens(keras_hub.models.BertTokenizer(WORDS, lowercase=True), 8, name="tokenizer")(text)
    hidden = encoders.again(encoder.operations, {encoder.input.name: ids}, encoders.same)
    return keras.Model(text, keras.layers.Dense(2, name="head")(marking.MeanOfTokens(name="pool")(hidden)))


@pytest.mark.parametrize("length", [8, None])
def test_on_token_ids_it_answers_as_on_texts(network, length):
    ids = network.get_layer("tokenizer")(tf.constant(SAID))
    of_ids = export.of_ids(network, length)
    assert of_ids.input.shape == (None, length) and of_ids.input.dtype == "int32"
    assert np.array_equal(of_ids(ids), network(tf.constant(SAID)))


def test_what_stands_beside_is_enough_to_make_the_ids(network):
    """Here without KerasHub: cleaned, in lower case, split at spaces, the longest pieces first."""
    layer = network.get_layer("tokenizer")
    said, words = json.loads(json.dumps(export.how(layer))), list(layer.tokenizer.get_vocabulary())
    assert said["tokenizer"] == "BertTokenizer" and said["before"] == tokens.CLEANED
    number = {word: place for place, word in enumerate(words)}

    def pieces(word: str) -> list[int]:
        found, begin = [], 0
        while begin < len(word):
            mark = said["suffix_indicator"] * (begin > 0)
            ends = [end for end in range(len(word), begin, -1) if mark + word[begin:end] in number]
            if not ends:
                return [number[said["oov_token"]]]
            found.append(number[mark + word[begin : ends[0]]])
            begin = ends[0]
        return found

    for text, expected in zip(SAID, layer(tf.constant(SAID)).numpy().tolist(), strict=True):
        plain = text.replace("\u00a0", " ").replace(".", " . ")
        ids = [one for word in plain.lower().split() for one in pieces(word)][: said["length"] - 2]
        row = [said["start"], *ids, said["end"]]
        assert row + [said["padding"]] * (said["length"] - len(row)) == expected


def test_of_byte_pairs_the_files_beside_are_what_other_tokenizers_read(tmp_path):
    text = "the cat and the hat, a naïve one: the end"
    made = ByteLevelBPETokenizer()
    made.train_from_iterator([text], vocab_size=280, special_tokens=["<|endoftext|>"], show_progress=False)
    made.save_model(str(tmp_path))
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    merges = (tmp_path / "merges.txt").read_text().splitlines()[1:]
    pairs = keras_hub.models.GPT2Tokenizer(vocabulary, merges)
    export.write_vocabulary(pairs, tmp_path)
    again = ByteLevelBPETokenizer(str(tmp_path / "vocabulary.json"), str(tmp_path / "merges.txt"))
    layer = tokens.Tokens(pairs, 24, ended=False)
    row = np.asarray(layer(tf.constant([text])))[0].tolist()
    said = export.how(layer)
    assert row == ([said["start"], *again.encode(text).ids])[:24] and "before" not in said


@pytest.mark.slow
def test_a_run_is_exported_with_and_without_its_tokenizer(network, tmp_path):
    network.save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.json").write_text(json.dumps({"classes": ["x", "y"], "temperature": 2.0}))
    found = export.run(tmp_path, ["savedmodel", "litert"])
    assert len(found) == 2 and max(found.values()) < 1e-4
    place = tmp_path / "export"
    assert (place / export.VOCABULARY).read_text().splitlines() == WORDS
    beside = json.loads((place / "decision.json").read_text())
    assert beside["classes"] == ["x", "y"] and beside["temperature"] == 2 and beside["length"] == 8
