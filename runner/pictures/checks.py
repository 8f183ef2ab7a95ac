"""What may be wrong with labelled pictures: copies, class names, class sizes, what gives the class away.

Each check returns rows (path, kind, message) for `Data.problems`: one line each that says what was found and
what to do; path is "" where the finding is about the whole set. Nothing here reads a picture.
"""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom, hypergeom
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from runner.pictures import near_duplicates

Row = tuple[str, str, str]

SPLITS = ("train", "val", "test", "unused", "skipped")
_USED = SPLITS[:3]
_RANK = {split: i for i, split in enumerate((*_USED, "unused"))}


def count(manifest: pd.DataFrame, classes: Sequence[str], amounts: np.ndarray | None = None) -> pd.DataFrame:
    """Count examples: a row per class (index "class"), a column per split, also "unused" and "skipped".

    amounts: int64 (examples, classes), where an example has boxes or a mask: it counts to each class that it
    has something of.
    """
    if amounts is None:
        counts = pd.crosstab(manifest["label"].astype(str), manifest["split"])
    else:
        there = pd.DataFrame(amounts > 0, columns=[str(name) for name in classes])
        counts = there.groupby(manifest["split"].to_numpy()).sum().T
    names = [str(name) for name in classes]
    counts = counts.reindex(index=names, columns=list(SPLITS), fill_value=0)
    return counts.rename_axis(index="class", columns=None)


def everything(
    manifest: pd.DataFrame,
    counts: pd.DataFrame,
    pairs: pd.DataFrame,
    clusters: np.ndarray,
    amounts: np.ndarray | None = None,
) -> list[Row]:
    """All checks below. manifest, amounts: as of `data.Data`; counts: of `count`; pairs, clusters: of
    `near_duplicates`. Of boxes and masks nothing that supposes one label for each picture is checked.
    """
    labelled = amounts is None
    return [
        *copies(manifest),
        *near_copies(manifest, pairs),
        *films(manifest, clusters),
        *class_names(counts.sum(axis=1)),
        *(class_sizes(counts) if labelled else rare_classes(counts)),
        *(give_aways(manifest) if labelled else []),
        *orientations(manifest),
    ]


# ---------------------------------------------------------------- copies


def copies(manifest: pd.DataFrame) -> list[Row]:
    """Identical pixels in two splits (kind "duplicate"), or with two labels (kind "label")."""
    rows = []
    used = manifest[manifest["split"].isin(_USED)]
    repeated = used[used.duplicated("sha256", keep=False)]
    for _, same in repeated.groupby("sha256", sort=False):
        first = same.iloc[same["split"].map(_RANK).argmin()]
        for row in same.itertuples():
            if row.split != first["split"]:
                message = (
                    f"{row.split} {row.path!r} is identical to {first['split']} {first['path']!r}: remove one"
                )
                rows.append((row.path, "duplicate", message))
            if row.label != first["label"]:
                message = (
                    f"{row.path!r} is {row.label!r}, the identical {first['path']!r} is {first['label']!r}: "
                    "look which is right"
                )
                rows.append((row.path, "label", message))
    return rows


def near_copies(manifest: pd.DataFrame, pairs: pd.DataFrame) -> list[Row]:
    """Pairs of `near_duplicates.find` that stand in two splits (kind "near-duplicate") or have two labels
    (kind "label").

    At most one row of a kind per picture, for the best match it has in an earlier split (train, val, test) or
    before it, so that a film of thousands of frames gives no millions of rows.
    """
    rows, said = [], set()
    split, path, label = (manifest[name].to_numpy(dtype=object) for name in ("split", "path", "label"))
    for first, second, how in zip(pairs["first"], pairs["second"], pairs["how"]):
        if split[first] not in _USED or split[second] not in _USED:
            continue
        early, late = sorted((first, second), key=lambda row: _RANK[split[row]])
        like = "" if how == near_duplicates.HOW[0] else f" ({how})"
        if split[early] != split[late] and ("split", late) not in said:
            said.add(("split", late))
            message = (
                f"{split[late]} {path[late]!r} shows nearly the same{like} as {split[early]} "
                f"{path[early]!r}: remove one, or put both into one split"
            )
            rows.append((path[late], "near-duplicate", message))
        if label[early] != label[late] and ("label", late) not in said:
            said.add(("label", late))
            message = (
                f"{path[late]!r} is {label[late]!r}, {path[early]!r}, which shows nearly the same{like}, is "
                f"{label[early]!r}: look which is right"
            )
            rows.append((path[late], "label", message))
    return rows


