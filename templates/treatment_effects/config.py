"""Every knob of this template. Each field is a flag: `--backbone DragonNet --stages.1.epochs 30`."""

import itertools
from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Treatment effects: which of two treatments helps whom, in a small trial, with what a larger one taught.
    Not for clinical use.
    """

    data: str = "made_trials/little_100"
    """The small trial: a .csv, .tsv or .parquet file with a row per person, tfds:NAME, or NAME/PART of
    datasets/.
    """
    train_rows: int | Literal["all"] | None = "all"
    """Train on so many rows, and validate on as many at most; all (or None) uses all."""
    val_fraction: float = 0.25
    test_fraction: float = 0.25
    """Shares of the rows that are set aside, where the data has no splits of its own."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A line that cannot be read is named and left out, or stops the run."""
    treatment: str = "treatment"
    """The column that says who was treated: 0 or 1."""
    outcome: str = "outcome"
    """The column of the outcome, of which more is better: a number, or 0 and 1."""
    split: str = "split"
    group: str = "group"
    """Columns that say which rows are for what, and which belong together, where the table has them."""
    leave_out: tuple[str, ...] = ()
    """Columns that are no covariates: ids, and whatever became known after the treatment."""
    categories: tuple[str, ...] = ()
    """Columns that are words although numbers stand in them, such as codes of a ward."""

    source: str = "made_trials/large"
    """The larger trial that is learned from first, a table with the same two columns; "" for none."""
    weights: str = "source"
    """What the network begins with: source (trained here on the larger trial), the folder of an earlier run,
    or none.
    """
    backbone: Literal["TARNet", "DragonNet", "S-learner", "T-learner"] = "TARNet"
    """The network; model.py says what each is."""
    representation: tuple[int, ...] = (64, 64)
    """Units of the layers that both treatments share (of an S- or T-learner: of its first layers)."""
    heads: tuple[int, ...] = (32,)
    """Units of the hidden layers of each head; () for heads without."""
    dropout: float = 0.0
    """Share of the units of each layer that training hides."""
    propensity_weight: float = 1.0
    """DragonNet: the weight of the propensity's cross-entropy (alpha)."""
    targeted: float = 1.0
    """DragonNet: the weight of the targeted regularisation (beta); 0 leaves it out."""

    source_stages: tuple[Stage, ...] = (
        Stage("source", train="all", epochs=40, learning_rate=3e-3, schedule="cosine"),
    )
    """How the network learns from the larger trial."""
    source_batch_size: int = 128
    stages: tuple[Stage, ...] = (
        Stage("heads", train="head", epochs=10, learning_rate=1e-3, schedule="cosine"),
        Stage("all", train="all", epochs=10, learning_rate=3e-4, schedule="cosine"),
    )
    """How it goes on with the small one: the heads, then all."""
    monitor: str = "val_factual_loss"
    """What decides which epoch of a stage is best, and which stage: the factual loss on validation."""
    batch_size: int = 32
    """Rows per step, over all devices together (but see scale_learning_rate)."""
    weight_decay: float = 0.3
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch and with a frozen representation, take the source as it is, and solve ridge
    and boosting rivals on the same rows, to compare.
    """
    scratch_lengths: tuple[int, ...] = (4,)
    """Train from scratch for so many times the epochs of all stages, its best epoch on validation kept; of
    several lengths the one that is best on validation is compared.
    """
    scratch_learning_rate: float = 2e-3
    """Peak learning rate of the training from scratch, which has its own best value."""
    simulations: int = 1
    """How often each of two simulated truths is drawn on these covariates, and all methods tried on it; 0
    leaves the check, and the widths of the intervals that come of it, out.
    """
    policy_cost: float = 0.0
    """What a treatment costs, in units of the outcome: who gains less than this is not treated."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        check_stages(self.source_stages)
        names = [name for name in (self.treatment, self.outcome, self.split, self.group) if name]
        alike = {one for one, other in itertools.combinations(names, 2) if one == other}
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a table"),
            ("treatment", bool(self.treatment.strip()), "the name of a column"),
            ("outcome", not alike, "another name than the columns of treatment, split and group have"),
            (
                "representation",
                len(self.representation) > 0 and min(self.representation) > 0,
                "one layer at least, each with a whole number of units above 0",
            ),
            ("heads", min(self.heads, default=1) > 0, "whole numbers of units above 0"),
            ("dropout", 0 <= self.dropout < 1, "a share from 0 to below 1"),
            ("propensity_weight", self.propensity_weight >= 0, "0 or more"),
            ("targeted", self.targeted >= 0, "0 or more"),
            (
                "source_stages",
                all(
                    stage.train == "all" and None not in (stage.learning_rate, stage.backbone_rate)
                    for stage in self.source_stages
                ),
                "stages that train all, each with a learning_rate",
            ),
            ("source_batch_size", self.source_batch_size > 0, "a whole number above 0"),
            ("simulations", self.simulations >= 0, "0 or a whole number above"),
            (
                "source",
                bool(self.source) or self.weights != "source",
                "the table of a larger trial, or with --source '' also --weights none",
            ),
            (
                "stages",
                all(None not in (stage.learning_rate, stage.backbone_rate) for stage in self.stages),
                "a learning_rate and a backbone_rate for each",
            ),
            ("monitor", self.monitor in ("val_loss", "val_factual_loss"), "val_factual_loss or val_loss"),
        )
