"""checkpoints/: each card agrees with its file, and the file does what the card says."""

import hashlib
import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from checkpoints import docstrings, train
from runner.errors import InputError
from runner.networks import backbones
from runner.text_networks import decoder_weights

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
DOCSTRINGS = CHECKPOINTS / "docstrings_gpt"
FOLDER = Path(__file__).resolve().parent.parent / "checkpoints" / "letters_in_photos"
WEIGHTS = FOLDER / "backbone.weights.h5"


@pytest.fixture(scope="module")
def card():
    return json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


def test_card_belongs_to_the_weights_file(card):
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == card["sha256"]
    assert WEIGHTS.stat().st_size <= 3_000_000
    assert card["image_size"] == 64
    assert card["classes"] == list(train.photos.LETTERS)
    assert card["licence"] == "Apache-2.0"
    assert card["command"] == "python -m checkpoints.train"


def test_card_for_people_is_made_from_the_card(card):
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == train.readme(card, WEIGHTS.stat().st_size)


def test_command_on_the_card_trains_with_the_settings_on_the_card(card):
    for name, parameter in inspect.signature(train.main).parameters.items():
        if name != "out":
            assert parameter.default == card[name]


def test_weights_load_by_name_and_carry_over_to_digits_as_the_card_says(card):
    body = backbones.build(card["backbone"], card["image_size"], "letters_in_photos")
    assert body.count_params() == card["parameters"]
    pooled = keras.Model(body.input, keras.layers.GlobalAveragePooling2D()(body.output))
    probe = train.probe(pooled)
    assert (
        abs(probe["mean"] - card["digits_validation_probe"]["mean"]) < 0.01
    )  # other processors round otherwise


def test_saved_weights_give_the_same_features_when_loaded(tmp_path):
    body = backbones.build("MobileNet-0.25", 64, "none")
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # values that a fresh network does not have
            layer.moving_mean.assign(np.linspace(-0.1, 0.1, layer.moving_mean.shape[0]))
    train.save(body, "MobileNet-0.25", tmp_path / "backbone.weights.h5")
    loaded = backbones.build("MobileNet-0.25", 64, str(tmp_path / "backbone.weights.h5"))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), body.predict(images, verbose=0))


def test_fused_batch_norm_is_the_batch_norm_of_keras(monkeypatch):
    images = np.random.default_rng(0).normal(3, 2, (16, 4, 4, 5)).astype("float32")
    plain, fused = (keras.layers.BatchNormalization(momentum=0.5) for _ in "ab")
    expected = plain(images, training=True)
    fused.build(images.shape)
    np.testing.assert_allclose(train.fused_call(fused, images, training=True), expected, atol=1e-5)
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=0.01)  # n - 1 against n
    np.testing.assert_allclose(train.fused_call(fused, images), fused(images), atol=1e-6)


def test_augmentation_depends_on_the_seed_alone_and_keeps_the_form():
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    first, again, other = (
        train.augment(images, np.array(seed, np.int64)).numpy() for seed in ([1, 2], [1, 2], [3, 4])
    )
    assert first.dtype == np.uint8 and first.shape == images.shape
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_batches_differ_between_epochs_and_not_between_runs():
    images, labels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), np.arange(8)
    data = train.batches(images, labels, 4, seed=0)
    first, second = ([batch.numpy() for batch, _ in data] for _ in range(2))
    rerun = [batch.numpy() for batch, _ in train.batches(images, labels, 4, seed=0)]
    np.testing.assert_array_equal(first, rerun)
    assert (np.array(first) != np.array(second)).any()


def test_settings_that_give_no_batch_are_refused(tmp_path):
    with pytest.raises(InputError, match="batch_size=64, warm_up_pictures=32"):
        train.main(pictures=64, warm_up_pictures=32, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_command_writes_weights_card_and_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(
        keras.layers.BatchNormalization, "call", keras.layers.BatchNormalization.call
    )  # put back after
    monkeypatch.setitem(train.photos.LETTER_SPLITS, "test", 500)
    train.main(pictures=64, warm_up_pictures=32, epochs=1, batch_size=8, out=tmp_path)
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert card["pictures"] == 64 and 0 <= card["accuracy_unseen_fonts"] <= 1
    assert hashlib.sha256((tmp_path / "backbone.weights.h5").read_bytes()).hexdigest() == card["sha256"]
    backbones.build(card["backbone"], 64, str(tmp_path / "backbone.weights.h5"))


# ---------------------------------------------------------------- docstrings_gpt


@pytest.fixture(scope="module")
def decoder_card():
    return json.loads((DOCSTRINGS / "card.json").read_text(encoding="utf-8"))


def test_the_decoders_card_belongs_to_its_preset(decoder_card):
    weights = DOCSTRINGS / "model.weights.h5"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == decoder_card["sha256"]
    assert sum(path.stat().st_size for path in DOCSTRINGS.rglob("*") if path.is_file()) <= 5_000_000
    assert (DOCSTRINGS / "README.md").read_text(encoding="utf-8") == docstrings.readme(
        decoder_card, weights.stat().st_size
    )
    for name, parameter in inspect.signature(docstrings.main).parameters.items():
        if name != "out":
            assert parameter.default == decoder_card[name]
    assert docstrings.UNSEEN not in decoder_card["packages"]
    assert not any(docstrings.COPYLEFT.search(said) for _, said in decoder_card["packages"].values())
    # It has learned as much as it could in its steps: the last two twentieths differ by little.
    losses = decoder_card["loss_of_each_twentieth"]
    assert losses[-2] - losses[-1] < 0.02 < losses[0] - losses[-1]


def test_the_decoder_tells_docstrings_of_the_unseen_package_as_its_card_says(decoder_card):
    tokenizer = decoder_weights.tokenizer("docstrings_gpt")
    assert tokenizer.vocabulary_size() == decoder_card["vocabulary"]
    network = decoder_weights.build("GPT-tiny", "docstrings_gpt", 128, tokenizer)
    reading = docstrings.reading
    texts = reading.of_split(docstrings.UNSEEN, "test")[:60]
    tokens = docstrings.stream(tokenizer, texts)
    rows = tokens[: len(tokens) // 129 * 129].reshape(-1, 129)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    nats = float(loss(rows[:, 1:], network.predict(rows[:, :-1], verbose=0)))
    bits = nats * len(tokens) / sum(map(len, texts)) / np.log(2)
    # Others of its docstrings, and another release perhaps.
    assert bits == pytest.approx(decoder_card["bits_per_character"]["unseen"], abs=0.4)
    assert bits < 3
