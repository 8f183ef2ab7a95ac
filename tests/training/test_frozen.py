"""The frozen part computed once: cut where nothing moves, the same to the bit, kept in whole files."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.augment import views as augment
from runner.data.batches import SplitBatches
from runner.data.lengths import Lengths
from runner.devices.strategy import choose
from runner.errors import InputError
from runner.networks import backbones
from runner.networks.backbones import Block
from runner.pictures.batches import batches as batches_of
from runner.stage import Stage
from runner.training import cache as activations
from runner.training import frozen
from runner.training.checkpoint import Checkpointing
from runner.training.fit import fit_stages

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"k": "6" * 64} | {one: activations.fingerprint(one) for one in "abcdh"}
STAGES = (
    Stage("head", epochs=3, learning_rate=1e-2, schedule="cosine"),
    Stage("top", train="top:1", epochs=4, learning_rate=3e-3, patience=2),
    Stage("all", train="all", epochs=2, learning_rate=1e-3, batch_norm="train"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compiled(build, replicas=1):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    with choose("mirrored" if replicas == 2 else "auto").scope():
        model, blocks = build()
        model.compile(
            keras.optimizers.Adam(weight_decay=0.01),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            metrics=["accuracy"],
        )
    return model, blocks


def kept_in(folder, steps=None):
    return Checkpointing(folder / "checkpoints", steps)


def splits(examples, batch_size=9, strength="none"):
    train = batches_of(examples, "train", batch_size, shuffle=True, seed=3, strength=strength)
    return train, batches_of(examples, "val", batch_size)


def fit(
    build,
    examples,
    keep,
    *,
    replicas=1,
    strength="none",
    stages=STAGES,
    views=2,
    fold=True,
    per_call=1,
    **options,
):
    model, blocks = compiled(build, replicas)
    model.steps_per_execution = per_call
    batch_size = (9 if replicas == 1 else 8) if per_call == 1 else 10
    prefix = frozen.FrozenPrefix(views=views, fold=fold)
    fitted = fit_stages(
        model,
        *splits(examples, batch_size, strength),
        stages,
        blocks,
        frozen=prefix if keep else None,
        **options,
    )
    return model, fitted


@pytest.fixture(scope="module")
def whole(network, examples, tmp_path_factory):
    """A fit with kept views that was left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(tmp_path_factory.mktemp("kept")))
        return fit(network, examples, True, strength="light")


def assert_same(received, expected, exact=True):
    (model, fitted), (reference, whole) = received, expected
    history = fitted.history.drop(columns="seconds"), whole.history.drop(columns="seconds")
    pd.testing.assert_frame_equal(*history, rtol=0 if exact else 1e-4)
    pd.testing.assert_frame_equal(fitted.ledger, whole.ledger, rtol=0 if exact else 1e-3)
    for ours, theirs in zip(model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0 if exact else 1e-5, err_msg=ours.path)


# ---------------------------------------------------------------- where to cut


@pytest.mark.parametrize(
    ("stage", "layer"),
    [
        (Stage("a", train="head"), "pool"),
        (Stage("a", train="top:1"), "block1_relu"),
        (Stage("a", train="above:block1_relu"), "block1_relu"),
        (Stage("a", train="all"), None),
        (Stage("a", train="norm"), "block1_conv"),
        (Stage("a", train="bias"), None),
    ],
)
def test_the_cut_is_the_last_place_before_anything_moves(network, stage, layer):
    model, blocks = network()
    divided = frozen.cut(model, blocks, stage)
    if layer is None:
        assert divided is None
        return
    assert divided.layer == layer
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    whole, parts = model(pictures), divided.above(divided.below(pictures))
    assert np.array_equal(whole, parts)
    trained = {id(variable) for variable in model.trainable_variables}
    assert trained and not trained & {id(variable) for variable in divided.below.weights}
    assert trained == {id(variable) for variable in divided.above.trainable_variables}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("MobileNetV2-0.35", 32),
        ("ResNet50", 32),
        *(
            pytest.param(name, size, marks=pytest.mark.slow)
            for name, size in (
                ("VGG16", 32),
                ("InceptionV3", 75),
                ("Xception", 71),
                ("DenseNet121", 32),
                ("EfficientNetB0", 32),
                ("ConvNeXtTiny", 32),
                ("MobileNetV3Small", 32),
            )
        ),
    ],
)
def test_real_networks_are_cut_at_their_blocks(name, size):
    backbone = backbones.build(name, size, "none")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, name="head")(x))
    blocks = backbones.blocks(backbone)
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    whole = model(pictures)
    for train, layer in (("head", "pool"), ("top:2", blocks[-3].name), ("top:1", blocks[-2].name)):
        divided = frozen.cut(model, blocks, Stage("a", train=train))
        # Layers without weights at the foot of the next block may be still as well.
        lower = [one.name for one in divided.below.layers]
        assert layer in lower and divided.layer in {layer, *blocks[-1].layers, *blocks[-2].layers}
        np.testing.assert_array_equal(divided.above(divided.below(pictures)), whole)


def test_layers_made_of_layers_and_random_ones_are_seen_through():
    def head_with(layer):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(8, 3, name="conv")(inputs)
        x = layer(keras.layers.Reshape((36, 8), name="rows")(x))
        model = keras.Model(inputs, keras.layers.Dense(2, name="head")(keras.layers.Flatten(name="flat")(x)))
        return frozen.cut(model, (Block("conv", ("conv",)),), Stage("a", train="head")).layer

    def attention(x):
        return keras.layers.MultiHeadAttention(2, 4)(x, x)

    assert head_with(keras.layers.ReLU()) == "flat"
    assert head_with(attention) == "rows"
    assert head_with(keras.layers.Dropout(0.0)) == "flat" and head_with(keras.layers.Dropout(0.5)) == "rows"
    assert head_with(keras.layers.GaussianNoise(0.1)) == "rows"


def test_a_training_step_of_ones_own_is_not_lost(network, examples):
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    built, blocks = network()
    model = Own(built.input, built.output)
    model.compile("adam", "categorical_crossentropy")
    part = frozen.FrozenPrefix().part(model, *splits(examples), blocks, Stage("head"))
    assert "step of its own" in part


def test_noise_of_the_head_stays_above_and_that_of_frozen_blocks_below():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.Dropout(0.5, name="inside")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GaussianNoise(0.1, name="noise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    blocks = (Block("relu", ("conv", "inside", "relu")),)
    assert frozen.cut(model, blocks, Stage("a", train="head")).layer == "relu"


# ---------------------------------------------------------------- the same result


def test_without_augmentation_keeping_changes_no_bit(network, examples):
    assert_same(fit(network, examples, True, fold=False), fit(network, examples, False))


def test_folded_it_changes_rounding_only(network, examples):
    # Not the last stage: Adam makes whole steps of the rounding in gradients that are 0 but for it, such as
    # those of a bias before BatchNorm.
    stages = STAGES[:2]
    folded, whole = (fit(network, examples, keep, stages=stages) for keep in (True, False))
    assert_same(folded, whole, exact=False)


@pytest.mark.slow
def test_on_two_replicas_too(network, examples):
    kept = fit(network, examples, True, replicas=2, fold=False)
    assert_same(kept, fit(network, examples, False, replicas=2), exact=False)


def test_each_replica_computes_its_share(network, examples, tmp_path, monkeypatch):
    parts = {}
    for replicas in (1, 2):
        monkeypatch.setenv("THAW_CACHE", str(tmp_path / f"{replicas}"))
        model, blocks = compiled(network, replicas)
        prefix = frozen.FrozenPrefix(views=2)
        train, _ = splits(examples, strength="light")
        level = frozen._Level(model, model.get_layer("pool").output, "pool", 2)
        parts[replicas] = prefix._keep([level], train).array
        (compute,) = level.functions.values()
        batch = np.arange(7 * 8 * 8 * 3, dtype=np.uint8).reshape(7, 8, 8, 3)
        whole = keras.Model(model.input, level.tensor)(batch, training=False)
        np.testing.assert_allclose(compute(batch), whole, atol=1e-5)
        np.testing.assert_allclose(compute(batch[:1]), whole[:1], atol=1e-5)
    np.testing.assert_allclose(parts[1], parts[2], atol=1e-5)


def test_a_cut_fit_goes_on_to_the_bit(network, examples, whole, tmp_path):
    class Stop(BaseException):
        pass

    class Stopping(frozen.FrozenPrefix):
        """Ends the process, as far as this test goes, when a stage is prepared."""

        def part(self, model, train, validation, blocks, stage, later):
            if stage.name == self.stop_at:
                raise Stop
            return super().part(model, train, validation, blocks, stage, later)

    for stop_at in ("top", "all"):
        Stopping.stop_at = stop_at
        frozen_prefix, frozen.FrozenPrefix = frozen.FrozenPrefix, Stopping
        try:
            with pytest.raises(Stop):
                fit(network, examples, True, strength="light", checkpoints=kept_in(tmp_path))
        finally:
            frozen.FrozenPrefix = frozen_prefix
    for _ in range(2):  # the second finds that there is nothing left to do
        ended = fit(network, examples, True, strength="light", checkpoints=kept_in(tmp_path))
        assert_same(ended, whole)


@pytest.mark.parametrize(
    "step",
    [22, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 12, 31))],
)
def test_a_fit_killed_within_a_kept_stage_goes_on_to_the_bit(
    network, examples, whole, tmp_path, step, monkeypatch
):
    from runner.training import stages

    taken = iter(range(1, 1000))
    original = stages.StagedUnfreezing.on_train_batch_end

    class Kill(BaseException):
        pass

    def counting(self, batch, logs=None):
        original(self, batch, logs)
        if next(taken) == step:
            raise Kill

    monkeypatch.setattr(stages.StagedUnfreezing, "on_train_batch_end", counting)
    options = dict(strength="light", checkpoints=kept_in(tmp_path, steps=1))
    with pytest.raises(Kill):
        fit(network, examples, True, **options)
    monkeypatch.undo()
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "elsewhere"))  # what is kept may be gone as well
    assert_same(fit(network, examples, True, **options), whole)


