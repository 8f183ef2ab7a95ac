"""What is this machine: the `tf.distribute` strategy, the precision and the seeds.

One device, every visible GPU of one machine, a TPU, or the processes of several machines.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from runner import quiet
from runner.devices import cluster, multi_worker, precision
from runner.errors import InputError, suggest
from runner.fields import ConfigType
from runner.machine import Machine

STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu")
TPU_VARIABLES = ("TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS")


# Cached, since a second MirroredStrategy in one process hands out the first one's collective keys again, and
# TensorFlow 2.21 then stops with "Shape mismatch in the collective instance".
@functools.cache
def choose(name: str = "auto") -> tf.distribute.Strategy:
    """The strategy to build and train a model under (`with choose().scope(): ...`).

    "auto" takes what there is, in this order: the processes that TF_CONFIG or Slurm's srun names
    (MultiWorkerMirroredStrategy), a TPU that TPU_NAME names (TPUStrategy), two or more visible GPUs
    (MirroredStrategy), one GPU, the CPU. Each can be asked for: "multi_worker", "tpu", "mirrored" (over the
    logical CPUs where there is no GPU), "gpu", "cpu"; but several processes always train together.

    Call it before anything else makes TensorFlow look at its devices: several workers must connect first.
    Raises InputError for an unknown name and for what this machine has not, and says what was found.
    """
    if name not in STRATEGIES:
        raise InputError(
            f"strategy '{name}' is not one of {', '.join(STRATEGIES)}.{suggest(name, STRATEGIES)}"
        )
    workers = cluster.find(os.environ)
    if workers and name in ("auto", "multi_worker"):
        return _multi_worker(workers)
    if workers:
        raise InputError(
            f"strategy '{name}': {workers.found} names {len(workers.workers)} workers, which train together; "
            "choose 'auto', or start one process without it."
        )
    if name == "multi_worker":
        raise InputError(
            "strategy 'multi_worker': neither TF_CONFIG nor Slurm names more than one worker; start them "
            "with `python -m runner launch --workers N -m ...` or srun, or choose 'auto'."
        )
    tpu = next((os.environ[key] for key in TPU_VARIABLES if os.environ.get(key)), None)
    if name == "tpu" and tpu is None:
        raise InputError(
            f"strategy 'tpu': none of {', '.join(TPU_VARIABLES)} is set; set TPU_NAME to the TPU's name "
            "('local' on a TPU's own machine), or choose 'auto'."
        )
    if tpu is not None and name in ("auto", "tpu"):
        return _tpu(tpu)
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


def _multi_worker(workers: cluster.Cluster) -> tf.distribute.Strategy:
    os.environ["TF_CONFIG"] = workers.tf_config()  # where they were found by other means
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise InputError(
            f"{workers.found} names {len(workers.workers)} workers, but TensorFlow has already looked at its "
            f"devices ({' '.join(str(error).split())[:100]}); call strategy.choose() first."
        ) from error


def _tpu(name: str) -> tf.distribute.Strategy:
    """Never run on a TPU: none was at hand."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(
            f"the TPU '{name}' cannot be used ({' '.join(str(error).split())[:200]}); unset "
            f"{' and '.join(TPU_VARIABLES)}, or set TPU_NAME to one that can be reached."
        ) from error


def reason(strategy: tf.distribute.Strategy) -> str:
    """What a strategy runs on, and what was found that "auto" goes by."""
    replicas, workers = strategy.num_replicas_in_sync, multi_worker.number_of_workers(strategy)
    if workers > 1:
        return f"{replicas} replicas in {workers} processes, this is {multi_worker.index(strategy)}"
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"{replicas} TPU cores"
    gpus = len(tf.config.list_logical_devices("GPU"))
    return (
        f"{replicas} replica{'s' * (replicas > 1)} on {'GPU' if gpus else 'CPU'}: {gpus or 'no'} "
        f"GPU{'s' * (gpus != 1)} seen, no other workers (TF_CONFIG, Slurm) and no TPU (TPU_NAME) named"
    )


def set_deterministic(on: bool) -> None:
    """Make TensorFlow's operations repeat to the bit from here on; there is no way back in one process.

    Needs a seed (`keras.utils.set_random_seed`): random operations without one then raise.
    """
    if on:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def scope(machine: Machine, backbone: str = "") -> Iterator[tf.distribute.Strategy]:
    """Where a network is built and compiled: seeds, determinism and precision are set as `machine` says, and
    within the block weights are made where its strategy wants them.

    backbone: by whose family "auto" decides between precisions on a processor, see `precision.choose`.
    """
    quiet.settle_keras()
    keras.utils.set_random_seed(machine.seed)
    set_deterministic(machine.deterministic)
    precision.use(machine.precision, backbone)
    chosen = choose(machine.strategy)
    with chosen.scope():
        yield chosen


def compile_options(machine: Machine) -> dict[str, Any]:
    """What `compile` is told of how to run a step: jit_compile and steps_per_execution."""
    return {
        "jit_compile": {"auto": "auto", "on": True, "off": False}[machine.jit],
        "steps_per_execution": machine.steps_per_execution,
    }


def for_all_devices(config: ConfigType, chosen: tf.distribute.Strategy) -> ConfigType:
    """A template's Config with the batch size and learning rates that all devices together train with.

    config: with machine, batch_size, stages and, where it trains from scratch, a scratch_learning_rate. A
    batch k times as large has a gradient with 1/k of the variance. "linear": k times the rate (Goyal et al.
    2017, arXiv:1706.02677, for SGD); "square_root": for Adam and its like (Malladi et al. 2022,
    arXiv:2205.10287); "no" gives the config back.
    """
    rule = config.machine.scale_learning_rate
    if rule == "no":
        return config
    devices = chosen.num_replicas_in_sync
    factor = devices if rule == "linear" else devices**0.5
    stages = tuple(
        stage
        if stage.learning_rate == "auto"  # found on batches as large as they will be
        else dataclasses.replace(stage, learning_rate=stage.rate * factor)
        for stage in config.stages
    )
    changes: dict[str, Any] = {"batch_size": config.batch_size * devices, "stages": stages}
    if hasattr(config, "scratch_learning_rate"):
        changes["scratch_learning_rate"] = config.scratch_learning_rate * factor
    return dataclasses.replace(config, **changes)


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raise InputError unless the global batch divides evenly over the replicas.

    A smaller last batch may be of any size, see `multi_worker.distribute`.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size < 1 or batch_size % replicas:
        raise InputError(
            f"batch_size={batch_size} cannot be shared by {replicas} replica(s); give a positive multiple of "
            f"{replicas}, for example {max(1, batch_size // replicas) * replicas}."
        )
