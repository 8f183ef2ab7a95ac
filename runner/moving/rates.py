"""Learning rates: those that suit the weights, that of each step, and each variable's share of it."""

import dataclasses
import math
from collections.abc import Sequence

import keras

from runner.fields import ConfigType
from runner.moving import trainable
from runner.moving.optimizers import inner
from runner.networks import pretrained
from runner.networks.backbones import Block
from runner.stage import Stage


def suited(config: ConfigType) -> ConfigType:
    """The Config with a number in the place of every None of its stages' `learning_rate`, `backbone_rate`.

    config: with stages, backbone and weights. A stage of the head alone, or with LoRA, takes the rate for a
    new head, any other that for pretrained weights (`pretrained.learning_rates`). With a rate for a large new
    head and None for the backbone's share of it, weights that bear less than `pretrained.MOST` get so much
    less; what LoRA adds is as new as the head.
    """
    if all(None not in (stage.learning_rate, stage.backbone_rate) for stage in config.stages):
        return config
    head, backbone = pretrained.learning_rates(config.backbone, config.weights)
    share = min(1.0, round(backbone / pretrained.MOST, 3))

    def filled(stage: Stage) -> Stage:
        new = stage.train == "head" or stage.lora_rank
        rate = head if new else backbone
        return dataclasses.replace(
            stage,
            learning_rate=rate if stage.learning_rate is None else stage.learning_rate,
            backbone_rate=(1.0 if stage.lora_rank else share)
            if stage.backbone_rate is None
            else stage.backbone_rate,
        )

    return dataclasses.replace(config, stages=tuple(map(filled, config.stages)))


def at(stage: Stage, step: int, steps: int) -> float:
    """The learning rate of a stage at one of its `steps` steps, counted from 0.

    constant: the stage's rate. cosine: a climb from near 0 over the warm-up, then half a cosine to 0
    (Loshchilov and Hutter 2017, arXiv:1608.03983). one_cycle: half a cosine up from 1/25 of the rate over
    the warm-up (0.3 when the stage gives none), then half a cosine down to 1e-5 of it (Smith and Topin
    2018, arXiv:1708.07120, with cosine sides).
    """
    if stage.schedule == "constant":
        return stage.rate
    share = stage.warmup if stage.schedule == "cosine" else stage.warmup or 0.3
    climb = int(round(share * steps))
    if step < climb:
        if stage.schedule == "cosine":
            return stage.rate * (step + 1) / (climb + 1)
        low, progress = stage.rate / 25, step / climb
        return low + (stage.rate - low) * (1 - math.cos(math.pi * progress)) / 2
    end = 0.0 if stage.schedule == "cosine" else stage.rate * 1e-5
    progress = (step - climb) / max(1, steps - climb)
    return end + (stage.rate - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def factors(model: keras.Model, blocks: Sequence[Block], stage: Stage) -> list[tuple[keras.Variable, float]]:
    """Each variable's share of the rate: in a block the backbone's, times layer_decay to the power of the
    block's depth below the head.
    """
    found = []
    for depth, layers in enumerate(reversed(trainable.layers_by_block(model, blocks).values())):
        factor = stage.share * stage.layer_decay**depth if depth else 1.0
        found += [(v, factor) for layer in layers for v in layer._trainable_variables]
    return found


def scale(optimizer: keras.optimizers.Optimizer, factors: Sequence[tuple[keras.Variable, float]]) -> None:
    """Let the optimizer update each variable with its own share of the learning rate, weight decay included.

    Overrides two methods of this one optimizer object. The factors are constants of the traced train
    function, so this must come before `make_train_function`. Keras' weight decay multiplies by the rate
    itself, outside `update_step`: without the second override a block at rate 0 would still decay.
    """
    optimizer = inner(optimizer)
    vars(optimizer).pop("update_step", None)
    vars(optimizer).pop("_apply_weight_decay", None)
    if all(factor == 1 for _, factor in factors):
        return
    factor_of = {optimizer._var_key(variable): factor for variable, factor in factors}
    update_step, apply_weight_decay = optimizer.update_step, optimizer._apply_weight_decay
    whole = optimizer.weight_decay  # read here: within a step another replica may have it scaled

    def scaled_update_step(gradient, variable, learning_rate):
        return update_step(gradient, variable, learning_rate * factor_of[optimizer._var_key(variable)])

    def scaled_weight_decay(variables):
        if whole is None:
            return
        try:
            for factor in sorted(set(factor_of.values())):
                optimizer.weight_decay = whole * factor
                apply_weight_decay([v for v in variables if factor_of[optimizer._var_key(v)] == factor])
        finally:
            optimizer.weight_decay = whole

    object.__setattr__(optimizer, "update_step", scaled_update_step)
    object.__setattr__(optimizer, "_apply_weight_decay", scaled_weight_decay)
