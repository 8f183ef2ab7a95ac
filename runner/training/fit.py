"""Put the parts together: `fit_stages` runs the stages in one `model.fit`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console

from runner import interrupts, quiet
from runner.data.batches import Batches, SplitBatches, pair
from runner.devices import multi_worker
from runner.errors import DivergenceError, InputError, OutOfMemory
from runner.moving import batch_norm, trainable
from runner.networks import pixels
from runner.networks.backbones import Block
from runner.stage import Stage
from runner.training import checkpoint, failures, range_test, speeds
from runner.training import monitor as monitoring
from runner.training.checkpoint import Checkpointing
from runner.training.frozen import FrozenPrefix, has_own_step
from runner.training.progress import AcrossFits, AfterStages, EpochLines, EpochSeconds
from runner.training.stages import StagedUnfreezing

PLACES = ("auto", "input", "device")
"""Where views of the inputs are made."""


@dataclass(frozen=True)
class Fit:
    """What one `fit_stages` leaves beside the trained model."""

    history: pd.DataFrame
    """A row per epoch: epoch, stage, stage_epoch, learning_rate, loss, val_loss, metrics, seconds."""
    ledger: pd.DataFrame
    """A row per stage and block: what was to train and what moved; see `ledger.entries`."""
    seconds: float
    """Wall time of the whole fit, tracing included; of epochs before an interruption, theirs."""
    statistics_anew: bool = False
    """Whether BatchNorm statistics that learned were estimated anew at the end."""
    by_averages: bool = True
    """Whether validation read BatchNorm's moving averages, and not the statistics of each batch."""
    value: float = float("nan")
    """`monitor`, on validation, of the network as it is handed on; NaN where the logs have no such number."""
    trained: int | None = None
    """How many single weights the last stage trained; None: those that are trainable in the network."""
    stages: tuple[Stage, ...] = ()
    """As they ran, with the learning rates that were found."""
    range_tests: dict[str, pd.DataFrame] = field(default_factory=dict)
    """By the names of stages whose learning rate was found; see `range_test.Found.curve`."""


