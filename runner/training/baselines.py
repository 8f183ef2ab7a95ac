"""What the staged schedule is compared with: the same network and pictures, trained in other ways, and what
costs nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.fields import ConfigType
from runner.stage import Stage
from runner.training.fit import Fit

SCRATCH = "from scratch"
NAMES = (SCRATCH, "frozen backbone", "staged")
"""What the methods that train a network are called where they are compared."""
PIXELS = "logistic regression on pixels"
TF_IDF = "logistic regression on TF-IDF"
"""Of texts: which words they have, and how rare these are."""
VECTORS = "averaged word vectors"
"""Logistic regression on the mean of what an encoder's first layer has for each token, whatever stands around
it."""
AT_ONCE = "fine-tuned at once"
"""All weights and a new head from the first step, as most people tune a network on texts."""
LORA = "LoRA"
"""Small weights beside kernels that stay as they are, and a head."""
SOLVED = "frozen + solved"
"""Logistic regression on what the frozen backbone gives, and no training."""
SAME_BOXES = "the same boxes in every picture"
GAZETTEER = "names of the training texts"
"""Of texts with entities: what was one in training is one again."""
MOST_FREQUENT = "most frequent tag of each word"
REGRESSION = "logistic regression"
BOOSTING = "gradient boosting"
"""Of tables, on their columns as they are."""
POOLED = "gradient boosting, pooled with the source"
SOURCE_SCORES = "scores of boosting on the source"
"""Logistic regression on what gradient boosting says of the outcomes of the source."""
WITH_SCORES = "gradient boosting with those scores"
"""As columns beside the others."""
WORD_BY_WORD = "word by word"
"""Of translations: a dictionary counted from the training pairs."""
N_GRAM = "counted sequences of characters"
AS_IT_CAME = "as it came"
"""The weights without any training, where they can answer already."""
UNTRAINED = ("none", "bytes")
"""Weights that have learned nothing before."""
NOTHING_TRANSFERRED = (
    *(SCRATCH, PIXELS, TF_IDF, SAME_BOXES, GAZETTEER, MOST_FREQUENT),
    *(N_GRAM, WORD_BY_WORD, REGRESSION, BOOSTING),
)
"""Methods that know the training examples and nothing else."""


def methods(config: ConfigType) -> dict[str, ConfigType]:
    """A Config for each method: "staged", as it is, and baselines.

    config: a template's Config, with stages, weights, scratch_lengths, scratch_learning_rate and baselines
    (False: no others). "frozen backbone" trains the head alone, as a first stage does, for as many epochs as
    all stages have; where the template can solve a head, it begins with the solved one, and ends with it
    where training betters nothing. What trains from scratch: `from_scratch`.
    """
    if not config.baselines:
        return {"staged": config}
    head = dataclasses.replace(
        config.stages[0],
        name="head",
        train="head",
        epochs=_epochs(config),
        schedule="cosine",
        batch_norm="frozen",
    )
    frozen = dataclasses.replace(config, stages=(head,))
    if hasattr(config, "solve_head"):
        frozen = dataclasses.replace(frozen, solve_head=True)
    return from_scratch(config) | {"frozen backbone": frozen, "staged": config}


LORA_STAGE = Stage("lora", train="lora:8", learning_rate=1e-3, schedule="cosine", warmup=0.1)
"""The rate was tried on validation, one seed each: an encoder with 200 sentences of SST-2 (1e-3, 3e-3), a
decoder with docstrings (1e-3, 3e-3, 1e-2); the templates' READMEs have the figures. The rank was not tried.
"""


def of_texts(
    config: ConfigType, scratch_keep: str = "last", at_once: bool = True, lora: bool = False
) -> dict[str, ConfigType]:
    """`methods` for a template on texts: a small network, config.scratch_backbone, starts from scratch, and
    AT_ONCE trains all weights with a new head, at the rate of the last stage and for as many epochs as all
    have, where the stages are not just that.

    scratch_keep: "best" hands on the epoch of the training from scratch that is best on validation, as fits
    networks without BatchNorm that learn their few texts by heart.
    at_once: False leaves AT_ONCE out, where the head is half a network and it would cost as much as all else.
    lora: LORA trains LORA_STAGE, from the head that the stages begin with and for as many epochs as all have.
    """
    arms = methods(config)
    if not config.baselines:
        return arms
    for name in from_scratch(config):
        stage = dataclasses.replace(arms[name].stages[0], keep=scratch_keep)
        arms[name] = dataclasses.replace(arms[name], backbone=config.scratch_backbone, stages=(stage,))
    if lora and not any(stage.lora_rank for stage in config.stages):
        stage = dataclasses.replace(LORA_STAGE, epochs=_epochs(config))
        arms = {LORA: dataclasses.replace(config, stages=(stage,))} | arms
    if not at_once:
        return arms
    last = dataclasses.replace(config.stages[-1], name="all", train="all", epochs=_epochs(config))
    together = dataclasses.replace(config, stages=(last,))
    if hasattr(config, "solve_head"):
        together = dataclasses.replace(together, solve_head=False)
    return arms if together == config else {AT_ONCE: together} | arms


def from_scratch(config: ConfigType) -> dict[str, ConfigType]:
    """A Config for each length of the training from scratch, of which `compared` takes the best.

    A network without pretrained weights needs other lengths than one with them, and how much longer it pays
    to train nobody knows before. config.scratch_lengths: each times the epochs of all stages. Every weight
    and BatchNorm statistic is free from the start, and no epoch is picked on validation: early in training
    the statistics say little about the weights. `fit_stages` estimates them anew at the end.
    """
    arms = {}
    for epochs in sorted({times * _epochs(config) for times in config.scratch_lengths}):
        stage = Stage(
            "scratch",
            train="all",
            epochs=epochs,
            learning_rate=config.scratch_learning_rate,
            schedule="cosine",
            warmup=0.1,
            batch_norm="train",
            keep="last",
        )
        arm = dataclasses.replace(config, weights="none", stages=(stage,))
        if hasattr(config, "solve_head"):
            arm = dataclasses.replace(arm, solve_head=False)
        arms[f"{SCRATCH} for {epochs} epochs"] = arm
    return arms if len(arms) > 1 else {SCRATCH: next(iter(arms.values()))}


def _epochs(config: Any) -> int:
    return sum(stage.epochs for stage in config.stages)


def called(name: str) -> str:
    """What a method of `methods` is called where it is compared: all lengths are one method."""
    return SCRATCH if name.startswith(SCRATCH) else name


def compared(networks: Mapping[str, keras.Model], validation: Mapping[str, float]) -> dict[str, keras.Model]:
    """The networks that go to the test: of those from scratch the best on validation, as "from scratch".

    Prints what each length reached. Call it before the test is opened, and let go of `networks`.
    networks: by the names of `methods`, and others. validation: the score of each, higher is better; of equal
    ones the shorter training is taken.
    """
    if said := recipe(validation):
        print(f"{SCRATCH}: {said}")
    best = _best(validation)
    return {called(name): one for name, one in networks.items() if name == best or called(name) != SCRATCH}


def recipe(validation: Mapping[str, float]) -> str:
    """What was chosen among in words, "" where there was one length alone: "350 epochs, by validation: .101
    after 70, .283 after 350".
    """
    lengths = {name: name.split()[-2] for name in validation if name.startswith(f"{SCRATCH} for ")}
    if not lengths:
        return ""
    reached = ", ".join(f"{validation[name]:.3f} after {epochs}" for name, epochs in lengths.items())
    return f"{lengths[_best(validation)]} epochs, by validation: {reached}"


def _best(validation: Mapping[str, float]) -> str:
    """The name of the best training from scratch, "" where there is none."""
    names = [name for name in validation if called(name) == SCRATCH]
    return max(names, key=lambda name: validation[name]) if names else ""


def table(
    config: Any,
    networks: Mapping[str, keras.Model],
    fits: Mapping[str, Fit],
    score: str,
    validation: Mapping[str, float],
    test: Mapping[str, Mapping[str, Any]] | None = None,
    also: Sequence[str] = (),
    apart: Mapping[str, tuple[float, float, float]] | None = None,
) -> pd.DataFrame:
    """A row per method: what it trained, what it took (seconds), val_<score>, test_<score> and its interval
    (low, high), the test numbers `also`, whether it started from pretrained weights, the recipe that was
    chosen for it, and difference, difference_low, difference_high: what the method that is handed out has
    more of the score on the same examples, with its 95 % interval.

    config: a template's, with weights. networks: of `compared`. fits, validation: of all that was trained, by
    the names of `methods`; score: the number that methods are compared by, which `validation` has of each,
    and what it is called in `test`, beside <score>_interval. test: all numbers of each that is compared; None
    leaves them out. apart: (value, low, high) for each of the other methods.
    """
    apart = apart or {}
    columns = ("difference", "difference_low", "difference_high") if apart else ()
    rows = []
    for name, network in networks.items():
        trained = _best(validation) if name == SCRATCH else name
        rows.append(
            {
                "method": name,
                "epochs": len(fits[trained].history),
                "trainable_parameters": _trained(fits[trained], network),
                "seconds": round(fits[trained].seconds, 1),
                f"val_{score}": validation[trained],
                **(_tested(test[name], score, also) if test else {}),
                "pretrained": config.weights not in UNTRAINED and name not in NOTHING_TRANSFERRED,
                "recipe": recipe(validation) if name == SCRATCH else "",
                **dict(zip(columns, apart.get(name, (np.nan,) * 3), strict=False)),
            }
        )
    return pd.DataFrame(rows)


def _trained(fitted: Fit, network: keras.Model) -> int:
    """How many single weights a method trained last."""
    if fitted.trained is not None:
        return fitted.trained
    return sum(int(np.prod(one.shape)) for one in network.trainable_variables)


def _tested(numbers: Mapping[str, Any], score: str, also: Sequence[str]) -> dict[str, float]:
    low, high = numbers[f"{score}_interval"]
    found = {f"test_{score}": numbers[score], "low": low, "high": high}
    return found | {f"test_{one}": numbers[one] for one in also}
