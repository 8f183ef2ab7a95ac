"""Two runs' answers to the same test examples, found in the tables that the runs wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner import cells
from runner.errors import InputError
from runner.runs import folder
from runner.scores import entities, intervals, paired, ranking

WORDS = {
    "accuracy": "accuracy",
    "ap50": "AP50",
    "miou": "mean IoU",
    "map": "mAP",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "bleu": "BLEU",
    "probability": "probability of a character",
    "effect_r2": "R² of the effects",
    "outcome_r2": "R² of the outcomes",
}


@dataclass(frozen=True)
class Paired:
    """What two runs' answers to the same test examples say."""

    number: str
    """What differs, in words."""
    difference: paired.Difference
    note: str = ""
    """How many examples one has right and the other wrong, where answers are right or wrong."""


def of_runs(first: Path, second: Path, score: str) -> Paired | str:
    """How the second run differs from the first on the same test examples, or why that cannot be said, in
    words.

    first, second: folders of complete runs. score: what both are compared by. Examples are the same where
    what they hold is (sha256 of manifest.csv), and their labels are, whatever their numbers.
    Raises InputError for a table that cannot be read.
    """
    tests = [_tested(one) for one in (first, second)]
    if not all(len(test) and (test["sha256"] != "").all() for test in tests):
        return "the manifest.csv of a run does not say what its test examples hold"
    keys = [set(zip(test["sha256"], test["again"], strict=True)) for test in tests]
    if keys[0] != keys[1]:
        shared = len(keys[0] & keys[1])
        return f"the test examples are not the same ({shared:,} of {len(keys[0]):,} and {len(keys[1]):,} are)"
    # The same example in both, whatever its number in each.
    both = tests[0].merge(tests[1], on=["sha256", "again"], suffixes=("_first", "_second"))
    if (both["label_first"] != both["label_second"]).any():
        return "the same test examples have other labels"
    whole = intervals.units(both["group_first"], both.index)
    answers = [one / "predictions.csv" for one in (first, second)]
    old = [one / "pictures.csv" for one in (first, second)]
    answers = [there if there.is_file() else before for there, before in zip(answers, old, strict=True)]
    if not all(path.is_file() for path in answers):
        return "a run has no predictions.csv"
    heads = [set(read_csv(path, nrows=0).columns) for path in answers]
    if any("episode" in head for head in heads):
        return _of_episodes(answers, both)
    if score == "accuracy" and all({"id", "label", "prediction"} <= head for head in heads):
        right = [
            _aligned(path, both[f"id_{side}"], ["label", "prediction"])
            for path, side in zip(answers, ("first", "second"), strict=True)
        ]
        there = [one["label"] == one["prediction"] for one in right if one is not None]
        if len(there) < 2:
            return "a predictions.csv lacks some of the test examples"
        before, after = there
        return _of_right(before, after, whole)
    if score == "roc_auc" and all({"id", "label"} <= head for head in heads):
        return _of_areas(answers, both, whole)
    if all({"id", score} <= head for head in heads):
        values = [
            _aligned(path, both[f"id_{side}"], [score])
            for path, side in zip(answers, ("first", "second"), strict=True)
        ]
        numbers = [one[score].to_numpy(float) for one in values if one is not None]
        if len(numbers) < 2:
            return "a predictions.csv lacks some of the test examples"
        before, after = numbers
        known = ~(np.isnan(before) | np.isnan(after))
        if not known.any():
            return f"no test example has a {words(score)} of its own"
        whole = intervals.units(both["group_first"][known], both.index[known])
        difference = paired.of_means(before[known], after[known], whole)
        return Paired(f"{words(score)} of an example, in the mean", difference)
    if score == "ap50" and all({"id", "class", "score", "right"} <= head for head in heads):
        return _of_boxes(first, second, both, whole)
    if score == "f1" and all({"id", "class", "start", "end"} <= head for head in heads):
        return _of_entities(first, second, both)
    return "predictions.csv has no number for each test example"


def _tested(one: Path) -> pd.DataFrame:
    """The examples of the test that was opened: id, sha256, label, and again, how often it came before."""
    if not (one / "manifest.csv").is_file():
        return pd.DataFrame(columns=["id", "sha256", "label", "group", "again"])
    table = read_csv(one / "manifest.csv", dtype=str, keep_default_na=False)
    if not {"split", "sha256"} <= set(table.columns):
        return pd.DataFrame(columns=["id", "sha256", "label", "group", "again"])
    tested = table["split"] == "test"
    if "domain" in table:  # adaptation is judged on its target
        tested &= table["domain"] == "target"
    test = pd.DataFrame(
        {
            "id": table.index,
            "sha256": table["sha256"],
            "label": table["label"] if "label" in table else "",
            "group": table["group"] if "group" in table else "",
        }
    )[tested]
    return test.assign(again=test.groupby("sha256").cumcount())


def _aligned(path: Path, ids: pd.Series, columns: list[str]) -> pd.DataFrame | None:
    """The rows of these ids in this order, or None where some are not there; classes stay words."""
    texts = {name: str for name in columns if name in ("label", "prediction")}
    table = read_csv(path, usecols=["id", *columns], dtype=texts, keep_default_na=not texts)
    table = table.drop_duplicates("id").set_index("id").reindex(ids)
    return None if texts and table.isna().any(axis=None) else table.reset_index(drop=True)


