"""Labelled pictures from anywhere become one `Data`: three datasets, one manifest, and what was wrong.

Every picture is decoded once before training begins, so that nothing can fail in step 400.
"""

import itertools
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner import checks, images, in_memory, near_duplicates, sources, splits
from runner.errors import InputError, suggest
from runner.sealed import Sealed
from runner.sources import Source

SPLITS = ("train", "val", "test", "unused", "skipped")
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
    {"id": int64 (), row number in the manifest; "image": uint8 (image_size, image_size, 3), RGB; "label":
    int64 (), index into classes}.
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
    split without labels); `checks` has the rules.
    near_duplicates: DataFrame of `near_duplicates.find`, with first and second as ids, what is a problem
    first.
    odd: id -> uint8 (image_size, image_size, 3): the pictures of the first near-duplicate pairs and of those
    that may lie on their side, for the report. They may be of test: not for training or choosing.
    """

    train: tf.data.Dataset
    val: tf.data.Dataset
    test: Sealed
    classes: tuple[str, ...]
    manifest: pd.DataFrame
    problems: pd.DataFrame
    near_duplicates: pd.DataFrame = field(default_factory=near_duplicates.none)
    odd: dict[int, np.ndarray] = field(default_factory=dict)


def load(
    source: str | Path,
    image_size: int,
    *,
    seed: int = 0,
    labels_per_class: int | None = None,
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
    Splits that the source gives are kept. A missing val or test is carved out of train, stratified and
    seeded; pictures of one group, and pictures that are identical or nearly so, stay in one split. (Only
    near-duplicates that join more than 5 % of the pictures are divided, and reported.)
    labels_per_class: train on this many examples per class, and validate on at most as many (who has few
    labels has no large validation set either); the choice is nested for one seed; the rest is "unused" and
    test is never thinned.
    val_fraction, test_fraction: share of the examples there are to split, in (0, 1).
    on_bad_data: "skip" leaves out and names what cannot be decoded, "stop" raises.
    resize: "crop" (short side, centre), "pad" (black) or "stretch"; see `images.resize`.
    memory_budget: bytes of resized pictures to keep in memory; above it they are decoded again in each pass.
    Raises InputError for what a person can put right.
    """
    _check_options(
        image_size, seed, labels_per_class, val_fraction, test_fraction, on_bad_data, resize, memory_budget
    )
    found = sources.find(source)
    if found.examples.empty or len(found.classes) < 2:
        count = f"{len(found.examples)} examples of {len(found.classes)} class"
        raise InputError(f"Received data={str(source)!r} with {count}; at least two classes are needed.")

    fits = len(found.examples) * image_size**2 * 3 <= memory_budget
    pictures = in_memory.aligned(len(found.examples), image_size) if fits else None
    facts, thumbnails, colours, problems = _decode_all(found, image_size, resize, pictures)
    unreadable = [(path, message) for path, kind, message in problems if kind == "unreadable"]
    if unreadable and (on_bad_data == "stop" or len(unreadable) == len(facts)):
        path, message = unreadable[0]
        advice = "repair or remove them" + (
            ", or skip them with on_bad_data='skip'" if on_bad_data == "stop" else ""
        )
        raise InputError(
            f"Received data={str(source)!r}, of whose {len(facts)} files {len(unreadable)} cannot be used, "
            f"such as {path!r} ({message}); {advice}."
        )

    manifest = (
        found.examples.reindex(columns=["path", "split", "label", "group", "subgroup"], fill_value="")
        .reset_index(drop=True)
        .join(facts)
    )
    labels = pd.Categorical(manifest["label"], categories=found.classes).codes.astype(np.int64)
    pairs = _near_duplicates(manifest, thumbnails, colours)
    clusters = near_duplicates.clusters(pairs, len(manifest))
    manifest["split"] = _split(manifest, labels, clusters, seed, val_fraction, test_fraction)
    _check_groups(manifest)
    _check_classes(manifest, found.classes)
    if labels_per_class is not None:
        manifest["split"] = _thin(manifest, labels, found.classes, labels_per_class, seed)
    problems += checks.everything(manifest, _counts(manifest, found.classes), pairs, clusters)
    pairs = checks.worst_first(pairs, manifest, clusters)
    problems = pd.DataFrame(found.problems + problems, columns=["path", "kind", "message"], dtype=object)
    odd = _odd_pictures(found, manifest, pairs, problems, image_size, resize)

    if pictures is None:
        ids = [_ids(manifest, split) for split in SPLITS[:3]]
        # No shuffle buffer holds them all; mixed here once, no batch is of one class.
        ids[0] = np.random.RandomState(seed).permutation(ids[0])
        datasets = [_from_files(found, rows, labels, image_size, resize) for rows in ids]
    else:
        datasets = in_memory.datasets(pictures, [_ids(manifest, split) for split in SPLITS[:3]], labels)
    train, val, test = datasets
    return Data(train, val, Sealed(test), found.classes, manifest, problems, pairs, odd)


