"""What the tests of several workers train: `python -m tests.several_workers FOLDER CASE...`, with TF_CONFIG.

Each case leaves FOLDER/CASE-WORKER.npz. The test runs the same cases alone, in its own process.
"""

import functools
import os
import sys
import time
import types
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.devices import multi_worker, strategy
from runner.errors import InputError
from runner.networks.backbones import Block
from runner.pictures.batches import batches
from runner.stage import Stage
from runner.training import frozen
from runner.training.checkpoint import Checkpointing
from runner.training.fit import fit_stages
from tests.stand_ins import data_of

STAGES = (
    Stage("head", epochs=1, learning_rate=1e-2),
    Stage("all", train="all", epochs=2, learning_rate=1e-2, schedule="cosine", batch_norm="train"),
)


def dense(batch_norm: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def pairs(count: int, batch_size: int) -> tf.data.Dataset:
    random = np.random.default_rng(count)
    values = random.normal(size=(count, 4)).astype("float32")
    labels = np.eye(3, dtype="float32")[random.integers(0, 3, count)]
    return tf.data.Dataset.from_tensor_slices((values, labels)).batch(batch_size)


def plain(
    chosen, count: int, batch_size: int, batch_norm: bool = False, accumulate: int = 1
) -> dict[str, np.ndarray]:
    """fit with validation, evaluate and predict, by Keras alone on a prepared model."""
    with chosen.scope():
        model = dense(batch_norm)
    multi_worker.prepare(model, accumulate)
    multi_worker.prepare(model, accumulate)  # a second time changes nothing
    data = multi_worker.distribute(pairs(count, batch_size), chosen)
    history = model.fit(data, validation_data=data, epochs=3, shuffle=False, verbose=0).history
    values = multi_worker.distribute(pairs(count, batch_size).map(lambda values, labels: (values,)), chosen)
    return {
        "history": np.array([history[name] for name in sorted(history)]),
        "evaluated": np.array(model.evaluate(data, verbose=0)),
        "predicted": model.predict(values, verbose=0),
    } | {f"weight_{number}": value for number, value in enumerate(model.get_weights())}


def small_network(dropout: float = 0.3) -> tuple[keras.Model, tuple[Block, ...]]:
    keras.utils.set_random_seed(7)
    x = inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(x)
    names = ("block_conv", "block_bn", "block_relu")
    x = keras.layers.Conv2D(4, 3, padding="same", name=names[0])(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=names[1])(x)
    x = keras.layers.ReLU(name=names[2])(x)
    x = keras.layers.Dropout(dropout)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x)), (Block(names[2], names),)


class Cut(BaseException):
    """Stands for a process that ends here."""


class CutAt(keras.callbacks.Callback):
    def __init__(self, epoch: int, calls: int):
        super().__init__()
        self.epoch, self.calls, self.here = epoch, calls, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.here = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.here, batch + 1) == (self.epoch, self.calls):
            raise Cut


