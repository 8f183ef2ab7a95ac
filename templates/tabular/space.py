"""What `python -m runner tune` tries; each entry is a field of `config.py`."""

from runner.tuning.space import Choice, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(1e-5, 3e-3),
        "stages.1.learning_rate": LogUniform(1e-5, 3e-3),
        "stages.0.train": Choice(("head", "top:1", "top:2")),
        "start_penalty": Choice((0.0, 1e-3, 1e-2, 1e-1)),
        "source_learning_rate": LogUniform(5e-4, 5e-3),
        "hidden": Uniform(0.0, 0.3),
        "width": Choice((32, 64, 128)),
        "dropout": Uniform(0.0, 0.5),
        "batch_size": Choice((16, 32, 64)),
        "weight_decay": LogUniform(1e-3, 1e-1),
    }
)
