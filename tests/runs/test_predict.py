"""One file of answers and one folder of drawings, whole or not at all."""

import os
from types import SimpleNamespace

import pandas as pd
import pytest

from runner.runs import predict


def template():
    def answers(run, inputs, *, folder, batch_size):
        folder.mkdir()
        for number, name in enumerate(inputs):
            (folder / f"{number}.txt").write_text("drawn")
            yield pd.DataFrame({"path": [name], "prediction": ["=a"], "note": [""]}, [number])

    return SimpleNamespace(predict=answers)


def test_a_disk_that_is_full_at_the_last_moment_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        predict.run(template(), "run", ["x", "y"], tmp_path / "found.csv")
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    result = predict.run(template(), "run", ["x", "=y"], tmp_path / "found.csv")
    assert sorted(os.listdir(tmp_path)) == ["found", "found.csv"] and result.rows == 2
    table = pd.read_csv(result.output)
    assert table["path"].tolist() == ["x", "'=y"] and table["prediction"].tolist() == ["'=a", "'=a"]
