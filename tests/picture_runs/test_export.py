"""What is saved and exported predicts what the network in the process does, from pictures of any size."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.special
from PIL import Image

from runner import __main__ as command_line
from runner.errors import InputError
from runner.networks import backbones
from runner.picture_runs import export
from runner.picture_runs import predict as new_pictures
from runner.pictures import any_size, square
from runner.runs import decision, formats
from runner.runs import predict as command
from tests.pictures.test_any_size import SIZE, photos


def network(policy="float32"):
    """A trained backbone with BatchNorm, and dropout: what shows when something runs in training mode."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        backbone = backbones.build("MobileNet-0.25", SIZE, "letters_in_photos")
        x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
        x = keras.layers.Dropout(0.5, name="dropout")(x)
        logits = keras.layers.Dense(4, dtype="float32", name="head")(x)
        return keras.Model(backbone.input, logits, name=backbone.name)
    finally:
        keras.config.set_dtype_policy(before)


def squares(pictures):
    """As `predict` sees files: resized by Pillow, uint8."""
    return np.stack([square.resize(Image.fromarray(one), SIZE) for one in pictures])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder as training leaves it, with the logits that the network gave in its process."""
    folder = tmp_path_factory.mktemp("run")
    trained = network()
    any_size.build(trained, "crop").save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"image_size": SIZE, "resize": "crop"}))
    (folder / "metrics.json").write_text(json.dumps({"classes": list("abcd"), "temperature": 2.0}))
    resized = any_size.build(trained, "crop")
    pictures = photos()
    np.savez(
        folder / "golden.npz",
        **{f"picture_{i}": one for i, one in enumerate(pictures)},
        **{f"logits_{i}": resized.predict(one, verbose=0) for i, one in enumerate(pictures)},
        **{f"predict_{i}": trained.predict(squares(one), verbose=0) for i, one in enumerate(pictures)},
    )
    # Of pictures that have their size already, the network itself says the same to the bit.
    assert np.array_equal(trained.predict(pictures[0], verbose=0), resized.predict(pictures[0], verbose=0))
    return folder


READ = {
    "keras": "model = keras.models.load_model(path); call = lambda one: model.predict(one, verbose=0)",
    "direct": "model = keras.models.load_model(path); call = lambda one: np.asarray(model(one))",
    "savedmodel": "model = tf.saved_model.load(path); call = lambda one: model.serve(one).numpy()",
    "onnx": "import onnxruntime; s = onnxruntime.InferenceSession(path)\n"
    "call = lambda one: s.run(['logits'], {'image': one})[0]",
    "litert": """model = tf.lite.Interpreter(path)
taken, given = model.get_input_details()[0], model.get_output_details()[0]
def call(one):
    model.resize_tensor_input(taken["index"], one.shape)
    model.allocate_tensors()
    model.set_tensor(taken["index"], one)
    model.invoke()
    return model.get_tensor(given["index"])""",
}


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("keras", 0), ("direct", 1e-5), ("savedmodel", 1e-4), ("litert", 1e-4), ("onnx", 1e-4)],
)
def test_every_format_agrees_in_a_process_without_this_project(run, tmp_path, kind, tolerance):
    path = run / "model.keras"
    wanted = "predict" if kind in formats.NAMES else "logits"
    if kind in formats.NAMES:
        ((path, difference),) = export.run(run, [kind], tmp_path / "out").items()
        assert path == tmp_path / "out" / formats.NAMES[kind] and difference < tolerance
        # Nothing half-made beside it.
        assert {one.name for one in path.parent.iterdir()} == {path.name, decision.NAME}
    code = f"""
import sys
import numpy as np
{"import keras" if kind in ("keras", "direct") else "" if kind == "onnx" else "import tensorflow as tf"}
path, golden = sys.argv[1], np.load(sys.argv[2])
{READ[kind]}
wanted = {wanted!r}
apart = [call(golden[f"picture_{{i}}"]) - golden[f"{{wanted}}_{{i}}"] for i in range(5)]
print(max(float(np.abs(one).max()) for one in apart))
assert "runner" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(run / "golden.npz")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) <= tolerance * np.abs(np.load(run / "golden.npz")["logits_0"]).max()


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """(run folder, picture files of many shapes): two classes, a temperature, and a threshold of .2."""
    keras.utils.set_random_seed(4)
    folder, photos = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("photos")
    image = keras.Input((16, 16, 3), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(keras.ops.cast(image, "float32"))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    features = keras.Model(image, keras.layers.Flatten()(x))
    head = keras.layers.Dense(2, name="head")
    model = keras.Model(image, head(features.output))
    random = np.random.default_rng(2)
    shapes = random.integers(9, 120, (40, 2))
    pictures = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(photos / f"{number:02}.png")
    # A head that answers differently to pictures that differ little: a first logit of mean -1 and spread 2.
    seen = np.stack([square.resize(Image.fromarray(one), 16, "stretch") for one in pictures])
    kernel = random.normal(size=(head.kernel.shape[0], 1))
    logits = features.predict(seen, verbose=0) @ kernel
    kernel *= 2 / logits.std()
    logits *= 2 / logits.std()
    head.set_weights([np.hstack([kernel, 0 * kernel]), np.array([-1 - logits.mean(), 0])])
    any_size.build(model, "stretch").save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"image_size": 16, "resize": "stretch"}))
    point = {"criterion": "youden", "test": {"positive": "ill", "threshold": 0.2}}
    record = {"classes": ["ill", "well"], "temperature": 1.7, "operating_point": point}
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder, photos


