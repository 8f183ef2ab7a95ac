"""A frozen dataclass becomes flags, a file and a saved record; mistakes are answered in one line.

A template's `Config` is an ordinary frozen dataclass. `run(main, Config)` turns its fields into flags with tyro, calls
`main(config)` and answers every `InputError` with one line and exit code 2. `Stage` lives here and not beside the callback
that uses it so that `--help` never imports TensorFlow.
"""

import dataclasses
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from runner.errors import InputError

ConfigType = TypeVar("ConfigType")


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer schedule: which weights train, for how long and how fast."""

    name: str
    """Shown in the log, the ledger and the report; unique within a schedule."""
    train: str = "head"
    """head | top:N (head and last N blocks) | above:NAME (head and all above a block) | all | norm | bias"""
    epochs: int = 10
    learning_rate: float = 1e-3
    """Peak learning rate of the stage."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    warmup: float = 0.0
    """Share of the stage's steps over which the rate climbs from 0 (cosine) or to its peak (one_cycle; 0 means 0.3)."""
    layer_decay: float = 1.0
    """Each block's rate is this times the rate of the block above it; 1 gives all the same rate."""
    patience: int | None = None
    """End the stage after this many epochs without a better validation value; None never does."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """frozen keeps the backbone's BatchNorm layers (statistics, scales, offsets) still; train lets them learn."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights the stage hands on: the best on validation, or the last."""
