"""Every method taken through the tasks: what trains, what is solved, and what is left after each task."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from numpy.lib import format as npy

from runner import atomic
from runner.devices import strategy
from runner.errors import InputError
from runner.moving import batch_norm, trainable
from runner.networks import inference
from runner.networks.backbones import Block
from runner.stage import Stage
from runner.training import frozen
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import batches, memory, method, model
from .batches import Rows
from .config import FROZEN, REHEARSING, Config
from .tasks import Stream

NO_EPOCHS = pd.DataFrame(columns=["epoch", "stage"])
NOTHING_MOVED = pd.DataFrame(columns=["stage", "block", "to_train", "moved"])
"""The history and the ledger of what is not trained."""
VALIDATION = 256
"""Pictures of a batch of validation."""


@dataclass(frozen=True)
class Learned:
    """What one method has learned."""

    network: keras.Model
    """Pictures to logits, as it is after the last task."""
    below: keras.Model | None
    """The still part of it; None where all of it may move."""
    above: keras.Model
    """The rest, from what `below` gives."""
    key: tuple
    """By which what `below` gives is known; see `batches.kept_rows`."""
    after: dict[int, list[np.ndarray]]
    """The weights of `above` after each task, by its number; of "joint" after the last alone."""
    kept: dict[str, np.ndarray]
    """What the method keeps between tasks, beside the network."""

    @property
    def bytes(self) -> int:
        """How much that is."""
        return sum(one.nbytes for one in self.kept.values())


@dataclass(frozen=True)
class Divided:
    """A network cut below what any stage trains, as it begins."""

    network: keras.Model
    blocks: tuple[Block, ...]
    below: keras.Model | None
    above: keras.Model
    key: tuple


def divide(config: Config, examples: Stream, name: str, stages: Sequence[Stage]) -> Divided:
    """Build the network of a method, cut where the stage that trains most begins to move it; with
    `continue_from` its weights are those of then.
    """
    network, blocks = model.build(config, examples)
    cuts = [frozen.cut(network, blocks, stage) for stage in stages]
    whole = any(one is None for one in cuts)
    # The lowest cut has the fewest layers below it.
    lowest = None if whole else min((one for one in cuts if one), key=lambda one: len(one.below.layers))
    below, above = (lowest.below, lowest.above) if lowest else (None, network)
    key = (lowest.layer, config.backbone, config.weights, config.continue_from) if lowest else ()
    if config.continue_from:
        run = Path(config.continue_from).expanduser()
        parts = [(above, memory.read(run, name)[0])]
        parts += [(below, memory.read(run, below.name)[0])] if below else []
        for part, weights in parts:
            for variable, value in zip(part.weights, weights, strict=True):
                variable.assign(widened(value, variable.shape))
    return Divided(network, blocks, below, above, key)


def keep(run: Path, learned: Mapping[str, Learned], record: dict) -> None:
    """Write what each method needs for tasks to come into the run folder, and once what is still.

    record: plain JSON types, of the tasks so far.
    """
    for name, one in learned.items():
        memory.write(run, name, one.after[max(one.after)], one.kept, record | {"method": name})
    still = {one.below.name: one.below for one in learned.values() if one.below is not None}
    for name, below in still.items():
        memory.write(run, name, [weight.numpy() for weight in below.weights], {}, record)


def widened(value: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An array of the head, with 0 for the classes that came since."""
    more = [(0, new - old) for new, old in zip(shape, value.shape, strict=True)]
    return np.pad(value, more)


def solve(config: Config, examples: Stream, name: str) -> tuple[Learned, Fit]:
    """Class means or streaming LDA: take in each task's features once, and solve the head."""
    started = time.perf_counter()
    made = divide(config, examples, name, [Stage("head", train="head")])
    head, told = made.network.get_layer("head"), examples.told
    rows = batches.kept_rows(examples, "train", made.below, made.key)
    known = method.Statistics(len(examples.classes), head.kernel.shape[0])
    if config.continue_from:
        _, kept, _ = memory.read(Path(config.continue_from).expanduser(), name)
        known.counts, known.means = (
            widened(kept["counts"], known.counts.shape),
            widened(kept["means"], known.means.shape),
        )
        known.scatter = kept.get("scatter", known.scatter)
    after = {told.before - 1: made.above.get_weights()} if told.before else {}
    for number in range(told.before, len(told.names)):
        own = rows.tasks == number
        known.update(rows.inputs[own], rows.labels[own])
        found = known.lda(config.lda_shrinkage) if name == "streaming LDA" else known.nearest_mean()
        for variable, value in zip((head.kernel, head.bias), found, strict=True):
            variable.assign(value)
        after[number] = made.above.get_weights()
    made.network.trainable = False
    kept = {"counts": known.counts, "means": known.means}
    kept |= {"scatter": known.scatter} if name == "streaming LDA" else {}
    fitted = Fit(NO_EPOCHS, NOTHING_MOVED, time.perf_counter() - started, trained=head.count_params())
    return Learned(made.network, made.below, made.above, made.key, after, kept), fitted


