"""The policy words choose the right variables, and the ledger tells the truth."""

import dataclasses

import keras
import numpy as np
import pytest

from runner.errors import InputError, LedgerError
from runner.moving import batch_norm, ledger, trainable
from runner.networks.backbones import Block
from runner.stage import Stage
from runner.training.stages import StagedUnfreezing


def names(variables):
    return [variable.path for variable in variables]


@pytest.mark.parametrize(
    "train, expected",
    [
        ("head", []),
        ("top:1", ["block3_conv/kernel", "block3_conv/bias"]),
        (
            "above:block1_relu",
            ["block2_conv/kernel", "block2_conv/bias", "block3_conv/kernel", "block3_conv/bias"],
        ),
        ("all", [f"block{n}_conv/{part}" for n in (1, 2, 3) for part in ("kernel", "bias")]),
        ("norm", [f"block{n}_bn/{part}" for n in (1, 2, 3) for part in ("gamma", "beta")]),
        ("bias", [path for n in (1, 2, 3) for path in (f"block{n}_conv/bias", f"block{n}_bn/beta")]),
    ],
)
def test_each_policy_word_trains_exactly_its_variables_and_the_head(small_model, train, expected):
    model, blocks = small_model()
    chosen = trainable.set_trainable(model, blocks, train)
    assert names(chosen) == expected + ["head/kernel", "head/bias"]
    assert names(model.trainable_variables) == names(chosen)
    # Frozen BatchNorm: the flag that keeps the statistics still, whatever its scale and offset do.
    assert not any(model.get_layer(f"block{n}_bn").trainable for n in (1, 2, 3))


def test_batch_norm_trains_only_where_asked_and_only_in_trained_blocks(small_model):
    model, blocks = small_model()
    trainable.set_trainable(model, blocks, "top:1", batch_norm="train")
    assert [model.get_layer(f"block{n}_bn").trainable for n in (1, 2, 3)] == [False, False, True]
    assert "block3_bn/gamma" in names(model.trainable_variables)


def test_flags_can_be_set_again_and_again(small_model):
    model, blocks = small_model()
    for train in ("all", "head", "bias", "top:2", "head"):
        trainable.set_trainable(model, blocks, train, batch_norm="train")
    assert names(model.trainable_variables) == ["head/kernel", "head/bias"]


def test_works_on_a_nested_backbone(small_model):
    model, blocks = small_model()
    backbone = keras.Model(model.input, model.get_layer("block3_relu").output, name="backbone")
    inputs = keras.Input((8, 8, 3))
    nested = keras.Model(
        inputs, keras.layers.Dense(4, name="new_head")(keras.layers.Flatten()(backbone(inputs)))
    )
    assert names(trainable.set_trainable(nested, blocks, "head")) == ["new_head/kernel", "new_head/bias"]
    assert names(nested.trainable_variables) == ["new_head/kernel", "new_head/bias"]
    assert "block3_conv/kernel" in names(trainable.set_trainable(nested, blocks, "top:1"))


@pytest.mark.parametrize(
    "train, part",
    [
        ("top:4", "top:1 to top:3"),
        ("above:block2_rel", "Did you mean 'block2_relu'"),
    ],
)
def test_a_block_that_does_not_exist_is_answered_with_those_that_do(small_model, train, part):
    model, blocks = small_model()
    with pytest.raises(InputError, match=part):
        trainable.select(model, blocks, train)


def test_blocks_of_another_network_are_refused(small_model):
    _, blocks = small_model()
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="none of the layers"):
        trainable.select(other, blocks, "all")


def test_ledger_counts_what_moved_and_by_how_much(small_model):
    model, blocks = small_model()
    wanted = trainable.set_trainable(model, blocks, "top:1")
    before = ledger.snapshot(model)
    kernel = model.get_layer("block3_conv").kernel
    kernel.assign(kernel * 1.5)
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel + 1)
    table = ledger.entries(model, blocks, before, wanted, "top").set_index("block")
    assert list(table.index) == ["block1_relu", "block2_relu", "block3_relu", "head"]
    assert table.loc["block3_relu", ["variables", "to_train", "moved"]].tolist() == [4, 2, 1]
    weights = np.concatenate([v.numpy().ravel() for v in (kernel, model.get_layer("block3_bn").gamma)])
    weights[: kernel.numpy().size] /= 1.5
    assert table.loc["block3_relu", "relative_change"] == pytest.approx(
        0.5 * np.linalg.norm(weights[: kernel.numpy().size]) / np.linalg.norm(weights), rel=1e-5
    )
    assert table.loc[
        "block1_relu", ["to_train", "moved", "relative_change", "statistics_moved"]
    ].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "tamper, complaint",
    [
        (
            lambda model: model.get_layer("block1_conv").kernel.assign_add(np.full((3, 3, 3, 4), 1e-6)),
            "block1_conv/kernel moved though",
        ),
        (
            lambda model: model.get_layer("block3_bn").moving_mean.assign_add(np.ones(4)),
            "moving_mean moved though",
        ),
    ],
)
def test_ledger_stops_when_a_frozen_weight_or_statistic_moved(small_model, tamper, complaint):
    model, blocks = small_model()
    wanted = trainable.set_trainable(model, blocks, "top:1")
    before = ledger.snapshot(model)
    for layer in ("block3_conv", "head"):
        model.get_layer(layer).kernel.assign(model.get_layer(layer).kernel + 1)
    ledger.entries(model, blocks, before, wanted, "top")  # as it should be
    tamper(model)
    with pytest.raises(LedgerError, match=complaint):
        ledger.entries(model, blocks, before, wanted, "top")


