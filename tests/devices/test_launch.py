"""`launch` starts, watches, ends and restarts its workers, and leaves none behind."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from runner.__main__ import parser
from runner.devices import launch
from runner.errors import InputError

REPOSITORY = Path(__file__).parents[2]
WORKER = """
import json, os, signal, sys, time
number = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
def note(*_):
    print("asked to end")
    sys.exit(143)
"""


@pytest.fixture
def start(tmp_path):
    """Starts `launch` on a worker of the given Python lines; they know their `number`."""
    started = []

    def begin(lines: str, *options: str) -> subprocess.Popen:
        (tmp_path / "worker_to_launch.py").write_text(WORKER + lines)
        command = [sys.executable, "-m", "runner", "launch", *options]
        process = subprocess.Popen(
            [*command, "-m", "worker_to_launch", "--flag", "-m"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "FOLDER": str(tmp_path)},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_each_worker_knows_all_of_them_and_its_lines_have_its_number(start):
    lines = "print(os.environ.get('TF_CONFIG')); sys.stderr.write('no end'); print(sys.argv[1:])"
    code, output, errors = ended(start(lines, "--workers", "3"))
    assert code == 0 and sorted(errors.splitlines()) == [f"[{number}] no end" for number in range(3)]
    configs = {}
    for number in range(3):
        first, second = [line[4:] for line in output.splitlines() if line.startswith(f"[{number}] ")]
        configs[number] = json.loads(first)
        assert second == "['--flag', '-m']"
    assert [configs[number]["task"]["index"] for number in range(3)] == [0, 1, 2]
    workers = configs[0]["cluster"]["worker"]
    assert len(set(workers)) == 3
    assert all(config["cluster"]["worker"] == workers for config in configs.values())
    assert ended(start(lines, "--workers", "1"))[1].startswith("[0] None\n")


def test_on_two_hosts_the_second_starts_the_last_workers(start):
    options = ("--workers", "2", "--hosts", "a,b", "--host-index", "1", "--port", "5000")
    code, output, _ = ended(start("print(number, os.environ['TF_CONFIG'])", *options))
    assert code == 0
    assert sorted(line[:5] for line in output.splitlines()) == ["[2] 2", "[3] 3"]
    assert '"worker": ["a:5000", "a:5001", "b:5000", "b:5001"]' in output


def test_when_one_fails_the_others_are_ended_and_its_code_is_returned(start):
    lines = """
if number == 1:
    time.sleep(0.5)
    sys.exit(7)
if number == 2:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as one that waits for another in TensorFlow
else:
    signal.signal(signal.SIGTERM, note)
time.sleep(100)
"""
    begun = time.monotonic()
    code, output, errors = ended(start(lines, "--workers", "3", "--grace", "0.5"))
    assert code == 7 and "launch: worker 1 ended with exit code 7" in errors
    assert "[0] asked to end" in output and time.monotonic() - begun < 20


def test_a_killed_worker_counts_as_the_first_that_failed(start):
    lines = """
if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(100)
"""
    code, _, errors = ended(start(lines, "--workers", "2"))
    assert code == 137 and "worker 1 ended with exit code 137" in errors


def test_all_are_started_again_until_they_succeed_or_no_restart_is_left(start):
    lines = """
with open(os.path.join(os.environ["FOLDER"], f"starts-{number}"), "a+") as file:
    file.write("x")
    file.seek(0)
    starts = len(file.read())
if number == 1 and starts < 3:
    sys.exit(5)
if number == 0 and starts < 3:
    time.sleep(100)
