"""Every Python block of the pages is run, as it stands but for what the test says it puts in its place."""

import json
import sys

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from runner.pictures import any_size
from runner.stage import check_stages
from runner.tables import columns as columns_of
from runner.tables import layers
from runner.tables.columns import Column
from runner.text_networks import (
    decoder_weights,
    decoders,
    encoders,
    marking,
    pieces,
    tokens,
    translators,
    words,
)
from runner.tuning import space as spaces
from templates.image_classification.config import Config
from tests.test_docs import PAGES, REPOSITORY, blocks

SIZE = 16


def run(page: str, number: int, *instead: tuple[str, str], **names) -> dict:
    """Run a block with these names there, and return those that it leaves.

    instead: what is put in the place of what, such as a small network for a large one; it must be there.
    """
    code = blocks(page, "python")[number]
    for said, small in instead:
        assert said in code, f"{page} does not say {said!r} any more"
        code = code.replace(said, small)
    space = {"__name__": "page", **names}
    exec(compile(code, page, "exec"), space)
    return space


def classifier() -> keras.Model:
    """Pictures in, 3 probabilities out."""
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))


def pictures(count: int = 8) -> tf.data.Dataset:
    random = np.random.default_rng(0)
    return tf.data.Dataset.from_tensor_slices(
        (random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8), np.arange(count) % 3)
    )


def test_the_space_of_the_page_fits_a_template():
    space = run("docs/tuning.md", 0)["SPACE"]
    spaces.check(space, Config())
    chosen = {path: found.grid(1)[-1] for path, found in space.ranges.items()}
    found = spaces.apply(Config(), space.ranges, chosen)
    assert (found.backbone, found.weights, found.stages[1].epochs) == ("ResNet50", "imagenet", 12)


@pytest.mark.parametrize("page", ["README.md", "docs/stages.md"])
def test_stages_of_the_pages_can_be_used(page):
    check_stages(run(page, 0)["stages"])


@pytest.mark.parametrize(
    "page, template, outputs, columns",
    [
        ("docs/use.md", "image_classification", (2,), ["prediction", "confidence", "p:cat", "p:dog"]),
        ("templates/object_detection/README.md", "object_detection", (4, 7), ["class", "score", "x_max"]),
        ("templates/semantic_segmentation/README.md", "semantic_segmentation", None, ["share:cat", "note"]),
    ],
)
def test_a_run_answers_as_the_page_says(tmp_path, monkeypatch, page, template, outputs, columns):
    """With a run of that name whose network is as small as can be."""
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    x = keras.ops.cast(image, "float32") / 255.0
    if outputs is None:
        answer = keras.layers.Conv2D(2, 1)(x)
    else:
        answer = keras.layers.Dense(int(np.prod(outputs)))(keras.layers.GlobalAveragePooling2D()(x))
        answer = answer if len(outputs) == 1 else keras.layers.Reshape(outputs)(answer)
    folder = tmp_path / "runs" / template / "mine"
    folder.mkdir(parents=True)
    any_size.build(keras.Model(image, answer), "pad").save(folder / "model.keras")
    settings = {"image_size": SIZE, "resize": "pad", "shown_score": 0.1, "overlap": 0.6}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "metrics.json").write_text(json.dumps({"classes": ["cat", "dog"], "temperature": 1.0}))
    name = "street.jpg" if outputs is None else "photo.jpg"
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    left = run(page, 0)
    table = left["found" if "found" in left else "table"]
    assert set(columns) <= set(table.columns) and set(table["path"]) == {name} and len(table)


def test_a_support_set_is_kept_and_added_to_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colours = {"support": ("red", "blue"), "more_pictures": ("blue", "green")}
    for folder, names in colours.items():
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            Image.new("RGB", (SIZE, SIZE), name).save(tmp_path / folder / name / "one.png")
    place = tmp_path / "runs" / "few_shot" / "mine"
    place.mkdir(parents=True)
    image = keras.Input((SIZE, SIZE, 3))
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    network.save(place / "model.keras")
    (place / "config.json").write_text(json.dumps({"image_size": SIZE, "resize": "crop"}))
    (place / "metrics.json").write_text(json.dumps({"classes": ["old"], "test": {}}))
    left = run("templates/few_shot/README.md", 0)
    counts = dict(zip(left["known"].classes, left["known"].counts, strict=True))
    assert counts == {"blue": 2, "red": 1, "green": 1} and (tmp_path / "support.npz").is_file()


