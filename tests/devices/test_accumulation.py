"""A batch in parts, one after another, gives the step of the whole batch, on any number of replicas."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.devices import accumulation, multi_worker, strategy
from runner.errors import InputError
from runner.stage import Stage
from runner.training import fit as training

COUNT = 21  # the last of batches of 8 has 5 rows, which 2 replicas in 3 parts each take 1, 1, 1 and 1, 1, 0
STRATEGIES = {"one": tf.distribute.get_strategy, "two": lambda: strategy.choose("mirrored")}


def data(batch_size: int = 8, weights: bool = False) -> tf.data.Dataset:
    random = np.random.default_rng(0)
    labels = np.arange(COUNT) % 4
    pictures = random.normal(size=(COUNT, 8, 8, 3)) + 0.5 * random.normal(size=(4, 1, 1, 3))[labels]
    arrays = [pictures.astype("float32"), np.eye(4, dtype="float32")[labels]]
    if weights:
        arrays.append(random.uniform(0, 2, COUNT).astype("float32"))
    return tf.data.Dataset.from_tensor_slices(tuple(arrays)).batch(batch_size)


def network(batch_norm: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dense(4, dtype="float32")(keras.layers.Flatten()(x))
    return keras.Model(inputs, x)


def trained(chosen, parts: int, batches=None, batch_norm: bool = False, optimizer=None, **compiled) -> dict:
    """Weights and history of three epochs of fit in so many parts; None leaves the model to Keras."""
    batches = data() if batches is None else batches
    with chosen.scope():
        model = network(batch_norm)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        optimizer = optimizer() if optimizer else keras.optimizers.SGD(0.02, momentum=0.9)
        model.compile(optimizer, loss, weighted_metrics=["accuracy"], **compiled)
    if parts:
        multi_worker.prepare(model, parts)
    batches = multi_worker.distribute(batches, chosen)
    history = model.fit(batches, epochs=3, shuffle=False, verbose=0).history
    variables = [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]
    return {f"{number:02}": value for number, value in enumerate(variables)} | history


def assert_same(received: dict, expected: dict, tolerance: float = 1e-6) -> None:
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


# On two replicas a fit takes three times as long to trace: one test of them is in the fast set.
ONE_OR_TWO = ["one", pytest.param("two", marks=pytest.mark.slow)]


@pytest.mark.parametrize("chosen", STRATEGIES)
def test_parts_take_the_step_of_the_whole_batch(chosen):
    weighted = data(weights=True)
    expected = trained(tf.distribute.get_strategy(), 0, weighted)
    assert_same(trained(STRATEGIES[chosen](), 3, weighted), expected)
    assert expected["loss"][-1] < 0.9 * expected["loss"][0]


@pytest.mark.parametrize("chosen", ONE_OR_TWO)
def test_more_parts_than_rows_are_harmless(chosen):
    """The last batch has one row. BatchNorm's averages stay finite where a part has none anywhere."""
    received = trained(STRATEGIES[chosen](), 3, data(2).skip(8), batch_norm=True)
    assert all(np.isfinite(value).all() for value in received.values())


@pytest.mark.parametrize("chosen", ONE_OR_TWO)
def test_clipping_and_weight_decay_see_the_sum(chosen):
    """Adam's step hardly depends on the length of a gradient: only at its epsilon would parts show."""

    def adam():
        return keras.optimizers.Adam(1e-2, epsilon=1e-3, weight_decay=0.1)

    expected = trained(tf.distribute.get_strategy(), 0, optimizer=adam)
    assert_same(trained(STRATEGIES[chosen](), 3, optimizer=adam), expected)
    if chosen == "one":  # Keras clips each replica's part

        def clipped():
            return keras.optimizers.SGD(0.1, global_clipnorm=0.05)

        expected = trained(tf.distribute.get_strategy(), 0, optimizer=clipped)
        assert_same(trained(STRATEGIES[chosen](), 3, optimizer=clipped), expected)


def test_several_steps_in_a_call():
    """On one replica: Keras cannot do it on two processors."""
    alone = tf.distribute.get_strategy()
    assert_same(trained(alone, 3, steps_per_execution=3), trained(alone, 0))


@pytest.mark.parametrize(
    ("chosen", "scale"),
    [("one", 2.0**10), pytest.param("two", 2.0**10, marks=pytest.mark.slow), ("one", 2.0**40)],
)
def test_the_loss_scale_of_float16(chosen, scale):
    """From 2**40 on 9 steps overflow, halve the scale and move nothing; a part is not a step."""
    keras.mixed_precision.set_global_policy("mixed_float16")

    def scaled():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.02), initial_scale=scale)

    expected = trained(tf.distribute.get_strategy(), 0, optimizer=scaled)
    assert_same(trained(STRATEGIES[chosen](), 3, optimizer=scaled), expected, 1e-3)
    assert (expected["loss"][-1] < expected["loss"][0] - 0.1) == (scale == 2.0**10)


def test_one_part_is_the_plain_model_to_the_bit():
    alone = tf.distribute.get_strategy()
    expected = trained(alone, 0, batch_norm=True)
    assert_same(trained(alone, 1, batch_norm=True), expected, 0)
    model = network()
    model.compile("sgd", "mse")
    multi_worker.prepare(model, 4)
    multi_worker.prepare(model, 1)  # back again
    assert model._parts == 1
    assert "train_step" in vars(model) and model.distribute_strategy.num_replicas_in_sync == 1


def test_batch_norm_that_learns_takes_the_statistics_of_each_part():
    """Parts of one batch as batches of their own would move the averages, where no weight moves."""

    def still():
        return keras.optimizers.SGD(0.0)

    alone = tf.distribute.get_strategy()
    even = data().unbatch().take(16)
    parts = trained(alone, 2, even.batch(8), batch_norm=True, optimizer=still)
    batches = trained(alone, 0, even.batch(4), batch_norm=True, optimizer=still)
    for name in ("04", "05"):  # the averages of mean and variance
        np.testing.assert_allclose(parts[name], batches[name], rtol=1e-6)


@pytest.mark.slow
def test_stages_with_their_rates_of_blocks_see_whole_steps(small_model):
    """On two replicas: two stages, a schedule, layer decay, weight decay, and BatchNorm that is still."""
    stages = [
        Stage("head", epochs=1, learning_rate=1e-2),
        Stage("all", train="all", epochs=2, learning_rate=1e-2, schedule="cosine", layer_decay=0.5),
    ]

    def fitted(chosen, parts):
        with chosen.scope():
            model, blocks = small_model()
            loss = keras.losses.CategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.Adam(epsilon=1e-3, weight_decay=0.1), loss, metrics=["accuracy"])
        done = training.fit_stages(model, data(), data(), stages, blocks, accumulate=parts)
        numbers = done.history.select_dtypes("number").drop(columns="seconds")
        weights = {str(number): value for number, value in enumerate(model.get_weights())}
        return weights | {"history": numbers.to_numpy()}

    assert_same(fitted(strategy.choose("mirrored"), 3), fitted(tf.distribute.get_strategy(), 1), 2e-6)


def test_no_two_parts_are_computed_at_once():
    """The pictures of a part are cut out once the gradients of those before are there."""
    model = network()
    model.compile("sgd", "mse", jit_compile=True)
    accumulation.divide(model, 3)
    assert not model.jit_compile  # XLA would not wait
    model.make_train_function()
    traced = tf.function(model.train_step, autograph=False).get_concrete_function(next(iter(data())))
    operations = traced.graph.get_operations()
    cuts = [one for one in operations if one.type == "StridedSlice" and one.inputs[0] is traced.inputs[0]]
    assert len(cuts) == 3
    for earlier, later in itertools.pairwise(cuts):
        found, waiting = set(), [later]
        while waiting:
            one = waiting.pop()
            sources = {*one.control_inputs, *(tensor.op for tensor in one.inputs)} - found
            found |= sources
            waiting += sources
        assert earlier in found and any("gradient_tape" in one.name for one in found)


def test_kerass_own_accumulation_needs_help_under_a_strategy():
    """The day this fails Keras can do it: compare `runner/devices/accumulation.py` with it."""

    def own():
        return keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)

    with pytest.raises(RuntimeError, match="merge_call"):
        trained(strategy.choose("mirrored"), 0, data().take(2), optimizer=own)


def test_a_tpu_is_left_to_keras(monkeypatch):
    model = network()
    monkeypatch.setattr(tf.distribute, "TPUStrategy", type(model.distribute_strategy))
    with pytest.raises(InputError, match="accumulate=2: a TPU"):
        multi_worker.prepare(model, 2)
