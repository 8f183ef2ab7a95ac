"""Exact resume: the whole state of a staged fit in one file, after each epoch and within long ones.

    fit_stages(..., checkpoints=Checkpointing(run / "checkpoints"))

A process that is killed and started again with the same arguments goes on from the last file, and ends with
the same history and, where the arithmetic itself repeats, the same weights to the bit as one that was never
stopped. A file is a .npz: arrays (all weights, the seed states of dropout, the metrics' sums, the optimizer's
variables, the weights at the start of the stage and those of its best epoch) and one JSON text for the rest.
It is written beside its place, flushed to the disk and moved; the newest two are kept, so that a file torn
by the disk itself leaves the one before. zip's checksums tell a torn file from a whole one, and the names and
hashes of all arrays, which the JSON text holds, one with damage that zip does not see; nothing is unpickled.
"""

import inspect
import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner import atomic, interrupts
from runner.devices import multi_worker
from runner.errors import InputError
from runner.training import cache
from runner.training.stages import StagedUnfreezing

KEPT = 2
VERSION = 2
MINUTES = 10.0
"""Minutes of an epoch after which a checkpoint is written within it."""


@dataclass(frozen=True)
class Checkpointing:
    """Where and how often the state of a fit is kept."""

    folder: Path
    """Where it holds the state of an interrupted fit, the next one goes on from there: give the same seed,
    data and arguments.
    """
    steps: int | None = None
    """Also within an epoch, after every so many steps; None for no such rule."""
    minutes: float | None = MINUTES
    """Also within an epoch, when so many minutes have passed since the last time; None for no such rule."""
    heard_by: tuple[keras.callbacks.Callback, ...] = ()
    """Callbacks that hear of the fit and find out by themselves where it goes on, such as loggers."""


