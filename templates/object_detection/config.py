"""Every knob of this template. Each field is a flag: `--image-size 320 --stages.1.epochs 3`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Object detection: train a pretrained backbone under a feature pyramid on pictures with boxes, stage
    by stage, and report what it finds and misses.
    """

    data: str = "scenes"
    """A COCO file, a folder with COCO files, a Pascal VOC folder, tfds:NAME, or a name from datasets/ that
    has boxes.
    """
    train_examples: int | Literal["all"] | None = "all"
    """Train on this few pictures and validate on as many at most; all (or None) uses all."""
    val_fraction: float = 0.15
    """Share of the training pictures set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A picture that cannot be read is named and left out, or stops the run."""
    resize: Literal["crop", "pad", "stretch"] = "pad"
    """How a picture becomes square: cut its long sides (and the boxes there), pad its short ones, or
    stretch it.
    """

    backbone: str = "MobileNet-0.25"
    """A keras.applications name, with a width where it has one; `python -m runner backbones` lists them."""
    weights: str = "letters_in_photos"
    """imagenet, none, a name from checkpoints/, a weights file, or the folder of an earlier run."""
    image_size: int = 96
    """Pictures are resized to this many pixels a side; objects of less than about 8 pixels are lost."""
    strides: tuple[int, ...] = (8, 16, 32)
    """The levels of the backbone that the pyramid stands on: pixels from one cell to the next, each twice
    the one before.
    """
    width: int = 64
    """Channels of the pyramid and of the head's convolutions; the paper has 256."""
    depth: int = 2
    """Convolutions of the head before its last; the paper has 4."""

    augment: Literal["none", "light", "medium", "strong"] = "light"
    flip: bool = True
    """Also mirror pictures left to right: right for cells and cars, wrong for letters."""

    stages: tuple[Stage, ...] = (
        Stage("head", train="head", epochs=5, learning_rate=3e-3, schedule="cosine", warmup=0.1),
        Stage("all", train="all", epochs=35, learning_rate=3e-3, schedule="cosine", warmup=0.1),
    )
    batch_size: int = 16
    """Pictures per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step: a batch that does not
    fit does, at the price of some time. Equal steps, but where BatchNorm learns it sees a part at a time.
    """
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch and with a frozen backbone on the same pictures, to compare, and say what
    the same boxes in every picture would give.
    """
    scratch_lengths: tuple[int, ...] = (1, 2)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    overlap: float = 0.6
    """Of two detections of one class whose IoU is larger the better is kept."""
    shown_score: float = 0.4
    """The report draws detections of at least this score; the numbers count all."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        doubling = [stride * 2 for stride in self.strides[:-1]] == list(self.strides[1:])
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("image_size", 32 <= self.image_size <= 4096, "32 to 4096 pixels"),
            (
                "strides",
                bool(self.strides) and doubling and {*self.strides} <= {4, 8, 16, 32},
                "one or more of 4 8 16 32 in a row, such as 8 16 32",
            ),
            (
                "width",
                self.width >= 8 and self.width % 8 == 0,
                "a multiple of 8 (GroupNorm has 8 groups)",
            ),
            ("depth", self.depth >= 0, "0 or more"),
            ("overlap", 0 < self.overlap < 1, "a share between 0 and 1"),
            ("shown_score", 0 <= self.shown_score <= 1, "a number from 0 to 1"),
        )
