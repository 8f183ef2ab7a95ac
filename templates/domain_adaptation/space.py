"""What `python -m runner tune` tries; each entry is a field of `config.py`.

No label of the target chooses: best is what the method that a run picks has of `infomax` (choice.py). Label
smoothing, which makes all answers less certain, is therefore not tried. Of methods that are left out
(`--methods`) fix the strengths as well: `--fix dann cdan`.
"""

from runner.tuning.space import Choice, LogUniform, Space, Uniform

SPACE = Space(
    {
        "stages.0.learning_rate": LogUniform(3e-4, 1e-2),
        "batch_size": Choice((16, 32, 64)),
        "dropout": Uniform(0.0, 0.5),
        "weight_decay": LogUniform(1e-5, 1e-1),
        "dann": LogUniform(0.03, 3.0),
        "cdan": LogUniform(0.1, 10.0),
        "mmd": LogUniform(1.0, 100.0),
        "coral": LogUniform(1.0, 100.0),
        "mcc": LogUniform(0.1, 10.0),
        "pseudo_labels": LogUniform(0.1, 10.0),
        "threshold": Uniform(0.6, 0.9),
        "augment": Choice(("none", "light", "medium")),
    },
    objective="infomax",
    direction="maximize",
)
