"""The trained network as others can run it: raw pictures of any size in, logits out, in four formats.

    python -m runner export RUN --format litert onnx

A run saves its network with the resizing of the training in it as model.keras (`pictures.any_size`), plain
Keras that loads without this project. `run` turns it into a SavedModel, LiteRT or ONNX file, runs the file on
pictures of several sizes and compares the logits with those of pictures that are resized as `predict` does,
before it is given a name. Beside the files stands what makes a class of logits (`runs.decision`).
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from runner import atomic
from runner.errors import InputError
from runner.pictures import any_size, square
from runner.pictures.load import LARGEST
from runner.runs import decision, folder, network

TOLERANCE = 1e-4
"""How far an exported logit may lie from that of `predict`, as a share of the largest (at least 1): about a
hundred times what float32 gives for sums in another order."""
ONNX_OPSET = 18
SIZES = ((64, 64), (97, 131), (480, 320), (33, 200))
"""Height and width of the pictures that an exported file is compared on."""
NAMES = {"savedmodel": "savedmodel", "litert": "model.tflite", "onnx": "model.onnx"}
"""What the file or folder of each format is called."""


def run(
    run_folder: str | Path, formats: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the model of a run; return for each file or folder written its largest relative difference.

    run_folder: of a complete run.
    formats: names from NAMES.
    output: folder for the results, by default `run_folder`/export; an earlier export of the same format in it
        is replaced once the new one is whole and agrees.

    Writes decision.NAME beside them. A run in mixed precision is exported in float32, which every format and
    processor knows, and is compared with the network in float32; its own logits, which `predict` gives,
    differ from those by the rounding of the half precision (measured .05 of the largest logit for bfloat16,
    .004 for float16).

    Raises InputError for a folder that is no complete run, an unknown format, a missing package, or a network
    that the format cannot express, and where a file gives other logits: nothing is kept of it then.
    """
    run_folder = Path(os.path.expanduser(run_folder))
    unknown = [name for name in formats if name not in NAMES]
    if unknown or not formats:
        raise InputError(f"--format {' '.join(unknown) or '(none)'}: give some of {', '.join(NAMES)}.")
    if "onnx" in formats:
        _check_onnx()
    model, config = load(run_folder)
    output = atomic.place(output, "--output") if output else run_folder / "export"
    beside = decision.record(run_folder, config, model.output.shape[1:])
    portable, inner = any_size.portable(model, config["image_size"], config["resize"])
    pictures = _probes(model.input.shape[3])
    wanted = [_expected(inner, one, config) for one in pictures]
    output.mkdir(parents=True, exist_ok=True)
    differences = {}
    for name in formats:
        # Written beside its place and moved: an export that does not agree never has the name.
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output) as scratch:
            written, path = Path(scratch) / NAMES[name], output / NAMES[name]
            with warnings.catch_warnings():  # of TensorFlow and NumPy about each other's old names
                warnings.simplefilter("ignore")
                WRITERS[name](portable, written)
                differences[path] = _difference(name, READERS[name](written, pictures), wanted)
            if path.is_dir():
                shutil.rmtree(path)
            written.replace(path)
    atomic.write_json(output / decision.NAME, beside)
    return differences


def load(run_folder: Path) -> tuple[keras.Model, dict]:
    """The model and the config (plain JSON types) of a complete run on pictures; InputError where it is none,
    and where either is no such thing.
    """
    run_folder, config = Path(os.path.expanduser(run_folder)), folder.read_complete(run_folder)
    model = network.load(run_folder)
    _check_settings(run_folder, config)
    shape = getattr(model.input, "shape", None)
    if shape is None or len(shape) != 4 or shape[3] not in (1, 3) or not hasattr(model.output, "shape"):
        raise InputError(f"{run_folder / 'model.keras'} takes {shape}, and no pictures; give another run.")
    if any(side not in (None, config["image_size"]) for side in shape[1:3]):
        raise InputError(
            f"{run_folder}: config.json says image_size={config['image_size']}, model.keras takes "
            f"{shape[1]} x {shape[2]} pixels; they are not of one run."
        )
    return model, config


def _check_settings(run_folder: Path, config: dict) -> None:
    """Raise InputError for what no Config of pictures holds: such a size would take all memory."""
    size, resize = config.get("image_size"), config.get("resize")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
        raise InputError(
            f"{run_folder / 'config.json'}: image_size={str(size)[:40]} cannot be used; it is a whole number "
            f"of pixels from 1 to {LARGEST}."
        )
    if resize not in square.RESIZES:
        raise InputError(
            f"{run_folder / 'config.json'}: resize={str(resize)[:40]!r} cannot be used; it is one of "
            f"{', '.join(square.RESIZES)}."
        )


