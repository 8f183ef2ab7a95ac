"""`python -m runner predict` on pictures: every file keeps its row, in order, and is seen as in training."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.special
from PIL import Image

from runner.errors import InputError
from runner.picture_runs import predict
from runner.pictures import any_size, images, square
from runner.runs import folder, template
from runner.runs import predict as command
from templates.image_classification import train

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 16
CLASSES = ["dark, very", 'light "ish"', "p:x"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose network is a dense layer on the mean colour."""
    folder = tmp_path_factory.mktemp("run")
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.cast(image, "float32") / 255.0)
    head = keras.layers.Dense(3, name="head")
    network = keras.Model(image, head(x))
    head.set_weights([np.array([[-8, 8, 0.5]] * 3, "float32"), np.array([8, -8, 0], "float32")])
    any_size.build(network, "pad").save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"image_size": SIZE, "resize": "pad"}))
    (folder / "metrics.json").write_text(json.dumps({"classes": CLASSES, "temperature": 2.5}))
    (folder / "environment.json").write_text(json.dumps({"template": "templates.image_classification"}))
    return folder


@pytest.fixture
def photos(tmp_path):
    """Five pictures and two that are none, in folders of folders."""
    random = np.random.default_rng(0)
    root = tmp_path / "new photos"
    (root / "b" / "deeper").mkdir(parents=True)
    for name, shape in (
        ("a.png", (20, 30)),
        ("b/c.jpg", (40, 9)),
        ("b/deeper/d.bmp", (16, 16)),
        ("é.gif", (5, 5)),
    ):
        Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(root / name)
    Image.new("RGB", (8, 8), "white").save(root / "z.png")
    (root / "b" / "broken.jpg").write_bytes(b"\xff\xd8 not much of a JPEG")
    (root / "b" / "notes.txt").write_text("not a picture")
    (root / ".hidden.png").write_bytes(b"not looked at")
    (root / "@eaDir").mkdir()  # of a network drive
    Image.new("RGB", (8, 8)).save(root / "@eaDir" / "thumb.jpg")
    (root / "b" / "round").symlink_to(root)  # a folder inside itself
    return root


def test_each_file_has_its_row_and_its_own_prediction(run, photos, tmp_path):
    result = command.run(train, run, [photos, photos / "z.png"], tmp_path / "out.csv", batch_size=2)
    table = pd.read_csv(result.output, keep_default_na=False)
    names = ["a.png", "z.png", "é.gif", "b/broken.jpg", "b/c.jpg", "b/notes.txt", "b/deeper/d.bmp", "z.png"]
    assert table["path"].tolist() == [str(photos / name) for name in names]
    assert list(table.columns) == [
        "path",
        "prediction",
        "confidence",
        "note",
        *(f"p:{one}" for one in CLASSES),
    ]
    assert (result.predicted, result.number_unreadable) == (6, 2)
    model = keras.models.load_model(run / "model.keras")
    for row in table.itertuples(index=False):
        if row.note.startswith(("not a picture", "cannot be decoded")):
            assert row.prediction == "" and list(row[4:]) == [""] * 3
            continue
        pixels = square.resize(images.decode(row.path)[0], SIZE, "pad")
        p = scipy.special.softmax(model.predict(pixels[None], verbose=0)[0].astype(float) / 2.5)
        assert np.allclose([float(one) for one in row[4:]], p, atol=1e-5)
        assert row.prediction == CLASSES[p.argmax()] and float(row.confidence) == pytest.approx(
            p.max(), abs=1e-5
        )
    assert result.unreadable[0].startswith(str(photos / "b/broken.jpg: "))


def test_a_stream_is_read_a_batch_ahead_and_no_further(run, photos):
    taken = []

    def endless():
        while True:
            taken.append(photos / "a.png")
            yield taken[-1]

    stream = predict.batches(endless(), SIZE, "crop", 3)
    first = next(stream)
    assert first.pictures.shape == (3, SIZE, SIZE, 3) and len(taken) == 6
    stream.close()


def test_wrong_requests_leave_nothing(run, photos, tmp_path):
    kept = tmp_path / "mine.csv"
    kept.write_text("a year of work")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        ((run, [photos], kept), "exists; give another name"),
        ((run, [photos], tmp_path / "no" / "out.csv"), "make it first"),
        ((run, [photos, tmp_path / "gone.png"], tmp_path / "out.csv"), "gone.png is not there"),
        ((run, [empty], tmp_path / "out.csv"), "no file there"),
        ((photos, [photos], tmp_path / "out.csv"), "no folder of a run"),
        ((run, [photos], tmp_path / "out.csv", 0), "at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            command.run(train, *arguments)
    assert kept.read_text() == "a year of work"
    assert {one.name for one in tmp_path.iterdir()} == {"mine.csv", "empty", "new photos"}


def test_a_run_put_together_of_two_is_refused(run, tmp_path):
    for name in ("model.keras", "config.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    for record in ({"classes": ["a"]}, {"classes": CLASSES, "temperature": 0}, {"classes": None}, []):
        (tmp_path / "metrics.json").write_text(json.dumps(record))
        with pytest.raises(InputError):
            predict.load(tmp_path)


def test_the_command_line(run, photos, tmp_path):
    def call(*arguments):
        command = [sys.executable, "-m", "runner", "predict", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    done = call(run, photos)
    assert (done.returncode, done.stdout) == (
        0,
        "5 predicted; predictions.csv has 7 rows.\n",
    )
    assert "broken.jpg: " in done.stderr and "2 could not be read" in done.stderr
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 8
    again = call(run, photos)
    assert again.returncode == 2 and len(again.stderr.splitlines()) == 1 and "exists" in again.stderr


def test_a_network_of_boxes_or_masks_is_refused(tmp_path):
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    masks = keras.layers.Conv2D(2, 1)(keras.ops.cast(image, "float32"))
    any_size.build(keras.Model(image, masks), "crop").save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text(json.dumps({"image_size": SIZE, "resize": "crop"}))
    (tmp_path / "metrics.json").write_text(json.dumps({"classes": ["a", "b"]}))
    with pytest.raises(InputError, match="not a class; the template that trained it has a function"):
        predict.load(tmp_path)


JUNK = (None, True, -1, 200_000, 1e300, "words", [], [1], {}, {"a": 1})


@pytest.mark.parametrize("file", ["config.json", "metrics.json", "environment.json"])
def test_records_of_another_shape_are_one_line(run, photos, tmp_path, file):
    """Whatever stands in a stranger's folder: an answer, or one line; and no size takes all memory."""
    place = tmp_path / "strange"
    shutil.copytree(run, place)
    record, answered = json.loads((place / file).read_text()), 0
    changed = [junk for junk in JUNK if not isinstance(junk, dict)]
    changed += [record | {name: junk} for name in record for junk in JUNK]
    changed += [{key: value for key, value in record.items() if key != name} for name in record]
    for one in changed:
        (place / file).write_text(json.dumps(one))
        try:
            package = template.find(place, folder.read_complete(place))
            list(template.train(package, "predict").predict(place, [photos / "z.png"]))
            answered += 1
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
    assert answered <= {"config.json": 0, "metrics.json": 3, "environment.json": len(changed)}[file]
    (place / "config.json").write_text(json.dumps({"image_size": 200_000, "resize": "pad"}))
    (place / "metrics.json").write_bytes((run / "metrics.json").read_bytes())
    with pytest.raises(InputError, match="image_size=200000 cannot be used; .* from 1 to 4096"):
        predict.load(place)
