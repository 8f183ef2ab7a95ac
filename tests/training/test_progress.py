"""What is printed while a model trains: few lines in a log, every epoch in a terminal."""

import io
import re

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from rich.console import Console

from runner.pictures.batches import batches
from runner.stage import Stage
from runner.training.fit import fit_stages
from runner.training.frozen import FrozenPrefix
from runner.training.progress import EpochLines
from runner.training.stages import StagedUnfreezing

STAGES = (
    Stage("first", epochs=30, learning_rate=1e-3),
    Stage("second", train="top:1", epochs=3, learning_rate=1e-3),
)


def printed(small_model, small_data, terminal: bool, seconds_between_lines: float = 1e9) -> str:
    model, blocks = small_model()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
    staged = StagedUnfreezing(STAGES, blocks)
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=140, highlight=False)
    model.fit(
        data,
        validation_data=data,
        epochs=staged.epochs,
        verbose=0,
        callbacks=[staged, EpochLines(staged, "a title", console, seconds_between_lines)],
    )
    return output.getvalue()


def test_a_log_gets_first_and_last_epoch_of_each_stage(small_model, small_data):
    lines = printed(small_model, small_data, terminal=False).splitlines()
    assert lines[0] == "a title" and lines[1].startswith("  stage first: trains head (20 weights)")
    assert [line.split()[:2] for line in lines if line.startswith("    ")] == [
        ["first", "1/30"],
        ["first", "30/30"],
        ["second", "1/3"],
        ["second", "3/3"],
    ]
    assert "val_accuracy" in lines[2] and lines[-1].startswith("  done in")
    assert "\x1b" not in "".join(lines)


def test_a_terminal_also_gets_a_bar_with_the_last_validation_accuracy(small_model, small_data):
    text = printed(small_model, small_data, terminal=True)
    assert "first   1/30" in text and "first  30/30" in text and "second   3/3" in text
    assert "\x1b" in text and "validation accuracy 0." in text


def test_slow_epochs_all_get_their_line(small_model, small_data):
    lines = printed(small_model, small_data, terminal=False, seconds_between_lines=0).splitlines()
    assert len([line for line in lines if line.startswith("    first")]) == 30


def test_close_gives_the_terminal_back_after_an_exception(small_model, small_data):
    model, blocks = small_model()
    model.compile("sgd", "mse")
    staged = StagedUnfreezing(STAGES, blocks)
    console = Console(file=io.StringIO(), force_terminal=True)
    boom = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: 1 / 0)
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
    for _ in range(2):  # Rich refuses a second live display on a console while the first one runs
        lines = EpochLines(staged, console=console)
        with pytest.raises(ZeroDivisionError):
            model.fit(data, epochs=33, verbose=0, callbacks=[staged, lines, boom])
        lines.close()


def test_a_notebook_gets_one_line_that_changes_and_no_widgets(small_model, small_data, monkeypatch):
    from IPython import display

    shown = []

    class Handle:
        def update(self, text):
            shown.append(text.data)

    monkeypatch.setattr(display, "display", lambda *texts, display_id: Handle())
    model, blocks = small_model()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(20)
    staged = StagedUnfreezing(STAGES, blocks)
    lines = EpochLines(staged, console=Console(file=io.StringIO(), force_jupyter=True))
    model.fit(data, validation_data=data, epochs=staged.epochs, verbose=0, callbacks=[staged, lines])
    assert lines.bar is None
    assert re.fullmatch(r"33 epochs, validation accuracy [01]\.\d{3}", shown[-1])
    assert all(re.match(r"\d+% of 33 epochs; stage (first|second), epoch \d+", text) for text in shown[:-1])


# ---------------------------------------------------------------- callbacks of one's own

KEPT = (
    Stage("head", epochs=2, learning_rate=1e-2),
    Stage("top", train="top:1", epochs=3, learning_rate=3e-3, schedule="cosine"),
)


class Diary(keras.callbacks.Callback):
    """Writes down what it hears, and from whom."""

    def __init__(self):
        super().__init__()
        self.heard, self.models, self.rates = [], set(), []

    def _hear(self, *event):
        self.heard.append(event)
        self.models.add(self.model.name)

    def on_train_begin(self, logs=None):
        self._hear("train begins", self.params["epochs"])

    def on_train_end(self, logs=None):
        self._hear("train ends")

    def on_epoch_begin(self, epoch, logs=None):
        self._hear("epoch begins", epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._hear("epoch ends", epoch, *sorted(logs))

    def on_train_batch_end(self, batch, logs=None):
        self._hear("step", batch)
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    def on_test_end(self, logs=None):
        self._hear("test ends")


@pytest.fixture
def kept_fit(network, examples, tmp_path, monkeypatch, capsys):
    """Fits with callbacks, what is frozen kept or not; returns the network and its `Fit`."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))

    def fit(callbacks, keep=True, **options):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(1)
        model, blocks = network()
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
        train, validation = (
            batches(examples, split, 10, shuffle=split == "train", seed=3) for split in ("train", "val")
        )
        prefix = FrozenPrefix(fold=False) if keep else None
        fitted = fit_stages(
            model, train, validation, KEPT, blocks, frozen=prefix, callbacks=callbacks, **options
        )
        assert ("computed once" in capsys.readouterr().out) == keep
        return model, fitted

    return fit


def test_own_callbacks_hear_of_one_fit_of_the_whole_network_while_what_is_frozen_is_kept(kept_fit):
    diaries = {keep: Diary() for keep in (True, False)}
    fits = {keep: kept_fit([diaries[keep]], keep) for keep in diaries}
    assert diaries[True].heard == diaries[False].heard and len(diaries[True].heard) > 30
    assert diaries[True].heard.count(("train begins", 5)) == diaries[True].heard.count(("train ends",)) == 1
    assert diaries[True].models == {fits[True][0].name}  # no part of it
    assert diaries[True].rates == pytest.approx(diaries[False].rates)
    for ours, theirs in zip(fits[True][0].weights, fits[False][0].weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=1e-4, err_msg=ours.path)
    assert fits[True][1].history["val_loss"].tolist() == pytest.approx(
        fits[False][1].history["val_loss"].tolist(), rel=1e-4
    )


def test_keras_own_callbacks_work_beside_what_is_kept(kept_fit, tmp_path):
    whole = tmp_path / "whole.keras"
    model, fitted = kept_fit(
        [
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ModelCheckpoint(whole, save_best_only=False),
        ]
    )
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert log["val_loss"].tolist() == pytest.approx(fitted.history["val_loss"].tolist())
    assert keras.models.load_model(whole, compile=False).input.dtype == "uint8"


@pytest.mark.parametrize(("epoch", "never_ran"), [(0, ["top"]), (1, ["top"]), (3, [])])
def test_what_stops_the_whole_network_stops_all_fits(kept_fit, capsys, epoch, never_ran):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, number, logs=None):
            self.model.stop_training = number == epoch

    diary = Diary()
    _, fitted = kept_fit([Stop(), diary])
    assert len(fitted.history) == epoch + 1 and diary.heard[-1] == ("train ends",)
    assert sorted(set(fitted.ledger["stage"])) == ["head"] + (["top"] if epoch > 1 else [])
