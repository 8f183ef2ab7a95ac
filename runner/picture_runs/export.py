"""The trained network as others can run it: raw pictures of any size in, logits out, in four formats.

    python -m runner export RUN --format litert onnx

A run saves its network with the resizing of the training in it as model.keras (`pictures.any_size`), plain
Keras that loads without this project. `run` turns it into a SavedModel, LiteRT or ONNX file, runs the file on
pictures of several sizes and compares the logits with those of pictures that are resized as `predict` does,
before it is given a name. Beside the files stands what makes a class of logits (`runs.decision`).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from runner import atomic
from runner.errors import InputError
from runner.networks import saved
from runner.pictures import any_size, square
from runner.pictures.load import LARGEST
from runner.runs import decision, folder
from runner.runs import formats as exported_formats

SIZES = ((64, 64), (97, 131), (480, 320), (33, 200))
"""Height and width of the pictures that an exported file is compared on."""


def run(
    run_folder: str | Path, formats: Sequence[str] = ("savedmodel",), output: str | Path | None = None
) -> dict[Path, float]:
    """Export the model of a run; return for each file or folder written its largest relative difference.

    run_folder: of a complete run.
    formats: names from `runs.formats.NAMES`.
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
    exported_formats.check(formats)
    model, config = load(run_folder)
    output = atomic.place(output, "--output") if output else run_folder / "export"
    prepared = {name: config[name] for name in ("image_size", "resize")}
    beside = decision.record(run_folder, model.output.shape[1:], prepared)
    portable, inner = any_size.portable(model, config["image_size"], config["resize"])
    pictures = _probes(model.input.shape[3])
    wanted = [_expected(inner, one, config) for one in pictures]
    taken = tf.TensorSpec((None, None, None, portable.input.shape[3]), tf.uint8, name="image")
    return exported_formats.export(portable, taken, pictures, wanted, formats, output, beside)


def load(run_folder: Path) -> tuple[keras.Model, dict]:
    """The model and the config (plain JSON types) of a complete run on pictures; InputError where it is none,
    and where either is no such thing.
    """
    run_folder, config = Path(os.path.expanduser(run_folder)), folder.read_complete(run_folder)
    model = saved.load(run_folder)
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
