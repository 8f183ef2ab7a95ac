"""What may be wrong with texts and the entities that are marked in them.

Each check returns rows (path, kind, message) for `Data.problems`: one line each that says what was found and
what to do; path is "" where the finding is about the whole set. Kinds: "entity" (how spans lie), "no entity",
"duplicate" and "label" (as of any data). Nothing here reads a file.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from runner.data.checks import RANK
from runner.data.files import Row
from runner.scores.entities import Span
from runner.text import tags

TIMES = 2
"""So often a form must be marked in one split, and unmarked in another, before it is said. In the 5,690
sentences of WNUT 2017 that are 2 forms, 'Google' and 'Q'; with 1 they are 60, most of them words with two
meanings."""
LONGEST = 8
"""Words of the longest form that is looked for in other texts."""
MOST_WITHIN = 0.5
"""Of all spans so many must end within a word before it is said: more than compounds explain."""
_PIECE = re.compile(r"\w+|[^\w\s]")


def everything(examples: pd.DataFrame, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Row]:
    """All checks but `trimmed`.

    examples: of `Source`, with path and split ("" where none are given); texts and spans in its order.
    """
    return [
        *without(spans),
        *within_words(texts, spans),
        *copies(examples, texts, spans),
        *one_sided(examples["split"], texts, spans),
    ]


def trimmed(
    paths: Sequence[str], texts: Sequence[str], spans: Sequence[Sequence[Span]]
) -> tuple[list[list[Span]], list[Row]]:
    """Return spans without white space at their ends and without those of white space alone; and rows of the
    kind "entity" that count both.
    """
    kept: list[list[Span]] = []
    cut, empty = [], []
    for path, text, of_text in zip(paths, texts, spans, strict=True):
        kept.append([])
        for start, end, kind in of_text:
            form = text[start:end]
            begins = start + len(form) - len(form.lstrip())
            ends = begins + len(form.strip())
            if begins < ends:
                kept[-1].append((begins, ends, kind))
            if (begins, ends) != (start, end):
                (cut if begins < ends else empty).append(f"{form!r} ({kind}) in {path!r}")
    rows = []
    if cut:
        message = (
            f"{len(cut)} spans begin or end with white space, such as {cut[0]}, and are taken without it"
        )
        rows.append(("", "entity", message))
    if empty:
        message = f"{len(empty)} spans hold white space alone, such as {empty[0]}, and are left out"
        rows.append(("", "entity", message))
    return kept, rows


def without(spans: Sequence[Sequence[Span]]) -> list[Row]:
    """Count the texts without an entity, which are kept; kind "no entity"."""
    count = sum(not of_text for of_text in spans)
    message = f"{count} of {len(spans)} texts have no entity: they are kept, and show what is none"
    return [("", "no entity", message)] if count else []


def within_words(texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Row]:
    """Say where most spans end within a word, as they do if their ends are meant to be inclusive; kind
    "entity". Looks at letters of scripts that put spaces between words alone.
    """
    looked_at, inside = 0, []
    for text, of_text in zip(texts, spans, strict=True):
        for start, end, _ in of_text:
            if re.fullmatch(r"[A-Za-z\u00c0-\u06ff]", text[end - 1]):
                looked_at += 1
                if re.match(r"[A-Za-z\u00c0-\u06ff]", text[end : end + 1]):
                    inside.append(text[start:end])
    if len(inside) <= MOST_WITHIN * looked_at:
        return []
    message = (
        f"{len(inside)} of {looked_at} spans end within a word, such as {inside[0]!r}: where the end is "
        "meant to be the last character, add 1, as ends are exclusive"
    )
    return [("", "entity", message)]


def out_of_reach(texts: Sequence[str], parts: Sequence[np.ndarray], spans: np.ndarray) -> list[Row]:
    """Count the entities that no answer word by word can give, which count as missed: kind "entity".

    parts: of each text its tokens, as of `text_networks.words.in_memory`; spans: int64 (texts, most, 2), -1
    for none.
    """
    out, total = [], 0
    for text, part, of_text in zip(texts, parts, spans, strict=True):
        there = of_text[of_text[:, 0] >= 0]
        total += len(there)
        lost = tags.within_words(part[part[:, 1] >= 0, 1:], there)
        out += [text[start:end] for start, end in there[lost]]
    if not out:
        return []
    message = (
        f"{len(out)} of {total} entities begin or end within a word, or hold none that the tokenizer knows, "
        f"such as {out[0]!r}: they count as missed; move their ends to those of words"
    )
    return [("", "entity", message)]


def copies(examples: pd.DataFrame, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Row]:
    """The same text in two splits that the source gives (kind "duplicate"), or with other spans (kind
    "label"). Of copies the first of the earliest split keeps its place.
    """
    same = defaultdict(list)
    for row, text in enumerate(texts):
        same[text].append(row)
    paths, splits = examples["path"].tolist(), [split or "train" for split in examples["split"]]
    rows = []
    for text, alike in same.items():
        first = min(alike, key=lambda row: RANK[splits[row]])
        for row in alike:
            if splits[row] != splits[first]:
                earlier = f"{splits[first]} {paths[first]!r}"
                message = f"{splits[row]} {paths[row]!r} is identical to {earlier}: remove one"
                rows.append((paths[row], "duplicate", message))
            if set(spans[row]) != set(spans[first]):
                here, there = (
                    _in_words(text, sorted(set(spans[one]) - set(spans[other])))
                    for one, other in ((row, first), (first, row))
                )
                message = (
                    f"{paths[row]!r} has {here} where the identical {paths[first]!r} has {there}: look which "
                    "is right"
                )
                rows.append((paths[row], "label", message))
    return rows


def _in_words(text: str, spans: Sequence[Span]) -> str:
    shown = [f"{text[start:end]!r} as {kind}" for start, end, kind in spans[:3]]
    return (", ".join(shown) + ", ..." * (len(spans) > 3)) or "none"


def one_sided(split: pd.Series, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Row]:
    """Forms that are an entity wherever they stand in one split, and nowhere in another, TIMES or more in
    both: whoever marked the one had other rules; kind "label". The most frequent first.

    A form is the text of an entity, by case, of at most LONGEST words. What stands within another entity, or
    across the end of one, counts for neither.
    """
    if split.nunique() < 2:
        return []
    pieces = [[(one.start(), one.end(), one[0]) for one in _PIECE.finditer(text)] for text in texts]
    forms: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for text, of_text in zip(texts, spans, strict=True):
        for start, end, _ in of_text:
            form = tuple(_PIECE.findall(text[start:end]))
            if 0 < len(form) <= LONGEST:
                forms[form[0]].add(form)
    counts: dict[tuple[str, ...], Counter] = defaultdict(Counter)
    for name, found, of_text in zip(split, pieces, spans, strict=True):
        marked = {(start, end) for start, end, _ in of_text}
        taken = {place for start, end, _ in of_text for place in range(start, end)}
        for place, (start, _, piece) in enumerate(found):
            for form in forms.get(piece, ()):
                part = found[place : place + len(form)]
                if tuple(one[2] for one in part) != form:
                    continue
                end = part[-1][1]
                if (start, end) in marked:
                    counts[form][name, True] += 1
                elif taken.isdisjoint(range(start, end)):
                    counts[form][name, False] += 1
    told = []
    for form, times in counts.items():
        names = sorted({name for name, _ in times}, key=RANK.__getitem__)
        always = [name for name in names if times[name, True] >= TIMES and not times[name, False]]
        never = [name for name in names if times[name, False] >= TIMES and not times[name, True]]
        for one in always[:1]:
            for other in never[:1]:
                message = (
                    f"{' '.join(form)!r} is an entity at all {times[one, True]} places of {one} and at none "
                    f"of {times[other, False]} of {other}: look whether both follow one rule"
                )
                told.append((times[one, True] + times[other, False], message))
    return [("", "label", message) for _, message in sorted(told, key=lambda one: (-one[0], one[1]))]
