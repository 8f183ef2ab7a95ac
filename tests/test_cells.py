"""What a spreadsheet would run is written so that it does not, and read back as it was."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import atomic, cells
from runner.data import source
from runner.runs import folder, pairing
from runner.runs import predict as command

TEXTS = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "'=1", "''-x", "'x", "plain", "", "a=b", "-", "=", "'"]
TEXTS += ["-5", "+1.5e3"]  # numbers, which are no formulas


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_comes_back(text):
    written = cells.neutral_text(text)
    assert cells.original_text(written) == text
    assert written[:1] not in tuple("=+-@\t\r") or text in ("-5", "+1.5e3", "", "-", "=")


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("'=+-@\t\rx5. "), max_size=6))
def test_any_text_comes_back(text):
    written = cells.neutral_text(text)
    assert cells.original_text(written) == text
    assert (
        not cells._FORMULA.match(written.lstrip("'")) or written[0] == "'" or cells._NUMBER.fullmatch(written)
    )


def test_a_table_comes_back_with_its_header_numbers_and_categories(tmp_path):
    table = pd.DataFrame(
        {
            "path": TEXTS,
            "=head": TEXTS[::-1],
            "label": pd.Categorical(TEXTS, TEXTS),
            "value": np.linspace(-1, 1, len(TEXTS)),
            "whole": -np.arange(len(TEXTS)),
        }
    )
    path = atomic.write_csv(tmp_path / "t.csv", table)
    again = cells.read(path, keep_default_na=False, dtype={"path": str, "=head": str, "label": str})
    pd.testing.assert_frame_equal(again, table.assign(label=table["label"].astype(str)), check_dtype=False)
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "'=head", "label", "value", "whole"]
    assert [row[0] for row in rows[:4]] == ["'=1+1", "'+cmd", "'-x", "'@SUM(A1)"]
    plain = pd.DataFrame({"id": [1, 2], "label": ["a", None], "value": [-0.5, np.nan]})
    assert atomic.write_csv(path, plain).read_text() == plain.to_csv(index=False)


def test_a_carriage_return_ends_no_row(tmp_path):
    table = pd.DataFrame({"path": ["a\rb.png", "\r=1", "c\nd"], "number": [1, 2, 3]})
    again = cells.read(atomic.write_csv(tmp_path / "t.csv", table))
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_what_predict_writes_is_neutral(tmp_path):
    result = command.Result(tmp_path / "out.csv")
    table = pd.DataFrame({"path": ["=a.png"], "prediction": ["-x"], "note": [""], "p:=c": [-0.5]})
    command._write(result.output, [table], result)
    assert result.output.read_text() == "path,prediction,note,p:=c\n'=a.png,'-x,,-0.5\n"
    pd.testing.assert_frame_equal(cells.read(result.output, keep_default_na=False), table, check_dtype=False)


def test_an_unfinished_run_knows_its_data_again_and_runs_are_paired(tmp_path):
    manifest = pd.DataFrame(
        {
            "path": ["=a.png", "-b.png", "'+c.png"],
            "split": ["train", "test", "val"],
            "label": pd.Categorical(["@x", "=y", "@x"]),
            "group": ["", "-1", "-g"],
            "sha256": ["1", "2", "3"],
        }
    )
    atomic.write_csv(tmp_path / "manifest.csv", manifest)
    folder._check_same_data(tmp_path, manifest)
    tested = pairing._tested(tmp_path)
    assert tested[["label", "group"]].to_numpy().tolist() == [["=y", "-1"]]


def test_a_manifest_can_be_given_as_data(tmp_path):
    names = ["=a.png", "-b.png", "c.png"]
    for name in names:
        Path(tmp_path / name).write_text("")
    table = pd.DataFrame({"path": names, "label": ["@x", "=y", "z"], "group": ["+g", "", ""]})
    atomic.write_csv(tmp_path / "list.csv", table)
    found = source.table(tmp_path / "list.csv")
    assert found.examples["path"].tolist() == ["'=a.png", "'-b.png", "c.png"]  # as the file has them
    assert [Path(file).name for file in found.read()] == names
    assert found.examples["label"].tolist() == ["@x", "=y", "z"] and found.examples["group"][0] == "+g"
    assert json.dumps(found.classes)
