"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Another backbone is one more entry, with the weights that go with it:
"backbone weights": Choice({"small": ("MobileNetV2-0.35", "imagenet"), "large": ("ResNet50", "imagenet")}).

Best is the lowest loss on validation. What changes that loss itself (dice, class_weights) is therefore not
tried: its values could not be compared.
"""

from runner.tuning.space import Choice, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(1e-3, 3e-2),
        "stages.1.learning_rate": LogUniform(1e-3, 3e-2),
        "stages.1.backbone_rate": LogUniform(0.03, 1.0),
        "decoder": Choice(("unet", "deeplab")),
        "decoder_channels": Choice((4, 8, 16)),
        "dropout": Uniform(0.0, 0.5),
        "batch_size": Choice((4, 8, 16)),
        "weight_decay": LogUniform(1e-5, 1e-1),
        "augment": Choice(("none", "light", "medium", "strong")),
    }
)
