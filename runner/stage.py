"""One stage of a transfer schedule, as data.

It lives here and not beside the callback that runs it so that `--help` and a misspelt flag never wait for
TensorFlow.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runner.errors import InputError, suggest
from runner.fields import check_types


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer schedule: which weights train, for how long and how fast."""

    name: str
    """Shown in the log, the ledger and the report; unique within a schedule."""
    train: str = "head"
    """head | top:N (head and last N blocks) | above:NAME (head and all above a block) | all | norm | bias |
    lora:RANK (head, and small weights beside the kernels of all blocks)
    """
    epochs: int = 10
    learning_rate: float | Literal["auto"] | None = 1e-3
    """Peak learning rate of the stage; None takes the one that suits the weights it starts from, auto what a
    range test finds when the stage begins.
    """
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    warmup: float = 0.0
    """Share of the stage's steps over which the rate climbs from 0 (cosine) or to its peak (one_cycle; 0
    means 0.3).
    """
    backbone_rate: float | None = 1.0
    """Share of the rate that the backbone's blocks get; None takes the one that suits the weights."""
    layer_decay: float = 1.0
    """Each block's rate is this times the rate of the block above it; 1 gives all the same rate."""
    patience: int | None = None
    """End the stage after this many epochs without a better validation value; None never does."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """frozen keeps the backbone's BatchNorm layers (statistics, scales, offsets) still; train lets them
    learn.
    """
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights the stage hands on: the best on validation, or the last."""

    def __post_init__(self) -> None:
        check_types(self)
        allowed = ("head", "top:N", "above:NAME", "all", "norm", "bias", "lora:RANK")
        if not re.fullmatch(r"head|all|norm|bias|(top|lora):[1-9]\d*|above:.+", self.train):
            raise InputError(
                f"stage {self.name!r}: train={self.train!r} is not one of {', '.join(allowed)}."
                f"{suggest(self.train, allowed)} Example: train='top:2'."
            )
        for field, fine, rule in (
            ("name", bool(self.name.strip()), "a name that is not empty"),
            ("epochs", self.epochs >= 1, "a whole number of at least 1"),
            (
                "learning_rate",
                self.learning_rate is None
                or self.learning_rate == "auto"
                or 0 < self.learning_rate < float("inf"),
                "a number above 0, auto, or None",
            ),
            ("warmup", 0 <= self.warmup < 1, "a share of the stage's steps, from 0 to below 1"),
            (
                "backbone_rate",
                self.backbone_rate is None or 0 < self.backbone_rate <= 1,
                "a share above 0 and at most 1, or None",
            ),
            ("layer_decay", 0 < self.layer_decay <= 1, "a factor above 0 and at most 1"),
            ("patience", self.patience is None or self.patience >= 1, "None or a whole number of at least 1"),
        ):
            if not fine:
                raise InputError(
                    f"stage {self.name!r}: {field}={getattr(self, field)!r} cannot be used; give {rule}."
                )
        if self.warmup and self.schedule == "constant":
            raise InputError(
                f"stage {self.name!r}: warmup={self.warmup} has no effect with schedule='constant'; "
                "set schedule to 'cosine' or 'one_cycle', or warmup to 0."
            )

    @property
    def lora_rank(self) -> int | None:
        """Of a stage "lora:RANK" the rank, of others None."""
        return int(self.train.removeprefix("lora:")) if self.train.startswith("lora:") else None

    @property
    def rate(self) -> float:
        """The learning rate as a number; InputError where the stage leaves it to the weights."""
        return self._said("learning_rate")

    @property
    def share(self) -> float:
        """The backbone's share of it as a number; InputError where the stage leaves it to the weights."""
        return self._said("backbone_rate")

    def _said(self, name: str) -> float:
        value = getattr(self, name)
        if value == "auto":
            raise InputError(
                f"stage {self.name!r}: learning_rate='auto' is found by `fit_stages` when it begins the "
                "stage; give a number where nothing runs a range test."
            )
        if value is None:
            raise InputError(
                f"stage {self.name!r}: {name}=None leaves the rate to the weights, which nothing here "
                "knows; give a number, or take the stages from `rates.suited(config)`."
            )
        return value


def check_stages(stages: Sequence[Stage]) -> None:
    """Raise InputError unless there is at least one stage, all are stages, no two share a name, and LoRA has
    one rank and no other stage that trains the kernels below it.
    """
    strange = [one for one in stages if not isinstance(one, Stage)]
    if strange:
        raise InputError(f"stages holds {str(strange[0])[:40]!r}, which is no Stage; give a tuple of stages.")
    names = [stage.name for stage in stages]
    if not names:
        raise InputError("no stages were given; give at least one, for example Stage('head', train='head').")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"two stages are called {twice[0]!r}; the names {names} must differ, since the ledger and "
            "the report tell stages apart by name."
        )
    ranks = sorted({stage.lora_rank for stage in stages if stage.lora_rank})
    if len(ranks) > 1:
        raise InputError(
            f"the stages train LoRA of the ranks {', '.join(map(str, ranks))}; a schedule has one: give "
            "all of them the same rank."
        )
    for stage in stages if ranks else ():
        if stage.train == "all" or stage.train.startswith(("top:", "above:")):
            raise InputError(
                f"stage {stage.name!r}: train={stage.train!r} would train kernels that LoRA adds to in "
                f"another stage (lora:{ranks[0]}) and leaves as they are; beside that give head, norm or "
                "bias, or let a second run start from this one's network (--weights)."
            )
