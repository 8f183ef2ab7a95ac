"""A run folder is one process's from when it is chosen, and what killed ones left in it is cleared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import atomic
from runner.errors import InputError
from runner.runs import folder, lock

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="no file locks")


@pytest.fixture(autouse=True)
def no_lock_is_left():
    yield
    for path in list(lock.LOCKS):
        lock.release(path)
    lock.MADE.clear()


def complete(run: Path) -> Path:
    (run / "checkpoints" / "staged").mkdir(parents=True)
    for name in ("config.json", "metrics.json", ".lock", ".report-abcd1234.html", ".model-x_y_z_99.keras"):
        (run / name).write_text("{}")
    (run / ".mine.html").write_text("not a half-written file of a run")
    return run


def test_a_lock_that_is_a_link_is_refused_and_what_it_names_stays(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="cannot be locked"):
        lock.take(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "mine"
    (tmp_path / "run" / ".lock").unlink()
    (tmp_path / "run" / ".lock").mkdir()
    with pytest.raises(InputError, match="cannot be locked"):
        lock.take(tmp_path / "run")


def test_a_lock_that_is_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(InputError, match="no regular file"):
        lock.take(tmp_path)


def test_the_file_is_not_emptied_and_goes_with_the_hold(tmp_path):
    (tmp_path / ".lock").write_text("mine")
    assert lock.take(tmp_path) and lock.take(tmp_path)
    assert (tmp_path / ".lock").read_text() == "mine"
    lock.release(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_in_complete_runs_goes_with_the_next_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, begun = complete(Path("runs/t/complete")), complete(Path("runs/t/unfinished"))
    (begun / "metrics.json").unlink()
    Path("runs/t/reserved").mkdir()
    Path("runs/t/reserved/.lock").touch()
    Path("runs/t/mine").mkdir()
    lock.release(folder.choose("", "t", {"seed": 1}))
    assert sorted(os.listdir(run)) == [".mine.html", "config.json", "metrics.json"]
    assert sorted(os.listdir("runs/t")) == ["complete", "mine", "unfinished"]
    assert (begun / "checkpoints").is_dir() and (begun / ".report-abcd1234.html").exists()
    with pytest.raises(InputError, match="this run is complete"):
        folder.choose(str(complete(Path("elsewhere"))), "t", {})
    assert sorted(os.listdir("elsewhere")) == [".mine.html", "config.json", "metrics.json"]


def test_every_file_of_a_run_is_known_while_it_is_written_and_no_other(tmp_path):
    for name in folder.FILES | {"reference.npz", "truth.csv", "groups.csv"}:
        seen: list[Path] = []
        atomic.write(tmp_path / name, seen.append)
        assert lock.HALF.fullmatch(seen[0].name) and not lock.HALF.fullmatch(name)
    for name in (".notes-20241231.md", ".model.keras", "model-abcdefgh.keras", ".report-abc.html", ".lock"):
        assert not lock.HALF.fullmatch(name)


def test_a_complete_run_that_another_process_is_at_is_left_alone(tmp_path):
    run = complete(tmp_path / "runs")
    code = (
        "import sys; from pathlib import Path; from runner.runs import lock;"
        f"assert lock.take(Path({str(run)!r})); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert other.stdout.readline() == b"held\n"
        lock.clear_all(tmp_path)
        assert (run / "checkpoints").is_dir() and not lock.take(run)
    finally:
        other.communicate(b"")
    lock.clear_all(tmp_path)
    assert not (run / "checkpoints").exists()


def test_starts_of_one_second_get_a_folder_each(tmp_path):
    code = (
        "import sys, pandas as pd; from runner.runs import folder\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(5):\n"
        "    settings = {'seed': int(sys.argv[1])}\n"
        "    run = folder.choose('', 't', settings)\n"
        "    assert not folder.begin(run, settings, pd.DataFrame({'path': ['a']}))\n"
        "    print(run, flush=True)\n"
        "sys.stdin.readline()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    starts = [subprocess.Popen([sys.executable, "-c", code, str(seed)], **options) for seed in range(4)]
    for one in starts:
        assert one.stdout.readline() == "ready\n"
    for one in starts:
        one.stdin.write("\n")
        one.stdin.flush()
    taken = [[one.stdout.readline().strip() for _ in range(5)] for one in starts]
    for one in starts:
        one.communicate("\n")
    assert [one.returncode for one in starts] == [0] * 4
    assert len({run for runs in taken for run in runs}) == 20
    for seed, runs in enumerate(taken):
        assert all(f'"seed": {seed}' in (tmp_path / run / "config.json").read_text() for run in runs)
