"""Every knob of this template. Each field is a flag: `--image-size 160 --stages.1.epochs 3`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Image classification: train a pretrained backbone on labelled pictures, stage by stage, and report
    what it learned.
    """

    data: str = "digits_in_photos"
    """A name from datasets/, tfds:NAME, a folder of pictures (a folder per class), or a CSV file with
    path,label.
    """
    labels_per_class: int | Literal["all", "auto"] | None = "auto"
    """Train on this few labelled pictures per class and validate on as many at most; all (or None) uses all.
    auto uses all of your own data, and 20 of a data set from datasets/, to show what transfer does with few.
    """
    val_fraction: float = 0.15
    """Share of the training pictures set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A picture that cannot be read is named and left out, or stops the run."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture becomes square: cut its long sides, pad its short ones, or stretch it."""

    backbone: str = "MobileNet-0.25"
    """A keras.applications name, with a width where it has one; `python -m runner backbones` lists them."""
    weights: str = "letters_in_photos"
    """imagenet, none, a name from checkpoints/, a weights file, or the folder of an earlier run."""
    image_size: int = 64
    """Pictures are resized to this many pixels a side."""
    dropout: float = 0.2
    """Share of the pooled features that training hides from the head."""

    augment: Literal["none", "light", "medium", "strong"] = "light"
    augment_on: Literal["auto", "input", "device"] = "auto"
    """Where pictures are augmented: beside the training on the processor, or by the device that trains; auto
    lets a GPU do it that would otherwise wait for its pictures. Not the device with MixUp or CutMix.
    """
    flip: bool = False
    """Also mirror pictures left to right: right for flowers, wrong for digits."""
    mixup: float = 0.0
    """Strength (alpha of the Beta distribution) of MixUp; 0 is off, 0.2 is usual."""
    cutmix: float = 0.0
    """Strength (alpha of the Beta distribution) of CutMix; 0 is off, 1 is usual."""
    label_smoothing: float = 0.1
    """Share of each label's mass that is spread over all classes."""

    class_weight: Literal["none", "balanced"] = "none"
    """balanced lets all classes count alike in the loss, however many pictures each has, also in that on
    validation. A column weight of a CSV file says how much each picture counts, with either.
    """

    stages: tuple[Stage, ...] = (
        Stage("head", train="head", epochs=10, learning_rate=None, schedule="cosine"),
        Stage("top", train="top:4", epochs=20, learning_rate=None, schedule="cosine", warmup=0.1),
        Stage("all", train="all", epochs=40, learning_rate=None, schedule="cosine", warmup=0.1),
    )
    solve_head: bool = False
    """Begin with the head that logistic regression finds on what the backbone gives, its regularisation
    chosen on validation. The frozen backbone of the baselines always does.
    """
    keep_frozen: bool = True
    """Compute once what lies below the weights that a stage trains, and keep it. Not with MixUp or CutMix."""
    views: int = 16
    """Of each training picture so many augmented views are kept for that, and taken in turn."""
    monitor: str = "val_accuracy"
    """The number, measured on validation, that decides which epoch of a stage is best, and which stage."""
    batch_size: int = 32
    """Pictures per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step: a batch that does not
    fit does, at the price of some time. Equal steps, but where BatchNorm learns it sees a part at a time.
    """
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch and with a frozen backbone on the same pictures, to compare, and say what
    logistic regression on pixels gives.
    """
    scratch_lengths: tuple[int, ...] = (1, 5)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    positive: str = ""
    """Of two classes the one to find, such as `ill`; "" takes the second. More classes have no such thing."""
    operating_point: str = "youden"
    """What the threshold between two classes makes highest on validation: sensitivity + specificity (youden),
    f1, or the one of them where the other reaches a share: specificity:0.95, sensitivity:0.9.
    """

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("image_size", 16 <= self.image_size <= 4096, "16 to 4096 pixels"),
            ("mixup", 0 <= self.mixup < 100, "0 (off) or a number above 0"),
            ("cutmix", 0 <= self.cutmix < 100, "0 (off) or a number above 0"),
            (
                "augment_on",
                self.augment_on != "device" or not (self.mixup or self.cutmix),
                "'auto' or 'input' with MixUp or CutMix, which mix finished pictures",
            ),
            ("views", self.views >= 1, "at least 1"),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )
