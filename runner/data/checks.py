"""What may be wrong with labelled examples of any kind: copies, what gives the class away, class
names, class sizes.

Each check returns rows (path, kind, message) for `Data.problems`: one line each that says what was found and
what to do; path is "" where the finding is about the whole set. Nothing here reads an example.
"""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom, hypergeom
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from runner.data import splits
from runner.data.files import Row, composed, singular
from runner.data.pairs import SAME
from runner.data.splits import SPLITS, USED

RANK = {split: i for i, split in enumerate((*USED, "unused"))}
"""Of two examples that are alike the one with the lower rank keeps its place."""


def count(manifest: pd.DataFrame, classes: Sequence[str], amounts: np.ndarray | None = None) -> pd.DataFrame:
    """Count examples: a row per class (index "class"), a column per split, also "unused" and "skipped".

    manifest: as of `examples.Data`, its label a Categorical of `classes`.
    amounts: int64 (examples, classes), where an example has boxes or a mask: it counts to each class that it
    has something of.
    """
    names = [str(name) for name in classes]
    if amounts is None:
        counts = pd.crosstab(manifest["label"].cat.codes.to_numpy(), manifest["split"].to_numpy())
    else:
        there = pd.DataFrame(amounts > 0, columns=range(len(names)))
        counts = there.groupby(manifest["split"].to_numpy()).sum().T
    counts = counts.reindex(index=range(len(names)), columns=list(SPLITS), fill_value=0)
    return counts.set_axis(names).rename_axis(index="class", columns=None)


# ---------------------------------------------------------------- copies


def copies(manifest: pd.DataFrame) -> list[Row]:
    """Identical content in two splits (kind "duplicate"), or with two labels (kind "label")."""
    rows = []
    used = manifest[manifest["split"].isin(USED)].assign(code=manifest["label"].cat.codes)
    repeated = used[used.duplicated("sha256", keep=False)]
    for _, same in repeated.groupby("sha256", sort=False):
        first = same.iloc[same["split"].map(RANK).argmin()]
        for row in same.itertuples():
            if row.split != first["split"]:
                message = (
                    f"{row.split} {row.path!r} is identical to {first['split']} {first['path']!r}: remove one"
                )
                rows.append((row.path, "duplicate", message))
            if row.code != first["code"]:
                message = (
                    f"{row.path!r} is {row.label!r}, the identical {first['path']!r} is {first['label']!r}: "
                    "look which is right"
                )
                rows.append((row.path, "label", message))
    return rows


def near_copies(manifest: pd.DataFrame, pairs: pd.DataFrame, does: str = "shows") -> list[Row]:
    """Pairs (as of `data.pairs`) that stand in two splits (kind "near-duplicate") or have two labels (kind
    "label").

    does: what an example does, "shows" or "says". At most one row of a kind per example, for the best match
    it has in an earlier split (train, val, test) or before it, so that a film of thousands of frames gives no
    millions of rows.
    """
    rows, said = [], set()
    split, path, label = (manifest[name].to_numpy(dtype=object) for name in ("split", "path", "label"))
    code = manifest["label"].cat.codes.to_numpy()
    for first, second, how in zip(pairs["first"], pairs["second"], pairs["how"], strict=True):
        if split[first] not in USED or split[second] not in USED:
            continue
        early, late = sorted((first, second), key=lambda row: RANK[split[row]])
        like = "" if how == SAME else f" ({how})"
        if split[early] != split[late] and ("split", late) not in said:
            said.add(("split", late))
            message = (
                f"{split[late]} {path[late]!r} {does} nearly the same{like} as {split[early]} "
                f"{path[early]!r}: remove one, or put both into one split"
            )
            rows.append((path[late], "near-duplicate", message))
        if code[early] != code[late] and ("label", late) not in said:
            said.add(("label", late))
            message = (
                f"{path[late]!r} is {label[late]!r}, {path[early]!r}, which {does} nearly the same{like}, is "
                f"{label[early]!r}: look which is right"
            )
            rows.append((path[late], "label", message))
    return rows


def versions(manifest: pd.DataFrame, clusters: np.ndarray, unit: str, like: str) -> list[Row]:
    """Say where examples look like versions of few, and no groups tell which belong together.

    That is: a tenth of them, and 10 or more, are nearly the same as another, or a cluster is
    `splits.too_large`. unit: the word for examples, in the plural; like: what they do, in words.
    """
    if (manifest["group"] != "").any():
        return []
    similar, chained = int((clusters >= 0).sum()), splits.too_large(clusters)
    if similar < max(10, 0.1 * len(clusters)) and not chained.any():
        return []
    torn = f" ({chained.sum()} in chains too long to keep in one split)" if chained.any() else ""
    message = (
        f"{similar} of {len(clusters)} {unit} {like}{torn}: say in the group column of a CSV file which "
        "belong together, and no split divides them"
    )
    return [("", "near-duplicate", message)]


# ---------------------------------------------------------------- what gives the class away


