from dataclasses import dataclass

from tyro.conf import OmitArgPrefixes

from runner.machine import Machine
from runner.stage import Stage, check_stages


@dataclass(frozen=True)
class Config:
    """Rows of numbers with one label each: the smallest template, which the tests hold the contract to."""

    data: str = "breast_cancer"
    """A CSV file of numbers and a column label, or breast_cancer, which comes with scikit-learn."""
    val_fraction: float = 0.15
    test_fraction: float = 0.25
    backbone: str = "dense"
    weights: str = "none"
    stages: tuple[Stage, ...] = (
        Stage("head", epochs=3, learning_rate=1e-2),
        Stage("all", train="all", epochs=5, learning_rate=1e-2, schedule="cosine", batch_norm="train"),
    )
    batch_size: int = 32
    baselines: bool = True
    scratch_lengths: tuple[int, ...] = (1,)
    scratch_learning_rate: float = 1e-2
    machine: OmitArgPrefixes[Machine] = Machine()

    def __post_init__(self) -> None:
        check_stages(self.stages)
