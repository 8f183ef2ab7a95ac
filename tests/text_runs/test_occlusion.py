"""What a word did is what the answer loses without it, and of an answer that hangs on one word it is that."""

import keras
import keras_hub
import numpy as np
import pytest
import scipy.special

from runner.text_networks.tokens import Tokens
from runner.text_runs import occlusion

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "so", "good", "bad", "!"]


@pytest.fixture(scope="module")
def network():
    """Logits 0 and what the words weigh: good 3, bad -2, all others nothing."""
    text = keras.Input((), dtype="string")
    ids = Tokens(keras_hub.models.BertTokenizer(WORDS, lowercase=True), 300)(text)
    embedding = keras.layers.Embedding(len(WORDS), 2)
    network = keras.Model(text, keras.ops.sum(embedding(ids), axis=1))
    weights = {"good": 3.0, "bad": -2.0}
    embedding.set_weights([np.array([[0, weights.get(word, 0)] for word in WORDS], "float32")])
    return network


def effects(found) -> np.ndarray:
    return np.array([effect for _, effect in found])


def test_the_word_that_decides_has_the_effect_and_others_none(network):
    """Of two classes the log-odds are the difference of the logits, and the effect is the word's weight."""
    found = occlusion.explain(network, " A  film\nso GOOD, so", 1)
    assert [word for word, _ in found] == ["A", "film", "so", "GOOD,", "so"]
    assert effects(found) == pytest.approx([0, 0, 0, 3, 0], abs=1e-6)


def test_words_for_and_against(network):
    for answer, sign in ((1, 1), (0, -1)):
        found = effects(occlusion.explain(network, "good bad film", answer))
        assert sign * found == pytest.approx([3, -2, 0], abs=1e-6)
    warm = effects(occlusion.explain(network, "good film", 1, temperature=4.0))
    assert warm == pytest.approx([0.75, 0], abs=1e-6)


def test_a_word_that_stands_twice_counts_each_time_alone_and_where_p_hardly_moves(network):
    found = effects(occlusion.explain(network, "good " * 20, 1))  # p is 1 but for 1e-26 with and without
    assert found == pytest.approx([3] * 20, abs=1e-4)


def test_texts_of_no_word_of_one_and_of_more_than_are_left_out(network):
    assert occlusion.explain(network, " \n", 1) == []
    assert occlusion.explain(network, "good", 1) == [("good", pytest.approx(3, abs=1e-6))]
    said = " ".join(["film"] * occlusion.MOST + ["good"] * 9)
    found = occlusion.explain(network, said, 1, batch_size=7)
    assert len(found) == occlusion.MOST + 9 and all(effect == 0 for _, effect in found[occlusion.MOST :])
    assert [word for word, _ in found] == said.split()


def test_log_odds_are_of_a_class_against_all_others(network):
    said = ["good", "", "bad bad", "film", "good bad"]
    found = occlusion.log_odds(network, said, temperature=2.0, batch_size=2)
    assert found.dtype == "float64" and found[:, 1] == pytest.approx([1.5, 0, -2, 0, 0.5], abs=1e-6)
    assert found[:, 0] == pytest.approx(-found[:, 1])
    text = keras.Input((), dtype="string")
    three = keras.Model(text, keras.ops.concatenate([network(text), 0 * network(text)[:, :1]], axis=1))
    p = scipy.special.softmax([0, 3, 0])
    expected = np.log(p / (1 - p))
    assert occlusion.log_odds(three, ["good"])[0] == pytest.approx(expected, abs=1e-6)
