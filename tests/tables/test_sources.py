"""Tables from files: encodings, separators, lines that do not fit, Parquet, and TFDS."""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.tables import sources


def write(path, raw):
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


def test_cells_stand_as_they_were_written(tmp_path):
    found = sources.find(write(tmp_path / "a.csv", 'id,note\n007, "a, ""b"""\n,x\n\n8,"two\nlines"\n'))
    assert found.cells.to_dict("list") == {"id": ["007", "", "8"], "note": ['a, "b"', "x", "two\nlines"]}
    assert found.names == ["a.csv:2", "a.csv:3", "a.csv:5"] and found.problems == []


def test_separators_and_encodings(tmp_path):
    semicolons = sources.find(write(tmp_path / "a.csv", "a;b\n1,5;ä\n"))
    assert semicolons.cells.loc[0].tolist() == ["1,5", "ä"]
    assert sources.find(write(tmp_path / "a.tsv", "a\tb\n1\t2,3\n")).cells.loc[0].tolist() == ["1", "2,3"]
    marked = write(tmp_path / "b.csv", "a,b\n1,ä\n".encode("utf-16"))
    assert sources.find(marked).cells.loc[0, "b"] == "ä"
    windows = write(tmp_path / "c.csv", "a,b\n1,2\n3,ä\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"no utf-8: byte 0xE4 in line 3; say what it is \(--encoding"):
        sources.find(windows)
    assert sources.find(windows, "cp1252").cells.loc[1, "b"] == "ä"
    with pytest.raises(InputError, match="no encoding that Python knows"):
        sources.find(windows, "nothing")


def test_lines_that_do_not_fit_are_named_and_left_out(tmp_path):
    found = sources.find(write(tmp_path / "a.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n9,10\n"))
    assert found.cells["a"].tolist() == ["1", "7", "9"] and found.names == ["a.csv:2", "a.csv:5", "a.csv:6"]
    assert [row[:2] for row in found.problems] == [("a.csv:3", "unreadable"), ("a.csv:4", "unreadable")]
    with pytest.raises(InputError, match="3 columns and 2 cells in line 2, as in 2 of 2 lines"):
        sources.find(write(tmp_path / "b.csv", "a,b,c\n1,2\n3,4\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "which is empty"),
        ("a,b\n", "names of columns and no rows"),
        ("a,a\n1,2\n", "two columns called 'a'"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ('a,b\n1,"2\n', "from line 2 on cannot be read"),
        ("a|b\n1|2\n", "separate the cells with commas"),
        ("a,b\n1,\x00\n", "NUL character"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        sources.find(write(tmp_path / "a.csv", text))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="which is not there; give a name from datasets/"):
        sources.find(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"a file that is no \.csv, \.tsv or \.parquet"):
        sources.find(write(tmp_path / "a.xlsx", "x"))


def test_parquet_has_the_cells_of_csv(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "n": [1.0, np.nan, 2.5],
            "w": ["a", None, "b"],
            "d": pd.to_datetime(["2024-03-05", None, "2020-02-29"]),
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    cells = sources.find(tmp_path / "a.parquet").cells
    assert cells["n"].tolist() == ["1", "", "2.5"] and cells["w"].tolist() == ["a", "", "b"]
    assert [one[:10] for one in cells["d"]] == ["2024-03-05", "", "2020-02-29"]
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        sources.find(write(tmp_path / "b.parquet", "no"))


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    def lacks(path):
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd, "read_parquet", lacks)
    with pytest.raises(InputError, match="pip install pyarrow"):
        sources.find(write(tmp_path / "a.parquet", "x"))
