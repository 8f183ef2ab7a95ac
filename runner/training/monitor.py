"""Which way a number of the logs is better, as the metric itself says, and who is told of it each epoch."""

import contextlib
from collections.abc import Callable, Iterator

import keras

from runner.errors import InputError, suggest

HIGHER = ("accuracy", "acc", "auc", "f1_score", "precision", "recall", "iou")
"""Names that end so and belong to no metric of Keras', such as a function `mean_iou`: more is better."""
_LISTENERS: list[Callable[[int, float], None]] = []


@contextlib.contextmanager
def listening(listener: Callable[[int, float], None]) -> Iterator[None]:
    """Within the block each epoch of a staged fit calls `listener(epoch, value)`, which may raise to end it.

    epoch: from 1, over all stages. value: of the monitor, of what the fit would hand on if it ended here.
    A further Keras callback could do it as well, but with one nothing that is frozen is computed once.
    """
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def tell(epoch: int, value: float) -> None:
    """Call those who are `listening`."""
    for listener in _LISTENERS:
        listener(epoch, value)


def sign(model: keras.Model, monitor: str, mode: str) -> int:
    """Return 1 where less of `monitor` is better, -1 where more is.

    model: compiled. monitor: an entry of its logs, such as "val_auc". mode: "min", "max", or "auto": what is
    a loss is to be low, and every metric of Keras' says which way it goes. Raises InputError for one that
    nobody knows of.
    """
    if mode != "auto":
        return -1 if mode == "max" else 1
    name = monitor.removeprefix("val_")
    if name == "loss" or name.endswith("_loss"):
        return 1
    known = list(_directions(model))
    for one, direction in known:
        # A network of several outputs puts the output's name before the metric's.
        if direction and (name == one or name.endswith(f"_{one}")):
            return -1 if direction == "up" else 1
    if name.endswith(HIGHER):
        return -1
    names = [f"val_{one}" for one, _ in known]
    raise InputError(
        f"monitor='{monitor}': nothing says whether more of it is better or less; give mode='max' or "
        f"mode='min', or another monitor (val_loss{''.join(f', {one}' for one in names)})."
        f"{suggest(monitor, ['val_loss', *names])}"
    )


def _directions(model: keras.Model) -> Iterator[tuple[str, str | None]]:
    """(name in the logs, "up", "down" or None) of each metric; those given to `compile` may be unbuilt."""
    given = getattr(model, "_compile_metrics", None)
    both = [given._user_metrics, given._user_weighted_metrics] if given is not None else []
    for one in keras.tree.flatten(both):
        if one is None:
            continue
        if isinstance(one, str) and one.lower() in ("accuracy", "acc"):  # which one depends on the labels
            yield one, "up"
            continue
        try:
            metric = keras.metrics.get(one)
        except ValueError:
            continue  # Keras says so itself
        if not isinstance(metric, keras.metrics.Metric):
            metric = keras.metrics.MeanMetricWrapper(metric)
            name = getattr(one, "name", None) or getattr(one, "__name__", metric.name)
        else:
            name = metric.name
        yield (one if isinstance(one, str) else name), getattr(metric, "_direction", None)
    for metric in model.metrics:  # of a training step of the model's own
        yield metric.name, getattr(metric, "_direction", None)
