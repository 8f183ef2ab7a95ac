"""Staged unfreezing inside one fit: equal to a fresh compile and fit per stage, and honest about
everything it moves.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.devices.strategy import choose
from runner.errors import DivergenceError, InputError, LedgerError
from runner.moving import rates, trainable
from runner.stage import Stage
from runner.training.stages import StagedUnfreezing

LOSS = keras.losses.CategoricalCrossentropy(from_logits=True)
STAGES = (
    Stage("head", train="head", epochs=2, learning_rate=1e-2, keep="last"),
    Stage("top", train="top:1", epochs=2, learning_rate=3e-3, keep="last"),
    Stage("all", train="all", epochs=2, learning_rate=1e-3, keep="last"),
)


def batches(small_data, batch_size=10):
    return tf.data.Dataset.from_tensor_slices(small_data).batch(batch_size)


def staged_fit(model, blocks, data, stages, optimizer=None, **options):
    model.compile(optimizer or keras.optimizers.Adam(), LOSS, metrics=["accuracy"])
    staged = StagedUnfreezing(stages, blocks, **options)
    history = model.fit(data, validation_data=data, epochs=staged.epochs, callbacks=[staged], verbose=0)
    return staged, history.history


@pytest.mark.parametrize(
    "replicas, optimizer",
    [
        (1, lambda: keras.optimizers.Adam()),
        pytest.param(2, lambda: keras.optimizers.Adam(), marks=pytest.mark.slow),
        (1, lambda: keras.optimizers.Nadam()),  # starts with a state that is not all zeros
        pytest.param(2, lambda: keras.optimizers.AdamW(weight_decay=0.1), marks=pytest.mark.slow),
    ],
    ids=["adam", "adam-2-replicas", "nadam", "adamw-2-replicas"],
)
def test_one_fit_equals_a_fresh_compile_and_fit_per_stage_to_the_bit(
    small_model, small_data, replicas, optimizer
):
    strategy = choose("mirrored" if replicas == 2 else "auto")
    data = batches(small_data)
    with strategy.scope():
        model, blocks = small_model(dropout=0.3)
        model.compile(optimizer(), LOSS, metrics=["accuracy"])
    staged = StagedUnfreezing(STAGES, blocks)
    together = model.fit(
        data, validation_data=data, epochs=staged.epochs, callbacks=[staged], verbose=0
    ).history

    with strategy.scope():
        reference, _ = small_model(dropout=0.3)
    apart = {name: [] for name in together}
    for stage in STAGES:
        trainable.set_trainable(reference, blocks, stage.train)
        with strategy.scope():
            fresh = optimizer()
            fresh.learning_rate = stage.learning_rate
            reference.compile(fresh, LOSS, metrics=["accuracy"])
        history = reference.fit(data, validation_data=data, epochs=stage.epochs, verbose=0).history
        for name in apart:
            apart[name] += history[name]

    assert together == apart
    for ours, theirs in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


def test_frozen_moves_exactly_zero_and_the_rest_moves(small_model, small_data):
    model, blocks = small_model()
    start = {v.path: v.numpy() for v in model.weights}
    staged, _ = staged_fit(model, blocks, batches(small_data), STAGES[:2])
    moved = {v.path: not np.array_equal(start[v.path], v.numpy()) for v in model.weights}
    assert not any(moved[path] for path in moved if path.startswith(("block1", "block2", "block3_bn")))
    assert moved["block3_conv/kernel"] and moved["head/kernel"]
    assert staged.ledger["stage"].unique().tolist() == ["head", "top"]
    assert staged.ledger.query("to_train == 0")["moved"].sum() == 0
    assert staged.ledger["statistics_moved"].sum() == 0


def test_norm_stage_trains_scales_while_statistics_stay(small_model, small_data):
    model, blocks = small_model()
    staged, _ = staged_fit(model, blocks, batches(small_data), [Stage("norm", train="norm", epochs=1)])
    table = staged.ledger.set_index("block")
    assert table.loc["block1_relu", ["to_train", "moved", "statistics_moved"]].tolist() == [2, 2, 0]


def test_batch_norm_train_moves_statistics_of_trained_blocks_only(small_model, small_data):
    model, blocks = small_model()
    staged, _ = staged_fit(
        model, blocks, batches(small_data), [Stage("top", train="top:1", epochs=1, batch_norm="train")]
    )
    assert staged.ledger.set_index("block")["statistics_moved"].to_dict() == {
        "block1_relu": 0,
        "block2_relu": 0,
        "block3_relu": 2,
        "head": 0,
    }


def test_best_epoch_of_a_stage_is_restored_before_the_next(small_model, small_data):
    model, blocks = small_model()
    data = batches(small_data)
    stages = [Stage("first", epochs=5, learning_rate=1e-4), Stage("calm", epochs=1, learning_rate=1e-6)]
    spoil = keras.callbacks.LambdaCallback(  # from the third epoch on the head is useless
        on_epoch_begin=lambda epoch, logs: (
            epoch == 2 and model.get_layer("head").kernel.assign(100 * np.ones((4, 4)) * np.eye(4)[0])
        )
    )
    model.compile("adam", LOSS, metrics=["accuracy"])
    staged = StagedUnfreezing(stages, blocks)
    history = model.fit(
        data, validation_data=data, epochs=staged.epochs, callbacks=[staged, spoil], verbose=0
    ).history
    best = min(history["val_loss"][:5])
    assert best < history["val_loss"][4]
    assert history["val_loss"][5] == pytest.approx(best, rel=1e-4)
    last = model.evaluate(data, verbose=0)[0]
    assert last == pytest.approx(history["val_loss"][5], rel=1e-6)


def test_a_stage_hands_on_what_it_received_where_nothing_is_better(small_model, small_data):
    model, blocks = small_model()
    data = batches(small_data)
    stages = [
        Stage("head", epochs=2, learning_rate=1e-3),
        Stage("wreck", train="all", epochs=2, learning_rate=1.0),
        Stage("calm", epochs=1, learning_rate=1e-6),
    ]
    staged, history = staged_fit(model, blocks, data, stages)
    assert min(history["val_loss"][2:4]) > history["val_loss"][1]
    assert history["val_loss"][4] == pytest.approx(history["val_loss"][1], rel=1e-4)
    rows = staged.history
    assert rows[rows["stage"] == "wreck"]["handed_on"].sum() == 0
    assert rows[rows["stage"] == "head"]["handed_on"].tolist() == [False, True]
    assert (staged.ledger.query("stage == 'wreck'")["moved"] > 0).all()  # the ledger tells what it did


def test_of_equal_accuracies_the_lower_loss_is_better(small_model):
    staged = StagedUnfreezing(STAGES, small_model()[1], monitor="val_accuracy")
    staged.sign = -1  # as `fit` finds out
    better, worse = {"val_accuracy": 0.5, "val_loss": 1.0}, {"val_accuracy": 0.5, "val_loss": 2.0}
    assert staged.value(better) < staged.value(worse)
    assert staged.value({"val_accuracy": 0.6, "val_loss": 9.0}) < staged.value(better)


def test_keep_last_hands_on_the_last_epoch(small_model, small_data):
    model, blocks = small_model()
    data = batches(small_data)
    _, history = staged_fit(
        model,
        blocks,
        data,
        [Stage("wild", epochs=4, learning_rate=40.0, keep="last")],
        keras.optimizers.SGD(),
    )
    assert model.evaluate(data, verbose=0)[0] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_patience_ends_a_stage_early_and_the_fit_with_the_last(small_model, small_data):
    model, blocks = small_model()
    stages = [
        Stage("wild", epochs=50, learning_rate=40.0, patience=2),
        Stage("top", train="top:1", epochs=3, learning_rate=1e-3),
    ]
    staged, history = staged_fit(model, blocks, batches(small_data), stages, keras.optimizers.SGD())
    by_stage = staged.history.groupby("stage", sort=False).size().to_dict()
    assert by_stage["wild"] < 50 and by_stage["top"] == 3
    assert len(history["loss"]) == sum(by_stage.values())
    values = staged.history.query("stage == 'wild'")["val_loss"].to_numpy()
    assert len(values) - 1 - values.argmin() == 2


@pytest.mark.parametrize(
    "optimizer", [lambda: keras.optimizers.SGD(momentum=0.9), lambda: keras.optimizers.SGD(weight_decay=0.5)]
)
def test_layer_decay_scales_each_block_and_its_weight_decay(small_model, small_data, optimizer):
    images, labels = small_data
    data = tf.data.Dataset.from_tensors((images, labels))  # one step, so that the change is the update

    def change(layer_decay):
        model, blocks = small_model()
        before = {v.path: v.numpy() for v in model.weights}
        staged_fit(
            model,
            blocks,
            data,
            [Stage("all", train="all", epochs=1, learning_rate=0.1, layer_decay=layer_decay, keep="last")],
            optimizer(),
        )
        return {v.path: v.numpy() - before[v.path] for v in model.weights}

    plain, decayed = change(1.0), change(0.5)
    for depth, path in enumerate(
        ("head/kernel", "block3_conv/kernel", "block2_conv/kernel", "block1_conv/kernel")
    ):
        np.testing.assert_allclose(decayed[path], plain[path] * 0.5**depth, rtol=1e-3, atol=1e-7)


def test_the_backbone_takes_its_share_of_the_rate_and_the_head_the_whole(small_model, small_data):
    data = tf.data.Dataset.from_tensors(small_data)  # one step, so that the change is the update

    def change(share):
        model, blocks = small_model()
        before = {v.path: v.numpy() for v in model.weights}
        stage = Stage("all", train="all", epochs=1, learning_rate=0.1, backbone_rate=share, keep="last")
        staged_fit(model, blocks, data, [stage], keras.optimizers.SGD(momentum=0.9))
        return {v.path: v.numpy() - before[v.path] for v in model.weights}

    plain, slow = change(1.0), change(0.1)
    np.testing.assert_array_equal(slow["head/kernel"], plain["head/kernel"])
    for block in (1, 2, 3):
        path = f"block{block}_conv/kernel"
        np.testing.assert_allclose(slow[path], plain[path] * 0.1, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_layer_decay_also_under_replicas_and_a_second_stage_without_it(small_model, small_data, replicas):
    strategy = choose("mirrored" if replicas == 2 else "auto")
    with strategy.scope():
        model, blocks = small_model()
        model.compile(keras.optimizers.Adam(weight_decay=0.01), LOSS)
    stages = [
        Stage("slow", train="all", epochs=1, learning_rate=1e-3, layer_decay=0.1, keep="last"),
        Stage("even", train="all", epochs=1, learning_rate=1e-3, keep="last"),
    ]
    staged = StagedUnfreezing(stages, blocks)
    model.fit(batches(small_data), epochs=2, callbacks=[staged], verbose=0)
    changes = staged.ledger.set_index(["stage", "block"])["relative_change"]
    assert changes["slow", "block1_relu"] < 0.01 * changes["slow", "block3_relu"] * 3
    assert changes["even", "block1_relu"] > 0.1 * changes["even", "block3_relu"]


def test_schedules_start_peak_and_end_where_they_say():
    constant = Stage("s", learning_rate=0.1)
    assert {rates.at(constant, step, 10) for step in range(10)} == {0.1}
    cosine = [
        rates.at(Stage("s", learning_rate=0.1, schedule="cosine", warmup=0.2), step, 100)
        for step in range(101)
    ]
    assert (
        cosine[0] == pytest.approx(0.1 / 21)
        and max(cosine) == cosine[20] == 0.1
        and cosine[100] == pytest.approx(0, abs=1e-9)
    )
    assert np.all(np.diff(cosine[:21]) > 0) and np.all(np.diff(cosine[20:]) < 0)
    one = [rates.at(Stage("s", learning_rate=0.1, schedule="one_cycle"), step, 100) for step in range(101)]
    assert (
        one[0] == pytest.approx(0.004)
        and max(one) == one[30] == pytest.approx(0.1)
        and one[100] == pytest.approx(1e-6)
    )


def test_the_scheduled_rate_is_the_one_the_optimizer_uses(small_model, small_data):
    model, blocks = small_model()
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(self.model.optimizer.learning_rate.numpy()))

    stage = Stage("head", epochs=3, learning_rate=0.01, schedule="cosine", warmup=0.25)
    model.compile("adam", LOSS)
    staged = StagedUnfreezing([stage], blocks)
    model.fit(
        batches(small_data),
        validation_data=batches(small_data),
        epochs=3,
        callbacks=[staged, Spy()],
        verbose=0,
    )
    np.testing.assert_allclose(seen, [rates.at(stage, step, 12) for step in range(12)], rtol=1e-6)


def test_carrying_the_optimizer_on_keeps_its_step_count(small_model, small_data):
    model, blocks = small_model()
    staged_fit(model, blocks, batches(small_data), STAGES, reset_optimizer=False)
    assert int(model.optimizer.iterations.numpy()) == 6 * 4
    model, blocks = small_model()
    staged_fit(model, blocks, batches(small_data), STAGES)
    assert int(model.optimizer.iterations.numpy()) == 2 * 4


def test_a_second_fit_starts_from_a_fresh_optimizer(small_model, small_data):
    model, blocks = small_model()
    model.compile("adam", LOSS)
    for _ in range(2):
        staged = StagedUnfreezing(STAGES[:1], blocks)
        model.fit(batches(small_data), epochs=2, callbacks=[staged], verbose=0)
        assert int(model.optimizer.iterations.numpy()) == 8 and len(staged.rows) == 2


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(small_model, small_data):
    model, blocks = small_model()
    images, labels = small_data
    stages = (STAGES[0], Stage("top", train="top:1", epochs=2, learning_rate=1e30, keep="last"))
    with pytest.raises(
        DivergenceError,
        match=r"stage 'top', epoch 1, step [1-4]: loss became (nan|inf) at learning rate 1e\+30.*1e\+29",
    ):
        staged_fit(model, blocks, batches(small_data), stages, keras.optimizers.SGD())
    broken = images.copy()
    broken[25] = np.nan  # the third batch of ten
    model, blocks = small_model()
    with pytest.raises(DivergenceError, match=r"stage 'head', epoch 1, step 3: loss became nan"):
        staged_fit(model, blocks, batches((broken, labels)), STAGES)
    model, blocks = small_model()  # the last one's weights are NaN now
    model.compile("adam", LOSS)
    with pytest.raises(DivergenceError, match=r"stage 'head', epoch 1, validation: val_loss became nan"):
        model.fit(
            batches(small_data),
            validation_data=batches((broken, labels)),
            epochs=6,
            callbacks=[StagedUnfreezing(STAGES, blocks)],
            verbose=0,
        )


def test_a_callback_that_moves_a_frozen_weight_stops_the_run(small_model, small_data):
    model, blocks = small_model()
    tamper = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.get_layer("block2_conv").bias.assign_add(np.full(4, 1e-3))
    )
    model.compile("adam", LOSS)
    staged = StagedUnfreezing(STAGES, blocks)
    with pytest.raises(LedgerError, match="stage 'head': block2_conv/bias moved though it is frozen"):
        model.fit(batches(small_data), epochs=6, callbacks=[staged, tamper], verbose=0)


@pytest.mark.parametrize(
    "prepare, message",
    [
        (
            lambda model, blocks, data: model.fit(
                data, epochs=2, callbacks=[StagedUnfreezing(STAGES, blocks)], verbose=0
            ),
            "stages need 6",
        ),
        (
            lambda model, blocks, data: model.fit(
                data,
                epochs=10,
                callbacks=[StagedUnfreezing([Stage("x", train="top:9")], blocks)],
                verbose=0,
                validation_data=data,
            ),
            "this backbone has 3 blocks",
        ),
        (
            lambda model, blocks, data: model.fit(
                data, epochs=10, callbacks=[StagedUnfreezing([Stage("x")], blocks)], verbose=0
            ),
            "'val_loss' is not among the logs",
        ),
        (
            lambda model, blocks, data: StagedUnfreezing([Stage("x"), Stage("x")], blocks),
            "two stages are called 'x'",
        ),
        (lambda model, blocks, data: StagedUnfreezing([], blocks), "no stages"),
        (lambda model, blocks, data: StagedUnfreezing([Stage("x")], blocks, mode="down"), "auto, min, max"),
    ],
    ids=["epochs", "block", "monitor", "names", "none", "mode"],
)
def test_mistakes_are_answered_in_words(small_model, small_data, prepare, message):
    model, blocks = small_model()
    model.compile("adam", LOSS)
    with pytest.raises(InputError, match=message):
        prepare(model, blocks, batches(small_data))


def test_an_optimizer_with_its_own_schedule_is_refused(small_model, small_data):
    model, blocks = small_model()
    with pytest.raises(InputError, match="compile with a number"):
        staged_fit(
            model,
            blocks,
            batches(small_data),
            STAGES,
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        )


def test_keras_still_needs_the_train_function_rebuilt(small_model, small_data):
    """The fact this module leans on: a changed flag alone does nothing to a compiled model that has
    trained once.
    """
    model, blocks = small_model()
    trainable.set_trainable(model, blocks, "all")
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.fit(batches(small_data), epochs=1, verbose=0)
    trainable.set_trainable(model, blocks, "head")
    before = model.get_layer("block1_conv").kernel.numpy()
    model.fit(batches(small_data), epochs=1, verbose=0)
    assert not np.array_equal(before, model.get_layer("block1_conv").kernel.numpy())


def test_keras_moves_batch_norm_called_with_training_false_unless_frozen(small_data):
    """The other fact: `backbone(x, training=False)` does not hold statistics inside fit, `trainable =
    False` does.
    """

    def moved(frozen):
        layer = keras.layers.BatchNormalization()
        layer.trainable = not frozen
        inputs = keras.Input((8, 8, 3))
        outputs = keras.layers.Dense(4)(
            keras.layers.GlobalAveragePooling2D()(layer(inputs, training=None if frozen else False))
        )
        model = keras.Model(inputs, outputs)
        model.compile("sgd", LOSS)
        model.fit(batches(small_data), epochs=1, verbose=0)
        return bool(np.any(layer.moving_mean.numpy()))

    assert not moved(frozen=True)


# ---------------------------------------------------------------- stages that never ran


def test_stages_that_another_callback_left_no_time_for_are_named(small_model, small_data, capsys):
    model, blocks = small_model()
    model.compile("adam", LOSS)
    staged = StagedUnfreezing(
        [Stage("head", epochs=3, learning_rate=1e-9), *STAGES[1:]], blocks, monitor="val_loss"
    )
    never = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    data = batches(small_data)
    model.fit(data, validation_data=data, epochs=staged.epochs, callbacks=[staged, never], verbose=0)
    assert staged.never_ran == ["top", "all"] and len(staged.rows) == 2
    line = "warning: fit ended in stage 'head' after 2 of 7 epochs"
    said = capsys.readouterr().out
    assert line in said and "never ran: top, all." in said
    assert staged.ledger["stage"].unique().tolist() == ["head"]  # what it moved is told all the same


def test_a_stage_that_was_cut_short_hands_on_its_best_epoch(small_model, small_data, capsys):
    model, blocks = small_model()
    model.compile("adam", LOSS)
    staged = StagedUnfreezing([Stage("calm", epochs=9, learning_rate=1e-4)], blocks)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.get_layer("head").kernel.assign(100 * np.ones((4, 4)) * np.eye(4)[0])

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    data = batches(small_data)
    losses = model.fit(data, validation_data=data, epochs=9, callbacks=[staged, Spoil()], verbose=0).history[
        "val_loss"
    ]
    assert len(losses) == 3 and min(losses) < losses[-1]
    assert model.evaluate(data, verbose=0) == pytest.approx(min(losses), rel=1e-5)
    assert staged.never_ran == [] and "warning" not in capsys.readouterr().out


def test_a_fit_without_an_epoch_says_so(small_model, small_data, capsys):
    model, blocks = small_model()
    model.compile("adam", LOSS)
    staged = StagedUnfreezing(STAGES, blocks)
    model.fit(batches(small_data), epochs=6, initial_epoch=6, callbacks=[staged], verbose=0)
    assert staged.never_ran == ["head", "top", "all"]
    assert "after 0 of 6 epochs" in capsys.readouterr().out


def test_a_fit_that_begins_too_late_is_refused(small_model, small_data, tmp_path):
    model, blocks = small_model()
    model.compile("adam", LOSS)
    staged = StagedUnfreezing(STAGES, blocks)
    with pytest.raises(InputError, match="begins at epoch 4 of 6, and the stages need 6 more"):
        model.fit(batches(small_data), epochs=6, initial_epoch=3, callbacks=[staged], verbose=0)
    model.fit(batches(small_data), epochs=9, initial_epoch=3, callbacks=[staged], verbose=0)
    assert staged.never_ran == [] and len(staged.rows) == 6


def test_an_interruption_that_keras_goes_on_from_is_refused(small_model, small_data, tmp_path):
    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise ZeroDivisionError

    def fit(*others):
        model, blocks = small_model()
        model.compile("adam", LOSS)
        kept = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        staged = StagedUnfreezing(STAGES, blocks)
        model.fit(batches(small_data), epochs=6, callbacks=[kept, staged, *others], verbose=0)

    with pytest.raises(ZeroDivisionError):
        fit(Crash())
    with pytest.raises(InputError, match="BackupAndRestore knows of no stages"):
        fit()
