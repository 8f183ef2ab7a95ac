"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Another encoder is one more entry, with the weights that go with it:
"backbone weights": Choice({"small": ("MiniLM-L6", "minilm"), "large": ("auto", "/models/roberta-base")}).
"""

from runner.tuning.space import Choice, Integers, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(2e-5, 5e-4),
        "stages.0.epochs": Integers(3, 12),
        "stages.0.layer_decay": Uniform(0.7, 1.0),
        "solve_head": Choice((True, False)),
        "pooling": Choice(("mean", "first")),
        "batch_size": Choice((16, 32)),
        "dropout": Uniform(0.0, 0.5),
        "label_smoothing": Uniform(0.0, 0.2),
        "weight_decay": LogUniform(1e-3, 1e-1),
    }
)
