"""Encoders compute what KerasHub's own do, see no padding, are flat, and fall into blocks by their layers."""

import dataclasses
import inspect
from collections import Counter

import keras
import keras_hub
import numpy as np
import pytest

from runner.errors import InputError
from runner.moving import trainable
from runner.stage import Stage
from runner.text_networks import encoders, marking
from runner.training import frozen

SIZES = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24, "max_sequence_length": 32}
KINDS = {
    "BertBackbone": {"vocabulary_size": 40},
    "DistilBertBackbone": {"vocabulary_size": 40},
    "RobertaBackbone": {"vocabulary_size": 40},
    "ElectraBackbone": {"vocab_size": 40, "embedding_dim": 8},
}
LENGTHS = np.array([12, 7, 3])
THERE = np.arange(12) < LENGTHS[:, None]


@pytest.fixture(scope="module")
def backbones():
    """A small network of each class, of which every weight has a value of its own."""
    random = np.random.default_rng(2)
    made = {kind: getattr(keras_hub.models, kind)(**SIZES, **more) for kind, more in KINDS.items()}
    for backbone in made.values():
        backbone.set_weights(
            [
                one * random.normal(1, 0.1, one.shape) + random.normal(0, 0.05, one.shape)
                for one in backbone.get_weights()
            ]
        )
    return made


def rows(padding: int, length: int = 12) -> np.ndarray:
    """Three rows of ids from 4 to 38: of 12, 7 and 3 tokens."""
    ids = np.random.default_rng(0).integers(4, 39, (3, 12))
    return np.pad(np.where(THERE, ids, padding), [(0, 0), (0, length - 12)], constant_values=padding).astype(
        "int32"
    )


def hidden(network, ids) -> np.ndarray:
    return np.asarray(network(ids, training=False))


def classifier(backbone, length: int = 12, pool=marking.MeanOfTokens):
    encoder = encoders.copy(backbone, length, "small")
    pooled = pool(name="pool")(encoder.output)
    return keras.Model(encoder.input, keras.layers.Dense(3, name="head")(pooled), name="small"), encoder


# ---------------------------------------------------------------- what it computes


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_computes_what_kerashubs_network_does_and_nothing_for_padding(backbones, kind):
    backbone, padding = backbones[kind], encoders.PADDING.get(kind, 0)
    ids = rows(padding)
    given = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": THERE.astype("int32")}
    expected = backbone({name: given[name] for name in backbone.input}, training=False)
    expected = np.asarray(expected["sequence_output"] if isinstance(expected, dict) else expected)
    found = hidden(encoders.copy(backbone, 12, "small"), ids)
    assert found[THERE].std() > 0.5
    assert np.abs(found - expected)[THERE].max() < 1e-6  # they are the same to the bit where this was written
    assert not found[~THERE].any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_as_padding_and_how_much_of_it_changes_nothing(backbones, kind):
    backbone, padding = backbones[kind], encoders.PADDING.get(kind, 0)
    expected = hidden(encoders.copy(backbone, 12, "small"), rows(padding))
    other = hidden(encoders.copy(backbone, 12, "small", padding=39), rows(39))
    assert np.abs(other - expected).max() < 1e-6
    network = encoders.copy(backbone, 32, "small")
    longer = hidden(network, rows(padding, 32))
    assert np.abs(longer[:, :12] - expected).max() < 1e-6 and not longer[:, 12:].any()
    assert np.abs(hidden(network, rows(padding)) - expected).max() < 1e-6  # one network takes any length


def test_a_token_that_is_hidden_behind_padding_is_a_token_again(backbones):
    """Ids decide, not places: of a row with padding in its middle both ends are read."""
    network = encoders.copy(backbones["BertBackbone"], 12, "small")
    ids = rows(0)
    ids[0, 5] = 0
    found = hidden(network, ids)
    assert not found[0, 5].any() and found[0, [4, 6]].any(axis=-1).all()
    changed = ids.copy()
    changed[0, 11] += 1
    assert np.abs(hidden(network, changed) - found)[0, 0].max() > 1e-4


