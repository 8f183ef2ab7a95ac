"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Best is what the features reach on labelled validation pictures with the most labels, frozen and solved.
Without labels there is nothing to choose by.
"""

from runner.tuning.space import Choice, LogUniform, Space

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(3e-4, 1e-2),
        "batch_size": Choice((64, 128, 256)),
        "method": Choice(("SimCLR", "Barlow Twins", "VICReg")),
        "temperature": LogUniform(0.05, 1.0),
        "projection": Choice((64, 128, 256)),
        "augment": Choice(("light", "medium", "strong", "contrastive")),
        "figure": Choice((True, False)),
        "weight_decay": LogUniform(1e-6, 1e-2),
    },
    objective="accuracy",
    direction="maximize",
)
