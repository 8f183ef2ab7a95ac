"""What is this machine: the `tf.distribute` strategy, the precision, the seeds, and `doctor`.

One machine for now: the default device, or every visible GPU through `MirroredStrategy`.
"""

import functools
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from runner.errors import InputError, suggest

STRATEGIES = ("auto", "cpu", "gpu", "mirrored")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


# Cached, since a second MirroredStrategy in one process hands out the first one's collective keys again, and
# TensorFlow 2.21 then stops with "Shape mismatch in the collective instance".
@functools.cache
def choose(name: str = "auto") -> tf.distribute.Strategy:
    """The strategy to build and train a model under (`with choose().scope(): ...`).

    "auto" takes every visible GPU (MirroredStrategy for two or more, one device for one), else the CPU;
    "cpu" and "gpu" force one device; "mirrored" forces MirroredStrategy over all GPUs, or over the logical
    CPUs where there is none. Raises InputError when a GPU is asked for and TensorFlow sees none, or the
    name is unknown.
    """
    if name not in STRATEGIES:
        raise InputError(
            f"strategy '{name}' is not one of {', '.join(STRATEGIES)}.{suggest(name, STRATEGIES)}"
        )
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    if name == "gpu" and not gpus:
        raise InputError(
            f"strategy 'gpu': TensorFlow sees no GPU (found: {', '.join(cpus)}); install "
            "tensorflow[and-cuda], run `python -m runner doctor`, or choose 'cpu'."
        )
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return tf.distribute.MirroredStrategy(gpus or cpus)
    if name == "cpu" and gpus:
        return tf.distribute.OneDeviceStrategy(cpus[0])
    return tf.distribute.get_strategy()


def set_precision(name: str) -> None:
    """Set Keras' global dtype policy: "float32", "mixed_bfloat16" or "mixed_float16". Call it before
    building the model.
    """
    if name not in PRECISIONS:
        raise InputError(
            f"precision '{name}' is not one of {', '.join(PRECISIONS)}.{suggest(name, PRECISIONS)}"
        )
    keras.mixed_precision.set_global_policy(name)


def set_deterministic(on: bool) -> None:
    """Make TensorFlow's operations repeat to the bit from here on; there is no way back in one process.

    Needs a seed (`keras.utils.set_random_seed`): random operations without one then raise.
    """
    if on:
        tf.config.experimental.enable_op_determinism()


def check_batch_size(
    batch_size: int, strategy: tf.distribute.Strategy, pictures: Mapping[str, int] | None = None
) -> None:
    """Raise InputError unless the global batch divides evenly over the replicas, and the last, smaller batch
    of each split (`pictures`: how many it has) leaves none of them without a picture, which BatchNorm and the
    means of a loss cannot do with.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size < 1 or batch_size % replicas:
        raise InputError(
            f"batch_size={batch_size} cannot be shared by {replicas} replica(s); give a positive multiple of "
            f"{replicas}, for example {max(1, batch_size // replicas) * replicas}."
        )
    for split, count in (pictures or {}).items():
        last = count % batch_size
        if 0 < last < replicas:
            raise InputError(
                f"batch_size={batch_size} leaves a last batch of {last} of the {count} pictures of {split}, "
                f"too few for {replicas} replicas; give another batch_size, or strategy 'cpu' or 'gpu'."
            )


def build_from_one_replica(model: keras.Model) -> None:
    """Let `model.fit` and `model.evaluate` begin with any batch under a strategy of several replicas.

    Keras 3 makes the variables of loss and metrics from the mean over the replicas' parts of a first batch,
    which fails where the parts differ in size: on data smaller than a batch, on an odd validation set, and
    when a fit goes on before the last, smaller batch of an epoch. What it needs are shapes, so one part will
    do. Has no effect on one replica.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return

    def build(iterator=None, data_batch=None):
        for _, _, batches in iterator or ():
            parts = next(batches)
            data_batch = keras.tree.map_structure(
                lambda one: strategy.experimental_local_results(one)[0], parts
            )
            break
        with strategy.scope():
            model._symbolic_build(data_batch=data_batch)

    object.__setattr__(model, "_maybe_symbolic_build", build)  # Keras would track an attribute


def environment(command: str | None = None) -> dict[str, str]:
    """What a result depends on, for the run folder: versions, processor, devices, commit, command."""
    versions = {}
    for package in ("tensorflow", "keras", "numpy", "pandas", "scikit-learn", "tensorflow-datasets"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(_cores()),
        "gpus": ", ".join(gpus) or "none",
        "precision": keras.mixed_precision.global_policy().name,
        "commit": _commit(),
        "command": command if command is not None else _command(),
    }


def peak_memory_gigabytes() -> float:
    """The largest resident memory of this process so far, in units of 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS and KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the code that runs, or "none" for code that is not in a git checkout."""
    root = Path(__file__).resolve().parent.parent
    if not shutil.which("git") or not (root / ".git").exists():
        return "none"
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True
    )
    return answer.stdout.strip() or "none"


def _command() -> str:
    """The command line with the module's name where Python was started with -m."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    program = f"-m {module.name}" if module and module.name != "__main__" else Path(sys.argv[0]).name
    return " ".join(["python", program, *sys.argv[1:]])


def doctor() -> int:
    """Print what TensorFlow finds on this machine and what `auto` would do; the exit code is 0 when a
    model can train.
    """
    started = time.perf_counter()
    for name, value in environment("").items():
        if value:
            print(f"{name:20} {value}")
    gpus = tf.config.list_logical_devices("GPU")
    strategy = choose("auto")
    print(f"{'auto would use':20} {strategy.num_replicas_in_sync} replica(s) on {'GPU' if gpus else 'CPU'}")
    size = 1024
    matrix = tf.random.stateless_normal((size, size), seed=(0, 0))
    tf.linalg.matmul(matrix, matrix).numpy()  # the first product also starts the device
    before = time.perf_counter()
    finite = bool(tf.reduce_all(tf.math.is_finite(tf.linalg.matmul(matrix, matrix))))
    seconds = time.perf_counter() - before
    print(
        f"{'matrix product':20} {size} x {size} float32, {2 * size**3 / seconds / 1e9:,.0f} GFLOP/s, "
        f"{'finite' if finite else 'NOT FINITE'}"
    )
    print(f"{'peak memory':20} {peak_memory_gigabytes():.1f} GB, {time.perf_counter() - started:.1f} s")
    if shutil.which("nvidia-smi") and not gpus:
        print(
            "error: this machine has an NVIDIA driver but TensorFlow sees no GPU; install "
            "tensorflow[and-cuda] into this environment.",
            file=sys.stderr,
        )
        return 1
    return 0 if finite else 1