def test_a_network_of_texts_is_loaded_as_the_page_says(tmp_path, monkeypatch):
    """With a vocabulary of a few words, in a run folder of that name."""
    known = "[PAD] [UNK] [CLS] [SEP] [MASK] what an a book soup . !".split()
    tokenizer = keras_hub.tokenizers.BertTokenizer(known, lowercase=True)
    text = keras.Input((), dtype="string", name="text")
    encoder = encoders.build("BERT-tiny", len(known), 16)
    ids = tokens.Tokens(tokenizer, 16)(text)
    hidden = encoders.again(encoder.operations, {"tokens": ids}, encoders.same)
    answer = keras.layers.Dense(2)(marking.MeanOfTokens()(hidden))
    folder = tmp_path / "runs" / "text_classification" / "mine"
    folder.mkdir(parents=True)
    saved = keras.Model(text, answer)
    saved.save(folder / "model.keras")
    monkeypatch.chdir(tmp_path)
    left = run("templates/text_classification/README.md", 0)
    texts = tf.constant(["What an exquisite soup!", "A tedious book."])
    np.testing.assert_allclose(left["logits"], saved(texts), atol=1e-6)


def test_a_network_of_entities_is_loaded_as_the_page_says(tmp_path, monkeypatch):
    tokenizer = keras_hub.tokenizers.BertTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] ada rome .".split())
    text = keras.Input((), dtype="string", name="text")
    packed = words.Words(tokenizer, 16, name="tokenizer")(text)
    encoder = encoders.build("BERT-tiny", 8, 16)
    ids = words.Columns((0,), name="tokens")(packed)
    hidden = encoders.again(encoder.operations, {"tokens": ids}, encoders.same)
    outputs = {"logits": keras.layers.Dense(3)(hidden), "words": words.Columns((1, 2))(packed)}
    folder = tmp_path / "runs" / "token_classification" / "mine"
    folder.mkdir(parents=True)
    saved = keras.Model(text, outputs)
    saved.save(folder / "model.keras")
    monkeypatch.chdir(tmp_path)
    left = run("templates/token_classification/README.md", 0)
    expected = saved(tf.constant(["Ada went to Rome."]))
    np.testing.assert_allclose(left["logits"], expected["logits"], atol=1e-6)
    assert left["places"][0, 4].numpy().tolist() == [12, 16] and left["places"].shape == (1, 16, 2)


def test_a_network_that_translates_is_loaded_as_the_page_says(tmp_path, monkeypatch):
    tokenizer = keras_hub.tokenizers.BertTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] a dog runs .".split())
    text = keras.Input((), dtype="string", name="text")
    encoder = encoders.build("BERT-tiny", 9, 16)
    ids = tokens.Tokens(tokenizer, 16, name="tokenizer")(text)
    hidden = encoders.again(encoder.operations, {"tokens": ids}, encoders.same)
    known = pieces.learn(["ein Hund läuft."] * 2, 60)
    decoder = translators.Decoder(known.written, 16, 1, 16, 2, 0.0)
    folder = tmp_path / "runs" / "translation" / "mine"
    folder.mkdir(parents=True)
    saved = keras.Model(text, translators.translations(decoder, hidden, 2, 16))
    saved.save(folder / "model.keras")
    monkeypatch.chdir(tmp_path)
    left = run("templates/translation/README.md", 0)
    expected = saved(tf.constant(["A dog runs."]))["translation"].numpy()[0].decode()
    assert left["translation"] == expected


def test_the_loop_of_a_template_is_as_contributing_shows_it():
    """Each step of that `main`, in that order, is a step of the templates' own, which tests of theirs run."""
    main = run("CONTRIBUTING.md", 0, __package__="templates.image_classification")["main"]
    (block,) = blocks("CONTRIBUTING.md", "python")
    train = (REPOSITORY / "templates" / "image_classification" / "train.py").read_text(encoding="utf-8")
    lines = iter(train[train.index("def main(") :].splitlines())
    for line in block[block.index("def main(") :].splitlines():
        step = line.split("  #")[0].strip()
        assert any(step in own for own in lines), f"main of image_classification has no {step!r} there"
    assert main.__annotations__["config"].__module__ == "templates.image_classification.config"


def test_one_program_for_one_device_and_for_many():
    data = pictures().batch(4)
    left = run(
        "docs/scale_out.md",
        0,
        ("model = ...", "model = build()"),
        build=classifier,
        batches=data,
        validation=data,
    )
    assert np.isfinite(left["model"].history.history["val_loss"][0])


