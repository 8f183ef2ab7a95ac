"""This template on some dozen short texts: it learns, moves what it says it moves, and leaves a complete run
folder whose network takes texts.
"""

import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import evaluate, folder
from runner.scores import entities
from runner.stage import Stage
from runner.text import tags
from runner.text_networks.words import Words
from runner.training import baselines as arms

from . import method, rival, sections, train
from .config import Config

CLASSES = ["a", "b"]
NAMES = [tags.named(one, CLASSES) for one in range(5)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kept activations go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


def said(*words: str) -> dict:
    """A text of these words; people and places are marked, of several words joined by "_"."""
    text, spans = "", []
    for word in words:
        plain = word.split("/")[0].replace("_", " ")
        if "/" in word:
            spans.append([len(text), len(text) + len(plain), word.split("/")[1]])
        text += f"{plain} "
    return {"text": text.strip(), "entities": spans}


@pytest.fixture(scope="module")
def rows():
    """48 texts with people of two words, and places; of some whoever marked them forgot the people."""
    people = [f"{first}_{last}" for first in ("Ann", "Bob", "Eve", "Max") for last in ("Lee", "Ray")]
    texts = [
        (person, verb, f"{place}/place")
        for person in people
        for place in ("Rome", "Paris", "Oslo")
        for verb in ("saw", "left")
    ]
    return [
        said("today", person if number % 7 == 3 else f"{person}/person", verb, place, ".")
        for number, (person, verb, place) in enumerate(texts)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def table(tmp_path, rows):
    return write(tmp_path / "notes.jsonl", rows)


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        backbone="BERT-tiny",
        weights="none",
        length=16,
        batch_size=8,
        scratch_lengths=(1,),
        stages=(
            Stage("head", train="head", epochs=1, learning_rate=0.01),
            Stage("top", train="top:1", epochs=1, learning_rate=1e-3),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


def keys(table: pd.DataFrame) -> set[tuple]:
    return set(table[entities.COLUMNS].itertuples(index=False, name=None))


@pytest.fixture(scope="module")
def run(tmp_path_factory, rows):
    """A run without baselines, that all tests share."""
    place = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(place / "cache"))
        return train.main(small_config(place, write(place / "notes.jsonl", rows), baselines=False))


def answered(run, inputs: list) -> pd.DataFrame:
    """The entities that a run finds in texts, id the number of the text."""
    found = pd.concat(train.predict(run, inputs, batch_size=5)).rename_axis("id").reset_index()
    return found.dropna(subset="class").astype({"class": str, "start": int, "end": int})


def test_a_run_leaves_everything_it_promises(run, rows):
    assert {path.name for path in run.iterdir()} == folder.FILES | {"truth.csv"}
    page = (run / "report.html").read_text()
    assert "could not be" not in (run / "report.html").read_text()
    assert all(one in page for one in ("By type", "With faults, the most first", "What goes wrong"))
    assert "pictures" not in page.split("</style>")[1] and "BatchNorm" not in page
    assert "pictures" not in (run / "MODEL_CARD.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["classes"] == ["person", "place"] and metrics["baselines"] == {}
    manifest = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    ids = np.flatnonzero(manifest["split"] == "test")
    found, truth = (pd.read_csv(run / f"{name}.csv") for name in ("predictions", "truth"))
    assert pd.read_csv(run / "test_readings.csv")["pictures"].tolist() == [len(ids)]
    again = entities.metrics(found, truth, metrics["classes"], ids)
    assert metrics["test"]["f1"] == pytest.approx(again["f1"]) and 0.5 < again["f1"] < 1
    assert keys(truth) == {
        (one, kind, start, end) for one in ids for start, end, kind in rows[one]["entities"]
    }
    assert found["right"].tolist() == [
        one in keys(truth) for one in found[entities.COLUMNS].itertuples(index=False, name=None)
    ]
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert frozen["block"].tolist() == ["embeddings", "transformer_layer_0", "transformer_layer_1"]
    assert frozen[["moved", "relative_change"]].to_numpy().sum() == 0
    top = ledger.query("stage == 'top'").set_index("block")["moved"]
    assert top["transformer_layer_1"] == 16 and top["transformer_layer_0"] == top["embeddings"] == 0

    # The saved model takes texts and finds what it was tested with.
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert any(isinstance(layer, Words) for layer in model.layers)
    answers = model(tf.constant([rows[one]["text"] for one in ids]))
    logits, words = (np.asarray(answers[name]) for name in ("logits", "words"))
    assert logits.shape == (len(ids), 16, 5) and words.shape == (len(ids), 16, 2)
    seen = set()
    for one, row, ends in zip(ids, logits, words, strict=True):
        there = ends[:, 0] >= 0
        spans = tags.spans(ends[there], row[there], metrics["classes"])
        seen |= {(one, kind, start, end) for (start, end, kind), _ in spans}
    assert seen == keys(found)


@pytest.mark.slow
def test_a_run_is_compared_with_what_costs_less(tmp_path, table):
    run = train.main(small_config(tmp_path, table))
    assert {path.name for path in run.iterdir()} == folder.FILES | {"truth.csv"}
    metrics = json.loads((run / "metrics.json").read_text())
    rivals = {"from scratch", "frozen backbone", "fine-tuned at once", arms.GAZETTEER, arms.MOST_FREQUENT}
    assert set(metrics["baselines"]) == rivals
    compared = pd.read_csv(run / "comparison.csv").set_index("method")
    assert set(compared.index) == rivals | {"staged"}
    assert compared.loc[arms.GAZETTEER, "trainable_parameters"] == 0
    assert compared["test_f1"].between(0, 1).all()
    page = (run / "report.html").read_text()
    assert "could not be" not in page and arms.GAZETTEER in page


def test_labelled_texts_are_judged_as_they_are_answered(run, tmp_path, rows):
    """Also long ones, in several windows; and where the data lacks a type, whose number the next one has."""
    spans, at = [], 0
    for row in rows[:6]:
        spans += [[start + at, end + at, kind] for start, end, kind in row["entities"]]
        at += len(row["text"]) + 1
    whole = [*rows, {"text": " ".join(row["text"] for row in rows[:6]), "entities": spans}]
    path = write(tmp_path / "whole.jsonl", whole)
    answers = answered(run, [str(path)])
    assert answers["text"].iloc[0] == "whole.jsonl:1" and (answers["id"] == 48).any()
    manifest = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    ids = np.flatnonzero(manifest["split"] == "test")
    assert keys(answers[answers["id"].isin(ids)]) == keys(pd.read_csv(run / "predictions.csv"))
    judged = evaluate.run(train, Config, run, str(path), tmp_path / "judged")
    assert keys(pd.read_csv(judged.folder / "predictions.csv")) == keys(answers)
    wanted = entities.table([[tuple(span) for span in row["entities"]] for row in whole], range(49))
    expected = entities.metrics(answers, wanted, ["person", "place"], range(49))
    assert judged.metrics["f1"] == pytest.approx(expected["f1"]) and len(judged.seen) == 48 - len(ids)

    some = [row | {"entities": [one for one in row["entities"] if one[2] == "place"]} for row in whole]
    path = write(tmp_path / "some.jsonl", some)
    places = evaluate.run(train, Config, run, str(path), tmp_path / "places")
    types = [pd.read_csv(one.folder / "per_class.csv").set_index("class") for one in (judged, places)]
    assert types[0].loc["place"].equals(types[1].loc["place"])
    assert types[1].loc["person", "support"] == 0 and places.metrics["entities"] == 48 + 6
    path = write(tmp_path / "other.jsonl", [said("in", "Rome/river")])
    with pytest.raises(InputError, match="does not know the class 'river'"):
        evaluate.run(train, Config, run, str(path), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_mistakes_are_found_before_anything_is_written(tmp_path, table):
    with pytest.raises(InputError, match="length=7"):
        small_config(tmp_path, table, length=7)
    with pytest.raises(InputError, match="monitor='val_accuracy'"):
        small_config(tmp_path, table, monitor="val_accuracy")
    with pytest.raises(InputError, match="a learning_rate and a backbone_rate for each"):
        small_config(tmp_path, table, stages=(Stage("all", train="all", learning_rate=None),))
    with pytest.raises(InputError, match="this backbone has 3 blocks"):
        train.main(small_config(tmp_path, table, stages=(Stage("top", train="top:99"),)))
    with pytest.raises(InputError, match="Unknown encoder 'BERT-huge'"):
        train.main(small_config(tmp_path, table, backbone="BERT-huge"))
    with pytest.raises(InputError, match="minilm"):
        train.main(small_config(tmp_path, table, weights="minilmm"))
    with pytest.raises(InputError, match="which is not there"):
        train.main(small_config(tmp_path, tmp_path / "nowhere.jsonl"))
    write(tmp_path / "none.jsonl", [said("nothing", "here")])
    with pytest.raises(InputError, match="not a single entity"):
        train.main(small_config(tmp_path, tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="train_examples"):
        train.main(small_config(tmp_path, table, train_examples=1000))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- the loss and the score


def legal(random: np.random.Generator, count: int) -> list[int]:
    """Tags of two types, where I follows its own alone."""
    path, before = [], 0
    for _ in range(count):
        goes_on = [2] * 3 if before in (1, 2) else [4] * 3 if before in (3, 4) else []
        before = int(random.choice([0, 0, 1, 3, *goes_on]))
        path.append(before)
    return path


def tagged(seed: int, count: int = 120, length: int = 12) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Labels (count, length) with places that are not asked, answers, of which many are right and some stand
    for nothing, and how many entities are right, found and there.
    """
    random = np.random.default_rng(seed)
    labels, answers, counts = [], [], np.zeros(3, int)
    for _ in range(count):
        asked = random.random(length) < random.choice([0.0, 0.7, 1.0], p=[0.05, 0.8, 0.15])
        label = np.full(length, tags.NONE)
        label[asked] = legal(random, asked.sum())
        answer = np.where((random.random(length) < 0.7) & asked, label, random.integers(0, 5, length))
        sets = [set(entities.spans([NAMES[one] for one in row[asked]])) for row in (answer, label)]
        counts += [len(sets[0] & sets[1]), len(sets[0]), len(sets[1])]
        labels.append(label)
        answers.append(answer)
    return np.array(labels, "int32"), np.array(answers), counts.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_entities_are_counted_as_the_scores_count_them(seed):
    labels, answers, expected = tagged(seed)
    logits = np.eye(5, dtype="float32")[answers] * 3
    assert np.asarray(method.right_found_wanted(tf.constant(labels), logits)).tolist() == expected
    any_length = tf.function(
        method.right_found_wanted,
        input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None, 5], tf.float32)],
    )
    assert any_length(labels, logits).numpy().tolist() == expected
    right, found, wanted = expected
    score = method.F1()
    for part in (slice(0, 50), slice(50, 51), slice(51, None)):
        score.update_state(labels[part], logits[part])
    assert float(score.result()) == pytest.approx(2 * right / (found + wanted), abs=1e-6)
    score.reset_state()
    assert float(score.result()) == 0


@pytest.mark.parametrize(
    ("wanted", "answered", "expected"),
    [
        ([1, 2, 0], [1, 2, 0], (1, 1, 1)),
        ([1, 2, 0], [1, 2, 2], (0, 1, 1)),  # goes on too far
        ([1, 2, 2], [1, 2, 0], (0, 1, 1)),  # ends too soon
        ([1, 1, 0], [1, 2, 0], (0, 1, 2)),  # two that are one in the answer
        ([1, 2, 0], [1, 1, 0], (0, 2, 1)),
        ([1, 2, 0], [3, 4, 0], (0, 1, 1)),  # another type
        ([1, 3, 4], [1, 3, 4], (2, 2, 2)),
        ([0, 1, 2], [0, 2, 2], (1, 1, 1)),  # an I behind O begins one, as conlleval has it
        ([1, 2, 2], [1, 4, 2], (0, 3, 1)),
        ([1, -1, 2], [1, 0, 2], (1, 1, 1)),  # what is not asked is not there
        ([-1, 1, -1], [3, 1, 2], (1, 1, 1)),
        ([-1, -1, -1], [1, 2, 3], (0, 0, 0)),
        ([0, 0, 0], [0, 0, 0], (0, 0, 0)),
    ],
)
def test_an_entity_is_right_as_a_whole_or_not(wanted, answered, expected):
    logits = np.eye(5, dtype="float32")[answered][None]
    found = method.right_found_wanted(tf.constant([wanted], tf.int32), logits)
    assert tuple(np.asarray(found).tolist()) == expected


def test_the_loss_counts_each_word_alike_and_parts_add_up():
    labels, _, _ = tagged(0, 8, 6)
    logits = np.random.default_rng(1).normal(size=(8, 6, 5)).astype("float32")
    asked = labels >= 0
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    by_hand = -np.take_along_axis(chances, np.where(asked, labels, 0)[..., None], -1)[..., 0] * asked
    words = asked.sum() / 8
    loss = method.Loss(words=words)
    np.testing.assert_allclose(loss.call(labels, logits), by_hand.sum(1) / words, rtol=1e-5)
    whole = float(loss(labels, logits))
    assert whole == pytest.approx(by_hand.sum() / asked.sum(), rel=1e-5)  # the mean over words
    halves = [float(loss(labels[part], logits[part])) for part in (slice(0, 4), slice(4, 8))]
    assert np.mean(halves) == pytest.approx(whole, rel=1e-5)
    # What is not asked moves nothing, whatever stands there, and neither does padding.
    changed = np.where(asked[..., None], logits, 50 * logits)
    assert float(loss(labels, changed)) == pytest.approx(whole, rel=1e-5)
    longer = np.pad(labels, ((0, 0), (0, 3)), constant_values=tags.NONE)
    assert float(loss(longer, np.pad(logits, ((0, 0), (0, 3), (0, 0))))) == pytest.approx(whole, rel=1e-5)
    with tf.GradientTape() as tape:
        given = tf.constant(logits)
        tape.watch(given)
        lost = loss(labels, given)
    gradient = tape.gradient(lost, given).numpy()
    assert (gradient[~asked] == 0).all() and (np.abs(gradient[asked]).sum(-1) > 0).all()
    again = method.Loss.from_config(loss.get_config())
    assert again.words == words and float(again(labels, logits)) == whole


# ---------------------------------------------------------------- what costs nothing, and the page


def test_the_rivals_know_what_stands_in_the_training_texts(tmp_path, table):
    examples = train.load(small_config(tmp_path, table))
    both, fits = rival.fit(examples)
    assert set(both) == set(fits) == {arms.GAZETTEER, arms.MOST_FREQUENT}
    judged = train.judge(None, both, examples.val, examples.classes)
    for answers in judged.values():
        assert answers.numbers(resamples=1)["f1"] > 0.7  # the same names are in all splits
        assert answers.found["score"].eq(1).all()
    forms = {("rome",): "place", ("ann", "lee"): "person", ("lee",): "place"}
    texts = ["Lee, ann LEE saw Ann in ROME!", "none", "", "Ann  Lee-Lee"]
    found = [rival.Gazetteer(forms, texts).find(one) for one in range(4)]
    assert [[(texts[n][start:end], kind) for start, end, kind in some] for n, some in enumerate(found)] == [
        [("Lee", "place"), ("ann LEE", "person"), ("ROME", "place")],
        [],
        [],
        [("Ann  Lee", "person"), ("Lee", "place")],
    ]
    often = rival.MostFrequent({"ann": "B-person", "lee": "I-person", "rome": "B-place"}, texts)
    assert often.find(0) == [(0, 3, "person"), (5, 12, "person"), (17, 20, "person"), (24, 28, "place")]
    assert rival.Gazetteer({}, texts).find(0) == [] == often.find(2)


def test_texts_longer_than_the_page_shows_are_cut_with_their_entities():
    text = "Ann\tLee " + "x" * sections.SHOWN
    what, shown, spans = sections.line(
        "found", text, [(0, 7, "a"), (sections.SHOWN - 2, sections.SHOWN + 3, "b")]
    )
    assert what == "found" and shown[:8] == "Ann Lee " and shown[-1] == "…"
    assert len(shown) == sections.SHOWN + 1 and spans == [(0, 7, "a")]