"""
    code, _, errors = ended(start(lines, "--workers", "2", "--restarts", "1"))
    assert code == 5 and "launch: start 2 of at most 2" in errors
    assert ended(start(lines, "--workers", "2", "--restarts", "3"))[0] == 0


def test_wrong_input_is_not_tried_again(start):
    code, output, _ = ended(start("print('tried'); sys.exit(2)", "--workers", "1", "--restarts", "3"))
    assert code == 2 and output == "[0] tried\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_all_in_order_and_nothing_is_started_again(start, number, code):
    lines = "signal.signal(signal.SIGTERM, note); print('ready'); time.sleep(100)"
    process = start(lines, "--workers", "2", "--restarts", "2")
    assert {process.stdout.readline() for _ in range(2)} == {"[0] ready\n", "[1] ready\n"}
    process.send_signal(number)
    found, output, errors = ended(process)
    assert found == code and output.count("asked to end") == 2 and "start 2" not in errors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_no_worker_outlives_a_launch_that_is_killed(start):
    lines = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(100)"
    process = start(lines, "--workers", "2")
    workers = [int(process.stdout.readline()[4:]) for _ in range(2)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(running(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.02)


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"workers": 0}, "--workers 0 cannot be used; give at least 1"),
        ({"restarts": -1}, "--restarts -1"),
        ({"port": 80}, "give 1024 to 65534"),
        ({"hosts": ["a", "b"]}, "say which of the 2 hosts this is"),
        ({"hosts": ["a", "b"], "host_index": 2}, "--host-index 2"),
        ({"hosts": ["a", "a"], "host_index": 0}, "each host once"),
        ({"host_index": 0}, "needs --hosts"),
        ({"command": []}, "end the command with -m MODULE"),
    ],
)
def test_what_cannot_be_launched_is_refused(options, part):
    with pytest.raises(InputError, match=part):
        launch.run(**{"command": ["x"], "workers": 2} | options)


def test_the_workers_of_a_host_divide_its_gpus():
    visible = "CUDA_VISIBLE_DEVICES"
    assert launch.devices(2, {visible: "0,1,2,3"}) == [{visible: "0,1"}, {visible: "2,3"}]
    assert launch.devices(1, {visible: "0,1"}) == [{}]
    assert launch.devices(2, {visible: "-1"}) == launch.devices(2, {visible: ""}) == [{}, {}]
    with pytest.raises(InputError, match="has 2 GPU"):
        launch.devices(3, {visible: "4,5"})


def test_the_files_for_slurm_and_kubernetes_are_whole_and_what_they_start_is_there():
    yaml = pytest.importorskip("yaml")
    script = REPOSITORY / "docs" / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    started = script.read_text().partition("python -m ")[2].split()
    assert started[:2] == ["templates.image_classification.train", "--run-dir"]
    _, job = yaml.safe_load_all((REPOSITORY / "docs" / "kubernetes.yaml").read_text())
    pod, hosts = job["spec"]["template"]["spec"], job["spec"]["completions"]
    command = [part.replace("$(JOB_COMPLETION_INDEX)", "1") for part in pod["containers"][0]["command"]]
    options = parser().parse_args(command[3:])
    assert options.hosts == ",".join(f"thaw-{number}.thaw" for number in range(hosts))
    assert pod["terminationGracePeriodSeconds"] > options.grace
    settings = (options.host_index, options.port, options.restarts, options.grace)
    launch.check(options.module, options.workers, options.hosts.split(","), *settings)
    assert options.module[0] == "templates.image_classification.train"


# ---------------------------------------------------------------- the template, with workers killed


def train(run: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "runner", "launch", "--workers", "2", *options),
            *("-m", "templates.image_classification.train", "--run-dir", str(run), "--no-baselines"),
            *("--deterministic", "--labels-per-class", "7", "--checkpoint-steps", "1", "--dropout", "0.3"),
            *("--stages.0.epochs", "2", "--stages.1.epochs", "2", "--stages.2.epochs", "2"),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def results(run: Path) -> dict:
    """What two equal runs have in common: all but times. Weights as bytes."""
    import pandas as pd

    model = keras.saving.load_model(run / "model.keras")
    return {
        "history": pd.read_csv(run / "history.csv").drop(columns="seconds").to_csv(),
        "ledger": (run / "ledger.csv").read_text(),
        "predictions": (run / "predictions.csv").read_text(),
        "weights": [np.asarray(variable).tobytes() for variable in model.weights],
    }


def workers_of(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kill_workers_and_compare(folder: Path, kills: int, seed: int) -> None:
    """Kill one of two workers at random moments, until `kills` of them; each run ends as one left alone."""
    whole = train(folder / "whole")
    output = whole.communicate(timeout=600)[0]
    assert whole.returncode == 0, output
    expected, at_random = results(folder / "whole"), random.Random(seed)
    killed, agree = [], 0
    while len(killed) < kills:
        run = folder / f"run-{agree}"
        process = train(run, "--restarts", "100")
        while process.poll() is None and len(killed) < kills:
            # After some new checkpoints and a random time; the others of the run go on from these.
            states = run / "checkpoints" / "staged"
            begin, seen, wanted = set(states.glob("epoch-*")), set(), at_random.randint(0, 5)
            while process.poll() is None and len(seen) < wanted:
                seen |= set(states.glob("epoch-*")) - begin
                time.sleep(0.005)
            time.sleep(at_random.uniform(0, 8 if not wanted else 0.5))
            workers = workers_of(process.pid) if process.poll() is None else []
            if (run / "metrics.json").is_file() or not workers:
                break
            number = at_random.randrange(len(workers))
            os.kill(workers[number], signal.SIGKILL)
            killed.append((number, max((path.name for path in states.glob("epoch-*")), default="before any")))
            time.sleep(1)  # launch ends the other and starts both
        output = process.communicate(timeout=900)[0]
        assert process.returncode == 0, output
        assert results(run) == expected, f"after kills of {killed}"
        agree += 1
    print(f"killed {len(killed)} workers, in {agree} runs: {killed}")


@pytest.mark.slow
def test_runs_whose_workers_are_killed_end_as_one_that_was_left_alone(tmp_path):
    kill_workers_and_compare(tmp_path, kills=int(os.environ.get("THAW_KILLS", "3")), seed=0)


@pytest.mark.slow
def test_a_launch_that_is_told_to_end_leaves_a_state_from_which_two_workers_go_on(tmp_path):
    whole = train(tmp_path / "whole")
    assert whole.wait(600) == 0, whole.stdout.read()
    run = tmp_path / "run"
    process, states = train(run), run / "checkpoints" / "staged"
    while process.poll() is None and len(list(states.glob("epoch-00001*"))) < 2:
        time.sleep(0.005)
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143 and "[0] stopped by SIGTERM: state written" in output, output
    process = train(run)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0 and "goes on after epoch" in output, output
    assert results(run) == results(tmp_path / "whole")