def test_memory_of_accumulation_is_measured_as_the_page_says(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measure.py", "2"])
    small = ("keras.applications.ResNet50(weights=None, classes=10)", "small")
    run(
        "docs/scale_out.md",
        1,
        small,
        ("(64, 224, 224, 3)", f"(4, {SIZE}, {SIZE}, 3)"),
        ("(64)", "(4)"),
        small=classifier(),
    )
    assert float(capsys.readouterr().out) > 0


def test_programs_of_ones_own_send_their_input_away(tmp_path):
    for number in range(8):
        Image.fromarray(np.full((SIZE, SIZE, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    paths = tf.data.Dataset.from_tensor_slices([str(tmp_path / f"{number}.png") for number in range(8)])

    def read_and_augment(path, seed):
        image = tf.ensure_shape(tf.io.decode_png(tf.io.read_file(path)), (SIZE, SIZE, 3))
        return tf.image.stateless_random_flip_left_right(image, seed), 0

    model = classifier()
    model.compile("sgd", "sparse_categorical_crossentropy")
    steps = ("steps_per_epoch=100, epochs=5", "steps_per_epoch=2, epochs=1")
    left = run(
        "docs/scale_out.md", 2, steps, tf=tf, paths=paths, read_and_augment=read_and_augment, model=model
    )
    assert next(iter(left["pairs"]))[0].shape == (SIZE, SIZE, 3)


def test_a_network_goes_on_as_the_page_says(tmp_path, monkeypatch):
    """With random weights, in a run folder of that name."""
    tokenizer = decoder_weights.of_bytes()
    decoder = decoders.build("GPT-tiny", tokenizer.vocabulary_size(), 128)
    text = keras.Input((), dtype="string", name="text")
    ids = tokens.Tokens(tokenizer, 128, ended=False, name="tokenizer")(text)
    logits = encoders.again(decoder.operations, {"tokens": ids}, encoders.same)
    folder = tmp_path / "runs" / "text_generation" / "mine"
    folder.mkdir(parents=True)
    keras.Model(text, {"tokens": ids, "logits": logits}).save(folder / "model.keras")
    (folder / "config.json").write_text("{}")
    (folder / "metrics.json").write_text(json.dumps({"classes": ["text"]}))
    monkeypatch.chdir(tmp_path)
    left = run("templates/text_generation/README.md", 0)
    assert len(left["texts"]) == 2 and all(isinstance(one, str) for one in left["texts"])


def test_effects_by_the_page(tmp_path, monkeypatch):
    columns = (Column("number_01", "number"), Column("site", "category", ("north",)))
    row = keras.Input((2,))
    told = keras.layers.Dense(5)(layers.Prepared(columns_of.record(columns))(row))
    folder = tmp_path / "runs" / "treatment_effects" / "mine"
    folder.mkdir(parents=True)
    layers.of_columns(keras.Model(row, told), columns).save(folder / "model.keras")
    monkeypatch.chdir(tmp_path)
    assert run("templates/treatment_effects/README.md", 0)["told"].shape == (1, 5)


@pytest.mark.slow
def test_stages_by_ones_own_fit():
    """ResNet50 as the page has it, smaller and without the weights that need a network."""
    smaller = ('"ResNet50", 224, "imagenet"', '"ResNet50", 32, "none"')
    data = pictures().map(lambda image, label: (tf.image.resize(image, (32, 32)), label)).batch(4)
    left = run("docs/stages.md", 1, smaller, ("epochs=5", "epochs=1"), train=data, validation=data)
    assert left["staged"].ledger["stage"].unique().tolist() == ["head", "top"]


def test_every_block_is_run_here():
    """A new one needs a test: this list names those above."""
    run_above = {
        "README.md": 1,
        "CONTRIBUTING.md": 1,
        "docs/scale_out.md": 3,
        "docs/stages.md": 2,
        "docs/tuning.md": 1,
        "docs/use.md": 1,
        "templates/few_shot/README.md": 1,
        "templates/object_detection/README.md": 1,
        "templates/semantic_segmentation/README.md": 1,
        "templates/text_classification/README.md": 1,
        "templates/text_generation/README.md": 1,
        "templates/token_classification/README.md": 1,
        "templates/translation/README.md": 1,
        "templates/treatment_effects/README.md": 1,
    }
    there = {page: len(blocks(page, "python")) for page in PAGES}
    assert {page: count for page, count in there.items() if count} == run_above
