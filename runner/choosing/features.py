"""What the frozen network of each source makes of the same examples: computed once, and kept.

The examples are those of training and validation; the test stays sealed. What is kept lies in the folder of
`training.cache`, under a fingerprint of the weights, the code and the examples, so that a second ranking
builds no network.
"""

import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from runner.data import examples as data_examples
from runner.data.examples import Data
from runner.errors import InputError
from runner.networks import folding, inference
from runner.training import cache

MOST = 2000
"""The most examples that are looked at: a share of that many has a standard error of 1.1 points at most."""
BATCH = 32
TIMED, TIMES = 16, 5
"""Examples of the batch that is timed, and how often it is, after a first time that compiles."""

Head = Callable[[np.ndarray], np.ndarray]
"""From pooled features (n, d) to the source's own probabilities (n, classes)."""
Network = tuple[keras.Model, Head | None]
"""From inputs to pooled features, float32 (batch, d), and the source's classifier, where it has one."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples to rank sources by, those of training and of validation together.

    data: that they are of. ids: int64 (n,), rows of its manifest, ascending. labels: int64 (n,), indices into
    its classes.
    """

    data: Data
    ids: np.ndarray
    labels: np.ndarray

    def inputs(self) -> np.ndarray:
        """All inputs, (n, ...), as `data` has them."""
        wanted, found = set(self.ids.tolist()), {}
        for split in (self.data.train, self.data.val):
            for one in split.as_numpy_iterator():
                if int(one["id"]) in wanted:
                    found[int(one["id"])] = one["input"]
        return np.stack([found[one] for one in self.ids.tolist()])


@dataclass(frozen=True, eq=False)
class Features:
    """What one source makes of `Examples`."""

    values: np.ndarray
    """float32 (n, d): the pooled features that a head would stand on."""
    answers: np.ndarray | None
    """float32 (n, classes of the source), probabilities; None of a source without a classifier."""
    parameters: int
    """Of the backbone."""
    milliseconds: float
    """An example takes in batches of TIMED, the least of TIMES, on the machine that computed the features."""
    key: str
    """Of all that decides the values; for what is computed of them."""
    kept: bool
    """Whether they had been computed before."""


def chosen(data: Data, most: int = MOST, seed: int = 0) -> Examples:
    """The training and validation examples of a `Data`, or `most` of them, each class in proportion and with
    one at least.
    """
    ids = np.sort(np.concatenate([data_examples.ids(data.manifest, one) for one in ("train", "val")]))
    labels = data.manifest["label"].cat.codes.to_numpy(np.int64)[ids]
    if len(ids) > most:
        random = np.random.default_rng(seed)
        order = random.permutation(len(ids))
        # Each class's examples get places spread evenly from 0 to 1; those with the first places are taken.
        place = np.zeros(len(ids))
        for one in np.unique(labels):
            rows = order[labels[order] == one]
            place[rows] = np.arange(len(rows)) / len(rows)
        taken = np.sort(np.lexsort((order, place))[:most])
        ids, labels = ids[taken], labels[taken]
    return Examples(data, ids.astype(np.int64), labels)


def of(
    name: str, examples: Examples, content: Sequence[str | bytes], network: Callable[[], Network]
) -> Features:
    """The features of one source, as kept before or as its network makes them now.

    name: of the source, for messages. content: all that decides what its network computes. network: builds
    it; not called where everything is kept.
    Raises InputError for features that are not finite, and what `network` raises.
    """
    key, count = _key(content, examples), len(examples.ids)
    built: list[Network] = []
    inputs: list[np.ndarray] = []

    def source() -> Network:
        if not built:
            built.append(network())
        return built[0]

    def given() -> np.ndarray:
        if not inputs:
            inputs.append(examples.inputs())
        return inputs[0]

    def measure(facts: np.ndarray) -> None:
        pooled, head = source()
        width, classes = pooled.output.shape[-1], 0
        if head is not None:
            classes = head(np.zeros((1, width), np.float32)).shape[1]
        facts[:] = width, pooled.count_params(), 1000 * _seconds(folding.fold(pooled), given()), classes

    def fill(array: np.ndarray) -> None:
        for first, found in _passes(folding.fold(source()[0]), given()):
            array[first : first + len(found)] = found

    def answer(array: np.ndarray) -> None:
        head = source()[1]
        assert head is not None
        array[:] = head(values)

    facts = _kept(cache.fingerprint(key, "facts"), (4,), np.float64, measure)
    width, parameters, milliseconds, classes = facts.array.tolist()
    values = _kept(key, (count, int(width)), np.float32, fill).array
    if not np.isfinite(values).all():
        raise InputError(
            f"--sources {name}: its features are not finite, so its weights are damaged; leave it out."
        )
    answers = None
    if classes:
        answers = _kept(cache.fingerprint(key, "answers"), (count, int(classes)), np.float32, answer).array
    return Features(values, answers, int(parameters), milliseconds, key, not facts.computed)


def _kept(key: str, shape: Sequence[int], dtype: Any, fill: Callable[[np.ndarray], None]) -> cache.Kept:
    found = cache.keep(key, shape, dtype, fill)
    if found is None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize / 1e6
        raise InputError(
            f"The features of {shape[0]:,} examples take {size:,.0f} MB, more than there is in memory or in "
            f"{cache.folder()}; make room, or move it by THAW_CACHE."
        )
    return found


def _key(content: Sequence[str | bytes], examples: Examples) -> str:
    hashes = examples.data.manifest["sha256"].to_numpy(object)[examples.ids]
    code = [Path(inspect.getfile(one)).read_bytes() for one in (folding, Features)]
    return cache.fingerprint(
        *code,
        *content,
        [keras.__version__, tf.__version__, examples.data.recipe],
        [str(one) for one in hashes],
    )


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_head(network: keras.Model, width: int) -> Head | None:
    """Softmax of the dense layer `head` that our templates end with; None where a network has none."""
    names = [layer.name for layer in network.layers]
    head = network.get_layer("head") if "head" in names else None
    if not isinstance(head, keras.layers.Dense) or head.kernel.shape[0] != width:
        return None
    kernel, bias = (np.asarray(one) for one in head.get_weights())
    return lambda values: scipy.special.softmax(values @ kernel + bias, axis=1)


def _passes(pooled: keras.Model, inputs: np.ndarray):
    """(first row, features) of one batch after another."""
    step = inference.forward(pooled)
    for first in range(0, len(inputs), BATCH):
        yield first, step(inputs[first : first + BATCH]).numpy()


def _seconds(pooled: keras.Model, inputs: np.ndarray) -> float:
    """Of one example, with nothing else at work in this process; the least, for other programs only add."""
    step, batch, times = inference.forward(pooled), inputs[:TIMED], []
    step(batch)
    for _ in range(TIMES):
        started = time.perf_counter()
        step(batch).numpy()
        times.append(time.perf_counter() - started)
    return min(times) / len(batch)
