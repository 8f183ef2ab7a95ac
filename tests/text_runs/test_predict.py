"""`python -m runner predict` on texts: every text keeps its row, in order, and is read as in training."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pandas as pd
import pytest
import scipy.special
import tensorflow as tf

from runner.errors import InputError
from runner.runs import folder, template
from runner.runs import predict as command
from runner.text_networks import encoders, marking
from runner.text_networks.tokens import Tokens
from runner.text_runs import predict
from templates.text_classification import train

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = ["bad", 'go "od"']
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "is", "good", "bad", "."]
WEIGHTS = {"good": 2.0, "bad": -1.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose network adds up what its words weigh: good 2, bad -1.5, all others nothing."""
    folder = tmp_path_factory.mktemp("run")
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(keras_hub.models.BertTokenizer(WORDS, lowercase=True), 8, name="tokenizer")(text)
    embedding = keras.layers.Embedding(len(WORDS), 2, name="head")
    network = keras.Model(text, keras.ops.sum(embedding(ids), axis=1))
    embedding.set_weights([np.array([[0, WEIGHTS.get(word, 0)] for word in WORDS], "float32")])
    network.save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"length": 8}))
    (folder / "metrics.json").write_text(json.dumps({"classes": CLASSES, "temperature": 2.0}))
    (folder / "environment.json").write_text(json.dumps({"template": "templates.text_classification"}))
    return folder


@pytest.fixture
def files(tmp_path):
    """Texts in files and folders of folders, one of which is none, and tables."""
    root = tmp_path / "new texts"
    (root / "b").mkdir(parents=True)
    (root / "a.txt").write_text("Good film.\n")
    (root / "z").write_text("the film is bad")
    (root / "b" / "é.md").write_text("é", encoding="utf-16")
    (root / "b" / "latin.txt").write_bytes(b"good, na\xefve")
    (root / "b" / "table.csv").write_text("text\na,b\n")  # within a folder a file is a text
    (root / ".hidden").write_text("not looked at")
    (root / "b" / "round").symlink_to(root)
    (tmp_path / "rows.csv").write_text('id,text\n1,"good, good"\n2,\n3,bad\n')
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n\n{"text": "is"}\n')
    return root


def names(inputs) -> list[str]:
    return [name for name, _, _ in predict.texts(inputs)]


def message(inputs) -> str:
    with pytest.raises(InputError) as error:
        predict.texts(inputs)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- what the inputs say


def test_files_folders_tables_and_texts_in_their_order(files, tmp_path):
    given = [
        tmp_path / "rows.jsonl",
        "The film\n is  good",
        files,
        str(files / "z"),
        tmp_path / "rows.csv",
        "",
    ]
    found = list(predict.texts(given))
    within = [
        files / "a.txt",
        files / "z",
        files / "b" / "latin.txt",
        files / "b" / "table.csv",
        files / "b" / "é.md",
    ]
    assert [name for name, _, _ in found] == [
        "rows.jsonl:1",
        "rows.jsonl:3",
        "The film is good",
        *map(str, within),
        str(files / "z"),
        "rows.csv:2",
        "rows.csv:3",
        "rows.csv:4",
        "",
    ]
    said = [text for _, text, _ in found]
    assert said[:4] == ["good", "is", "The film\n is  good", "Good film.\n"] and said[6:8] == [
        "text\na,b\n",
        "é",
    ]
    assert said[9:] == ["good, good", "", "bad", ""]
    assert said[5] is None and "0xEF in line 1" in found[5][2]
    assert [note for _, text, note in found if text is not None] == [""] * (len(found) - 1)


def test_a_long_text_is_named_by_its_beginning():
    assert names(["word " * 100]) == [("word " * 100)[: predict.SHOWN]]


