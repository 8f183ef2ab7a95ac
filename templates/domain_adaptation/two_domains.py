"""The two domains: loaded, the target's labels hidden, and in batches of both."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data import weights as example_weights
from runner.data.batches import Batches
from runner.data.examples import Data, labels_of, splits_in_words
from runner.data.source import amount
from runner.devices import multi_worker
from runner.errors import InputError
from runner.picture_runs import predict
from runner.pictures.batches import batches
from runner.pictures.load import load as load_pictures

from .config import Config


@dataclass(frozen=True)
class Domains:
    """The two data sets, over the same classes. The label of every target picture is -1 but in the test."""

    source: Data
    target: Data
    unlabelled: pd.DataFrame
    """The manifest's rows of the pictures in `target_unlabelled`, which are in `target.train`."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def manifest(self) -> pd.DataFrame:
        """A row per picture: target, source, unlabelled; the ids of each go on where those before end."""
        parts = {
            "target": self.target.manifest,
            "source": self.source.manifest,
            "unlabelled": self.unlabelled,
        }
        return pd.concat([part.assign(domain=name) for name, part in parts.items()], ignore_index=True)

    @property
    def problems(self) -> pd.DataFrame:
        """Of both, with the column "domain"."""
        parts = {"target": self.target.problems, "source": self.source.problems}
        return pd.concat([part.assign(domain=name) for name, part in parts.items()], ignore_index=True)

    def in_words(self) -> str:
        """A line for each domain: "source: train 400, val 100, test 100 (val and test as given)"."""
        of = {"source": self.source, "target": self.target}
        return "\n".join(
            f"{name}: {splits_in_words(examples.manifest)}"
            + (f" ({examples.carved})" if examples.carved else "")
            for name, examples in of.items()
        )


def load_one(config: Config, name: str, labels_per_class: int | None = None) -> Data:
    """The splits of one data set, resized, with its labels."""
    return load_pictures(
        name,
        config.image_size,
        seed=config.machine.seed,
        labels_per_class=labels_per_class,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        on_bad_data=config.on_bad_data,
        resize=config.resize,
    )


def load(config: Config) -> Domains:
    """The splits of both domains, resized, and their manifests.

    Where the target brings no test split its labels decide one thing before the end: that each class comes
    to the test in proportion.
    """

    source = load_one(config, config.source, amount(config.labels_per_class, config.source))
    target = load_one(config, config.target)
    if source.classes != target.classes:
        only = [sorted(set(a.classes) - set(b.classes)) for a, b in ((source, target), (target, source))]
        raise InputError(
            f"the source {config.source!r} and the target {config.target!r} differ in their classes (only in "
            f"the source: {', '.join(only[0][:5]) or 'none'}; only in the target: "
            f"{', '.join(only[1][:5]) or 'none'}); give the same classes under the same names."
        )
    target = dataclasses.replace(target, train=hide(target.train), val=hide(target.val))
    more = pd.DataFrame()
    if config.target_unlabelled:
        pictures, more, problems = unlabelled(
            config, len(target.manifest) + len(source.manifest), target.classes
        )
        target = dataclasses.replace(
            target,
            train=target.train.concatenate(pictures),
            problems=pd.concat([target.problems, problems], ignore_index=True),
        )
    for name, examples in (("source", source), ("target", target)):
        count = int(examples.train.cardinality())
        if count < config.batch_size:
            raise InputError(
                f"batch_size={config.batch_size} is more than the {count} training pictures of the {name}; "
                "give a smaller batch_size or more pictures."
            )
    return Domains(source, target, more)


def hide(examples: tf.data.Dataset) -> tf.data.Dataset:
    """The same examples with -1 for each label, which is no class: its one-hot form is all 0.

    What can be shuffled before anything is decoded (`pictures.decoding.dataset`) still can.
    """

    def hidden(example: dict) -> dict:
        return example | {"label": -tf.ones_like(example["label"])}

    found = examples.map(hidden)
    if hasattr(examples, "undecoded"):
        files, decode = examples.undecoded
        found.undecoded = files, lambda batch: hidden(decode(batch))
    return found


