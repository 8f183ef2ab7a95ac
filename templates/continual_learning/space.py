"""What `python -m runner tune` tries; each entry is a field of `config.py`.

Best is what the method that a run picks reaches on validation pictures of all tasks. Who has to choose before
later tasks are known searches on the first ones: `--tasks` with those alone.
"""

from runner.tuning.space import Choice, LogUniform, Space

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(1e-4, 1e-2),
        "stages.0.train": Choice(("head", "top:2", "top:4", "top:8")),
        "batch_size": Choice((16, 32, 64)),
        "buffer": Choice((50, 200, 500)),
        "ewc": LogUniform(1.0, 1e4),
        "si": LogUniform(1e-2, 1e2),
        "lwf": LogUniform(1e-1, 1e1),
        "der_alpha": LogUniform(1e-2, 2.0),
        "der_beta": LogUniform(1e-1, 2.0),
        "lda_shrinkage": LogUniform(1e-5, 1e-1),
    }
)