def _of_right(before: pd.Series, after: pd.Series, whole: np.ndarray | None) -> Paired:
    first, second = before.to_numpy(), after.to_numpy()
    only_first, only_second, p = paired.mcnemar(first, second)
    test = "McNemar's exact p"
    if whole is not None:
        test, p = "with the answers to each group swapped as a whole p", paired.swapped(first, second, whole)
    return Paired(
        "accuracy",
        paired.of_means(first, second, whole),
        f"It alone is right on {only_second}, the first run alone on {only_first}; "
        f"{test} {'< 0.001' if p < 0.001 else f'= {p:.3f}'}.",
    )


def _of_areas(answers: list[Path], both: pd.DataFrame, whole: np.ndarray | None) -> Paired | str:
    """Of runs that tell the same classes apart by probabilities."""
    columns = [[one for one in read_csv(path, nrows=0).columns if one.startswith("p:")] for path in answers]
    if columns[0] != columns[1] or not columns[0]:
        return "the runs tell other classes apart"
    tables = [
        _aligned(path, both[f"id_{side}"], ["label", *columns[0]])
        for path, side in zip(answers, ("first", "second"), strict=True)
    ]
    there = [one for one in tables if one is not None]
    if len(there) < 2:
        return "a predictions.csv lacks some of the test examples"
    labels = pd.Categorical(there[0]["label"], [name[2:] for name in columns[0]]).codes
    first, second = (one[columns[0]].to_numpy(float) for one in there)
    found = ranking.difference(labels, first, second, whole)
    return Paired("ROC AUC", paired.Difference(*found, len(labels)))


def _of_episodes(answers: list[Path], both: pd.DataFrame) -> Paired | str:
    """Of runs that answered episodes: the accuracy in each, which must have asked for the same examples."""
    columns = ["episode", "id", "label", "prediction"]
    texts = {"label": str, "prediction": str}
    tables = [read_csv(path, usecols=columns, dtype=texts, keep_default_na=False) for path in answers]
    numbers = [pd.Series(both.index, both[f"id_{side}"]) for side in ("first", "second")]
    asked = [one["id"].map(number).to_numpy() for one, number in zip(tables, numbers, strict=True)]
    first, second = tables
    same = len(first) == len(second) and (first["episode"] == second["episode"]).all()
    if not same or not (asked[0] == asked[1]).all():
        return "the test episodes are not the same: they go by the seed, ways, shots, queries and episodes"
    right = [(one["label"] == one["prediction"]).groupby(one["episode"]).mean().to_numpy() for one in tables]
    return Paired("accuracy of an episode, in the mean", paired.of_means(*right))


def _of_boxes(first: Path, second: Path, both: pd.DataFrame, whole: np.ndarray | None) -> Paired | str:
    models = _truth_and_found(first, second, both, ["id", "class"], ["id", "class", "score", "right"])
    if isinstance(models, str):
        return models
    counts = [truth.value_counts(["id", "class"]).sort_index() for truth, _ in models]
    if not counts[0].equals(counts[1]):
        return "the same test pictures have other boxes"
    first, second = models
    return Paired("AP50", paired.of_average_precision(first, second, both.index.to_numpy(), whole))


def _of_entities(first: Path, second: Path, both: pd.DataFrame) -> Paired | str:
    models = _truth_and_found(first, second, both, entities.COLUMNS, entities.COLUMNS)
    if isinstance(models, str):
        return models
    (truth, found), (again, others) = models
    same = [one.sort_values(entities.COLUMNS).reset_index(drop=True) for one in (truth, again)]
    if not same[0].equals(same[1]):
        return "the same test texts have other entities"
    groups = pd.Series(both["group_first"].to_numpy(), both.index)
    return Paired("F1", entities.difference(found, others, truth, both.index.to_numpy(), groups))


def _truth_and_found(
    first: Path, second: Path, both: pd.DataFrame, of_truth: list[str], of_found: list[str]
) -> list[tuple[pd.DataFrame, pd.DataFrame]] | str:
    """These columns of truth.csv and predictions.csv of both runs, with the numbers that `both` has for their
    examples; or why there are none, in words.
    """
    if not all((one / "truth.csv").is_file() for one in (first, second)):
        return "a run has no truth.csv, which says what its test examples have"
    models = []
    for one, side in ((first, "first"), (second, "second")):
        number = pd.Series(both.index, both[f"id_{side}"])  # the same example, the same number
        truth, found = (
            read_csv(one / name, usecols=columns, dtype={"class": str}, keep_default_na=False)[columns]
            for name, columns in (("truth.csv", of_truth), ("predictions.csv", of_found))
        )
        if not (truth["id"].isin(number.index).all() and found["id"].isin(number.index).all()):
            return "truth.csv or predictions.csv has examples that are not of the test"
        models.append((truth.assign(id=truth["id"].map(number)), found.assign(id=found["id"].map(number))))
    return models


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A table of a run; raises InputError where it cannot be read or lacks a column of `usecols`."""
    try:
        with folder.open_regular(path) as file:
            return cells.read(file, **options)
    except (OSError, ValueError) as error:  # ValueError: no CSV, or without a column that is needed
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())}); give another run."
        ) from error


def words(score: str) -> str:
    """A score's name as people write it."""
    return WORDS.get(score, score.replace("_", " "))