def steps_of(config: Config, pictures: int, tasks: int) -> int:
    """Steps of an epoch: as many as the mean task has batches."""
    return max(1, round(pictures / tasks / config.batch_size))


def check_steps(config: Config, examples: Stream) -> None:
    """Raise InputError where the first task has a single step: the head begins as 0, so that nothing below
    it moves before the second.
    """
    tasks, count = len(examples.told.names) - examples.told.before, int(examples.train.cardinality())
    first = config.stages[0]
    if examples.told.before or first.train == "head" or set(config.methods) <= {*FROZEN, "joint"}:
        return
    if steps_of(config, count, tasks) * first.epochs < 2:
        raise InputError(
            f"{count} training picture{'s' * (count != 1)} in {tasks} tasks with batch_size="
            f"{config.batch_size} and {first.epochs} epoch make one step of a task; 2 are the least, for the "
            "head begins as 0 and the first moves nothing below it: give more --stages.0.epochs, or a "
            "smaller --batch-size."
        )


def train(
    config: Config, examples: Stream, name: str, title: str, checkpoints: Checkpointing | None
) -> tuple[Learned, Fit]:
    """Train a method on one task after another ("joint": on all at once), and go on from `checkpoints`.

    name: of the method. title: what it is called where several are trained.
    """
    made = divide(config, examples, name, config.stages)
    told, seed = examples.told, config.machine.seed
    begun = {told.before - 1: made.above.get_weights()} if told.before else {}
    rows = batches.kept_rows(examples, "train", made.below, made.key)
    validation = batches.kept_rows(examples, "val", made.below, made.key)
    remembered: dict[str, np.ndarray] = {}
    if config.continue_from:
        _, remembered, _ = memory.read(Path(config.continue_from).expanduser(), name)
    pool, before = with_kept(rows, remembered)
    # What was kept has its own number of a task, and is no example of a task to come.
    tasks = np.concatenate([np.full(before, -1), rows.tasks - told.before])
    count = len(told.names) - told.before
    news = [np.flatnonzero(tasks == number) for number in range(count)]
    steps = steps_of(config, len(rows.ids), count)
    stages = [
        dataclasses.replace(stage, name=f"task {told.before + number + 1}" + f" {stage.name}" * several)
        for number in range(count)
        for several in [len(config.stages) > 1]
        for stage in config.stages
    ]
    kept: list[np.ndarray] | None = None
    if name == "joint":
        news = [np.flatnonzero(tasks >= 0)]
        stages = [dataclasses.replace(stage, epochs=stage.epochs * count) for stage in config.stages]
    if name in REHEARSING:
        cells = pool.labels + len(examples.classes) * (pool.tasks if told.scenario == "domain" else 0)
        seen = int(remembered.get("seen", np.zeros(1))[0])
        kept = memory.plan(cells, tasks, count, before, config.buffer, config.buffer_by, seed, seen)
    moving = {
        id(one): one
        for stage in config.stages
        for one in trainable.select(made.network, made.blocks, stage.train, stage.batch_norm)
    }
    learner = model.Continual(
        made.network,
        made.above,
        name,
        config,
        told,
        list(moving.values()),
        max(map(len, news)),
        config.buffer,
    )
    learner.compile(
        optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
        # Keras wants one; the step of `Continual` has its own, masked.
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        **strategy.compile_options(config.machine),
    )
    if name == "joint":
        learner.begin(len(told.names) - 1)
    own = len(stages) // len(news)
    epochs = sum(stage.epochs for stage in stages[:own])
    rehearsed = None if kept is None else [np.arange(before), *kept[:-1]]
    made_batches = batches.stream(
        pool, news, len(examples.classes), config.batch_size, epochs, steps, seed, rehearsed
    )
    boundary = Boundary(learner, pool, news, kept, epochs, checkpoints.folder if checkpoints else None)
    boundary.restore(remembered)
    fitted = fit_stages(
        learner,
        made_batches,
        batches.plain(validation, len(examples.classes), VALIDATION),
        stages,
        made.blocks,
        monitor=config.monitor,
        title=title,
        callbacks=[boundary],
        checkpoints=checkpoints,
    )
    last = len(told.names) - 1
    after = begun | {
        last - len(news) + 1 + number: boundary.weights_after(number) for number in range(len(news))
    }
    for variable, value in zip(made.above.weights, after[last], strict=True):
        variable.assign(value)
    left = {} if name == "joint" else left_over(learner, pool, kept, remembered, len(rows.ids))
    return Learned(made.network, made.below, made.above, made.key, after, left), fitted


def with_kept(rows: Rows, remembered: dict[str, np.ndarray]) -> tuple[Rows, int]:
    """The examples there are: first those that an earlier run kept, and how many these are."""
    if "inputs" not in remembered:
        return rows, 0
    count = len(remembered["labels"])
    first = (remembered["inputs"], np.full(count, -1), remembered["labels"], remembered["tasks"])
    both = (rows.inputs, rows.ids, rows.labels, rows.tasks)
    return Rows(*(np.concatenate(one) for one in zip(first, both, strict=True))), count


