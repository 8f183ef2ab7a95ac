"""What a result depends on beside its settings: versions, processor, devices, commit, command."""

import importlib.metadata
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import tensorflow as tf


def describe(command: str | None = None, training_seconds: float | None = None) -> dict[str, str]:
    """What a result depends on, for the run folder: versions, processor, devices, commit, command; with
    the seconds of training also these and the process's largest memory.
    """
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
    took = {}
    if training_seconds is not None:
        took = {
            "training seconds": f"{training_seconds:.0f}",
            "peak memory": f"{peak_memory_gigabytes():.1f} GB",
        }
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
    } | took


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
    root = Path(__file__).resolve().parents[2]
    if not shutil.which("git") or not (root / ".git").exists():
        return "none"
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True
    )
    return answer.stdout.strip() or "none"


def _command() -> str:
    """The command line as a shell takes it, with the module's name where Python was started with -m."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(module, "name", "__main__")
    program = [Path(sys.argv[0]).name] if name == "__main__" else ["-m", name]
    return shlex.join(["python", *program, *sys.argv[1:]])
