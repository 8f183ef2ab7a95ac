"""Every knob of this template. Each field is a flag: `--length 256 --stages.0.epochs 3`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Token classification: train a pretrained encoder on texts with entities, stage by stage, and report
    which ones it finds and misses.
    """

    data: str = "composed_notes"
    """A name from datasets/, tfds:NAME, a .conll, .tsv or .jsonl file, a folder with a file for each split,
    or such files with commas between.
    """
    train_examples: int | Literal["all"] | None = "all"
    """Train on this few texts and validate on as many at most; all (or None) uses all."""
    val_fraction: float = 0.15
    """Share of the training texts set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A file that is no text is named and left out, or stops the run."""
    length: int = 128
    """Texts are read so many tokens at a time, in windows that overlap; a token is a word or a part of
    one.
    """

    backbone: str = "MiniLM-L6"
    """An encoder of runner/text_networks/encoders.py, or auto for the one that the weights are of."""
    weights: str = "minilm"
    """minilm, none, a folder in Hugging Face's or KerasHub's form, the folder of an earlier run, or a
    KerasHub preset.
    """
    dropout: float = 0.1
    """Share of what stands for a token that training hides from the head; the encoder has its own."""

    stages: tuple[Stage, ...] = (
        Stage("all", train="all", epochs=6, learning_rate=1e-4, schedule="cosine", warmup=0.1),
    )
    """All weights at once, with a new head. A stage of the head alone before, and a solved head, brought
    nothing on real sentences and cost on the composed ones (README.md).
    """
    solve_head: bool = False
    """Begin with the head that logistic regression finds on what the encoder gives, its regularisation chosen
    on validation. The frozen encoder that is compared always does.
    """
    keep_frozen: bool = True
    """Compute once what lies below the weights that a stage trains, and keep it."""
    monitor: str = "val_f1"
    """The number, measured on validation, that decides which epoch of a stage is best, and which stage."""
    batch_size: int = 16
    """Texts per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch and with a frozen encoder on the same texts, and all at once where the stages
    are not just that, to compare, and say what the names of the training texts, and each word's most frequent
    tag, would give.
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

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("length", 8 <= self.length <= 512, "8 to 512 tokens"),
            (
                "stages",
                all(None not in (stage.learning_rate, stage.backbone_rate) for stage in self.stages),
                "a learning_rate and a backbone_rate for each (1e-4 and 1 suit the weights of encoders)",
            ),
            (
                "monitor",
                self.monitor in ("val_loss", "val_f1"),
                "val_loss or val_f1",
            ),
        )
