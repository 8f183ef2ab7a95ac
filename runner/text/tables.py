"""Texts that stand in a table, a row each: CSV, TSV or JSON Lines."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from runner.data.files import printable
from runner.data.source import COLUMNS, Source, cells_of, in_columns, in_splits, ordered
from runner.errors import InputError
from runner.text.decoding import LINE_END, Unreadable, decode

Lines = list[tuple[int, list[str]]]
"""(number, cells), the names of the columns first."""
_NAMES = COLUMNS.replace("path", "text", 1)
_KEYS = tuple(re.findall(r"\w+", _NAMES))
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def find(path: Path) -> Source:
    """List the texts of a table with the columns text,label[,split][,group][,subgroup][,weight].

    In `Source.examples` a path is FILE:LINE, the line where the row begins. Of texts nothing is changed: line
    ends and surrounding white space stay; other cells lose theirs. CSV is read with quotes, which a cell with
    a comma, a quote (doubled) or a line end needs. TSV is read as it stands, a row a line, unless its header
    or only cells with doubled quotes are quoted, or only quotes explain its rows. JSON Lines is an object per
    line, texts and labels as strings, labels also as whole numbers. Raises InputError, in one line, for what
    a person has to put right.
    """
    where, name = f"Received data={str(path)!r}", printable(path.name)
    lines = FORMS[path.suffix.lower()](read(path, where), where)
    separator = "tab" if path.suffix.lower() == ".tsv" else "comma"
    numbers, cells = cells_of(lines, where, "text", separator)
    texts = cells["text"].tolist()
    cells = cells.apply(lambda column: column.str.strip())
    cells = in_splits(cells, numbers, where, needed=("label",))
    cells["path"] = [f"{name}:{line}" for line in numbers]
    examples, problems = in_columns(cells, numbers, where)
    return Source(examples, ordered(set(examples["label"])), lambda: iter(texts), problems)


def texts(path: Path) -> list[tuple[str, str]]:
    """The texts of a table as `find` takes it, of which only the column text is needed: (FILE:LINE, text).

    Raises InputError as `find` does.
    """
    name = printable(path.name)
    numbers, cells = columns(path, f"Received {str(path)!r}", ("text",))
    return [(f"{name}:{number}", text) for number, text in zip(numbers, cells["text"], strict=True)]


def columns(path: Path, where: str, names: Sequence[str]) -> tuple[list[int], pd.DataFrame]:
    """The line of each row of a table as `find` takes it, and those of the columns `names` that it has, of
    which there must be the first.

    where: how a message begins. Raises InputError as `find` does.
    """
    form, text, needed = path.suffix.lower(), read(path, where), names[0]
    lines = _json_lines(text, where, (needed,)) if FORMS[form] is _json_lines else FORMS[form](text, where)
    if FORMS[form] is not _json_lines:  # there a line without anything is no row
        lines = [(number, row) for number, row in lines if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if header.count(needed) != 1:
        found = f"the columns {', '.join(map(repr, header))}" if header else "nothing in it"
        raise InputError(f"{where} with {found}; expected a column {needed} in the first line.")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{where} with {len(row)} cells in line {number} and {len(header)} columns; put cells that "
                "hold what separates them in double quotes."
            )
    places = {name: header.index(name) for name in names if name in header}
    cells = {name: [row[place] for _, row in lines[1:]] for name, place in places.items()}
    return [number for number, _ in lines[1:]], pd.DataFrame(cells, dtype=object)


def read(path: Path, where: str) -> str:
    """Return the text of a file; where: how a message begins. Raises InputError for what is no text."""
    try:
        return decode(path.read_bytes())
    except Unreadable as error:
        raise InputError(f"{where}, which {error}.") from None
    except OSError as error:
        raise InputError(f"{where}, which cannot be read: {error.strerror}.") from None


def _csv(text: str, where: str, delimiter: str = ",") -> Lines:
    """Rows with quotes; strict, since a quote that nobody closes would swallow the rows behind it."""
    lines: Lines = []
    begins = 1
    # The longest cell is a setting of the module; books are longer than its 131,072 characters.
    before = csv.field_size_limit(max(len(text), 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for row in reader:
            lines.append((begins, row))
            begins = reader.line_num + 1
    except csv.Error as error:
        reason = "a quote opens a cell and none closes it" if "end of data" in str(error) else str(error)
        raise InputError(
            f'{where}, whose row from line {begins} on cannot be read ({reason}); write " within a cell as '
            '"", and the cell in double quotes.'
        ) from None
    finally:
        csv.field_size_limit(before)
    return lines


def _tsv(text: str, where: str) -> Lines:
    """Rows as they stand, or with quotes where those are meant; where in doubt a text keeps its quotes."""
    plain = [(number, line.split("\t")) for number, line in enumerate(LINE_END.split(text), 1)]
    rows = [row for _, row in plain if any(row)]
    if len({len(row) for row in rows}) > 1:
        try:
            quoted = _csv(text, where, "\t")
        except InputError:
            return plain
        return quoted if len({len(row) for _, row in quoted if any(row)}) == 1 else plain
    begun = [cell for row in rows for cell in row if cell.startswith('"')]
    meant = bool(begun) and all(_QUOTED.fullmatch(cell) for cell in begun)
    if meant and (rows[0][0].startswith('"') or all('""' in cell[1:-1] for cell in begun)):
        return [(number, [_unquoted(cell) for cell in row]) for number, row in plain]
    return plain


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


def _json_lines(text: str, where: str, needed: tuple[str, ...] = ("text", "label")) -> Lines:
    """Rows of objects; their other keys are left out, and what one object lacks is empty."""
    found: list[tuple[int, dict[str, str]]] = []
    for number, row in objects(text, where, needed, _NAMES):
        found.append((number, {key: as_cell(key, row[key], number, where) for key in _KEYS if key in row}))
    names = [key for key in _KEYS if any(key in row for _, row in found)]
    rows = [(number, [row.get(key, "") for key in names]) for number, row in found]
    return [(0, names), *rows] if rows else []


def objects(
    text: str, where: str, needed: Sequence[str], expected: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of JSON Lines, without empty lines.

    where: how a message begins; needed: keys that each must have; expected: the keys, in words. Raises
    InputError for a line that is no JSON, no object, or has a key twice or lacks one.
    """
    for number, line in enumerate(text.split("\n"), 1):  # no other end: a string may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where}, whose line {number} is no JSON ({reason}); mend it.") from None
        if not isinstance(row, dict) or not set(needed) <= set(row):
            received = f"the keys {', '.join(map(repr, row))}" if isinstance(row, dict) else "no object"
            raise InputError(f"{where} with {received} in line {number}; expected an object with {expected}.")
        yield number, row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} stands there twice")
    return dict(pairs)


def as_cell(key: str, value: Any, number: int, where: str) -> str:
    """A value of an object, in line `number`, as a cell; None is an empty one. Raises InputError for a value
    that `key` cannot have; where: how a message begins.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is None and key != "text":
        return ""
    if not isinstance(value, str) and (key == "text" or not whole) and (key != "weight" or _odd(value)):
        kinds = {"text": "a string", "weight": "a number"}.get(key, "a string or a whole number")
        raise InputError(f"{where} with {key} {short(value)} in line {number}; give {kinds}.")
    written = str(value)
    for wrong, what in (("\0", "a NUL character"), ("[\ud800-\udfff]", "half of a surrogate pair")):
        if re.search(wrong, written):
            raise InputError(f"{where} with {what} in the {key} of line {number}; take it out.")
    return written


def _odd(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float)


def short(value: Any) -> str:
    """A value of JSON as it is written, or the beginning of it."""
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else shown[:40] + " ..."


FORMS: dict[str, Callable[[str, str], Lines]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
"""How a file is read, by its ending in lower case."""
