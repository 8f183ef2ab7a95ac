"""The state of a staged fit between two steps, and how a fit goes on from it.

`staged` is a `stages.StagedUnfreezing`, which imports this.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.errors import InputError
from runner.moving import rates, trainable


def state(staged: Any) -> tuple[dict, dict[str, np.ndarray]]:
    """What `StagedUnfreezing.resume` needs, between two steps: plain JSON types, and arrays.

    The arrays are copies on the host: the weights and the seed states of random layers, the metrics'
    sums, the optimizer's variables, and, while a stage runs, its first weights and those of its best
    epoch.
    """
    variables, optimizer = state_variables(staged.network), staged.model.optimizer.variables
    record = {
        "stages": [dataclasses.asdict(stage) for stage in staged.stages],
        "variables": [[variable.path, list(variable.shape)] for variable in (*variables, *optimizer)],
        "index": staged.index,
        "stage_epoch": staged.stage_epoch,
        "calls": staged.calls,
        "entering": staged.entering,
        "best": staged.best,
        "received": staged.received,
        "waited": staged.waited,
        "rows": staged.rows,
        "range_tests": [[name, curve.to_dict("list")] for name, curve in staged.range_tests.items()],
        "ledgers": [table.to_dict("records") for table in staged.ledgers],
    }
    groups = {
        "variable": [keras.ops.convert_to_numpy(variable) for variable in variables],
        "optimizer": [keras.ops.convert_to_numpy(variable) for variable in optimizer],
        "metric": [_per_replica(variable) for variable in staged.model.metrics_variables],
        "before": staged.before,
        "best": staged.best_weights or [],
    }
    return record, {
        f"{name}_{i:05}": value for name, values in groups.items() for i, value in enumerate(values)
    }


def go_on(staged: Any, record: dict, arrays: dict[str, np.ndarray]) -> None:
    """Take up a saved state, in the place of entering a stage."""
    staged.saved = None
    variables = [*state_variables(staged.network), *staged.model.optimizer.variables]
    expected = record["variables"]
    if record["entering"] and staged.only is not None:
        # The file has the optimizer of the stage before, which was for other weights; the next begins
        # with its own.
        variables = state_variables(staged.network)
        expected = expected[: len(variables)]
        arrays = {name: value for name, value in arrays.items() if not name.startswith("optimizer_")}
    found = [[list(variable.shape), variable.path.split("/")[-1]] for variable in variables]
    if found != [[shape, path.split("/")[-1]] for path, shape in expected]:
        raise InputError(
            "the checkpoint holds other weights than this model or its optimizer has; give the model it "
            "was written for, or delete its checkpoints to train anew."
        )
    values = {
        name: [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}_")]
        for name in ("variable", "optimizer", "metric", "before", "best")
    }
    for variable, value in zip(variables, values["variable"] + values["optimizer"], strict=True):
        variable.assign(value)
    staged.index, staged.stage_epoch, staged.entering = (
        record[name] for name in ("index", "stage_epoch", "entering")
    )
    staged.best, staged.received, staged.waited = (
        tuple(record["best"]),
        tuple(record["received"]),
        record["waited"],
    )
    staged.before, staged.best_weights = values["before"], values["best"] or None
    staged.rows = record["rows"]
    staged.range_tests = {name: pd.DataFrame(curve) for name, curve in record.get("range_tests", [])}
    staged.ledgers = [pd.DataFrame(rows) for rows in record["ledgers"]]
    stage = staged.stage
    staged.to_train = trainable.set_trainable(staged.network, staged.blocks, stage.train, stage.batch_norm)
    rates.scale(staged.model.optimizer, rates.factors(staged.network, staged.blocks, stage))
    staged.model.make_train_function(force=True)
    if record["calls"]:
        staged.begun_epoch = record["calls"], values["metric"]


def go_on_in_epoch(staged: Any, calls: int, sums: list[np.ndarray]) -> None:
    """Let the first `calls` steps of this epoch pass without training, its metrics as they were after
    them.

    `fit` counts an epoch's steps from 0 and reads `train_function` anew for each.
    """
    for variable, values in zip(staged.model.metrics_variables, sums, strict=True):
        copies = getattr(variable.value, "values", [variable])
        if len(values) != len(copies):
            raise InputError(
                f"the checkpoint was written within an epoch on {len(values)} replicas, now there are "
                f"{len(copies)}; go on with as many, or delete it to go on from the epoch before."
            )
        for copy, value in zip(copies, values, strict=True):
            copy.assign(value)
    staged.passed_by = calls
    model, train_function = staged.model, staged.model.train_function

    def pass_by(iterator):
        if staged.calls == calls - 1:
            model.train_function = train_function
        return model.get_metrics_result()

    model.train_function = pass_by


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """All weights and the seed states of random layers; metrics start anew each epoch."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _per_replica(variable: keras.Variable) -> np.ndarray:
    """A metric's sum, one row per replica: each has its own, and their total is another rounding."""
    return np.stack([copy.numpy() for copy in getattr(variable.value, "values", [variable])])
