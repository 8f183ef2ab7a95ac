"""Run folders: refused before anything is written, and every file whole or absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from runner import atomic
from runner.errors import InputError
from runner.runs import folder


def test_default_name_is_below_runs_and_not_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder.choose("", "image_classification", {})
    assert path.parts[:2] == ("runs", "image_classification") and not path.exists()


def test_complete_unfinished_and_unusable_folders_are_refused_in_words(tmp_path):
    complete = tmp_path / "complete"
    atomic.write_json(complete / "metrics.json", {})
    with pytest.raises(InputError, match="this run is complete"):
        folder.choose(str(complete), "t", {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        folder.choose(str(tmp_path / "other"), "t", {})
    with pytest.raises(InputError, match="is a file"):
        folder.choose(str(tmp_path / "other" / "file"), "t", {})
    assert (tmp_path / "other" / "file").read_text() == "mine"
    begun = tmp_path / "begun"
    atomic.write_json(begun / "config.json", {"seed": 1, "run_dir": "x"})
    assert folder.choose(str(begun), "t", {"seed": 1, "run_dir": "y"}) == begun
    with pytest.raises(InputError, match=r"began with seed 1 \(now 2\)"):
        folder.choose(str(begun), "t", {"seed": 2, "run_dir": "x"})
    (begun / "config.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        folder.choose(str(begun), "t", {})
    assert folder.choose(str(tmp_path / "new" / "deep"), "t", {}) == tmp_path / "new" / "deep"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write below"):
        folder.choose(str(tmp_path / "new"), "t", {})


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = atomic.write_json(tmp_path / "record.json", {"value": 1})

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError):
        atomic.write(path, fail)
    assert json.loads(path.read_text()) == {"value": 1}
    assert os.listdir(tmp_path) == ["record.json"]


def test_json_has_no_nan_and_csv_reads_back(tmp_path):
    import numpy as np

    path = atomic.write_json(
        tmp_path / "a.json", {"x": [float("nan"), np.float32(0.5), np.int64(3)], "ü": "ü"}
    )
    assert json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail) == {
        "x": [None, 0.5, 3],
        "ü": "ü",
    }
    table = pd.DataFrame({"a": [1, 2], "b": ["x,y", 'q"']})
    pd.testing.assert_frame_equal(pd.read_csv(atomic.write_csv(tmp_path / "t.csv", table)), table)


def test_an_unfinished_run_goes_on_with_the_same_data_only(tmp_path):
    manifest = pd.DataFrame({"path": ["a", "b"], "label": ["001", ""], "sha256": ["1e5", "f"]})
    assert not folder.begin(tmp_path / "run", {"seed": 1}, manifest)
    assert folder.begin(tmp_path / "run", {"seed": 1}, manifest)
    with pytest.raises(InputError, match="on other data"):
        folder.begin(tmp_path / "run", {"seed": 1}, manifest.assign(sha256=["1e5", "e"]))
    (tmp_path / "run" / "manifest.csv").write_text("")
    with pytest.raises(InputError, match="is damaged"):
        folder.begin(tmp_path / "run", {"seed": 1}, manifest)
    folder.end(tmp_path / "run")


def test_the_same_command_finds_its_unfinished_run_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = pd.DataFrame({"path": ["a"]})
    begun = folder.choose("", "t", {"seed": 1})
    folder.begin(begun, {"seed": 1}, manifest)
    assert folder.choose("", "t", {"seed": 1}) != begun  # it has no state to go on from
    (begun / "checkpoints").mkdir()
    assert folder.choose("", "t", {"seed": 1}) == begun
    assert folder.choose("", "t", {"seed": 2}) != begun
    atomic.write_json(begun / "metrics.json", {})
    assert folder.choose("", "t", {"seed": 1}) != begun
    folder.end(begun)
    assert sorted(path.name for path in begun.iterdir()) == ["config.json", "manifest.csv", "metrics.json"]


@pytest.mark.skipif(folder.fcntl is None, reason="no file locks")
def test_a_folder_that_another_process_writes_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, manifest = Path("runs/t/a"), pd.DataFrame({"path": ["a"]})
    folder.begin(run, {}, manifest)
    (run / "checkpoints").mkdir()
    folder.LOCKS.clear()  # closes the file, which lets go of the folder
    code = (
        "import sys; from pathlib import Path; import pandas as pd; from runner.runs import folder;"
        "folder.begin(Path('runs/t/a'), {}, pd.DataFrame({'path': ['a']})); print('begun', flush=True);"
        "sys.stdin.read()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(folder.__file__).parents[2])}
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        assert other.stdout.readline() == b"begun\n"
        assert folder.choose("", "t", {}) != run
        with pytest.raises(InputError, match="another process"):
            folder.begin(run, {}, manifest)
    finally:
        other.kill()
        other.communicate()
    assert folder.choose("", "t", {}) == run
    assert folder.begin(run, {}, manifest)
    folder.end(run)
