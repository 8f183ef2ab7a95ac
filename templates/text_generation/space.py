"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Best is the lowest loss on validation, by which stages pick their epochs too.
"""

from runner.tuning.space import Choice, Integers, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(2e-4, 5e-3),
        "stages.0.train": Choice(("top:1", "top:2", "top:3")),
        "stages.0.epochs": Integers(4, 12),
        "stages.1.learning_rate": LogUniform(5e-5, 2e-3),
        "batch_size": Choice((4, 8, 16)),
        "dropout": Uniform(0.0, 0.4),
        "weight_decay": LogUniform(1e-3, 1e-1),
    }
)
