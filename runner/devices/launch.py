"""Start the processes that train together, watch them, and start them again: what torchrun is to PyTorch.

    python -m runner launch --workers 2 --restarts 3 -m templates.image_classification.train --image-size 96

Each worker is `python -m ...` with TF_CONFIG set (see `cluster`); its output comes through with its number
in front. When one fails the others cannot go on: they wait for it in a sum over all. So they are ended,
SIGTERM first and SIGKILL later, and all are started again if restarts are left; a template's run goes on from
its last checkpoint. No worker outlives this process, even when that is killed (Linux's PR_SET_PDEATHSIG).

On several hosts the same command runs once on each, with the same --hosts and its own --host-index.
"""

import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from runner.devices import cluster, input_service
from runner.errors import InputError

PORT = 12345
GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL where all are asked to end: time for a step and a checkpoint."""
AFTER_FAILURE = 5.0
"""The same where a worker has failed: the others wait for it and could not write a checkpoint."""
WRONG_INPUT = 2
"""The exit code of a wrong flag or wrong data, which no restart puts right."""
PR_SET_PDEATHSIG = 1


@dataclass
class Worker:
    """One process, and what it has written since its last full line."""

    number: int | str
    """Its place among the workers, or "input 0", ...: what stands before its lines."""
    process: subprocess.Popen
    begun: dict[IO, bytes] = field(default_factory=dict)

    def exit_code(self) -> int | None:
        """None while it runs; 128 + n after signal n, as shells have it."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code


def run(
    command: Sequence[str],
    workers: int,
    *,
    hosts: Sequence[str] = (),
    host_index: int | None = None,
    port: int = PORT,
    restarts: int = 0,
    grace: float = GRACE,
    input_workers: int = 0,
) -> int:
    """Run `python -m command...` as `workers` processes on this host; return 0, or the code of the first that
    failed (130 and 143 after Ctrl-C and SIGTERM).

    hosts: the names of all hosts, in the same order on each, and `host_index` this one's place (from 0);
    empty for this one alone. Each has as many workers, on the ports `port`, `port` + 1, ...; alone on free
    ones. input_workers: processes that make the input of this host's workers, see `input_service`. Raises
    InputError for numbers that cannot be.
    """
    check(command, workers, hosts, host_index, port, restarts, grace, input_workers)
    stop = _Stop()
    with stop:
        first = workers * (host_index or 0)
        numbers = range(first, first + workers)
        for attempt in range(restarts + 1):
            free = _free(workers + input_workers)
            addresses = [f"{host}:{port + number}" for host in hosts for number in range(workers)]
            code = _run_once(command, addresses or free[:workers], numbers, free[workers:], grace, stop)
            if code in (0, WRONG_INPUT) or stop.signal:
                break
            if attempt < restarts:
                _say(f"start {attempt + 2} of at most {restarts + 1}")
    return code


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


def check(
    command: Sequence[str],
    workers: int,
    hosts: Sequence[str],
    host_index: int | None,
    port: int,
    restarts: int,
    grace: float,
    input_workers: int = 0,
) -> None:
    """Raise InputError for arguments of `run` that cannot be used."""
    if os.name != "posix":
        raise InputError("launch needs Linux or macOS; elsewhere set TF_CONFIG for each process yourself.")
    if not command:
        raise InputError("nothing to launch: end the command with -m MODULE and the module's own flags.")
    for name, value, fine, rule in (
        ("workers", workers, workers >= 1, "at least 1"),
        ("restarts", restarts, restarts >= 0, "0 or more"),
        ("input-workers", input_workers, input_workers >= 0, "0 or more"),
        ("grace", grace, grace >= 0, "0 or more seconds"),
        ("port", port, 1024 <= port <= 65536 - workers, f"1024 to {65536 - workers}"),
    ):
        if not fine:
            raise InputError(f"--{name} {value} cannot be used; give {rule}.")
    if len(set(hosts)) < len(hosts) or not all(hosts):
        raise InputError(f"--hosts {','.join(hosts)}: give the name or address of each host once.")
    if hosts and (host_index is None or not 0 <= host_index < len(hosts)):
        raise InputError(
            f"--host-index {host_index}: say which of the {len(hosts)} hosts this is, 0 to {len(hosts) - 1} "
            "(in a Slurm job $SLURM_NODEID, in a Kubernetes job $JOB_COMPLETION_INDEX)."
        )
    if host_index is not None and not hosts:
        raise InputError(f"--host-index {host_index} needs --hosts with the names of all hosts.")


def devices(workers: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What to add to each worker's environment so that the workers of a host divide its GPUs evenly.

    Raises InputError for fewer GPUs than workers: two processes would take one GPU's memory from each other.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus = [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    else:
        gpus = [str(number) for number in range(_count_gpus())]
    if workers == 1 or not gpus:
        return [{}] * workers
    each = len(gpus) // workers
    if not each:
        raise InputError(
            f"--workers {workers}: this host has {len(gpus)} GPU(s) ({', '.join(gpus)}); give at most as "
            "many workers, or CUDA_VISIBLE_DEVICES=-1 to train on the CPU."
        )
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[number * each : (number + 1) * each])}
        for number in range(workers)
    ]