def conflicts(pairs: pd.DataFrame, manifest: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which pairs stand in two of train, val and test, and which of those three have two labels."""
    first, second = manifest.loc[pairs["first"]], manifest.loc[pairs["second"]]
    used = first["split"].isin(_USED).to_numpy() & second["split"].isin(_USED).to_numpy()
    torn, argued = (used & (first[name].to_numpy() != second[name].to_numpy()) for name in ("split", "label"))
    return torn, argued


def worst_first(pairs: pd.DataFrame, manifest: pd.DataFrame, clusters: np.ndarray) -> pd.DataFrame:
    """Order pairs for a reader: conflicts first, and of each cluster one before the second of any."""
    torn, argued = conflicts(pairs, manifest)
    harmless = ~(torn | argued)
    turn = pairs.groupby([harmless, clusters[pairs["first"]]]).cumcount()
    return pairs.iloc[np.lexsort((turn, harmless))].reset_index(drop=True)


def too_large(clusters: np.ndarray) -> np.ndarray:
    """Mark the rows of sets that no split can take whole: bool (n,). clusters: number of the set of each row,
    negative for none.

    More than 5 % of all rows, and more than 10: kept together, such a set would make up a third of validation
    or be missing there.
    """
    sizes = np.bincount(clusters[clusters >= 0], minlength=1)
    return (clusters >= 0) & (sizes[clusters] > max(10, 0.05 * len(clusters)))


def films(manifest: pd.DataFrame, clusters: np.ndarray) -> list[Row]:
    """Say where pictures look like frames of a film and no groups tell which belong together.

    That is: a tenth of them show nearly the same as another, or a cluster is `too_large`. Frames a second
    apart differ enough to escape, and still tell a model about each other; only the user knows the scenes.
    """
    if (manifest["group"] != "").any():
        return []
    similar, chained = int((clusters >= 0).sum()), too_large(clusters)
    if similar < max(10, 0.1 * len(clusters)) and not chained.any():
        return []
    torn = f" ({chained.sum()} in chains too long to keep in one split)" if chained.any() else ""
    message = (
        f"{similar} of {len(clusters)} pictures show nearly the same as another, as frames of a film do"
        f"{torn}: say in the group column of a CSV file which belong together, and no split divides them"
    )
    return [("", "near-duplicate", message)]


# ---------------------------------------------------------------- classes


def class_names(counts: pd.Series) -> list[Row]:
    """Names that are probably one class written in two ways; kind "label".

    counts: pictures per class name. Found are names that differ only in case, white space, hyphens or in how
    Unicode writes the same letters (NFKC); a singular beside its plural; and names one slip of a letter
    apart. The last is no proof (cat, rat): it counts where both names have six letters or more and the slip
    is not the whole of a word (grade A, grade B) nor a digit (class1, class2), or where one of the two is
    at most a tenth of the other, as a slip of the pen is.
    """
    by_plain = defaultdict(list)
    for name in counts.index:
        by_plain[_plain(name)].append(name)
    rows = []
    for names in by_plain.values():
        for name in names[1:]:
            what = "case" if names[0].casefold() == name.casefold() else "case, white space or spelling"
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
        numbers = f"{counts[first]} and {counts[second]} pictures"
        message = f"classes {first!r} and {second!r} ({numbers}) {what}: merge them if they are one"
        rows.append(("", "label", message))
    return rows


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


def class_sizes(counts: pd.DataFrame) -> list[Row]:
    """Classes that are missing, tiny or swamped by others.

    counts: from `data.summary`, classes x splits. "missing": no example in val or test. "tiny": fewer than 5
    pictures to train on (train and unused together), as no augmentation makes up for what four pictures
    don't show; fewer than 10 in test, where even 10 right of 10 leave an accuracy of 69 to 100 % plausible
    (Clopper and Pearson 1934: the 95 % interval of n of n begins at 0.025^(1/n)); fewer than 50 in val
    altogether, where one picture more or less right moves the accuracy by more than 2 points, which decides
    between two epochs by luck. "imbalance": the largest class in train has at least 5 times the pictures of
    the smallest, so that between these two always answering the larger is right 5 times in 6.
    """
    rows = []
    for split in ("val", "test"):
        for name in counts.index[counts[split] == 0]:
            rows.append(("", "missing", f"class {name!r} has no {split} example"))
    there = counts["train"] + counts["unused"]
    few = there[there < 5].sort_values()
    if len(few):
        message = f"fewer than 5 training pictures: {_named(few)}; add pictures, or merge or drop the class"
        rows.append(("", "tiny", message))
    few = counts["test"][counts["test"].between(1, 9)].sort_values()
    if len(few):
        n = int(few.iloc[0])
        message = (
            f"fewer than 10 test pictures: {_named(few)}; even {n} right of {n} leave an accuracy of "
            f"{100 * 0.025 ** (1 / n):.0f} to 100 % plausible: take their numbers as hints, or add pictures"
        )
        rows.append(("", "tiny", message))
    n = int(counts["val"].sum())
    if n < 50:
        message = (
            f"val has {n} pictures in all, so that one picture moves its accuracy by {100 / max(n, 1):.1f} "
            "points and the best epoch is partly luck: add pictures, or take more labels for it"
        )
        rows.append(("", "tiny", message))
    largest, smallest = counts["train"].idxmax(), counts["train"].idxmin()
    many, least = int(counts["train"].max()), int(counts["train"].min())
    if many >= 5 * least:
        message = (
            f"{largest!r} has {many} training pictures, {smallest!r} {least}: read the macro averages, not "
            "the accuracy, and set labels_per_class or add pictures of the small classes"
        )
        rows.append(("", "imbalance", message))
    return rows


def rare_classes(counts: pd.DataFrame) -> list[Row]:
    """Classes of boxes or masks that a split lacks ("missing"), or that fewer than 5 training pictures show
    ("tiny").
    """
    advice = {"train": ", so that nothing learns it: add pictures, or drop the class"}
    rows = []
    for split in ("train", "val", "test"):
        for name in counts.index[counts[split] == 0]:
            message = f"class {name!r} is in no {split} picture{advice.get(split, '')}"
            rows.append(("", "missing", message))
    few = counts["train"][counts["train"].between(1, 4)].sort_values()
    if len(few):
        message = f"in fewer than 5 training pictures: {_named(few)}; add pictures, or drop the class"
        rows.append(("", "tiny", message))
    return rows


def _named(counts: pd.Series, most: int = 5) -> str:
    shown = ", ".join(f"{name!r} {count}" for name, count in counts.head(most).items())
    return shown + (f" and {len(counts) - most} more" if len(counts) > most else "")


# ---------------------------------------------------------------- what gives the class away


def give_aways(manifest: pd.DataFrame) -> list[Row]:
    """Size, shape, gray and file format, where they tell the class; kind "give-away".

    A network trained on such a set may learn the format and not the thing. Looks at all pictures but those
    of test. A value (such as 128 x 128 pixels) is named with a class where 5 or more pictures, and a fifth of
    the class or more, have it, where 9 of 10 pictures with it are of the class, and where Fisher's exact test
    gives that less than 0.001, times the number of values and classes tried (Bonferroni). What several values
    give away together, or a value that one class alone lacks, is measured by a decision tree of depth 4 on
    these facts (5-fold cross-validated): reported where it beats always answering the largest class by 10
    points, and by more than chance (binomial test, 0.001).
    """
    seen = manifest[manifest["split"].isin(["train", "val", "unused"])]
    shapes = {1: "wider than high", 0: "square", -1: "higher than wide"}
    facts = pd.DataFrame(
        {
            "size": seen["width"].astype(str) + " x " + seen["height"].astype(str) + " pixels",
            "shape": np.sign(seen["width"] - seen["height"]).map(shapes),
            "colour": np.where(seen["gray"], "gray", "in colour"),
            "file format": seen["format"] + " files",
        }
    )
    facts = facts.loc[:, facts.nunique() > 1]
    rows, told = [], set()
    for name in facts:
        for label, value, cell in _telling(facts[name], seen["label"]):
            if name == "shape" and (label, "size") in told:
                continue  # the size says it already
            told.add((label, name))
            others = cell.of_value - cell.both or "no"
            message = (
                f"{cell.both} of {cell.of_class} pictures of {label!r}, and {others} others, are {value}, "
                "which gives the class away: bring all pictures into one form, or collect all classes alike"
            )
            rows.append(("", "give-away", message))
    accuracy, largest = _told_by_facts(seen, facts)
    if accuracy is not None:
        message = (
            f"{' and '.join(facts)} alone tell the class of {100 * accuracy:.0f} % of the pictures (always "
            f"answering the largest class: {100 * largest:.0f} %): make the classes alike in these"
        )
        rows.append(("", "give-away", message))
    return rows


def _telling(values: pd.Series, labels: pd.Series):
    """Yield (label, value, counts) where a value goes with one class as by no chance, most pictures first."""
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


def _told_by_facts(seen: pd.DataFrame, facts: pd.DataFrame) -> tuple[float | None, float]:
    """Return how often a tree on the facts is right, or None where that is nothing, and the largest share."""
    largest = seen["label"].value_counts(normalize=True).max()
    if facts.empty or len(seen) < 50:
        return None, largest
    numbers = pd.concat(
        [
            seen[["width", "height"]],
            (seen["width"] / seen["height"]).rename("shape"),
            seen["gray"].astype(int),
            pd.get_dummies(seen["format"]),
        ],
        axis=1,
    )
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, random_state=0)
    folds = KFold(5, shuffle=True, random_state=0)
    right = (cross_val_predict(tree, numbers.to_numpy(float), seen["label"], cv=folds) == seen["label"]).sum()
    beyond_chance = binom.sf(right - 1, len(seen), largest) < 0.001
    accuracy = right / len(seen)
    return (accuracy if accuracy >= largest + 0.1 and beyond_chance else None), largest


def orientations(manifest: pd.DataFrame) -> list[Row]:
    """Pictures that probably lie on their side; kind "orientation".

    Where four of five pictures have one size that is no square, as from one camera, the few (at most one in
    20) with width and height swapped, and without an EXIF entry that turned them, were turned by hand or not
    at all. In sets of all sizes there is no such sign.
    """
    there = manifest[manifest["split"] != "skipped"]
    plain = there[~there["turned"].astype(bool)]
    if plain.empty:
        return []
    sizes = plain.value_counts(["width", "height"])
    (width, height), count = sizes.index[0], int(sizes.iloc[0])
    swapped = plain[(plain["width"] == height) & (plain["height"] == width)]
    if width == height or count < 0.8 * len(there) or len(swapped) > 0.05 * len(there):
        return []
    return [
        (
            path,
            "orientation",
            f"{path!r} is {height} x {width} where {count} of {len(there)} are {width} x {height}: look "
            "whether it lies on its side, and turn it",
        )
        for path in swapped["path"]
    ]
