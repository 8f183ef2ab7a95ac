"""Every knob of this template. Each field is a flag: `--length 64 --stages.0.epochs 3`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Text generation: train a pretrained decoder on some texts, stage by stage, and report how well it
    foretells texts like them that it has not read, and how it goes on with theirs.
    """

    data: str = "package_docstrings"
    """A name from datasets/, tfds:NAME, a text file, a folder of them (also in train, val and test), or a
    .csv, .tsv or .jsonl table with a column text.
    """
    train_characters: int | Literal["all"] | None = 20_000
    """Train on so many characters at most, and validate on as many at most; all (or None) uses
    all.
    """
    val_fraction: float = 0.15
    """Share of the texts set aside for validation, where the data has no validation split; of fewer than ten
    texts a part of each, towards its end.
    """
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split; the last part of each of
    fewer than ten texts.
    """
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A file that is no text is named and left out, or stops the run."""
    length: int = 128
    """Texts are read so many tokens at a time."""

    backbone: str = "GPT-tiny"
    """A decoder of runner/text_networks/decoders.py, or auto for the one that the weights are of."""
    weights: str = "docstrings_gpt"
    """docstrings_gpt, none, bytes, a folder in KerasHub's or Hugging Face's form, the folder of an earlier
    run, or a KerasHub preset of GPT-2.
    """
    dropout: float = 0.1
    """Share of what layers give that training hides."""

    stages: tuple[Stage, ...] = (
        Stage("top", train="top:2", epochs=8, learning_rate=1e-3, schedule="cosine", warmup=0.1),
        Stage("all", train="all", epochs=4, learning_rate=3e-4, schedule="cosine", warmup=0.1),
    )
    """First the upper half of the small decoder, then all of it: of few texts all weights at once learn more
    by heart and less of what carries over (README.md).
    """
    keep_frozen: bool = True
    """Compute once what lies below the weights that a stage trains, and keep it."""
    monitor: str = "val_loss"
    """The number, measured on validation, that decides which epoch of a stage is best, and which stage."""
    batch_size: int = 8
    """Windows of text per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    sampler: Literal["greedy", "top-k", "top-p", "beam"] = "top-p"
    """How the next token is chosen when the network goes on with a text: the likeliest, one of the 40
    likeliest by chance, one of the likeliest that have 90 % together, or by beam search over 4 texts.
    """
    temperature: float = 0.8
    """Below 1 likely tokens become likelier when one is drawn."""
    new_tokens: int = 64
    """How many tokens a text is gone on with, at most."""

    baselines: bool = True
    """Also train from scratch and with a frozen decoder on the same texts, and all at once where the stages
    are not just that, to compare, and say what counted sequences of characters, and the weights as they came,
    would give.
    """
    scratch_backbone: str = "GPT-tiny"
    """The decoder that is trained from scratch: a small one, for a large one learns nothing from few
    texts.
    """
    scratch_lengths: tuple[int, ...] = (1, 5)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 3e-3
    """Peak learning rate of the training from scratch, which has its own best value."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("length", 8 <= self.length <= 1024, "8 to 1,024 tokens"),
            ("dropout", 0 <= self.dropout < 1, "a share from 0 to below 1"),
            ("temperature", 0 < self.temperature <= 10, "a number above 0, up to 10"),
            ("new_tokens", self.new_tokens >= 1, "a whole number from 1"),
            (
                "stages",
                all(None not in (stage.learning_rate, stage.backbone_rate) for stage in self.stages),
                "a learning_rate and a backbone_rate for each (1e-3 and 1 suit a small decoder, 1e-4 GPT-2)",
            ),
            ("monitor", self.monitor == "val_loss", "val_loss"),
        )
