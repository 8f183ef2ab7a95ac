"""Every knob of this template. Each field is a flag: `--target ~/scans --methods "source only" MCC`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages

Method = Literal["source only", "AdaBN", "DANN", "CDAN", "MMD", "CORAL", "MCC", "pseudo-labels"]


@dataclass(frozen=True)
class Config:
    """Domain adaptation: learn from labelled pictures of one kind (the source) to classify pictures of
    another (the target), of which no label is used before the test at the end.
    """

    source: str = "digits_plain"
    """Labelled pictures: a name from datasets/, tfds:NAME, a folder of pictures (a folder per class), or a
    CSV file with path,label.
    """
    target: str = "digits_in_photos"
    """The same classes in another domain, given likewise. Its training and validation pictures are used
    without their labels; those of its test pictures are read once, at the end.
    """
    target_unlabelled: str = ""
    """A folder of more target pictures, in any folders below it, that are added to the target's training
    pictures and kept in memory; "" for none.
    """
    labels_per_class: int | Literal["all"] | None = "all"
    """Train on this few labelled source pictures per class and validate on as many at most; all (or
    None) uses all.
    """
    val_fraction: float = 0.15
    """Share of a domain's pictures set aside for validation, where it has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where it has no test split. That of the source is not read."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A picture that cannot be read is named and left out, or stops the run."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture becomes square: cut its long sides, pad its short ones, or stretch it."""

    backbone: str = "MobileNet-0.25"
    """A keras.applications name, with a width where it has one, or for digits small_cnn or, without
    BatchNorm, small_cnn_plain (both with weights none).
    """
    weights: str = "letters_in_photos"
    """imagenet, none, a name from checkpoints/, a weights file, or the folder of an earlier run."""
    image_size: int = 64
    """Pictures are resized to this many pixels a side."""
    dropout: float = 0.2
    """Share of the features that training hides from the head."""

    methods: tuple[Method, ...] = (
        "source only", "AdaBN", "DANN", "CDAN", "MMD", "CORAL", "MCC", "pseudo-labels"
    )  # fmt: skip
    """What is trained and compared, each for the same epochs; "source only" is always among them."""
    choose_by: Literal["infomax", "source_risk", "weighted_risk"] = "infomax"
    """What chooses among them without a target label; see choice.py. All three are reported."""
    dann: float = 0.3
    """How much DANN's loss of the domain classifier counts beside the classification loss; 0 turns it off. So
    do the next ones for their methods.
    """
    cdan: float = 1.0
    mmd: float = 10.0
    coral: float = 10.0
    mcc: float = 1.0
    pseudo_labels: float = 1.0
    threshold: float = 0.8
    """A pseudo-label counts when the network gives it at least this probability; the label smoothing s keeps
    it from going far beyond 1 - s.
    """
    ramp: float = 1.0
    """Epochs of a stage over which these weights grow from 0 to their full value."""

    augment: Literal["none", "light", "medium", "strong"] = "light"
    augment_strong: Literal["light", "medium", "strong"] = "strong"
    """The second view of a target picture, for pseudo-labels alone."""
    flip: bool = False
    """Also mirror pictures left to right: right for flowers, wrong for digits."""
    label_smoothing: float = 0.1
    """Share of each source label's mass that is spread over all classes."""

    stages: tuple[Stage, ...] = (
        Stage(
            "all",
            train="all",
            epochs=8,
            learning_rate=3e-3,
            backbone_rate=None,
            schedule="cosine",
            warmup=0.1,
            keep="last",
        ),
    )
    monitor: str = "val_loss"
    """The number, measured on validation pictures of the source, by which a stage with keep="best" picks its
    epoch.
    """
    batch_size: int = 32
    """Pictures of each domain per step, over all devices together (but see scale_learning_rate)."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch on the source alone, and say what logistic regression on its pixels gives, and
    on what the backbone makes of them. None of these can be chosen.
    """
    scratch_lengths: tuple[int, ...] = (1, 5)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation
    pictures of the source is compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        weights = ("dann", "cdan", "mmd", "coral", "mcc", "pseudo_labels")
        twice = [name for name in self.methods if self.methods.count(name) > 1]
        check_fields(
            self,
            ("source", bool(self.source.strip()), "the name or path of a data set"),
            ("target", bool(self.target.strip()), "the name or path of a data set"),
            ("image_size", 16 <= self.image_size <= 4096, "16 to 4096 pixels"),
            (
                "weights",
                self.weights == "none" or not self.backbone.startswith("small_cnn"),
                f"none with the backbone {self.backbone}",
            ),
            ("methods", "source only" in self.methods, "'source only' too, the others are compared with it"),
            ("methods", not twice, "each method once"),
            *((name, 0 <= getattr(self, name) < 1e6, "0 (off) or a number above 0") for name in weights),
            ("threshold", 0 <= self.threshold <= 1, "a probability from 0 to 1"),
            ("ramp", 0 <= self.ramp < float("inf"), "0 or a number of epochs"),
            ("batch_size", self.batch_size >= 2, "at least 2"),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )
