"""Which processes train together, read from the environment: TF_CONFIG, or the variables of Slurm.

`TF_CONFIG` is TensorFlow's own: {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker",
"index": 0}}. `python -m runner launch` sets it; so do Kubernetes operators. Slurm's `srun` says the same in
variables of its own. Nothing here loads TensorFlow.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.errors import InputError

SLURM_PORT = 12000
"""The first port of a Slurm job's workers; the job's number, modulo 10,000, is added to it."""


@dataclass(frozen=True)
class Cluster:
    """The workers, "host:port" each, and which of them this process is (from 0; worker 0 is the chief)."""

    workers: tuple[str, ...]
    index: int
    found: str
    """Where this was read, for messages."""

    def tf_config(self) -> str:
        """The value of TF_CONFIG for this process."""
        return tf_config(self.workers, self.index)


def tf_config(workers: Sequence[str], index: int) -> str:
    """The value of TF_CONFIG that makes a process the worker `index` (from 0) of `workers`."""
    return json.dumps({"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": index}})


def find(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster that the environment describes, or None where this process trains alone.

    TF_CONFIG comes before Slurm's variables. Raises InputError for a description that cannot be right, and
    for parameter servers, which this project does not use.
    """
    if environment.get("TF_CONFIG", "").strip():
        return _from_tf_config(environment["TF_CONFIG"])
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environment:
        return _from_slurm(environment)
    return None


def _from_tf_config(text: str) -> Cluster | None:
    try:
        config = json.loads(text)
        groups = {str(kind): [str(address) for address in tasks] for kind, tasks in config["cluster"].items()}
        kind, number = str(config["task"]["type"]), int(config["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG cannot be read ({type(error).__name__}: {error}): it must be like "
            f"{tf_config(['host-a:12345', 'host-b:12345'], 0)}; unset it to train on this machine alone."
        ) from error
    unknown = sorted({*groups, kind} - {"chief", "worker"})
    if unknown:
        raise InputError(
            f"TF_CONFIG has tasks of the type '{unknown[0]}'; allowed are 'chief' and 'worker': parameter "
            "servers and separate evaluators are not used here."
        )
    if not 0 <= number < len(groups.get(kind, ())):
        raise InputError(
            f"TF_CONFIG says that this is {kind} {number}, but its cluster has {len(groups.get(kind, ()))} "
            f"of them; index counts from 0."
        )
    workers = (*groups.get("chief", ()), *groups.get("worker", ()))
    if len(set(workers)) < len(workers):
        twice = next(one for one in workers if workers.count(one) > 1)
        raise InputError(f"TF_CONFIG names {twice} twice; each worker needs an address and port of its own.")
    before = len(groups.get("chief", ())) if kind == "worker" else 0
    return Cluster(workers, before + number, "TF_CONFIG") if len(workers) > 1 else None


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    """The tasks of one `srun` step, in the order of SLURM_PROCID, with consecutive ports on each host."""
    try:
        hosts = expand_hosts(environment["SLURM_STEP_NODELIST"])
        tasks = expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
        index, count = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        job = int("0" + "".join(itertools.takewhile(str.isdecimal, environment.get("SLURM_JOB_ID", "0"))))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"Slurm's variables cannot be read ({type(error).__name__}: {error}): start the workers with "
            "srun, or set TF_CONFIG, which comes first."
        ) from error
    if len(hosts) != len(tasks) or sum(tasks) != count or not 0 <= index < count:
        raise InputError(
            f"Slurm's variables do not fit together: {len(hosts)} hosts, tasks per host {tasks}, {count} "
            f"tasks, of which this is number {index}; set TF_CONFIG, which comes first."
        )
    if environment.get("SLURM_DISTRIBUTION", "block").split(",")[0].split(":")[0] not in ("block", "plane"):
        raise InputError(
            f"Slurm deals the tasks out as '{environment['SLURM_DISTRIBUTION']}'; give srun "
            "--distribution=block, so that the number of a task says which host it runs on."
        )
    first = SLURM_PORT + job % 10_000
    workers = [
        f"{host}:{first + number}" for host, here in zip(hosts, tasks, strict=True) for number in range(here)
    ]
    return Cluster(tuple(workers), index, f"Slurm (step of {count} tasks on {', '.join(hosts)})")


def expand_hosts(text: str) -> list[str]:
    """The hosts of a Slurm list: "gpu[08-10,12],login" gives gpu08, gpu09, gpu10, gpu12 and login.

    Raises ValueError for a text that is no such list.
    """
    if not re.fullmatch(r"(?:[\w.-]|\[[\d,-]+\])+(?:,(?:[\w.-]|\[[\d,-]+\])+)*", text):
        raise ValueError(f"'{text}' is no list of hosts")
    hosts = []
    for name in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", text):
        pieces = re.split(r"\[([^\]]*)\]", name)  # what stands in brackets is at the odd places
        choices = [_numbers(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
        hosts += ["".join(choice) for choice in itertools.product(*choices)]
    return hosts


def _numbers(text: str) -> list[str]:
    """The numbers of "08-10,12", each as wide as its range is written."""
    numbers = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        last = int(high or low)
        if last < int(low):
            raise ValueError(f"'{part}' counts backwards")
        numbers += [f"{number:0{len(low)}}" for number in range(int(low), last + 1)]
    return numbers


def expand_counts(text: str) -> list[int]:
    """The tasks per host in Slurm's short form: "2(x3),1" gives 2, 2, 2, 1."""
    counts = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not found:
            raise ValueError(f"'{text}' is no list of tasks per host")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts
