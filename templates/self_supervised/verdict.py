"""Was it worth it: what a few labels give on top of these features, and on top of what there was before.

Without any labels nothing can say so. What is counted then is how often a view of a picture is found again by
another view of it (`found_again`), which is near to what was learned and proves nothing of its use.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.data.source import datasets
from runner.devices import strategy
from runner.networks import inference, pretrained
from runner.pictures.batches import batches
from runner.scores import classification, intervals, paired
from runner.stage import Stage
from runner.training import baselines, solved
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import method, model, pictures
from .config import Config
from .pictures import Pictures

FROZEN, STAGED = "frozen + solved", "staged"
SUPERVISED = "supervised"
BATCH = 32
"""Pictures per step of the trainings on a few labels."""
SEED = (19_700_101, 2)
"""Of the views by which pictures are found again."""
NO_EPOCHS = pd.DataFrame(columns=["epoch", "stage"])
NOTHING_MOVED = pd.DataFrame(columns=["stage", "block", "to_train", "moved"])

Judged = dict[int, pd.DataFrame]
"""Labels of each class -> the answers to a split; without labels, 0 -> the views that were found again."""


def begun_with(config: Config) -> str:
    """What the weights before this training are called."""
    return "untrained" if config.weights in baselines.UNTRAINED else "as it came"


def supervised(config: Config) -> str:
    """The weights that learned from labels, "none" where none are compared with."""
    if config.supervised != "auto":
        return config.supervised
    comes_along = config.labelled.strip() in datasets()
    return "letters_in_photos" if comes_along and config.weights != "letters_in_photos" else "none"


def sources(config: Config, learned: str) -> dict[str, str]:
    """Which weights are judged, by the names of their methods. learned: the folder of the run."""
    found = {begun_with(config): config.weights} if config.baselines else {}
    if config.baselines and supervised(config) != "none":
        found[SUPERVISED] = supervised(config)
    return found | {config.method: learned}


def with_weights(config: Config, weights: str) -> Config:
    """The Config of what begins with these weights: those of checkpoints/ bring their own backbone."""
    return dataclasses.replace(
        config, weights=weights, backbone=pretrained.backbone_of(weights) or config.backbone
    )


# ---------------------------------------------------------------- what is trained on a few labels


def fit_all(
    config: Config,
    found: Pictures,
    learned: str,
    checkpoints: Callable[[str], Checkpointing | None] = lambda name: None,
) -> tuple[dict[str, keras.Model], dict[str, Fit]]:
    """Every method that is compared, from a few labels: networks with a head for each number of them
    (`model.with_heads`), and what each took.

    learned: weights of the trained backbone, as any template takes them. Without labels the networks are
    those of features.
    """
    if found.labelled is None:
        started = time.perf_counter()
        networks = {"pixels": model.of_pixels(config)} if config.baselines else {}
        networks |= {
            name: model.build(with_weights(config, weights))[0]
            for name, weights in sources(config, learned).items()
        }
        nothing = Fit(NO_EPOCHS, NOTHING_MOVED, time.perf_counter() - started, trained=0)
        return networks, dict.fromkeys(networks, nothing)
    few, networks, fits = found.few, {}, {}
    if config.baselines:
        networks[baselines.PIXELS], fits[baselines.PIXELS] = solve(model.of_pixels(config), few)
    arms = {}
    for name, weights in sources(config, learned).items():
        arm = with_weights(config, weights)
        network, _ = model.build(arm)
        networks[f"{name}, {FROZEN}"], fits[f"{name}, {FROZEN}"] = solve(network, few)
        if config.tuning_epochs and name != "untrained":
            arms[f"{name}, {STAGED}"] = dataclasses.replace(arm, stages=(tuning(config),))
    if config.tuning_epochs and config.baselines:
        arms |= baselines.from_scratch(dataclasses.replace(config, stages=(tuning(config),)))
    for name, arm in arms.items():
        networks[name], fits[name] = tune(arm, few, name, checkpoints)
    return networks, fits


def tuning(config: Config) -> Stage:
    """How "staged" trains all weights, from the solved head on."""
    return Stage(
        "all",
        train="all",
        epochs=config.tuning_epochs,
        learning_rate=config.tuning_rate,
        schedule="cosine",
        warmup=0.1,
    )


def solve(network: keras.Model, few: Mapping[int, Any]) -> tuple[keras.Model, Fit]:
    """A network of features with heads that are solved, each on its number of labels; nothing else moves."""
    started, width = time.perf_counter(), network.output.shape[1]
    classes = len(next(iter(few.values())).classes)
    headed = model.with_heads(network, classes, list(few))
    for count, labelled in few.items():
        solved.solve(headed_alone(headed, count), f"head_{count}", labelled.train, labelled.val)
    seconds = time.perf_counter() - started
    return headed, Fit(NO_EPOCHS, NOTHING_MOVED, seconds, trained=(width + 1) * classes)


def headed_alone(network: keras.Model, count: int) -> keras.Model:
    """A network of `model.with_heads` with one of its heads."""
    return keras.Model(network.input, network.output[f"head_{count}"])


def tune(
    config: Config, few: Mapping[int, Any], name: str, checkpoints: Callable[[str], Checkpointing | None]
) -> tuple[keras.Model, Fit]:
    """Train all weights on each number of labels: from the solved head on or, from scratch, from nothing."""
    trained, fits = {}, {}
    scratch = config.weights in baselines.UNTRAINED
    for count, labelled in few.items():
        with strategy.scope(config.machine, config.backbone):
            network, blocks = model.build(config)
            x = keras.layers.Dense(len(labelled.classes), dtype="float32", name="head")(network.output)
            # Networks of one graph, as they become below, need names of their own.
            network = keras.Model(network.input, x, name=f"{network.name}_{count}_labels")
            network.compile(
                optimizer=keras.optimizers.Adam(weight_decay=config.weight_decay or None),
                loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
                metrics=["accuracy"],
                **strategy.compile_options(config.machine),
            )
        if not scratch:
            solved.solve(network, "head", labelled.train, labelled.val)
        train = batches(
            labelled,
            "train",
            BATCH,
            shuffle=True,
            seed=config.machine.seed,
            strength="light",
            flip=config.flip,
        )
        fits[count] = fit_stages(
            network,
            train,
            batches(labelled, "val", BATCH),
            config.stages,
            blocks,
            monitor="val_accuracy",
            title=f"{name}, {count} labels",
            checkpoints=checkpoints(f"{name} {count}"),
            keep_start=not scratch,
        )
        trained[f"head_{count}"] = network
    image = keras.Input(network.input.shape[1:], dtype="uint8", name="image")
    together = keras.Model(image, {key: one(image) for key, one in trained.items()}, name=network.name)
    last = fits[max(fits)]
    return together, dataclasses.replace(last, seconds=sum(one.seconds for one in fits.values()))


# ---------------------------------------------------------------- what they answer


def judge(
    networks: Mapping[str, keras.Model], split: tf.data.Dataset, classes: tuple[str, ...]
) -> dict[str, Judged]:
    """What networks with heads answer on a split, which is read once."""
    known, found = inference.outputs(networks, split)
    judged = {}
    for name, outputs in found.items():
        by_count = {int(key.removeprefix("head_")): one for key, one in outputs.items()}
        judged[name] = {
            count: classification.tables(known, {name: by_count[count]}, classes)[name]
            for count in sorted(by_count)
        }
    return judged


def judge_features(
    config: Config, network: keras.Model, split: tf.data.Dataset, classes: tuple[str, ...]
) -> Judged:
    """What features say of labelled pictures that are new to them: a part of these gives the few labels, as
    many of each class as the Config compares by or a third of what the rarest has, as many more choose the
    regularisation, and the rest is answered.
    """
    given = pictures.arrays(split)
    labels, random = given["label"], np.random.RandomState(config.machine.seed)
    order = random.permutation(len(labels))
    place = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = np.arange(len(rows))
    count = max(1, min(max(config.labels), int(np.bincount(labels)[np.unique(labels)].min()) // 3))
    parts = [place < count, (place >= count) & (place < 2 * count), place >= 2 * count]
    few, choose, asked = (
        tf.data.Dataset.from_tensor_slices({name: one[rows] for name, one in given.items()}) for rows in parts
    )
    headed = model.with_heads(network, len(classes), (count,))
    solved.solve(headed_alone(headed, count), f"head_{count}", few, choose)
    return judge({"": headed}, asked, classes)[""]


def found_again(
    config: Config, networks: Mapping[str, keras.Model], split: tf.data.Dataset
) -> dict[str, Judged]:
    """For each picture of a split whether, among second views of all its pictures, its own lies nearest to
    its first: columns id, found_again (0 or 1), rank (from 1) and cosine (to its own).
    """
    given = pictures.arrays(split)
    views = pictures.views_of(config, tf.constant(given["input"]), tf.constant(SEED, tf.int64))
    judged = {}
    for name, network in networks.items():
        step = inference.forward(network)
        first, second = (features(step, views[which].numpy()) for which in ("first", "second"))
        cosines = method.of_length_1(first) @ method.of_length_1(second).T
        own = np.diagonal(cosines)
        rank = 1 + (cosines > own[:, None]).sum(axis=1)
        table = {"id": given["id"], "found_again": (rank == 1).astype(int), "rank": rank, "cosine": own}
        judged[name] = {0: pd.DataFrame(table)}
    return judged


def features(step: Callable, shown: np.ndarray) -> np.ndarray:
    """What a compiled network gives for pictures, float32 (n, d)."""
    return np.concatenate([np.asarray(step(shown[start : start + 64])) for start in range(0, len(shown), 64)])


# ---------------------------------------------------------------- numbers


def score(config: Config) -> tuple[str, str]:
    """What methods are compared by: how its columns are called, and how it reads."""
    if not config.labelled:
        return "found_again", "views found again"
    return "accuracy", f"accuracy with {max(config.labels)} labels per class"


def right(judged: Judged, count: int) -> np.ndarray:
    """Which answers are right, bool (examples,), with so many labels; 0: which views were found again."""
    table = judged[count]
    return (
        (table["label"] == table["prediction"]).to_numpy() if count else table["found_again"].to_numpy() == 1
    )


def metrics(judged: Judged, groups: pd.Series, classes: tuple[str, ...]) -> dict[str, Any]:
    """Numbers of one method with the most labels, and its accuracy and interval with each number of them."""
    most, whole = max(judged), intervals.units(groups, judged[max(judged)]["id"])
    if not most:
        again = right(judged, 0)
        value = {
            "found_again": float(again.mean()),
            "found_again_interval": list(intervals.share(again, whole)),
        }
        return value | {"median_rank": float(judged[0]["rank"].median()), "examples": len(again)}
    found = classification.metrics(judged[most], classes, groups)
    for count in judged:
        told = right(judged, count)
        found[f"accuracy_{count}_labels"] = float(told.mean())
        found[f"accuracy_{count}_labels_interval"] = list(intervals.share(told, whole))
    return found


def validated(judged: Mapping[str, Judged]) -> dict[str, float]:
    """The share of right answers of each method with the most labels."""
    return {name: float(right(one, max(one)).mean()) for name, one in judged.items()}


def chosen(config: Config, validation: Mapping[str, float]) -> str:
    """The method whose backbone is handed out: what was learned here, or what it began with where that is
    better on validation.
    """
    ending = f", {FROZEN}" if config.labelled else ""
    own, before = config.method + ending, begun_with(config) + ending
    return before if validation.get(before, -1.0) > validation[own] else own


def comparison(
    config: Config,
    networks: Mapping[str, keras.Model],
    fits: Mapping[str, Fit],
    validation: Mapping[str, float],
    pick: str,
    tested: Mapping[str, Judged] | None = None,
    found: Mapping[str, dict] | None = None,
) -> pd.DataFrame:
    """A row per method, as `baselines.table` has it, and test_accuracy_<n>_labels for each number of labels.

    networks: of `baselines.compared`. found: of each method its `metrics`.
    """
    name_of_score, rows = score(config)[0], []
    for name in networks:
        trained = max(
            (one for one in validation if baselines.called(one) == name or one == name),
            key=validation.__getitem__,
        )
        row: dict[str, Any] = {
            "method": name,
            "epochs": len(fits[trained].history),
            "trainable_parameters": fits[trained].trained or 0,
            "seconds": round(fits[trained].seconds, 1),
            f"val_{name_of_score}": validation[trained],
        }
        if tested and found:
            low, high = found[name][f"{name_of_score}_interval"]
            row |= {f"test_{name_of_score}": found[name][name_of_score], "low": low, "high": high}
        row["pretrained"] = bool(config.labelled) and knows_other_pictures(config, name)
        row["recipe"] = baselines.recipe(validation) if name == baselines.SCRATCH else ""
        if tested and found:
            most = max(tested[name])
            apart = (np.nan,) * 3
            if name != pick:
                apart = paired.of_means(right(tested[name], most), right(tested[pick], most))[:3]
            names = ("difference", "difference_low", "difference_high")
            row |= dict(zip(names, apart, strict=True))
            row |= {f"test_{key}": found[name][key] for key in found[name] if key.endswith("_labels")}
        rows.append(row)
    return pd.DataFrame(rows)


def knows_other_pictures(config: Config, name: str) -> bool:
    """Whether a method has learned from more than the labelled pictures."""
    return name not in baselines.NOTHING_TRANSFERRED and not name.startswith("untrained")
