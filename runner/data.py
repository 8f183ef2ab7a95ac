"""Labelled pictures from anywhere become one `Data`: three datasets, one manifest, and what was wrong.

Every picture is decoded once before training begins, so that nothing can fail in step 400.
"""

import itertools
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner import images, sources, splits
from runner.errors import InputError, suggest
from runner.sealed import Sealed
from runner.sources import Source

SPLITS = ("train", "val", "test", "unused", "skipped")
ON_BAD_DATA = ("skip", "stop")


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
    its own), sha256 (of the decoded pixels before resizing, hex; "" when skipped).
    problems: DataFrame with columns path, kind, message; kinds: "unreadable" (skipped), "converted" (decoded
    with some loss), "duplicate" (identical content in two splits that the source gave; kept), "label"
    (identical content with two labels, or class names that differ in case only), "missing" (a class without
    example in val or test), "unlabelled" (a TFDS split without labels).
    """

    train: tf.data.Dataset
    val: tf.data.Dataset
    test: Sealed
    classes: tuple[str, ...]
    manifest: pd.DataFrame
    problems: pd.DataFrame


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
    folders; or a .csv file with the columns path,label[,split][,group], paths relative to it.
    Splits that the source gives are kept. A missing val or test is carved out of train, stratified and
    seeded; pictures of one group, and pictures with identical pixels, always stay in one split.
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
    pictures = _aligned(len(found.examples), image_size) if fits else None
    hashes, problems = _decode_all(found, image_size, resize, pictures)
    unreadable = [(path, message) for path, kind, message in problems if kind == "unreadable"]
    if unreadable and (on_bad_data == "stop" or len(unreadable) == len(hashes)):
        path, message = unreadable[0]
        advice = "repair or remove them" + (
            ", or skip them with on_bad_data='skip'" if on_bad_data == "stop" else ""
        )
        raise InputError(
            f"Received data={str(source)!r}, of whose {len(hashes)} files {len(unreadable)} cannot be used, "
            f"such as {path!r} ({message}); {advice}."
        )

    manifest = (
        found.examples[["path", "split", "label", "group"]].assign(sha256=hashes).reset_index(drop=True)
    )
    labels = pd.Categorical(manifest["label"], categories=found.classes).codes.astype(np.int64)
    manifest["split"] = _split(manifest, labels, seed, val_fraction, test_fraction)
    _check_groups(manifest)
    _check_classes(manifest, found.classes)
    if labels_per_class is not None:
        manifest["split"] = _thin(manifest, labels, found.classes, labels_per_class, seed)
    problems = found.problems + problems + _compare(manifest, found.classes)
    problems = pd.DataFrame(problems, columns=["path", "kind", "message"], dtype=object)

    if pictures is None:
        ids = [_ids(manifest, split) for split in SPLITS[:3]]
        # No shuffle buffer holds them all; mixed here once, no batch is of one class.
        ids[0] = np.random.RandomState(seed).permutation(ids[0])
        datasets = [_from_files(found, rows, labels, image_size, resize) for rows in ids]
    else:
        datasets = _from_memory(pictures, [_ids(manifest, split) for split in SPLITS[:3]], labels)
    train, val, test = datasets
    return Data(train, val, Sealed(test), classes=found.classes, manifest=manifest, problems=problems)


def summary(data: Data) -> pd.DataFrame:
    """Count examples: a row per class (index "class"), a column per split, also "unused" and "skipped"."""
    counts = pd.crosstab(data.manifest["label"], data.manifest["split"])
    counts = counts.reindex(index=list(data.classes), columns=list(SPLITS), fill_value=0)
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
    """Decode every example once; fill `pictures` where there are any. Returns hashes and problem rows."""

    def work(row: int, file: str | bytes) -> tuple[str, str, str]:
        try:
            image, note = images.decode(file)
        except images.Unreadable as error:
            return "", "unreadable", str(error)
        if pictures is not None:
            pictures[row] = images.resize(image, image_size, resize)
        return images.digest(image), "converted" if note else "", note

    hashes, problems = [], []
    workers = min(8, os.cpu_count() or 1)
    # Pillow warns of odd metadata and large pictures; what matters becomes a problem row. The filter is the
    # whole process's, so it is set here and not in the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        files = enumerate(found.read())
        while batch := list(itertools.islice(files, 64 * workers)):  # so that encoded pictures never pile up
            for (row, _), (sha256, kind, message) in zip(batch, pool.map(work, *zip(*batch))):
                hashes.append(sha256)
                if kind:
                    problems.append((found.examples["path"].iat[row], kind, message))
    return hashes, problems


def _aligned(count: int, image_size: int) -> np.ndarray:
    """Return zeros, uint8 (count, image_size, image_size, 3), where TensorFlow can use it without a copy."""
    size = count * image_size**2 * 3
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].reshape(count, image_size, image_size, 3)


# ---------------------------------------------------------------- splits and checks


def _split(manifest: pd.DataFrame, labels: np.ndarray, seed: int, val_fraction: float, test_fraction: float):
    """Return the split of each row: as given, with what is missing carved out of train."""
    usable = (manifest["sha256"] != "").to_numpy()
    given = np.where(manifest["split"] == "", "train", manifest["split"]).astype(object)
    given[~usable] = "skipped"
    fractions = {"test": test_fraction, "val": val_fraction}
    fractions = {split: share for split, share in fractions.items() if split not in set(manifest["split"])}
    if fractions:
        rows = np.flatnonzero(given == "train")
        together = splits.units(manifest["group"].to_numpy()[rows], manifest["sha256"].to_numpy()[rows])
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


def _compare(manifest: pd.DataFrame, classes: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Look for leaks, contradicting labels and missing classes; return problem rows."""
    problems = []
    used = manifest[manifest["split"].isin(SPLITS[:3])]
    repeated = used[used.duplicated("sha256", keep=False)]
    rank = {split: i for i, split in enumerate(SPLITS)}
    for _, same in repeated.groupby("sha256", sort=False):
        first = same.iloc[same["split"].map(rank).argmin()]
        for row in same.itertuples():
            if row.split != first["split"]:
                message = f"{row.split} {row.path!r} is identical to {first['split']} {first['path']!r}"
                problems.append((row.path, "duplicate", message))
            if row.label != first["label"]:
                message = (
                    f"{row.path!r} is {row.label!r}, the identical {first['path']!r} is {first['label']!r}"
                )
                problems.append((row.path, "label", message))
    by_case: dict[str, str] = {}
    for name in classes:
        other = by_case.setdefault(name.casefold(), name)
        if other != name:
            problems.append(("", "label", f"classes {other!r} and {name!r} differ in case only"))
    for split in ("val", "test"):
        there = set(manifest["label"][manifest["split"] == split])
        for name in classes:
            if name not in there:
                problems.append(("", "missing", f"class {name!r} has no {split} example"))
    return problems


def _ids(manifest: pd.DataFrame, split: str) -> np.ndarray:
    return np.flatnonzero(manifest["split"] == split).astype(np.int64)


# ---------------------------------------------------------------- datasets


def _from_memory(pictures: np.ndarray, ids: list[np.ndarray], labels: np.ndarray) -> list[tf.data.Dataset]:
    """Return a dataset per array of ids; all are windows on the one array, which is not copied.

    Three parts taken out of the array would be copies; a gather per element is several times slower, and a
    shuffle buffer then holds copies. So the rows are put in the order of the splits, in place.
    """
    # The default rewriting of the graph (fusing maps and the like) copies every tensor in it: 234 MiB for
    # 20,000 pictures of 64 px. Automatic parallelism and buffer sizes are another option and stay on.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    used = np.concatenate(ids)
    if len(used) * 2 < len(pictures):  # few labels: give the memory of the rest back
        kept = _aligned(len(used), pictures.shape[1])
        np.take(pictures, used, axis=0, out=kept)
        pictures = kept
    else:
        rest = np.setdiff1d(np.arange(len(pictures)), used)
        _reorder(pictures, np.concatenate([used, rest]))
    with tf.device("CPU:0"):
        # convert_to_tensor copies whatever the alignment (TensorFlow 2.21); DLPack shares.
        tensor = tf.experimental.dlpack.from_dlpack(pictures.__dlpack__())
        datasets, start = [], 0
        for rows in ids:
            part = tensor[start : start + len(rows)]
            elements = {"id": rows, "image": part, "label": labels[rows]}
            datasets.append(tf.data.Dataset.from_tensor_slices(elements).with_options(options))
            start += len(rows)
    return datasets


def _reorder(array: np.ndarray, order: np.ndarray) -> None:
    """Do array[:] = array[order] in place, along the cycles of the permutation."""
    done = np.zeros(len(array), dtype=bool)
    for start in range(len(array)):
        if done[start] or order[start] == start:
            continue
        held, here = array[start].copy(), start
        while order[here] != start:
            array[here] = array[order[here]]
            done[here] = True
            here = order[here]
        array[here] = held
        done[here] = True


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
        image, _ = images.decode(os.fsdecode(file) if is_path else file)
        return images.resize(image, image_size, resize)

    def element(row: tf.Tensor, file: tf.Tensor, is_path: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.numpy_function(decode, [file, is_path], tf.uint8)
        image.set_shape((image_size, image_size, 3))
        return {"id": row, "image": image, "label": tf.gather(labels, row)}

    signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.bool))
    files = tf.data.Dataset.from_generator(encoded, output_signature=signature)
    dataset = files.map(element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(ids)))
