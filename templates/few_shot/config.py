"""Every knob of this template. Each field is a flag: `--data ~/drawings --ways 20 --shots 1 5`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.errors import InputError
from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages

Method = Literal[
    "pixels",
    "class means",
    "cosine",
    "centred",
    "logistic head",
    "fine-tuning",
    "softmax",
    "ProtoNet",
    "MAML",
    "first-order MAML",
    "ANIL",
]


@dataclass(frozen=True)
class Config:
    """Few-shot learning: tell new classes apart from a few pictures of each, with a network that was trained
    on other classes.
    """

    data: str = "few_letters"
    """Known classes, to train and to choose on: a name from datasets/, tfds:NAME, a folder of pictures (a
    folder per class), or a CSV file with path,label. Its splits, if any, must have classes of their own.
    """
    new_classes: str = "digits_in_photos"
    """The classes of the test, given likewise; none may be one of `data`. "" holds some of those out."""
    val_classes: tuple[str, ...] = ()
    """Names of the classes of `data` to choose on; none: drawn by the seed, as many as val_fraction says."""
    test_classes: tuple[str, ...] = ()
    """Names of the classes of `data` for the test, without new_classes; none: drawn likewise."""
    val_fraction: float = 0.25
    """Share of the classes of `data` to choose on, where nothing names them."""
    test_fraction: float = 0.3
    """Share of the classes of `data` held out for the test, where there are no new_classes."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A picture that cannot be read is named and left out, or stops the run."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture becomes square: cut its long sides, pad its short ones, or stretch it."""

    ways: int = 5
    """Classes of an episode."""
    shots: tuple[int, ...] = (1, 2, 5, 10)
    """Support pictures of each class; an episode is judged with each of these numbers, nested."""
    compare_shots: int = 5
    """With how many of them methods are compared, and the one that is handed out is chosen."""
    queries: int = 15
    """Pictures of each class of an episode that are to be answered."""
    episodes: int = 600
    """How many episodes the test has, the same for all methods."""
    val_episodes: int = 300
    """How many are chosen on."""

    backbone: str = "MobileNet-0.25"
    """A keras.applications name, with a width where it has one, or, with weights none, conv4: the four
    convolutions of 64 filters that the papers have.
    """
    weights: str = "letters_in_photos"
    """imagenet, none, a name from checkpoints/, a weights file, or the folder of an earlier run."""
    image_size: int = 64
    """Pictures are resized to this many pixels a side."""
    dropout: float = 0.0
    """Share of the features that the training of "softmax" hides from the head."""

    methods: tuple[Method, ...] = (
        "pixels", "class means", "cosine", "centred", "logistic head", "fine-tuning", "softmax", "ProtoNet"
    )  # fmt: skip
    """What is compared. What is handed out is chosen on the validation classes, of those that are class
    means of a network's features; see HANDED_OUT.
    """
    tune_top: int = 1
    """So many of the top blocks move when an episode is fine-tuned, with the head."""
    tune_steps: int = 10
    """Steps of gradient descent on the support pictures of an episode, in fine-tuning."""
    tune_rate: float = 0.1
    """Their learning rate."""
    inner_steps: int = 1
    """Steps of MAML and ANIL within an episode: in training, and as many when they are judged."""
    inner_rate: float = 0.1
    """Their learning rate."""
    train_ways: int = 10
    """Classes of an episode that ProtoNet is trained on. (MAML has those it is judged with.)"""
    train_shots: int = 5
    """Support pictures of each of its classes; also for MAML."""
    train_queries: int = 5
    """Queries of each of its classes; also for MAML."""
    epoch_episodes: int = 50
    """How many episodes are an epoch."""

    augment: Literal["none", "light", "medium", "strong"] = "light"
    """Of the pictures that "softmax" learns from. Episodes are not augmented."""
    flip: bool = False
    """Also mirror pictures left to right: right for flowers, wrong for characters."""
    label_smoothing: float = 0.1
    """Share of each label's mass that is spread over all classes, for "softmax"."""

    stages: tuple[Stage, ...] = (
        Stage("head", train="head", epochs=2, learning_rate=None, schedule="cosine"),
        Stage("all", train="all", epochs=3, learning_rate=3e-4, schedule="cosine", warmup=0.1),
    )
    """How "softmax" is trained. What is trained by episodes has no head to begin with, and takes the stages
    that train more.
    """
    monitor: str = "val_accuracy"
    """The number that decides which epoch is best: that of episodes of the validation classes, answered by
    class means; val_loss is its loss.
    """
    batch_size: int = 32
    """Pictures per step of "softmax"."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train "softmax" from scratch, where there are weights to begin with."""
    scratch_lengths: tuple[int, ...] = (1,)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        if self.backbone == "conv4" and any(stage.learning_rate is None for stage in self.stages):
            raise InputError(
                "the backbone conv4 is always new, and nothing knows a rate that suits it; give each stage "
                'one (--stages.0.learning-rate 3e-3), --weights none, and a stage that trains "all" with '
                'batch_norm="train".'
            )
        twice = [name for name in self.methods if self.methods.count(name) > 1]
        both = sorted(set(self.val_classes) & set(self.test_classes))
        fractions = ("val_fraction", "test_fraction")
        whole = ("queries", "episodes", "val_episodes", "tune_top", "tune_steps", "inner_steps")
        whole += ("train_shots", "train_queries", "epoch_episodes")
        rates = ("tune_rate", "inner_rate")
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("test_classes", not both, "classes that are not among the val_classes: all splits differ"),
            (
                "test_classes",
                not (self.test_classes and self.new_classes),
                "none beside new_classes, which are the test; or --new-classes ''",
            ),
            *((name, 0 <= getattr(self, name) <= 1, "a share") for name in fractions),
            ("image_size", 16 <= self.image_size <= 4096, "16 to 4096 pixels"),
            ("ways", self.ways >= 2, "at least 2"),
            ("train_ways", self.train_ways >= 2, "at least 2"),
            ("shots", bool(self.shots) and min(self.shots) >= 1, "one or more whole numbers from 1"),
            ("compare_shots", self.compare_shots in self.shots, f"one of the shots: {self.shots}"),
            *((name, getattr(self, name) >= 1, "at least 1") for name in whole),
            *((name, 0 < getattr(self, name) < 1e6, "a number above 0") for name in rates),
            ("methods", bool(set(self.methods) & set(HANDED_OUT)), f"one of {', '.join(HANDED_OUT)} too"),
            ("methods", not twice, "each method once"),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )


HANDED_OUT = ("centred", "cosine", "class means", "softmax", "ProtoNet")
"""Methods that are class means of what a network gives, so that `predict` needs no training. The first that
there is stays the choice unless another is better on validation by more than chance.
"""
