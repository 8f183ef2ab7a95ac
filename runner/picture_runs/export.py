"""The trained network as others can run it: raw pictures of any size in, logits out, in four formats.

    python -m runner export RUN --format litert onnx

`any_size` puts the resizing of the training into the network; a run saves that as model.keras, plain Keras
that loads without this project. `run` turns it into a SavedModel, LiteRT or ONNX file, runs the file on
pictures of several sizes and compares the logits with model.keras before it is given a name.
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from runner.errors import InputError
from runner.pictures import square
from runner.runs import folder

TOLERANCE = 1e-4
"""How far an exported logit may lie from model.keras, as a share of the largest logit (at least 1): about a
hundred times what float32 gives for sums in another order."""
ONNX_OPSET = 18
SIZES = ((64, 64), (97, 131), (480, 320), (33, 200))
"""Height and width of the pictures that an exported file is compared on."""
NAMES = {"savedmodel": "savedmodel", "litert": "model.tflite", "onnx": "model.onnx"}
"""What the file or folder of each format is called."""


def any_size(network: keras.Model, how: str = "crop") -> keras.Model:
    """Return the same network on pictures of any size, with its layers and weights shared.

    network: a flat functional model, uint8 (batch, size, size, channels) in, whose first operation casts to
        float32 (as `backbones.build` makes them).
    how: as the training pictures were made square, see `square.resize`.

    The result takes uint8 (batch, height, width, channels) and gives the logits of `network` on the resized
    pictures; on pictures of `size` x `size` the very same logits.
    """
    if how not in square.RESIZES:
        raise InputError(f"Received resize={how!r}; allowed: {', '.join(square.RESIZES)}.")
    size = network.input.shape[1]
    resizing = keras.layers.Resizing(
        size, size, antialias=True, dtype="float32", name="resize", **square.RESIZING[how]
    )
    # training=False: this layer calls itself in training mode, and what follows it would follow its example
    # in `model(x)` and in exports.
    return _resized(network, lambda picture: resizing(picture, training=False), _same)


def _same(operation):
    """Share a layer or operation instead of copying it."""
    return operation


def _in_float32(operation):
    """Copy a layer with a float32 dtype policy and without its weights; share what is no layer."""
    if not isinstance(operation, keras.layers.Layer):
        return operation
    return type(operation).from_config({**operation.get_config(), "dtype": "float32"})


def _resized(network: keras.Model, resize: Callable, copy: Callable) -> keras.Model:
    """Copy the graph of `network` for any height and width, with `resize` after its first cast to float32."""
    channels = network.input.shape[3]
    picture = keras.Input((None, None, channels), dtype=network.input.dtype, name=network.input.name)

    def call(operation, *inputs, **arguments):
        output = operation(*inputs, **arguments)
        return resize(output) if any(one is picture for one in inputs) else output

    return keras.models.clone_model(network, input_tensors=picture, clone_function=copy, call_function=call)


class PortableResize(keras.layers.Layer):
    """The arithmetic of `square.resize` as two matrix products, which every format can express.

    float32 (batch, height, width, channels) in, float32 (batch, size, size, channels) out. LiteRT and ONNX
    have no antialiased resize of any size. Resizing with a triangle filter is linear and separable: with
    W[i, j] = max(0, 1 - |c_i - (j + 1/2)| / max(s, 1)) over its row's sum, s = side / size the scale and
    c_i = (i + 1/2) s the centre of target pixel i, the result is W_rows X W_columns^T.
    """

    def __init__(self, size: int, how: str, **arguments):
        super().__init__(dtype="float32", **arguments)
        self.size, self.how = size, how

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.size, self.size, input_shape[3])

    def call(self, picture):
        height, width, channels = tf.shape(picture)[1], tf.shape(picture)[2], picture.shape[3]
        left, top, wide, high = square.frame(width, height, self.how, tf.minimum, tf.maximum)
        above = before = tf.constant(0)
        if self.how == "crop":
            picture = picture[:, top : top + high, left : left + wide, :]
            height, width = high, wide
        if self.how == "pad":
            above, before = -top, -left
        rows, columns = self._weights(height, above), self._weights(width, before)
        picture = tf.matmul(rows, tf.reshape(picture, [-1, height, width * channels]))
        picture = tf.matmul(columns, tf.reshape(picture, [-1, width, channels]))
        return tf.reshape(picture, [-1, self.size, self.size, channels])

    def _weights(self, length: tf.Tensor, black: tf.Tensor) -> tf.Tensor:
        """W (1, size, length) for `length` pixels with `black` black ones before and after them."""
        side = length + 2 * black
        scale = tf.cast(side, tf.float32) / self.size
        centre = (tf.range(self.size, dtype=tf.float32) + 0.5) * scale
        pixel = tf.cast(tf.range(side), tf.float32) + 0.5
        weights = tf.maximum(0.0, 1 - tf.abs(centre[:, None] - pixel[None]) / tf.maximum(scale, 1.0))
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
        return weights[None, :, black : black + length]


def run(
    run_folder: str | Path, formats: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the model of a run; return for each file or folder written its largest relative difference.

    run_folder: of a complete run.
    formats: names from NAMES.
    output: folder for the results, by default `run_folder`/export; an earlier export of the same format in it
        is replaced once the new one is whole and agrees.

    A run in mixed precision is exported in float32, which every format and processor knows, and is compared
    with the network in float32; its own logits differ from those by the rounding of the half precision
    (measured .05 of the largest logit for bfloat16, .004 for float16).

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
    output = Path(os.path.expanduser(output)) if output else run_folder / "export"
    portable, expected = _portable(model, config["image_size"], config["resize"])
    pictures = _probes(model.input.shape[3])
    wanted = [np.asarray(expected(one, training=False)) for one in pictures]
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
    return differences


def load(run_folder: Path) -> tuple[keras.Model, dict]:
    """The model and the config (plain JSON types) of a complete run; InputError where it is none."""
    config = folder.read_complete(run_folder)
    try:
        return keras.models.load_model(run_folder / "model.keras", compile=False), config
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{run_folder / 'model.keras'} cannot be loaded ({reason}).") from error


def _portable(model: keras.Model, size: int, how: str) -> tuple[keras.Model, keras.Model]:
    """The model with `PortableResize` for its Resizing, and one in Keras to compare with; both in float32."""
    inner = _without_resizing(model, size)
    if all(layer.compute_dtype == "float32" for layer in model.layers if layer.weights):
        return _resized(inner, PortableResize(size, how), _same), model
    whole = keras.models.clone_model(inner, clone_function=_in_float32)
    whole.set_weights(inner.get_weights())
    return _resized(whole, PortableResize(size, how), _same), any_size(whole, how)


def _without_resizing(model: keras.Model, size: int) -> keras.Model:
    """The network of `model`, on pictures that have their size already."""
    picture = keras.Input((size, size, model.input.shape[3]), dtype=model.input.dtype, name=model.input.name)

    def call(operation, *inputs, **arguments):
        if operation.name == "resize":
            return inputs[0]
        return operation(*inputs, **arguments)

    return keras.models.clone_model(model, input_tensors=picture, clone_function=_same, call_function=call)


def _probes(channels: int) -> list[np.ndarray]:
    """Pictures (2, height, width, channels), uint8: smooth colours with some noise, for SIZES."""
    random = np.random.default_rng(0)
    pictures = []
    for height, width in SIZES:
        coarse = random.uniform(0, 255, (2, 5, 5, channels)).astype("float32")
        smooth = tf.image.resize(coarse, (height, width)).numpy()
        pictures.append((smooth + random.uniform(-8, 8, smooth.shape)).clip(0, 255).astype("uint8"))
    return pictures


def _difference(name: str, given: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest difference as a share of the largest logit, or InputError above TOLERANCE."""
    scale = max(1.0, max(float(np.abs(one).max()) for one in wanted))
    difference = max(float(np.abs(a - b).max()) for a, b in zip(given, wanted, strict=True)) / scale
    if not difference <= TOLERANCE:
        raise InputError(
            f"the {name} export gives logits that differ from model.keras by {difference:.2g} of the largest "
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
