"""An optimizer made anew for a stage is the one that the model was compiled with, in all but its state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.moving import optimizers
from runner.stage import Stage
from runner.training.stages import StagedUnfreezing

LOSS = keras.losses.CategoricalCrossentropy(from_logits=True)


class Slow(keras.optimizers.SGD):
    """Steps that are so many times shorter, of which its config says nothing."""

    def __init__(self, learning_rate=0.1, times=1.0, keep=None, **options):
        super().__init__(learning_rate, **options)
        self.times = times
        if keep is not None:
            self.keep = keep

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient / self.times, variable, learning_rate)


class Needs(keras.optimizers.SGD):
    def __init__(self, factor):
        super().__init__(0.1)


def fit(small_model, small_data, optimizer, stages):
    model, blocks = small_model()
    model.compile(optimizer(model), LOSS)
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
    staged = StagedUnfreezing(stages, blocks)
    model.fit(data, validation_data=data, epochs=staged.epochs, callbacks=[staged], verbose=0)
    return model


def apart(small_model, small_data, optimizer, epochs):
    """What the head becomes in fits of their own, each with a fresh optimizer."""
    model, blocks = small_model()
    for layer in model.layers:
        layer.trainable = layer.name == "head"
    for count in epochs:
        model.compile(optimizer(model), LOSS)
        data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
        model.fit(data, validation_data=data, epochs=count, verbose=0)
    return model


def without_decay(model):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=10.0)
    optimizer.exclude_from_weight_decay(var_list=[model.get_layer("head").kernel])
    return optimizer


def by_name(model):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=10.0)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    return optimizer


@pytest.mark.parametrize(
    "optimizer",
    [
        without_decay,
        pytest.param(by_name, marks=pytest.mark.slow),
        pytest.param(lambda model: Slow(0.01, times=50.0), marks=pytest.mark.slow),
        lambda model: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
        lambda model: keras.optimizers.LossScaleOptimizer(without_decay(model), initial_scale=4.0),
    ],
    ids=["excluded", "excluded-by-name", "own", "averages", "scaled"],
)
def test_stages_train_with_what_the_model_was_compiled_with(small_model, small_data, optimizer):
    stages = [Stage(name, epochs=1, learning_rate=0.01, keep="last") for name in "ab"]
    model = fit(small_model, small_data, optimizer, stages)
    expected = apart(small_model, small_data, optimizer, (1, 1))
    for ours, theirs in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    if hasattr(model.optimizer, "times"):
        assert model.optimizer.times == 50.0


def test_settings_are_copied_and_state_is_not():
    variable = keras.Variable(np.ones(3, "float32"))
    old = Slow(0.1, times=3.0, keep={"a": [1, 2]}, momentum=0.9)
    old.build([variable])
    old.apply([np.ones(3, "float32")])
    new = optimizers.renewed(old, [variable])
    assert new.times == 3.0 and dict(new.keep) == {"a": [1, 2]} and new.momentum == 0.9
    assert int(new.iterations) == 0 and not np.any(new.momentums[0].numpy())
    assert new.momentums[0] is not old.momentums[0] and int(old.iterations) == 1


def test_an_optimizer_that_cannot_be_made_anew_is_named(small_model, small_data):
    with pytest.raises(InputError, match="Needs cannot be made anew from its get_config"):
        fit(small_model, small_data, lambda model: Needs(2), [Stage("a", epochs=1)])


@pytest.mark.parametrize(
    "stages",
    [
        [Stage("a", epochs=1)],
        [Stage("a", epochs=1, keep="last"), Stage("b", train="top:1", epochs=1, keep="last")],
    ],
    ids=["best", "other weights"],
)
def test_averages_that_are_of_no_stage_are_refused(small_model, small_data, stages):
    with pytest.raises(InputError, match="use_ema=True"):
        fit(small_model, small_data, lambda model: keras.optimizers.Adam(use_ema=True), stages)
