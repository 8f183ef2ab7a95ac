"""A finished run finds entities in new texts of any length, to the character, and says so in tables."""

import functools
import json
import re
import shutil

import keras
import keras_hub
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.runs import predict as command
from runner.text import entities as sources
from runner.text import tags
from runner.text_networks.tokens import Tokens
from runner.text_networks.words import Columns, Words
from runner.text_runs import entities, export, predict
from templates.token_classification import train

CLASSES = ["person", 'pla "ce"']
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "ann",
    "lee",
    "rome",
    "in",
    ".",
    "cafe",
    "##s",
    "中",
]
TAGS = {"ann": 1, "lee": 2, "rome": 3, "中": 4}
"""What the network says of each word: person begins, person goes on, place begins, place goes on."""
LENGTH = 8
COLUMNS = ["text", "entities", "class", "form", "score", "start", "end", "note"]


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Each network is loaded and traced once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict.saved, "load", functools.cache(predict.saved.load))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose network knows the tag of each word by heart, and reads 6 tokens at a time."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = keras_hub.models.BertTokenizer(VOCABULARY, lowercase=True, strip_accents=True)
    text = keras.Input((), dtype="string", name="text")
    packed = Words(tokenizer, LENGTH, name="tokenizer")(text)
    embedding = keras.layers.Embedding(len(VOCABULARY), tags.count(2), name="head")
    logits = embedding(Columns((0,), name="tokens")(packed))
    embedding.set_weights([4.0 * np.eye(5, dtype="float32")[[TAGS.get(one, 0) for one in VOCABULARY]]])
    keras.Model(text, {"logits": logits, "words": Columns((1, 2), name="words")(packed)}).save(
        folder / "model.keras"
    )
    (folder / "config.json").write_text(json.dumps({"length": LENGTH}))
    (folder / "metrics.json").write_text(json.dumps({"classes": CLASSES}))
    (folder / "environment.json").write_text(json.dumps({"template": "templates.token_classification"}))
    return folder


@pytest.fixture(scope="module")
def of_classes(tmp_path_factory):
    """A run that tells two classes of texts apart."""
    folder = tmp_path_factory.mktemp("classes")
    text = keras.Input((), dtype="string", name="text")
    ids = Tokens(keras_hub.models.BertTokenizer(VOCABULARY), LENGTH, name="tokenizer")(text)
    summed = keras.ops.sum(keras.layers.Embedding(len(VOCABULARY), 2, name="head")(ids), axis=1)
    keras.Model(text, summed).save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"length": LENGTH}))
    (folder / "metrics.json").write_text(json.dumps({"classes": ["a", "b"]}))
    (folder / "environment.json").write_text(json.dumps({"template": "templates.text_classification"}))
    return folder


