"""What is printed while a model trains: few lines in a log, every epoch in a terminal."""

import io
import re

import keras
import pytest
import tensorflow as tf
from rich.console import Console

from runner.stage import Stage
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
