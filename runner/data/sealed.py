"""The test split, closed until it is opened with a reason, which is written down.

    test = examples.test.open(run / "test_readings.csv", "final numbers of three methods")

Selection, early stopping, tuning and ranking are handed a `Data`; nothing they do with its `test` gives a
example until somebody has opened it, and each opening leaves a row that the run folder keeps.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import tensorflow as tf

from runner import atomic, cells
from runner.errors import InputError

COLUMNS = ("time", "pictures", "reason")
"""Of a record. "pictures" counts the examples of any kind: records of finished runs have that name."""
_KEPT_CLOSED: list[str] = []
"""Why no test split can be opened now, of each `kept_closed` that is entered: of the whole process, since
what runs within one may start threads.
"""


@contextlib.contextmanager
def kept_closed(reason: str) -> Iterator[None]:
    """Within the block no `Sealed` of the process can be opened, nor one that was opened before be read.

    reason: in words, for the InputError that `open` raises.
    """
    _KEPT_CLOSED.append(reason)
    try:
        yield
    finally:
        _KEPT_CLOSED.remove(reason)


def _check_not_kept_closed() -> None:
    if _KEPT_CLOSED:
        raise InputError(
            f"the test split stays closed: {_KEPT_CLOSED[-1]}; choose on examples.val, and run what was "
            "chosen once with the test."
        )


class Sealed:
    """Wrap the `tf.data.Dataset` of a test split.

    Its length is known (`cardinality()`); its elements are only there after `open`.
    """

    def __init__(self, dataset: tf.data.Dataset):
        self._dataset, self._opened = dataset, False

    def open(self, record: str | Path | None, reason: str) -> tf.data.Dataset:
        """Return the dataset, once the reading is written down.

        record: a CSV file (columns time, pictures, reason) that gets one row more; None where no file is
        kept, as in a notebook.
        reason: what the reading is for, in words.
        Raises InputError for an empty reason, where `record` is no such file, and within `kept_closed`;
        nothing is opened then.
        """
        _check_not_kept_closed()
        if not reason.strip():
            raise InputError(
                "the test split was opened with an empty reason; say in words what it is read for."
            )
        if record is not None:
            row = pd.DataFrame(
                [[datetime.datetime.now().isoformat(timespec="seconds"), int(self.cardinality()), reason]],
                columns=COLUMNS,
            )
            atomic.write_csv(Path(record), pd.concat([readings(record), row], ignore_index=True))
        self._opened = True
        return self._dataset

    def map(self, function: Callable[[dict], dict]) -> "Sealed":
        """The same split with another form of each element, as sealed as before."""
        return Sealed(self._dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE))

    def followed_by(self, other: "Sealed") -> "Sealed":
        """Both test splits, one after the other, as sealed as before; elements are of one form."""
        return Sealed(self._dataset.concatenate(other._dataset))

    def cardinality(self) -> tf.Tensor:
        """The number of test examples, int64 ()."""
        return self._dataset.cardinality()

    def __iter__(self) -> Iterator:
        _check_not_kept_closed()
        if not self._opened:
            raise InputError(
                "the test split is sealed: choose, stop and tune on examples.val, and at the very end take "
                "examples.test.open(run / 'test_readings.csv', 'what for')."
            )
        return iter(self._dataset)


def readings(record: str | Path) -> pd.DataFrame:
    """The openings so far, oldest first: columns time, pictures, reason; empty where there is no file.

    Raises InputError where the file is something else.
    """
    if not Path(record).is_file():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = cells.read(record)
    except ValueError as error:
        raise InputError(f"{record} is no record of readings ({error}); move it away.") from None
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{record} has the columns {', '.join(map(str, table.columns))}; a record of readings has "
            f"{', '.join(COLUMNS)}: give another file."
        )
    return table