def compared_groups(data: Data) -> pd.Series:
    """Which group each example (index: id) counts to when numbers are given per group; "" for none.

    The subgroups where the source names any, else the groups that no split divides.
    """
    named = "subgroup" if (data.manifest["subgroup"] != "").any() else "group"
    return data.manifest[named]


def summary(data: Data) -> pd.DataFrame:
    """Count examples: a row per class (index "class"), a column per split, also "unused" and "skipped"."""
    return _counts(data.manifest, data.classes)


def _counts(manifest: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    counts = pd.crosstab(manifest["label"], manifest["split"])
    counts = counts.reindex(index=list(classes), columns=list(SPLITS), fill_value=0)
    return counts.rename_axis(index="class", columns=None)


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


# ---------------------------------------------------------------- decoding


def _decode_all(found: Source, image_size: int, resize: str, pictures: np.ndarray | None):
    """Decode every example once; fill `pictures` where there are any.

    Returns the facts (DataFrame with sha256, width, height, format, gray, turned), the thumbnails and colours
    that `near_duplicates.find` takes, and problem rows.
    """
    thumbnails = np.zeros((len(found.examples), 32, 32), dtype=np.uint8)
    colours = np.zeros((len(found.examples), 8, 8, 2), dtype=np.uint8)

    def work(row: int, file: str | bytes) -> tuple[tuple, str, str]:
        try:
            with images.decoded(file) as (image, note):
                if pictures is not None:
                    pictures[row] = images.resize(image, image_size, resize)
                *facts, thumbnails[row], colours[row] = images.look(file, image)
                return (images.digest(image), *facts), "converted" if note else "", note
        except images.Unreadable as error:
            return ("", 0, 0, "", False, False), "unreadable", str(error)

    rows, problems = [], []
    workers = min(8, os.cpu_count() or 1)
    # Pillow warns of odd metadata and large pictures; what matters becomes a problem row. The filter is the
    # whole process's, so it is set here and not in the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        files = enumerate(found.read())
        while batch := list(itertools.islice(files, 64 * workers)):  # so that encoded pictures never pile up
            for (row, _), (facts, kind, message) in zip(batch, pool.map(work, *zip(*batch))):
                rows.append(facts)
                if kind:
                    problems.append((found.examples["path"].iat[row], kind, message))
    facts = pd.DataFrame(rows, columns=["sha256", "width", "height", "format", "gray", "turned"])
    return facts, thumbnails, colours, problems


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


def _ids(manifest: pd.DataFrame, split: str) -> np.ndarray:
    return np.flatnonzero(manifest["split"] == split).astype(np.int64)


# ---------------------------------------------------------------- datasets


def _from_files(
    found: Source, ids: np.ndarray, labels: np.ndarray, image_size: int, resize: str
) -> tf.data.Dataset:
    """Return a dataset that decodes its pictures in each pass, in parallel, in the order of `ids`.

    A source that streams the pictures themselves (TFDS) keeps its own order.
    """
    wanted = set(ids.tolist())

    def encoded() -> Iterator[tuple[int, bytes, bool]]:
        rows = enumerate(found.read())
        first = next(rows)
        if isinstance(first[1], str):
            paths = [first[1], *(path for _, path in rows)]
            for row in ids:
                yield row, os.fsencode(paths[row]), True
        else:
            for row, file in itertools.chain([first], rows):
                if row in wanted:
                    yield row, file, False

    def decode(file: bytes, is_path: bool) -> np.ndarray:
        with images.decoded(os.fsdecode(file) if is_path else file) as (image, _):
            return images.resize(image, image_size, resize)

    def element(row: tf.Tensor, file: tf.Tensor, is_path: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.numpy_function(decode, [file, is_path], tf.uint8)
        image.set_shape((image_size, image_size, 3))
        return {"id": row, "image": image, "label": tf.gather(labels, row)}

    signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.bool))
    files = tf.data.Dataset.from_generator(encoded, output_signature=signature)
    dataset = files.map(element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(ids)))
