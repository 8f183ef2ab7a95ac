"""Every knob of this template. Each field is a flag: `--data ~/photos --labelled ~/sorted`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Self-supervised learning: train a backbone on pictures without labels, and say on a few that have some
    whether it was worth it.
    """

    data: str = "few_letters"
    """Pictures to learn from: a folder of pictures in any folders, a name from datasets/, tfds:NAME, or a CSV
    file with path,label. Labels that are there are not read.
    """
    labelled: str = "digits_in_photos"
    """Labelled pictures by which it is judged: a folder per class, or given likewise; may be `data` itself.
    Their training pictures are learned from as well, without the labels. "" for none: there is no verdict
    then.
    """
    labels: tuple[int, ...] = (5, 10, 20)
    """How many labelled pictures of each class the judging learns from, nested; it is validated on as many at
    most. The last is what methods are compared by.
    """
    val_fraction: float = 0.15
    """Share of the pictures set aside for validation, where there is no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where there is no test split. Nothing learns from it."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A picture that cannot be read is named and left out, or stops the run."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture becomes square: cut its long sides, pad its short ones, or stretch it."""

    backbone: str = "SmallConv"
    """A keras.applications name, with a width where it has one, or SmallConv, which learns from nothing in
    minutes; `python -m runner backbones` lists them.
    """
    weights: str = "none"
    """What the training begins with: none, imagenet, a name from checkpoints/, a weights file, or the folder
    of an earlier run.
    """
    supervised: str = "auto"
    """Weights that learned from labels, to compare with: a name from checkpoints/, which brings its own
    backbone, or as `weights`; none compares with no others, auto takes letters_in_photos beside data that
    comes along and else none.
    """
    image_size: int = 64
    """Pictures are resized to this many pixels a side."""

    method: Literal["SimCLR", "SimSiam", "Barlow Twins", "VICReg"] = "SimCLR"
    """The loss; see method.py."""
    projection: int = 128
    """Numbers that the loss compares of each view; what makes them of the features is thrown away after."""
    temperature: float = 0.1
    """SimCLR: lower looks at the nearest other pictures more."""
    redundancy: float = 5e-3
    """Barlow Twins: how much it counts that two dimensions say the same."""
    augment: Literal["light", "medium", "strong", "contrastive"] = "light"
    """How far the two views of a picture may be cut, turned and coloured."""
    figure: bool = True
    """Both views are only what stands out by its lightness, each in a colour drawn at random and on the
    ground of another picture: what is learned is then of its shape. Right for letters; for photos whose whole
    view matters --no-figure.
    """
    ramp: tuple[float, float] = (0.08, 0.45)
    """With `figure`, shares of all epochs: until the first the views are white on black, from there to the
    second they take on their colours and then their grounds. Networks learn nothing for long otherwise.
    """
    flip: bool = False
    """Also mirror views left to right: right for flowers, wrong for digits."""

    stages: tuple[Stage, ...] = (
        Stage(
            "all",
            train="all",
            epochs=6,
            learning_rate=3e-3,
            schedule="cosine",
            warmup=0.05,
            batch_norm="train",
            keep="last",
        ),
    )
    batch_size: int = 64
    """Pictures per step, of two views each."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    tuning_epochs: int = 20
    """Epochs of "staged" in the judging: all weights, from the solved head on. 0 leaves it out."""
    tuning_rate: float = 1e-3
    """Its peak learning rate."""
    baselines: bool = True
    """Also judge what there was without this training: pixels, the weights that it began with, a training
    from scratch on the labels alone, and `supervised`.
    """
    scratch_lengths: tuple[int, ...] = (2,)
    """Train from scratch on the labels for so many times tuning_epochs; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        rates = ("temperature", "tuning_rate", "scratch_learning_rate")
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of pictures"),
            ("labels", bool(self.labels) and min(self.labels) >= 1, "one or more whole numbers from 1"),
            ("labels", list(self.labels) == sorted(set(self.labels)), "numbers in order, each once"),
            ("image_size", 16 <= self.image_size <= 4096, "16 to 4096 pixels"),
            ("projection", 2 <= self.projection <= 65536, "2 to 65536"),
            *((name, 0 < getattr(self, name) < 1e6, "a number above 0") for name in rates),
            ("redundancy", 0 <= self.redundancy < 1e6, "0 or a number above it"),
            ("ramp", 0 <= self.ramp[0] <= self.ramp[1] <= 1, "two shares from 0 to 1, in order"),
            ("batch_size", self.batch_size >= 2, "at least 2: views are compared with those of others"),
            ("tuning_epochs", self.tuning_epochs >= 0, "0 (off) or more"),
            (
                "scratch_lengths",
                bool(self.scratch_lengths) and min(self.scratch_lengths) >= 1,
                "one or more whole numbers from 1",
            ),
        )