@pytest.mark.slow
def test_several_steps_in_one_call_train_the_same_and_go_on_to_the_bit(
    network, examples, tmp_path, monkeypatch
):
    from runner.training import stages

    constant = tuple(dataclasses.replace(stage, schedule="constant") for stage in STAGES)
    options = dict(strength="light", stages=constant, per_call=2)
    whole = fit(network, examples, True, **options)
    original = stages.StagedUnfreezing.on_train_batch_end
    calls = []

    class Kill(BaseException):
        pass

    def counting(self, batch, logs=None):
        original(self, batch, logs)
        calls.append(batch)
        if len(calls) == 9:  # of 2 calls an epoch, in the stage "top"
            raise Kill

    monkeypatch.setattr(stages.StagedUnfreezing, "on_train_batch_end", counting)
    with pytest.raises(Kill):
        fit(network, examples, True, checkpoints=kept_in(tmp_path, steps=1), **options)
    monkeypatch.undo()
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "elsewhere"))
    assert calls[:4] == [1, 3, 1, 3]
    assert_same(fit(network, examples, True, checkpoints=kept_in(tmp_path), **options), whole)
    with pytest.raises(InputError, match="does not divide the 4 steps .* one of 1, 2, 4"):
        fit(network, examples, True, **options | {"per_call": 3})


