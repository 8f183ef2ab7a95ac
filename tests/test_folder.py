"""Run folders: refused before anything is written, and every file whole or absent."""

import json
import os

import pandas as pd
import pytest

from runner import folder
from runner.errors import InputError


def test_default_name_is_below_runs_and_not_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder.choose("", "image_classification")
    assert path.parts[:2] == ("runs", "image_classification") and not path.exists()


def test_complete_unfinished_and_unusable_folders_are_refused_in_words(tmp_path):
    complete = tmp_path / "complete"
    folder.write_json(complete / "metrics.json", {})
    with pytest.raises(InputError, match="this run is complete"):
        folder.choose(str(complete), "t")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        folder.choose(str(tmp_path / "other"), "t")
    with pytest.raises(InputError, match="is a file"):
        folder.choose(str(tmp_path / "other" / "file"), "t")
    assert (tmp_path / "other" / "file").read_text() == "mine"
    assert folder.choose(str(tmp_path / "new" / "deep"), "t") == tmp_path / "new" / "deep"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write below"):
        folder.choose(str(tmp_path / "new"), "t")


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = folder.write_json(tmp_path / "record.json", {"value": 1})

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError):
        folder.write(path, fail)
    assert json.loads(path.read_text()) == {"value": 1}
    assert os.listdir(tmp_path) == ["record.json"]


def test_json_has_no_nan_and_csv_reads_back(tmp_path):
    import numpy as np

    path = folder.write_json(
        tmp_path / "a.json", {"x": [float("nan"), np.float32(0.5), np.int64(3)], "ü": "ü"}
    )
    assert json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail) == {
        "x": [None, 0.5, 3],
        "ü": "ü",
    }
    table = pd.DataFrame({"a": [1, 2], "b": ["x,y", 'q"']})
    pd.testing.assert_frame_equal(pd.read_csv(folder.write_csv(tmp_path / "t.csv", table)), table)
