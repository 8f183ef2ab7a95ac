"""TensorFlow without its start-up notes, and without a warning of what is meant to be; Keras as it is needed.

TensorFlow 2.21 writes which processor instructions it could use, and that there is no GPU driver, to file
descriptor 2 before it reads TF_CPP_MIN_LOG_LEVEL. In a terminal these lines would bury a run's own. `python
-m runner doctor` says what matters of them.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

from runner.errors import InputError

NOTES = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog|[IW]0000 |To enable the following instructions)"
)


def import_tensorflow() -> None:
    """Import tensorflow and keras; what they write to standard error comes through unless it is a start-
    up note.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            notes.seek(0)
            for line in notes:
                if not NOTES.match(line):
                    sys.stderr.write(line.decode(errors="replace"))
    # KerasHub imports a bar for downloads that, in a notebook without ipywidgets, asks for them.
    warnings.filterwarnings("ignore", message="IProgress not found")
    settle_keras()


def settle_keras() -> None:
    """Have Keras lay pictures out as everything here does, whatever ~/.keras/keras.json says.

    Importing `runner` has chosen its backend. Raises InputError where Keras was imported before, on another.
    """
    import keras

    if keras.config.backend() != "tensorflow":
        raise InputError(
            f"Received Keras on {keras.config.backend()}; TensorFlow is what networks here run on: import "
            "runner before keras, or set KERAS_BACKEND=tensorflow."
        )
    keras.config.set_image_data_format("channels_last")


@contextlib.contextmanager
def about_tracing() -> Iterator[None]:
    """Within the block TensorFlow does not warn of functions that are traced again: each stage of a fit, and
    each model of a comparison, is traced once on purpose, and TensorFlow takes them for one function.
    """

    def other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    log = logging.getLogger("tensorflow")
    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)