def test_sigterm_while_a_part_is_computed_leaves_at_once_and_goes_on(
    network, examples, whole, tmp_path, cache, monkeypatch
):
    options = dict(strength="light", checkpoints=kept_in(tmp_path))
    function = frozen._Level.function
    batches = []

    def terminated(level, *arguments):
        compute = function(level, *arguments)

        def computing(pictures):
            batches.append(len(pictures))
            if len(batches) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return compute(pictures)

        return computing

    monkeypatch.setattr(frozen._Level, "function", terminated)
    with pytest.raises(SystemExit) as left:
        fit(network, examples, True, **options)
    assert left.value.code == 143 and len(batches) == 2 and list(cache.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("THAW_CACHE", str(cache))
    assert_same(fit(network, examples, True, **options), whole)


# ---------------------------------------------------------------- nothing is made from its config


@keras.saving.register_keras_serializable("tests")
class Times(keras.losses.Loss):
    """A loss that is so many times larger, of which its config says nothing."""

    def __init__(self, times=1.0, **options):
        super().__init__(**options)
        self.times = times

    def call(self, truth, logits):
        return self.times * keras.ops.categorical_crossentropy(truth, logits, from_logits=True)


class Scaled(keras.layers.Layer):
    """The same of a layer."""

    def __init__(self, times=1.0, **options):
        super().__init__(**options)
        self.times = times

    def call(self, x):
        return self.times * x

    def get_config(self):
        return keras.layers.Layer.get_config(Scaled())


def weighted(network, examples, keep, loss, weights):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model, blocks = network()
    optimizer = keras.optimizers.AdamW(weight_decay=5.0)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    area = keras.metrics.AUC(name="area", from_logits=True)
    model.compile(optimizer, loss, weighted_metrics=["accuracy", area])
    train, validation = (
        batches_of(examples, split, 9, shuffle=split == "train", seed=3, weights=weights)
        for split in ("train", "val")
    )
    stages = (Stage("head", epochs=1), Stage("again", epochs=1))
    prefix = frozen.FrozenPrefix(fold=False) if keep else None
    return model, fit_stages(model, train, validation, stages, blocks, frozen=prefix)


def test_kept_stages_train_with_the_loss_the_weights_and_the_optimizer_that_were_given(network, examples):
    weights = np.linspace(0.0, 9.0, 52).astype("float32")
    given = Times(50.0), weights
    received = weighted(network, examples, True, *given)
    assert_same(received, weighted(network, examples, False, *given))
    plain = weighted(network, examples, True, Times(), None)[1].history["loss"].iloc[0]
    assert received[1].history["loss"].iloc[0] > 50 * plain


def test_layers_of_ones_own_are_the_very_layers_also_folded_and_kept(network, examples, cache):
    def part(times):
        built, blocks = network()
        layer = Scaled(times, name="scaled")
        x = keras.layers.Dense(4, name="last")(layer(built.get_layer("pool").output))
        model = keras.Model(built.input, x)
        model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
        found = frozen.FrozenPrefix().part(model, *splits(examples), blocks, Stage("head", epochs=1))
        (batch,) = found.validation.epoch().take(1)
        known = next(iter(batches_of(examples, "val", 9).epoch()))
        assert "below scaled computed once" in found.note and len(model.weights) == 14
        np.testing.assert_allclose(found.model(batch[0]), model(known[0]), rtol=1e-4, atol=1e-4)

    part(3.0)
    part(7.0)  # what the first kept is of another layer, whose config is the same
    assert len(list(cache.iterdir())) == 4


# ---------------------------------------------------------------- views


def test_views_are_taken_in_turn_and_each_is_the_augmented_picture(network, examples):
    model, blocks = compiled(network)
    stage = Stage("head", epochs=6)
    part = frozen.FrozenPrefix(views=3).part(model, *splits(examples, strength="medium"), blocks, stage)
    below = frozen.cut(model, blocks, stage).below
    augmented = augment.dataset(examples.train.batch(9), "medium", seed=3, start=0).take(3 * 5)
    expected: dict[int, list] = {}
    for batch in augmented:
        for one, features in zip(
            batch["id"].numpy(), below(batch["input"], training=False).numpy(), strict=True
        ):
            expected.setdefault(int(one), []).append(features)
    epochs = [{} for _ in range(6)]
    for step, batch in enumerate(part.train.after(0).take(30)):
        for one, features, label in zip(
            *(batch[name].numpy() for name in ("id", "input", "label")), strict=True
        ):
            epochs[step // 5][int(one)] = features
            assert f"c{label.argmax()}" == examples.manifest["label"][one]
    for one, views in expected.items():
        seen = [epoch[one] for epoch in epochs]
        assert all(np.array_equal(seen[epoch], seen[epoch + 3]) for epoch in range(3))
        for view in views:  # the batch around a picture was another when it was kept: rounding may differ
            assert min(np.abs(view - other).max() for other in seen[:3]) < 1e-5
    later = [batch["id"].numpy().tolist() for batch in part.train.after(7).take(3)]
    assert later == [batch["id"].numpy().tolist() for batch in part.train.after(0).skip(7).take(3)]


def test_what_cannot_be_kept_is_said_and_trains_all_the_same(network, examples):
    model, blocks = compiled(network)
    prefix, both = frozen.FrozenPrefix(memory=10, disk=10), splits(examples)
    assert "neither in memory nor on disk" in prefix.part(model, *both, blocks, Stage("head"))
    assert "too little of the network" in prefix.part(model, *both, blocks, Stage("all", train="all"))


# ---------------------------------------------------------------- kept from run to run


def filled(array):
    array[:] = np.arange(array.size).reshape(array.shape)


def test_a_second_run_finds_what_the_first_computed(cache):
    first = activations.keep(KEYS["k"], (3, 4), np.float32, filled)
    second = activations.keep(KEYS["k"], (3, 4), np.float32, None)  # would fail if it had to be computed
    assert first.computed and not second.computed and "computed before" in second.how
    assert np.array_equal(first.array, second.array)
    mapped = activations.keep(KEYS["k"], (3, 4), np.float32, None, memory=0)
    assert isinstance(mapped.array, np.memmap) and "on disk" in mapped.how
    half = activations.keep(KEYS["h"], (5,), tf.bfloat16.as_numpy_dtype, filled)
    again = activations.keep(KEYS["h"], (5,), tf.bfloat16.as_numpy_dtype, None)
    assert again.array.dtype == tf.bfloat16.as_numpy_dtype and again.array.astype(float).tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert half.array.dtype == again.array.dtype


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"no array at all"])
def test_a_damaged_file_is_made_again(cache, damage):
    activations.keep(KEYS["k"], (3, 4), np.float32, filled)
    (cache / f"{KEYS['k']}.npy").write_bytes(damage)
    assert activations.keep(KEYS["k"], (3, 4), np.float32, filled).computed
    os.truncate(cache / f"{KEYS['k']}.npy", 140)
    assert activations.keep(KEYS["k"], (3, 4), np.float32, filled, memory=0).computed
    assert activations.keep(KEYS["k"], (4, 3), np.float32, filled).computed  # another shape is another thing


