"""Every knob of this template. Each field is a flag: `--length 96 --stages.1.epochs 8`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.errors import InputError
from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Translation: train a decoder above a pretrained encoder on pairs of texts, stage by stage, and report
    how like its translations are to those of people, and where they are worst.
    """

    data: str = "composed_language"
    """A name from datasets/, tfds:NAME, a .csv, .tsv or .jsonl file with source and target, or a folder with
    files whose lines belong together: train.en and train.de, also packed (.gz).
    """
    languages: str = "auto"
    """From which into which, en-de, among those of a folder or of TFDS; auto: what the data calls its input,
    in a folder of two languages English first.
    """
    train_examples: int | Literal["all"] | None = "all"
    """Train on this few pairs and validate on as many at most; all (or None) uses all."""
    val_fraction: float = 0.15
    """Share of the training pairs set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A pair with nothing on one side is named and left out, or stops the run."""
    length: int = 64
    """Of a text so many tokens are read, and a translation has so many pieces, at most."""
    pieces: int = 4000
    """The most words and parts of words that are learnt from the translations of training."""

    backbone: str = "MiniLM-L6"
    """An encoder of runner/text_networks/encoders.py, or auto for the one that the weights are of."""
    weights: str = "minilm"
    """minilm, none, a folder in Hugging Face's or KerasHub's form, the folder of an earlier run, or a
    KerasHub preset.
    """
    decoder_layers: int = 2
    """Layers of the decoder, which always starts from nothing."""
    decoder_width: int = 192
    """The size of its vectors, a multiple of decoder_heads."""
    decoder_heads: int = 4
    """Into so many parts each layer divides them to look around."""
    dropout: float = 0.1
    """Share of what the decoder reads and computes that training hides; the encoder has its own."""
    smoothing: float = 0.1
    """Share of the probability that training asks to be spread over all pieces (label smoothing)."""
    beams: int = 4
    """So many beginnings of a translation go on at a time; 1 always takes the likeliest next piece."""

    stages: tuple[Stage, ...] = (
        Stage("decoder", train="head", epochs=12, learning_rate=2e-3, schedule="cosine", warmup=0.1),
        Stage("all", train="all", epochs=2, learning_rate=3e-4, schedule="cosine", warmup=0.1),
    )
    """First the decoder alone, above an encoder that stays as it is; then all weights."""
    keep_frozen: bool = True
    """Compute once what lies below the weights that a stage trains, and keep it."""
    monitor: str = "val_loss"
    """The number, measured on validation, that decides which epoch of a stage is best, and which stage."""
    batch_size: int = 32
    """Pairs per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch and with a frozen encoder on the same pairs, to compare, and translate word by
    word with a dictionary that is counted from the training pairs.
    """
    scratch_backbone: str = "BERT-tiny"
    """The encoder that is trained from scratch: a small one, for a large one learns nothing from few
    pairs.
    """
    scratch_lengths: tuple[int, ...] = (2,)
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
            ("pieces", 100 <= self.pieces <= 32768, "100 to 32768 pieces"),
            ("decoder_layers", 1 <= self.decoder_layers <= 12, "1 to 12 layers"),
            ("decoder_heads", 1 <= self.decoder_heads <= 64, "1 to 64 parts"),
            ("decoder_width", 8 <= self.decoder_width <= 4096, "8 to 4096 numbers"),
            ("dropout", 0 <= self.dropout < 1, "a share from 0 to below 1"),
            ("smoothing", 0 <= self.smoothing < 1, "a share from 0 to below 1"),
            ("beams", 1 <= self.beams <= 32, "1 to 32 beginnings"),
            (
                "stages",
                all(None not in (stage.learning_rate, stage.backbone_rate) for stage in self.stages),
                "a learning_rate and a backbone_rate for each (1e-4 and 1 suit the weights of encoders)",
            ),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )
        if self.decoder_width % self.decoder_heads:
            raise InputError(
                f"decoder_width={self.decoder_width} cannot be divided into decoder_heads="
                f"{self.decoder_heads}; give a multiple."
            )
