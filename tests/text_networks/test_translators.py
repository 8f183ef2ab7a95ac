"""The decoder sees what lies before and nothing else; the search with kept keys and values finds what one
without them finds, and greedy search is its case of one beam.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.text_networks import encoders, pieces, translators
from runner.text_networks.pieces import BEGIN, END, PADDING, UNKNOWN
from runner.text_networks.words import Columns

LENGTH = 7


@pytest.fixture(scope="module")
def known():
    return pieces.learn(["ab cd ef gh. kl mn, op"] * 3, 60)


@pytest.fixture(scope="module")
def network(known):
    """With weights far from 0, so that it is sure of something; what it says of it makes no sense."""
    keras.utils.set_random_seed(5)
    encoder = encoders.build("BERT-tiny", 200, LENGTH, 0)
    both = keras.Input((None, 2), dtype="int32", name="pairs")
    source = Columns((0,), name="source")(both)
    hidden = encoders.again(encoder.operations, {encoder.input.name: source}, encoders.same)
    joined = translators.Beside(name="beside")([hidden, Columns((1,), name="target")(both)])
    decoder = translators.Decoder(known.written, LENGTH, 2, 32, 4, 0.1, name="decoder")
    made = keras.Model(both, decoder(joined))
    random = np.random.default_rng(0)
    weights = [one + random.normal(0, 0.3, one.shape) for one in decoder.get_weights()]
    vectors = next(one for one in weights if one.shape == (len(known), 32))
    # Of many that were tried one with which translations end at different places.
    vectors[END] = np.random.default_rng(2).normal(0, 0.8, 32)
    decoder.set_weights(weights)
    return made


@pytest.fixture(scope="module")
def texts():
    """Four texts of other lengths, padded; int32 (4, LENGTH)."""
    random = np.random.default_rng(1)
    ids = random.integers(5, 200, (4, LENGTH)).astype(np.int32)
    ids[np.arange(LENGTH) >= np.array([7, 3, 5, 2])[:, None]] = 0
    return ids


def test_an_id_goes_beside_a_hidden_state_and_comes_back_in_every_precision():
    ids = np.array([[0, 1, 5, 2**15 - 1, 4096, 257]], np.int32)
    for dtype in ("float32", "bfloat16", "float16"):
        hidden = tf.cast(tf.random.normal((1, 6, 4)), dtype)
        joined = translators.Beside(dtype=dtype)([hidden, tf.constant(ids)])
        assert joined.dtype == hidden.dtype and joined.shape == (1, 6, 4 + translators.BITS)
        states, again = translators.apart(joined)
        assert np.asarray(again).tolist() == ids.tolist()
        np.testing.assert_array_equal(tf.cast(states, tf.float32), tf.cast(hidden, tf.float32))


def test_a_piece_is_told_from_those_before_it_and_padding_changes_nothing(network, texts):
    random = np.random.default_rng(2)
    target = random.integers(4, 20, texts.shape).astype(np.int32)
    logits = np.asarray(network(np.stack([texts, target], -1)))
    later = target.copy()
    later[:, 5:] = 7
    changed = np.asarray(network(np.stack([texts, later], -1)))
    np.testing.assert_allclose(changed[:, :5], logits[:, :5], atol=1e-5)
    assert np.abs(changed[:, 5:] - logits[:, 5:]).max() > 0.1
    shorter = np.stack([texts[1:2, :3], target[1:2, :3]], -1)
    np.testing.assert_allclose(network(shorter), logits[1:2, :3], atol=1e-5)
    other = texts.copy()
    other[0, 6] = 9
    assert np.abs(np.asarray(network(np.stack([other, target], -1))) - logits)[0, 0].max() > 1e-3


def told(network, text: np.ndarray, begun: list[int]) -> np.ndarray:
    """Log-probabilities of the next piece, by the whole network on all that was written, nothing kept."""
    target = np.full(LENGTH, PADDING, np.int32)
    target[: len(begun) + 1] = [BEGIN, *begun]
    logits = np.asarray(network(np.stack([text, target], -1)[None]), np.float64)[0, len(begun)]
    chances = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    chances[[PADDING, BEGIN, UNKNOWN]] = -np.inf
    return chances


def plain_search(network, text: np.ndarray, beams: int) -> tuple[list[int], float]:
    """What `translators.search` says it does, beginning by beginning."""
    live = [([], 0.0)]
    for _ in range(LENGTH):
        every = []
        for begun, total in live:
            if begun and begun[-1] == END:
                every.append((begun, total))
                continue
            every += [([*begun, piece], total + one) for piece, one in enumerate(told(network, text, begun))]
        live = sorted(every, key=lambda one: -one[1])[:beams]
        if all(begun[-1] == END for begun, _ in live):
            break
    ended = [one for one in live if one[0][-1] == END] or live
    return max(((begun, total / len(begun)) for begun, total in ended), key=lambda one: one[1])


@pytest.mark.parametrize("beams", [1, 3])
def test_the_search_finds_what_one_finds_that_keeps_nothing(network, texts, beams):
    decoder, hidden = translators.decoder_of(network), translators.encoded(network)
    states = keras.Model(network.input, hidden)(np.stack([texts, 0 * texts], -1))
    search = tf.function(lambda one: translators.search(decoder, one, beams, LENGTH), autograph=False)
    ids, mean = (one.numpy() for one in search(states))
    lengths = set()
    whole = tf.function(network, input_signature=[tf.TensorSpec((None, LENGTH, 2), tf.int32)])
    for row, text in enumerate(texts):
        expected, score = plain_search(whole, text, beams)
        assert [one for one in ids[row].tolist() if one != PADDING] == expected
        assert mean[row] == pytest.approx(score, abs=1e-4)
        lengths.add(len(expected))
    assert len(lengths) > 1  # some end sooner than others
    again, _ = search(states)
    assert search.experimental_get_tracing_count() == 1 and (again.numpy() == ids).all()


def test_a_copy_writes_the_same_and_is_saved_with_its_pieces(network, texts, tmp_path):
    decoder, hidden = translators.decoder_of(network), translators.encoded(network)
    ids = keras.Input((None,), dtype="int32", name="tokens")
    operations = keras.Model(network.input, hidden).operations
    states = encoders.again(operations, {"source": ids}, encoders.same)
    outputs = translators.translations(translators.copy(decoder, states.shape[-1]), states, 2, LENGTH)
    keras.Model(ids, outputs).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    before = keras.Model(network.input, hidden)(np.stack([texts, 0 * texts], -1))
    wanted, mean = translators.search(decoder, before, 2, LENGTH)
    answers = loaded(tf.constant(texts))
    known = pieces.Pieces(decoder.pieces)
    assert [one.decode() for one in answers["translation"].numpy()] == [
        known.decode(row) for row in wanted.numpy()
    ]
    np.testing.assert_allclose(answers["score"], np.exp(mean), atol=1e-5)
    assert translators.decoder_of(loaded).get_config()["pieces"] == decoder.pieces
