"""Texts to be continued: cut into passages that are the text again, dealt to splits, and read in windows in
which each token is asked for once.
"""

import json
import tempfile

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.examples import ids as ids_of
from runner.errors import InputError
from runner.text import passages
from runner.text.load import load_passages
from runner.text_networks import decoder_weights

hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # else it makes .hypothesis here
PROPERTY = settings(max_examples=200, derandomize=True, database=None, deadline=None)
SENTENCE = "Some words that go on for a line.\n"
BYTES = decoder_weights.of_bytes()


@PROPERTY
@given(st.text(alphabet="ab .\n\tä", max_size=400), st.integers(4, 60))
def test_passages_are_the_text_again_and_none_is_too_long(text, most):
    found = passages.cut(text, most)
    assert "".join(found) == text
    assert all(len(one) <= most for one in found) and (text == "" or all(found))


def test_a_text_is_cut_where_a_reader_would():
    paragraphs = "one one one\n\ntwo two\nthree\n\nfour four four four four"
    assert passages.cut(paragraphs, 30) == ["one one one\n\ntwo two\nthree\n\n", "four four four four four"]
    assert passages.cut("a line\nand another line that is long", 12)[0] == "a line\n"
    assert passages.cut("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_one_text_is_divided_in_its_order(tmp_path):
    (tmp_path / "novel.txt").write_text(SENTENCE * 600)
    found = passages.find(tmp_path / "novel.txt", 0.1, 0.2)
    splits = found.examples["split"].tolist()
    assert splits == sorted(splits, key=["train", "val", "test"].index) and found.in_order
    sizes = pd.Series([len(one) for one in found.read()]).groupby(splits).sum() / (600 * len(SENTENCE))
    assert sizes["val"] == pytest.approx(0.1, abs=0.05) and sizes["test"] == pytest.approx(0.2, abs=0.05)
    assert found.examples["path"].tolist()[:2] == ["novel.txt[0]", "novel.txt[1]"]
    assert (found.examples["group"] == "").all() and "".join(found.read()) == SENTENCE * 600
    # To judge a finished network nothing is divided.
    assert set(passages.find(tmp_path / "novel.txt", 0, 1).examples["split"]) == {""}


@pytest.mark.parametrize("count", [3, 4, 7])
def test_a_short_text_gives_each_split_a_passage(tmp_path, count):
    splits = passages._in_order(["x" * 1000] * count, 0.15, 0.25)
    assert set(splits) == {"train", "val", "test"}
    (tmp_path / "short.txt").write_text(SENTENCE * count)
    assert set(passages.find(tmp_path / "short.txt").examples["split"]) == {"train", "val", "test"}
    assert splits == sorted(splits, key=["train", "val", "test"].index)


def test_many_documents_stay_whole(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text(f"Number {number}.\n" * (200 if number % 2 else 3))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "empty.md").write_text(" \n")
    found = passages.find(tmp_path)
    assert not found.in_order and set(found.examples["split"]) == {""}
    groups = found.examples.groupby(found.documents)["group"].unique()
    assert [one.tolist() for one in groups] == [[f"{n:02}.txt" if n % 2 else ""] for n in range(12)]
    kinds = {(path, kind) for path, kind, _ in found.problems}
    assert kinds == {("picture.png", "missing"), ("bad.txt", "unreadable"), ("empty.md", "blank")}
    data = load_passages(found, BYTES, 32)
    whole = data.manifest.groupby("document")["split"].nunique()
    assert (whole == 1).all() and set(data.manifest["split"]) == {"train", "val", "test"}
    with pytest.raises(InputError, match="files that are no text, such as 'bad.txt'"):
        load_passages(found, BYTES, 32, on_bad_data="stop")


def test_folders_and_tables_bring_their_splits(tmp_path):
    for split in ("train", "validation", "test", "other"):
        (tmp_path / "sets" / split).mkdir(parents=True)
        (tmp_path / "sets" / split / "a.txt").write_text(f"In {split}.")
    found = passages.find(tmp_path / "sets")
    assert dict(zip(found.examples["path"], found.examples["split"], strict=True)) == {
        "train/a.txt": "train",
        "validation/a.txt": "val",
        "test/a.txt": "test",
    }
    assert [row[0] for row in found.problems] == ["other/a.txt"]
    rows = [{"text": "first\nline", "split": "train", "group": "g"}, {"text": "  second ", "split": "dev"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.csv").write_text('text,split,group\n"first\nline",train,g\n"  second ",dev,\n')
    for name in ("rows.jsonl", "rows.csv"):
        found = passages.find(tmp_path / name)
        assert list(found.read()) == ["first\nline", "  second "]
        assert found.examples["split"].tolist() == ["train", "val"]
        assert found.examples["group"].tolist() == ["g", ""]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b" \n\t", "holds no text"),
        ("a.txt", b"\xe4 latin", "is no UTF-8"),
        ("a.csv", b"words\nhello\n", "expected a column text"),
        ("a.csv", b"text,split\nhello,maybe\n", "split 'maybe' in line 2"),
        ("a.pdf", b"%PDF", "a file that is no .txt"),
        ("nowhere.txt", None, "which is not there"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        passages.find(tmp_path / name)
    assert "\n" not in str(error.value)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="without a text file"):
        passages.find(tmp_path / "none")


# ---------------------------------------------------------------- windows


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(2, 12),
    st.booleans(),
    st.data(),
)
def test_each_token_is_asked_for_once_behind_what_stands_before_it(passage, length, shares, data):
    documents = np.sort([document for document, _ in passage])
    tokens = [np.arange(100 * n, 100 * n + size) for n, (_, size) in enumerate(passage)]
    chosen = data.draw(st.sets(st.integers(0, len(passage) - 1), min_size=1))
    ids, context = np.array(sorted(chosen)), length // 2 if shares else 0
    whole, owners = passages.stream(tokens, ids, documents, 9999)
    kept = whole != 9999
    assert whole[kept].tolist() == [one for n in ids for one in tokens[n]]
    assert owners[kept].tolist() == [n for n in ids for _ in tokens[n]]
    ends = [
        n
        for n, after in zip(ids, [*ids[1:], -1], strict=True)
        if after != n + 1 or documents[n] != documents[after]
    ]
    assert whole[0] == whole[-1] == 9999 and owners[1:][~kept[1:]].tolist() == ends
    rows = list(passages.dataset(tokens, ids, documents, length, 9999, context).as_numpy_iterator())
    asked = [(row["label"] != passages.NOTHING, row) for row in rows]
    assert [one for there, row in asked for one in row["label"][there].tolist()] == whole[1:].tolist()
    assert [one for there, row in asked for one in row["owner"][there].tolist()] == owners[1:].tolist()
    assert [row["part"] for row in rows] == list(range(len(rows)))
    place = 0
    for there, row in asked:
        first = np.flatnonzero(there)[0]
        before = row["input"][: first + 1].tolist()
        assert before == whole[place - first : place + 1].tolist() and first >= (context if place else 0)
        assert row["id"] == row["owner"][first]
        place += there.sum()


def test_few_characters_are_taken_from_the_beginnings_of_documents(tmp_path):
    rows = [{"text": f"{n:02} " + SENTENCE * 60, "split": "train"} for n in range(6)]
    rows += [{"text": f"v{n} " + SENTENCE * 60, "split": "val"} for n in range(3)]
    rows += [{"text": "t " + SENTENCE * 60, "split": "test"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = passages.find(tmp_path / "rows.jsonl")
    chosen = {}
    for most in (1500, 3000):
        data = load_passages(found, BYTES, 32, train_characters=most)
        sizes = data.manifest.groupby("split")["characters"].sum()
        assert most <= sizes["train"] < most + passages.PASSAGE
        assert sizes["val"] < most + passages.PASSAGE and sizes["test"] == len(rows[-1]["text"])
        chosen[most] = set(ids_of(data.manifest, "train"))
    assert chosen[1500] < chosen[3000]
    others = [load_passages(found, BYTES, 32, train_characters=1500, seed=seed) for seed in (1, 2, 3)]
    assert any(set(ids_of(other.manifest, "train")) != chosen[1500] for other in others)
    with pytest.raises(InputError, match="train_characters=0"):
        load_passages(found, BYTES, 32, train_characters=0)


def test_texts_of_a_data_set_are_read_and_others_refused(tmp_path, monkeypatch):
    found = passages.find("package_docstrings")
    assert set(found.examples["split"]) == {"train", "val", "test"} and len(found.examples) > 1000
    assert found.examples["path"][0] == "package_docstrings/train[0]" or "[" in found.examples["path"][0]
    with pytest.raises(InputError, match="expected one text"):
        passages.find("digits_plain")
