"""Every form of labelled texts is read character by character, and what cannot be read is said in a line."""

import codecs
import json
import os

import pytest

from runner.errors import InputError
from runner.text import sources

EXAMPLES = ["path", "label", "split", "group", "subgroup"]


def message(source) -> str:
    """The one line that finding answers with."""
    with pytest.raises(InputError) as error:
        list(sources.find(source).read())
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path, content: str | bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(source) -> list[str]:
    found = sources.find(source)
    first = list(found.read())
    assert list(found.read()) == first and len(first) == len(found.examples)
    return first


# ---------------------------------------------------------------- CSV


def test_a_csv_file_with_all_its_columns(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "label,text,split,group,subgroup,weight,more\n"
        "good,  A film. ,Training,g1,de,2,x\n"
        'bad,"Two\r\nlines, and ""quotes""",dev,g2,,0.5,\n'
        "\n"
        "'=good,third,test,g3,,1,\n",
    )
    found = sources.find(path)
    assert list(found.examples) == [*EXAMPLES, "weight"]
    assert found.examples["path"].tolist() == ["a.csv:2", "a.csv:3", "a.csv:6"]  # where a row begins
    assert found.examples["split"].tolist() == ["train", "val", "test"]
    assert found.examples["weight"].tolist() == [2.0, 0.5, 1.0]
    assert found.examples["subgroup"].tolist() == ["de", "", ""]
    assert found.classes == ("=good", "bad", "good") and found.name == str(path)
    assert texts(path) == ["  A film. ", 'Two\r\nlines, and "quotes"', "third"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
def test_encodings(tmp_path, encoding, mark):
    content = "text,label\nÄpfel 😀\u2028und,gut\nx,schlecht\n"
    path = write(tmp_path / "a.csv", mark + content.encode(encoding))
    assert texts(path) == ["Äpfel 😀\u2028und", "x"]
    assert sources.find(path).classes == ("gut", "schlecht")


def test_a_text_longer_than_the_csv_module_allows(tmp_path):
    import csv

    long, limit = "wort " * 50_000, csv.field_size_limit()
    assert texts(write(tmp_path / "a.csv", f'text,label\n"{long}",a\nb,b\n'))[0] == long
    assert csv.field_size_limit() == limit


def test_an_empty_text_is_kept_for_the_checks(tmp_path):
    assert texts(write(tmp_path / "a.csv", "text,label\n,a\n \t,b\n")) == ["", " \t"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "which is empty; expected the columns text,label"),
        ("text,label\n", "has a header and no rows"),
        ("sentence,label\na,b\n", "columns 'sentence', 'label'; expected text,label"),
        ("text;label\na;b\n", "Separate the cells with commas."),
        ("text,label\na, b,c\n", "3 cells in line 2 and 2 columns; put cells that contain a comma in double"),
        ("text,label\na,x\nb,\n", "empty label in line 3; fill it in"),
        ("text,label,split\na,x,train\nb,x,\n", "empty split in line 3; fill it in or leave the column out"),
        ("text,label,split\na,x,trian\n", "split 'trian' in line 2; allowed: train, val, test. Did you mean"),
        ("text,label,split\na,x,test\n", "no 'train'; mark the rows to train on"),
        ("text,label,weight\na,x,-1\n", "weight '-1' in line 2; give a number from 0"),
        (
            'text,label\na,x\n"never closed,x\nb,y\n',
            "row from line 3 on cannot be read (a quote opens a cell",
        ),
        ('text,label\n"one" two,x\n', "row from line 2 on cannot be read"),
        (b"text,label\nok,a\nna\xefve,b\n", "is no UTF-8: 0xEF in line 3, at byte 18; save it in UTF-8"),
        (b"text,label\nok,a\nx\0y,b\n", "NUL character in line 3, at byte 17"),
        ("text,label\nok,a\n".encode("utf-16-le"), "NUL character in line 1, at byte 1"),
        (codecs.BOM_UTF16_LE + b"a\0\n\0\x00\xd8", "is no UTF-16: 0x00 0xD8 in line 2, at byte 6"),
    ],
)
def test_what_a_person_has_to_put_right(tmp_path, content, said):
    path = write(tmp_path / "a.csv", content)
    assert f"Received data={str(path)!r}" in message(path) and said in message(path)


# ---------------------------------------------------------------- TSV


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a b,c\tx\nd\ty\n", ["a b,c", "d"]),
        ('" never closed\tx\nd\ty\n', ['" never closed', "d"]),
        ('" quoted as such "\tx\nd\ty\n', ['" quoted as such "', "d"]),
        ('"He said ""no"""\tx\nd\ty\n', ['He said "no"', "d"]),
        ('"He said ""no"""\tx\n"\ty\n', ['"He said ""no"""', '"']),  # in doubt they stay
        ('"two\nlines"\tx\n"a\ttab"\ty\n', ["two\nlines", "a\ttab"]),
    ],
)
def test_a_tsv_file_with_and_without_quotes(tmp_path, content, expected):
    path = write(tmp_path / "a.tsv", "text\tlabel\n" + content)
    assert texts(path) == expected
    assert sources.find(path).examples["label"].tolist() == ["x", "y"]


def test_a_tsv_file_whose_header_is_quoted_too(tmp_path):
    path = write(tmp_path / "a.tsv", '"text"\t"label"\n"one"\t"x"\n"two"\t"y"\n')
    assert texts(path) == ["one", "two"] and sources.find(path).classes == ("x", "y")


def test_a_tab_too_many_is_said(tmp_path):
    path = write(tmp_path / "a.tsv", "text\tlabel\na\tb\tx\nc\ty\n")
    assert "3 cells in line 2 and 2 columns; put cells that contain a tab in double quotes" in message(path)
    assert "Separate the cells with tabs" in message(write(tmp_path / "b.tsv", "text,label\na,x\n"))


# ---------------------------------------------------------------- JSON Lines


def test_json_lines(tmp_path):
    rows = [
        {"text": " a\n\u2028b ", "label": 1, "split": "train", "weight": 2.5, "more": [1]},
        {"label": "0", "text": "", "split": "test", "weight": 1, "group": None},
    ]
    path = write(
        tmp_path / "a.jsonl", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n"
    )
    found = sources.find(path)
    assert texts(path) == [" a\n\u2028b ", ""]
    assert found.classes == ("0", "1") and found.examples["path"].tolist() == ["a.jsonl:1", "a.jsonl:3"]
    assert found.examples["weight"].tolist() == [2.5, 1.0] and found.examples["group"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", "label": "x"', "line 2 is no JSON"),
        ('["a", "x"]', "with no object in line 2; expected an object with text,label"),
        ('{"sentence": "a", "label": "x"}', "keys 'sentence', 'label' in line 2"),
        ('{"text": "a", "text": "b", "label": "x"}', "the key 'text' stands there twice"),
        ('{"text": 5, "label": "x"}', "text 5 in line 2; give a string"),
        ('{"text": null, "label": "x"}', "text null in line 2; give a string"),
        ('{"text": "a", "label": true}', "label true in line 2; give a string or a whole number"),
        ('{"text": "a", "label": 1.0}', "label 1.0 in line 2"),
        ('{"text": "a", "label": null}', "empty label in line 2"),
        ('{"text": "a\\u0000", "label": "x"}', "a NUL character in the text of line 2"),
        ('{"text": "\\ud83d", "label": "x"}', "half of a surrogate pair in the text of line 2"),
        ('{"text": "a", "label": "x", "weight": "much"}', "with weight '' in lines 1, 2; give a number"),
        ("[" * 100_000, "line 2 is no JSON"),
    ],
)
def test_json_lines_that_a_person_has_to_put_right(tmp_path, line, said):
    path = write(tmp_path / "a.jsonl", '{"text": "first", "label": "y"}\n' + line + "\n")
    assert said in message(path)


# ---------------------------------------------------------------- folders


def test_a_folder_per_class_and_what_is_no_text_in_it(tmp_path):
    write(tmp_path / "good" / "1.txt", "\ufeff Fine.\r\n")
    write(tmp_path / "good" / "2.txt", codecs.BOM_UTF16_BE + "Größe".encode("utf-16-be"))
    write(tmp_path / "bad" / "1.txt", b"na\xefve")
    write(tmp_path / "bad" / "2", "no ending")
    write(tmp_path / "bad" / "3.png", b"\x89PNG\r\n\x1a\n\0\0")
    os.symlink(tmp_path / "nowhere", tmp_path / "bad" / "4.txt")
    found = sources.find(tmp_path)
    assert texts(tmp_path) == ["no ending", " Fine.\r\n", "Größe"]
    assert found.examples["path"].tolist() == ["bad/2", "good/1.txt", "good/2.txt"]
    assert found.examples["label"].tolist() == ["bad", "good", "good"] and found.classes == ("bad", "good")
    assert [(path, kind) for path, kind, _ in found.problems] == [
        (f"bad/{name}", "unreadable") for name in ("1.txt", "3.png", "4.txt")
    ]
    assert "0xEF in line 1, at byte 2" in found.problems[0][2]


def test_folders_of_splits(tmp_path):
    for split in ("train", "validation", "test"):
        for name in ("bad", "good"):
            write(tmp_path / split / name / "a.txt", f"{split} {name}")
    found = sources.find(tmp_path)
    assert found.examples["split"].tolist() == ["test", "test", "train", "train", "val", "val"]
    assert list(found.read())[0] == "test bad"


def test_folders_that_are_laid_out_otherwise(tmp_path):
    write(tmp_path / "loose" / "a.txt", "x")
    assert "1 texts without class folders; expected CLASS/text or SPLIT/CLASS/text" in message(
        tmp_path / "loose"
    )
    write(tmp_path / "none" / "a" / "x.txt", b"\0")
    write(tmp_path / "none" / "b" / "x.txt", b"\xff\xfa")
    assert "of whose 2 files none is a text, such as 'a/x.txt', which has a NUL" in message(tmp_path / "none")
    write(tmp_path / "deep" / "a" / "b" / "x.txt", "x")
    assert "holds one folder that holds more" in message(tmp_path / "deep")


def test_what_is_not_there_or_of_another_kind(tmp_path):
    write(tmp_path / "a.zip", "PK")
    assert "a file that is no .csv, .tsv or .jsonl; unpack archives" in message(tmp_path / "a.zip")
    write(tmp_path / "reviews.csv", "text,label\n")
    answer = message(tmp_path / "review.csv")
    assert "which is not there; give a name from datasets/" in answer and "reviews.csv'?" in answer
    assert "which is not there" in message("x" * 5000)
    assert "give a name from datasets/" in message("")


# ---------------------------------------------------------------- TFDS


def test_a_builder_with_texts_and_one_with_pictures(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr("runner.data.source.ROOT", tmp_path)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "prepared"))
    code = """
import tensorflow_datasets as tfds

class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["bad", "good"])
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"INPUT": tfds.features.KIND, "label": label})
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split):
        for i in range(4):
            yield i, {"INPUT": f" {split} é{i}\\n".encode(BYTES), "label": i % 2}
"""
    for name, given, kind, encoding in (
        ("notes", "sentence", "Text()", "'utf-8'"),
        ("old", "text", "Text()", "'latin-1'"),
        ("photos", "image", "Image(shape=(8, 8, 3))", "'utf-8'"),
    ):
        folder = tmp_path / "datasets" / name
        write(folder / "__init__.py", "")
        content = code.replace("INPUT", given).replace("KIND", kind).replace("BYTES", encoding)
        write(folder / f"{name}_dataset_builder.py", content)
    found = sources.find("notes")
    assert texts("notes")[found.examples["path"].tolist().index("notes/test[0]")].startswith(" test é")
    assert found.examples["split"].value_counts().to_dict() == {"train": 4, "test": 4}
    assert "whose text 'old/train[0]' is no UTF-8: 0xE9 in line 1, at byte 7" in message("old")
    assert "features image, label; expected one text (text) and one class label" in message("photos")