def unlabelled(
    config: Config, first_id: int, classes: tuple[str, ...]
) -> tuple[tf.data.Dataset, pd.DataFrame, pd.DataFrame]:
    """The pictures of `target_unlabelled` as examples with the label -1, their rows for the manifest, and
    problems as a `Data` has them.
    """
    paths = predict.files([config.target_unlabelled])
    read = list(predict.batches(paths, config.image_size, config.resize, batch_size=64))
    notes = [row for batch in read for row in zip(batch.paths, batch.readable, batch.notes, strict=True)]
    unreadable = [(path, "unreadable", note) for path, readable, note in notes if not readable]
    if len(unreadable) == len(notes) or (unreadable and config.on_bad_data == "stop"):
        reason = f"{unreadable[0][0]}: {unreadable[0][2]}" if unreadable else "there are no files"
        raise InputError(
            f"target_unlabelled={config.target_unlabelled!r}: {len(unreadable)} of {len(notes)} files are no "
            f"pictures ({reason}); give a folder of pictures, or skip such files with on_bad_data='skip'."
        )
    readable = np.array([readable for _, readable, _ in notes])
    rows = pd.DataFrame({"path": [path for path, _, _ in notes]})
    rows["label"] = labels_of([""] * len(rows), classes)
    rows["split"] = np.where(readable, "train", "skipped")
    ids = first_id + np.flatnonzero(readable)
    pictures = np.concatenate([batch.pictures for batch in read])
    labels = np.full(len(ids), -1, np.int64)
    examples = tf.data.Dataset.from_tensor_slices({"id": ids, "input": pictures, "label": labels})
    return examples, rows, pd.DataFrame(unreadable, columns=["path", "kind", "message"])


def both_domains(config: Config, domains: Domains, name: str) -> Batches:
    """What a method trains on: dicts of "id", "input" and "label", and "weight" where the source has weights.

    "input": {"source", "target"}, uint8 (batch_size, size, size, 3) each, and for pseudo-labels "strong", a
    second view of the same target pictures (moved as the first is, and further). "label": float32
    (batch_size, classes), of the source. "id": rows of the manifest, of the target and then of the source.
    Each domain goes through its own epochs, of full batches only; an epoch is one pass over the source.
    """

    def part(examples: Data, seed: int, strength: str, weights: np.ndarray | None = None) -> Batches:
        return batches(
            examples,
            "train",
            config.batch_size,
            shuffle=True,
            seed=seed,
            strength=strength,
            flip=config.flip,
            drop_remainder=True,
            weights=weights,
        )

    parts = {
        "source": part(
            domains.source,
            config.machine.seed,
            config.augment,
            example_weights.of_examples(domains.source),
        ),
        "target": part(domains.target, config.machine.seed + 1, config.augment),
    }
    if name == "pseudo-labels":
        parts["strong"] = part(domains.target, config.machine.seed + 1, config.augment_strong)
    first_source_id, steps = len(domains.target.manifest), parts["source"].steps

    def together(parts: dict) -> dict:
        given = {name: parts["source"][name] for name in ("label", "weight") if name in parts["source"]}
        return given | {
            "id": tf.concat([parts["target"]["id"], parts["source"]["id"] + first_source_id], axis=0),
            "input": {name: batch["input"] for name, batch in parts.items()},
        }

    def make(start: int | None, share: multi_worker.Share | None) -> tf.data.Dataset:
        each = {name: one.after(start or 0, share) for name, one in parts.items()}
        zipped = tf.data.Dataset.zip(each).map(together)
        if start is not None:
            return zipped
        return zipped.take(steps).apply(tf.data.experimental.assert_cardinality(steps))

    return Batches(make, steps)