def staged(chosen, checkpoints: Path | None = None, cut_at: tuple[int, int] = (99, 0)):
    """Stages through `fit_stages` on 21 pictures, 8 in a batch, the last of 5: what moved, and how."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    labels = np.arange(21, dtype="int64") % 4
    pictures = np.random.default_rng(0).integers(0, 128, (21, 8, 8, 3)) + 30 * labels[:, None, None, None]
    elements = {"id": np.arange(21, dtype="int64"), "input": pictures.astype("uint8"), "label": labels}
    examples = data_of(tf.data.Dataset.from_tensor_slices(elements), "abcd")
    with chosen.scope():
        model, blocks = small_network()
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    fitted = fit_stages(
        model,
        batches(examples, "train", 8, shuffle=True, seed=3, strength="light"),
        batches(examples, "val", 20),
        STAGES,
        blocks,
        callbacks=[CutAt(*cut_at)],
        checkpoints=checkpoints and Checkpointing(checkpoints, steps=2),
    )
    numbers = fitted.history.select_dtypes("number").drop(columns="seconds")
    return {"history": numbers.to_numpy()} | {
        f"weight_{number:02}": variable.numpy()
        for number, variable in enumerate([*model.variables, *model.optimizer.variables])
        if "metric" not in variable.path and "mean/" not in variable.path
    }


def cut_and_resumed(chosen, folder: Path):
    try:
        staged(chosen, folder, (1, 3))  # the last state is of the second step
    except Cut:
        assert sorted(path.name for path in folder.iterdir())[-1] == "epoch-00001-step-0000002.npz"
    return staged(chosen, folder)


def served(chosen) -> dict[str, np.ndarray]:
    """The same stages, and how many datasets the input workers were sent."""
    service, sent = tf.data.experimental.service, []
    distribute = service.distribute

    def counted(*arguments):
        sent.append(arguments)
        return distribute(*arguments)

    service.distribute = counted
    try:
        return staged(chosen) | {"sent": np.array(len(sent))}
    finally:
        service.distribute = distribute


def kept(chosen, folder: Path) -> dict[str, np.ndarray]:
    """Two stages on kept activations of 21 pictures in 3 views and 6 more, and who computed them."""
    os.environ["THAW_CACHE"] = str(folder / "cache")
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    labels = np.arange(27, dtype="int64") % 4
    pictures = np.random.default_rng(0).integers(0, 128, (27, 8, 8, 3)) + 30 * labels[:, None, None, None]
    split = np.where(np.arange(27) % 9 < 7, "train", "val")
    manifest = pd.DataFrame({"label": pd.Categorical.from_codes(labels, [*"abcd"]), "split": split})
    manifest["sha256"] = [str(row) for row in range(27)]

    def part(name: str) -> tf.data.Dataset:
        rows = np.flatnonzero(split == name).astype("int64")
        return tf.data.Dataset.from_tensor_slices(
            {"id": rows, "input": pictures[rows].astype("uint8"), "label": labels[rows]}
        )

    examples = types.SimpleNamespace(
        train=part("train"), val=part("val"), classes="abcd", manifest=manifest, recipe="", unit="pictures"
    )
    with chosen.scope():
        model, blocks = small_network(dropout=0.0)  # each replica would draw noise of its own
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    computed = []
    function = frozen._Level.function

    def counted(level, *arguments):
        compute = function(level, *arguments)
        return lambda batch: computed.append(len(batch)) or compute(batch)

    frozen._Level.function = counted
    try:
        fitted = fit_stages(
            model,
            batches(examples, "train", 8, shuffle=True, seed=3, strength="light"),
            batches(examples, "val", 8),
            (Stage("head", epochs=3, learning_rate=0.1), Stage("more", epochs=2, learning_rate=0.1)),
            blocks,
            frozen=frozen.FrozenPrefix(views=3),
            accumulate=multi_worker.number_of_workers(chosen),  # the same whoever adds up the gradients
        )
    finally:
        frozen._Level.function = function
    multi_worker.wait(chosen)
    numbers = fitted.history.select_dtypes("number").drop(columns="seconds")
    found = {f"weight_{number:02}": value for number, value in enumerate(model.get_weights())}
    files = len(list((folder / "cache").glob("*.npy")))
    return found | {"history": numbers.to_numpy(), "computed": np.array(computed), "files": np.array(files)}


def unprepared(chosen) -> dict[str, np.ndarray]:
    """What Keras says without our overrides: names of errors, or "none"."""
    said = []
    for half in (False, True):
        with chosen.scope():
            model = dense()
        if half:
            build = functools.partial(multi_worker._build, model)
            object.__setattr__(model, "_maybe_symbolic_build", build)
        try:
            model.fit(multi_worker.distribute(pairs(8, 4), chosen), shuffle=False, verbose=0)
            said.append("none")
        except Exception as error:
            said.append(type(error).__name__)
    return {"said": np.array(said)}


def decisions(chosen) -> dict[str, np.ndarray]:
    """What the functions give with which the workers agree."""
    number = multi_worker.index(chosen)
    with multi_worker.only_chief_prints(chosen):
        print(f"worker {number} was here")
    rows = np.array([[number, 0.1], [number, 0.2]], dtype="float32")
    gathered = multi_worker.gather(rows, chosen)

    def fails() -> None:
        raise OSError(28, "No space left on device")

    said = []
    try:
        multi_worker.from_chief(fails, chosen)
    except (OSError, InputError) as error:
        said.append(f"{type(error).__name__}: {error}")
    try:
        with multi_worker.chief_first(chosen):
            fails()
    except (OSError, InputError) as error:
        said.append(f"{type(error).__name__}: {error}")
    return {
        "said": np.array(said),
        "from_chief": np.array(str(multi_worker.from_chief(lambda: {"é": [number, None]}, chosen))),
        "any": np.array([multi_worker.any_worker(flag, chosen) for flag in (number == 1, False)]),
        "gathered": gathered,
        "own": multi_worker.own_rows(gathered, chosen),
    }


CASES = {
    "uneven": lambda chosen, folder: plain(chosen, 21, 4),
    "accumulated": lambda chosen, folder: plain(chosen, 21, 8, accumulate=3),
    "batch_norm": lambda chosen, folder: plain(chosen, 17, 8, batch_norm=True),  # the last batch has one row
    "staged": lambda chosen, folder: staged(chosen),
    "resumed": lambda chosen, folder: cut_and_resumed(chosen, folder / "checkpoints"),
    "served": lambda chosen, folder: served(chosen),
    "kept": kept,
    "unprepared": lambda chosen, folder: unprepared(chosen),
    "decisions": lambda chosen, folder: decisions(chosen),
}


def main(folder: Path, names: list[str]) -> None:
    chosen = strategy.choose("multi_worker")
    for name in names:
        started = time.perf_counter()
        np.savez(folder / f"{name}-{multi_worker.index(chosen)}.npz", **CASES[name](chosen, folder))
        print(f"{name}: {time.perf_counter() - started:.1f} s")
    multi_worker.wait(chosen)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(Path(sys.argv[1]), sys.argv[2:])
