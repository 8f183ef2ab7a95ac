"""Padding is told from tokens by zeros alone, in every layer, and after a network was saved."""

import keras
import numpy as np
from keras import ops

from runner.text_networks import marking

HIDDEN = np.array([[[1, 2], [0, 3], [0, 0]], [[-1, 1], [0, 0], [5, 5]], [[0, 0]] * 3], "float32")
THERE = np.array([[True, True, False], [True, False, True], [False] * 3])


def test_a_token_is_there_where_any_number_is():
    assert np.array_equal(marking.present(ops.convert_to_tensor(HIDDEN)), THERE)


def test_the_mean_is_of_tokens_alone():
    found = np.asarray(marking.MeanOfTokens()(HIDDEN))
    assert np.array_equal(found, np.array([[0.5, 2.5], [2, 3], [0, 0]], "float32"))
    half = marking.MeanOfTokens(dtype="float16")(ops.cast(60_000 * np.sign(HIDDEN), "float16"))
    assert half.dtype == "float32" and np.asarray(half)[0].tolist() == [
        30_000,
        60_000,
    ]  # their sum is no float16
    assert np.array_equal(np.asarray(marking.FirstToken()(HIDDEN)), HIDDEN[:, 0])


def test_padding_is_marked_by_its_id():
    ids = np.array([[4, 9, 0], [4, 0, 7], [1, 1, 1]])
    hidden = np.ones((3, 3, 2), "float32")
    assert np.array_equal(np.asarray(marking.Marked()([hidden, ids]))[..., 0], ids != 0)
    assert np.array_equal(np.asarray(marking.Marked(1)([hidden, ids]))[..., 1], ids != 1)
    assert np.array_equal(np.asarray(marking.FirstSegment()(ids)), 0 * ids)


def test_a_transformer_layer_reads_tokens_alone_and_leaves_padding_empty():
    layer = marking.EncoderLayer(8, 2, dropout=0.5)
    hidden = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    hidden[0, 3:] = 0
    found = np.asarray(layer(hidden, training=False))
    short = np.asarray(layer(hidden[:1, :3], training=False))
    assert not found[0, 3:].any() and found[1].any(axis=-1).all()
    assert np.abs(found[0, :3] - short[0]).max() < 1e-6
    # Nor does dropout, which draws other numbers for tokens.
    trained = np.asarray(layer(hidden, training=True))
    assert not trained[0, 3:].any() and np.abs(trained - found)[1].max() > 1e-3


def test_the_layers_are_saved_with_their_settings(tmp_path):
    hidden, ids = keras.Input((None, 4)), keras.Input((None,), dtype="int32")
    x = marking.Marked(3)([hidden, ids])
    x = marking.EncoderLayer(8, 2, name="layer")(x)
    outputs = [marking.MeanOfTokens()(x), marking.FirstToken()(x), marking.FirstSegment()(ids)]
    network = keras.Model([hidden, ids], outputs)
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    given = [
        np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32"),
        np.array([[5, 6, 7, 3, 3]] * 2),
    ]
    for one, other in zip(network(given), loaded(given), strict=True):
        assert np.array_equal(one, other)
    assert network.compute_output_shape([(2, 5, 4), (2, 5)]) == [(2, 4), (2, 4), (2, 5)]