@pytest.mark.parametrize("memory", [0, 10**6])
def test_a_file_with_one_wrong_bit_is_made_again_or_read_right(cache, memory):
    made = activations.keep(KEYS["k"], (2, 3), np.float32, filled).array
    path = cache / f"{KEYS['k']}.npy"
    whole = path.read_bytes()
    assert np.array_equal(np.load(path), made)  # what reads .npy files reads it
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = activations.find(KEYS["k"], (2, 3), np.float32, memory=memory)
        assert found is None or np.array_equal(found.array, made), place
        assert found is None or place < 128  # what is not the array's, such as spaces in the header
    path.write_bytes(whole[: len(whole) - len(activations.MARK) - 32])  # as they were without a hash
    assert activations.keep(KEYS["k"], (2, 3), np.float32, filled).computed


def test_a_failed_or_killed_computation_leaves_nothing_that_counts(cache):
    def fails(array):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        activations.keep(KEYS["k"], (3,), np.float32, fails)
    assert list(cache.iterdir()) == []
    code = (
        "import os, signal; from runner.training import cache as activations\n"
        "activations.keep('6' * 64, (3,), 'float32', lambda array: os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -9
    (half,) = cache.iterdir()
    assert half.name.startswith(".half-")
    old = time.time() - activations.LEFT_OVER - 1
    os.utime(half, (old, old))
    assert activations.keep(KEYS["k"], (3,), np.float32, filled).computed
    assert [one.name for one in cache.iterdir()] == [f"{KEYS['k']}.npy"]


def test_the_least_recently_used_go_first(cache):
    for number, key in enumerate("abc"):
        activations.keep(KEYS[key], (1000,), np.float64, filled)
        os.utime(cache / f"{KEYS[key]}.npy", (number, number))
    (cache / "mine.npy").write_bytes(bytes(10**6))
    activations.keep(KEYS["a"], (1000,), np.float64, None)  # used again
    activations.keep(KEYS["d"], (1000,), np.float64, filled, disk=3 * 8200)
    kept = {f"{KEYS[key]}.npy" for key in "acd"}
    assert {one.name for one in cache.iterdir()} == kept | {"mine.npy"}  # what is not ours is not touched


def test_two_processes_at_once_both_get_the_whole(cache):
    code = (
        "import sys, time, numpy as np; from runner.training import cache as activations\n"
        "def fill(array):\n    for i in range(len(array)):\n        array[i] = i\n        time.sleep(0.001)\n"
        "kept = activations.keep('6' * 64, (300,), 'int64', fill)\n"
        "assert (kept.array == np.arange(300)).all()"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert [one.name for one in cache.iterdir()] == [f"{KEYS['k']}.npy"]


def test_a_folder_that_cannot_be_written_costs_only_the_next_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "file"))
    kept = activations.keep(KEYS["k"], (3,), np.float32, filled)
    assert kept.array.tolist() == [0, 1, 2] and "this run only" in kept.how


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on files is how this test fills the disk")
def test_a_full_disk_costs_only_the_next_run(cache):
    code = (
        "import resource; from runner.training import cache as activations\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "kept = activations.keep('6' * 64, (100_000,), 'float64', lambda array: array.fill(3))\n"
        "assert kept.array.sum() == 300_000 and 'this run only' in kept.how, kept.how"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(cache.iterdir()) == []


def test_fingerprints_tell_everything_apart():
    parts = (
        ["a", "b"],
        ["ab"],
        [b"a", "b"],
        [1],
        [1.5],
        [np.zeros(2)],
        [np.zeros((2, 1))],
        [np.zeros(2, "f4")],
    )
    found = [activations.fingerprint(*one) for one in (*parts, [["a"], "b"], [np.ones(2)])]
    assert len(set(found)) == len(found) and found[0] == activations.fingerprint("a", "b")


def test_other_weights_pictures_or_views_are_another_file(network, examples, cache):
    model, blocks = compiled(network)

    def files(views=2, batch_size=9, recipe="", **changes):
        examples.recipe = recipe
        options = dict(shuffle=True, seed=3, strength="light") | changes
        train = batches_of(examples, "train", batch_size, **options)
        validation = batches_of(examples, "val", batch_size)
        part = frozen.FrozenPrefix(views=views).part(
            model, train, validation, blocks, Stage("head", epochs=4)
        )
        return part.note, len(list(cache.iterdir()))

    note, count = files()
    assert count == 2 and "40 pictures in 2 views, 12 for validation" in note
    assert "computed before" in files()[0] and files()[1] == 2
    for changes in (
        {"views": 3},
        {"seed": 4},
        {"batch_size": 8},
        {"strength": "medium"},
        {"flip": True},
        {"recipe": "pad"},
    ):
        before = files()[1]
        assert files(**changes)[1] > before
    before = files()[1]
    model.get_layer("block1_conv").bias.assign_add(np.ones(6))
    assert files()[1] == before + 2


# ---------------------------------------------------------------- encoders of texts


@pytest.fixture(scope="module")
def encoder():
    """Builds (network, blocks): two transformer layers without dropout on 12 token ids, and a head."""
    keras_hub = pytest.importorskip("keras_hub")
    from runner.text_networks import encoders, marking

    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24, "dropout": 0.0}
    keras.utils.set_random_seed(7)
    backbone = keras_hub.models.BertBackbone(vocabulary_size=40, max_sequence_length=16, **sizes)
    backbone.set_weights([one + np.random.normal(0, 0.05, one.shape) for one in backbone.get_weights()])

    def build():
        keras.utils.set_random_seed(7)
        network = encoders.copy(backbone, 12, "small")
        pooled = marking.MeanOfTokens(name="pool", dtype="float32")(network.output)
        logits = keras.layers.Dense(4, name="head")(pooled)
        return keras.Model(network.input, logits, name="small"), encoders.blocks(network)

    return build


