"""Every knob of this template. Each field is a flag: `--data ~/photos --tasks "cat dog" "horse cow"`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.errors import InputError
from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages

Method = Literal[
    "class means", "streaming LDA", "naive", "EWC", "SI", "LwF", "replay", "DER++", "joint"
]  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Continual learning: train on one task after another, without the pictures of those before, and report
    what was kept and what was forgotten.
    """

    data: str = "digits_in_photos"
    """A name from datasets/, tfds:NAME, a folder of pictures (a folder per class), or a CSV file with
    path,label and, for `--tasks column`, task.
    """
    tasks: tuple[str, ...] = ()
    """What comes one after another: the classes of each task ("0 1" "2 3", or with commas), a number of tasks
    of about equally many classes in their order, or `column`, the CSV file's column task. None: 5 tasks, and
    one of what a run is continued with.
    """
    scenario: Literal["class", "task", "domain"] = "class"
    """What differs between tasks: class (new classes, told apart from all before), task (new classes, and
    whose turn it is will be told), or domain (the same classes in other pictures; with `--tasks column`).
    """
    continue_from: str = ""
    """A finished run: go on with what it kept, on `data`, which is its next task. Give its other settings."""
    labels_per_class: int | Literal["all"] | None = "all"
    """Train on this few labelled pictures per class and validate on as many at most; all (or None) uses all.
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
    """A keras.applications name, with a width where it has one, or, with weights none, mlp: two hidden layers
    of 400 units on the pixels, as in the literature on Split-MNIST.
    """
    weights: str = "letters_in_photos"
    """imagenet, none, a name from checkpoints/, a weights file, or the folder of an earlier run."""
    image_size: int = 64
    """Pictures are resized to this many pixels a side."""
    dropout: float = 0.0
    """Share of the pooled features that training hides from the head."""

    methods: tuple[Method, ...] = (
        "class means", "streaming LDA", "naive", "EWC", "SI", "LwF", "replay", "DER++", "joint"
    )  # fmt: skip
    """What is compared. joint has all pictures at once and is the bound; any other can be handed out."""
    lda_shrinkage: float = 1e-4
    """How much of the identity streaming LDA mixes into its covariance."""
    ewc: float = 100.0
    """Weight (lambda) of EWC's penalty; 0 is naive. So are the next ones for their methods."""
    fisher_examples: int = 100
    """Of how many training pictures of a task EWC takes the Fisher information."""
    si: float = 1.0
    """Weight (c) of SI's penalty."""
    si_damping: float = 0.1
    """What SI adds to the squared way of each weight before it divides by it (xi)."""
    lwf: float = 1.0
    """Weight of LwF's distillation."""
    temperature: float = 2.0
    """By which LwF divides logits."""
    buffer: int = 200
    """How many training pictures replay and DER++ keep, of all tasks together."""
    buffer_by: Literal["balanced", "reservoir"] = "balanced"
    """balanced keeps equally many of each class; reservoir each picture with equal chance."""
    der_alpha: float = 0.5
    """How much DER++'s difference to the logits of then counts."""
    der_beta: float = 0.5
    """How much the labels of kept pictures count in DER++."""

    stages: tuple[Stage, ...] = (
        Stage(
            "top",
            train="top:4",
            epochs=10,
            learning_rate=1e-3,
            schedule="cosine",
            warmup=0.1,
            keep="last",
        ),
    )
    """How each task is trained; the optimizer begins anew with each. An epoch has as many steps as the mean
    task has batches, the same for all tasks. joint takes as many steps as all tasks together.
    """
    monitor: str = "val_accuracy"
    """The number, measured on validation pictures of the tasks so far, that is told of each epoch."""
    batch_size: int = 32
    """Pictures of the task per step. Replay and DER++ take as many again of what they kept."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch on all tasks at once, where there are weights to begin with."""
    scratch_lengths: tuple[int, ...] = (5,)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        for stage in self.stages:
            if stage.keep != "last" or stage.patience:
                raise InputError(
                    f"stage {stage.name!r}: a stage of a task hands on its last epoch, since validation on "
                    "other tasks says nothing of which is best; give keep='last' and no patience."
                )
            if stage.learning_rate == "auto" or stage.lora_rank:
                raise InputError(
                    f"stage {stage.name!r}: learning_rate='auto' would be chosen on each task anew, and LoRA "
                    "has no importance that goes from task to task; give a number, and head, top:N or all."
                )
        if self.backbone == "mlp" and any(stage.learning_rate is None for stage in self.stages):
            raise InputError(
                "the backbone mlp is always new, and nothing knows a rate that suits it; give each stage one "
                "(--stages.0.learning-rate 1e-3)."
            )
        twice = [name for name in self.methods if self.methods.count(name) > 1]
        weights = ("ewc", "si", "lwf", "der_alpha", "der_beta")
        above = ("si_damping", "temperature")
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("image_size", 16 <= self.image_size <= 4096, "16 to 4096 pixels"),
            ("methods", bool(set(self.methods) - {"joint"}), "one beside joint, which can be handed out"),
            ("methods", not twice, "each method once"),
            ("lda_shrinkage", 0 < self.lda_shrinkage <= 1, "a share above 0"),
            *((name, 0 <= getattr(self, name) < 1e12, "0 (off) or a number above 0") for name in weights),
            *((name, 0 < getattr(self, name) < 1e6, "a number above 0") for name in above),
            ("fisher_examples", self.fisher_examples >= 1, "at least 1"),
            ("buffer", self.buffer >= 1, "at least 1"),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )


FROZEN = ("class means", "streaming LDA")
"""Methods that train no weight of the network but solve its head, of features as they are."""
REHEARSING = ("replay", "DER++")
"""Methods that keep pictures."""
