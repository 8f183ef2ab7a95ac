"""A learning rate by a range test: where the loss falls fastest, and nothing of the test stays."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.pictures.batches import batches
from runner.stage import Stage
from runner.training import range_test
from runner.training.checkpoint import Checkpointing
from runner.training.fit import fit_stages
from runner.training.frozen import FrozenPrefix
from runner.training.stages import StagedUnfreezing

AUTO = (
    Stage("head", epochs=2, learning_rate="auto"),
    Stage("top", train="top:1", epochs=3, learning_rate="auto", schedule="cosine"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


def fit(network, examples, stages, keep=True, **options):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    model, blocks = network()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    train, validation = (
        batches(examples, split, 10, shuffle=split == "train", seed=3) for split in ("train", "val")
    )
    prefix = FrozenPrefix() if keep else None
    return model, fit_stages(model, train, validation, stages, blocks, frozen=prefix, **options)


@pytest.fixture(scope="module")
def searched(network, examples, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fit(network, examples, AUTO)


def assert_same(received, expected):
    (model, fitted), (reference, whole) = received, expected
    pd.testing.assert_frame_equal(
        fitted.history.drop(columns="seconds"), whole.history.drop(columns="seconds"), rtol=0
    )
    for ours, theirs in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_a_stage_with_the_rate_that_was_found_is_the_same_to_the_bit(network, examples, searched):
    _, fitted = searched
    rates = [stage.rate for stage in fitted.stages]
    assert all(1e-5 < rate < 0.5 for rate in rates) and list(fitted.range_tests) == ["head", "top"]
    assert fitted.history.groupby("stage")["learning_rate"].max()["head"] == pytest.approx(rates[0])
    # Dropout and the order of the pictures too are where they were before the test.
    assert_same(fit(network, examples, fitted.stages), searched)


def test_without_keeping_it_is_found_as_well(network, examples, searched):
    _, fitted = fit(network, examples, AUTO, keep=False)
    for ours, theirs in zip(fitted.stages, searched[1].stages, strict=True):
        assert ours.rate == pytest.approx(theirs.rate, rel=0.5)


class Cut(BaseException):
    pass


class CutAt(keras.callbacks.Callback):
    def __init__(self, epoch, calls):
        super().__init__()
        self.epoch, self.calls, self.here = epoch, calls, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.here = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.here == self.epoch and batch + 1 == self.calls:
            raise Cut


def test_a_fit_that_goes_on_keeps_the_rates_that_it_found(network, examples, searched, tmp_path):
    for epoch, calls in ((1, 2), (3, 3)):
        with pytest.raises(Cut):
            fit(
                network,
                examples,
                AUTO,
                checkpoints=Checkpointing(tmp_path, 2),
                callbacks=[CutAt(epoch, calls)],
            )
    went_on = fit(network, examples, AUTO, checkpoints=Checkpointing(tmp_path, 2), callbacks=[CutAt(99, 1)])
    assert_same(went_on, searched)
    assert went_on[1].stages == searched[1].stages
    for name, curve in searched[1].range_tests.items():
        pd.testing.assert_frame_equal(went_on[1].range_tests[name], curve)


@pytest.mark.parametrize("best", [1e-4, 3e-3, 1e-1])
def test_the_rate_lies_where_the_loss_falls_and_before_it_is_lost(best):
    rates = np.geomspace(range_test.LOWEST, range_test.HIGHEST, range_test.STEPS)
    falls = 2 / (1 + (rates / best) ** 2) + 0.05 * np.random.default_rng(0).normal(size=len(rates))
    losses = falls + (rates > 20 * best) * rates / best  # and then it is lost
    curve = pd.DataFrame({"learning_rate": rates, "loss": losses, "smoothed": range_test.smoothed(losses)})
    assert best / 3 < range_test.suggested(curve) < best * 10


def test_the_losses_of_single_steps_come_out_of_running_means():
    losses = [3.0, 1.0, 2.0, 7.0]
    climbing = range_test.Climbing([0.1, 0.2, 0.3, 0.4])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    climbing.set_model(model)
    for step in range(4):
        climbing.on_train_batch_begin(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(climbing.climb[step])
        climbing.on_train_batch_end(step, {"loss": np.mean(losses[: step + 1])})
    np.testing.assert_allclose(climbing.curve()["loss"], losses)
    np.testing.assert_allclose(climbing.curve()["learning_rate"], climbing.climb)


def test_where_no_rate_helps_that_is_said(network, examples, monkeypatch):
    monkeypatch.setattr(range_test, "suggested", lambda curve: None)
    with pytest.raises(InputError, match="stage 'head': learning_rate='auto': no rate from 1e-06 to 1 made"):
        fit(network, examples, AUTO[:1])
    flat = pd.DataFrame({"learning_rate": np.geomspace(1e-6, 1, 120), "loss": np.ones(120)})
    monkeypatch.undo()
    assert range_test.suggested(flat) is None


def test_the_callback_alone_cannot_find_a_rate(small_model, small_data):
    model, blocks = small_model()
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    staged = StagedUnfreezing(AUTO[:1], blocks)
    with pytest.raises(InputError, match="stage 'head': learning_rate='auto' is found by `fit_stages`"):
        model.fit(
            tf.data.Dataset.from_tensor_slices(small_data).batch(10),
            epochs=staged.epochs,
            callbacks=[staged],
            verbose=0,
        )
