from runner.tuning.space import Choice, LogUniform, Space

SPACE = Space({"stages.1.learning_rate": LogUniform(1e-4, 1e-1), "batch_size": Choice((16, 32, 64))})