class Checkpoints(keras.callbacks.Callback):
    """Save the state of a fit after each epoch, within it every so often, and on SIGTERM and Ctrl-C.

    List it last: it also keeps what the callbacks before it count (`wait`, `best`, `best_weights`, ...).

    Args:
        directory: made when it is not there. Files are `epoch-00012-step-0000340.npz`: epochs done, over all
            stages, and steps taken in the next.
        staged: the `StagedUnfreezing` of the same fit.
        clock: has `seconds`, a list with the duration of each epoch.
        others: the other callbacks of the fit, in order.
        steps: also write after so many steps within an epoch; None for no such rule.
        minutes: also write when so many minutes have passed since the last one; None for no such rule.

    A write that fails (a full disk) leaves the earlier files as they are, says so once, and the training goes
    on. A state whose weights are not all finite is not written: the next loss will stop the run.

    Of several workers the chief writes; all of them save, or stop after a signal, at the same step.
    """

    def __init__(
        self,
        directory: Path,
        staged: StagedUnfreezing,
        clock: Any,
        others: Sequence[keras.callbacks.Callback] = (),
        steps: int | None = None,
        minutes: float | None = MINUTES,
    ):
        super().__init__()
        self.directory, self.staged, self.clock = Path(directory), staged, clock
        self.others, self.steps, self.minutes = list(others), steps, minutes
        self.warned = False
        self.asked = interrupts.Asked()  # whether a signal came here
        self.terminated = False  # all workers know that one came
        self.restored: list[dict] = []

    def __enter__(self) -> "Checkpoints":
        """From here on SIGTERM and Ctrl-C ask for a checkpoint and an orderly end, between two steps, when
        the state is whole (only the main thread hears them).
        """
        self.asked.__enter__()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.asked.__exit__(kind, error, traceback)

    def stop_if_terminated(self) -> None:
        """Leave after a signal between two stages: the last file says all there is."""
        if self.asked.by:
            print(f"{self._by()} while frozen layers were computed. The same command begins that anew.")
            self.asked.leave()

    def _by(self) -> str:
        return "stopped by Ctrl-C" if self.asked.by == signal.SIGINT else "stopped by SIGTERM"

    def restore(self, record: dict, arrays: dict[str, np.ndarray]) -> None:
        """Give the other callbacks back what they had counted, once the next `fit` has begun."""
        self.restored = [
            {**kept, **{name: [arrays[key] for key in keys] for name, keys in lists.items()}}
            for kept, lists in record["callbacks"]
        ]
        if len(self.restored) != len(self.others):
            raise InputError(
                f"the checkpoint was written with {len(self.restored)} further callbacks, now there are "
                f"{len(self.others)}; give the same ones, or delete the checkpoints to train anew."
            )

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.written = time.monotonic()
        for callback, kept in zip(self.others, self.restored, strict=False):  # empty at the first start
            vars(callback).update(kept)
        self.restored = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.staged.calls <= self.staged.passed_by:
            return
        due = bool(self.steps and self.staged.calls % self.steps == 0)
        due = due or bool(self.minutes and time.monotonic() - self.written > 60 * self.minutes)
        if self._agree(due):
            self._save(len(self.staged.rows))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._agree(True):
            self._save(epoch + 1)

    def _agree(self, due: bool) -> bool:
        """Whether any worker is to save now, or had a signal."""
        flags = np.array([[bool(due), bool(self.asked.by)]], dtype="float64")
        due, self.terminated = multi_worker.gather(flags, self.model.distribute_strategy).max(axis=0) > 0
        return bool(due or self.terminated)

    def _save(self, epoch: int) -> None:
        record, arrays = self.staged.state()
        strategy = self.model.distribute_strategy
        for name in sorted(arrays):
            if name.startswith("metric_"):  # each worker has sums of its own
                arrays[name] = multi_worker.gather(arrays[name], strategy)
        if not all(
            np.isfinite(value.astype("float32")).all()
            for name, value in arrays.items()
            if name.startswith("variable_") and value.dtype.kind in "fV"
        ):
            return
        record |= {
            "seconds": self.clock.seconds,
            "finished": bool(self.model.stop_training) and not self.staged.entering,
            "callbacks": [],
        }
        for number, callback in enumerate(self.others):
            kept, lists = _counts(callback)
            keys = {
                name: [f"callback_{number}_{name}_{i:05}" for i in range(len(lists[name]))] for name in lists
            }
            for name, values in lists.items():
                arrays |= dict(zip(keys[name], values, strict=True))
            record["callbacks"].append([kept, keys])
        place = f"after epoch {epoch}" + (f" and {self.staged.calls} steps" if self.staged.calls else "")
        self.written = time.monotonic()
        try:
            if multi_worker.is_chief(strategy):
                write(self.directory, epoch, record, arrays)
            said = f"state written {place}"
        except OSError as error:
            said = f"no checkpoint written {place} ({error}); an interruption costs what came after the last"
            if not self.warned:
                print(f"warning: {said}.")
            self.warned = True
        if self.terminated:
            multi_worker.wait(strategy)  # until the chief has written
            print(f"{self._by()}: {said}. The same command goes on from there.")
            self.asked.leave()


def read_together(
    directory: Path, strategy: tf.distribute.Strategy
) -> tuple[dict, dict[str, np.ndarray]] | None:
    """What `read` gives, on each of several workers with the metrics' sums of its own replicas.

    Raises InputError also where the workers do not see the same files, and for a state within an epoch of
    another number of replicas.
    """
    with multi_worker.chief_first(strategy):
        saved = read(directory)
    workers = multi_worker.number_of_workers(strategy)
    if workers == 1:
        return saved
    place = [saved[0]["epochs_done"], saved[0]["calls"]] if saved else [-1, -1]
    seen = multi_worker.gather(np.array([place], dtype="float64"), strategy)
    if (seen != seen[0]).any():
        raise InputError(
            f"{directory}: the {workers} workers do not see the same checkpoints; put the run folder "
            "(--run-dir) on a disk that all hosts share."
        )
    if saved and saved[0]["calls"]:
        record, arrays = saved
        for name in [one for one in arrays if one.startswith("metric_")]:
            if len(arrays[name]) != strategy.num_replicas_in_sync:
                raise InputError(
                    f"the checkpoint was written within an epoch on {len(arrays[name])} replicas, now there "
                    f"are {strategy.num_replicas_in_sync}; go on with as many, or delete it to go on from "
                    "the epoch before."
                )
            arrays[name] = multi_worker.own_rows(arrays[name], strategy)
    return saved


