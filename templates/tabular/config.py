"""Every knob of this template. Each field is a flag: `--label outcome --stages.0.epochs 20`."""

import os
from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Rows of a table: learn from a larger, related one first, then tell the classes of a small one, and
    report what that brought.
    """

    data: str = "sister_tables"
    """A .csv, .tsv or .parquet file with the names of the columns first, tfds:NAME, or a name from
    datasets/.
    """
    label: str = "label"
    """The column to tell."""
    split: str = "split"
    """The column that says train, val or test; where there is none, splits are drawn."""
    group: str = "group"
    """The column that says which rows belong together, such as those of one patient."""
    subgroup: str = "subgroup"
    """The column that results are also given for, such as sex or clinic."""
    weight: str = ""
    """The column that says how much a row counts in training."""
    leave_out: tuple[str, ...] = ()
    """Columns that are no input."""
    numbers: tuple[str, ...] = ()
    """Columns to be read as numbers, where what is written in them says something else."""
    categories: tuple[str, ...] = ()
    """Columns to be read as categories, such as codes that are written as numbers."""
    dates: tuple[str, ...] = ()
    """Columns to be read as dates (2024-03-05)."""
    missing: tuple[str, ...] = (
        "",
        "?",
        "NA",
        "N/A",
        "#N/A",
        "n/a",
        "na",
        "NaN",
        "nan",
        "NULL",
        "null",
        "None",
    )
    """What stands for a missing value."""
    zeros_missing: tuple[str, ...] = ()
    """Columns whose zeros stand for missing values too."""
    encoding: str = ""
    """Of text files; empty reads UTF-8."""
    train_rows: int | Literal["all", "auto"] | None = "auto"
    """Train on so few labelled rows, and validate on as many at most; all (or None) uses all. auto uses all
    of your own data, and 100 of a data set from datasets/, to show what transfer does with few.
    """
    val_fraction: float = 0.15
    """Share of the labelled rows set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A line that cannot be read is named and left out, or stops the run."""

    source: str = "auto"
    """A related, larger table to learn from first, as for data. auto is the hospital of sister_tables for
    the clinic there, and none for your own data; none is none.
    """
    outcomes: tuple[str, ...] = ()
    """The columns of the source to tell; none given: those that begin with outcome, or else the label."""
    weights: str = "auto"
    """source (learn the outcomes of the source first), masked (learn to fill in hidden cells of all rows,
    also of those without a label), none, or the folder of an earlier run. auto is source where there is
    one, else masked.
    """
    source_epochs: int = 20
    """Epochs on the source, or of masked cells."""
    source_learning_rate: float = 2e-3
    """Peak learning rate there."""
    hidden: float = 0.1
    """Share of the cells that are hidden at random while the source is learned, so that a missing value is
    nothing new; three times as many where hidden cells are what is learned.
    """

    backbone: str = "residual-mlp"
    """residual-mlp or ft-transformer."""
    width: int = 64
    """Numbers that each layer gives for a row, or of the transformer for a column."""
    depth: int = 2
    """Blocks above the first layer."""
    dropout: float = 0.1
    """Share of each block's inner units that training hides."""

    stages: tuple[Stage, ...] = (
        Stage("top", train="top:2", epochs=10, learning_rate=3e-4, schedule="cosine"),
        Stage("all", train="all", epochs=20, learning_rate=3e-4, schedule="cosine"),
    )
    """After the head, which is solved, the upper part, then all weights."""
    solve_head: bool = True
    """Begin with the head that logistic regression finds on what the network gives, its regularisation chosen
    on validation.
    """
    start_penalty: float = 0.0
    """L2-SP: what is added to the loss for every squared unit that the backbone's weights lie away from where
    they started, halved; 0 is off.
    """
    keep_frozen: bool = True
    """Compute once what lies below the weights that a stage trains, and keep it."""
    class_weight: Literal["none", "balanced"] = "none"
    """balanced lets all classes count alike in the loss, however many rows each has."""
    monitor: str = "val_loss"
    """The number, measured on validation, that decides which epoch of a stage is best, and which stage."""
    batch_size: int = 32
    """Rows per step, over all devices together (but see scale_learning_rate)."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also compare logistic regression, gradient boosting with and without the source, training from scratch,
    and the frozen network under a solved or a trained head.
    """
    scratch_lengths: tuple[int, ...] = (1, 3)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 1e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    positive: str = ""
    """Of two classes the one to find, such as `ill`; empty takes the second."""
    operating_point: str = "youden"
    """What the threshold between two classes makes highest on validation: sensitivity + specificity (youden),
    f1, or the one of them where the other reaches a share: specificity:0.95, sensitivity:0.9.
    """

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        known = self.weights in ("auto", "source", "masked", "none")
        known = known or os.path.isdir(os.path.expanduser(self.weights))
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a table"),
            ("label", bool(self.label.strip()), "the name of a column"),
            ("source_epochs", self.source_epochs >= 1, "at least 1"),
            ("source_learning_rate", 0 < self.source_learning_rate < 1, "a number above 0 and below 1"),
            ("hidden", 0 <= self.hidden <= 0.3, "a share from 0 to 0.3"),
            ("width", 4 <= self.width <= 4096, "4 to 4096"),
            ("depth", 1 <= self.depth <= 32, "1 to 32"),
            ("start_penalty", 0 <= self.start_penalty < float("inf"), "0 (off) or a number above it"),
            ("weights", known, "source, masked, none, auto, or the folder of a run"),
            (
                "stages",
                all(None not in (stage.learning_rate, stage.backbone_rate) for stage in self.stages),
                "a learning_rate and a backbone_rate for each (3e-4 and 1 suit these networks)",
            ),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )
