"""Pictures without labels to learn from, and labelled ones to judge by."""

import dataclasses
import hashlib
import inspect
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.augment import pairs, warp
from runner.augment import views as augment
from runner.data import examples, files, splits
from runner.data.batches import SplitBatches, Views
from runner.data.checks import copies
from runner.data.examples import Data
from runner.data.sealed import Sealed
from runner.data.source import Source
from runner.errors import InputError
from runner.pictures import decoding, images, in_memory, sources, square
from runner.pictures.load import load as load_pictures

from .config import Config

CLASS = "pictures"
"""What all pictures are called where there are no labels."""
LEAST = 4
"""Pictures without labels, in all three splits together."""
MEMORY = 2 * 2**30
"""Bytes of resized pictures that are kept; more are decoded again in each epoch."""


@dataclass(frozen=True)
class Pictures:
    """What a run learns from and is judged by."""

    unlabelled: Data
    """Its `train` is what is learned from, of all sources; its other splits are empty where there is a
    `labelled`.
    """
    labelled: Data | None
    few: Mapping[int, Data] = field(default_factory=dict)
    """Labels of each class -> `labelled` with so few of them; see `with_few`."""

    @property
    def judged(self) -> Data:
        """What has the validation and the test pictures."""
        return self.unlabelled if self.labelled is None else self.labelled

    @property
    def classes(self) -> tuple[str, ...]:
        return self.judged.classes

    @property
    def manifest(self) -> pd.DataFrame:
        """A row per picture, those of `labelled` first; ids of the others go on where these end."""
        if self.labelled is None or self.unlabelled.manifest is self.labelled.manifest:
            return self.judged.manifest
        others = self.unlabelled.manifest.assign(
            split=self.unlabelled.manifest["split"].replace("train", "unlabelled")
        )
        both = {"labelled": self.labelled.manifest, "unlabelled": others}
        return pd.concat([part.assign(source=name) for name, part in both.items()], ignore_index=True)

    @property
    def problems(self) -> pd.DataFrame:
        """Of all sources."""
        if self.labelled is None or self.unlabelled.manifest is self.labelled.manifest:
            return self.judged.problems
        return pd.concat([self.labelled.problems, self.unlabelled.problems], ignore_index=True)

    def in_words(self) -> str:
        """The counts for the terminal."""
        count = int(self.unlabelled.train.cardinality())
        if self.labelled is None:
            return f"no labels; {self.unlabelled.in_words().partition('; ')[2]}"
        return f"learns from {count} pictures without labels\njudged by {self.labelled.in_words()}"


def load(config: Config) -> Pictures:
    """Pictures to learn from and, where there are labels, those to judge by, whose validation and test
    pictures are not learned from.

    Raises InputError where no batch, or no few labels, can be made of them.
    """
    if not config.labelled:
        found = Pictures(unlabelled(config), None)
    else:
        labelled = load_labelled(config, config.labelled)
        check_labels(config, labelled)
        few = with_few(config, labelled)
        found = Pictures(dataclasses.replace(labelled, train=hide(labelled.train)), labelled, few)
        if os.path.expanduser(config.data.strip()) != os.path.expanduser(config.labelled.strip()):
            rows = labelled.manifest
            kept_out = set(rows["sha256"][rows["split"].isin(["val", "test"])]) - {""}
            others = unlabelled(config, kept_out)
            moved = others.train.map(lambda one: one | {"id": one["id"] + len(rows)})
            found = Pictures(
                dataclasses.replace(others, train=hide(labelled.train).concatenate(moved)), labelled, few
            )
    count = int(found.unlabelled.train.cardinality())
    if count < config.batch_size:
        raise InputError(
            f"Received batch_size={config.batch_size} and {count} picture{'s' * (count != 1)} to learn from; "
            f"a batch has different ones: give a batch_size of at most {max(2, count)}"
            + (", or more pictures." if count >= 2 else ", and at least 2 pictures.")
        )
    return found


def load_labelled(config: Config, data: str) -> Data:
    """Labelled pictures in three splits, resized, with all their labels."""
    return load_pictures(
        data,
        config.image_size,
        seed=config.machine.seed,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )


def check_labels(config: Config, labelled: Data) -> None:
    """Raise InputError where a class has fewer training pictures than are to be learned from, or none to
    choose on.
    """
    counts = examples.summary(labelled)
    most = max(config.labels)
    for split, least in (("train", most), ("val", 1)):
        short = counts.index[counts[split] < least] if split in counts else counts.index
        if len(short):
            has = int(counts.loc[short[0], split]) if split in counts else 0
            raise InputError(
                f"Received labels={config.labels} and labelled={config.labelled!r}, whose class {short[0]!r} "
                f"has {has} {split} picture{'s' * (has != 1)}, where {least} of each class are needed; give "
                "fewer --labels, or label more."
            )


def hide(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same pictures without their labels."""
    return dataset.map(lambda one: {name: one[name] for name in ("id", "input")})


def with_few(config: Config, labelled: Data) -> dict[int, Data]:
    """For each number of labels of the Config the same data with so many labelled training pictures of each
    class, and as many validation pictures at most, in memory; nested: those of 5 are among those of 10.
    """
    found, left = {}, labelled
    for count in sorted(config.labels, reverse=True):
        parts = {}
        for stream, split in enumerate(("train", "val")):
            ids = examples.ids(labelled.manifest, split)
            labels = labelled.manifest["label"].cat.codes.to_numpy()[ids]
            chosen = ids[splits.few(labels, count, (config.machine.seed + stream * 2**31) % 2**32)]
            parts[split] = rows_of(getattr(left, split), chosen)
        found[count] = left = dataclasses.replace(labelled, **parts)
    return {count: found[count] for count in config.labels}


def rows_of(dataset: tf.data.Dataset, ids: np.ndarray) -> tf.data.Dataset:
    """Those elements of a dataset, in memory."""
    wanted = set(ids.tolist())
    taken = [one for one in dataset.as_numpy_iterator() if int(one["id"]) in wanted]
    return tf.data.Dataset.from_tensor_slices(
        {name: np.stack([one[name] for one in taken]) for name in taken[0]}
    )


# ---------------------------------------------------------------- pictures of which no label is read


def source(data: str) -> Source:
    """The pictures that `data` names, all called CLASS: those in a folder and its folders, whatever these
    mean, or those of a data set or CSV file, whose splits stay.
    """
    path = Path(os.path.expanduser(data.strip()))
    if not (data.strip() and path.is_dir()):
        found = sources.find(data)
        return dataclasses.replace(found, examples=found.examples.assign(label=CLASS), classes=(CLASS,))
    paths = [one for one in files.walk(path) if one.suffix.lower() in files.PICTURE_SUFFIXES]
    names = [files.printable(str(one.relative_to(path))) for one in paths]
    columns = dict.fromkeys(("split", "group", "subgroup"), "")
    rows = pd.DataFrame({"path": names, "label": CLASS} | columns, dtype=object)
    return Source(rows, (CLASS,), lambda: iter(map(str, paths)), name=data)


def unlabelled(config: Config, kept_out: Collection[str] | None = None) -> Data:
    """Pictures without labels as a `Data` of the one class CLASS.

    kept_out: hashes of pictures that are judged by; all others of the source's training pictures, and of a
    source without splits all others, are for training then, and the other splits are empty. None: training,
    validation and test are divided as elsewhere.
    """
    found = source(config.data)
    if found.examples.empty:
        raise InputError(f"Received data={config.data!r} without a picture; give a folder that has some.")
    fits = len(found.examples) * config.image_size**2 * 3 <= MEMORY
    pictures = in_memory.aligned(len(found.examples), config.image_size) if fits else None
    facts, _, _, _, problems = decoding.look_at_all(found, config.image_size, config.resize, pictures)
    unreadable = [row for row in problems if row[1] == "unreadable"]
    if unreadable and (config.on_bad_data == "stop" or len(unreadable) == len(facts)):
        raise InputError(
            f"Received data={config.data!r}, of whose {len(facts)} files {len(unreadable)} cannot be used, "
            f"such as {unreadable[0][0]!r} ({unreadable[0][2]}); repair or remove them, or skip some with "
            "--on-bad-data skip."
        )
    manifest = examples.begin_manifest(found).join(facts)
    codes = np.zeros(len(manifest), np.int64)
    if kept_out is None:
        usable = int((manifest["sha256"] != "").sum())
        if usable < LEAST:
            raise InputError(
                f"Received data={config.data!r} with {usable} usable picture{'s' * (usable != 1)}; two to "
                "learn from, one to validate by and one for the test are the least: add pictures."
            )
        fractions = {"val_fraction": config.val_fraction, "test_fraction": config.test_fraction}
        manifest["split"] = examples.divide(
            manifest, codes, seed=config.machine.seed, **fractions, unit="pictures"
        )
    else:
        usable, seen = manifest["sha256"] != "", manifest["sha256"].isin(kept_out)
        training = manifest["split"].isin(["", "train"])
        manifest["split"] = np.select([~usable, training & ~seen], ["skipped", "train"], "unused").astype(
            object
        )
        problems += [
            (
                path,
                "duplicate",
                f"{path!r} is a validation or test picture of the labelled ones; not learned from",
            )
            for path in manifest["path"][usable & training & seen]
        ]
    problems += copies(manifest) if kept_out is None else []
    ids = [examples.ids(manifest, split) for split in splits.USED]
    if pictures is None:
        ids[0] = np.random.RandomState(config.machine.seed).permutation(ids[0])
        parts = [decoding.dataset(found, rows, codes, {}, config.image_size, config.resize) for rows in ids]
    else:
        parts = in_memory.datasets(pictures, ids, {"label": codes})
    code = hashlib.sha256(b"".join(Path(inspect.getfile(one)).read_bytes() for one in (images, square)))
    return Data(
        hide(parts[0]) if kept_out is not None else parts[0],
        parts[1],
        Sealed(parts[2]),
        (CLASS,),
        manifest,
        examples.problems(found.problems + problems),
        recipe=f"{config.resize} {config.image_size} {code.hexdigest()}",
        unit="pictures",
    )


# ---------------------------------------------------------------- batches of two views


def two_views(config: Config, found: Pictures) -> SplitBatches:
    """Batches to learn from: dicts of "id" and "input", {"first", "second"}, uint8 (batch_size, size, size,
    3) each: two views of the same pictures.
    """

    epochs = sum(stage.epochs for stage in config.stages)
    every = epochs * (int(found.unlabelled.train.cardinality()) // config.batch_size)

    @tf.autograph.experimental.do_not_convert
    def with_step(step: tf.Tensor, batch: dict) -> dict:
        return batch | {"step": step}

    def draw(ordered: tf.data.Dataset, start: int | None) -> tf.data.Dataset:
        drawn = augment.with_draws(ordered, "none", seed=config.machine.seed, mixes=True, start=start)
        return drawn.enumerate(start or 0).map(with_step)

    def make(batch: dict) -> dict:
        grown = grown_at(config, tf.cast(batch["step"], tf.float32) / every)
        return {"id": batch["id"], "input": views_of(config, batch["input"], batch["mixing_seed"], grown)}

    def fingerprint() -> list:
        return [Path(inspect.getfile(one)).read_bytes() for one in (pairs, augment, warp)]

    return SplitBatches(
        found.unlabelled,
        "train",
        config.batch_size,
        shuffle=True,
        seed=config.machine.seed,
        views=Views(draw, make, fingerprint, mixes=True),
        target=lambda batch: batch,
        drop_remainder=True,
        dataset=found.unlabelled.train,
    )


def grown_at(config: Config, share: tf.Tensor) -> tf.Tensor:
    """How far the second view has grown after this share of all steps, float32 from 0 to 1."""
    begins, ends = config.ramp
    return tf.clip_by_value((share - begins) / max(ends - begins, 1e-6), 0.0, 1.0)


def views_of(
    config: Config, pictures: tf.Tensor, seed: tf.Tensor, grown: float | tf.Tensor = 1.0
) -> dict[str, tf.Tensor]:
    """The two views of each picture, uint8 (n, size, size, 3); seed: int64 (2,); grown: see `pairs.two`."""
    return pairs.two(pictures, seed, config.augment, flip=config.flip, figure=config.figure, grown=grown)


def arrays(dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
    """A dataset of pictures as arrays by name, a row per element."""
    parts = list(dataset.batch(256).as_numpy_iterator())
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
