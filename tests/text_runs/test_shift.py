"""`python -m runner shift` on texts: fresh ones of the same kind are not shifted, others are."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from runner.data import reference
from runner.errors import InputError
from runner.networks import inference
from runner.text_networks import marking
from runner.text_runs import reference as of_texts
from runner.text_runs import shift
from templates.text_classification import model, train
from templates.text_classification.config import Config

SUBJECTS = {"animal": "cat dog horse cow mouse goat", "tool": "hammer saw drill file axe rope"}
VERBS = {"animal": "eats sleeps runs", "tool": "cuts breaks bends"}


def sentences(number: int, seed: int, kinds=tuple(SUBJECTS)) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for place in range(number):
        kind = kinds[place % len(kinds)]
        subject, verb = (random.choice(one[kind].split()) for one in (SUBJECTS, VERBS))
        how = " ".join(random.choice(["well", "badly", "often", "again", "here", "now"], 3))
        rows.append({"text": f"The {subject} {verb} {how} {place}", "label": kind})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, texts, network of texts): an encoder with random weights, which are kept with its run."""
    root = tmp_path_factory.mktemp("texts")
    sentences(200, 0).to_csv(root / "texts.csv", index=False)
    config = Config(
        data=str(root / "texts.csv"), backbone="BERT-tiny", weights="none", length=16, val_fraction=0.4
    )
    keras.utils.set_random_seed(0)
    examples = train.load(config)
    network = model.of_texts(model.build(config, examples)[0], config, examples)
    folder = root / "run"
    folder.mkdir()
    network.save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"length": 16}))
    (folder / "metrics.json").write_text(json.dumps({"classes": list(examples.classes)}))
    (folder / "environment.json").write_text(json.dumps({"template": "templates.text_classification"}))
    of_texts.write(folder / "reference.npz", network, examples, batch_size=7)
    return folder, examples, network


def test_a_reference_holds_what_the_network_gives_and_no_test_text(run):
    folder, examples, network = run
    kept = reference.read(folder / "reference.npz")
    assert (kept.layer, kept.early_layers, kept.classes) == ("head", ("marked",), ("animal", "tool"))
    pooled = keras.Model(network.input, network.get_layer("pool").output)
    for split in ("train", "val"):
        rows = np.flatnonzero(examples.manifest["split"] == split)
        np.testing.assert_array_equal(kept.ids[split], rows)
        texts = keras.ops.convert_to_tensor([examples.texts[row] for row in rows])
        np.testing.assert_allclose(kept.features[split], pooled(texts).numpy(), rtol=1e-3, atol=1e-4)
    shown = [one.decode() for one in kept.thumbnails]
    assert shown == [examples.texts[row] for row in kept.ids["train"]]
    held_out = {examples.texts[row] for row in np.flatnonzero(examples.manifest["split"] == "test")}
    assert held_out and not held_out & set(shown)


def test_the_early_features_are_the_mean_of_the_vectors_of_all_tokens(run):
    _, examples, network = run
    step = inference.forward(of_texts.extractor(network))
    short, long = "The cat eats", "The cat eats " + "well " * 40
    alone = of_texts.read_texts(step, [short], 1.0)
    beside = of_texts.read_texts(step, [short, long], 1.0)
    np.testing.assert_allclose(alone.early[0], beside.early[0], rtol=1e-3, atol=1e-4)
    vectors = keras.Model(network.input, network.get_layer(of_texts.BELOW).output)(
        keras.ops.convert_to_tensor([short])
    ).numpy()[0]
    there = vectors[np.any(vectors != 0, axis=1)]
    assert len(there) < len(vectors)
    np.testing.assert_allclose(alone.early[0], there.mean(axis=0), rtol=1e-2, atol=1e-3)


def test_fresh_texts_of_the_same_kind_are_not_shifted_and_others_are(run, tmp_path):
    folder, _, _ = run
    sentences(120, 1).to_csv(tmp_path / "same.csv", index=False)
    page = shift.run(folder, tmp_path / "same.csv")
    numbers = json.loads((page.parent / "shift.json").read_text())
    assert numbers["chance"] > 0.05 and numbers["verdict"].startswith("No shift was found: these texts look")

    strange = [f"Die {word} schläft <b>heute</b> {n}" for n in range(30) for word in ("Katze", "Kuh")]
    pd.DataFrame({"text": strange}).to_csv(tmp_path / "other.csv", index=False)
    page = shift.run(folder, tmp_path / "other.csv")
    numbers = json.loads((page.parent / "shift.json").read_text())
    assert numbers["chance"] < 0.01 and "texts" in numbers["verdict"]
    said = page.read_text()
    assert "schläft &lt;b&gt;heute&lt;/b&gt;" in said and "<b>heute</b>" not in said
    assert "picture" not in said.split("</style>")[1] and "The farthest texts" in said
    table = pd.read_csv(page.parent / "texts.csv")
    assert len(table) == 60 and table["distance"].is_monotonic_decreasing
    assert shift.run(folder, tmp_path / "other.csv").parent.name == "other.csv-2"


def test_what_cannot_be_read_is_named_and_left_out(run, tmp_path):
    folder, _, _ = run
    for number, text in enumerate(sentences(12, 3)["text"]):
        (tmp_path / f"{number}.txt").write_text(text)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    page = shift.run(folder, tmp_path)
    assert "latin.txt" in page.read_text() and "Texts that were left out" in page.read_text()
    assert json.loads((page.parent / "shift.json").read_text())["examples"] == 12


@pytest.mark.parametrize(
    ("content", "said"),
    [("text\nThe cat eats\n", "at least 2"), ("texts\nx\n", "column"), (None, "is not there")],
)
def test_too_few_or_none_is_one_line(run, tmp_path, content, said):
    if content is not None:
        (tmp_path / "new.csv").write_text(content)
    with pytest.raises(InputError, match=said):
        shift.run(run[0], tmp_path / "new.csv")
    assert not (run[0] / "shift" / "new.csv").exists()


def test_a_network_without_layers_above_the_vectors_has_no_earlier_ones():
    ids = keras.Input((None,), dtype="int32", name="tokens")
    hidden = marking.Marked(0, name="marked")([keras.layers.Embedding(9, 4)(ids), ids])
    x = keras.layers.Dense(2, name="head")(marking.MeanOfTokens(name="pool")(hidden))
    assert of_texts.early_layers(keras.Model(ids, x)) == ()
    assert len(of_texts.extractor(keras.Model(ids, x)).output) == 2
