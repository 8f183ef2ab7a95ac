"""Networks as others run them, in SavedModel, LiteRT and ONNX: each run again, and compared, before it has a
name.
"""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner import atomic
from runner.errors import InputError
from runner.runs import decision

TOLERANCE = 1e-4
"""How far an exported logit may lie from that of `predict`, as a share of the largest (at least 1): about a
hundred times what float32 gives for sums in another order."""
ONNX_OPSET = 18
NAMES = {"savedmodel": "savedmodel", "litert": "model.tflite", "onnx": "model.onnx"}
"""What the file or folder of each format is called."""


def check(formats: Sequence[str]) -> None:
    """Raise InputError for a format that there is not, and where a package that one needs is missing."""
    unknown = [name for name in formats if name not in NAMES]
    if unknown or not formats:
        raise InputError(f"--format {' '.join(unknown) or '(none)'}: give some of {', '.join(NAMES)}.")
    if "onnx" in formats:
        _check_onnx()


def export(
    network: keras.Model,
    taken: tf.TensorSpec,
    inputs: Sequence[Any],
    wanted: Sequence[np.ndarray],
    formats: Sequence[str],
    output: Path,
    beside: Mapping[str, Any],
) -> dict[Path, float]:
    """Write a network in each of the formats; return for each file or folder its largest relative difference.

    taken: what the network takes, with the name that the formats give it. inputs: batches to compare on,
    arrays or, for a SavedModel, what the network takes in any structure of them, and wanted: the logits
    that they should give, (n, ...) each. output: a folder, made where it is missing; what is there of the
    same format is replaced once the new one is whole and agrees. beside: what decision.NAME says.

    Raises InputError for a network that the format cannot express, and where a file gives other logits:
    nothing is kept of it then.
    """
    output.mkdir(parents=True, exist_ok=True)
    differences = {}
    for name in formats:
        # Written beside its place and moved: an export that does not agree never has the name.
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output) as scratch:
            written, path = Path(scratch) / NAMES[name], output / NAMES[name]
            with warnings.catch_warnings():  # of TensorFlow and NumPy about each other's old names
                warnings.simplefilter("ignore")
                WRITERS[name](network, taken, written)
                differences[path] = _difference(name, READERS[name](written, list(inputs)), wanted)
            if path.is_dir():
                shutil.rmtree(path)
            written.replace(path)
    atomic.write_json(output / decision.NAME, dict(beside))
    return differences


def _difference(name: str, given: list[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
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


def _write_savedmodel(network: keras.Model, taken: tf.TensorSpec, path: Path) -> None:
    network.export(str(path), format="tf_saved_model", verbose=False)


def _write_litert(network: keras.Model, taken: tf.TensorSpec, path: Path) -> None:
    # Not `model.export`, which falls back on TensorFlow's own kernels; devices don't have those. And by way
    # of a SavedModel: what TensorFlow 2.21 converts from the function itself computes NaN.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        _write_savedmodel(network, taken, Path(scratch))
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            path.write_bytes(converter.convert())
        except Exception as error:  # the converter's own error class is not public
            raise _cannot_express("litert", error) from error


def _write_onnx(network: keras.Model, taken: tf.TensorSpec, path: Path) -> None:
    # Not `model.export`, whose ONNX files lack constants that were captured (ResNet50's channel means).
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx  # Keras' cure for tf2onnx 1.17 under NumPy 2
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    patch_tf2onnx()
    called = lambda given: {"logits": network(given, training=False)}  # noqa: E731
    serve = tf.function(called, input_signature=[taken]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(serve)
    inside, given = frozen.inputs[0].name, frozen.outputs[0].name
    # One logs the traceback of each optional rewriting that does not apply, the other that it is called.
    logs = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[inside],
            output_names=[given],
            tensors_to_rename={inside: taken.name, given: "logits"},
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


def _read_savedmodel(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    served = tf.saved_model.load(str(path))
    found = [served.serve(keras.tree.map_structure(tf.constant, one)) for one in inputs]
    # Of several outputs the logits are what is compared, of translations how sure they are.
    key = "logits" if isinstance(found[0], dict) and "logits" in found[0] else "score"
    return [(one[key] if isinstance(one, dict) else one).numpy() for one in found]


def _read_litert(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    interpreter = tf.lite.Interpreter(str(path))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    logits = []
    for one in inputs:
        interpreter.resize_tensor_input(taken["index"], one.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], one)
        interpreter.invoke()
        logits.append(interpreter.get_tensor(given["index"]))
    return logits


def _read_onnx(path: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one})[0] for one in inputs]


WRITERS = {"savedmodel": _write_savedmodel, "litert": _write_litert, "onnx": _write_onnx}
READERS = {"savedmodel": _read_savedmodel, "litert": _read_litert, "onnx": _read_onnx}
"""How each format is written, and run again outside Keras."""
