"""What is saved and exported predicts what the network in the process does, from pictures of any size."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from runner import __main__ as command_line
from runner.errors import InputError
from runner.networks import backbones
from runner.picture_runs import export
from runner.pictures import any_size
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
    if kind in export.NAMES:
        ((path, difference),) = export.run(run, [kind], tmp_path / "out").items()
        assert path == tmp_path / "out" / export.NAMES[kind] and difference < tolerance
        assert [one.name for one in path.parent.iterdir()] == [path.name]  # nothing half-made beside it
    code = f"""
import sys
import numpy as np
{"import keras" if kind in ("keras", "direct") else "" if kind == "onnx" else "import tensorflow as tf"}
path, golden = sys.argv[1], np.load(sys.argv[2])
{READ[kind]}
print(max(float(np.abs(call(golden[f"picture_{{i}}"]) - golden[f"logits_{{i}}"]).max()) for i in range(5)))
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
    assert max(export.run(tmp_path, ["savedmodel"]).values()) < export.TOLERANCE
    served = export.READERS["savedmodel"](tmp_path / "export" / "savedmodel", photos())
    own = [trained.predict(photos()[0], verbose=0)]
    assert np.abs(served[0] - own[0]).max() < 0.1 * np.abs(own[0]).max()


def test_an_export_that_disagrees_is_not_kept(run, tmp_path, monkeypatch):
    kept = tmp_path / "savedmodel"
    kept.mkdir()
    (kept / "old").write_text("the export before")
    monkeypatch.setattr(export, "TOLERANCE", 1e-12)  # what float32 cannot hold
    with pytest.raises(InputError, match="differ from model.keras"):
        export.run(run, ["savedmodel"], tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["savedmodel"]
    assert [one.name for one in kept.iterdir()] == ["old"]


def test_what_cannot_be_exported_is_said_in_one_line(run, tmp_path, monkeypatch):
    for folder, formats, words in (
        (run, ["tflite"], "savedmodel, litert, onnx"),
        (run, [], "savedmodel, litert, onnx"),
        (tmp_path / "nowhere", ["onnx"], "give one that a template's training made"),
        (tmp_path, ["onnx"], "no folder of a run"),
    ):
        with pytest.raises(InputError, match=words):
            export.run(folder, formats)
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