def _probes(channels: int) -> list[np.ndarray]:
    """Pictures (2, height, width, channels), uint8: smooth colours with some noise, for SIZES."""
    random = np.random.default_rng(0)
    pictures = []
    for height, width in SIZES:
        coarse = random.uniform(0, 255, (2, 5, 5, channels)).astype("float32")
        smooth = tf.image.resize(coarse, (height, width)).numpy()
        pictures.append((smooth + random.uniform(-8, 8, smooth.shape)).clip(0, 255).astype("uint8"))
    return pictures


def _expected(inner: keras.Model, pictures: np.ndarray, config: dict) -> np.ndarray:
    """The logits of pictures that are resized as `predict` resizes files: (n, ...)."""
    # One channel is resized as three equal ones are.
    rgb = [Image.fromarray(np.repeat(one, 3 // one.shape[2], axis=2)) for one in pictures]
    resized = np.stack([square.resize(one, config["image_size"], config["resize"]) for one in rgb])
    return np.asarray(inner(resized[..., : pictures.shape[3]], training=False))


def _difference(name: str, given: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest difference as a share of the largest logit, or InputError above TOLERANCE."""
    scale = max(1.0, max(float(np.abs(one).max()) for one in wanted))
    difference = max(float(np.abs(a - b).max()) for a, b in zip(given, wanted, strict=True)) / scale
    if not difference <= TOLERANCE:
        raise InputError(
            f"the {name} export gives logits that differ from predict's by {difference:.2g} of the largest "
            f"(at most {TOLERANCE:.2g} is expected); it was not kept. The packages of this environment may "
            "not fit together: try other versions of them, or another format."
        )
    return difference


def _serve(portable: keras.Model):
    """The forward pass as one concrete function, picture uint8 (batch, height, width, channels) in."""
    taken = tf.TensorSpec((None, None, None, portable.input.shape[3]), tf.uint8, name="image")
    logits = tf.function(lambda image: {"logits": portable(image, training=False)}, input_signature=[taken])
    return logits.get_concrete_function()


def _write_savedmodel(portable: keras.Model, path: Path) -> None:
    portable.export(str(path), format="tf_saved_model", verbose=False)


def _write_litert(portable: keras.Model, path: Path) -> None:
    # Not `model.export`, which falls back on TensorFlow's own kernels; devices don't have those. And by way
    # of a SavedModel: what TensorFlow 2.21 converts from the function itself computes NaN.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        _write_savedmodel(portable, Path(scratch))
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            path.write_bytes(converter.convert())
        except Exception as error:  # the converter's own error class is not public
            raise _cannot_express("litert", error) from error


def _write_onnx(portable: keras.Model, path: Path) -> None:
    # Not `model.export`, whose ONNX files lack constants that were captured (ResNet50's channel means).
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx  # Keras' cure for tf2onnx 1.17 under NumPy 2
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    patch_tf2onnx()
    frozen = convert_variables_to_constants_v2(_serve(portable))
    taken, given = frozen.inputs[0].name, frozen.outputs[0].name
    # One logs the traceback of each optional rewriting that does not apply, the other that it is called.
    logs = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[taken],
            output_names=[given],
            tensors_to_rename={taken: "image", given: "logits"},
            opset=ONNX_OPSET,
            output_path=str(path),
        )
        import onnxruntime

        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # what it does not know it writes as it is; reading that back fails
        raise _cannot_express("onnx", error) from error
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _cannot_express(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"--format {name} cannot express this network ({reason}); give another of {', '.join(NAMES)}."
    )


def _check_onnx() -> None:
    try:
        import onnxruntime  # noqa: F401 - to see that it is there before minutes of work
        import tf2onnx  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"--format onnx needs the package {error.name}: run `pip install tf2onnx onnxruntime` first."
        ) from None


def _read_savedmodel(path: Path, pictures: list[np.ndarray]) -> list[np.ndarray]:
    served = tf.saved_model.load(str(path))
    return [served.serve(tf.constant(one)).numpy() for one in pictures]


def _read_litert(path: Path, pictures: list[np.ndarray]) -> list[np.ndarray]:
    interpreter = tf.lite.Interpreter(str(path))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    logits = []
    for one in pictures:
        interpreter.resize_tensor_input(taken["index"], one.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], one)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(given["index"]))
    return logits


def _read_onnx(path: Path, pictures: list[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one})[0] for one in pictures]


WRITERS = {"savedmodel": _write_savedmodel, "litert": _write_litert, "onnx": _write_onnx}
READERS = {"savedmodel": _read_savedmodel, "litert": _read_litert, "onnx": _read_onnx}
"""How each format is written, and run again outside Keras."""