def _count_gpus() -> int:
    if not shutil.which("nvidia-smi"):
        return 0
    answer = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines()) if not answer.returncode else 0


def _free(count: int) -> list[str]:
    """So many addresses of this host that nobody listens on."""
    with contextlib.ExitStack() as held:  # all at once, so that they differ
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


class _Stop:
    """Notes Ctrl-C, SIGTERM and a lost terminal instead of being ended by them."""

    def __init__(self):
        self.signal, self.times = 0, 0

    def __enter__(self):
        self.previous = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        return self

    def __exit__(self, *error):
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.signal, self.times = self.signal or number, self.times + 1


def _run_once(
    command: Sequence[str],
    addresses: Sequence[str],
    numbers: Sequence[int],
    inputs: Sequence[str],
    grace: float,
    stop: _Stop,
) -> int:
    started: list[Worker] = []
    makers: list[Worker] = []  # of input, at the addresses `inputs`
    with selectors.DefaultSelector() as selector:
        try:
            for number, address in enumerate(inputs):
                added = {"CUDA_VISIBLE_DEVICES": "-1"}  # TensorFlow would take the memory of all GPUs
                makers.append(_start(input_service.command(address), (), f"input {number}", added))
                _listen(selector, makers[-1])
            for number, added in zip(numbers, devices(len(numbers), os.environ), strict=True):
                if inputs:
                    added = added | {input_service.VARIABLE: " ".join(inputs)}
                started.append(_start(command, addresses, number, added))
                _listen(selector, started[-1])
            return _watch(started, makers, selector, grace, stop)
        finally:  # also where starting the second one failed
            _signal([*started, *makers], signal.SIGKILL)
            for worker in (*started, *makers):
                worker.process.wait()
            while _pass_on(selector, 0):
                pass


def _listen(selector: selectors.BaseSelector, worker: Worker) -> None:
    for stream in (worker.process.stdout, worker.process.stderr):
        assert stream is not None  # `_start` asks for pipes
        os.set_blocking(stream.fileno(), False)
        selector.register(stream, selectors.EVENT_READ, (worker, stream))


def _start(
    command: Sequence[str], addresses: Sequence[str], number: int | str, added: dict[str, str]
) -> Worker:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | added
    environment.pop("TF_CONFIG", None)
    if len(addresses) > 1:
        environment["TF_CONFIG"] = cluster.tf_config(addresses, int(number))
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # the terminal's Ctrl-C comes here alone, and is passed on as SIGTERM
        preexec_fn=_end_with_parent(),
    )
    return Worker(number, process)


def _end_with_parent():
    """What a child runs before its program, so that the system kills it when its parent ends."""
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended just before
            os._exit(128 + signal.SIGKILL)

    return ask


def _watch(
    started: list[Worker],
    makers: list[Worker],
    selector: selectors.BaseSelector,
    grace: float,
    stop: _Stop,
) -> int:
    """Until all that train have ended: pass lines on, and end all when one fails or this process is to stop.

    Those that make input are not asked to end: a last step may need them.
    """
    first_failure = deadline = None
    while True:
        _pass_on(selector, 0.02)
        codes = [worker.exit_code() for worker in started]
        # Whatever its code: those that train would wait for it.
        gone = [maker for maker in makers if maker.exit_code() is not None] if None in codes else []
        if gone and first_failure is None:
            first_failure = gone[0].exit_code() or 1
            _say(f"worker {gone[0].number} ended with exit code {gone[0].exit_code()}")
        # A killed one comes before those that failed because it was gone.
        failed = sorted(
            (code < 128, worker.number, code) for worker, code in zip(started, codes, strict=True) if code
        )
        if failed and first_failure is None:
            _, number, first_failure = failed[0]
            _say(f"worker {number} ended with exit code {first_failure}")
        if None not in codes:
            return 128 + stop.signal if stop.signal and any(codes) else first_failure or 0
        if deadline is None and (stop.signal or first_failure is not None):
            deadline = time.monotonic() + (grace if stop.signal else min(grace, AFTER_FAILURE))
            _signal(started, signal.SIGTERM)
        if deadline is not None and (time.monotonic() > deadline or stop.times > 1):
            _signal(started, signal.SIGKILL)


def _signal(started: list[Worker], number: int) -> None:
    for worker in started:
        if worker.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process.pid, number)


def _pass_on(selector: selectors.BaseSelector, seconds: float) -> bool:
    """Write the full lines that the workers have written meanwhile, each with its worker's number; return
    whether there was anything.
    """
    if not selector.get_map():
        time.sleep(seconds)
        return False
    ready = selector.select(seconds)
    for key, _ in ready:
        worker, stream = key.data
        own = sys.stdout if stream is worker.process.stdout else sys.stderr
        found = os.read(stream.fileno(), 65536)
        *lines, rest = (worker.begun.get(stream, b"") + found).split(b"\n")
        if not found:  # the end; a last line may lack its end
            selector.unregister(stream)
            stream.close()
            lines, rest = [rest] if rest else [], b""
        worker.begun[stream] = rest
        for line in lines:
            own.write(f"[{worker.number}] {line.decode(errors='replace')}\n")
        own.flush()
    return bool(ready)