def expected(text: str) -> list[tuple]:
    """The entities of a text of these words, found without any of what is tested."""
    found, before = [], 0
    for one in re.finditer(r"[^\s.中]+|[.中]", text):
        tag = TAGS.get(one[0].lower(), 0)
        if tag in (1, 3):
            found.append((one.start(), one.end(), CLASSES[tag // 2]))
        elif tag and before in (tag, tag - 1):
            found[-1] = (found[-1][0], one.end(), found[-1][2])
        else:
            tag = 0
        before = tag
    return found


def spans_of(table: pd.DataFrame) -> list[list[tuple]]:
    """Of each text of a table its entities."""
    named = table.assign(**{"class": table["class"].astype(object)})
    return [
        [
            (row.start, row.end, row[1])
            for row in rows.dropna(subset="class")[["start", "class", "end"]].itertuples(index=False)
        ]
        for _, rows in named.groupby(level=0)
    ]


SHORT = [
    "Ann Lee in Rome.",
    "in Rome",
    "none is here",
    "Ann Lee Ann",
    "Rome中中 \U0001f600 Cafés\u00a0Ann",
    "",
]


def test_each_entity_has_its_row_and_a_text_without_any_has_one(run, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"Ann, na\xefve")
    (tmp_path / "rows.csv").write_text("text\nAnn in Rome\n\n")
    given = [SHORT[0], SHORT[2], tmp_path / "latin.txt", " \n", tmp_path / "rows.csv"]
    (table,) = entities.tables(run, given, None)
    assert list(table.columns) == COLUMNS
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert kinds["entities"] == kinds["start"] == kinds["end"] == "Int64" and kinds["score"] == "float64"
    assert table["class"].cat.categories.tolist() == CLASSES
    assert table.index.tolist()[:6] == [0, 0, 1, 2, 3, 4] and table["text"].iloc[5] == "rows.csv:2"
    assert table["form"].tolist()[:2] == ["Ann Lee", "Rome"] and table["entities"].tolist()[:2] == [2, 2]
    assert table[["start", "end"]].iloc[:2].to_numpy().tolist() == [[0, 7], [11, 15]]
    sure = (np.exp(4) + 1) / (np.exp(4) + 4)  # of its type, whether it begins or goes on
    assert table["score"].iloc[:2].tolist() == pytest.approx([sure, sure], abs=1e-6)
    none, unread, empty = (table.iloc[place] for place in (2, 3, 4))
    assert none["entities"] == 0 and none["note"] == "" and empty["entities"] == 0
    assert none[["class", "form", "score", "start", "end"]].isna().all() and empty["note"] == "empty"
    assert unread[["entities", "class", "form", "score", "start", "end"]].isna().all()
    assert "is no UTF-8: 0xEF" in unread["note"]


def test_entities_stand_where_they_are_said_to_whatever_is_around_them(run):
    (table,) = entities.tables(run, [*SHORT, "İn e\u0301 Ann", "\u200b Rome\u3000Lee"], None)
    assert spans_of(table)[:5] == [expected(text) for text in SHORT[:5]]
    assert [row[0][:2] for row in spans_of(table)[6:]] == [(6, 9), (2, 6)]


@pytest.mark.parametrize("shift", range(7))
def test_in_texts_of_several_windows_all_are_found_also_across_their_borders(run, shift):
    """Every word of an entity comes to lie at the border of two windows once."""
    words = "in . in Ann Lee Lee . Rome 中 中 in . Ann Lee in".split() * 6
    text = "\n".join([*["in"] * shift, *words]) + " \U0001f600\u00a0Ann  Lee"
    assert len(words) > 10 * LENGTH and len(expected(text)) == 19
    (table,) = entities.tables(run, [text], None)
    assert spans_of(table) == [expected(text)] and (table["entities"] == 19).all()
    assert table["form"].tolist() == [text[start:end] for start, end, _ in expected(text)]


def test_an_entity_longer_than_a_window_is_one(run):
    text = "in Ann " + "Lee " * 40 + "in Rome"
    (table,) = entities.tables(run, [text], None)
    assert spans_of(table) == [expected(text)] and table["form"].iloc[0] == "Ann" + " Lee" * 40


def test_batches_are_numbered_through_and_do_not_change_the_answers(run, tmp_path):
    random = np.random.default_rng(0)
    given = [
        " ".join(random.choice(["Ann", "Lee", "Rome", "in", "x"], random.integers(0, 30))) for _ in range(11)
    ]
    given[4] = str(tmp_path / "bad")
    (tmp_path / "bad").write_bytes(b"\xff\xfe\xff")
    whole = pd.concat(entities.tables(run, given, None))
    parts = list(entities.tables(run, given, None, batch_size=4))
    assert [one.index.nunique() for one in parts] == [4, 4, 3]
    assert whole.index.unique().tolist() == list(range(11))
    pd.testing.assert_frame_equal(pd.concat(parts), whole)
    assert all(one.dtypes.equals(whole.dtypes) for one in parts)


def test_batches_in_which_nothing_can_be_read_or_is_found(run, tmp_path):
    (tmp_path / "bad").write_bytes(b"\xff\xff")
    tables = list(entities.tables(run, [tmp_path / "bad", "in", "Ann"], tmp_path / "out", batch_size=1))
    assert [list(one.columns) for one in tables] == [COLUMNS] * 3
    assert all(one.dtypes.drop("form").equals(tables[2].dtypes.drop("form")) for one in tables)
    written = (tmp_path / "out" / entities.JSON_LINES).read_text(encoding="utf-8").splitlines()
    assert [json.loads(one) for one in written] == [
        {"text": "in", "entities": []},
        {"text": "Ann", "entities": [[0, 3, "person"]]},
    ]


def test_what_is_written_can_be_read_as_data_again(run, tmp_path):
    long = "in Ann Lee . Rome\t" * 9
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    given = [*SHORT, long, tmp_path / "bad.txt", 'a "quoted" \u2028 Ann\\ \x85 Rome']
    result = command.run(train, run, given, tmp_path / "found.csv", batch_size=3)
    assert (result.predicted, result.number_unreadable) == (8, 1) and result.folder == tmp_path / "found"
    assert [one.name for one in result.folder.iterdir()] == [entities.JSON_LINES]
    found = sources.find(result.folder / entities.JSON_LINES)
    said = [one for one in given if isinstance(one, str)]
    assert list(found.read()) == said
    assert set(found.classes) == set(CLASSES)
    assert [list(one) for one in found.spans][:5] == [expected(text) for text in said[:5]]
    assert list(found.spans[6]) == expected(long)
    table = pd.read_csv(tmp_path / "found.csv", keep_default_na=False)
    assert list(table.columns) == COLUMNS and table["text"].iloc[0] == SHORT[0]
    rows = table[table["class"] != ""]
    assert len(rows) == sum(map(len, found.spans)) and result.rows == len(table)
    assert {path.name for path in tmp_path.iterdir()} == {"found.csv", "found", "bad.txt"}


@pytest.mark.parametrize(("text", "words"), [("Ann in Rome", "Ann"), ("in", ""), ("", "")])
def test_the_answer_to_one_text_is_said_in_words(run, tmp_path, text, words):
    result = command.run(train, run, [text], tmp_path / "found.csv")
    said = command.in_words(result.only)
    assert words in said and "nan" not in said.lower() and "<NA>" not in said


def test_what_a_run_was_not_made_for_is_refused_in_one_line(run, of_classes, tmp_path):
    for call, place in (
        (lambda: list(entities.tables(of_classes, ["Ann"], tmp_path / "out")), of_classes),
        (lambda: list(predict.class_tables(run, ["Ann"])), run),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert "\n" not in str(error.value) and str(place) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_run_put_together_of_two_is_refused(run, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(run, place)
    (place / "metrics.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    with pytest.raises(InputError, match="names 3 classes, the model has 5 tags"):
        list(entities.tables(place, ["Ann"], None))
    with pytest.raises(InputError, match="is not there; give texts in quotes"):
        list(entities.tables(run, ["gone.txt"], None))


# ---------------------------------------------------------------- in the windows of a split


def test_answers_of_windows_are_put_together_text_by_text():
    known = {
        "id": np.array([3, 3, 5, 9]),
        "starts": np.array([[-1, 0, 4], [-1, -1, 8], [-1, 0, -1], [-1, -1, -1]]),
        "ends": np.array([[-1, 3, 7], [-1, -1, 11], [-1, 5, -1], [-1, -1, -1]]),
    }
    logits = 6.0 * np.eye(5)[[0, 1, 2, 3]]  # the entity of text 3 goes on in its second window
    found = entities.found(known, logits, np.array([3, 4, 5, 9]), ("x", "y"))
    assert list(found.columns) == ["id", "class", "start", "end", "score"]
    rows = found.drop(columns="score").itertuples(index=False, name=None)
    assert list(rows) == [(3, "x", 4, 11), (5, "y", 0, 5)]
    assert found["score"].between(0.9, 1).all() and found[["id", "start", "end"]].dtypes.eq("int64").all()
    nothing = entities.found(known, 6.0 * np.eye(5)[[0] * 4], np.array([3, 4, 5, 9]), ("x", "y"))
    assert len(nothing) == 0 and nothing.dtypes.drop("class").equals(found.dtypes.drop("class"))
    with pytest.raises(ValueError, match="do not stand after each other"):
        entities.found(known | {"id": np.array([5, 3, 5, 9])}, logits, np.array([3, 5, 9]), ("x", "y"))


def test_the_exported_network_of_token_ids_gives_the_same_logits(run):
    model = keras.models.load_model(run / "model.keras", compile=False)
    texts = tf.constant(SHORT)
    packed = model.get_layer("tokenizer")(texts)
    of_ids = export.of_ids(model, None)
    assert of_ids.input.shape == (None, None)
    np.testing.assert_array_equal(of_ids(packed[..., 0]), model(texts)["logits"])
    np.testing.assert_array_equal(packed[..., 1:], model(texts)["words"])
