"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Best is the lowest loss on validation. What changes that loss itself (smoothing, pieces) is therefore not
tried: its values could not be compared.
"""

from runner.tuning.space import Choice, Integers, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(5e-4, 5e-3),
        "stages.0.epochs": Integers(6, 18),
        "stages.1.learning_rate": LogUniform(5e-5, 1e-3),
        "decoder_layers": Integers(1, 4),
        "decoder_width": Choice((128, 192, 256)),
        "batch_size": Choice((16, 32, 64)),
        "dropout": Uniform(0.0, 0.4),
        "weight_decay": LogUniform(1e-3, 1e-1),
    }
)
