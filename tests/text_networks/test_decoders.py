"""Decoders as one flat graph: what KerasHub's own compute, in whole, in parts and token by token."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.moving import trainable
from runner.networks.pretrained import CHECKPOINTS
from runner.text_networks import decoder_weights, decoders

SIZES = {"num_layers": 3, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}


@pytest.fixture
def backbone():
    keras.utils.set_random_seed(0)
    made = keras_hub.models.GPT2Backbone(60, **SIZES, dropout=0.1, max_sequence_length=24)
    for weight in made.weights:  # biases and scales that a fresh network does not have
        weight.assign(weight + 0.1 * np.random.default_rng(1).normal(size=weight.shape).astype("float32"))
    return made


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(0, 60, (3, 20)).astype("int32")


def test_a_copy_computes_what_keras_hub_computes_and_shares_nothing_with_it(backbone, ids):
    network = decoders.copy(backbone, 24, "mine")
    whole = keras_hub.models.GPT2CausalLM(backbone)
    wanted = np.asarray(whole({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    np.testing.assert_allclose(np.asarray(network(ids)), wanted, atol=1e-5)
    assert network.name == "mine" and network.input.name == "tokens"
    assert {id(one) for one in network.weights}.isdisjoint(id(one) for one in backbone.weights)
    # What stands behind a token changes nothing in it, padding too.
    longer = np.concatenate([ids, np.zeros((3, 4), "int32")], axis=1)
    np.testing.assert_allclose(np.asarray(network(longer))[:, :20], wanted, atol=1e-5)


def test_a_step_with_a_memory_computes_what_the_whole_does(backbone, ids):
    network = decoders.copy(backbone, 24, "mine")
    wanted = np.asarray(network(ids))
    memory = decoders.cache(network, 3, 24)
    logits, memory = decoders.step(network, ids[:, :7], memory, 0)
    found = [logits]
    for place in range(7, 20):
        logits, memory = decoders.step(network, ids[:, place : place + 1], memory, place)
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found, axis=1), wanted, atol=1e-5)


def test_its_blocks_are_found_and_trained_one_by_one(backbone):
    network = decoders.copy(backbone, 24, "mine")
    blocks = decoders.blocks(network)
    assert [one.name for one in blocks] == ["embeddings", *(f"transformer_layer_{n}" for n in range(3))]
    trainable.set_trainable(network, blocks, "top:1")
    there = {one.path for one in network.trainable_variables}
    assert all(path.split("/")[0] in ("transformer_layer_2", "layer_norm", "head") for path in there)
    assert len(there) == 16 + 2 + 1
    trainable.set_trainable(network, blocks, "head")
    assert [one.path for one in network.trainable_variables] == ["head/kernel"]
    with pytest.raises(InputError, match="no layers of a decoder"):
        decoders.blocks(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]))


@pytest.mark.parametrize("above", ["transformer_layer_0", "transformer_layer_2", "head"])
def test_what_lies_below_a_cut_and_what_lies_above_compute_the_whole(backbone, ids, above):
    network = decoders.copy(backbone, 24, "mine", dropout=0.0)
    layer = network.get_layer(above)
    below = keras.Model(network.input, layer.input)
    hidden = keras.Input(below.output.shape[1:])
    x = hidden
    for one in network.layers[network.layers.index(layer) :]:
        x = one(x)
    upper = keras.Model(hidden, x)
    assert np.array_equal(np.asarray(upper(below(ids))), np.asarray(network(ids)))


def test_dropout_and_positions_are_what_was_asked_for(backbone):
    network = decoders.copy(backbone, 24, "mine", dropout=0.3)
    assert {one.dropout for one in decoders._layers(network)} == {0.3}
    assert network.get_layer("embeddings_dropout").rate == 0.3
    assert decoders.positions(network) == 24
    for length in (1, 25, True, "8"):
        with pytest.raises(InputError, match="positions for 2 to 24"):
            decoders.copy(backbone, length, "mine")
    assert decoders.positions(decoders.build("GPT-tiny", 40, 300)) == 300
    assert decoders.build("gpt-TINY", 40, 8).name == "GPT-tiny"
    with pytest.raises(InputError, match=r"Unknown decoder 'GPT-tinny'.*Did you mean 'GPT-tiny'"):
        decoders.build("GPT-tinny", 40, 8)
    with pytest.raises(InputError, match="BertBackbone is no decoder"):
        decoders.copy(keras_hub.models.BertBackbone(40, 1, 1, 8, 8), 8, "bert")


def test_the_first_head_is_the_table_of_vectors(backbone):
    network = decoders.copy(backbone, 24, "mine")
    kernel = network.get_layer("head").get_weights()[0]
    assert np.array_equal(kernel.T, backbone.token_embedding.get_weights()[0])
    assert network.output.dtype == "float32"


# ---------------------------------------------------------------- weights and what goes with them


def test_bytes_are_tokens_of_any_text():
    tokenizer = decoder_weights.of_bytes()
    text = "Größe 🙂\t\x7f\n\n  ÿ"
    found = tokenizer.tokenize(tf.constant([text]))[0]
    assert [int(one) for one in found] == list(text.encode())
    assert tokenizer.detokenize([found]) == [text]
    assert tokenizer.end_token_id == 256 and tokenizer.vocabulary_size() == 258


def test_weights_come_by_name_from_a_preset_and_from_nothing(tmp_path, backbone, ids):
    tokenizer = decoder_weights.of_bytes()
    made = keras_hub.models.GPT2Backbone(258, **SIZES, max_sequence_length=24)
    made.save_to_preset(str(tmp_path / "preset"))
    tokenizer.save_to_preset(str(tmp_path / "preset"))
    again = decoder_weights.tokenizer(tmp_path / "preset")
    assert again.get_vocabulary() == tokenizer.get_vocabulary()
    network = decoder_weights.build("auto", tmp_path / "preset", 24, again)
    np.testing.assert_allclose(
        np.asarray(network(ids)), np.asarray(decoders.copy(made, 24, "x")(ids)), atol=1e-6
    )
    assert network.name == "GPT2Backbone-3x16"
    with pytest.raises(InputError, match="are of GPT2Backbone-3x16, not GPT-tiny"):
        decoder_weights.build("GPT-tiny", tmp_path / "preset", 24, again)
    for weights in ("none", "bytes"):
        with pytest.raises(InputError, match="name one of GPT-tiny"):
            decoder_weights.build("auto", weights, 24, tokenizer)
    small = keras_hub.models.GPT2Backbone(100, **SIZES, max_sequence_length=24)
    small.save_to_preset(str(tmp_path / "small"))
    with pytest.raises(InputError, match="know 100 tokens, and the vocabulary has 258"):
        decoder_weights.build("auto", tmp_path / "small", 24, tokenizer)
    assert decoder_weights.resolve("docstrings_gpt").place == str(CHECKPOINTS / "docstrings_gpt")
    assert [decoder_weights.is_pretrained(one) for one in ("none", "Bytes", "docstrings_gpt")] == [
        False,
        False,
        True,
    ]
    for wrong, said in (
        ("docstring_gpt", "Did you mean 'docstrings_gpt'"),
        (tmp_path / "nowhere", "there is no such folder"),
        (tmp_path, "neither config.json"),
        (tmp_path / "preset" / "config.json", "is a file; give the folder"),
    ):
        with pytest.raises(InputError, match=said):
            decoder_weights.resolve(wrong)