def fit_stages(
    model: keras.Model,
    train: Batches | tf.data.Dataset,
    validation: Batches | tf.data.Dataset,
    stages: Sequence[Stage],
    blocks: Sequence[Block],
    *,
    monitor: str = "val_loss",
    mode: str = "auto",
    title: str = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpointing | None = None,
    frozen: FrozenPrefix | None = None,
    augment_on: str = "auto",
    accumulate: int = 1,
    keep_start: bool = False,
    after_stage: Callable[[str, keras.Model], None] | None = None,
) -> Fit:
    """Run the stages on a compiled model and return the history and the ledger.

    Args:
        model: compiled under its strategy's scope; its weights are changed in place. What a stage
            "lora:RANK" adds is part of the kernels at the end. Where a stage lets BatchNorm learn, the
            statistics of what learned are estimated anew at the end, from `train.plain()` where there is such
            a thing (`batch_norm.reestimate`). One with a true `validates_by_batches` reads the statistics of
            each batch in validation, too, and not BatchNorm's moving averages.
        train, validation: `data.batches.Batches`, or a dataset of what `model.fit` takes. With a `Batches` a
            fit that goes on starts reading where it stopped, each worker makes its own rows only, and a batch
            whose loss is no number is named by its ids.
        stages: run in order, each on what the one before left.
        blocks: the backbone's blocks (`backbones.blocks(backbone)`).
        monitor: which entry of the logs decides the best epoch of a stage, always measured on validation.
        mode: "min" or "max", where the metric itself does not say which of them is better (`monitor.sign`).
        title: printed above the progress.
        callbacks: more Keras callbacks, run after the stages' own; checkpoints keep what they count. They
            hear of one fit of the whole network, also where each stage is a fit of its own.
        checkpoints: where the state is kept, and how often. None writes nothing. Within an epoch needs
            `train` of known length.
        frozen: computes what lies below the weights that a stage trains once, and keeps it. Each stage is
            then a `model.fit` of its own on the part above. Has no effect with `train` of unknown length, nor
            with batches that cannot be kept (`SplitBatches.not_kept`).
        augment_on: where views are made: "input", "device", or "auto": on a GPU that would otherwise wait for
            its input, by measurement, else in the input.
        accumulate: each replica computes its rows of a batch in so many parts, one after another, and takes
            one step: for batches that do not fit. See `accumulation`.
        keep_start: the network as it is given can already answer (a head that was solved): it is judged on
            validation first, and stages that better nothing hand it on.
        after_stage: called with the name of each stage that ends, and the whole network as it is then.

    Raises InputError before the first epoch for stages that the model cannot run and for steps per execution
    that do not divide an epoch, LedgerError when a stage
    moved what it was not to move, DivergenceError when the loss becomes NaN or infinite, OutOfMemory when a
    step does not fit; with `checkpoints` SystemExit (143) after a SIGTERM and KeyboardInterrupt after a
    Ctrl-C, once the state is written.
    """
    train, validation = (one if isinstance(one, Batches) else Batches.of(one) for one in (train, validation))
    _check_place(augment_on, train, model)
    strategy = model.distribute_strategy
    staged = StagedUnfreezing(stages, blocks, monitor=monitor, mode=mode, whole=model)
    with_lora = trainable.attach_lora(model, blocks, stages)
    silent = None if multi_worker.is_chief(strategy) else Console(quiet=True)
    clock, lines = EpochSeconds(), EpochLines(staged, title=title, console=silent)
    # One iterator for a whole fit: starting the augmentation's compiled functions anew takes 0.3 s, three
    # quarters of an epoch of 200 small pictures. The epochs stay what they were, also the last small batch.
    for given in (train, validation) if pixels.guarded(model) else ():
        _check_pixels(given)
    steps = train.steps
    made = steps if isinstance(train, SplitBatches) else int(train.named().cardinality())
    if steps > 0 and made >= 0 and made != steps:
        raise InputError(
            f"the training batches are said to have {steps} steps an epoch and make {made}; give `Batches` "
            "the number that it makes."
        )
    if steps > 0 and steps % model.steps_per_execution:
        fitting = [str(number) for number in range(1, steps + 1) if not steps % number]
        raise InputError(
            f"steps_per_execution={model.steps_per_execution} does not divide the {steps} steps of an epoch, "
            f"and Keras would run more than these; give one of {', '.join(fitting)}."
        )
    saver: checkpoint.Checkpoints | None = None
    saved: tuple[dict, dict[str, np.ndarray]] | None = None
    if checkpoints:
        if steps <= 0:  # nothing says where in its epoch such data stands
            checkpoints = replace(checkpoints, steps=None, minutes=None)
        saver = checkpoint.Checkpoints(
            checkpoints.folder, staged, clock, list(callbacks), checkpoints.steps, checkpoints.minutes
        )
        saved = checkpoint.read_together(checkpoints.folder, strategy)
    seconds_before, first = 0.0, 0
    if saver and saved:
        record, arrays = saved
        staged.resume(record, arrays)
        saver.restore(record, arrays)
        clock.seconds, seconds_before = record["seconds"], sum(record["seconds"])
        first = record["index"] + record["entering"]
        place = f"epoch {record['epochs_done']}" + (
            f" and {record['calls']} steps" if record["calls"] else ""
        )
        lines.title += f" (goes on after {place})"
    elif keep_start:
        staged.start = _judged(model, validation, staged)
    apart = frozen is not None and frozen.takes(train)
    own = [*callbacks, *(checkpoints.heard_by if checkpoints else ())]
    own = [AcrossFits(own, model, staged)] if apart and own else own
    own += [AfterStages(staged, model, after_stage)] if after_stage else []
    every = [clock, staged, *own, lines, *([saver] if saver else [])]
    if frozen is not None and saver is not None:
        frozen.between_batches = saver.stop_if_terminated
    whole: Segment | None = None
    segment: Segment | None = None
    ended = saved is not None and saved[0]["finished"]
    started = time.perf_counter()
    try:
        with saver or interrupts.heard(), quiet.about_tracing():
            searched = any(stage.learning_rate == "auto" for stage in stages)
            for index in range(first, len(staged.stages)) if apart or searched else [None]:
                staged.only, segment = index, None
                if apart and frozen is not None and index is not None and not ended:
                    staged.index = index
                    segment = _part(frozen, model, train, validation, staged, blocks, lines)
                if segment is None:
                    if whole is None:
                        whole = Segment(model, train, validation)
                        whole = whole if ended else _whole(whole, augment_on, accumulate)
                        if steps >= speeds.BATCHES and not saved:
                            every.insert(0, _watch(whole, lines))
                    segment = whole
                if index is not None and staged.stages[index].learning_rate == "auto":
                    _search_rate(segment, staged, index, accumulate)
                _run(segment, staged, every, saved, accumulate)
                saved = None
                if staged.stopped:
                    break
    except DivergenceError as error:
        given, folder = segment.train if segment else train, checkpoints.folder if checkpoints else None
        raise DivergenceError(f"{error}{failures.examples(given, staged)}{failures.kept(folder)}") from None
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise OutOfMemory(failures.smaller_batch(train, staged, error, accumulate)) from error
    finally:
        lines.close()
    seconds = seconds_before + time.perf_counter() - started
    history, ledger = staged.history.assign(seconds=clock.seconds), staged.ledger
    value = staged.sign * staged.received[0]
    by_averages = not getattr(model, "validates_by_batches", False)
    plain = train.plain() if any(stage.batch_norm == "train" for stage in stages) else None
    if plain is not None:
        batch_norm.reestimate(model, plain)
        value = _evaluated(model, validation).get(monitor, np.nan)
        if by_averages and "statistics_moved" in ledger and ledger["statistics_moved"].sum():
            print(
                "  BatchNorm's statistics are estimated anew from the training data; the validation values "
                "above\n  are of moving averages, which lag behind the weights and may look as if nothing "
                "was learned"
            )
    trained = sum(int(np.prod(one.shape)) for one in model.trainable_variables)
    trainable.merge_lora(model, with_lora)
    return Fit(
        *(history, ledger, seconds, plain is not None, by_averages, float(value), trained),
        staged.stages,
        staged.range_tests,
    )


