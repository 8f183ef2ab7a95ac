"""Both searches are one compiled function, on a network as it is trained and as it is saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.text_networks import encoders, pieces, translators
from runner.text_networks.tokens import Tokens
from runner.text_networks.words import Columns
from runner.text_runs import translate

LENGTH = 8
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog cat runs sleeps big old the".split()


@pytest.fixture(scope="module")
def both():
    """A network as it is trained, and the one that translates."""
    import keras_hub

    keras.utils.set_random_seed(2)
    tokenizer = keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True)
    known = pieces.learn(["ein hund, die katze schläft."] * 2, 60)
    encoder = encoders.build("BERT-tiny", len(WORDS), LENGTH, 0)
    pairs = keras.Input((None, 2), dtype="int32", name="pairs")
    source = Columns((0,), name="source")(pairs)
    hidden = encoders.again(encoder.operations, {encoder.input.name: source}, encoders.same)
    joined = translators.Beside(name="beside")([hidden, Columns((1,), name="target")(pairs)])
    decoder = translators.Decoder(known.written, LENGTH, 1, 16, 2, 0.1, name="decoder")
    trained = keras.Model(pairs, decoder(joined))
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(tokenizer, LENGTH, name="tokenizer")(text)
    states = encoders.again(keras.Model(pairs, hidden).operations, {"source": ids}, encoders.same)
    outputs = translators.translations(translators.copy(decoder, 128), states, 3, LENGTH)
    return trained, keras.Model(text, outputs)


def test_both_forms_of_a_network_write_the_same_and_are_traced_once(both):
    trained, saved = both
    texts = ["a dog runs", "the big old cat sleeps", "cat", "", "the dog"]
    ids = saved.get_layer("tokenizer")(tf.constant(texts)).numpy()
    rows = np.stack([ids, np.full_like(ids, 5)], -1)  # what stands beside the texts is not read
    searches = [translate.searcher(one, 3) for one in both]
    expected = saved(tf.constant(texts))
    for search in searches:
        found = search(rows)
        assert found["found"].tolist() == [one.decode() for one in expected["translation"].numpy()]
        np.testing.assert_allclose(found["sure"], expected["score"], rtol=1e-4)
        # Batches of other sizes, and padding, change nothing.
        some = search(np.pad(rows[1:3], ((0, 0), (0, 3), (0, 0))))
        assert some["found"].tolist() == found["found"][1:3].tolist()
        assert some["greedy"].tolist() == found["greedy"][1:3].tolist()
    greedy = translate.searcher(trained, 1)(rows)
    assert greedy["found"].tolist() == greedy["greedy"].tolist() == searches[0](rows)["greedy"].tolist()


def test_what_has_no_decoder_is_refused():
    ids = keras.Input((None,), dtype="int32")
    with pytest.raises(InputError, match="has no decoder"):
        translate.searcher(keras.Model(ids, ids + 1), 2)