def test_ledger_stops_when_a_block_that_was_to_train_did_not_move(small_model):
    model, blocks = small_model()
    wanted = trainable.set_trainable(model, blocks, "top:1")
    before = ledger.snapshot(model)
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel + 1)
    with pytest.raises(LedgerError, match="no weight of block 'block3_relu' moved"):
        ledger.entries(model, blocks, before, wanted, "top")


def test_reestimated_statistics_are_those_of_the_data(small_model, small_data):
    model, blocks = small_model()
    images, _ = small_data
    trainable.set_trainable(model, blocks, "all", batch_norm="train")
    batch_norm.reestimate(model, [images[:20], images[20:]])
    first = model.get_layer("block1_bn")
    features = model.get_layer("block1_conv")(images).numpy()
    np.testing.assert_allclose(first.moving_mean.numpy(), features.mean((0, 1, 2)), atol=1e-5)
    halves = np.mean([features[:20].var((0, 1, 2)), features[20:].var((0, 1, 2))], axis=0)
    np.testing.assert_allclose(first.moving_variance.numpy(), halves, rtol=1e-4)
    assert first.momentum == 0.9


def test_reestimation_leaves_frozen_layers_alone(small_model, small_data):
    model, blocks = small_model()
    trainable.set_trainable(model, blocks, "top:1", batch_norm="train")
    batch_norm.reestimate(model, [small_data[0]])
    assert not np.any(model.get_layer("block1_bn").moving_mean.numpy())
    assert np.any(model.get_layer("block3_bn").moving_mean.numpy())


def test_plan_counts_what_each_stage_would_train(small_model):
    model, blocks = small_model()
    stages = [
        Stage("a"),
        Stage("b", train="top:1"),
        Stage("c", train="norm"),
        Stage("d", train="all", batch_norm="train"),
    ]
    table = trainable.plan(model, blocks, stages).set_index("stage")
    assert table["blocks"].tolist() == [0, 1, 3, 3]
    assert table["variables"].tolist() == [2, 4, 8, 14]
    assert table.loc["a", "weights"] == 4 * 4 + 4 and table.loc["b", "weights"] == 20 + 4 * 4 * 9 + 4


# ---------------------------------------------------------------- what is frozen outside the blocks