def telling(values: pd.Series, labels: pd.Series) -> Iterator[tuple[str, str, Any]]:
    """Yield (label, value, counts) where a value goes with one class as by no chance, most examples first.

    Where 5 or more examples, and a fifth of the class or more, have it, where 9 of 10 with it are of the
    class, and where Fisher's exact test gives that less than 0.001, times the number of values and classes
    tried (Bonferroni). counts: both, of_value and of_class, how many examples.
    """
    if values.empty:
        return
    table = pd.DataFrame({"value": values, "label": labels}).value_counts().rename("both").reset_index()
    table["of_value"] = table["value"].map(values.value_counts())
    table["of_class"] = table["label"].map(labels.value_counts())
    tries = len(table)
    table = table[
        (table["both"] >= 5)
        & (table["both"] >= 0.9 * table["of_value"])
        & (table["both"] >= 0.2 * table["of_class"])
    ]
    chance = hypergeom.sf(table["both"] - 1, len(values), table["of_class"], table["of_value"])
    for cell in table[chance * tries < 0.001].itertuples():
        yield cell.label, cell.value, cell


def told_by(numbers: pd.DataFrame, labels: pd.Series) -> tuple[float | None, float]:
    """Return how often numbers that say nothing of what is meant tell the class, or None where that is by
    chance, and the share of the largest class.

    numbers: a row per example; labels: str. A decision tree of depth 4, 5-fold cross-validated, must beat
    always answering the largest class by 10 points, and by more than chance (binomial test, 0.001). Fewer
    than 50 examples say nothing.
    """
    largest = labels.value_counts(normalize=True).max()
    if len(labels) < 50:
        return None, largest
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, random_state=0)
    folds = KFold(5, shuffle=True, random_state=0)
    right = (cross_val_predict(tree, numbers.to_numpy(float), labels, cv=folds) == labels).sum()
    beyond_chance = binom.sf(right - 1, len(labels), largest) < 0.001
    accuracy = right / len(labels)
    return (accuracy if accuracy >= largest + 0.1 and beyond_chance else None), largest


# ---------------------------------------------------------------- classes


def class_names(counts: pd.Series, unit: str = "examples") -> list[Row]:
    """Names that are probably one class written in two ways; kind "label".

    counts: examples per class name; unit: the word for them, in the plural. Told are names that programs
    write for a missing value (nan, NULL, N/A), and names that are equal as numbers (1, 1.0, 01). Found are
    names that differ only in case, white space, hyphens or in how Unicode writes the same letters (NFKC); a
    singular beside its plural; and names one slip of a letter apart. The last is no proof (cat, rat): it
    counts where both names have six letters or more and the slip is not the whole of a word (grade A, grade
    B) nor a digit (class1, class2), or where one of the two is at most a tenth of the other, as a slip of the
    pen is.
    """
    by_plain = defaultdict(list)
    for name in counts.index:
        by_plain[_plain(name)].append(name)
    rows = [*_missing_values(counts, unit), *_equal_numbers(counts.index)]
    for names in by_plain.values():
        for name in names[1:]:
            what = "case" if names[0].casefold() == name.casefold() else "case, white space or spelling"
            if composed(names[0]) == composed(name):
                what = "the Unicode form of their letters (NFC or NFD)"
            message = f"classes {names[0]!r} and {name!r} differ in {what} only: merge them if they are one"
            rows.append(("", "label", message))
    for one, other in _one_letter_apart(sorted(by_plain)):
        first, second = by_plain[one][0], by_plain[other][0]
        few, many = sorted((counts[by_plain[one]].sum(), counts[by_plain[other]].sum()))
        if _plural(one, other) or _plural(other, one):
            what = "look like singular and plural"
        elif _slip(one, other) and (min(len(one), len(other)) >= 6 or 10 * few <= many):
            what = "are one letter apart"
        else:
            continue
        numbers = f"{counts[first]} and {counts[second]} {unit}"
        message = f"classes {first!r} and {second!r} ({numbers}) {what}: merge them if they are one"
        rows.append(("", "label", message))
    return rows


_MISSING = {"nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat", "#value!", "#ref!", "undefined"}
"""What programs write where a value is missing, in lower case."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def _missing_values(counts: pd.Series, unit: str) -> list[Row]:
    return [
        (
            "",
            "label",
            f"class {name!r} ({count} {unit}) is what programs write where a value is missing: leave these "
            f"{unit} out if it is no class",
        )
        for name, count in counts.items()
        if str(name).strip().lower() in _MISSING
    ]


def _equal_numbers(names: Iterable[str]) -> list[Row]:
    """Names that differ and are one number, as a spreadsheet writes it now so, now so."""
    by_value = defaultdict(list)
    for name in names:
        if len(name) < 100 and _NUMBER.fullmatch(name.strip()):
            by_value[float(name)].append(name)
    return [
        (
            "",
            "label",
            f"classes {', '.join(map(repr, same))} are equal as numbers: merge them if they are one",
        )
        for same in by_value.values()
        if len(same) > 1
    ]


def _plain(name: str) -> str:
    plain = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()
    return plain or name  # the characters - and _ may be classes


def _one_letter_apart(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that one letter more, less, other, or two swapped neighbours, make the same; also
    plurals in -es and -ies. Names meet where both lose one letter, so that 10,000 take a moment.
    """
    meeting = defaultdict(set)
    for name in names:
        for shorter in {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}:
            meeting[shorter].add(name)
        for stem in (name.removesuffix("es"), name.removesuffix("ies") + "y"):
            meeting[stem].add(name)
    pairs = {pair for together in meeting.values() for pair in itertools.combinations(sorted(together), 2)}
    return sorted(pair for pair in pairs if _apart(*pair) or _plural(*pair) or _plural(*pair[::-1]))


