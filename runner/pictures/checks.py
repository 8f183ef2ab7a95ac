"""What may be wrong with labelled pictures, beside what may be wrong with any example: near copies, films,
what gives the class away, pictures on their side.

Each check returns rows (path, kind, message) for `Data.problems`: one line each that says what was found and
what to do; path is "" where the finding is about the whole set. Nothing here reads a picture.
"""

import numpy as np
import pandas as pd

from runner.data.checks import (
    class_names,
    class_sizes,
    copies,
    near_copies,
    rare_classes,
    telling,
    told_by,
    versions,
)
from runner.data.files import Row
from runner.data.pairs import conflicts


def everything(
    manifest: pd.DataFrame,
    counts: pd.DataFrame,
    pairs: pd.DataFrame,
    clusters: np.ndarray,
    labelled: bool = True,
) -> list[Row]:
    """All checks of pictures. manifest: as of `Data`; counts: of `checks.count`; pairs, clusters: as of
    `data.pairs`; labelled: whether each has one label. Of boxes and masks nothing is checked that supposes
    that.
    """
    sizes = class_sizes if labelled else rare_classes
    return [
        *copies(manifest),
        *near_copies(manifest, pairs),
        *films(manifest, clusters),
        *torn(manifest, pairs),
        *class_names(counts.sum(axis=1), "pictures"),
        *(sizes(counts, "pictures") if (manifest["split"] == "train").any() else []),  # else only judged
        *(give_aways(manifest) if labelled else []),
        *orientations(manifest),
    ]


# ---------------------------------------------------------------- copies


def films(manifest: pd.DataFrame, clusters: np.ndarray) -> list[Row]:
    """Say where pictures look like frames of a film and no groups tell which belong together.

    That is: a tenth of them show nearly the same as another, or a cluster is `splits.too_large`. Frames a
    second apart differ enough to escape, and still tell a model about each other; only the user knows the
    scenes.
    """
    return versions(manifest, clusters, "pictures", "show nearly the same as another, as frames of a film do")


def torn(manifest: pd.DataFrame, near: pd.DataFrame) -> list[Row]:
    """Say how many near-duplicate pairs stand in two splits, and between which groups if there are any.

    `near_copies` names a picture of each; this is one line about all of them, where there are several.
    """
    apart, _ = conflicts(near, manifest)
    count = int(apart.sum())
    if count < 2:
        return []
    group, split = (manifest[name].to_numpy(object) for name in ("group", "split"))
    first, second = near["first"].to_numpy(int)[apart], near["second"].to_numpy(int)[apart]
    sides = pd.Series([" and ".join(sorted(pair)) for pair in zip(split[first], split[second], strict=True)])
    where = ", ".join(f"{number} in {name}" for name, number in sides.value_counts().items())
    pictures = len(np.unique(np.concatenate([first, second])))
    message = f"{count} pairs of pictures that show nearly the same stand in two splits ({where}"
    message += f"; {pictures} pictures)"
    across = [
        (group[a], group[b]) if group[a] <= group[b] else (group[b], group[a])
        for a, b in zip(first, second, strict=True)
        if group[a] and group[b]
    ]
    if across:
        named = [f"{a!r} and {b!r} ({n})" for (a, b), n in pd.Series(across).value_counts().items()]
        shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        message += (
            f": they join the groups {shown}; give groups that belong together one name, or remove one "
            "picture of each pair"
        )
    else:
        message += ": remove one of each, or put both into one split"
    return [("", "near-duplicate", message)]


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
    seen = seen.assign(label=seen["label"].astype(str))  # of categories also those without a picture count
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
        for label, value, cell in telling(facts[name], seen["label"]):
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


def _told_by_facts(seen: pd.DataFrame, facts: pd.DataFrame) -> tuple[float | None, float]:
    """Return how often a tree on the facts is right, or None where that is nothing, and the largest share."""
    if facts.empty:
        return None, 0.0
    numbers = pd.concat(
        [
            seen[["width", "height"]],
            (seen["width"] / seen["height"]).rename("shape"),
            seen["gray"].astype(int),
            pd.get_dummies(seen["format"]),
        ],
        axis=1,
    )
    return told_by(numbers, seen["label"])


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
