"""`python -m runner doctor`: what this machine has, whether it computes right, and what `auto` would do."""

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from runner.devices import cluster, environment, strategy

SIZE = 1024
"""Rows and columns of the matrices that are multiplied."""
LARGEST_ERROR = {"float32": 2e-3, "bfloat16": 2e-2, "float16": 4e-3}
"""Of a product, relative to its root mean square: the rounding of the inputs, with room. GPUs may multiply
float32 with 10 bits (TF32), as float16 has."""


def run(gpu: bool = False) -> int:
    """Print it all; return 0 when a model can train here, 1 where a GPU was asked for (`gpu`, or an NVIDIA
    driver that is there) and TensorFlow cannot use one, or where a product is wrong.
    """
    started = time.perf_counter()
    for name, value in environment.describe("").items():
        if value:
            _say(name, value)
    version = driver()
    _say("nvidia driver", version or "none found")
    _say("wheels", ", ".join(wheels()))
    gpus = tf.config.list_logical_devices("GPU")
    workers = cluster.find(os.environ)
    if workers:  # the others are not there to connect to
        _say("auto would use", f"{len(workers.workers)} workers: {workers.found} names them")
    else:
        _say("auto would use", strategy.reason(strategy.choose("auto")))
    _say("memory", memory())
    for device in gpus:
        _say(f"memory {device.name[-5:]}", gpu_memory(device.name))
    broken = [dtype for dtype in LARGEST_ERROR if not _multiply(dtype)]
    _say("seconds", f"{time.perf_counter() - started:.1f}")
    if broken:
        print(
            f"error: the product in {', '.join(broken)} is wrong or cannot be computed; use another "
            "--precision, or update the driver and TensorFlow.",
            file=sys.stderr,
        )
    if not gpus and (gpu or version):
        found = f"there is an NVIDIA driver ({version})" if version else "a GPU was asked for"
        print(
            f"error: {found} but TensorFlow sees no GPU; {'' if version else 'install an NVIDIA driver, '}"
            "install tensorflow[and-cuda] into this environment, and see that CUDA_VISIBLE_DEVICES is not "
            "empty.",
            file=sys.stderr,
        )
        return 1
    return 1 if broken else 0


def _say(name: str, value: str) -> None:
    print(f"{name:20} {value}", flush=True)


def driver() -> str | None:
    """The version of the NVIDIA driver, "not usable" where nvidia-smi fails, None where there is none."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True)
    lines = answer.stdout.split()
    return lines[0] if answer.returncode == 0 and lines else "not usable"


def wheels() -> list[str]:
    """The installed packages that a GPU needs, with versions: tensorflow, keras and NVIDIA's libraries."""
    found = {
        distribution.metadata["Name"]: distribution.version
        for distribution in importlib.metadata.distributions()
        if (distribution.metadata["Name"] or "").lower().startswith(("tensorflow", "keras", "nvidia-"))
    }
    return [f"{name} {version}" for name, version in sorted(found.items())]


def memory() -> str:
    """Free and total memory of this machine."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines if "kB" in line}
        return f"{sizes['MemAvailable'] / 1e9:.1f} GB free of {sizes['MemTotal'] / 1e9:.1f} GB"
    return "unknown"


def gpu_memory(device: str) -> str:
    """Free and total memory of a logical GPU, as its driver says, or what TensorFlow has taken."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
        answer = subprocess.run(command, capture_output=True, text=True)
        rows = answer.stdout.splitlines()
        number = int(device.rpartition(":")[2])
        if answer.returncode == 0 and number < len(rows):
            free, total = (float(one) * 2**20 / 1e9 for one in rows[number].split(","))
            return f"{free:.1f} GB free of {total:.1f} GB"
    return f"{tf.config.experimental.get_memory_info(device)['current'] / 1e9:.1f} GB taken"


def _multiply(dtype: str) -> bool:
    """Print how fast and how exact a product of two matrices is in one precision; False where it is wrong."""
    random = np.random.default_rng(0)
    left, right = (tf.constant(random.normal(size=(SIZE, SIZE)), tf.as_dtype(dtype)) for _ in range(2))
    try:
        tf.linalg.matmul(left, right).numpy()  # the first product also starts the device
        before = time.perf_counter()
        product = tf.linalg.matmul(left, right).numpy().astype("float64")
        seconds = time.perf_counter() - before
    except tf.errors.OpError as error:
        _say(f"product {dtype}", f"FAILED: {' '.join(str(error).split())[:100]}")
        return False
    exact = left.numpy().astype("float64") @ right.numpy().astype("float64")
    off = float(np.sqrt(np.mean((product - exact) ** 2) / np.mean(exact**2)))
    finite = bool(np.isfinite(product).all())
    right_enough = finite and off <= LARGEST_ERROR[dtype]
    _say(
        f"product {dtype}",
        f"{SIZE} x {SIZE}, {2 * SIZE**3 / seconds / 1e9:,.0f} GFLOP/s, relative error {off:.1e}, "
        f"{'finite' if finite else 'NOT FINITE'}{'' if right_enough else ', WRONG'}",
    )
    return right_enough
