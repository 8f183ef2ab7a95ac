"""Which entities are found in texts, by CoNLL's rule: one counts as found where its type and both of its ends
are right (Tjong Kim Sang and De Meulder 2003). Nothing is right in part.

An entity is a span (start, end, type) of its text, the end exclusive. `spans` reads them from tags; all other
functions compare tables of them, and do not ask what start and end count: characters or words, but the same
in both tables.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from runner.errors import InputError
from runner.scores import intervals, paired

Span = tuple[int, int, str]
"""(start, end, type), the end exclusive."""
COLUMNS = ["id", "class", "start", "end"]
"""Of a table of entities: the id of the text, the type by name, start and end (0 <= start < end)."""
TAG = re.compile(r"O|([BIESLU])(?:-(.*))?", re.DOTALL)
TAGS = "O, or B, I, E, S (L, U) with a hyphen and the type behind it, as in B-person"
"""What a tag may be, in words."""
UNTYPED = "_"
"""The type of tags that name none, such as B alone."""
_INSIDE = {"I", "E", "L"}


def parts(tag: str) -> tuple[str, str]:
    """Return the letter and the type of a tag: ("B", "person"), or ("O", ""). Raises InputError for other."""
    found = TAG.fullmatch(tag) if isinstance(tag, str) else None
    if not found:
        raise InputError(f"Received the tag {tag!r}; allowed: {TAGS}.")
    return (found[1], found[2] or UNTYPED) if found[1] else ("O", "")


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the entities that the tags of one sequence say, in their order, start and end in tags.

    One rule reads IOB1, IOB2 (BIO), IOE2 and IOBES with its other letters BILOU: a tag goes on with the
    entity before it where it is I, E or L, the tag before it is B or I, and both have one type; any other tag
    but O begins an entity. Tags that no scheme allows (I behind O, a type that changes within) therefore mean
    what they do to the program conlleval and to seqeval where it is not strict. Raises InputError for a tag
    that is none.
    """
    found: list[Span] = []
    before, of = "O", ""
    for place, (letter, kind) in enumerate(map(parts, tags)):
        if letter in _INSIDE and before in ("B", "I") and kind == of:
            found[-1] = (found[-1][0], place + 1, kind)
        elif letter != "O":
            found.append((place, place + 1, kind))
        before, of = letter, kind
    return found


def table(of_texts: Iterable[Sequence[Span]], ids: Sequence[int] | np.ndarray) -> pd.DataFrame:
    """Return a table of entities, columns COLUMNS, of the spans of each text; ids: of the texts, in order."""
    rows = [
        (number, kind, start, end)
        for number, found in zip(ids, of_texts, strict=True)
        for start, end, kind in found
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"id": np.int64, "start": np.int64, "end": np.int64})


