"""A ranking, from labelled pictures to its page: the right source first, the test sealed, a second time from
what was kept.
"""

import json
import re
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from runner import __main__ as command_line
from runner import atomic
from runner.choosing import features, pictures, rank, telling
from runner.choosing.candidates import Candidate
from runner.data.sealed import Sealed
from runner.errors import InputError
from runner.networks import backbones
from runner.pictures.load import load

SIZE = 32


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """One folder for all tests of this module, and nothing in the user's own."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path_factory.getbasetemp() / "kept_features"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.getbasetemp() / "no_keras"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 20 noisy pictures that differ in colour, and a third of one."""
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, colour, count in (
        ("green", (60, 160, 60), 20),
        ("red", (190, 60, 60), 20),
        ("sole", (9, 9, 200), 3),
    ):
        (root / name).mkdir()
        for number in range(count):
            pixels = np.clip(random.normal(colour, 50, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, photos):
    """A complete run whose network has a head for three classes, on the same pictures."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    keras.utils.set_random_seed(1)
    backbone = backbones.build("MobileNet-0.25", SIZE, "none")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    head = keras.layers.Dense(3, name="head", kernel_initializer="orthogonal")
    keras.Model(backbone.input, head(pooled), name=backbone.name).save(folder / "model.keras")
    config = {"backbone": "MobileNet-0.25", "weights": "letters_in_photos", "image_size": SIZE}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text("{}")
    atomic.write_csv(folder / "manifest.csv", load(photos, SIZE).manifest)
    return folder


def test_a_ranking_from_the_command_line_to_its_page(photos, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Sealed, "open", lambda *_: pytest.fail("the test was opened"))
    arguments = [
        "rank",
        str(photos),
        "--sources",
        "letters_in_photos",
        "none",
        str(run),
        "--image-size",
        "32",
    ]
    assert command_line.main([*arguments, "--output", str(tmp_path / "first")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    table = pd.read_csv(tmp_path / "first/rank.csv")
    assert list(table["rank"]) == [1, 2, 3] and table["logme"][:2].is_monotonic_decreasing
    assert table["probe"].max() > 0.8
    own = table["source"] == "MobileNet-0.25=run"
    assert own.tolist() == [False, False, True]  # it has seen these pictures, so that it stands last
    assert (table["seen"] > 0).equals(own) and table["leep"].notna().equals(own)
    assert (table["leep"][own] <= 0).all() and (table["logme_low"] < table["logme"]).all()
    assert "Start from MobileNet-0.25 (" in printed and "How far to trust this" in printed
    assert "MobileNet-0.25=run was trained or validated on" in printed

    page = (tmp_path / "first/rank.html").read_text(encoding="utf-8")
    assert "weighted tau" in page.lower() and "Apache-2.0" in page and str(photos) in page
    assert not re.search(r"<script|https?://(?!www\.w3)", page)
    record = json.loads((tmp_path / "first/rank.json").read_text())
    assert record["reliability"]["measures"] and record["examples"] == len(
        load(photos, SIZE).manifest.query("split in ['train', 'val']")
    )

    # A second time nothing is computed anew, and all is the same.
    monkeypatch.setattr(pictures, "network", lambda *_: pytest.fail("a network was built again"))
    assert command_line.main([*arguments, "--output", str(tmp_path / "second")]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "second/rank.csv"), table)


def test_features_are_those_of_the_network_and_answers_those_of_its_head(photos, run):
    examples = features.chosen(load(photos, SIZE))
    candidate = Candidate("MobileNet-0.25", str(run), run=run)
    found = features.of(
        candidate.name, examples, pictures.content(candidate, SIZE), lambda: pictures.network(candidate, SIZE)
    )
    whole = keras.saving.load_model(run / "model.keras")
    inputs = examples.inputs()
    expected = keras.ops.softmax(whole(inputs, training=False)).numpy()
    np.testing.assert_allclose(found.answers, expected, atol=1e-5)
    pooled = keras.Model(whole.input, whole.get_layer("pool").output)(inputs, training=False)
    np.testing.assert_allclose(found.values, pooled, atol=1e-4)
    assert found.parameters == 218_544 and found.milliseconds > 0


def test_at_most_so_many_examples_each_class_in_proportion(photos):
    data = load(photos, SIZE)
    few = features.chosen(data, most=12)
    counts = np.bincount(few.labels, minlength=3)
    assert (
        len(few.ids) == 12
        and (np.diff(few.ids) > 0).all()
        and counts[2] == 1
        and abs(counts[0] - counts[1]) < 2
    )
    assert set(data.manifest["split"].iloc[few.ids]) <= {"train", "val"}
    assert few.inputs().shape == (12, SIZE, SIZE, 3)
    assert (features.chosen(data, most=12).ids == few.ids).all()


def test_a_run_lies_as_far_away_as_the_data_that_it_was_trained_on(photos, run, tmp_path):
    """Of pictures made alike, of others without their noise, and of some that are gone."""
    random, distance = np.random.default_rng(1), {}
    for name, noise in (("alike", 50), ("others", 2), ("gone", 50)):
        for label, colour in (("green", (60, 160, 60)), ("red", (190, 60, 60))):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(50):
                pixels = np.clip(random.normal(colour, noise, (SIZE, SIZE, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / label / f"{number}.png")
        folder = tmp_path / f"run_{name}"
        shutil.copytree(run, folder)
        record = json.loads((run / "config.json").read_text()) | {
            "data": str(tmp_path / name),
            "seed": 3,
            "labels_per_class": "all",
            "val_fraction": 0.4,
            "test_fraction": 0.25,
            "resize": "crop",
        }
        (folder / "config.json").write_text(json.dumps(record))
        manifest = pictures.of_run(record, SIZE).manifest
        atomic.write_csv(folder / "manifest.csv", manifest)
        distance[name] = np.inf
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    found = rank.ranking(
        str(photos), [*(str(tmp_path / f"run_{name}") for name in distance), "none"], image_size=SIZE
    )
    for row in found.rows:
        distance[row.candidate.place.removeprefix("run_")] = row.distance
    # The blue class, which only the data at hand has, is 3 of its 43 pictures.
    assert distance["alike"] < 0.7 and distance["others"] > 1.5
    assert np.isnan(distance["gone"]) and np.isnan(distance["none"])
    told = [one for one in found.remarks if "from yours on a scale" in one]
    assert len(told) == 2 and not any(row.seen for row in found.rows)


def test_texts_are_ranked_by_the_vectors_that_know_their_words(tmp_path):
    """Of two files one has a direction for praise and blame; the other has noise."""
    random, words = np.random.default_rng(0), [f"w{number}" for number in range(40)]
    for name, known in (("good", 1.0), ("poor", 0.0)):
        table = random.normal(size=(40, 6))
        table[:, 0] += 8 * known * (np.arange(40) % 2)
        lines = [
            " ".join([word, *(f"{one:.4f}" for one in row)]) for word, row in zip(words, table, strict=True)
        ]
        (tmp_path / f"{name}.vec").write_text("\n".join(lines))
    rows = []
    for number in range(60):
        own = [words[place] for place in random.permutation(np.arange(number % 2, 40, 2))[:6]]
        other = [words[place] for place in random.permutation(np.arange(1 - number % 2, 40, 2))[:4]]
        rows.append({"text": " ".join([*own, *other]), "label": ["even", "odd"][number % 2]})
    pd.DataFrame(rows).to_csv(tmp_path / "texts.csv", index=False)
    given = [str(tmp_path / f"{name}.vec") for name in ("poor", "good")]
    assert rank.kind_of(str(tmp_path / "texts.csv")) == "texts"
    found = rank.ranking(str(tmp_path / "texts.csv"), given, length=16)
    assert [row.candidate.name for row in found.rows] == ["word-vectors=good.vec", "word-vectors=poor.vec"]
    assert any("was not measured" in one for one in found.remarks)
    assert "text_classification" in telling.command(found, found.rows[0])


def test_what_cannot_be_ranked_is_refused_in_one_line(photos, tmp_path):
    (tmp_path / "there").mkdir()
    for arguments, expected in (
        (["rank", str(photos / "green")], "class"),
        (["rank", "nowhere"], "which is not there"),
        (["rank", str(photos), "--labels-per-class", "few"], "a number from 1"),
        (["rank", str(photos), "--output", str(tmp_path / "there")], "exists"),
        (["rank", str(photos), "--sources", "none", "VGG16=none", "--image-size", "16"], "image_size=16"),
    ):
        with pytest.raises(InputError, match=expected) as error:
            command_line.main(arguments)
        assert "\n" not in str(error.value)
    assert not list((tmp_path / "there").iterdir())