@pytest.fixture(scope="module")
def sentences(examples):
    """The `examples` with rows of token ids in the place of pictures: each class has words of its own."""
    random = np.random.default_rng(0)
    labels = examples.manifest["label"].cat.codes.to_numpy()
    ids = random.integers(4, 12, (52, 12)) + 7 * labels[:, None]
    ids = np.where(np.arange(12) < random.integers(2, 13, (52, 1)), ids, 0).astype("int32")

    def part(dataset):
        rows = np.array([int(one["id"]) for one in dataset.as_numpy_iterator()])
        given = {"id": rows, "input": ids[rows], "label": labels[rows].astype("int64")}
        return tf.data.Dataset.from_tensor_slices(given)

    more = {"recipe": "words", "unit": "texts", "ids": ids, "lengths": Lengths((ids > 0).sum(axis=1), 12)}
    return SimpleNamespace(
        **vars(examples) | {name: part(getattr(examples, name)) for name in ("train", "val")} | more
    )


@pytest.mark.parametrize(
    ("train", "layer", "variables"),
    [
        ("head", "pool", 2),
        ("top:1", "transformer_layer_0", 18),
        ("above:transformer_layer_0", "transformer_layer_0", 18),
        ("above:embeddings", "marked", 34),
        ("all", None, 39),
        ("bias", None, 19),
    ],
)
def test_an_encoder_is_cut_between_its_layers_to_the_bit(encoder, sentences, train, layer, variables):
    model, blocks = encoder()
    divided = frozen.cut(model, blocks, Stage("one", train=train))
    assert len(model.trainable_variables) == variables
    if layer is None:
        assert divided is None
        return
    assert divided.layer == layer and divided.below.output is model.get_layer(layer).output
    whole = np.asarray(model(sentences.ids, training=False))
    between = divided.below(sentences.ids, training=False)
    assert np.array_equal(divided.above(between, training=False), whole) and whole.std() > 0.1
    trained = {id(variable) for variable in model.trainable_variables}
    assert not trained & {id(variable) for variable in divided.below.weights}
    assert trained == {id(variable) for variable in divided.above.trainable_variables}


