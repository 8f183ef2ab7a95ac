"""What the report says of the data: counts, checks, problems, and pictures worth a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from runner.data import remarks
from runner.data.checks import count
from runner.data.files import singular
from runner.data.pairs import conflicts
from runner.report import words
from runner.report.sheets import data_uri

if TYPE_CHECKING:  # tables and pages need no TensorFlow
    from runner.data.examples import Data

SHEET, PROBLEMS, FINDINGS, PAIRS = 40, 25, 12, 12
"""The most training pictures, rows of problems, findings on the whole set, and pairs that the page shows."""
_SPLITS = {
    "train": "training",
    "val": "validation",
    "test": "test",
    "unused": "not used",
    "skipped": "left out",
}


_NO_GIVE_AWAY = {
    "pictures": "Size, shape, colour and file format do not give the class away.",
    "texts": "Neither length nor the name of a class gives the class away.",
}


def counts(data: Data) -> dict:
    """Return the table of examples per class and split: splits (names), totals, rows ({name, counts})."""
    table = count(data.manifest, data.classes, data.amounts)
    totals = data.manifest["split"].value_counts()
    splits = [split for split in _SPLITS if totals.get(split)]
    return {
        "splits": [_SPLITS[split] for split in splits],
        "totals": [int(totals[split]) for split in splits],
        "rows": [
            {"name": name, "counts": [int(row[split]) for split in splits]} for name, row in table.iterrows()
        ],
    }


def checks(data: Data) -> list[tuple[str, str]]:
    """Return (kind, sentence) for each check: "fine", "bad", or "told" for what is just so."""
    return [
        *_between_splits(data),
        *_near_duplicates(data),
        *_missing(data),
        *_whole_set(data),
        *_files(data),
    ]


def _check(wrong: int, fine: str, one: str, many: str) -> tuple[str, str]:
    return ("bad", words.times(wrong, one, many)) if wrong else ("fine", fine)


def _used(data: Data) -> pd.DataFrame:
    return data.manifest[data.manifest["split"].isin(["train", "val", "test"])]


def _between_splits(data: Data) -> list[tuple[str, str]]:
    """Identical pictures and groups, from the manifest alone, whatever loaded it."""
    used, found, one, many = _used(data), [], singular(data.unit), data.unit
    hashed = used[used["sha256"].notna() & (used["sha256"] != "")] if "sha256" in used else used.head(0)
    if len(hashed):
        known = hashed.groupby("sha256")
        found.append(
            _check(
                int((known["split"].nunique() > 1).sum()),
                f"No identical {one} stands in two splits.",
                f"{one} stands in more than one split: the test says too much.",
                f"{many} stand in more than one split: the test says too much.",
            )
        )
        if data.amounts is None and len(data.classes) > 1:
            found.append(
                _check(
                    int((known["label"].nunique() > 1).sum()),
                    f"No identical {one} has two labels.",
                    f"{one} has more than one label.",
                    f"{many} have more than one label.",
                )
            )
    grouped = (
        used[used["group"].notna() & (used["group"].astype(str) != "")] if "group" in used else used.head(0)
    )
    if len(grouped) and grouped["group"].nunique() < len(grouped):
        groups = grouped.groupby("group")["split"].nunique()
        found.append(
            _check(
                int((groups > 1).sum()),
                f"Each of the {len(groups)} groups stays within one split.",
                "group stands in more than one split.",
                "groups stand in more than one split.",
            )
        )
    return found


def _near_duplicates(data: Data) -> list[tuple[str, str]]:
    torn, argued = conflicts(data.near_duplicates, data.manifest)
    say, says = ("show", "shows") if data.unit == "pictures" else ("say", "says")
    found = [
        _check(
            int(torn.sum()),
            f"No {singular(data.unit)} {says} nearly the same as one of another split.",
            f"pair of {data.unit} that {say} nearly the same stands in two splits: their numbers flatter.",
            f"pairs of {data.unit} that {say} nearly the same stand in two splits: their numbers flatter.",
        )
    ]
    if argued.any():
        found.append(
            _check(int(argued.sum()), "", "such pair has two labels.", "such pairs have two labels.")
        )
    kept = int((~torn).sum())
    if kept:
        one, many = (f"pair {says} nearly the same and is", f"pairs {say} nearly the same and are")
        found.append(("told", f"{words.times(kept, one, many)} kept together."))
    return found


def _missing(data: Data) -> list[tuple[str, str]]:
    counts, found = count(data.manifest, data.classes, data.amounts), []
    there = set(data.manifest["split"])  # a finished network is judged by a test alone
    in_splits = (counts[[one for one in ("train", "val", "test") if one in there]] > 0).sum(axis=1)
    if len(there & {"train", "val", "test"}) > 1 and (in_splits <= 1).all():
        return [("fine", "No class stands in two splits: those of the test are new.")]
    for split in (one for one in ("train", "val", "test") if one in there):
        name = _SPLITS[split]
        missing = counts.index[counts[split] == 0].tolist()
        which = f"no {name} {singular(data.unit)}: {_few(missing)}."
        fine = f"Every class has {name} {data.unit}."
        if missing or len(data.classes) > 1:
            found.append(_check(len(missing), fine, f"class has {which}", f"classes have {which}"))
    return found


def _whole_set(data: Data) -> list[tuple[str, str]]:
    """What the checks of the data found about the set as a whole, in its own words."""
    rows = _problems(data)
    rows = rows[(rows["path"] == "") & (rows["kind"] != "missing")]
    found = [
        ("fine", sentence)
        for kind, sentence, labels_only in (
            ("label", "No two class names look like one.", False),
            ("give-away", _NO_GIVE_AWAY.get(data.unit, ""), True),
            ("imbalance", f"No class has five times the training {data.unit} of another.", True),
        )
        if len(data.classes) > 1
        and sentence
        and not (rows["kind"] == kind).any()
        and (data.amounts is None or not labels_only)
    ]
    severity = remarks.severity(rows["kind"])
    for kind, message in zip(severity.head(FINDINGS), rows["message"], strict=False):
        weight = "told" if kind == "for your information" else "bad"
        found.append((weight, f"{message[:1].upper()}{message[1:]}."))
    if len(rows) > FINDINGS:
        found.append(("bad", f"And {len(rows) - FINDINGS} more findings of this sort."))
    return found


def _files(data: Data) -> list[tuple[str, str]]:
    turned = int(data.manifest["turned"].sum()) if "turned" in data.manifest else 0
    found = []
    if turned:
        sentence = words.times(turned, "picture was turned", "pictures were turned")
        found.append(("told", f"{sentence} upright, as EXIF says in the file."))
    kinds = _of_files(data)["kind"].value_counts()
    if len(kinds):
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        found.append(("told", f"{data.unit.capitalize()} that need a look: {named} (listed below)."))
    else:
        found.append(("fine", f"Every {singular(data.unit)} could be read as it is."))
    return found


def _problems(data: Data) -> pd.DataFrame:
    return pd.DataFrame(columns=["path", "kind", "message"]) if data.problems is None else data.problems


def _of_files(data: Data) -> pd.DataFrame:
    return _problems(data)[_problems(data)["path"] != ""]


def problems(data: Data) -> dict | None:
    """Return rows ({path, kind, message}) about single files, and how many more there are."""
    rows = _of_files(data)
    if rows.empty:
        return None
    return {"rows": rows.head(PROBLEMS).to_dict("records"), "more": max(0, len(rows) - PROBLEMS)}


def pairs(data: Data) -> list[dict]:
    """Return the first near-duplicate pairs: pictures ({uri, path, words}), how, and whether it is bad."""
    first = data.near_duplicates.head(PAIRS)
    torn, argued = conflicts(first, data.manifest)
    shown = []
    for row, bad in zip(first.itertuples(), torn | argued, strict=True):
        if row.first in data.odd and row.second in data.odd:
            pictures = [
                {
                    "uri": data_uri(data.odd[one], 136),
                    "path": data.manifest["path"][one],
                    "words": ", ".join(
                        filter(None, (_label(data, one), _SPLITS[data.manifest["split"][one]]))
                    ),
                }
                for one in (row.first, row.second)
            ]
            shown.append({"pictures": pictures, "how": row.how, "bad": bad})
    return shown


def sideways(data: Data) -> list[dict]:
    """Return the pictures ({uri, path, label}) that may lie on their side."""
    paths = set(_problems(data).query("kind == 'orientation'")["path"])
    return [
        {"uri": data_uri(image, 136), "path": data.manifest["path"][one], "label": _label(data, one)}
        for one, image in data.odd.items()
        if data.manifest["path"][one] in paths
    ]


def _label(data: Data, one: int) -> str:
    """The class of an example, "" where it has none."""
    label = data.manifest["label"][one]
    return "" if pd.isna(label) else str(label)


def sheet_ids(data: Data) -> list[int]:
    """Return the ids of the training pictures in the sheet, class by class."""
    train = data.manifest[data.manifest["split"] == "train"]
    if data.amounts is not None or not data.classes:  # spread over the set, which may go film by film
        return train.index[np.linspace(0, len(train) - 1, min(SHEET, len(train))).astype(int)].tolist()
    each = max(1, SHEET // len(data.classes))
    # With more classes than places, the classes shown are spread evenly over all of them.
    shown = np.unique(
        np.linspace(0, len(data.classes) - 1, min(SHEET, len(data.classes))).round().astype(int)
    )
    return [one for place in shown for one in train.index[train["label"] == data.classes[place]][:each]]


def sheet(data: Data, pictures: dict[int, np.ndarray]) -> list[dict]:
    """Return the training pictures ({uri, label}) of `sheet_ids` that are there."""
    return [
        {"uri": data_uri(pictures[one], 160), "label": _label(data, one)}
        for one in sheet_ids(data)
        if one in pictures
    ]


def _few(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
