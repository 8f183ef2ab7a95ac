"""Import TensorFlow without its start-up notes.

TensorFlow 2.21 writes which processor instructions it could use, and that there is no GPU driver, to file
descriptor 2 before it reads TF_CPP_MIN_LOG_LEVEL. In a terminal these lines would bury a run's own. `python
-m runner doctor` says what matters of them.
"""

import os
import re
import sys
import tempfile

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