def _apart(one: str, other: str) -> bool:
    """One letter more, less or other, or two neighbours swapped (Damerau 1964)."""
    start, end = _unlike(one, other)
    middle, others = one[start : len(one) - end], other[start : len(other) - end]
    return max(len(middle), len(others)) == 1 or (len(middle) == 2 and middle == others[::-1])


def _unlike(one: str, other: str) -> tuple[int, int]:
    """How many letters two names share at the start and, of the rest, at the end."""
    shortest = min(len(one), len(other))
    start = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    left = shortest - start
    end = next((i for i in range(left) if one[-1 - i] != other[-1 - i]), left)
    return start, end


def _plural(one: str, many: str) -> bool:
    if len(one) < 3 or one[-1].isdigit():
        return False
    return many in (one + "s", one + "es") or (one[-1] == "y" and many == one[:-1] + "ies")


def _slip(one: str, other: str) -> bool:
    """Whether the one letter that differs may be a slip: no digit, and not a whole short word."""
    words = [set(name.split()) for name in (one, other)]
    changed = (words[0] ^ words[1]) or {""}
    return not any(word.isdigit() or len(word) < 3 or re.search(r"\d", word) for word in changed)


def class_sizes(counts: pd.DataFrame, unit: str = "examples") -> list[Row]:
    """Classes that are missing, tiny or swamped by others.

    counts: of `count`, classes x splits; unit: the word for an example, in the plural. "missing": no example
    in val or test. "tiny": fewer than 5 to train on (train and unused together), as no augmentation makes up
    for what four don't show; fewer than 10 in test, where even 10 right of 10 leave an accuracy of 69 to 100
    % plausible (Clopper and Pearson 1934: the 95 % interval of n of n begins at 0.025^(1/n)); fewer than 50
    in val altogether, where one more or less right moves the accuracy by more than 2 points, which decides
    between two epochs by luck. "imbalance": the largest class in train has at least 5 times the examples of
    the smallest, so that between these two always answering the larger is right 5 times in 6.
    """
    rows = []
    for split in ("val", "test"):
        for name in counts.index[counts[split] == 0]:
            rows.append(("", "missing", f"class {name!r} has no {split} example"))
    there = counts["train"] + counts["unused"]
    few = there[there < 5].sort_values()
    if len(few):
        message = f"fewer than 5 training {unit}: {_named(few)}; add {unit}, or merge or drop the class"
        rows.append(("", "tiny", message))
    few = counts["test"][counts["test"].between(1, 9)].sort_values()
    if len(few):
        n = int(few.iloc[0])
        message = (
            f"fewer than 10 test {unit}: {_named(few)}; even {n} right of {n} leave an accuracy of "
            f"{100 * 0.025 ** (1 / n):.0f} to 100 % plausible: take their numbers as hints, or add {unit}"
        )
        rows.append(("", "tiny", message))
    n = int(counts["val"].sum())
    if n < 50:
        message = (
            f"val has {n} {unit} in all, so that one {singular(unit)} moves its accuracy by "
            f"{100 / max(n, 1):.1f} points and the best epoch is partly luck: add {unit}, or take more "
            "labels for it"
        )
        rows.append(("", "tiny", message))
    largest, smallest = counts["train"].idxmax(), counts["train"].idxmin()
    many, least = int(counts["train"].max()), int(counts["train"].min())
    if many >= 5 * least:
        message = (
            f"{largest!r} has {many} training {unit}, {smallest!r} {least}: read the macro averages, not "
            f"the accuracy, and set labels_per_class or add {unit} of the small classes"
        )
        rows.append(("", "imbalance", message))
    return rows


def rare_classes(counts: pd.DataFrame, unit: str = "examples") -> list[Row]:
    """Classes of boxes or masks that a split lacks ("missing"), or that fewer than 5 training examples have
    something of ("tiny"). counts, unit: as for `class_sizes`.
    """
    advice = {"train": f", so that nothing learns it: add {unit}, or drop the class"}
    rows = []
    for split in ("train", "val", "test"):
        for name in counts.index[counts[split] == 0]:
            message = f"class {name!r} is in no {split} {singular(unit)}{advice.get(split, '')}"
            rows.append(("", "missing", message))
    few = counts["train"][counts["train"].between(1, 4)].sort_values()
    if len(few):
        message = f"in fewer than 5 training {unit}: {_named(few)}; add {unit}, or drop the class"
        rows.append(("", "tiny", message))
    return rows


def _named(counts: pd.Series, most: int = 5) -> str:
    shown = ", ".join(f"{name!r} {count}" for name, count in counts.head(most).items())
    return shown + (f" and {len(counts) - most} more" if len(counts) > most else "")