def test_in_half_precision_padding_is_as_empty(backbones):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    backbone = keras_hub.models.BertBackbone(**SIZES, **KINDS["BertBackbone"])
    backbone.set_weights(backbones["BertBackbone"].get_weights())
    network, encoder = classifier(backbone)
    found = encoder(rows(0), training=False)
    assert found.dtype == "bfloat16" and not np.asarray(found)[~THERE].astype("float32").any()
    exact = hidden(encoders.copy(backbones["BertBackbone"], 12, "small"), rows(0))
    assert np.abs(np.asarray(found).astype("float32") - exact).max() < 0.1
    assert network.get_layer("pool")(found).dtype == "float32"


def test_a_copy_has_layers_of_its_own(backbones):
    backbone = backbones["BertBackbone"]
    before = backbone.get_weights()
    network = encoders.copy(backbone, 12, "small")
    network.set_weights([0 * one for one in network.get_weights()])
    assert all(np.array_equal(one, other) for one, other in zip(before, backbone.get_weights(), strict=True))
    assert not {id(one) for one in network.weights} & {id(one) for one in backbone.weights}


# ---------------------------------------------------------------- its blocks


@pytest.mark.parametrize("kind", KINDS)
def test_each_weight_is_of_one_block_or_of_the_head(backbones, kind, tmp_path):
    network, encoder = classifier(backbones[kind])
    assert all(isinstance(layer, keras.layers.Layer) for layer in network.operations)
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    found = [(network, encoders.blocks(encoder))]
    if kind == "ElectraBackbone":  # it has a layer that the others lack
        network.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        found.append((loaded, encoders.blocks(loaded)))
    for model, blocks in found:
        assert [one.name for one in blocks] == ["embeddings", "transformer_layer_0", "transformer_layer_1"]
        assert blocks[1].layers == ("transformer_layer_0",) and blocks[0].layers[-1] == "marked"
        of = trainable.layers_by_block(model, blocks)
        weights = {
            name: [one for layer in layers for one in layer._trainable_variables]
            for name, layers in of.items()
        }
        counted = Counter(id(one) for some in weights.values() for one in some)
        assert set(counted.values()) == {1} and set(counted) == {id(one) for one in model.weights}
        numbers = {name: len(some) for name, some in weights.items()}
        assert numbers["transformer_layer_0"] == numbers["transformer_layer_1"] == 16 and numbers["head"] == 2
        assert numbers["embeddings"] >= 4
        assert [len(trainable.select(model, blocks, train)) for train in ("head", "top:1", "all")] == [
            2,
            18,
            len(model.weights),
        ]
        biases = [one.path.split("/")[-1] for one in trainable.select(model, blocks, "bias")]
        assert set(biases) == {"bias", "beta", "kernel"} and biases.count("kernel") == 1  # that of the head


def test_a_network_without_such_layers_has_no_blocks(small_model):
    with pytest.raises(InputError, match="has no layers of an encoder; give one that encoders.build made"):
        encoders.blocks(small_model()[0])


@pytest.mark.parametrize("kind", KINDS)
def test_two_builds_in_one_process_are_alike(backbones, kind):
    """What is kept of a frozen part is known by its JSON and its weights."""
    networks = [classifier(backbones[kind]) for _ in range(2)]
    first, second = ([layer.name for layer in network.layers] for network, _ in networks)
    assert first == second and first[0] == "tokens"
    lower = [
        frozen.cut(network, encoders.blocks(encoder), Stage("top", train="top:1")).below
        for network, encoder in networks
    ]
    assert lower[0].to_json() == lower[1].to_json()
    assert all(np.array_equal(*both) for both in zip(*(one.get_weights() for one in lower), strict=True))


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("name", ["BERT-tiny", "DistilBERT-base", "RoBERTa-base", "ELECTRA-small"])
def test_each_class_of_the_table_is_built_by_name_in_any_case(name, monkeypatch):
    small = {
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 24,
        "max_sequence_length": 16,
    }
    width = {} if encoders.ENCODERS[name].embedding_dim is None else {"embedding_dim": 8}
    monkeypatch.setitem(
        encoders.ENCODERS, name, dataclasses.replace(encoders.ENCODERS[name], **small, **width)
    )
    network = encoders.build(f" {name.upper()} ", 40, 12)
    assert network.name == name and encoders.find(name.lower())[0] == name
    found = hidden(network, rows(encoders.PADDING.get(encoders.ENCODERS[name].backbone, 0)))
    assert found.shape == (3, 12, 16) and (found.any(axis=-1) == THERE).all()