def from_arrays(
    ids: np.ndarray, spans: np.ndarray, numbers: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Return a table of entities, columns COLUMNS, of what elements of a data set have.

    ids: (elements,); spans: int (elements, most, 2); numbers: of classes, int (elements, most), -1 for none.
    """
    element, place = np.nonzero(numbers >= 0)
    return pd.DataFrame(
        {
            "id": np.asarray(ids, np.int64)[element],
            "class": np.array(classes, object)[numbers[element, place]],
            "start": spans[element, place, 0].astype(np.int64),
            "end": spans[element, place, 1].astype(np.int64),
        }
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model finds in texts, and what is there."""

    found: pd.DataFrame
    """Columns COLUMNS and score, 0..1."""
    wanted: pd.DataFrame
    """Columns COLUMNS."""
    ids: np.ndarray
    """Of all texts."""
    classes: Sequence[str]

    def numbers(self, groups: pd.Series | None = None, resamples: int = 1000) -> dict:
        """`metrics`."""
        return metrics(self.found, self.wanted, self.classes, self.ids, groups, resamples=resamples)

    def types(self, groups: pd.Series | None = None) -> pd.DataFrame:
        """`per_type`."""
        return per_type(self.found, self.wanted, self.classes, self.ids, groups)

    def less_than(self, other: "Answers", groups: pd.Series | None = None) -> paired.Difference:
        """F1 of the other less that of this one; `difference`."""
        return difference(self.found, other.found, self.wanted, self.ids, groups)

    def matched(self, texts: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`matched`, with what each entity reads in `texts`, by id, as a column "form" behind its ends."""
        both = matched(self.found, self.wanted)
        for table in both:
            forms = [
                texts[row][start:end]
                for row, start, end in zip(table["id"], table["start"], table["end"], strict=True)
            ]
            table.insert(len(COLUMNS), "form", np.array(forms, object))
        return both


def matched(found: pd.DataFrame, wanted: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables with what belongs together: `found` with `right` (bool, whether the entity is
    wanted), `wanted` with `found` (bool).
    """
    keys = [pd.MultiIndex.from_frame(one[COLUMNS].astype({"class": str})) for one in (found, wanted)]
    right, there = keys[0].isin(keys[1]), keys[1].isin(keys[0])
    return found.assign(right=right), wanted.assign(found=there)


def metrics(
    found: pd.DataFrame,
    wanted: pd.DataFrame,
    classes: Sequence[str],
    ids: Sequence[int] | np.ndarray,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Return precision, recall and F1 of the entities found, ready for JSON; shares are 0..1.

    Args:
        found: the answers, columns COLUMNS, in any order; an entity that stands there twice counts once.
        wanted: the truth in the same form. It comes from the data as it was written and is never brought
            through what a network reads: an entity in the part of a text that no window reaches, or that no
            tokens make up, stands in it and counts as missed.
        classes: the types that there are.
        ids: of all texts that are judged, each once, also those where nothing is or nothing was found.
        groups: the group of each text, "" for none, indexed by id.

    Returns:
        `precision`, `recall` and `f1` over all entities, F1 with `f1_interval`; the mean of each over the
        types that are wanted or found, `macro_precision`, `macro_recall` and `macro_f1`, with
        `macro_f1_interval`; `examples` (texts), `entities` (wanted) and `found`. Of nothing found the
        precision is 0. The intervals are 95 % percentile intervals of a bootstrap (Efron 1979) that draws
        texts, or groups of them, each with all its entities; a resample with nothing wanted or found says
        nothing.

    Raises:
        InputError: a class or text that is not listed, a span that is none, or nothing to be found.
    """
    counts = _counts(found, wanted, classes, ids)
    totals = counts.sum(axis=1, dtype=np.float64)
    if not totals[2].any():
        raise InputError(
            f"Received {len(ids)} texts without a single entity; F1 needs some to find: label more, or "
            "choose other texts."
        )
    result: dict[str, Any] = {name: float(value) for name, value in _numbers(totals).items()}
    whole = None if groups is None else intervals.units(groups, ids)
    drawn = _numbers(_drawn(counts, whole, resamples, seed))
    for name in ("f1", "macro_f1"):
        result[f"{name}_interval"] = intervals.percentile(drawn[name][~np.isnan(drawn[name])])
    return result | {"examples": len(ids), "entities": int(totals[2].sum()), "found": int(totals[1].sum())}


def per_type(
    found: pd.DataFrame,
    wanted: pd.DataFrame,
    classes: Sequence[str],
    ids: Sequence[int] | np.ndarray,
    groups: pd.Series | None = None,
) -> pd.DataFrame:
    """Return a row per type, in the order of `classes`: class, precision, recall, recall_low, recall_high, f1
    (0..1), support (entities wanted), found.

    Arguments and errors are those of `metrics`. A type that is never found has precision 0; one that is
    neither wanted nor found has NaN in all: the column means are the macro averages of `metrics`. The 95 %
    interval of recall is `intervals.share`'s, which draws the entities of a text, or of a group of texts,
    together; NaN for a type that is not wanted.
    """
    right, those, support = _counts(found, wanted, classes, ids).sum(axis=1)
    precision, recall, f1 = _shares(right, those, support)
    result = pd.DataFrame({"class": list(classes), "precision": precision, "recall": recall})
    whole = None if groups is None else intervals.units(groups, ids)
    whole = np.arange(len(ids)) if whole is None else whole
    wanted = matched(found, wanted)[1].drop_duplicates(COLUMNS)
    unit, kind = whole[pd.Index(ids).get_indexer(wanted["id"])], wanted["class"].astype(str)
    ends = []
    for name in classes:
        rows = (kind == str(name)).to_numpy()
        of_type = None if len(set(unit[rows])) == rows.sum() else unit[rows]
        there = wanted["found"].to_numpy()[rows]
        ends.append(intervals.share(there, of_type) if rows.any() else (np.nan, np.nan))
    result["recall_low"], result["recall_high"] = zip(*ends, strict=True)
    result = result.assign(f1=f1, support=support, found=those)
    result.loc[support + those == 0, ["precision", "recall", "f1"]] = np.nan
    return result


def per_text(
    found: pd.DataFrame, wanted: pd.DataFrame, classes: Sequence[str], ids: Sequence[int] | np.ndarray
) -> pd.DataFrame:
    """Return a row per text, in the order of `ids`: id, entities (wanted), found, right: how many.

    Arguments and errors are those of `metrics`.
    """
    right, those, support = _counts(found, wanted, classes, ids).sum(axis=2)
    return pd.DataFrame({"id": np.asarray(ids), "entities": support, "found": those, "right": right})


def difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    wanted: pd.DataFrame,
    ids: Sequence[int] | np.ndarray,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> paired.Difference:
    """F1 of the entities `second` less that of `first`, on the same texts, with its 95 % interval.

    Other arguments are those of `metrics`. Each resample (Efron 1979) draws texts, or groups of them, with
    what both models found in them: how often each such count comes is multinomial, as in `metrics`.
    """
    classes = sorted({str(kind) for one in (first, second, wanted) for kind in one["class"]})
    if not classes:
        raise InputError(f"Received {len(ids)} texts without an entity that is wanted or found: label some.")
    counts = [_counts(one, wanted, classes, ids).sum(axis=2) for one in (first, second)]
    rows = np.concatenate([counts[0][:2], counts[1]]).T
    if groups is not None and (whole := intervals.units(groups, ids)) is not None:
        alone, rows = rows, np.zeros((int(whole.max()) + 1, rows.shape[1]), np.int64)
        np.add.at(rows, whole, alone)
    kinds, times = np.unique(rows, axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(rows), times / len(rows), size=resamples).astype(np.float64) @ kinds

    def less(totals: np.ndarray) -> np.ndarray:
        right, found, others_right, others_found, there = totals.T
        return _shares(others_right, others_found, there)[2] - _shares(right, found, there)[2]

    low, high = intervals.percentile(less(drawn))
    return paired.Difference(float(less(rows.sum(axis=0)[None])[0]), low, high, len(ids))


def _counts(
    found: pd.DataFrame, wanted: pd.DataFrame, classes: Sequence[str], ids: Sequence[int] | np.ndarray
) -> np.ndarray:
    """How many entities are right, found and wanted: int64 (3, texts, classes)."""
    names = pd.Index([str(name) for name in classes])
    places = pd.Index(ids)
    if not names.is_unique or not places.is_unique or not len(names) or not len(places):
        raise InputError(
            f"Received {len(names)} types and the ids of {len(places)} texts; give one of each at least, and "
            "each once."
        )
    for name, one in (("found", found), ("wanted", wanted)):
        _check(one, name, names, places)
    found, wanted = (one.drop_duplicates(COLUMNS) for one in matched(found, wanted))
    counts = np.zeros((3, len(places), len(names)), np.int64)
    for number, rows in enumerate((found[found["right"]], found, wanted)):
        text, kind = places.get_indexer(rows["id"]), names.get_indexer(rows["class"].astype(str))
        np.add.at(counts[number], (text, kind), 1)
    return counts


def _check(entities: pd.DataFrame, name: str, classes: pd.Index, ids: pd.Index) -> None:
    lacking = [column for column in COLUMNS if column not in entities]
    if lacking:
        raise InputError(f"Received {name} without the column {lacking[0]!r}; give {', '.join(COLUMNS)}.")
    for column, allowed in (("class", classes), ("id", ids)):
        values = entities[column].astype(str) if column == "class" else entities[column]
        unknown = values[~values.isin(allowed)]
        if len(unknown):
            raise InputError(
                f"Received {name} with {column} {str(unknown.iloc[0])!r}, which is not among those listed; "
                "list it, or leave its rows out."
            )
    ends = entities[["start", "end"]]
    whole = not len(ends) or all(pd.api.types.is_integer_dtype(kind) for kind in ends.dtypes)
    whole = whole and not ends.isna().any(axis=None)
    ends = ends.to_numpy(np.int64) if whole else np.zeros((0, 2))
    if not whole or (ends[:, 0] < 0).any() or (ends[:, 0] >= ends[:, 1]).any():
        raise InputError(
            f"Received {name} with a span that is none; start and end are whole numbers, 0 <= start < end."
        )


def _shares(
    right: np.ndarray, found: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 = 2 right / (found + wanted), elementwise; 0 where there is nothing."""
    right = np.asarray(right, np.float64)
    return (
        right / np.maximum(found, 1),
        right / np.maximum(wanted, 1),
        2 * right / np.maximum(found + wanted, 1),
    )


def _numbers(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of `metrics`, (...,) each, of right, found and wanted by type: float (3, ..., classes)."""
    occurs = (counts[1] + counts[2]) > 0
    there = occurs.sum(axis=-1)
    result = dict(zip(("precision", "recall", "f1"), _shares(*counts.sum(axis=-1)), strict=True))
    for name, values in zip(("precision", "recall", "f1"), _shares(*counts), strict=True):
        result[f"macro_{name}"] = values.sum(axis=-1) / np.maximum(there, 1)
    return {name: np.where(there > 0, values, np.nan) for name, values in result.items()}


def _drawn(counts: np.ndarray, whole: np.ndarray | None, resamples: int, seed: int) -> np.ndarray:
    """Counts by type of resamples of the texts, or of what `whole` joins: float64 (3, resamples, classes).

    Only what was counted on a text matters, and how often each such count comes in a resample of n texts is
    multinomial(n, times / n): of thousands of texts few counts differ.
    """
    _, texts, classes = counts.shape
    rows = counts.transpose(1, 0, 2).reshape(texts, -1)
    if whole is not None:
        alone, rows = rows, np.zeros((int(whole.max()) + 1, rows.shape[1]), np.int64)
        np.add.at(rows, whole, alone)
    kinds, times = np.unique(rows, axis=0, return_counts=True)
    random, drawn = np.random.default_rng(seed), []
    chunk = max(1, 4_000_000 // len(kinds))  # 32 MB of counts at a time
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn.append(random.multinomial(len(rows), times / len(rows), size=size).astype(np.float64) @ kinds)
    return np.concatenate(drawn).reshape(resamples, 3, classes).transpose(1, 0, 2)
