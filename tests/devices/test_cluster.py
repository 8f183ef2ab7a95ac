"""Who trains together, as TF_CONFIG and Slurm say it."""

import json

import pytest

from runner.devices import cluster
from runner.errors import InputError

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NODELIST": "gpu[08-10],login",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_PROCID": "3",
}


def test_tf_config_is_read_as_it_is_written():
    found = cluster.find({"TF_CONFIG": cluster.tf_config(["a:1", "b:2"], 1)})
    assert (found.workers, found.index) == (("a:1", "b:2"), 1)
    assert cluster.find({"TF_CONFIG": found.tf_config()}) == found


def test_a_chief_comes_before_the_workers():
    groups = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    for kind, number, index in (("chief", 0, 0), ("worker", 1, 2)):
        text = json.dumps({"cluster": groups, "task": {"type": kind, "index": number}})
        found = cluster.find({"TF_CONFIG": text})
        assert (found.workers, found.index) == (("a:1", "b:1", "c:1"), index)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": cluster.tf_config(["a:1"], 0)},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},
    ],
    ids=["nothing", "empty", "one worker", "one task"],
)
def test_one_process_trains_alone(environment):
    assert cluster.find(environment) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "cannot be read .JSONDecodeError"),
        ("[]", "cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "cannot be read .KeyError"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "tasks of the type 'ps'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}', "type 'evaluator'"),
        (cluster.tf_config(["a:1", "b:1"], 2), "worker 2, but its cluster has 2"),
        (cluster.tf_config(["a:1", "a:1"], 0), "names a:1 twice"),
    ],
)
def test_a_tf_config_that_cannot_be_right_is_refused_in_one_line(text, part):
    with pytest.raises(InputError, match=part) as error:
        cluster.find({"TF_CONFIG": text})
    assert "\n" not in str(error.value)


def test_slurm_tasks_become_workers_with_consecutive_ports():
    found = cluster.find(SLURM)
    hosts = ("gpu08:16711", "gpu08:16712", "gpu09:16711", "gpu09:16712", "gpu10:16711", "gpu10:16712")
    assert (found.workers, found.index) == ((*hosts, "login:16711"), 3)
    both = cluster.find(SLURM | {"TF_CONFIG": cluster.tf_config(["a:1", "b:2"], 1)})
    assert both.found == "TF_CONFIG"


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"SLURM_STEP_NODELIST": "gpu[3-1]"}, "counts backwards"),
        ({"SLURM_STEP_NODELIST": "gpu[1"}, "no list of hosts"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2x3"}, "no list of tasks"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3)"}, "do not fit together: 4 hosts"),
        ({"SLURM_PROCID": "7"}, "of which this is number 7"),
        ({"SLURM_DISTRIBUTION": "cyclic"}, "--distribution=block"),
    ],
)
def test_slurm_variables_that_cannot_be_right_are_refused(changed, part):
    with pytest.raises(InputError, match=part):
        cluster.find(SLURM | changed)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("one", ["one"]),
        ("a,b.example.org", ["a", "b.example.org"]),
        ("n[1,3,009-011]", ["n1", "n3", "n009", "n010", "n011"]),
        ("r[1-2]n[01-02],x", ["r1n01", "r1n02", "r2n01", "r2n02", "x"]),
        ("gpu[1-2]-ib", ["gpu1-ib", "gpu2-ib"]),
    ],
)
def test_lists_of_hosts(text, hosts):
    assert cluster.expand_hosts(text) == hosts


def test_lists_of_tasks():
    assert cluster.expand_counts("4") == [4] and cluster.expand_counts("2(x3),1") == [2, 2, 2, 1]
