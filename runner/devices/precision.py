"""Which number format a network computes in, chosen by what the device multiplies fastest."""

from pathlib import Path

import keras
import tensorflow as tf

from runner.errors import InputError, suggest

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
PRECISIONS = ("auto", *POLICIES)
GAINS_ON_CPU = ("VGG", "ResNet", "Inception", "DenseNet", "Xception", "ConvNeXt")
"""Beginnings of the families that also train faster in bfloat16 on a processor that multiplies it: 1.3 to 2.2
times, where MobileNet and EfficientNet take 1.5 times as long (`python -m benchmarks.precision`)."""


def choose(name: str, backbone: str) -> tuple[str, str]:
    """The Keras policy for a `precision` setting, and in words why.

    name: one of PRECISIONS. "auto" takes bfloat16 on a TPU and on GPUs from compute capability 8.0 on,
    float16 on those from 7.0 on, bfloat16 on a processor with units for it (AMX, AVX-512 BF16) for backbones
    that gain, else float32. Of several GPUs the oldest decides. Weights, the head's logits and the loss are
    float32 in each.
    Raises InputError for another name.
    """
    if name not in PRECISIONS:
        raise InputError(
            f"precision '{name}' is not one of {', '.join(PRECISIONS)}.{suggest(name, PRECISIONS)}"
        )
    if name != "auto":
        return name, "as asked"
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16", "a TPU multiplies bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and tf.config.list_logical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return of_gpu(min(tuple(one.get("compute_capability") or (0, 0)) for one in details))
    return of_cpu(_cpu_flags(), backbone)


def set_policy(name: str) -> None:
    """Set Keras' global dtype policy: "float32", "mixed_bfloat16" or "mixed_float16". Call it before
    building the model.
    """
    if name not in POLICIES:
        raise InputError(f"precision '{name}' is not one of {', '.join(POLICIES)}.{suggest(name, POLICIES)}")
    keras.mixed_precision.set_global_policy(name)


def use(name: str, backbone: str) -> str:
    """Let Keras compute in what `choose` gives, from the next model on; returns that in words."""
    policy, why = choose(name, backbone)
    set_policy(policy)
    return f"precision: {policy} ({why})"


def of_gpu(capability: tuple[int, int]) -> tuple[str, str]:
    """As `choose`, for a GPU of that CUDA compute capability."""
    shown = ".".join(map(str, capability))
    if capability >= (8, 0):
        return "mixed_bfloat16", f"a GPU of compute capability {shown} multiplies bfloat16"
    if capability >= (7, 0):
        return "mixed_float16", f"a GPU of compute capability {shown} multiplies float16"
    return "float32", f"a GPU of compute capability {shown} has no units for half precision"


def of_cpu(flags: set[str], backbone: str) -> tuple[str, str]:
    """As `choose`, for a processor with these feature flags (as Linux names them)."""
    if not flags & {"amx_bf16", "avx512_bf16"}:
        return "float32", "this processor has no units for bfloat16"
    if not backbone.startswith(GAINS_ON_CPU):
        return "float32", f"{backbone} does not gain from bfloat16 on a processor"
    return "mixed_bfloat16", "this processor multiplies bfloat16"


def _cpu_flags() -> set[str]:
    """What Linux says of the processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