def test_predict_follows_the_threshold_that_the_run_chose(two_classes):
    folder, photos = two_classes
    table = pd.concat(new_pictures.class_tables(folder, [photos]))
    called = table["p:ill"] >= 0.2
    assert (table["prediction"] == np.where(called, "ill", "well")).all()
    assert (called & (table["p:ill"] < 0.5)).any()  # where the likeliest class is the other
    assert (table["threshold:ill"] == 0.2).all()
    assert (table["confidence"] == np.where(called, table["p:ill"], table["p:well"])).all()
    assert "; ill from 20.0 % on)" in command.in_words(table.head(1))


@pytest.mark.parametrize("kind", formats.NAMES)
def test_what_lies_beside_an_export_makes_the_labels_of_predict(two_classes, tmp_path, kind):
    """From the file and the record alone, on pictures as they are: the same probabilities and labels."""
    folder, photos = two_classes
    (path,) = export.run(folder, [kind], tmp_path)
    record = json.loads((tmp_path / "decision.json").read_text())
    assert record["classes"] == ["ill", "well"] and (record["positive"], record["threshold"]) == ("ill", 0.2)
    files = sorted(photos.iterdir())
    pictures = [np.asarray(Image.open(file))[None] for file in files]
    logits = np.concatenate(formats.READERS[kind](path, pictures))
    p = scipy.special.softmax(logits / record["temperature"], axis=1)
    positive = record["classes"].index(record["positive"])
    found = np.where(p[:, positive] >= record["threshold"], positive, 1 - positive)
    told = pd.concat(new_pictures.class_tables(folder, [photos]))
    assert [record["classes"][one] for one in found] == told["prediction"].tolist()
    np.testing.assert_allclose(p, told[["p:ill", "p:well"]], atol=2e-6)
    # What a resize without rounding would make of it, as that of Keras in model.keras is.
    model = keras.models.load_model(folder / "model.keras")
    unrounded = scipy.special.softmax(np.concatenate([model(one) for one in pictures]) / 1.7, axis=1)
    assert np.abs(unrounded - p).max() > 1e-3


@pytest.mark.parametrize(
    "point",
    [7, {"test": None}, {"test": {"positive": "sick", "threshold": 0.5}}, {"test": {"positive": "ill"}}],
)
def test_an_operating_point_of_another_shape_is_one_line(tmp_path, point):
    record = {"classes": ["ill", "well"], "operating_point": point}
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="operating point"):
        decision.of_run(tmp_path, ["ill", "well"])


def test_without_a_threshold_the_likeliest_class_is_the_answer(run, tmp_path):
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert decision.of_run(run, list("abcd")) is None
    assert decision.labels(p, list("abc"), None).tolist() == [1, 0]
    point = decision.Threshold("b", 0.7)
    likeliest, sure = np.array([1, 1, 0]), np.array([0.65, 0.75, 0.9])
    assert decision.moved(likeliest, sure, ["a", "b"], point).tolist() == [0, 1, 0]
    assert decision.moved(likeliest, sure, ["a", "b"], None).tolist() == [1, 1, 0]


def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="File exists.*, or name another place"):
        command_line.main(["export", str(run), "--output", str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_half_precision_is_exported_in_float32(tmp_path, policy):
    trained = network(policy)
    any_size.build(trained).save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text(json.dumps({"image_size": SIZE, "resize": "crop"}))
    (tmp_path / "metrics.json").write_text("{}")
    assert max(export.run(tmp_path, ["savedmodel"]).values()) < formats.TOLERANCE
    served = formats.READERS["savedmodel"](tmp_path / "export" / "savedmodel", photos())
    own = [trained.predict(photos()[0], verbose=0)]
    assert np.abs(served[0] - own[0]).max() < 0.1 * np.abs(own[0]).max()


def test_an_export_that_disagrees_is_not_kept(run, tmp_path, monkeypatch):
    kept = tmp_path / "savedmodel"
    kept.mkdir()
    (kept / "old").write_text("the export before")
    monkeypatch.setattr(formats, "TOLERANCE", 1e-12)  # what float32 cannot hold
    with pytest.raises(InputError, match="differ from predict"):
        export.run(run, ["savedmodel"], tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["savedmodel"]
    assert [one.name for one in kept.iterdir()] == ["old"]


def test_what_cannot_be_exported_is_said_in_one_line(run, tmp_path, monkeypatch):
    for folder, given, words in (
        (run, ["tflite"], "savedmodel, litert, onnx"),
        (run, [], "savedmodel, litert, onnx"),
        (tmp_path / "nowhere", ["onnx"], "give one that a template's training made"),
        (tmp_path, ["onnx"], "no folder of a run"),
    ):
        with pytest.raises(InputError, match=words):
            export.run(folder, given)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not complete"):
        export.run(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "model.keras").write_bytes(b"PK no model")
    with pytest.raises(InputError, match="model.keras cannot be loaded"):
        export.run(tmp_path)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match="pip install tf2onnx onnxruntime"):
        export.run(run, ["onnx"], tmp_path / "out")
    assert not Path(tmp_path / "out").exists()
