"""Every knob of this template. Each field is a flag: `--image-size 192 --stages.1.epochs 30`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import OmitArgPrefixes

from runner.fields import check_fields, check_types
from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Semantic segmentation: train a pretrained backbone and a decoder to give every pixel a class, stage by
    stage, and report what they learned.
    """

    data: str = "scenes"
    """A name from datasets/, tfds:NAME, or a folder with images/ and masks/, train/images and train/masks, or
    train/ and trainannot/.
    """
    classes: str = ""
    """A file with a line per class: name, or name,red,green,blue where masks are in colours; "" takes
    classes.txt from the data's folder, or else the values that the masks have.
    """
    ignore: tuple[int, ...] = (255,)
    """Values of the masks that count for nothing: not in the loss, not in the numbers."""
    train_examples: int | Literal["all"] | None = "all"
    """Train on this few pictures and validate on as many at most; all (or None) uses all."""
    val_fraction: float = 0.15
    """Share of the training pictures set aside for validation, where the data has no validation split."""
    test_fraction: float = 0.25
    """Share set aside for the test at the end, where the data has no test split."""
    on_bad_data: Literal["skip", "stop"] = "skip"
    """A picture or mask that cannot be used is named and left out, or stops the run."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture becomes square: cut its long sides, pad its short ones, or stretch it."""

    backbone: str = "MobileNet-0.25"
    """A keras.applications name, with a width where it has one; `python -m runner backbones` lists them."""
    weights: str = "letters_in_photos"
    """imagenet, none, a name from checkpoints/, a weights file, or the folder of an earlier run."""
    image_size: int = 96
    """Pictures are resized to this many pixels a side, and so are the masks."""
    decoder: Literal["unet", "deeplab"] = "unet"
    """How the backbone's maps become a mask: U-Net joins all resolutions, DeepLabV3+ two of them."""
    decoder_channels: int = 8
    """Width of the decoder at the resolution of the picture; up to eight times as wide below."""
    dropout: float = 0.0
    """Share of the decoder's last features that training hides."""

    class_weights: Literal["none", "median", "inverse"] = "none"
    """Weigh pixels by how rare their class is: not, by its share of the pictures that show it (median
    frequency), or by its share of all pixels.
    """
    dice: float = 1.0
    """How much the soft Dice loss of a picture, which counts classes, weighs beside the cross-entropy, which
    counts pixels; 0 leaves it out.
    """
    augment: Literal["none", "light", "medium", "strong"] = "light"
    flip: bool = True
    """Also mirror pictures left to right: right for streets, wrong for text."""

    stages: tuple[Stage, ...] = (
        Stage("decoder", train="head", epochs=2, learning_rate=1e-2, schedule="cosine"),
        Stage(
            "all",
            train="all",
            epochs=58,
            learning_rate=1e-2,
            schedule="cosine",
            warmup=0.05,
            batch_norm="train",
            keep="last",
        ),
    )
    monitor: str = "val_loss"
    """The number, measured on validation, that decides which epoch of a stage is best."""
    batch_size: int = 8
    """Pictures per step, over all devices together (but see scale_learning_rate)."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after another, and then take the step: a batch that does not
    fit does, at the price of some time. Equal steps, but BatchNorm, which the decoder has, sees a part at a
    time.
    """
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step also shrinks the weights by this times the learning rate."""

    baselines: bool = True
    """Also train from scratch and with a frozen backbone on the same pictures, to compare, and say what
    logistic regression on pixels gives.
    """
    scratch_lengths: tuple[int, ...] = (1,)
    """Train from scratch for so many times the epochs of all stages; the one that is best on validation is
    compared.
    """
    scratch_learning_rate: float = 1e-2
    """Peak learning rate of the training from scratch, which has its own best value."""

    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_types(self)
        check_stages(self.stages)
        check_fields(
            self,
            ("data", bool(self.data.strip()), "the name or path of a data set"),
            ("ignore", all(0 <= value <= 255 for value in self.ignore), "values from 0 to 255"),
            ("image_size", 16 <= self.image_size <= 4096, "16 to 4096 pixels"),
            ("decoder_channels", 1 <= self.decoder_channels <= 1024, "1 to 1024"),
            ("dice", 0 <= self.dice < float("inf"), "0 or a number above"),
            ("monitor", self.monitor in ("val_loss", "val_accuracy"), "val_loss or val_accuracy"),
        )
