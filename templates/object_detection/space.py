"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Another backbone is one more entry, with the weights that go with it:
"backbone weights": Choice({"small": ("MobileNetV2-0.35", "imagenet"), "large": ("ResNet50", "imagenet")}).

Best is the lowest loss on validation, by which stages pick their epochs too; it is no AP.
"""

from runner.tuning.space import Choice, Integers, LogUniform, Space

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(3e-4, 3e-2),
        "stages.1.learning_rate": LogUniform(3e-4, 1e-2),
        "stages.1.backbone_rate": LogUniform(0.03, 1.0),
        "width": Choice((32, 64, 128)),
        "depth": Integers(0, 4),
        "batch_size": Choice((8, 16, 32)),
        "weight_decay": LogUniform(1e-5, 1e-1),
        "augment": Choice(("none", "light", "medium", "strong")),
    }
)