def test_stages_of_an_encoder_move_what_they_say_with_and_without_keeping(encoder, sentences, capsys):
    """Batches are no longer than their longest text, kept or not."""
    stages = (
        Stage("head", epochs=2, learning_rate=0.02),
        Stage("top", train="top:1", epochs=2, learning_rate=3e-3),
    )
    ended, ledgers = [], []
    for keep in (False, True):
        model, blocks = compiled(encoder)
        before = {layer.name: layer.get_weights() for layer in model.layers}
        lengths = sentences.lengths
        train = SplitBatches(sentences, "train", 10, shuffle=True, seed=3, lengths=lengths)
        fitted = fit_stages(
            model,
            train,
            SplitBatches(sentences, "val", 12, lengths=lengths),
            stages,
            blocks,
            frozen=frozen.FrozenPrefix() if keep else None,
        )
        for layer in model.layers:
            moved = [
                not np.array_equal(*both)
                for both in zip(before[layer.name], layer.get_weights(), strict=True)
            ]
            assert all(moved) == any(moved) == (layer.name in ("transformer_layer_1", "head")) or not moved
        assert capsys.readouterr().out.count("computed once") == 2 * keep
        ended.append(model.get_weights())
        ledgers.append(fitted.ledger.set_index(["stage", "block"])["moved"])
    assert ledgers[0]["head"].to_dict() == {
        "embeddings": 0,
        "transformer_layer_0": 0,
        "transformer_layer_1": 0,
        "head": 2,
    }
    assert ledgers[1].equals(ledgers[0]) and ledgers[0]["top", "transformer_layer_1"] == 16
    assert max(np.abs(one - other).max() for one, other in zip(*ended, strict=True)) < 1e-5


@pytest.mark.parametrize("by_way", [False, True])
def test_what_is_kept_of_texts_is_computed_without_padding(encoder, sentences, monkeypatch, by_way):
    """Neighbours in length together, straight from the texts or from what is kept further below; what lies
    behind a text is 0, as it is where whole rows are computed.
    """
    monkeypatch.setattr("runner.data.lengths.ROUNDED", 1)
    model, blocks = compiled(encoder)
    train = SplitBatches(sentences, "train", 4, lengths=sentences.lengths)
    val = SplitBatches(sentences, "val", 4, lengths=sentences.lengths)
    places = []
    put = frozen._put
    monkeypatch.setattr(frozen, "_put", lambda *given: places.append(given[-1].shape[:2]) or put(*given))
    stage = Stage("top", train="top:1", learning_rate=1e-3)
    if by_way:  # a stage that comes later cuts below
        later = Stage("more", train="above:embeddings", learning_rate=1e-3)
    found = frozen.FrozenPrefix().part(model, train, val, blocks, stage, [later] if by_way else [])
    assert ("by way of marked" in found.note) == by_way
    longest = sentences.lengths.of[np.concatenate([train.ids, val.ids])]
    whole = len(longest) * sentences.lengths.rows * (1 + by_way)
    computed = sum(rows * length for rows, length in places)
    assert longest.sum() * (1 + by_way) <= computed < 0.8 * whole

    below, padding = frozen.cut(model, blocks, stage).below, 0
    for batch in found.train.named():
        rows = batch["id"].numpy()
        expected = below(sentences.ids[rows], training=False)[:, : batch["input"].shape[1]]
        np.testing.assert_allclose(batch["input"], expected, atol=1e-5)
        behind = np.arange(batch["input"].shape[1]) >= sentences.lengths.of[rows][:, None]
        assert not np.asarray(batch["input"])[behind].any()
        padding += behind.sum()
    assert padding
