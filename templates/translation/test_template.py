"""This template on some dozen short pairs: it learns, moves what it says it moves, and leaves a complete run
folder whose network translates texts.
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
from runner.scores import translation as scores
from runner.stage import Stage
from runner.text_networks.pieces import PADDING
from runner.text_networks.tokens import Tokens
from runner.training import baselines as arms

from . import method, rival, train
from .config import Config

COLOURS = {"red": "rossi", "blue": "bluvi", "green": "verdi", "old": "vecchi"}
THINGS = {"house": "casa", "car": "auto", "boat": "barka", "tree": "albero", "lamp": "lampa"}
DOES = {"falls": "kadu", "waits": "staru", "burns": "bruku"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kept activations go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    """60 pairs in which adjectives and nouns change places."""
    return [
        (f"The {colour} {thing} {verb}.", f"La {THINGS[thing]} {COLOURS[colour]} {DOES[verb]}.")
        for colour in COLOURS
        for thing in THINGS
        for verb in DOES
    ]


def write(path, rows):
    path.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path, rows):
    return write(tmp_path / "pairs.tsv", rows)


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        backbone="BERT-tiny",
        weights="none",
        length=16,
        pieces=200,
        decoder_layers=1,
        decoder_width=32,
        beams=2,
        batch_size=8,
        scratch_lengths=(1,),
        stages=(
            Stage("decoder", train="head", epochs=3, learning_rate=0.01),
            Stage("top", train="top:1", epochs=1, learning_rate=1e-3),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory, rows):
    """A run without baselines, that all tests share."""
    place = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(place / "cache"))
        return train.main(small_config(place, write(place / "pairs.tsv", rows), baselines=False))


def test_a_run_leaves_everything_it_promises(run, rows):
    assert {path.name for path in run.iterdir()} == folder.FILES
    page = (run / "report.html").read_text()
    assert "could not be" not in (run / "report.html").read_text()
    assert all(one in page for one in ("BLEU and chrF", "The worst sentences", "nrefs:1|case:mixed"))
    assert "pictures" not in page.split("</style>")[1] and "BatchNorm" not in page
    assert "pictures" not in (run / "MODEL_CARD.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["classes"] == [] and "tok:13a" in metrics["signatures"]["bleu"]
    manifest = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    ids = np.flatnonzero(manifest["split"] == "test")
    found = pd.read_csv(run / "predictions.csv", keep_default_na=False)
    assert pd.read_csv(run / "test_readings.csv")["pictures"].tolist() == [len(ids)]
    assert found["id"].tolist() == ids.tolist()
    assert list(zip(found["source"], found["wanted"], strict=True)) == [rows[one] for one in ids]
    again = scores.score(scores.count(found["found"].tolist(), found["wanted"].tolist()))
    assert metrics["test"]["bleu"] == pytest.approx(again["bleu"]) and again["chrf"] > 0.2
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'decoder' and block != 'head'")
    assert frozen["block"].tolist() == ["embeddings", "transformer_layer_0", "transformer_layer_1"]
    assert frozen[["moved", "relative_change"]].to_numpy().sum() == 0
    top = ledger.query("stage == 'top'").set_index("block")["moved"]
    assert top["transformer_layer_1"] == 16 and top["transformer_layer_0"] == top["embeddings"] == 0
    history = pd.read_csv(run / "history.csv")
    assert history["val_loss"].iloc[-1] < 0.7 * history["val_loss"].iloc[0]

    # The saved model takes texts and writes what it was tested with.
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert any(isinstance(layer, Tokens) for layer in model.layers)
    answers = model(tf.constant([rows[one][0] for one in ids]))
    assert [one.decode() for one in answers["translation"].numpy()] == found["found"].tolist()
    np.testing.assert_allclose(answers["score"], found["sure"], atol=1e-4)


@pytest.mark.slow
def test_a_run_is_compared_with_what_costs_less(tmp_path, table):
    run = train.main(small_config(tmp_path, table))
    metrics = json.loads((run / "metrics.json").read_text())
    rivals = {"from scratch", "frozen backbone", arms.WORD_BY_WORD}
    assert set(metrics["baselines"]) == rivals
    compared = pd.read_csv(run / "comparison.csv").set_index("method")
    assert set(compared.index) == rivals | {"staged"}
    assert compared.loc[arms.WORD_BY_WORD, "trainable_parameters"] == 0
    assert compared["test_bleu"].between(0, 1).all()
    page = (run / "report.html").read_text()
    assert "could not be" not in page and arms.WORD_BY_WORD in page


def test_new_texts_are_translated_and_new_pairs_judged_as_the_test_was(run, tmp_path, rows):
    found = pd.read_csv(run / "predictions.csv", keep_default_na=False).set_index("id")
    answers = pd.concat(train.predict(run, [text for text, _ in rows] + [" "], batch_size=7))
    assert answers["translation"].iloc[found.index].tolist() == found["found"].tolist()
    assert answers["translation"].iloc[-1] == "" and answers["note"].iloc[-1] == "empty"
    assert answers["score"].iloc[:-1].between(0, 1).all()
    long = " ".join(["old house"] * 20)
    assert "16 of 42 tokens were read" in next(train.predict(run, [long]))["note"].iloc[0]
    judged = evaluate.run(train, Config, run, str(write(tmp_path / "all.tsv", rows)), tmp_path / "judged")
    table = pd.read_csv(judged.folder / "predictions.csv", keep_default_na=False).set_index("id")
    assert table.loc[found.index, "found"].tolist() == found["found"].tolist()
    assert judged.metrics["examples"] == 60 and len(judged.seen) == 60 - len(found)
    assert "could not be" not in judged.page.read_text() and judged.in_words().startswith("BLEU")


def test_mistakes_are_found_before_anything_is_written(tmp_path, table):
    with pytest.raises(InputError, match="length=7"):
        small_config(tmp_path, table, length=7)
    with pytest.raises(InputError, match="decoder_width=30 cannot be divided"):
        small_config(tmp_path, table, decoder_width=30)
    with pytest.raises(InputError, match="beams=0"):
        small_config(tmp_path, table, beams=0)
    with pytest.raises(InputError, match="monitor='val_bleu'"):
        small_config(tmp_path, table, monitor="val_bleu")
    with pytest.raises(InputError, match="a learning_rate and a backbone_rate for each"):
        small_config(tmp_path, table, stages=(Stage("all", train="all", learning_rate=None),))
    with pytest.raises(InputError, match="this backbone has 3 blocks"):
        train.main(small_config(tmp_path, table, stages=(Stage("top", train="top:99"),)))
    with pytest.raises(InputError, match="Unknown encoder 'BERT-huge'"):
        train.main(small_config(tmp_path, table, backbone="BERT-huge"))
    with pytest.raises(InputError, match="which is not there"):
        train.main(small_config(tmp_path, tmp_path / "nowhere.tsv"))
    with pytest.raises(InputError, match="train_examples"):
        train.main(small_config(tmp_path, table, train_examples=1000))
    with pytest.raises(InputError, match="languages='german'"):
        train.main(small_config(tmp_path, tmp_path, languages="german"))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- the loss, and what needs no network


def test_the_loss_counts_each_piece_alike_and_parts_add_up():
    random = np.random.default_rng(0)
    labels = random.integers(1, 9, (8, 6)).astype("int32")
    labels[np.arange(6) >= random.integers(1, 7, 8)[:, None]] = PADDING
    logits = random.normal(size=(8, 6, 9)).astype("float32")
    asked = labels != PADDING
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    right = -np.take_along_axis(chances, labels[..., None], -1)[..., 0]
    by_hand = (0.9 * right - 0.1 * chances.mean(-1)) * asked
    pieces = float(asked.sum() / 8)
    loss = method.Loss(pieces, 0.1)
    np.testing.assert_allclose(loss.call(labels, logits), by_hand.sum(1) / pieces, rtol=1e-5)
    whole = float(loss(labels, logits))
    assert whole == pytest.approx(by_hand.sum() / asked.sum(), rel=1e-5)  # the mean over pieces
    halves = [float(loss(labels[part], logits[part])) for part in (slice(0, 4), slice(4, 8))]
    assert np.mean(halves) == pytest.approx(whole, rel=1e-5)
    # What is not asked moves nothing, whatever stands there.
    assert float(loss(labels, np.where(asked[..., None], logits, 50 * logits))) == pytest.approx(whole)
    again = method.Loss.from_config(loss.get_config())
    assert (again.pieces, again.smoothing) == (pieces, 0.1)
    accuracy = method.Accuracy()
    for part in (slice(0, 5), slice(5, 8)):
        accuracy.update_state(labels[part], logits[part])
    expected = (logits.argmax(-1) == labels)[asked].mean()
    assert float(accuracy.result()) == pytest.approx(expected, rel=1e-6)
    accuracy.reset_state()
    assert float(accuracy.result()) == 0


def test_the_dictionary_knows_words_and_no_order(tmp_path, table):
    examples = train.load(small_config(tmp_path, table))
    found, fits = rival.fit(examples)
    assert set(found) == set(fits) == {arms.WORD_BY_WORD}
    known = found[arms.WORD_BY_WORD]
    learnt = {word: known.of_word[word] for word in (*THINGS, *DOES, *COLOURS) if word in known.of_word}
    assert learnt == {word: (THINGS | DOES | COLOURS)[word] for word in learnt} and len(learnt) == 12
    assert known.translate("The old house waits.") == "La vecchi casa staru."
    assert known.translate("THE unknown, car!") == "La unknown, auto!"
    judged = train.judge(small_config(tmp_path, table), found, examples.val)[arms.WORD_BY_WORD]
    numbers = judged.numbers(resamples=10)
    assert numbers["chrf"] > 0.5 > numbers["bleu"] and "greedy_bleu" not in numbers
    assert rival.dictionary([[rival.NOTHING]], [[]]) == {}
