"""Every knob of this template. Each field is a flag: `--length 128 --stages.1.epochs 3`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Text classification: train a pretrained encoder on labelled texts, stage by stage, and report what it
    learned.
    """

    data: str = "composed_reviews"
    """A name from datasets/, tfds:NAME, a .csv, .tsv or .jsonl file with text,label, or a folder of texts (a
    folder per class).
    """
    labels_per_class: int | Literal["all", "auto"] | None = "auto"
    """Train on this few labelled texts per class and validate on as many at most; all (or None) uses all.
    auto uses all of your own data, and 20 of a data set from datasets/, to show what transfer does with few.
    """
    val_fraction: float = 0.15
    """Share of the training texts set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A file that is no text is named and left out, or stops the run."""
    length: int = 128
    """Of a text so many tokens are read at most; one is a word or a part of it. Shorter data costs less."""

    backbone: str = "MiniLM-L6"
    """An encoder of runner/text_networks/encoders.py, or auto for the one that the weights are of."""
    weights: str = "minilm"
    """minilm, none, a folder in Hugging Face's or KerasHub's form, the folder of an earlier run, or a
    KerasHub preset.
    """
    pooling: Literal["mean", "first"] = "mean"
    """What stands for a text: the mean of its tokens, as MiniLM was trained, or the first ([CLS] of BERT)."""
    dropout: float = 0.1
    """Share of what stands for a text that training hides from the head; the encoder has its own."""
    label_smoothing: float = 0.0
    """Share of each label's mass that is spread over all classes."""

    class_weight: Literal["none", "balanced"] = "none"
    """balanced lets all classes count alike in the loss, however many texts each has, also in that on
    validation. A column weight of a table says how much each text counts, with either.
    """

    stages: tuple[Stage, ...] = (
        Stage("all", train="all", epochs=8, learning_rate=1e-4, schedule="cosine", warmup=0.1),
    )
    """After the head, which is solved, all weights at once. A stage of the top layers between both cost 3
    points with 200 sentences of SST-2 (README.md).
    """
    solve_head: bool = True
    """Begin with the head that logistic regression finds on what the encoder gives, its regularisation chosen
    on validation: a random one wrecks what the encoder knows in its first steps (Kumar et al. 2022).
    """
    keep_frozen: bool = True
    """Compute once what lies below the weights that a stage trains, and keep it."""
    monitor: str = "val_accuracy"
    """The number, measured on validation, that decides which epoch of a stage is best, and which stage."""
    batch_size: int = 32
    """Texts per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch, with a frozen encoder, and all at once on the same texts, to compare, and say
    what logistic regression on counted words gives.
    """
    scratch_backbone: str = "BERT-tiny"
    """The encoder that is trained from scratch: a small one, for a large one learns nothing from few
    texts.
    """
    scratch_lengths: tuple[int, ...] = (1, 5)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 1e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    positive: str = ""
    """Of two classes the one to find, such as `spam`; "" takes the second. More classes have no such
    thing.
    """
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
            ("length", 3 <= self.length <= 512, "3 to 512 tokens"),
            (
                "stages",
                all(None not in (stage.learning_rate, stage.backbone_rate) for stage in self.stages),
                "a learning_rate and a backbone_rate for each (1e-4 and 1 suit the weights of encoders)",
            ),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )
