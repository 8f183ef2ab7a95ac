"""Tables of texts without labels: read row by row as the labelled ones are, or a line says what is wrong."""

import codecs
import json

import numpy as np
import pytest

from runner.errors import InputError
from runner.text import tables


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message(path) -> str:
    with pytest.raises(InputError) as error:
        tables.texts(path)
    assert "\n" not in str(error.value) and f"Received {str(path)!r}" in str(error.value)
    return str(error.value)


def test_csv_needs_no_label(tmp_path):
    path = write(tmp_path / "a.CSV", ' Text ,id\n" A, film ",1\n\n"Two\r\nlines, ""quoted""",2\n,3\n')
    assert tables.texts(path) == [
        ("a.CSV:2", " A, film "),
        ("a.CSV:4", 'Two\r\nlines, "quoted"'),
        ("a.CSV:6", ""),
    ]
    assert tables.texts(write(tmp_path / "b.csv", "text\na\n\nb\n")) == [("b.csv:2", "a"), ("b.csv:4", "b")]
    labelled = write(tmp_path / "c.csv", codecs.BOM_UTF8 + "label,text\n,Äpfel\nx,😀\u2028\n".encode())
    assert tables.texts(labelled) == [("c.csv:2", "Äpfel"), ("c.csv:3", "😀\u2028")]


def test_tsv_keeps_what_stands_there(tmp_path):
    path = write(tmp_path / "a.tsv", 'id\ttext\n1\t" never closed\n2\ta, b\n')
    assert tables.texts(path) == [("a.tsv:2", '" never closed'), ("a.tsv:3", "a, b")]


def test_json_lines_need_a_text_alone(tmp_path):
    rows = [{"text": " a\n\u2028b "}, {"text": ""}, {"text": "c", "label": 1, "more": [1]}]
    path = write(
        tmp_path / "a.ndjson", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n"
    )
    assert tables.texts(path) == [("a.ndjson:1", " a\n\u2028b "), ("a.ndjson:3", ""), ("a.ndjson:5", "c")]


def test_a_header_alone_has_no_texts(tmp_path):
    assert tables.texts(write(tmp_path / "a.csv", "text,label\n")) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "nothing in it"),
        ("a.csv", "\n \n", "nothing in it"),
        ("a.jsonl", "\n", "nothing in it"),
        ("a.csv", "sentence,label\na,b\n", "the columns 'sentence', 'label'; expected a column text"),
        ("a.csv", "text,Text\na,b\n", "the columns 'text', 'text'; expected a column text"),
        ("a.csv", "text,id\na, b,1\n", "3 cells in line 2 and 2 columns; put cells that hold what separates"),
        ("a.csv", 'text\n"never closed\n', "row from line 2 on cannot be read (a quote opens a cell"),
        ("a.tsv", "text,id\na,1\n", "the columns 'text,id'; expected a column text"),
        ("a.csv", b"text\nna\xefve\n", "is no UTF-8: 0xEF in line 2"),
        ("a.csv", b"text\nx\0y\n", "NUL character in line 2"),
        ("a.jsonl", '{"label": "x"}\n', "keys 'label' in line 1; expected an object with text"),
        ("a.jsonl", '{"text": 5}\n', "text 5 in line 1; give a string"),
        ("a.jsonl", '{"text": "a"\n', "line 1 is no JSON"),
    ],
)
def test_what_a_person_has_to_put_right(tmp_path, name, content, said):
    assert said in message(write(tmp_path / name, content))


def test_a_table_that_cannot_be_opened(tmp_path):
    assert "cannot be read: No such file" in message(tmp_path / "gone.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read: Is a directory" in message(tmp_path / "folder.csv")


WHOLE = {
    "csv": 'text,label,split\n"A, ""film""\nof two lines",good,train\nÄpfel 😀,bad,test\n'.encode(),
    "tsv": b'text\tlabel\n"quoted ""twice"""\tgood\n" open\tbad\nplain\tgood\n',
    "jsonl": b'{"text": "a\\u00e9\\n", "label": 1}\n\n{"text": "", "label": "x", "weight": 2}\n',
}


def test_five_hundred_damaged_tables_are_read_or_refused_in_a_line(tmp_path):
    """Bits, bytes and parts of a table are changed, by the number of the trial."""
    read = 0
    for number in range(500):
        random, kind = np.random.default_rng(number), list(WHOLE)[number % 3]
        data = bytearray(WHOLE[kind])
        for _ in range(random.integers(1, 4)):
            place, what = random.integers(len(data)), random.integers(5)
            if what == 0:
                data[place] ^= 1 << int(random.integers(8))
            elif what == 1:
                data[place] = random.choice(list(b'"\t,\n\r{}[]\\:\0\xff\xef\xbb'))
            elif what == 2:
                data = data[: place + 1]
            elif what == 3:
                data[place:place] = data[random.integers(len(data)) :][: random.integers(1, 40)]
            else:
                del data[place : place + random.integers(1, 9)]
                data = data or bytearray(b"x")
        path = write(tmp_path / f"a.{kind}", bytes(data))
        for reader in (tables.texts, lambda one: list(tables.find(one).read())):
            try:
                found = reader(path)
                read += all(isinstance(one, str) or isinstance(one[1], str) for one in found)
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000, number
    assert 100 < read < 900
