"""What the Configs of all templates share: the seed, the devices, how they compute, and where results go.

It is one nested dataclass, `config.machine`, whose fields are flags and lines of config.json like the
Config's own: `--seed 1 --precision float32` (see `runner.flags` and `runner.fields`).
"""

from dataclasses import dataclass
from typing import Literal

from runner.fields import check_fields, check_types


@dataclass(frozen=True)
class Machine:
    """The seed, the devices and the run folder."""

    seed: int = 0
    """Decides the splits, the few labels, the first weights, the order and the augmentation."""
    strategy: Literal["auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu"] = "auto"
    """Where to train; auto takes the workers that were started together, else every GPU it finds, else the
    CPU.
    """
    scale_learning_rate: Literal["no", "linear", "square_root"] = "no"
    """Not "no": `batch_size` is for each device, and all learning rates are multiplied by the number of
    devices (linear, the rule for SGD) or its square root (that for Adam).
    """
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """What the network computes in; auto takes half precision where device and backbone gain from it.
    Weights, what the head gives and the loss are float32 in each.
    """
    jit: Literal["auto", "on", "off"] = "auto"
    """Compile the training step with XLA; auto leaves it to Keras, which does so on GPUs."""
    steps_per_execution: int = 1
    """Steps that run before Python is asked again; more saves time where a step is short. The learning rate
    is then set, and checkpoints are written, that often only.
    """
    deterministic: bool = False
    """Repeat to the bit, at some cost in speed: operations with one order of summation."""
    checkpoint_steps: int | None = None
    """Within an epoch, also keep the state after every so many steps; None leaves it to the minutes."""
    checkpoint_minutes: float | None = 10.0
    """Within an epoch, also keep the state when so many minutes have passed since the last time."""
    test: bool = True
    """Judge the end on the test; `--no-test` stops at validation, and nothing can open the test then."""
    log: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Also write what history.csv holds, epoch by epoch, for TensorBoard or into the store that MLflow is set
    to; each if it is installed.
    """
    run_dir: str = ""
    """Folder for the results; "" makes runs/<template>/<date and time>, or goes on with an unfinished run of
    the same settings there. So does a folder given here that holds one.
    """

    def __post_init__(self) -> None:
        check_types(self)
        check_fields(self)