def with_second(small_model, frozen=True):
    """A network on two nested backbones whose layers have the same names, and the blocks of the first."""
    (first, blocks), (second, _) = small_model(), small_model()
    backbone, other = (
        keras.Model(one.input, one.get_layer("pool").output, name=name)
        for one, name in ((first, "backbone"), (second, "other"))
    )
    other.trainable = not frozen
    inputs = keras.Input((8, 8, 3))
    both = keras.layers.Concatenate()([backbone(inputs), other(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(4, name="top")(both))
    known = [
        dataclasses.replace(block, objects=tuple(map(backbone.get_layer, block.layers))) for block in blocks
    ]
    return model, other, known, blocks


def test_layers_are_told_apart_by_what_they_are_and_not_by_name(small_model):
    model, other, known, by_name = with_second(small_model, frozen=False)
    chosen = {id(variable) for variable in trainable.select(model, known, "top:1")}
    blocks = trainable.layers_by_block(model, known)
    assert [len(layers) for layers in blocks.values()] == [2, 2, 2, 7]
    assert {id(layer) for layer in other.layers if layer.weights} < {id(layer) for layer in blocks["head"]}
    assert {id(variable) for variable in other.trainable_weights} < chosen  # nobody froze it
    with pytest.raises(InputError, match="2 layers of the model .* are called 'block1_conv'"):
        trainable.select(model, by_name, "head")


def test_a_second_backbone_that_was_frozen_stays_so_in_every_stage(small_model, small_data):
    model, other, blocks, _ = with_second(small_model)
    before = [weight.numpy() for weight in other.weights]
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    stages = [Stage("head", epochs=1), Stage("all", train="all", epochs=1, batch_norm="train")]
    staged = StagedUnfreezing(stages, blocks)
    model.fit(*small_data, validation_data=small_data, epochs=2, callbacks=[staged], verbose=0)
    for old, new in zip(before, other.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    heads = staged.ledger.query("block == 'head'")
    assert heads["variables"].tolist() == [14, 14] and heads["to_train"].tolist() == [2, 2]
    assert heads["moved"].tolist() == [2, 2] and heads["statistics_moved"].tolist() == [0, 0]
    assert not other.trainable and staged.ledger.query("block != 'head' and stage == 'all'")["moved"].all()


def test_single_weights_and_new_layers_of_the_head_that_were_frozen_stay_so(small_model):
    model, blocks = small_model()
    x = keras.layers.Dense(5, trainable=False, name="still")(model.output)
    x = keras.layers.BatchNormalization(scale=False, center=False, name="statistics")(x)
    model = keras.Model(model.input, keras.layers.Dense(2, name="last")(x))
    model.get_layer("last").bias.trainable = False
    for train in ("head", "all", "bias", "head"):
        chosen = names(trainable.set_trainable(model, blocks, train))
        assert [path for path in chosen if not path.startswith("block")] == [
            "head/kernel",
            "head/bias",
            "last/kernel",
        ]
        assert names(model.trainable_variables) == chosen
    assert model.get_layer("statistics").trainable  # it has no weight to train, and was not frozen


@pytest.mark.parametrize("layer", ["head", "block3_conv"])
def test_the_kernel_below_a_lora_stays_and_what_it_adds_trains(small_model, layer):
    model, blocks = small_model()
    model.get_layer(layer).enable_lora(2)
    for train in ("top:1", "all", "top:1"):
        chosen = names(trainable.set_trainable(model, blocks, train))
        assert f"{layer}/kernel" not in chosen
        assert {f"{layer}/lora_kernel_a", f"{layer}/lora_kernel_b", f"{layer}/bias"} <= set(chosen)
        assert names(model.trainable_variables) == chosen


def test_a_stage_that_would_train_nothing_is_refused(small_model):
    model, blocks = small_model()
    model.trainable = False
    with pytest.raises(InputError, match="train='head' would train nothing"):
        trainable.plan(model, blocks, [Stage("a")])
    assert len(trainable.select(model, blocks, "top:1")) == 2  # a stage that names a block thaws it


class Encoder(keras.layers.Layer):
    """A layer made of layers whose names repeat from one to the next, as in a transformer."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inside = keras.layers.Dense(3, name="inside")

    def call(self, x):
        return self.inside(x)


def test_a_block_may_be_a_layer_made_of_layers(small_model):
    inputs = keras.Input((3,))
    x = Encoder(name="layer_1")(Encoder(name="layer_0")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    blocks = [Block(f"layer_{i}", (f"layer_{i}",)) for i in (0, 1)]
    assert names(trainable.set_trainable(model, blocks, "head")) == ["head/kernel", "head/bias"]
    chosen = trainable.set_trainable(model, blocks, "top:1")
    assert {id(one) for one in chosen} == {
        id(one) for layer in ("layer_1", "head") for one in model.get_layer(layer).weights
    }
    with pytest.raises(InputError, match="2 layers of the model .* are called 'inside'"):
        trainable.select(model, [Block("x", ("inside",))], "head")


def test_a_block_without_a_layer_is_refused(small_model):
    model, blocks = small_model()
    with pytest.raises(InputError, match="none of the layers of the block block9; pass the blocks"):
        trainable.select(model, [*blocks, Block("block9", ("block9_conv",))], "head")


def test_a_model_may_stand_on_a_lower_block_of_its_backbone(small_model):
    whole, names_only = small_model()
    blocks = [
        dataclasses.replace(block, objects=tuple(map(whole.get_layer, block.layers))) for block in names_only
    ]
    x = keras.layers.Flatten()(whole.get_layer("block2_relu").output)
    model = keras.Model(whole.input, keras.layers.Dense(2, name="new")(x))
    assert names(trainable.set_trainable(model, blocks, "top:1")) == ["new/kernel", "new/bias"]
    assert "block2_conv/kernel" in names(trainable.set_trainable(model, blocks, "top:2"))
    # Nor are layers of another network, which have the names of those that are missing, taken for them.
    other = keras.Model(whole.input, whole.get_layer("pool").output, name="other")
    other = keras.models.clone_model(other)
    other.trainable = False
    both = keras.layers.Concatenate()([x, other(whole.input)])
    model = keras.Model(whole.input, keras.layers.Dense(2, name="newer")(both))
    assert names(trainable.set_trainable(model, blocks, "top:1")) == ["newer/kernel", "newer/bias"]


def test_statistics_weigh_each_batch_by_its_rows(small_model, small_data):
    model, blocks = small_model()
    images, _ = small_data
    trainable.set_trainable(model, blocks, "all", batch_norm="train")
    batch_norm.reestimate(model, [images[:39], images[39:]])
    features = model.get_layer("block1_conv")(images).numpy()
    received = model.get_layer("block1_bn").moving_mean.numpy()
    np.testing.assert_allclose(received, features.mean((0, 1, 2)), atol=1e-5)
    halves = np.mean([features[:39].mean((0, 1, 2)), features[39:].mean((0, 1, 2))], axis=0)
    assert np.abs(received - halves).max() > 1e-2
