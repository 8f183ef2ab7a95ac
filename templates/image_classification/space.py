"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Another backbone is one more entry, with the weights that go with it:
"backbone weights": Choice({"small": ("MobileNetV2-0.35", "imagenet"), "large": ("ResNet50", "imagenet")}).
"""

from runner.tuning.space import Choice, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(1e-3, 1e-1),
        "stages.1.learning_rate": LogUniform(3e-4, 3e-2),
        "stages.2.learning_rate": LogUniform(3e-4, 3e-2),
        "stages.1.train": Choice(("top:2", "top:4", "top:8")),
        "batch_size": Choice((16, 32, 64)),
        "dropout": Uniform(0.0, 0.5),
        "label_smoothing": Uniform(0.0, 0.2),
        "weight_decay": LogUniform(1e-5, 1e-1),
        "augment": Choice(("none", "light", "medium", "strong")),
    }
)
