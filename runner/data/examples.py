"""What a template trains and tests on, and how examples of any kind are divided into it.

A kind of example (pictures, rows, sentences) brings a manifest with a row per example, what is nearly the
same among them if it can tell, and three datasets at the end; `divide` and `checks` do what lies between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import checks, pairs, splits
from runner.data.sealed import Sealed
from runner.data.source import Source
from runner.data.splits import USED
from runner.errors import InputError, suggest

ON_BAD_DATA = ("skip", "stop")


@dataclass(frozen=True, eq=False)
class Data:
    """What a template trains and tests on.

    train, val, test: finite, unbatched, unaugmented `tf.data.Dataset`s of known cardinality, each in the same
    order every time: that of the manifest, which often goes class by class, so shuffle train with a buffer of
    its whole length. Only a train split of files that don't fit in memory comes mixed. test is sealed:
    `test.open(record, reason)` gives its dataset. An element is a dict {"id": int64 (), row number in the
    manifest; "input": of the kind of example, such as uint8 (image_size, image_size, 3), RGB; "label": int64
    (), index into classes}; of a source with targets (`source.Target`) their arrays stand in place of the
    label.
    classes: names, sorted (by value where all are whole numbers) or in TFDS's order.
    manifest: DataFrame, index 0..n-1 = id; columns path (as in the source), split ("train", "val", "test",
    "unused" = left out by labels_per_class, "skipped" = not readable), label (a Categorical whose categories
    are the classes, so that `.cat.codes` are the labels of the elements; no category, which a CSV file has as
    "", for an example without a label, with boxes or with a mask), group ("" = on its own), subgroup ("" =
    none; what is compared at the end, such as a kind of camera), where the source has it weight (float, how
    much the example counts in training), sha256 (of the content, hex; "" when skipped), and what the kind of
    example adds. Pictures: the hash is of the decoded pixels before resizing; width and height (pixels,
    upright, before resizing), format ("JPEG", ...), gray and turned (bool; turned upright as EXIF says), of a
    skipped one 0, "" and False.
    problems: DataFrame with columns path ("" for the whole set), kind, message; kinds: "unreadable"
    (skipped), "converted" (read with some loss), "blank" (of one colour, or nearly black), "duplicate"
    (identical content in two splits that the source gave; kept), "near-duplicate" (nearly the same in two
    splits, or so many that a film is likely), "label" (the same content with two labels, two class names that
    look like one, or one that stands for a missing value), "missing" (a class without example in val or test,
    and what a list names that is not there, or is there unnamed), "tiny" and "imbalance" (few examples),
    "give-away" (size, shape, gray or file format that tells the class), "orientation" (probably on its side),
    "truncated" (longer than is read), "unlabelled" (a TFDS split without labels); `checks` of this wing and
    of the kind have the rules. Targets have kinds of their own.
    near_duplicates: DataFrame as in `pairs`, first and second are ids, what is a problem first.
    odd: id -> what the report shows of the first near-duplicate pairs and of other odd examples, such as
    uint8 (image_size, image_size, 3). They may be of test: not for training or choosing.
    amounts: None, or with targets int64 (examples, classes): how many boxes, or pixels, of each class.
    recipe: what decides an input beside its content, such as its size and the code that reads it; for
    fingerprints.
    unit: the word for examples, in the plural: "pictures", "rows".
    counted: what amounts count, in a word for the terminal ("boxes"); "" for nothing to tell.
    carved: which splits were made of what, as of `splits.carved_in_words`; "" for nothing to tell.
    """

    train: tf.data.Dataset
    val: tf.data.Dataset
    test: Sealed
    classes: tuple[str, ...]
    manifest: pd.DataFrame
    problems: pd.DataFrame
    near_duplicates: pd.DataFrame = field(default_factory=pairs.none)
    odd: dict[int, np.ndarray] = field(default_factory=dict)
    amounts: np.ndarray | None = None
    recipe: str = ""
    unit: str = "examples"
    counted: str = ""
    carved: str = ""

    def in_words(self) -> str:
        """The counts for the terminal: "10 classes; pictures: test 797, unused 602, train 200, val 198"."""
        counted = (
            f", {self.amounts.sum()} {self.counted}" if self.amounts is not None and self.counted else ""
        )
        classes = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
        words = f"{classes}{counted}; {self.unit}: {splits_in_words(self.manifest)}"
        words += f" ({self.carved})" if self.carved else ""
        if "weight" not in self.manifest:
            return words
        low, high = self.manifest["weight"].min(), self.manifest["weight"].max()
        return f"{words}; weights in training: {low:g} to {high:g}"


def check_parts(data: Data, wanted: Sequence[str] = USED) -> None:
    """Raise InputError where a split has nothing to learn from or to be judged by: no box, no known pixel.

    wanted: the splits to look at. Only examples with targets can have nothing, and only theirs are looked at.
    """
    if data.amounts is None:
        return
    having = np.asarray(data.amounts.sum(axis=1) > 0)
    there = {split: having[ids(data.manifest, split)] for split in wanted}
    what = data.counted or "pixels that count"
    for split, has in there.items():
        if not has.any():
            counts = ", ".join(f"{one} {found.sum()} of {len(found)}" for one, found in there.items())
            raise InputError(
                f"Received a {split} split of {len(has)} {data.unit} without {what}; {data.unit} with {what} "
                f"are: {counts}. Each split needs one at least: label more, or move some there."
            )


def splits_in_words(manifest: pd.DataFrame) -> str:
    """How many examples each split has, the largest first: "test 797, unused 602, train 200"."""
    return ", ".join(f"{split} {count}" for split, count in manifest["split"].value_counts().items())


def compared_groups(data: Data) -> pd.Series:
    """Which group each example (index: id) counts to when numbers are given per group; "" for none.

    The subgroups where the source names any, else the groups that no split divides.
    """
    named = "subgroup" if (data.manifest["subgroup"] != "").any() else "group"
    return data.manifest[named]


def summary(data: Data) -> pd.DataFrame:
    """Count examples: a row per class (index "class"), a column per split, also "unused" and "skipped"."""
    return checks.count(data.manifest, data.classes, data.amounts)


def problems(rows: Sequence[checks.Row]) -> pd.DataFrame:
    """The table of `Data.problems`, of rows (path, kind, message)."""
    return pd.DataFrame(rows, columns=["path", "kind", "message"], dtype=object)


# ---------------------------------------------------------------- options


def is_whole(value: Any) -> bool:
    """Whether an option is a whole number; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_options(
    seed: int,
    labels_per_class: int | None,
    val_fraction: float,
    test_fraction: float,
    on_bad_data: str,
) -> None:
    """Raise InputError for what no loading of any kind of examples can use."""
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise InputError(f"Received seed={seed!r}; a whole number from 0 to 4294967295 is allowed.")
    if labels_per_class is not None and (not is_whole(labels_per_class) or labels_per_class < 1):
        raise InputError(
            f"Received labels_per_class={labels_per_class!r}; None or a whole number from 1 is allowed."
        )
    fractions = (("val_fraction", val_fraction), ("test_fraction", test_fraction))
    for name, value in () if test_fraction == 1 and val_fraction == 0 else fractions:
        if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not 0 < value < 1:
            raise InputError(f"Received {name}={value!r}; a share between 0 and 1, such as 0.2, is allowed.")
    if val_fraction + test_fraction >= 1 and val_fraction:
        raise InputError(
            f"Received val_fraction={val_fraction} and test_fraction={test_fraction}, which leave nothing to "
            "train on; their sum must be below 1."
        )
    check_choice("on_bad_data", on_bad_data, ON_BAD_DATA)


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise InputError for a value that is none of those allowed."""
    if value not in allowed:
        raise InputError(
            f"Received {name}={value!r}; allowed: {', '.join(allowed)}.{suggest(value, allowed)}"
        )


def check_source(
    found: Source,
    shown: str,
    labels_per_class: int | None,
    train_examples: int | None,
    unit: str,
    trains: bool = True,
) -> None:
    """Raise InputError for a source with too little, and for the other of the two ways to train on few.

    shown: the source in words, such as "'photos'"; unit: the word for examples, in the plural; trains: False
    where a finished network is judged, for which one class may be all there is.
    """
    least = 2 if found.target is None and trains else 1
    if found.examples.empty or len(found.classes) < least:
        raise InputError(
            f"Received data={shown} with {len(found.examples)} examples of {len(found.classes)} class; at "
            f"least {'two classes are' if least == 2 else 'one class is'} needed."
        )
    if found.target is None and train_examples is not None:
        raise InputError(
            f"Received train_examples={train_examples} for {unit} with one label each; give "
            "labels_per_class instead."
        )
    if found.target is not None and labels_per_class is not None:
        raise InputError(
            f"Received labels_per_class={labels_per_class} for {unit} with {found.counted or 'masks'} and no "
            "single label; give train_examples instead."
        )


# ---------------------------------------------------------------- the manifest


def begin_manifest(found: Source) -> pd.DataFrame:
    """The first columns of `Data.manifest`: path, split as the source gives it, label, group, subgroup, and
    weight where it gives that.
    """
    columns = ["path", "split", "label", "group", "subgroup"]
    columns += [name for name in ("weight",) if name in found.examples]
    manifest = found.examples.reindex(columns=columns, fill_value="").reset_index(drop=True)
    return manifest.assign(label=labels_of(manifest["label"], found.classes))


def labels_of(names: Sequence[str], classes: Sequence[str]) -> pd.Categorical:
    """Class names as the label column of a manifest; what is no class, such as "", gets no category."""
    kind = pd.CategoricalDtype([str(name) for name in classes])
    return pd.Categorical.from_codes(kind.categories.get_indexer(pd.Index(names, dtype=object)), dtype=kind)


def rarest(amounts: np.ndarray) -> np.ndarray:
    """For each example, of the classes that it has something of the one that the fewest have: int64 (n,).

    One with nothing gets a number beyond the classes.
    """
    there = amounts > 0
    having = np.where(there, there.sum(axis=0), len(amounts) + 1)
    return np.where(there.any(axis=1), having.argmin(axis=1), amounts.shape[1]).astype(np.int64)


def divide(
    manifest: pd.DataFrame,
    labels: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    seed: int = 0,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    labels_per_class: int | None = None,
    train_examples: int | None = None,
    unit: str = "examples",
    amounts: np.ndarray | None = None,
) -> np.ndarray:
    """Return the split of each row: as given, with what is missing carved out of train, then thinned.

    manifest: a row per example, with the columns path, split (as given, or "" throughout), label (a
        Categorical of the classes), group and sha256 ("" for what cannot be used, which is "skipped").
    labels: int64 (rows,), what is to be dealt in proportion: the codes of the labels, or `rarest`.
    clusters: int64 (rows,) as of `pairs.clusters`, which stay in one split as groups and identical examples
        do; what no split can take whole is divided (`splits.carve_together`).
    labels_per_class: train on so many examples per class, and validate on at most as many (who has few labels
        has no large validation set either); the choice is nested for one seed; the rest is "unused".
    train_examples: the same for all classes together.
    test_fraction: 1, with a val_fraction of 0, is for a finished network: nothing is trained on. Of a source
        with a test split that is the test, and all else "unused"; of any other all is.
    unit: the word for examples, in the plural, for messages.
    amounts: as of `Data`; with them a class counts wherever a row has something of it.

    Raises InputError where a split stays empty, a group stands in two, a class that labels (a row's `label`)
    has none to train on, or there are fewer than are asked for.
    """
    if test_fraction == 1:
        return _all_to_test(manifest, unit)
    clusters = np.full(len(manifest), -1) if clusters is None else clusters
    fractions = {"test": test_fraction, "val": val_fraction}
    given = _carved(manifest, labels, clusters, seed, fractions, amounts)
    divided = manifest.assign(split=given)
    _check_groups(divided)
    if manifest["label"].notna().any():
        _check_classes(divided, unit)
    if labels_per_class is not None:
        given = _thin(divided, labels_per_class, seed)
    if train_examples is not None:
        given = _fewer(divided, train_examples, seed, unit, amounts)
    return given


def _all_to_test(manifest: pd.DataFrame, unit: str) -> np.ndarray:
    usable, given = manifest["sha256"] != "", manifest["split"] == "test"
    if not usable.any():
        raise InputError(f"Received no usable {unit}; add some to judge the network by.")
    tested = given if given.any() else pd.Series(True, manifest.index)
    return np.select([~usable, tested], ["skipped", "test"], "unused").astype(object)


def ids(manifest: pd.DataFrame, split: str) -> np.ndarray:
    """The ids of a split, int64, ascending."""
    return np.flatnonzero(manifest["split"] == split).astype(np.int64)


def _carved(
    manifest: pd.DataFrame,
    labels: np.ndarray,
    clusters: np.ndarray,
    seed: int,
    fractions: dict[str, float],
    amounts: np.ndarray | None = None,
) -> np.ndarray:
    usable = (manifest["sha256"] != "").to_numpy()
    given = np.where(manifest["split"] == "", "train", manifest["split"]).astype(object)
    given[~usable] = "skipped"
    fractions = {split: share for split, share in fractions.items() if split not in set(manifest["split"])}
    if fractions:
        rows = np.flatnonzero(given == "train")
        group, sha256 = (manifest[name].to_numpy()[rows] for name in ("group", "sha256"))
        some = None if amounts is None else amounts[rows]
        # What is torn is reported.
        given[rows] = splits.carve_together(
            labels[rows], group, sha256, clusters[rows], fractions, seed, some
        )
    for split in USED:
        if split not in set(given):
            raise InputError(
                f"Received {usable.sum()} usable examples in {len(np.unique(labels))} classes, of which "
                f"none came to {split}; add examples, or more and smaller groups."
            )
    return given


def _check_groups(manifest: pd.DataFrame) -> None:
    rows = manifest[(manifest["group"] != "") & (manifest["split"] != "skipped")]
    in_splits = rows.groupby("group", sort=True)["split"].unique()
    for group, found in in_splits[in_splits.map(len) > 1].items():
        raise InputError(
            f"Received group {group!r} in the splits {' and '.join(sorted(found))}; a group belongs in one: "
            "move its rows, or leave the split column out."
        )


def _check_classes(manifest: pd.DataFrame, unit: str) -> None:
    counts = checks.count(manifest, manifest["label"].cat.categories)
    lacking = counts.index[counts["train"] == 0]
    if len(lacking):
        name = lacking[0]
        there = counts.loc[name].sort_index()
        elsewhere = ", ".join(f"{n} {split}" for split, n in there.items() if n) or "none at all"
        more = f" (and {len(lacking) - 1} more classes)" if len(lacking) > 1 else ""
        raise InputError(
            f"Received no training example of class {name!r}{more}; it has {elsewhere}: add {unit} to "
            "train, or remove the class."
        )


def _thin(manifest: pd.DataFrame, labels_per_class: int, seed: int) -> np.ndarray:
    """Return the splits with all but `labels_per_class` per class of train and of val set to "unused"."""
    thinned = manifest["split"].to_numpy(dtype=object, copy=True)
    labels, classes = manifest["label"].cat.codes.to_numpy(), manifest["label"].cat.categories
    known = labels >= 0  # an example without a label is no label more
    available = np.bincount(labels[known & (thinned == "train")], minlength=len(classes))
    short = [f"{name!r} has {n}" for name, n in zip(classes, available, strict=True) if n < labels_per_class]
    if short:
        raise InputError(
            f"Received labels_per_class={labels_per_class}, but for training class {', '.join(short[:5])}"
            f"{', ...' * (len(short) > 5)}; allowed: 1 to {available.min()}, or None for all."
        )
    for stream, split in enumerate(("train", "val")):
        rows = np.flatnonzero(known & (thinned == split))
        chosen = splits.few(labels[rows], labels_per_class, seed=(seed + stream * 2**31) % 2**32)
        thinned[rows[~chosen]] = "unused"
    return thinned


def _fewer(
    manifest: pd.DataFrame, train_examples: int, seed: int, unit: str, amounts: np.ndarray | None = None
) -> np.ndarray:
    """Return the splits with all but `train_examples` of train, and as many of val, set to "unused".

    Nested: with the same seed, what is chosen for 5 is chosen for 10. Where none of those chosen has
    an amount of anything, the next that has some takes the place of the last.
    """
    fewer = manifest["split"].to_numpy(dtype=object, copy=True)
    available = int((fewer == "train").sum())
    if not 1 <= train_examples <= available:
        raise InputError(
            f"Received train_examples={train_examples} and {available} training {unit}; allowed: 1 to "
            f"{available}, or None for all."
        )
    for stream, split in enumerate(("train", "val")):
        rows = np.random.RandomState([seed, stream]).permutation(np.flatnonzero(fewer == split))
        some = np.ones(len(rows), bool) if amounts is None else amounts[rows].any(axis=1)
        if some.any() and not some[:train_examples].any():
            last, next_one = min(train_examples, len(rows)) - 1, int(some.argmax())
            rows[[last, next_one]] = rows[[next_one, last]]
        fewer[rows[train_examples:]] = "unused"
    return fewer
