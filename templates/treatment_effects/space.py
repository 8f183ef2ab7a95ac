"""What `python -m runner tune` tries; each entry is a field of `config.py`.

By the R squared of validation's outcomes, which is the factual loss in another unit: no effect is looked at.
It is known when a trial ends: the larger trial is learned from within each.
"""

from runner.tuning.space import Choice, Integers, LogUniform, Space

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(3e-4, 1e-2),
        "stages.1.learning_rate": LogUniform(1e-5, 3e-3),
        "stages.1.epochs": Integers(5, 60),
        "batch_size": Choice((16, 32, 64)),
        "weight_decay": LogUniform(1e-2, 0.9),
    },
    objective="outcome_r2",
    direction="maximize",
)
