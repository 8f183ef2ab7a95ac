"""Labelled pictures from anywhere become one `Data`: three datasets, one manifest, and what was wrong.

Every picture is decoded once before training begins, so that nothing can fail in step 400.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import splits
from runner.data.sealed import Sealed
from runner.errors import InputError, suggest
from runner.pictures import checks, decoding, images, in_memory, near_duplicates, sources
from runner.pictures.checks import SPLITS
from runner.pictures.sources import Source

ON_BAD_DATA = ("skip", "stop")
PAIRS_SHOWN, ODD_SHOWN = 12, 8
"""Of how many near-duplicate pairs and pictures that may lie on their side the report shows the pictures."""


@dataclass(frozen=True, eq=False)
class Data:
    """What a template trains and tests on.

    train, val, test: finite, unbatched, unaugmented `tf.data.Dataset`s of known cardinality, each in the same
    order every time: that of the manifest, which often goes class by class, so shuffle train with a buffer of
    its whole length (it only points at pictures that are in memory anyway). Only a train split of files that
    don't fit in memory comes mixed. test is sealed: `test.open(record, reason)` gives its dataset. An element
    is a dict
    {"id": int64 (), row number in the manifest; "input": uint8 (image_size, image_size, 3), RGB; "label":
    int64 (), index into classes}; of a source with targets (`sources.Target`) their arrays stand in place of
    the label.
    classes: names, sorted (by value where all are whole numbers) or in TFDS's order.
    manifest: DataFrame, index 0..n-1 = id; columns path (as in the source), split ("train", "val", "test",
    "unused" = left out by labels_per_class, "skipped" = not decodable), label (class name), group ("" = on
    its own), subgroup ("" = none; what is compared at the end, such as a kind of camera), sha256 (of the
    decoded pixels before resizing, hex; "" when skipped); width and height (pixels, upright, before
    resizing), format ("JPEG", ...), gray and turned (bool; turned upright as EXIF says), of a skipped one 0,
    "" and False.
    problems: DataFrame with columns path ("" for the whole set), kind, message; kinds: "unreadable"
    (skipped), "converted" (decoded with some loss), "duplicate" (identical content in two splits that the
    source gave; kept), "near-duplicate" (nearly the same picture in two splits, or so many that a film is
    likely), "label" (the same picture with two labels, or two class names that look like one), "missing" (a
    class without example in val or test), "tiny" and "imbalance" (few pictures), "give-away" (size, shape,
    gray or file format that tells the class), "orientation" (probably on its side), "unlabelled" (a TFDS
    split without labels); `checks` has the rules. Targets have kinds of their own.
    near_duplicates: DataFrame of `near_duplicates.find`, with first and second as ids, what is a problem
    first.
    odd: id -> uint8 (image_size, image_size, 3): the pictures of the first near-duplicate pairs and of those
    that may lie on their side, for the report. They may be of test: not for training or choosing.
    recipe: what decides an input beside its content, such as its size; for fingerprints.
    unit: what an example is, in words.
    amounts: None, or with targets int64 (examples, classes): how many boxes, or pixels, of each class; the
    labels in the manifest are "" then.
    """

    train: tf.data.Dataset
    val: tf.data.Dataset
    test: Sealed
    classes: tuple[str, ...]
    manifest: pd.DataFrame
    problems: pd.DataFrame
    near_duplicates: pd.DataFrame = field(default_factory=near_duplicates.none)
    odd: dict[int, np.ndarray] = field(default_factory=dict)
    amounts: np.ndarray | None = None
    recipe: str = ""
    unit: str = "pictures"


def load(
    source: str | Path | Source,
    image_size: int,
    *,
    seed: int = 0,
    labels_per_class: int | None = None,
    train_examples: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.25,
    on_bad_data: str = "skip",
    resize: str = "crop",
    memory_budget: int = 2 * 2**30,
) -> Data:
    """Load labelled pictures, split them and check them.

    source: a name from datasets/; `tfds:NAME[/config][:version]` (prepared in TFDS's own folder,
    TFDS_DATA_DIR); a folder of class folders, or of train, val (validation) and test folders of class
    folders; or a .csv file with the columns path,label[,split][,group][,subgroup], paths relative to it.
    Or a `Source`, which may have boxes or masks. Splits that the source gives are kept. A missing val or test
    is carved out of train, stratified (boxes and masks: by the rarest class that a picture has something of)
    and seeded; pictures of one group, and pictures that are identical or nearly so, stay in one split. (Only
    near-duplicates that join more than 5 % of the pictures are divided, and reported.)
    labels_per_class: train on this many examples per class, and validate on at most as many (who has few
    labels has no large validation set either); the choice is nested for one seed; the rest is "unused" and
    test is never thinned.
    train_examples: the same for boxes and masks, for all classes together.
    val_fraction, test_fraction: share of the examples there are to split, in (0, 1).
    on_bad_data: "skip" leaves out and names what cannot be decoded, "stop" raises.
    resize: "crop" (short side, centre), "pad" (black) or "stretch"; see `images.resize`.
    memory_budget: bytes of resized pictures to keep in memory; above it they are decoded again in each pass.
    Raises InputError for what a person can put right.
    """
    _check_options(
        image_size, seed, labels_per_class, val_fraction, test_fraction, on_bad_data, resize, memory_budget
    )
    found = source if isinstance(source, Source) else sources.find(source)
    shown = "a source" if isinstance(source, Source) else repr(str(source))
    least = 2 if found.target is None else 1
    if found.examples.empty or len(found.classes) < least:
        raise InputError(
            f"Received data={shown} with {len(found.examples)} examples of {len(found.classes)} class; at "
            f"least {'two classes are' if least == 2 else 'one class is'} needed."
        )
    _check_few(found, labels_per_class, train_examples)

    bytes_each = image_size**2 * (3 if found.target is None else 4)  # a mask has one byte a pixel
    fits = len(found.examples) * bytes_each <= memory_budget
    pictures = in_memory.aligned(len(found.examples), image_size) if fits else None
    facts, thumbnails, colours, targets, problems = decoding.look_at_all(found, image_size, resize, pictures)
    unreadable = [(path, message) for path, kind, message in problems if kind == "unreadable"]
    if unreadable and (on_bad_data == "stop" or len(unreadable) == len(facts)):
        path, message = unreadable[0]
        advice = "repair or remove them" + (
            ", or skip them with on_bad_data='skip'" if on_bad_data == "stop" else ""
        )
        raise InputError(
            f"Received data={shown}, of whose {len(facts)} files {len(unreadable)} cannot be used, "
            f"such as {path!r} ({message}); {advice}."
        )

    manifest = (
        found.examples.reindex(columns=["path", "split", "label", "group", "subgroup"], fill_value="")
        .reset_index(drop=True)
        .join(facts)
    )
    if found.target is None:
        labels = pd.Categorical(manifest["label"], categories=found.classes).codes.astype(np.int64)
        arrays, amounts = {"label": labels}, None
    else:
        arrays, amounts = decoding.stack(targets, len(found.examples), len(found.classes))
        labels = _rarest(amounts)
    pairs = _near_duplicates(manifest, thumbnails, colours)
    clusters = near_duplicates.clusters(pairs, len(manifest))
    manifest["split"] = _split(manifest, labels, clusters, seed, val_fraction, test_fraction)
    _check_groups(manifest)
    if amounts is None:
        _check_classes(manifest, found.classes)
    if labels_per_class is not None:
        manifest["split"] = _thin(manifest, labels, found.classes, labels_per_class, seed)
    if train_examples is not None:
        manifest["split"] = _fewer(manifest, train_examples, seed)
    counts = checks.count(manifest, found.classes, amounts)
    problems += checks.everything(manifest, counts, pairs, clusters, amounts)
    pairs = checks.worst_first(pairs, manifest, clusters)
    problems = pd.DataFrame(found.problems + problems, columns=["path", "kind", "message"], dtype=object)
    odd = _odd_pictures(found, manifest, pairs, problems, image_size, resize)

    if pictures is None:
        ids = [_ids(manifest, split) for split in SPLITS[:3]]
        # No shuffle buffer holds them all; mixed here once, no batch is of one class.
        ids[0] = np.random.RandomState(seed).permutation(ids[0])
        datasets = [decoding.dataset(found, rows, labels, targets, image_size, resize) for rows in ids]
    else:
        datasets = in_memory.datasets(pictures, [_ids(manifest, split) for split in SPLITS[:3]], arrays)
    train, val, test = datasets
    code = hashlib.sha256(Path(images.__file__).read_bytes()).hexdigest()
    recipe = f"{resize} {image_size} {code}"
    return Data(train, val, Sealed(test), found.classes, manifest, problems, pairs, odd, amounts, recipe)


def compared_groups(data: Data) -> pd.Series:
    """Which group each example (index: id) counts to when numbers are given per group; "" for none.

    The subgroups where the source names any, else the groups that no split divides.
    """
    named = "subgroup" if (data.manifest["subgroup"] != "").any() else "group"
    return data.manifest[named]


def summary(data: Data) -> pd.DataFrame:
    """Count examples: a row per class (index "class"), a column per split, also "unused" and "skipped"."""
    return checks.count(data.manifest, data.classes, data.amounts)


def _check_options(
    image_size, seed, labels_per_class, val_fraction, test_fraction, on_bad_data, resize, memory_budget
) -> None:
    def whole(value) -> bool:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

    if not whole(image_size) or not 1 <= image_size <= 4096:
        raise InputError(
            f"Received image_size={image_size!r}; a whole number of pixels from 1 to 4096 is allowed."
        )
    if not whole(seed) or not 0 <= seed < 2**32:
        raise InputError(f"Received seed={seed!r}; a whole number from 0 to 4294967295 is allowed.")
    if labels_per_class is not None and (not whole(labels_per_class) or labels_per_class < 1):
        raise InputError(
            f"Received labels_per_class={labels_per_class!r}; None or a whole number from 1 is allowed."
        )
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not 0 < value < 1:
            raise InputError(f"Received {name}={value!r}; a share between 0 and 1, such as 0.2, is allowed.")
    if val_fraction + test_fraction >= 1:
        raise InputError(
            f"Received val_fraction={val_fraction} and test_fraction={test_fraction}, which leave nothing to "
            "train on; their sum must be below 1."
        )
    for name, value, allowed in (
        ("on_bad_data", on_bad_data, ON_BAD_DATA),
        ("resize", resize, images.RESIZES),
    ):
        if value not in allowed:
            raise InputError(
                f"Received {name}={value!r}; allowed: {', '.join(allowed)}.{suggest(value, allowed)}"
            )
    if not whole(memory_budget) or memory_budget < 0:
        raise InputError(
            f"Received memory_budget={memory_budget!r}; a whole number of bytes from 0 is allowed."
        )


def _check_few(found: Source, labels_per_class: int | None, train_examples: int | None) -> None:
    if found.target is None and train_examples is not None:
        raise InputError(
            f"Received train_examples={train_examples} for pictures with one label each; give "
            "labels_per_class instead."
        )
    if found.target is not None and labels_per_class is not None:
        raise InputError(
            f"Received labels_per_class={labels_per_class} for pictures with boxes or a mask each; give "
            "train_examples instead."
        )


# ---------------------------------------------------------------- splits and checks


def _near_duplicates(manifest: pd.DataFrame, thumbnails: np.ndarray, colours: np.ndarray) -> pd.DataFrame:
    """Pairs of ids; of identical pictures only the first takes part."""
    once = ~manifest.duplicated("sha256") & (manifest["sha256"] != "")
    rows = np.flatnonzero(once)
    pixels = (manifest["width"] * manifest["height"]).to_numpy()[rows]
    pairs = near_duplicates.find(thumbnails[rows], colours[rows], pixels)
    return pairs.assign(first=rows[pairs["first"]], second=rows[pairs["second"]])


def _odd_pictures(
    found: Source,
    manifest: pd.DataFrame,
    pairs: pd.DataFrame,
    problems: pd.DataFrame,
    image_size: int,
    resize: str,
) -> dict[int, np.ndarray]:
    """Decode what the report shows of the problems once more; most sets have nothing of the kind."""
    sideways = set(problems["path"][problems["kind"] == "orientation"].head(ODD_SHOWN))
    wanted = {*pairs["first"].head(PAIRS_SHOWN), *pairs["second"].head(PAIRS_SHOWN)}
    wanted |= set(manifest.index[manifest["path"].isin(sideways)])
    files = enumerate(found.read()) if wanted else ()
    return {
        row: images.resize(images.decode(file)[0], image_size, resize) for row, file in files if row in wanted
    }


def _split(
    manifest: pd.DataFrame,
    labels: np.ndarray,
    clusters: np.ndarray,
    seed: int,
    val_fraction: float,
    test_fraction: float,
) -> np.ndarray:
    """Return the split of each row: as given, with what is missing carved out of train."""
    usable = (manifest["sha256"] != "").to_numpy()
    given = np.where(manifest["split"] == "", "train", manifest["split"]).astype(object)
    given[~usable] = "skipped"
    fractions = {"test": test_fraction, "val": val_fraction}
    fractions = {split: share for split, share in fractions.items() if split not in set(manifest["split"])}
    if fractions:
        rows = np.flatnonzero(given == "train")
        group, sha256 = (manifest[name].to_numpy()[rows] for name in ("group", "sha256"))
        similar = np.where(clusters < 0, "", clusters.astype(str))[rows]
        # A chain of frames, or laps that join all groups, would go to train whole; what is torn is reported.
        similar[checks.too_large(splits.units(group, sha256, similar))] = ""
        together = splits.units(group, sha256, similar)
        given[rows] = splits.carve(labels[rows], together, fractions, seed)
    for split in SPLITS[:3]:
        if split not in set(given):
            raise InputError(
                f"Received {usable.sum()} usable examples in {manifest['label'].nunique()} classes, of which "
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


def _check_classes(manifest: pd.DataFrame, classes: tuple[str, ...]) -> None:
    counts = pd.crosstab(manifest["label"], manifest["split"]).reindex(classes, fill_value=0)
    lacking = [name for name in classes if counts["train"][name] == 0]
    if lacking:
        name = lacking[0]
        elsewhere = ", ".join(f"{n} {split}" for split, n in counts.loc[name].items() if n) or "none at all"
        more = f" (and {len(lacking) - 1} more classes)" if len(lacking) > 1 else ""
        raise InputError(
            f"Received no training example of class {name!r}{more}; it has {elsewhere}: add pictures to "
            "train, or remove the class."
        )


def _thin(
    manifest: pd.DataFrame, labels: np.ndarray, classes, labels_per_class: int, seed: int
) -> np.ndarray:
    """Return the splits with all but `labels_per_class` per class of train and of val set to "unused"."""
    thinned = manifest["split"].to_numpy(dtype=object, copy=True)
    available = np.bincount(labels[thinned == "train"], minlength=len(classes))
    short = [f"{name!r} has {n}" for name, n in zip(classes, available) if n < labels_per_class]
    if short:
        raise InputError(
            f"Received labels_per_class={labels_per_class}, but for training class {', '.join(short[:5])}"
            f"{', ...' * (len(short) > 5)}; allowed: 1 to {available.min()}, or None for all."
        )
    for stream, split in enumerate(("train", "val")):
        rows = np.flatnonzero(thinned == split)
        chosen = splits.few(labels[rows], labels_per_class, seed=(seed + stream * 2**31) % 2**32)
        thinned[rows[~chosen]] = "unused"
    return thinned


def _rarest(amounts: np.ndarray) -> np.ndarray:
    """For each example, of the classes that it has something of the one that the fewest have: int64 (n,).

    One with nothing gets a number beyond the classes.
    """
    there = amounts > 0
    pictures = np.where(there, there.sum(axis=0), len(amounts) + 1)
    return np.where(there.any(axis=1), pictures.argmin(axis=1), amounts.shape[1]).astype(np.int64)


def _fewer(manifest: pd.DataFrame, train_examples: int, seed: int) -> np.ndarray:
    """Return the splits with all but `train_examples` of train, and as many of val, set to "unused".

    Nested: with the same seed, what is chosen for 5 is chosen for 10.
    """
    fewer = manifest["split"].to_numpy(dtype=object, copy=True)
    available = int((fewer == "train").sum())
    if not 1 <= train_examples <= available:
        raise InputError(
            f"Received train_examples={train_examples} and {available} training pictures; allowed: 1 to "
            f"{available}, or None for all."
        )
    for stream, split in enumerate(("train", "val")):
        rows = np.random.RandomState([seed, stream]).permutation(np.flatnonzero(fewer == split))
        fewer[rows[train_examples:]] = "unused"
    return fewer


def _ids(manifest: pd.DataFrame, split: str) -> np.ndarray:
    return np.flatnonzero(manifest["split"] == split).astype(np.int64)