PUBLISHED = {
    "BERT-tiny": "bert_tiny_en_uncased",
    "BERT-small": "bert_small_en_uncased",
    "BERT-medium": "bert_medium_en_uncased",
    "BERT-base": "bert_base_en_uncased",
    "DistilBERT-base": "distil_bert_base_en_uncased",
    "RoBERTa-base": "roberta_base_en",
    "ELECTRA-small": "electra_small_discriminator_uncased_en",
    "ELECTRA-base": "electra_base_discriminator_uncased_en",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sizes_are_those_of_the_published_weights(name):
    """By their number, which KerasHub's lists name; here it is counted from the sizes of an encoder."""
    encoder = encoders.ENCODERS[name]
    known = getattr(keras_hub.models, encoder.backbone).presets[PUBLISHED[name]]["metadata"]["params"]
    width, inner = encoder.hidden_dim, encoder.intermediate_dim
    narrow = encoder.embedding_dim or width
    pooled = encoder.backbone in ("BertBackbone", "ElectraBackbone")
    vocabulary = 50_265 if name.startswith("RoBERTa") else 30_522
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    counted = (vocabulary + encoder.max_sequence_length + 2 * pooled + 2) * narrow
    counted += (narrow * width + width) * (narrow != width)
    counted += encoder.num_layers * layer + pooled * (width * width + width)
    assert counted == known


def test_every_encoder_is_of_a_class_that_takes_its_sizes_and_none_stands_twice():
    assert set(PUBLISHED) | {"MiniLM-L6", "BERT-mini"} == set(encoders.ENCODERS)
    for encoder in encoders.ENCODERS.values():
        known = inspect.signature(getattr(keras_hub.models, encoder.backbone)).parameters
        assert set(encoder.arguments()) <= set(known)
    rows_of_table = [(one.backbone, *one.arguments().values()) for one in encoders.ENCODERS.values()]
    assert len(set(rows_of_table)) == len(rows_of_table)


def test_a_backbone_is_called_as_the_table_calls_it(backbones):
    tiny = keras_hub.models.BertBackbone(vocabulary_size=40, **encoders.ENCODERS["BERT-tiny"].arguments())
    assert encoders.called(tiny) == "BERT-tiny"
    assert encoders.called(backbones["ElectraBackbone"]) == "ElectraBackbone-2x16"
    sizes = encoders.ENCODERS["BERT-tiny"].arguments() | {"max_sequence_length": 64}
    assert encoders.called(keras_hub.models.BertBackbone(vocabulary_size=40, **sizes)) == "BertBackbone-2x128"
    assert [encoders.vocabulary_size(one) for one in backbones.values()] == [40] * 4


def test_what_cannot_be_built_is_a_line(backbones):
    with pytest.raises(InputError, match=r"Unknown encoder 'BERT-smal'.*Did you mean 'BERT-small'\?"):
        encoders.build("BERT-smal", 40, 12)
    with pytest.raises(InputError, match="Unknown encoder ''"):
        encoders.find("")
    for length in (1, 33, 0, -3, True, 8.0, "8", None):
        with pytest.raises(InputError, match="small has positions for 2 to 32 tokens") as error:
            encoders.copy(backbones["BertBackbone"], length, "small")
        assert f"length={length!r} is not allowed" in str(error.value)
    other = keras_hub.models.GPT2Backbone(40, 1, 2, 16, 24, max_sequence_length=16)
    with pytest.raises(InputError, match="GPT2Backbone is no encoder that is known here"):
        encoders.copy(other, 12, "small")


# ---------------------------------------------------------------- made again


def test_a_network_is_made_again_from_any_of_its_layers(backbones):
    """What the layers that are given were made of is left out."""
    network, _ = classifier(backbones["BertBackbone"])
    expected = hidden(network, rows(0))
    ids = keras.Input((None,), dtype="int32", name="others")
    whole = keras.Model(ids, encoders.again(network.operations, {"tokens": ids}, encoders.same))
    assert np.array_equal(hidden(whole, rows(0)), expected)
    assert not {id(one) for one in whole.weights} & {id(one) for one in network.weights}
    states = keras.Input((None, 16))
    upper = encoders.again(network.operations, {"transformer_layer_0": states}, encoders.same)
    part = keras.Model(states, upper)
    assert [layer.name for layer in part.layers][1:] == ["transformer_layer_1", "pool", "head"]
    below = keras.Model(network.input, network.get_layer("transformer_layer_0").output)
    assert np.array_equal(hidden(part, hidden(below, rows(0))), expected)
