"""What the staged schedule is compared with: the same network and pictures, trained in two other ways."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.fields import ConfigType
from runner.stage import Stage
from runner.training.fit import Fit


def methods(config: ConfigType) -> dict[str, ConfigType]:
    """A Config for each method: "staged", as it is, and two baselines with as many epochs in all.

    config: a template's Config, with stages, weights, scratch_learning_rate and baselines (False: no others).
    "frozen backbone" trains the head alone, as a first stage does; where the template can solve a head, it
    begins with the solved one, and ends with it where training betters nothing. "from scratch" has every
    weight and BatchNorm statistic free from the start and no validation pick of its epoch: early in training
    its statistics say little about its weights. `fit_stages` estimates them anew at its end.
    """
    if not config.baselines:
        return {"staged": config}
    epochs = sum(stage.epochs for stage in config.stages)
    scratch = Stage(
        "scratch",
        train="all",
        epochs=epochs,
        learning_rate=config.scratch_learning_rate,
        schedule="cosine",
        warmup=0.1,
        batch_norm="train",
        keep="last",
    )
    head = dataclasses.replace(
        config.stages[0], name="head", train="head", epochs=epochs, schedule="cosine", batch_norm="frozen"
    )
    from_scratch = dataclasses.replace(config, weights="none", stages=(scratch,))
    frozen = dataclasses.replace(config, stages=(head,))
    if hasattr(config, "solve_head"):
        from_scratch = dataclasses.replace(from_scratch, solve_head=False)
        frozen = dataclasses.replace(frozen, solve_head=True)
    return {
        "from scratch": from_scratch,
        "frozen backbone": frozen,
        "staged": config,
    }


def table(
    networks: Mapping[str, keras.Model],
    fits: Mapping[str, Fit],
    score: str,
    validation: Mapping[str, float],
    test: Mapping[str, Mapping[str, Any]],
    also: Sequence[str] = (),
    apart: Mapping[str, tuple[float, float, float]] | None = None,
) -> pd.DataFrame:
    """A row per method: what it trained, what it took (seconds), val_<score>, test_<score> and its interval
    (low, high), the test numbers `also`, and difference, difference_low, difference_high: what the method
    that is handed out has more of the score on the same examples, with its 95 % interval.

    score: the number that methods are compared by, and what it is called in `test`, beside <score>_interval.
    validation: its value for each method. test: all numbers of each. apart: (value, low, high) for each of
    the other methods.
    """
    apart = apart or {}
    columns = ("difference", "difference_low", "difference_high") if apart else ()
    rows = [
        {
            "method": name,
            "epochs": len(fits[name].history),
            "trainable_parameters": sum(int(np.prod(one.shape)) for one in network.trainable_variables),
            "seconds": round(fits[name].seconds, 1),
            f"val_{score}": validation[name],
            f"test_{score}": test[name][score],
            "low": test[name][f"{score}_interval"][0],
            "high": test[name][f"{score}_interval"][1],
            **{f"test_{one}": test[name][one] for one in also},
            **dict(zip(columns, apart.get(name, (np.nan,) * 3), strict=False)),
        }
        for name, network in networks.items()
    ]
    return pd.DataFrame(rows)
