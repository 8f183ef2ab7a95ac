"""Text in tables that a spreadsheet would run: a cell that begins like a formula gets an apostrophe in front.

Names of files, classes and groups come from wherever the data does, and a spreadsheet takes a cell that
begins with = + - @ or a tab for a formula, which may start programs (OWASP, "CSV injection"). `neutral` is
what is written, `original` what is read back. Numbers and a sign alone are no formulas and stay as they are.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r\n].", re.DOTALL)
_NEUTRAL = re.compile(r"'+[=+\-@\t\r\n].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def neutral(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table with an apostrophe before each text that a spreadsheet would take for a formula."""
    return _each(table, neutral_text)


def original(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the table that `neutral` was given."""
    return _each(table, original_text)


def neutral_text(text: str) -> str:
    """One cell of `neutral`. An apostrophe that stands there already counts with what follows it."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def original_text(text: str) -> str:
    """One cell of `original`."""
    return text[1:] if _NEUTRAL.match(text) else text


def write(table: "pd.DataFrame", target: Path | IO[str]) -> None:
    """Write a table as CSV, `neutral` and without its index."""
    written = neutral(table)
    # Python's writer leaves a carriage return without quotes, and readers take it for the end of a row.
    texts = [
        str(value) for _, column in written.items() if column.dtype.kind == "O" for value in column.unique()
    ]
    returns = any("\r" in text for text in [*texts, *map(str, written.columns)])
    written.to_csv(target, index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)


def read(source: str | Path | IO, **options: Any) -> "pd.DataFrame":
    """Read a table that `write` wrote; options, errors: those of `pandas.read_csv`."""
    import pandas as pd

    return original(pd.read_csv(source, **options))


def _each(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    """Return the table with its texts changed, also those of categories and of the header."""
    import pandas as pd

    def one(value: Any) -> Any:
        return change(value) if isinstance(value, str) else value

    changed = table.copy(deep=False)
    for place, (_, column) in enumerate(table.items()):
        if isinstance(column.dtype, pd.CategoricalDtype):
            changed.isetitem(place, column.cat.rename_categories(list(map(one, column.cat.categories))))
        elif column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
            changed.isetitem(place, pd.Series(list(map(one, column)), column.index, dtype=column.dtype))
    return changed.set_axis(list(map(one, table.columns)), axis=1)