def _judged(model: keras.Model, validation: Batches, staged: StagedUnfreezing) -> tuple[float, float]:
    """The `StagedUnfreezing.value` of the network as it is."""
    staged.sign = monitoring.sign(model, staged.monitor, staged.mode)
    return staged.value(_evaluated(model, validation))


def _evaluated(model: keras.Model, validation: Batches) -> dict[str, float]:
    """The loss and the metrics of a network on validation, by their names in the logs of `fit`."""
    multi_worker.prepare(model, 1)
    split = multi_worker.distribute(validation.epoch(), model.distribute_strategy)
    return {f"val_{name}": one for name, one in model.evaluate(split, verbose=0, return_dict=True).items()}


def _check_pixels(batches: Batches) -> None:
    """Raise InputError where the first batch has pictures that were scaled."""
    spec = batches.examples if isinstance(batches, SplitBatches) else batches.named()
    if any(one.dtype.is_floating for one in tf.nest.flatten(spec.element_spec["input"])):
        for one in tf.nest.flatten(next(iter(batches.named()))["input"]):
            pixels.check(one)


def _check_place(augment_on: str, train: Batches, model: keras.Model) -> None:
    """Raise InputError for a place where views cannot be made; batches without views have none to make."""
    nowhere = augment_on == "device" and getattr(train, "views", None) and train.on_device() is None
    if augment_on == "device" and getattr(train, "views", None) and has_own_step(model):
        raise InputError(
            "augment_on='device' makes the views in Keras' own training step, and the network has one of its "
            "own; give augment_on='input'."
        )
    if augment_on not in PLACES or nowhere:
        raise InputError(
            f"augment_on={augment_on!r} cannot be done; give one of {', '.join(PLACES)}, and 'device' only "
            "for views that a device can make of each input alone."
        )


@dataclass(frozen=True)
class Segment:
    """What one `model.fit` runs on: the network or the part of it above a cut, and its batches."""

    model: keras.Model
    train: Batches
    validation: Batches


def _part(
    frozen: FrozenPrefix,
    model: keras.Model,
    train: Batches,
    validation: Batches,
    staged: StagedUnfreezing,
    blocks: Sequence[Block],
    lines: EpochLines,
) -> Segment | None:
    """The part of the network that the next stage has to run, or None where nothing can be kept."""
    stage, *later = staged.stages[staged.only :]
    lines.show_title()
    kept = frozen.part(model, train, validation, blocks, stage, later)
    if isinstance(kept, str):
        lines.remark = f"nothing is kept: {kept}"
        return None
    lines.remark = kept.note
    return Segment(kept.model, kept.train, kept.validation)