def _counts(callback: keras.callbacks.Callback) -> tuple[dict, dict[str, list[np.ndarray]]]:
    """What a callback remembers: plain values by name, and lists of arrays (such as best_weights) by name.

    What it was made with (the arguments of its constructor) is for each process to say.
    """
    given = {"_model", "params", *inspect.signature(type(callback).__init__).parameters}
    remembered = {name: value for name, value in vars(callback).items() if name not in given}
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in remembered.items()
        if value is None or isinstance(value, (bool, int, float, str, np.number, np.bool_))
    }
    lists = {
        name: value
        for name, value in remembered.items()
        if isinstance(value, list) and value and all(isinstance(one, np.ndarray) for one in value)
    }
    return plain, lists


def write(directory: Path, epoch: int, record: dict, arrays: dict[str, np.ndarray]) -> Path:
    """Write the state after `epoch` epochs and record["calls"] steps whole, then remove all but the newest
    `KEPT` files.

    record: plain JSON types, infinities allowed; arrays: any NumPy dtypes but object; bfloat16 becomes
    float32, which holds each of its values.
    Raises OSError when the disk does not take it.
    """
    arrays = {
        name: value.astype("float32") if value.dtype.kind == "V" else value for name, value in arrays.items()
    }
    known = {"version": VERSION, "epochs_done": epoch, "arrays": _hashes(arrays)}
    members: dict[str, Any] = {"record": np.array(json.dumps(record | known)), **arrays}

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            # Without allow_pickle=False: NumPy before 2.2 takes that for one more array.
            np.savez(file, **members)

    path = atomic.write(directory / f"epoch-{epoch:05}-step-{record.get('calls', 0):07}.npz", save)
    for old in sorted(directory.glob("epoch-*.npz"))[:-KEPT]:
        old.unlink()
    return path


def read(directory: Path) -> tuple[dict, dict[str, np.ndarray]] | None:
    """The newest state that can be read, as `write` took it, or None where there is no file.

    Also removes what a killed process left half written. Raises InputError when files are there and none is
    whole, or when another version of Thaw wrote them.
    """
    for half in Path(directory).glob(".epoch-*"):
        half.unlink()
    files = sorted(Path(directory).glob("epoch-*.npz"), reverse=True)
    for path in files:
        found = _read_whole(path)
        if found is None:
            continue
        record, _ = found
        if record.get("version") != VERSION:
            raise InputError(
                f"{path}: a checkpoint of version {record.get('version')}, this code reads {VERSION}; finish "
                "the run with the code that began it, or delete the folder to train anew."
            )
        return found
    if files:
        raise InputError(
            f"{directory}: none of {', '.join(path.name for path in reversed(files))} can be read whole; "
            "delete them to train anew."
        )
    return None


def _read_whole(path: Path) -> tuple[dict, dict[str, np.ndarray]] | None:
    """What is in one file, or None where it is not as `write` left it."""
    try:
        atomic.check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        record = json.loads(str(arrays.pop("record")))
        # Files of before had no hashes.
        whole = isinstance(record, dict) and record.get("arrays") in (None, _hashes(arrays))
    except Exception:  # zipfile, zlib and NumPy raise almost anything on a damaged file
        return None
    return (record, arrays) if whole else None


def _hashes(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: cache.fingerprint(value) for name, value in arrays.items()}