@pytest.mark.parametrize(
    "one",
    ["gone.txt", "gone.CSV", "no/such/folder", "./gone", "~/gone.jsonl", "/gone", "my new reviews.csv"],
)
def test_what_looks_like_a_path_and_is_not_there(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"{one} is not there; give texts in quotes, files, folders or tables" in message(["good", one])


@pytest.mark.parametrize(
    "one", ["good", "He said: see notes.txt", "good and/or bad", "x" * 5000, "a\0b", "~\0", "...", "~"]
)
def test_what_is_a_text(one, monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    assert [text for _, text, _ in predict.texts([one])] == [one]


def test_a_folder_with_the_ending_of_a_table_and_an_empty_one(tmp_path):
    (tmp_path / "texts.csv").mkdir()
    assert "texts.csv: no text there; give texts in quotes" in message([tmp_path / "texts.csv"])
    (tmp_path / "texts.csv" / "a").write_text("good")
    assert list(predict.texts([tmp_path / "texts.csv"])) == [(str(tmp_path / "texts.csv" / "a"), "good", "")]
    (tmp_path / "b.csv").write_text("text\n")
    assert "no text there" in message([tmp_path / "b.csv"]) and "nothing: no text there" in message([])


def test_a_table_that_cannot_be_read_stops_before_the_first_text(tmp_path):
    (tmp_path / "b.csv").write_text("sentence\na\n")
    assert "the columns 'sentence'; expected a column text" in message(["good", tmp_path / "b.csv"])


def test_bytes_of_a_command_line_that_are_no_text_keep_their_row():
    found = list(predict.texts([os.fsdecode(b"na\xefve text"), "half \ud83d", "good"]))
    assert [name for name, _, _ in found] == ["na\\udcefve text", "half \\ud83d", "good"]
    assert [text for _, text, _ in found] == [None, None, "good"] and "is no UTF-8" in found[0][2]


# ---------------------------------------------------------------- what a run answers


def test_each_text_has_its_row_and_its_own_prediction(run, files, tmp_path):
    given = [tmp_path / "rows.csv", "Good " * 5 + "bad bad", files / "b" / "latin.txt", "is " * 30 + "good"]
    result = command.run(train, run, given, tmp_path / "out.csv", batch_size=2)
    table = pd.read_csv(result.output, keep_default_na=False)
    assert list(table.columns) == [
        "text",
        "prediction",
        "confidence",
        "note",
        *(f"p:{one}" for one in CLASSES),
    ]
    assert (result.predicted, result.number_unreadable) == (5, 1)
    scores = [4, 0, -1.5, 8.5, None, 0]
    notes = [
        "",
        "empty",
        "",
        "cut off: 8 of 9 tokens were read",
        "is no UTF-8",
        "cut off: 8 of 33 tokens were read",
    ]
    for row, score, note in zip(table.itertuples(index=False), scores, notes, strict=True):
        assert row.note == note if note[:2] != "is" else note in row.note
        if score is None:
            assert row.prediction == "" and list(row[4:]) == ["", ""] and row.confidence == ""
            continue
        p = scipy.special.softmax(np.array([0, score]) / 2)
        assert np.allclose([float(one) for one in row[4:]], p, atol=1e-5)
        assert row.prediction == CLASSES[p.argmax()] and float(row.confidence) == pytest.approx(
            p.max(), abs=1e-5
        )
    assert result.unreadable == [f"{files / 'b' / 'latin.txt'}: {table['note'][4]}"]


def test_batches_are_numbered_through_and_do_not_change_the_answers(run):
    said = [f"{'good ' * (i % 4)}{'bad ' * (i % 3)}film" for i in range(11)]
    whole = pd.concat(predict.class_tables(run, said))
    parts = list(predict.class_tables(run, said, batch_size=4))
    assert [len(one) for one in parts] == [4, 4, 3] and whole.index.tolist() == list(range(11))
    pd.testing.assert_frame_equal(pd.concat(parts), whole)
    assert list(whole["prediction"].cat.categories) == CLASSES and whole["p:bad"].dtype == "float64"


def test_a_threshold_decides_where_the_run_chose_one(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    record = {"positive": CLASSES[1], "threshold": 0.8}
    metrics = {"classes": CLASSES, "operating_point": {"test": record}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    (table,) = predict.class_tables(tmp_path / "run", ["good bad", "good"])
    assert table["prediction"].tolist() == ["bad", CLASSES[1]]  # .62 and .88
    assert list(table.columns)[3] == f"threshold:{CLASSES[1]}" and table.iloc[0, 3] == 0.8
    assert table["confidence"].tolist() == pytest.approx([0.3775, 0.8808], abs=1e-4)


def test_wrong_requests_leave_nothing(run, files, tmp_path):
    kept, empty = tmp_path / "mine.csv", tmp_path / "empty"
    kept.write_text("a year of work")
    empty.mkdir()
    before = {one.name for one in tmp_path.iterdir()}
    for arguments, words in (
        ((run, ["good"], kept), "exists; give another name"),
        ((run, ["good", "gone.txt"], tmp_path / "out.csv"), "gone.txt is not there"),
        ((run, [empty], tmp_path / "out.csv"), "no text there"),
        ((files, ["good"], tmp_path / "out.csv"), "no folder of a run"),
        ((run, ["good"], tmp_path / "out.csv", 0), "at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            command.run(train, *arguments)
    assert kept.read_text() == "a year of work" and {one.name for one in tmp_path.iterdir()} == before


def test_a_run_of_another_kind_or_put_together_of_two_is_refused(run, tmp_path, small_model):
    for name in ("model.keras", "config.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    for record in ({"classes": ["a"]}, {"classes": CLASSES, "temperature": 0}, {"classes": None}, []):
        (tmp_path / "metrics.json").write_text(json.dumps(record))
        with pytest.raises(InputError):
            predict.load(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"classes": list("abcd")}))
    small_model()[0].save(tmp_path / "model.keras")
    with pytest.raises(InputError, match="its network takes no texts; give a run on texts"):
        predict.load(tmp_path)


JUNK = (None, True, 1e300, "words", [1], {"a": 1})


def test_records_of_another_shape_are_one_line(run, tmp_path, monkeypatch):
    """Whatever stands in a stranger's folder: an answer, or one line."""
    place = tmp_path / "strange"
    shutil.copytree(run, place)
    model, record = predict.saved.load(run), json.loads((place / "metrics.json").read_text())
    monkeypatch.setattr(predict.saved, "load", lambda _: model)  # the record is meant
    changed = [junk for junk in JUNK if not isinstance(junk, dict)]
    changed += [record | {name: junk} for name in [*record, "operating_point"] for junk in JUNK]
    changed += [{key: value for key, value in record.items() if key != name} for name in record]
    answered = 0
    for one in changed:
        (place / "metrics.json").write_text(json.dumps(one))
        try:
            package = template.find(place, folder.read_complete(place))
            answered += len(list(template.train(package, "predict").predict(place, ["good"])))
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
    assert answered == 3  # without a temperature, or an operating point, and with a very high temperature


PREDICTS = """
import sys
from runner.text_runs import predict
(table,) = predict.class_tables(sys.argv[1], ["the good film"])
print(table.iloc[0, 4])
"""
GOES_ON = """
import sys
import runner
import numpy
from runner.text_networks import text_weights
tokenizer = text_weights.tokenizer(sys.argv[1])
encoder = text_weights.build("auto", sys.argv[1], 8, tokenizer)
print(numpy.asarray(encoder(numpy.array([[2, 5, 8, 6, 3, 0, 0, 0]]))).sum())
"""


@pytest.mark.slow
def test_a_fresh_process_finds_the_layers_of_an_encoder(tmp_path):
    """Who asks for a run, to predict or as weights, needs no other import."""
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8}
    backbone = keras_hub.models.BertBackbone(vocabulary_size=len(WORDS), max_sequence_length=16, **sizes)
    encoder = encoders.copy(backbone, 8, "small")
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(keras_hub.models.BertTokenizer(WORDS), 8, name="tokenizer")(text)
    hidden = encoders.again(encoder.operations, {encoder.input.name: ids}, encoders.same)
    network = keras.Model(text, keras.layers.Dense(2)(marking.MeanOfTokens()(hidden)))
    network.save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.json").write_text(json.dumps({"classes": CLASSES}))
    said = []
    for code in (PREDICTS, GOES_ON):
        run = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(float(done.stdout))
    logits = network(tf.constant(["the good film"]))
    states = keras.Model(text, hidden)(tf.constant(["the good film"]))
    expected = [scipy.special.softmax(logits)[0, 0], np.asarray(states).sum()]
    assert said == pytest.approx(expected, abs=1e-5)
