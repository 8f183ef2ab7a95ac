"""This template on some pages of text: it learns, moves what it says it moves, and leaves a complete run
folder whose network goes on with texts.
"""

import functools
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
from runner.stage import Stage
from runner.text import passages
from runner.text_networks import decoders
from runner.text_networks.tokens import Tokens
from runner.training import baselines as arms
from runner.training.checkpoint import Checkpointing

from . import method, rival, samples, sections, train
from .config import Config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Kept activations go away with the test."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def text():
    """A page of sentences that repeat themselves, as a small network can learn."""
    random = np.random.RandomState(0)
    whom = ["the cat", "a dog", "the old man", "a bird"]
    return "".join(
        f"{whom[random.randint(4)].capitalize()} sees {whom[random.randint(4)]}.\n" for _ in range(260)
    )


@pytest.fixture
def page(tmp_path, text):
    (tmp_path / "page.txt").write_text(text)
    return tmp_path / "page.txt"


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        weights="bytes",
        length=32,
        batch_size=8,
        new_tokens=8,
        scratch_lengths=(1,),
        scratch_learning_rate=3e-3,
        stages=(
            Stage("head", train="head", epochs=1, learning_rate=0.01),
            Stage("top", train="top:1", epochs=1, learning_rate=3e-3),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory, text):
    """A run without baselines, that all tests share."""
    place = tmp_path_factory.mktemp("shared")
    (place / "page.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(place / "cache"))
        return train.main(small_config(place, place / "page.txt", baselines=False))


def test_a_run_leaves_everything_it_promises(run, text):
    assert {path.name for path in run.iterdir()} == folder.FILES | {"continuations.csv", "by_stage.csv"}
    page = (run / "report.html").read_text()
    assert "could not be" not in (run / "report.html").read_text()
    assert all(
        one in page
        for one in ("Bits per character", "How each goes on", "stage by stage", "What was hardest")
    )
    assert "pictures" not in page.split("</style>")[1] and "BatchNorm" not in page
    assert "pictures" not in (run / "MODEL_CARD.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["classes"] == ["text"] and metrics["baselines"] == {}
    test = metrics["test"]
    assert 1 < test["bits_per_character"] < 7  # 8 bits is to know nothing of bytes
    assert test["probability"] == pytest.approx(2 ** -test["bits_per_character"])
    manifest = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    tested = np.flatnonzero(manifest["split"] == "test")
    found = pd.read_csv(run / "predictions.csv")
    assert found["id"].tolist() == tested.tolist()
    assert found["characters"].sum() == test["characters"] == manifest.loc[tested, "characters"].sum()
    whole = (found["bits_per_character"] * found["characters"]).sum() / found["characters"].sum()
    assert whole == pytest.approx(test["bits_per_character"])
    continued = pd.read_csv(run / "continuations.csv", keep_default_na=False)
    assert set(continued["method"]) == {"staged", samples.TRUE}
    assert all(one in text for one in continued["prompt"])
    by_stage = pd.read_csv(run / "by_stage.csv", keep_default_na=False)
    stages = [samples.START, "head", "top", samples.TRUE]
    assert by_stage["stage"].tolist() == stages * by_stage["passage"].nunique()
    validated = np.flatnonzero(manifest["split"] == "val")
    assert set(by_stage["passage"]) <= set(validated.tolist()) and len(by_stage)
    assert by_stage.query("stage == @samples.START")["continuation"].tolist() != (
        by_stage.query("stage == 'top'")["continuation"].tolist()
    )

    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert frozen["block"].tolist() == ["embeddings", *(f"transformer_layer_{n}" for n in range(4))]
    assert frozen[["moved", "relative_change"]].to_numpy().sum() == 0
    top = ledger.query("stage == 'top'").set_index("block")["moved"]
    assert top["transformer_layer_3"] == 18 and top["transformer_layer_2"] == top["embeddings"] == 0

    # The saved model takes texts and tells what comes behind each byte.
    model = keras.models.load_model(run / "model.keras", compile=False)
    assert any(isinstance(layer, Tokens) for layer in model.layers)
    answers = model(tf.constant(["The cat", ""]))
    assert answers["tokens"].shape == (2, 32) and answers["logits"].shape == (2, 32, 258)
    assert answers["tokens"].numpy()[0, :8].tolist() == [256, *b"The cat"]


def test_texts_are_gone_on_with_and_judged_as_in_the_run(run, tmp_path, text):
    (tmp_path / "prompts.csv").write_text("text\nThe cat sees\nA dog\n")
    found = pd.concat(train.predict(run, [str(tmp_path / "prompts.csv"), "The old man"], batch_size=2))
    assert found["text"].tolist() == ["prompts.csv:2", "prompts.csv:3", "The old man"]
    assert found["continuation"].str.len().between(1, 8).all() and (found["note"] == "").all()
    again = pd.concat(train.predict(run, [str(tmp_path / "prompts.csv"), "The old man"], batch_size=2))
    assert found.equals(again)

    manifest = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    parts = passages.cut(text, len(text) // passages.DOCUMENTS)
    last = "".join(parts[one] for one in np.flatnonzero(manifest["split"] == "test"))
    (tmp_path / "last.txt").write_text(last)
    judged = evaluate.run(train, Config, run, str(tmp_path / "last.txt"), tmp_path / "judged")
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert judged.metrics["bits_per_character"] == pytest.approx(test["bits_per_character"], rel=1e-4)
    assert judged.metrics["characters"] == len(last)
    assert json.loads((tmp_path / "judged" / "metrics.json").read_text())["judged"]["examples"] == len(
        passages.cut(last)
    )


@pytest.mark.slow
def test_a_run_is_compared_with_what_costs_less(tmp_path, page):
    # A run is a source of weights: it can go on as it came.
    first = train.main(small_config(tmp_path, page, baselines=False))
    place = Machine(run_dir=str(tmp_path / "second"))
    config = small_config(tmp_path, page, weights=str(first), backbone="auto", machine=place)
    run = train.main(config)
    assert {path.name for path in run.iterdir()} == folder.FILES | {"continuations.csv", "by_stage.csv"}
    metrics = json.loads((run / "metrics.json").read_text())
    rivals = {
        "from scratch",
        "frozen backbone",
        "fine-tuned at once",
        arms.LORA,
        arms.N_GRAM,
        arms.AS_IT_CAME,
    }
    assert set(metrics["baselines"]) == rivals
    compared = pd.read_csv(run / "comparison.csv").set_index("method")
    assert set(compared.index) == rivals | {"staged"}
    before = json.loads((first / "metrics.json").read_text())["test"]
    assert compared.loc[arms.AS_IT_CAME, "test_bits_per_character"] == pytest.approx(
        before["bits_per_character"], rel=1e-4
    )
    # What is handed out is no worse on validation than what it began with.
    assert compared.loc["staged", "val_probability"] >= compared.loc[arms.AS_IT_CAME, "val_probability"]
    assert (
        compared["pretrained"].to_dict()[arms.N_GRAM] is np.False_ or not compared["pretrained"][arms.N_GRAM]
    )
    page = (run / "report.html").read_text()
    assert "could not be" not in page and arms.N_GRAM in page


@pytest.mark.slow
def test_each_stage_says_how_it_goes_on_also_after_an_interruption(run, tmp_path, page):
    """Its words are those of the weights that it hands on; stopped and begun again, all is told."""
    config = small_config(tmp_path, page)
    examples = train.load(config)
    place = Checkpointing(tmp_path / "parts" / "staged", steps=1)

    def stopped(tell, stage, network):
        if stage == "top":
            raise KeyboardInterrupt
        tell(stage, network)

    original = samples.of_stages
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(samples, "of_stages", lambda *given: functools.partial(stopped, original(*given)))
        train.fit(config, examples, "staged", place)
    assert set(samples.read(tmp_path / "parts" / samples.FILE)["stage"]) == {samples.START, "head"}
    network, _ = train.fit(config, examples, "staged", place)
    found = samples.read(tmp_path / "parts" / samples.FILE)
    whole = pd.read_csv(run / "by_stage.csv", keep_default_na=False)
    assert samples.with_authors(examples, found).equals(whole)
    samples.of_stages(config, examples, tmp_path / "again.csv")("top", network)
    last = found[found["stage"] == "top"].reset_index(drop=True)
    assert samples.read(tmp_path / "again.csv").equals(last)


def test_mistakes_are_found_before_anything_is_written(tmp_path, page):
    with pytest.raises(InputError, match="length=7"):
        small_config(tmp_path, page, length=7)
    with pytest.raises(InputError, match="monitor='val_accuracy'"):
        small_config(tmp_path, page, monitor="val_accuracy")
    with pytest.raises(InputError, match="train_characters=0"):
        small_config(tmp_path, page, train_characters=0)
    with pytest.raises(InputError, match="sampler"):
        small_config(tmp_path, page, sampler="nucleus")
    with pytest.raises(InputError, match="a learning_rate and a backbone_rate for each"):
        small_config(tmp_path, page, stages=(Stage("all", train="all", learning_rate=None),))
    with pytest.raises(InputError, match="this backbone has 5 blocks"):
        train.main(small_config(tmp_path, page, stages=(Stage("top", train="top:99"),)))
    with pytest.raises(InputError, match="Unknown decoder 'GPT-huge'"):
        train.main(small_config(tmp_path, page, backbone="GPT-huge"))
    with pytest.raises(InputError, match="docstrings_gpt"):
        train.main(small_config(tmp_path, page, weights="docstring_gpt"))
    with pytest.raises(InputError, match="which is not there"):
        train.main(small_config(tmp_path, tmp_path / "nowhere.txt"))
    (tmp_path / "short.txt").write_text("One line.\n")
    with pytest.raises(InputError, match="none came to val"):
        train.main(small_config(tmp_path, tmp_path / "short.txt"))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- the loss and what is told of it


def test_the_loss_is_the_mean_over_what_is_asked_for():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, (4, 6)).astype("int32")
    labels[:, :3] = passages.NOTHING
    logits = random.normal(size=(4, 6, 5)).astype("float32")
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    asked = labels >= 0
    by_hand = -np.take_along_axis(chances, np.where(asked, labels, 0)[..., None], -1)[..., 0] * asked
    assert float(method.Loss()(labels, logits)) == pytest.approx(by_hand.sum() / asked.sum(), rel=1e-5)
    halves = [float(method.Loss()(labels[part], logits[part])) for part in (slice(0, 2), slice(2, 4))]
    assert np.mean(halves) == pytest.approx(by_hand.sum() / asked.sum(), rel=1e-5)
    metric = method.BitsPerToken()
    for part in (slice(0, 1), slice(1, 4)):
        metric.update_state(labels[part], logits[part])
    assert float(metric.result()) == pytest.approx(by_hand.sum() / asked.sum() / np.log(2), rel=1e-5)
    changed = np.where(asked[..., None], logits, 50 * logits)
    assert float(method.Loss()(labels, changed)) == float(method.Loss()(labels, logits))
    empty = np.full((1, 6), passages.NOTHING, "int32")
    assert float(method.Loss()(empty, logits[:1])) == 0


# ---------------------------------------------------------------- what costs nothing


def test_counted_sequences_are_a_distribution_and_find_what_repeats():
    stream = np.frombuffer(b"\0abracadabra\0abracadabra", np.uint8).astype(np.int32)
    counts = [rival._counted(codes[1:]) for codes in rival._codes(stream, 4)]
    model = rival.NGram(counts, [], np.zeros(0))
    for context in (b"\0abr", b"\0zz", b"\0", b"\0abracadab"):
        each = [model.probabilities(np.array([*context, one], np.int32))[-1] for one in range(256)]
        assert sum(each) == pytest.approx(1)
    likely = model.probabilities(np.array([*b"\0abracadabra"], np.int32))
    assert likely[4:].min() > 0.3 and model.probabilities(np.array([*b"\0abq"], np.int32))[-1] < 0.05
    # By hand: after "\0" there is "a" both times, of 2 places with 1 kind of byte behind them.
    times = np.bincount(stream[1:], minlength=256)
    alone = (times[ord("a")] + (times > 0).sum() / 256) / (len(stream) - 1 + (times > 0).sum())
    short = rival.NGram(counts[:2], [], np.zeros(0))
    assert short.probabilities(np.array([*b"\0a"], np.int32))[1] == pytest.approx((2 + alone) / 3, rel=1e-6)


def test_the_rival_is_judged_on_the_same_characters(tmp_path, page):
    examples = train.load(small_config(tmp_path, page))
    both, fits = rival.fit(examples)
    assert set(both) == set(fits) == {arms.N_GRAM}
    judged = train.judge(small_config(tmp_path, page), both, examples.val)[arms.N_GRAM]
    told = sections.told(judged, examples)
    ids = np.flatnonzero(examples.manifest["split"] == "val")
    assert told.ids.tolist() == ids.tolist()
    assert told.characters.sum() == sum(len(examples.texts[one]) for one in ids)
    assert 0.1 < told.bits < 1  # such sentences hold 4 bits, of some 25 characters
    table = sections.by_document(judged, examples)
    assert table["class"].tolist() == ["page.txt"] and table["bits_per_character"][0] == pytest.approx(
        told.bits
    )


def test_a_frozen_part_is_kept_and_trains_as_without(tmp_path, page):
    """Of windows too: several are of one passage."""
    found = []
    for keep in (True, False):
        stages = (Stage("head", train="head", epochs=2, learning_rate=0.01),)
        config = small_config(tmp_path, page, stages=stages, keep_frozen=keep, dropout=0.0)
        network, fitted = train.fit(config, train.load(config))
        found.append(network.get_layer(decoders.HEAD).get_weights()[0])
        assert fitted.history["loss"].is_monotonic_decreasing
    np.testing.assert_allclose(*found, atol=2e-5)
