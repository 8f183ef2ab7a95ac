"""What methods answer after each task, and the numbers that are taken from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from runner.networks import inference

from .batches import Rows
from .learners import Learned
from .tasks import Tasks

TASK = "task told"
NUMBERS = ("average", "told", "forgetting", "backward_transfer", "forward_transfer")
"""Of `numbers`."""


@dataclass(frozen=True)
class Matrix:
    """What one method was right on: float64 (tasks, tasks), after task i on examples of task j.

    NaN where nothing was asked: before a task's classes had come, of a task without examples, and of "joint"
    before the last task.
    """

    right: np.ndarray
    """Among all classes that had come, or where the scenario tells the task those of the task."""
    told: np.ndarray
    """Among the classes of the task alone, of tasks that had come."""


def matrix(learned: Learned, rows: Rows, told: Tasks) -> Matrix:
    """Let a method answer examples of all tasks as it was after each. rows: with what `below` gives.

    `above` has the weights of the last task afterwards.
    """
    count = len(told.names)
    right, alone = np.full((count, count), np.nan), np.full((count, count), np.nan)
    step = inference.forward(learned.above)
    for now in sorted(learned.after):
        for variable, value in zip(learned.above.weights, learned.after[now], strict=True):
            variable.assign(value)
        logits = outputs(step, rows.inputs)
        found = answered(logits, told.allowed(now, rows.tasks)) == rows.labels
        within = answered(logits, told.own[rows.tasks]) == rows.labels
        for task in range(count if told.scenario == "domain" else now + 1):
            own = rows.tasks == task
            if own.any():
                right[now, task] = found[own].mean()
                alone[now, task] = within[own].mean()
    return Matrix(right, alone)


def outputs(step: Any, inputs: np.ndarray) -> np.ndarray:
    """The logits of all inputs, float32 (n, classes)."""
    return np.concatenate([step(inputs[at : at + 256]).numpy() for at in range(0, len(inputs), 256)])


def answered(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The class with the largest logit among those allowed, int64 (n,)."""
    return np.where(allowed, logits, -np.inf).argmax(axis=1)


def numbers(found: Matrix, told: Tasks) -> dict[str, float]:
    """Of a matrix R, with T tasks: average, told (the same with the task told), forgetting, and transfer.

    average = mean_j R_Tj. backward_transfer = mean_{j<T} (R_Tj - R_jj) and forward_transfer =
    mean_{j>1} (R_{j-1,j} - b_j): Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning"
    (NeurIPS 2017, arXiv:1706.08840), equations 2 to 4; b_j is what guessing has, one over the number of
    classes. forgetting = mean_{j<T} (max_{i<T} R_ij - R_Tj): Chaudhry et al., "Riemannian walk for
    incremental learning" (ECCV 2018, arXiv:1801.10112), equation 3. NaN where there is no such thing:
    forward transfer where a task brings classes that could not be answered before it.
    """
    right = found.right
    last = right[-1]
    before, learned = right[:-1, :-1], np.diag(right)[:-1]
    found_of = {"average": _mean(last), "told": _mean(found.told[-1])}
    drops = [
        np.nanmax(before[:, j]) - last[j] for j in range(len(last) - 1) if np.isfinite(before[:, j]).any()
    ]
    found_of["forgetting"] = _mean(np.array(drops))
    found_of["backward_transfer"] = _mean(last[:-1] - learned)
    ahead = np.diag(right, k=1) if told.scenario == "domain" else np.array([])
    found_of["forward_transfer"] = _mean(ahead - 1 / told.own.shape[1])
    return found_of


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def seen_so_far(found: Matrix) -> np.ndarray:
    """After each task the mean accuracy on the tasks so far, float64 (tasks,)."""
    return np.array([_mean(row[: number + 1]) for number, row in enumerate(found.right)])


def table(matrices: Mapping[str, Matrix], told: Tasks) -> pd.DataFrame:
    """A row per method and cell of its matrix: method, after, on (names of tasks), accuracy, told."""
    rows = []
    for name, one in matrices.items():
        for i, j in zip(*np.nonzero(np.isfinite(one.right)), strict=True):
            pair = told.names[i], told.names[j]
            rows.append((name, *pair, one.right[i, j], one.told[i, j]))
    return pd.DataFrame(rows, columns=["method", "after", "on", "accuracy", "told"])


def chosen(validation: Mapping[str, float], order: Sequence[str]) -> str:
    """Which method is handed out: the best on validation, of equal ones the first of `order`.

    validation: accuracy of each on validation pictures of all tasks, after the last.
    """
    there = [name for name in order if name in validation]
    return max(there, key=lambda name: validation[name])
