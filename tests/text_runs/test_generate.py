"""Texts that are gone on with: what an uncached search would write, of any length, traced once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.text_networks import decoder_weights, decoders
from runner.text_runs import generate

PROMPTS = ["The first", "A second one that is longer", "ä"]


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    made = decoders.build("GPT-tiny", 258, 32, dropout=0.0)
    # Of weights this small all tokens are alike, and the search would hang on roundings.
    for one in made.trainable_variables:
        if "kernel" in one.path:
            one.assign(8 * one)
    return made


@pytest.fixture(scope="module")
def tokenizer():
    return decoder_weights.of_bytes()


def uncached(network, prompt: str, count: int) -> bytes:
    """The likeliest byte each time, of the whole text so far."""
    ids = [256, *prompt.encode()]
    for _ in range(count):
        ids.append(int(np.asarray(network(np.array([ids], "int32")))[0, -1].argmax()))
        if ids[-1] == 256:
            break
    made = [one for one in ids[1 + len(prompt.encode()) :] if one < 256]
    return bytes(made)


def test_the_likeliest_tokens_are_those_of_a_search_without_memory(network, tokenizer):
    go_on = generate.Continuer(network, tokenizer, "greedy")
    found = go_on(PROMPTS, new_tokens=12)
    wanted = [uncached(network, one, 12).decode("utf-8", "replace") for one in PROMPTS]
    assert found == wanted and any(wanted)
    # One by one they are the same as together, whatever the lengths of the others.
    assert [go_on([one], new_tokens=12)[0] for one in PROMPTS] == found


def test_the_second_call_traces_nothing(network, tokenizer):
    go_on = generate.Continuer(network, tokenizer, "top-p")
    go_on(PROMPTS, new_tokens=12)
    there = dict(go_on._compiled)
    go_on(["Another", "of them", "and a third one, longer"], new_tokens=12)
    assert go_on._compiled == there


@pytest.mark.parametrize("name", generate.SAMPLERS)
def test_every_sampler_writes_as_much_as_was_asked_for_and_beyond_what_fits(network, tokenizer, name):
    room = decoders.positions(network)
    long = "0123456789" * (room // 5)
    go_on = generate.Continuer(network, tokenizer, name, seed=1)
    made = go_on([long, "x", ""], new_tokens=room + 40)
    assert len(made) == 3 and all(isinstance(one, str) for one in made)
    assert max(len(one.encode()) for one in made) > 40
    again = generate.Continuer(network, tokenizer, name, seed=1)([long, "x", ""], new_tokens=room + 40)
    assert again == made  # a seed is a seed


def test_a_text_ends_where_the_network_ends_it(tokenizer):
    network = decoders.build("GPT-tiny", 258, 32, dropout=0.0)
    kernel = np.zeros((128, 258), "float32")
    network.get_layer("head").set_weights([kernel])
    network.get_layer("layer_norm").set_weights([np.zeros(128, "float32"), np.ones(128, "float32")])
    kernel[:, 256] = 1
    network.get_layer("head").set_weights([kernel])
    assert generate.Continuer(network, tokenizer, "greedy")(["one", "two"], new_tokens=50) == ["", ""]


def test_a_wrong_wish_is_answered_in_one_line(network, tokenizer):
    with pytest.raises(InputError, match="give one of greedy, top-k, top-p, beam"):
        generate.Continuer(network, tokenizer, "nucleus")
    with pytest.raises(InputError, match="temperature 0"):
        generate.Continuer(network, tokenizer, "top-k", temperature=0)
    with pytest.raises(InputError, match="new_tokens=0"):
        generate.Continuer(network, tokenizer)(["a"], new_tokens=0)


def test_a_low_temperature_is_the_likeliest(network, tokenizer):
    cold = generate.Continuer(network, tokenizer, "top-k", temperature=1e-7)(PROMPTS, new_tokens=10)
    assert cold == generate.Continuer(network, tokenizer, "greedy")(PROMPTS, new_tokens=10)


def test_the_longest_copied_part_is_found():
    random = np.random.default_rng(0)
    for _ in range(50):
        text, sources = ("".join(random.choice(list("ab "), size)) for size in (20, 60))
        wanted = max((j - i for i in range(20) for j in range(i, 21) if text[i:j] in sources), default=0)
        assert generate.longest_copied(text, sources) == wanted
    assert generate.longest_copied("", "abc") == generate.longest_copied("x", "abc") == 0


def test_half_a_letter_is_no_failure(network, tokenizer):
    go_on = generate.Continuer(network, tokenizer)
    assert go_on._texts([[0xC3], [0xC3, 0xA4], []])[1:] == ["ä", ""]
    assert isinstance(tf.constant(go_on._texts([[0xC3]])[0]), tf.Tensor)
