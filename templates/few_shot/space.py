"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Best is what the method that a run picks reaches on the validation classes.
"""

from runner.tuning.space import Choice, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(1e-3, 1e-1),
        "stages.1.learning_rate": LogUniform(1e-4, 1e-2),
        "batch_size": Choice((16, 32, 64)),
        "dropout": Uniform(0.0, 0.5),
        "label_smoothing": Uniform(0.0, 0.2),
        "weight_decay": LogUniform(1e-5, 1e-1),
        "augment": Choice(("none", "light", "medium")),
        "train_shots": Choice((1, 5)),
    }
)