def _whole(in_input: Segment, augment_on: str, accumulate: int) -> Segment:
    """The whole network, with its views made where `augment_on` says or, for "auto", should be."""
    if augment_on == "input":
        return in_input
    if augment_on == "auto" and not tf.config.list_logical_devices("GPU"):
        return in_input
    on_device = in_input.train.on_device()
    if on_device is None or has_own_step(in_input.model):
        return in_input
    if augment_on == "auto":
        found = speeds.Speeds(
            _input_speed(in_input),
            speeds.training_speed(in_input.model, in_input.train.epoch(), accumulate),
        )
        bound = multi_worker.any_worker(found.input_bound, in_input.model.distribute_strategy)
        print(f"{found}; augmentation {'on the device' if bound else 'in the input'}")
        if not bound:
            return in_input
    return Segment(on_device.wrap(in_input.model), on_device.batches, in_input.validation)


def _input_speed(segment: Segment) -> float:
    """Examples per second that come in at all workers together, when nothing else runs."""
    strategy = segment.model.distribute_strategy
    share = multi_worker.share_of(strategy)
    if not share:
        return speeds.input_speed(segment.train.epoch())
    own = segment.train.after(0, share).map(pair).prefetch(tf.data.AUTOTUNE)
    return share.workers * speeds.input_speed(own)


def _watch(segment: Segment, lines: EpochLines) -> speeds.InputWatch:
    """Says after the first epoch whether the network waited for its input."""

    def tell(found: speeds.Speeds) -> None:
        advice = "; a weaker augmentation or smaller pictures would help" if found.input_bound else ""
        lines.remark = f"{found}{advice}"

    size = len(tf.nest.flatten(next(iter(segment.train.epoch())))[0])
    return speeds.InputWatch(_input_speed(segment), size, tell)


def _run(segment: Segment, staged: StagedUnfreezing, callbacks, saved, accumulate: int) -> None:
    """One `model.fit`, from the beginning or from a saved state."""
    model, record = segment.model, saved[0] if saved else None
    strategy = model.distribute_strategy
    multi_worker.prepare(model, accumulate)
    epochs_done, calls = (record["epochs_done"], record["calls"]) if record else (len(staged.rows), 0)
    epoch, steps = segment.train.epoch(), segment.train.steps
    _build_metrics(model, epoch)
    ended = record is not None and record["finished"]
    steps_done = epochs_done * max(steps, 0) + calls * model.steps_per_execution
    if steps > 0:
        train = _endless(segment.train, steps_done)
    else:  # nobody knows where an epoch ends before it does
        train = epoch
        for _ in range(epochs_done):
            for _ in train:
                pass
    model.fit(
        multi_worker.distribute(train, strategy),
        validation_data=multi_worker.distribute(segment.validation.epoch(), strategy),
        epochs=staged.epochs,
        initial_epoch=staged.epochs if ended else epochs_done,
        steps_per_epoch=steps if steps > 0 else None,
        verbose=0,
        shuffle=False,  # the batches are shuffled already
        callbacks=callbacks,
    )


def _search_rate(segment: Segment, staged: StagedUnfreezing, index: int, accumulate: int) -> None:
    """Give a stage the learning rate that a range test finds."""
    model, strategy = segment.model, segment.model.distribute_strategy
    multi_worker.prepare(model, accumulate)
    _build_metrics(model, segment.train.epoch())

    def fit(steps: int, callbacks: list) -> None:
        data = multi_worker.distribute(_endless(segment.train, 0), strategy)
        model.fit(data, epochs=1, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=callbacks)

    found = range_test.run(model, fit, staged, index)
    stage = staged.stages[index]
    staged.set_rate(index, found.rate)
    staged.range_tests[stage.name] = found.curve
    print(f"  stage {stage.name}: a range test of {len(found.curve)} steps gives the rate {found.rate:g}")


def _build_metrics(model: keras.Model, epoch: tf.data.Dataset) -> None:
    """Make the variables of the metrics, which Keras leaves to their first use.

    Within the first trace of the training step new variables make TensorFlow trace it a second time: two
    seconds for ResNet50. A state that is read back needs them as well.
    """
    metrics = model._compile_metrics
    if metrics is None or metrics.built or not isinstance(epoch.element_spec, tuple):  # without labels
        return
    labels = epoch.element_spec[1]

    def one(spec) -> tf.Tensor:
        return tf.zeros([1 if length is None else length for length in spec.shape], spec.dtype)

    with model.distribute_strategy.scope():
        metrics.build(*(keras.tree.map_structure(one, each) for each in (labels, model.output)))


def _endless(batches: Batches, steps_done: int):
    """The batches after `steps_done` steps, without end, as `multi_worker.distribute` takes them."""

    def own(share: multi_worker.Share | None) -> tf.data.Dataset:
        return batches.after(steps_done, share).map(pair).prefetch(tf.data.AUTOTUNE)

    return own
