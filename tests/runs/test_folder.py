"""Run folders: refused before anything is written, and every file whole or absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from runner import atomic, cells
from runner.errors import InputError
from runner.runs import folder, lock, pairing, predict


@pytest.fixture(autouse=True)
def nothing_held():
    """No test leaves a lock to the next."""
    yield
    for path in list(lock.LOCKS):
        lock.release(path)
    lock.MADE.clear()


def test_the_default_name_is_below_runs_and_reserved_until_a_run_begins_or_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder.choose("", "image_classification", {})
    assert path.parts[:2] == ("runs", "image_classification") and os.listdir(path) == [".lock"]
    other = folder.choose("", "image_classification", {})
    assert other != path and other.name.startswith(path.name[:16])  # the same minute, another folder
    lock.release(other)
    assert path.exists() and not other.exists()
    lock.release(path)
    assert os.listdir(tmp_path) == []


def test_a_start_that_is_stopped_before_there_is_a_run_leaves_a_folder_for_the_next(tmp_path):
    for name in (".lock", "manifest.csv", ".manifest-abcdefgh.csv"):
        (tmp_path / name).write_text("")
    assert folder.choose(str(tmp_path), "t", {}) == tmp_path
    assert not folder.begin(tmp_path, {}, pd.DataFrame({"path": ["a"]}))
    assert sorted(os.listdir(tmp_path)) == [".lock", "config.json", "manifest.csv"]
    lock.release(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "manifest.csv"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a" * 256, "a part of 256 bytes; give names of at most 255"),
        ("a/" + "ü" * 128 + "/b", "a part of 256 bytes"),
        ("a\0b", "a character of number 0"),
        ("caf\udce9", "is no UTF-8"),
        ("a/" * 2000, "more than 3968 bytes"),
    ],
)
def test_a_name_that_no_system_has_is_refused_at_once(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as error:
        folder.choose(name, "t", {})
    assert (
        str(error.value).startswith("--run-dir ")
        and str(error.value).encode()
        and "\n" not in str(error.value)
    )
    with pytest.raises(InputError, match=said):
        predict.check(name, 1)
    assert os.listdir(tmp_path) == []
    assert atomic.place("a" * 255, "--run-dir") == Path("a" * 255)


JUNK = ("{", "[]", "3", "null", '"words"', "[" * 100_000, "", "\0", '{"a": 1}')


@pytest.mark.parametrize("text", JUNK)
def test_a_folder_with_other_json_blocks_no_start(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("config.json", "metrics.json")):
        run = Path(f"runs/t/{number}")
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.json").write_text('{"seed": 1}')
        (run / name).write_text(text)
    path = folder.choose("", "t", {"seed": 1})
    assert path.parent == Path("runs/t") and path.name not in "01"
    if text != '{"a": 1}':
        for given, read in (("0", folder.read_json), ("1", folder.read_json)):
            with pytest.raises(InputError, match="is damaged") as error:
                read(Path("runs/t", given, "config.json" if given == "0" else "metrics.json"))
            assert "\n" not in str(error.value)
        with pytest.raises(InputError, match="is damaged"):
            folder.choose("runs/t/0", "t", {"seed": 1})


@pytest.mark.parametrize(
    "record",
    [
        {"classes": 3},
        {"classes": [["a"]]},
        {"classes": ["a", "a"]},
        {"test": []},
        {"test": {"accuracy": "high"}},
        {"test": {"accuracy_interval": 0.5}},
        {"test": {"accuracy_interval": [0.1, 0.2, 0.3]}},
        {"test": {"accuracy": [1]}},
    ],
)
def test_metrics_of_another_shape_are_named(tmp_path, record):
    atomic.write_json(tmp_path / "metrics.json", record)
    with pytest.raises(InputError, match="metrics.json is damaged"):
        folder.read_metrics(tmp_path)
    fine = {"classes": ["a", 1], "test": {"accuracy": 0.5, "accuracy_interval": [0, None], "ap_small": None}}
    atomic.write_json(tmp_path / "metrics.json", fine)
    assert folder.read_metrics(tmp_path) == fine | {"classes": ["a", "1"]}
    atomic.write_json(tmp_path / "metrics.json", {})
    assert folder.read_metrics(tmp_path) == {"classes": [], "test": {}}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.json")
    with pytest.raises(InputError, match="no regular file"):
        folder.read_json(tmp_path / "metrics.json")
    os.mkfifo(tmp_path / "manifest.csv")
    with pytest.raises(InputError, match="no regular file"):
        pairing.read_csv(tmp_path / "manifest.csv")


WORDS = ["=1+1", "+cmd", "-a/1.png", "@SUM(A1)", "\t=1"]
STAY = ["-1", "+1.5e-3", "-", "+", "a=1", "'a", "", ".5"]


def test_what_a_spreadsheet_would_run_gets_an_apostrophe(tmp_path):
    table = pd.DataFrame({"path": WORDS + STAY, "number": -1.5, "both": [*range(12), "=x"]})
    table["label"] = pd.Categorical(WORDS + STAY)
    table["text"] = table["path"].astype("string")
    atomic.write_csv(tmp_path / "t.csv", table)
    read = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    for name in ("path", "label", "text"):
        assert read[name].tolist() == [f"'{one}" for one in WORDS] + STAY
    assert set(read["number"]) == {"-1.5"} and read["both"].tolist()[-2:] == ["11", "'=x"]
    assert table["path"].tolist() == WORDS + STAY  # as it was
    again = cells.read(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert again["path"].tolist() == again["label"].tolist() == WORDS + STAY
    # A run goes on with such names, also one that began before they were written so.
    manifest = pd.DataFrame(
        {"path": ["=1+1", "b"], "label": pd.Categorical(["-x", "-1"]), "sha256": ["a", "b"]}
    )
    assert not folder.begin(tmp_path / "run", {}, manifest)
    assert folder.begin(tmp_path / "run", {}, manifest)
    manifest.iloc[:1].to_csv(tmp_path / "run" / "manifest.csv", index=False)
    assert folder.begin(tmp_path / "run", {}, manifest.iloc[:1])
    with pytest.raises(InputError, match="on other data"):
        folder.begin(tmp_path / "run", {}, manifest)


def test_two_at_once_get_a_folder_each(tmp_path):
    names = [folder.make_unused(tmp_path / "deep" / "photos").name for _ in range(3)]
    assert names == ["photos", "photos-2", "photos-3"]
    with pytest.raises(InputError, match="--output .* exists"):
        folder.make(tmp_path / "deep" / "photos", "--output")


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
    lock.release(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists() and (begun / "config.json").read_text() == "{"


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
    with pytest.raises(InputError, match=r"began with seed 1 \(now 2\)"):  # compared under the lock
        folder.begin(tmp_path / "run", {"seed": 2}, manifest)
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


@pytest.mark.skipif(lock.fcntl is None, reason="no file locks")
def test_a_folder_that_another_process_writes_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, manifest = Path("runs/t/a"), pd.DataFrame({"path": ["a"]})
    folder.begin(run, {}, manifest)
    (run / "checkpoints").mkdir()
    lock.release(run)
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
