"""Tagged texts in columns, as CoNLL's shared tasks wrote them: a token and its tag a line, a blank line
between sentences.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from runner.data.files import Row
from runner.errors import InputError
from runner.scores.entities import TAG, TAGS, Span, spans
from runner.text.decoding import LINE_END

DOCUMENT = "-DOCSTART-"
"""The first column of a line that stands where a document begins, and is no token."""


class Sentence(NamedTuple):
    """A sentence whose text is its tokens, joined by one space."""

    line: int
    """Of its first token, from 1."""
    text: str
    words: np.ndarray
    """int64 (tokens, 2): where in the text each token begins and ends."""
    spans: list[Span]
    """In characters of the text, the end exclusive."""
    document: int
    """How many documents were begun before it; 0 where no line says so."""


def read(text: str, where: str, name: str) -> tuple[list[Sentence], list[Row]]:
    """Return the sentences of a file, and rows (path, kind, message) for what is odd about its tags.

    The token stands in the first column, the tag in the last; what stands between is not read. Columns are
    separated by tabs where any line has one, else by spaces. Lines before the first token of a sentence that
    begin with "# " and have no tab are comments, where they are no token "#" with its tag. Tags are read by
    `scores.entities.spans`. where: how a message begins; name: of the file. Raises InputError, in one line,
    for an empty file, a line with another number of columns than the first, an empty token, and tags that are
    none.
    """
    found: list[Sentence] = []
    tags: list[tuple[int, list[str]]] = []
    for document, lines in _sentences(text, where):
        tokens = [columns[0] for _, columns in lines]
        ends = np.cumsum([len(token) for token in tokens]) + np.arange(len(tokens))
        words = np.stack([ends - [len(token) for token in tokens], ends], axis=1).astype(np.int64)
        tags.append((lines[0][0], [columns[-1] for _, columns in lines]))
        of_words = [(int(words[a, 0]), int(words[b - 1, 1]), kind) for a, b, kind in spans(tags[-1][1])]
        found.append(Sentence(lines[0][0], " ".join(tokens), words, of_words, document))
    if not found:
        raise InputError(
            f"{where}, in which no sentence stands; expected a token and its tag a line, and a blank line "
            "between sentences."
        )
    return found, _begun_otherwise(tags, name)


def _sentences(text: str, where: str) -> Iterator[tuple[int, list[tuple[int, list[str]]]]]:
    """Yield (document, lines) of each sentence, a line as (number, columns)."""
    lines = LINE_END.split(text)
    tabs = [number for number, line in enumerate(lines, 1) if "\t" in line and line.strip()]
    sentence: list[tuple[int, list[str]]] = []
    documents, first, letters = 0, (0, 0), set()
    for number, line in enumerate(lines, 1):
        columns = [cell.strip(" ") for cell in line.split("\t")] if tabs else re.split(" +", line.strip(" "))
        mark = line.split()[:1] == [DOCUMENT]
        if mark or not line.strip():
            documents += mark
            if sentence:
                yield documents - mark, sentence
            sentence = []
            continue
        if not sentence and line.startswith("# ") and "\t" not in line:
            token = not tabs and len(columns) == (first[1] or 2) and TAG.fullmatch(columns[-1])
            if not token:
                continue
        first = first if first[1] else (number, len(columns))
        if len(columns) != first[1] or len(columns) < 2:
            raise _other_columns(number, len(columns), first, tabs, where)
        tag = TAG.fullmatch(columns[-1])
        if not tag or not columns[0]:
            what = f"the tag {columns[-1]!r}" if columns[0] else "an empty token"
            allowed = f"allowed: {TAGS}" if columns[0] else "give it, or take the line out"
            header = " Take the line out if it is a header." if number == first[0] and columns[0] else ""
            raise InputError(f"{where} with {what} in line {number}; {allowed}.{header}")
        letters.add(columns[-1][0])
        if letters & set("ES") and letters & set("LU"):
            raise InputError(
                f"{where} with the tag {columns[-1]!r} in line {number} and tags of another scheme before "
                "it; write B, I, E and S, or B, I, L and U."
            )
        sentence.append((number, columns))
    if sentence:
        yield documents, sentence


def _other_columns(
    number: int, count: int, first: tuple[int, int], tabs: list[int], where: str
) -> InputError:
    """The error for a line with too few columns, or others than the first line that has any."""
    by = f"tabs (there is one in line {tabs[0]})" if tabs else "spaces"
    others = f", and {first[1]} in line {first[0]}" if first[0] != number else ""
    return InputError(
        f"{where} with {count} column{'s' * (count > 1)} in line {number}{others}; expected the token first "
        f"and its tag last, as many columns in each line, separated by {by}, and a blank line between "
        "sentences."
    )


def _begun_otherwise(sentences: list[tuple[int, list[str]]], name: str) -> list[Row]:
    """A row where some entities begin with another letter than most: I where others begin with B, say.

    Which begin with B says nothing where one of the same type ends just before: there every scheme has it.
    """
    begins: dict[bool, list[int]] = {True: [], False: []}
    for line, tags in sentences:
        ends = {(end, kind) for _, end, kind in spans(tags)}
        for start, _, kind in spans(tags):
            if (start, kind) not in ends:
                begins[tags[start][0] in "BSU"].append(line + start)
    few = min(begins.values(), key=len)
    if not few:
        return []
    letters = ("I, E or L", "B, S or U")
    these, most = letters if few is begins[False] else letters[::-1]
    message = (
        f"{len(few)} of {len(begins[True] + begins[False])} entities begin with {these} where most begin "
        f"with {most}, the first in line {few[0]}: each is taken as an entity, as conlleval does; mend the "
        "tags if it belongs to the one before"
    )
    return [(name, "entity", message)]