def left_over(
    learner: model.Continual,
    pool: Rows,
    kept: Sequence[np.ndarray] | None,
    remembered: dict[str, np.ndarray],
    came: int,
) -> dict[str, np.ndarray]:
    """What a trained method keeps for tasks to come."""
    found = {}
    for name, variables in (("importance", learner.importances), ("anchor", learner.anchors)):
        found |= {f"{name}_{number:05}": one.numpy() for number, one in enumerate(variables)}
    if kept is not None:
        there = pool[kept[-1]]
        before = remembered.get("seen", np.zeros(1, np.int64))
        found |= {"inputs": there.inputs, "labels": there.labels, "tasks": there.tasks, "seen": before + came}
        if learner.method == "DER++":
            found["logits"] = learner.recorded.numpy()[: len(there.labels)]
    return found


class Boundary(keras.callbacks.Callback):
    """Between two tasks: keep the weights, let the method take in the one that ended, begin the next.

    What it changes are weights of the learner, and files beside its checkpoints: so a training that goes on
    finds them.

    Args:
        learner: in training.
        pool, news, kept: as of `batches.stream`, but kept: after each task.
        epochs: of a task.
        folder: where weights after each task are kept; None for memory.
    """

    def __init__(
        self,
        learner: model.Continual,
        pool: Rows,
        news: Sequence[np.ndarray],
        kept: Sequence[np.ndarray] | None,
        epochs: int,
        folder: Path | None,
    ):
        super().__init__()
        self.learner, self.pool, self.news, self.kept = learner, pool, news, kept
        self.epochs, self.folder = epochs, folder
        self.there: dict[int, list[np.ndarray]] = {}

    def restore(self, remembered: dict[str, np.ndarray]) -> None:
        """Begin with what an earlier run kept, and with the first task's new examples."""
        learner = self.learner
        for name, variables in (("importance", learner.importances), ("anchor", learner.anchors)):
            for number, variable in enumerate(variables):
                if f"{name}_{number:05}" in remembered:
                    variable.assign(widened(remembered[f"{name}_{number:05}"], variable.shape))
        if learner.method == "DER++" and "logits" in remembered:
            logits = remembered["logits"]
            learner.record(widened(logits, (len(logits), learner.recorded.shape[1])))
        if learner.method == "LwF" and learner.told.before:
            learner.record(self.logits(self.news[0]))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        number, left = divmod(epoch + 1, self.epochs)
        if left:
            return
        number, learner, rows = number - 1, self.learner, self.news[number - 1]
        first = learner.told.before
        if any(
            isinstance(one, keras.layers.BatchNormalization) and one.trainable
            for one in learner.above._flatten_layers(include_self=False)
        ):
            # The moving averages of a short task lag behind its weights; only what is at hand estimates them.
            here = rows if self.kept is None or not number else np.concatenate([rows, self.kept[number - 1]])
            here = np.random.RandomState(number).permutation(here)
            parts = np.array_split(self.pool.inputs[here], max(1, len(here) // 64))
            batch_norm.reestimate(learner.above, parts)
        if learner.method == "joint":
            self.keep(number)
            return
        own = np.random.RandomState([number, 3]).permutation(rows)
        masks = learner.told.allowed(first + number, self.pool.tasks[own])
        learner.end(self.pool.inputs[own], masks)
        if learner.method == "DER++" and self.kept is not None:
            learner.record(self.stored(number))
        self.keep(number)
        if number + 1 < len(self.news):
            if learner.method == "LwF":
                learner.record(self.logits(self.news[number + 1]))
            learner.begin(first + number + 1)

    def stored(self, number: int) -> np.ndarray:
        """DER++: the logits of what is kept after a task: of before as they were, of the task's as now."""
        assert self.kept is not None
        kept, rows = self.kept[number], set(self.news[number].tolist())
        before = np.arange(self.before) if not number else self.kept[number - 1]
        place = {row: slot for slot, row in enumerate(before.tolist())}
        found = self.logits(kept)
        old = self.learner.recorded.numpy()
        for slot, row in enumerate(kept.tolist()):
            if row not in rows:
                found[slot] = old[place[row]]
        return found

    @property
    def before(self) -> int:
        """How many rows of the pool an earlier run kept."""
        return int((self.pool.ids < 0).sum())

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """What the network answers now, float32 (n, classes)."""
        step = inference.forward(self.learner.above)
        inputs = self.pool.inputs
        parts = [step(inputs[rows[at : at + 64]]).numpy() for at in range(0, len(rows), 64)]
        return np.concatenate(parts)

    def keep(self, number: int) -> None:
        """Keep the weights as they are after a task."""
        weights = [one.numpy() for one in self.learner.above.weights]
        if self.folder is None:
            self.there[number] = weights
            return

        def save(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                for one in weights:
                    npy.write_array(file, one.astype("float32") if one.dtype.kind == "V" else one)

        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self.folder / f"after_task_{number:03}.npys", save)

    def weights_after(self, number: int) -> list[np.ndarray]:
        """The weights as they were after a task."""
        if self.folder is None:
            return self.there[number]
        with open(self.folder / f"after_task_{number:03}.npys", "rb") as file:
            return [npy.read_array(file, allow_pickle=False) for _ in self.learner.above.weights]
