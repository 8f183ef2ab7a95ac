"""A fit that is cut and started again ends where an uninterrupted one ends, to the bit; no disk fault costs
more than what came after the last checkpoint.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner import atomic
from runner.devices.strategy import choose
from runner.errors import DivergenceError, InputError, OutOfMemory
from runner.pictures.batches import batches as batches_of
from runner.stage import Stage
from runner.training import checkpoint
from runner.training.checkpoint import Checkpointing
from runner.training.fit import fit_stages
from runner.training.stages import StagedUnfreezing
from tests.stand_ins import data_of

STAGES = (
    Stage("head", epochs=2, learning_rate=1e-2),
    Stage("top", train="top:1", epochs=4, learning_rate=3e-3, schedule="cosine", warmup=0.2, patience=2),
    Stage("all", train="all", epochs=2, learning_rate=1e-2, layer_decay=0.5, batch_norm="train"),
)
STEPS = 5  # per epoch: 40 pictures, 9 in a batch, the last of 4


class Cut(BaseException):
    """Stands for a process that ends here; nothing that follows runs."""


class CutAt(keras.callbacks.Callback):
    def __init__(self, epoch: int, calls: int | None):
        super().__init__()
        self.epoch, self.calls, self.here = epoch, calls, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.here = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.here == self.epoch and batch + 1 == self.calls:
            raise Cut

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch and self.calls is None:
            raise Cut


@pytest.fixture(scope="module")
def picture_model():
    """uint8 pictures in; dropout without a seed of its own and a random layer: both keep a seed state."""
    from runner.networks.backbones import Block

    def build(width: int = 4):
        keras.utils.set_random_seed(7)
        x = inputs = keras.Input((8, 8, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(x)
        blocks = []
        for number in (1, 2):
            names = tuple(f"block{number}_{part}" for part in ("conv", "bn", "relu"))
            x = keras.layers.Conv2D(width, 3, padding="same", name=names[0])(x)
            x = keras.layers.BatchNormalization(momentum=0.9, name=names[1])(x)
            x = keras.layers.ReLU(name=names[2])(x)
            blocks.append(Block(names[2], names))
        x = keras.layers.GaussianNoise(0.1)(keras.layers.GlobalAveragePooling2D()(x))
        x = keras.layers.Dropout(0.3)(x)
        return keras.Model(inputs, keras.layers.Dense(4, name="head")(x)), tuple(blocks)

    return build


@pytest.fixture(scope="module")
def examples():
    """40 pictures (8, 8, 3) of 4 classes, as a `Data` holds them."""
    random = np.random.default_rng(0)
    labels = np.arange(40, dtype="int64") % 4
    images = random.integers(0, 128, (40, 8, 8, 3)) + 30 * labels[:, None, None, None]
    elements = {"id": np.arange(40, dtype="int64"), "input": images.astype("uint8"), "label": labels}
    return data_of(tf.data.Dataset.from_tensor_slices(elements), "abcd")


def batches(examples, size=9):
    return batches_of(examples, "train", size, shuffle=True, seed=3, strength="medium", mixup=0.2)


def fit(
    build,
    examples,
    checkpoints=None,
    *,
    replicas=1,
    named=True,
    callbacks=(),
    stages=STAGES,
    steps=None,
    minutes=checkpoint.MINUTES,
    **options,
):
    """What a fresh process would do: everything is made anew from the seed."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    train = batches(examples, 9 if replicas == 1 else 8)
    with choose("mirrored" if replicas == 2 else "auto").scope():
        model, blocks = build()
        model.compile(
            keras.optimizers.Nadam(weight_decay=0.01),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    fitted = fit_stages(
        model,
        train if named else train.epoch(),
        batches_of(examples, "val", 20),
        stages,
        blocks,
        callbacks=callbacks,
        checkpoints=checkpoints and Checkpointing(checkpoints, steps, minutes),
        **options,
    )
    return model, fitted


@pytest.fixture(scope="module")
def whole(picture_model, examples):
    """A fit that was left alone."""
    return fit(picture_model, examples)


def assert_same(received, expected):
    (model, fitted), (reference, whole) = received, expected
    assert fitted.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert fitted.ledger.equals(whole.ledger)
    assert fitted.seconds >= fitted.history["seconds"].sum() * 0.9
    for ours, theirs in zip(model.variables, reference.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)
    for ours, theirs in zip(model.optimizer.variables, reference.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


@pytest.mark.parametrize(
    ("named", "which"),
    [
        (True, slice(2, 7, 2)),
        pytest.param(True, slice(None), marks=pytest.mark.slow),
        pytest.param(False, slice(1, 4), marks=pytest.mark.slow),
    ],
    ids=["from-the-step", "from-the-step-more-often", "input-replayed"],
)
def test_cut_again_and_again_a_fit_ends_as_one_that_was_never_cut(
    picture_model, examples, whole, tmp_path, named, which
):
    if not named:  # nothing says what the pictures are without views: BatchNorm stays as it was trained
        whole = fit(picture_model, examples, named=False)
    epochs = len(whole[1].history)
    assert 6 <= epochs <= 8 and whole[1].history["stage"].nunique() == 3
    # After an epoch; within one, before and after the checkpoint of its second step; at its last step.
    cuts = [(0, None), (1, 1), (1, 3), (2, 2), (3, None), (epochs - 2, 3), (epochs - 1, STEPS)]
    for epoch, calls in cuts[which]:
        with pytest.raises(Cut):
            fit(
                picture_model,
                examples,
                tmp_path,
                named=named,
                callbacks=[CutAt(epoch, calls)],
                steps=2,
            )
        assert 1 <= len(list(tmp_path.iterdir())) <= checkpoint.KEPT
    callbacks = [keras.callbacks.Callback()]  # as many as there were
    ended = fit(picture_model, examples, tmp_path, named=named, callbacks=[CutAt(99, None)], steps=2)
    assert_same(ended, whole)
    again = fit(picture_model, examples, tmp_path, named=named, callbacks=[CutAt(99, None)])
    assert_same(again, whole)  # a finished fit is not trained on
    with pytest.raises(InputError, match="further callbacks"):
        fit(picture_model, examples, tmp_path, callbacks=callbacks * 2)


def test_cut_within_a_lora_stage_a_fit_ends_as_one_that_was_never_cut(picture_model, examples, tmp_path):
    stages = (Stage("head", epochs=1, learning_rate=1e-2), Stage("lora", train="lora:2", epochs=3))
    whole = fit(picture_model, examples, stages=stages)
    for epoch, calls in ((1, 3), (2, None)):
        with pytest.raises(Cut):
            fit(picture_model, examples, tmp_path, stages=stages, callbacks=[CutAt(epoch, calls)], steps=2)
    assert_same(fit(picture_model, examples, tmp_path, stages=stages, callbacks=[CutAt(99, None)]), whole)
    added = whole[1].ledger.set_index(["stage", "block"])["to_train"]
    assert added["head"].to_list() == [0, 0, 2] and added["lora"].to_list() == [2, 2, 2]


@pytest.mark.slow
def test_two_replicas_resume_to_the_bit(picture_model, examples, tmp_path):
    whole = fit(picture_model, examples, replicas=2)
    with pytest.raises(Cut):
        fit(
            picture_model,
            examples,
            tmp_path,
            replicas=2,
            callbacks=[CutAt(2, 3)],
            steps=2,
        )
    assert_same(fit(picture_model, examples, tmp_path, replicas=2, callbacks=[CutAt(99, None)]), whole)


def test_other_callbacks_go_on_counting_where_they_stood(picture_model, examples, tmp_path):
    stages = (Stage("all", train="all", epochs=12, learning_rate=1e-2, schedule="constant", keep="last"),)

    def stopper():
        return keras.callbacks.EarlyStopping("loss", patience=3, min_delta=0.2, restore_best_weights=True)

    whole = fit(picture_model, examples, stages=stages, callbacks=[stopper(), CutAt(99, None)])
    epochs = len(whole[1].history)
    assert 4 <= epochs < 12
    with pytest.raises(Cut):
        fit(
            picture_model,
            examples,
            tmp_path,
            stages=stages,
            callbacks=[stopper(), CutAt(epochs - 1, 2)],
        )
    again = stopper()
    ended = fit(picture_model, examples, tmp_path, stages=stages, callbacks=[again, CutAt(99, None)])
    assert_same(ended, whole)
    assert again.wait == 3 and again.stopped_epoch == epochs - 1


def test_mid_epoch_the_file_holds_the_step_and_only_two_files_are_kept(picture_model, examples, tmp_path):
    with pytest.raises(Cut):
        fit(picture_model, examples, tmp_path, callbacks=[CutAt(2, 4)], steps=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-00002-step-0000000.npz",
        "epoch-00002-step-0000002.npz",
    ]
    record, _ = checkpoint.read(tmp_path)
    assert (record["epochs_done"], record["calls"]) == (2, 2)


def test_minutes_within_an_epoch_also_write(picture_model, examples, tmp_path):
    with pytest.raises(Cut):
        fit(picture_model, examples, tmp_path, callbacks=[CutAt(0, 4)], minutes=1e-9)
    assert (tmp_path / "epoch-00000-step-0000003.npz").is_file()


@pytest.mark.parametrize(
    "damage",
    ["one bit", *(pytest.param(damage, marks=pytest.mark.slow) for damage in ("cut short", "empty"))],
)
def test_a_torn_newest_file_falls_back_on_the_one_before(picture_model, examples, whole, tmp_path, damage):
    with pytest.raises(Cut):
        fit(picture_model, examples, tmp_path, callbacks=[CutAt(3, 1)])
    newest = max(tmp_path.iterdir())
    content = bytearray(newest.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"cut short": content[: len(content) // 2], "one bit": content, "empty": b""}[damage])
    (tmp_path / ".epoch-00009-step-0000000-abc.npz").write_bytes(b"half of one")
    record, _ = checkpoint.read(tmp_path)
    assert record["epochs_done"] == 2
    assert_same(fit(picture_model, examples, tmp_path, callbacks=[CutAt(99, None)]), whole)
    assert not list(tmp_path.glob(".*"))


def flipped(folder: Path, bits) -> tuple[int, list[int]]:
    """How many of these bits of a small checkpoint, each wrong alone, let it be read; which of them gave
    something else than what was written.
    """
    random = np.random.default_rng(0)
    arrays = {f"variable_{i:05}": random.normal(size=(3, i + 1)).astype("float32") for i in range(3)}
    arrays |= {"seed_0": np.array([1, 2], "uint32"), "name": np.array("stage")}
    path = checkpoint.write(folder, 1, {"calls": 0, "index": 0}, arrays)
    whole, (record, _) = path.read_bytes(), checkpoint.read(folder)
    read, wrong = 0, []
    for bit in bits(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = checkpoint.read(folder)
        except InputError:
            continue
        read += 1
        same = found[0] == record and found[1].keys() == arrays.keys()
        same = same and all(
            found[1][name].dtype == one.dtype and np.array_equal(found[1][name], one)
            for name, one in arrays.items()
        )
        wrong += [] if same else [bit]
    return read, wrong


def test_a_wrong_bit_is_passed_over_or_makes_no_difference(tmp_path):
    read, wrong = flipped(tmp_path, lambda count: range(0, count, 61))
    assert wrong == [] and read > 0


@pytest.mark.slow
def test_every_single_wrong_bit_is_passed_over_or_makes_no_difference(tmp_path):
    read, wrong = flipped(tmp_path, range)
    assert wrong == [] and read > 0


def test_a_file_that_lacks_an_array_or_has_another_is_passed_over(tmp_path):
    arrays = {"one": np.zeros(3), "other": np.ones(2)}
    checkpoint.write(tmp_path, 1, {}, arrays)
    path = checkpoint.write(tmp_path, 2, {}, arrays)
    with np.load(path) as archive:
        text = archive["record"]
    for changed in ({"one": np.zeros(3)}, arrays | {"one": np.ones(3)}, arrays | {"third": np.ones(1)}):
        np.savez(path, record=text, **changed)
        assert checkpoint.read(tmp_path)[0]["epochs_done"] == 1
    for text in ("[]", "3", '"words"', "null"):
        np.savez(path, record=np.array(text), **arrays)
        assert checkpoint.read(tmp_path)[0]["epochs_done"] == 1
    text = np.array(json.dumps({"version": checkpoint.VERSION, "epochs_done": 7}))
    np.savez(path, record=text, **arrays)  # without hashes
    assert checkpoint.read(tmp_path)[0]["epochs_done"] == 7


def test_where_no_file_is_whole_nothing_is_trained_over_it(picture_model, examples, tmp_path):
    (tmp_path / "epoch-00001-step-0000000.npz").write_bytes(b"torn")
    with pytest.raises(InputError, match="none of epoch-00001-step-0000000.npz can be read whole"):
        fit(picture_model, examples, tmp_path)
    assert (tmp_path / "epoch-00001-step-0000000.npz").read_bytes() == b"torn"


def test_a_full_disk_keeps_the_last_good_file_and_the_training_goes_on(
    picture_model, examples, whole, tmp_path, capsys
):
    class FillDisk(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:  # files may not grow beyond 8 kB, one is larger: the write fails half-way
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limit[1]))

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        received = fit(picture_model, examples, tmp_path, callbacks=[FillDisk()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert_same(received, whole)
    assert capsys.readouterr().out.count("no checkpoint written") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-00001-step-0000000.npz",
        "epoch-00002-step-0000000.npz",
    ]
    assert checkpoint.read(tmp_path)[0]["epochs_done"] == 2


def test_other_stages_other_weights_and_other_versions_are_refused(picture_model, examples, tmp_path):
    with pytest.raises(Cut):
        fit(picture_model, examples, tmp_path, callbacks=[CutAt(1, 1)])
    with pytest.raises(InputError, match="written with other stages"):
        fit(picture_model, examples, tmp_path, callbacks=[CutAt(9, 1)], stages=STAGES[:2])
    with pytest.raises(InputError, match="holds other weights"):
        fit(lambda: picture_model(5), examples, tmp_path, callbacks=[CutAt(9, 1)])
    record, arrays = checkpoint.read(tmp_path)
    text = np.array(json.dumps(record | {"version": 0}))
    for path in tmp_path.iterdir():
        atomic.write(path, lambda temporary: np.savez(temporary, record=text, **arrays))
    with pytest.raises(InputError, match="a checkpoint of version 0"):
        fit(picture_model, examples, tmp_path, callbacks=[CutAt(9, 1)])


def test_sigterm_writes_the_state_between_two_steps_and_leaves_with_143(
    picture_model, examples, whole, tmp_path, capsys
):

    class Terminate(CutAt):
        def on_train_batch_end(self, batch, logs=None):
            if (self.here, batch + 1) == (self.epoch, self.calls):
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        fit(picture_model, examples, tmp_path, callbacks=[Terminate(2, 3)])
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert "stopped by SIGTERM: state written after epoch 2 and 3 steps" in capsys.readouterr().out
    assert (tmp_path / "epoch-00002-step-0000003.npz").is_file()
    assert_same(fit(picture_model, examples, tmp_path, callbacks=[CutAt(99, None)]), whole)


def test_ctrl_c_writes_the_state_between_two_steps(picture_model, examples, tmp_path, capsys):
    class Press(CutAt):
        def on_train_batch_end(self, batch, logs=None):
            if (self.here, batch + 1) == (self.epoch, self.calls):
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(picture_model, examples, tmp_path, callbacks=[Press(0, 3)], stages=STAGES[:1])
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopped by Ctrl-C: state written after epoch 0 and 3 steps" in capsys.readouterr().out
    assert (tmp_path / "epoch-00000-step-0000003.npz").is_file()


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    staged, before = StagedUnfreezing(STAGES, ()), signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with checkpoint.Checkpoints(tmp_path, staged, None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_loss_that_is_no_number_names_the_batch_and_keeps_the_last_good_state(
    picture_model, examples, tmp_path
):
    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if len(self.model.history.epoch) == 2 and batch == 3:
                self.model.get_layer("head").bias.assign(np.full(4, np.nan))

    seen = []
    with pytest.raises(DivergenceError) as error:
        fit(picture_model, examples, tmp_path, callbacks=[Poison()], steps=1)
    for batch in batches(examples).after(2 * STEPS + 3).take(1):
        seen = batch["id"].numpy().tolist()
    message = str(error.value)
    assert "stage 'top', epoch 1, step 4: loss became nan" in message
    assert f"The batch's ids (rows of the manifest, from 0): {', '.join(map(str, seen))}." in message
    assert f"last good checkpoint is {tmp_path / 'epoch-00002-step-0000003.npz'}" in message
    _, arrays = checkpoint.read(tmp_path)
    assert all(np.isfinite(values).all() for name, values in arrays.items() if name.startswith("variable"))


def test_a_step_without_memory_says_which_batch_size_to_try(picture_model, examples):
    def build():
        model, blocks = picture_model()

        class Greedy(keras.layers.Layer):
            def call(self, x):  # 9 pictures ask for 9 * 2**40 bytes
                row = tf.reshape(x, [-1])
                return x + 1e-30 * tf.reduce_sum(tf.random.normal([tf.size(row, tf.int64) * 2**34]))

        x = Greedy()(model.layers[-2].output)
        return keras.Model(model.input, keras.layers.Dense(4, name="head")(x)), blocks

    with pytest.raises(OutOfMemory, match="9 pictures in a batch; try accumulate=2.*batch_size of 4, in"):
        fit(build, examples)


# ---------------------------------------------------------------- the template, killed


def train(run: Path, *more: str) -> subprocess.Popen:
    command = [
        *(sys.executable, "-m", "templates.image_classification.train", "--run-dir", str(run)),
        *("--no-baselines", "--deterministic", "--labels-per-class", "8", "--checkpoint-steps", "2"),
        *("--stages.0.epochs", "2", "--stages.1.epochs", "3", "--stages.2.epochs", "2"),
        *("--stages.1.patience", "2", "--dropout", "0.3", "--augment", "medium", "--mixup", "0.2", *more),
    ]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def results(run: Path) -> dict:
    """What two equal runs have in common: all but times. Weights as bytes."""
    import pandas as pd

    model = keras.saving.load_model(run / "model.keras")
    history = pd.read_csv(run / "history.csv").drop(columns="seconds")
    return {
        "history": history.to_csv(),
        "ledger": (run / "ledger.csv").read_text(),
        "predictions": (run / "predictions.csv").read_text(),
        "weights": [variable.numpy().tobytes() for variable in model.weights],
    }


def kill_and_compare(tmp_path: Path, kills: int, seed: int) -> None:
    whole = train(tmp_path / "whole")
    assert whole.wait(600) == 0, whole.stdout.read()
    expected = results(tmp_path / "whole")
    at_files = random.Random(seed)
    killed_in, agree = [], 0
    while len(killed_in) < kills:
        run = tmp_path / f"run-{agree}"
        while len(killed_in) < kills:
            process, states = train(run), run / "checkpoints" / "staged"
            # A random delay after a random number of new checkpoints: also while one is being written.
            begin = set(states.glob("*")) if states.is_dir() else set()
            seen, wanted, delay = set(), at_files.randint(1, 6), at_files.uniform(0, 0.1)
            while process.poll() is None and len(seen) < wanted:
                seen |= set(states.glob("*.npz")) - begin if states.is_dir() else set()
                threading.Event().wait(0.002)
            threading.Event().wait(delay)
            process.kill()
            process.communicate()
            if (run / "metrics.json").is_file():
                break
            killed_in.append(max((path.name for path in states.glob("epoch-*")), default="before any"))
        process = train(run)
        output = process.communicate(timeout=600)[0]
        if "this run is complete" not in output:
            assert process.returncode == 0, output
        assert results(run) == expected, f"after kills at {killed_in}"
        agree += 1
    print(f"killed {len(killed_in)} times, in {agree} runs: {killed_in}")


@pytest.mark.slow
def test_killed_processes_end_as_one_that_was_left_alone(tmp_path):
    kill_and_compare(tmp_path, kills=2, seed=0)


@pytest.mark.slow
def test_thirty_kills_at_random_moments_change_nothing(tmp_path):
    kill_and_compare(tmp_path, kills=30, seed=1)
