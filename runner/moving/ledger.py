"""The ledger: what a stage was to move and what moved, block by block, proved from the weights themselves."""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from runner.errors import LedgerError
from runner.moving.trainable import layers_by_block
from runner.networks.backbones import Block


def snapshot(model: keras.Model) -> list[np.ndarray]:
    """Copies of `model.weights` on the host; `restore` puts them back."""
    return [variable.numpy().copy() for variable in model.weights]


def restore(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    """Assign what `snapshot` kept."""
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)


def entries(
    model: keras.Model,
    blocks: Sequence[Block],
    before: Sequence[np.ndarray],
    to_train: Sequence[keras.Variable],
    stage: str,
) -> pd.DataFrame:
    """What a stage moved, block by block, bottom first, head last.

    Columns: stage, block, variables (how many), to_train, moved, relative_change (the norm of the change
    over the norm of the weights before, 0 where nothing moved), and of a network that has such,
    statistics_moved (BatchNorm means and variances that moved). Raises LedgerError when a frozen weight or
    statistic moved, or when a block that was to train did not move at all.
    """
    index_of = {id(variable): index for index, variable in enumerate(model.weights)}
    wanted = {id(variable) for variable in to_train}
    rows, wrong, any_statistics = [], [], False
    for block, layers in layers_by_block(model, blocks).items():
        counts = dict(variables=0, to_train=0, moved=0, relative_change=0.0, statistics_moved=0)
        squared_change = squared_size = 0.0
        for layer in layers:
            for variable in layer._trainable_variables + layer._non_trainable_variables:
                if id(variable) not in index_of:  # the random state of dropout is no weight
                    continue
                old, new = before[index_of[id(variable)]], variable.numpy()
                moved = not np.array_equal(old, new, equal_nan=old.dtype.kind == "f")
                if any(variable is statistic for statistic in layer._non_trainable_variables):
                    any_statistics = True
                    counts["statistics_moved"] += moved
                    if moved and not layer.trainable:
                        wrong.append(f"the statistic {variable.path} moved though it is frozen")
                    continue
                counts["variables"] += 1
                counts["to_train"] += id(variable) in wanted
                counts["moved"] += moved
                squared_change += float(np.sum((new.astype("float64") - old) ** 2))
                squared_size += float(np.sum(old.astype("float64") ** 2))
                if moved and id(variable) not in wanted:
                    wrong.append(f"{variable.path} moved though it is frozen")
        counts["relative_change"] = float(np.sqrt(squared_change / squared_size)) if squared_size else 0.0
        if counts["to_train"] and not counts["moved"]:
            wrong.append(f"no weight of block '{block}' moved though {counts['to_train']} were to train")
        rows.append(dict(stage=stage, block=block, **counts))
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        reason = (
            "Something else changes weights or `trainable` flags during fit: a callback, a custom "
            "train_step, a second optimizer"
            if "though it" in wrong[0]
            else "No gradient reaches it: the loss does not depend on it, the "
            "learning rate is too small for float32, or an untrained network runs under frozen BatchNorm "
            "(batch_norm='train')"
        )
        raise LedgerError(f"stage '{stage}': {'; '.join(wrong[:3])}{more}. {reason}.")
    table = pd.DataFrame(rows)
    return table if any_statistics else table.drop(columns="statistics_moved")
