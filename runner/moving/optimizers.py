"""An optimizer made anew for other weights, in all else as the one that the model was compiled with."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from runner.errors import InputError
from runner.stage import Stage

_STATE = ("built", "inner_optimizer", "_lock", "_tracker", "_variables", "_trainable_variables")
_STATE += ("_trainable_variables_indices", "_exclude_from_weight_decay_cache")


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that updates the weights: under mixed_float16 Keras wraps it in a LossScaleOptimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def renewed(
    old: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """A fresh optimizer with the settings of `old`, built for some variables.

    What its config lacks is copied: `exclude_from_weight_decay`, an attribute that `get_config` of a class of
    one's own leaves out. Raises InputError where its config does not make one.
    """
    try:
        new = type(old).from_config(old.get_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"each stage begins with a fresh optimizer, and {type(old).__name__} cannot be made anew from "
            f"its get_config ({' '.join(str(error).split())[:150]}); let that return all that __init__ takes."
        ) from error
    _copy_settings(old, new)
    if inner(old) is not old:
        _copy_settings(inner(old), inner(new))
    new.build(list(variables))
    return new


def _copy_settings(old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer) -> None:
    for name, value in list(vars(old).items()):
        method = callable(value) and hasattr(type(old), name)  # one that stages or accumulation override
        if name in _STATE or name.startswith("_self_") or method or _holds_variables(value):
            continue
        lacks = name not in vars(new)
        if lacks or (_is_plain(value) and _is_plain(vars(new)[name]) and value != vars(new)[name]):
            setattr(new, name, value)


def _holds_variables(value: Any) -> bool:
    if isinstance(value, (keras.Variable, tf.Variable)):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list, tuple)) and any(map(_holds_variables, parts))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def check_averages(
    optimizer: keras.optimizers.Optimizer,
    stages: Sequence[Stage],
    chosen: Sequence[Sequence[keras.Variable]],
) -> None:
    """Raise InputError for an optimizer with `use_ema` where the averages would not be of a stage's weights.

    chosen: what each stage trains. Keras keeps an average of every weight that the optimizer was built for
    and puts all of them in the weights' place when `fit` ends.
    """
    if not inner(optimizer).use_ema:
        return
    sets = [{id(variable) for variable in one} for one in chosen]
    if all(one == sets[0] for one in sets) and all(stage.keep == "last" for stage in stages):
        return
    raise InputError(
        "the optimizer was compiled with use_ema=True, whose averages Keras puts in the weights' place when "
        "fit ends: that goes with stages that all train the same weights and hand on the last epoch "
        "(keep='last'), for the best one was measured without; change the stages, or compile without use_ema."
    )
