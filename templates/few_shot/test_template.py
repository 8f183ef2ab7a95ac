"""This template on drawn pictures: its episodes and methods do what their equations say, no class is in two
splits, a run is complete, and new classes are told apart without training.
"""

import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from runner import fields
from runner.data import sealed
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import folder
from runner.stage import Stage

from . import answers, classes, episodes, method, model, support, train
from .batches import of_episodes
from .config import Config

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 180, 40),
    "blue": (40, 40, 200),
    "yellow": (200, 200, 40),
    "pink": (220, 60, 200),
    "cyan": (40, 200, 200),
    "black": (20, 20, 20),
    "white": (230, 230, 230),
    "grey": (125, 125, 125),
}


def draw(place, names=tuple(COLOURS), count=6, start=0):
    """A folder of noisy squares, of a colour per class."""
    for number, name in enumerate(names):
        random = np.random.default_rng([number, start])
        (place / name).mkdir(parents=True)
        for picture in range(count):
            noise = random.normal(COLOURS[name], 20, (20, 20, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(noise).save(place / name / f"{picture}.png")
    return place


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures")


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        new_classes="",
        val_classes=("red", "green", "blue"),
        test_classes=("yellow", "pink", "cyan"),
        ways=2,
        shots=(1, 2),
        compare_shots=2,
        queries=3,
        episodes=20,
        val_episodes=20,
        backbone="conv4",
        weights="none",
        image_size=16,
        batch_size=8,
        train_ways=3,
        train_shots=2,
        train_queries=2,
        epoch_episodes=3,
        tune_steps=2,
        augment="none",
        methods=("pixels", "centred", "softmax"),
        stages=(Stage("all", train="all", epochs=2, learning_rate=3e-3, batch_norm="train"),),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


# ---------------------------------------------------------------- episodes


def test_equal_seeds_give_equal_episodes_whatever_their_number_and_support_is_never_asked():
    labels = np.repeat(np.arange(7), 12)
    few, many = (episodes.draw(labels, 4, 3, 5, count, seed=3) for count in (4, 9))
    for one, other in zip(dataclasses.astuple(few), dataclasses.astuple(many), strict=True):
        np.testing.assert_array_equal(one, other[:4])
    assert not np.array_equal(few.query, episodes.draw(labels, 4, 3, 5, 4, seed=4).query)
    for number in range(9):
        own = many.classes[number]
        assert len(set(own)) == 4
        np.testing.assert_array_equal(labels[many.support[number]], np.repeat(own[:, None], 3, axis=1))
        np.testing.assert_array_equal(labels[many.query[number]], np.repeat(own[:, None], 5, axis=1))
        assert not set(many.support[number].ravel()) & set(many.query[number].ravel())
        assert not set(labels[many.strangers[number]]) & set(own)
    np.testing.assert_array_equal(many.answers[0], np.repeat(np.arange(4), 5))
    assert episodes.draw(labels[labels < 4], 4, 3, 5, 1, seed=0).strangers.shape == (1, 0)


def test_what_no_episode_can_be_drawn_of_is_answered():
    with pytest.raises(InputError, match="1 test class and ways=5: an episode needs 5"):
        episodes.check(pd.Series([9], ["a"]), 5, 1, 1, "test")
    with pytest.raises(InputError, match="2 + 4 pictures".replace("+", r"\+")):
        episodes.check(pd.Series([9, 5], ["a", "b"]), 2, 2, 4, "test")


# ---------------------------------------------------------------- splits


def test_no_class_stands_in_two_splits_and_the_test_is_sealed(tmp_path, pictures):
    drawn = small_config(tmp_path, pictures, val_classes=(), test_classes=(), val_fraction=0.34)
    for config in (small_config(tmp_path, pictures), drawn):
        examples = train.load(config)
        of = examples.manifest.groupby("label", observed=True)["split"].unique()
        assert of.map(len).eq(1).all() and of.map(lambda one: one[0]).value_counts().min() == 3
        assert model.known_classes(examples) == 3
        labels = {split: set(classes.arrays(getattr(examples, split))[1]) for split in ("train", "val")}
        assert labels["train"] == {0, 1, 2} and labels["val"] == {3, 4, 5}
        with pytest.raises(InputError, match="sealed"):
            next(iter(examples.test))


def test_overlapping_classes_and_too_few_are_refused_before_anything_trains(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(train, "fit_all", lambda *_: pytest.fail("it trains"))

    def answer(**changes) -> str:
        with pytest.raises(InputError) as error:
            train.main(small_config(tmp_path, changes.pop("data", pictures), **changes))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "test_classes=('red',) cannot be used" in answer(test_classes=("red",))
    assert "both have classes 'grey', 'red'" in answer(
        test_classes=(), new_classes=str(draw(tmp_path / "new", ("red", "grey")))
    )
    assert "val_classes names class 'purple'" in answer(val_classes=("purple",))
    assert "3 val classes and ways=4" in answer(ways=4)
    assert "3 test classes and ways=4" in answer(ways=4, val_classes=("red", "green", "blue", "grey"))
    assert "0 val classes with 2 + 9 pictures (shots + queries)" in answer(queries=9)
    assert "1 class to train on" in answer(val_classes=("red", "green", "blue", "black", "white"))
    alone = draw(tmp_path / "alone", ("red",))
    assert "needs 2 different ones" in answer(data=alone, val_classes=(), test_classes=())
    single = draw(tmp_path / "single", count=1)
    assert "pictures (shots + queries)" in answer(data=single)
    with pytest.raises(InputError, match="conv4 is always new"):
        small_config(tmp_path, pictures, stages=(Stage("all", train="all", learning_rate=None),))
    assert "--train-ways" in answer(methods=("centred", "ProtoNet"), train_ways=4)
    assert not (tmp_path / "run").exists()


def test_split_folders_have_classes_of_their_own_or_are_refused(tmp_path):
    for split, names in (
        ("train", ("red", "green")),
        ("val", ("blue", "pink", "grey")),
        ("test", ("cyan", "black")),
    ):
        draw(tmp_path / "split" / split, names)
    config = small_config(tmp_path, tmp_path / "split", val_classes=(), test_classes=())
    manifest = train.load(config).manifest
    assert set(manifest["label"][manifest["split"] == "test"]) == {"cyan", "black"}
    draw(tmp_path / "split" / "test" / "..", ("red",))  # beside train, val and test
    (tmp_path / "split" / "red").rename(tmp_path / "split" / "test" / "red")
    with pytest.raises(InputError, match="class 'red' stand in test and train"):
        train.load(config)


# ---------------------------------------------------------------- methods


def test_the_nearest_mean_is_what_a_loop_finds():
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 6)).astype("float32")
    drawn = episodes.draw(np.repeat(np.arange(4), 10), 3, 2, 4, 5, seed=0)
    asked = drawn.query.reshape(5, -1)
    found = method.nearest_mean(features, drawn.support, asked)
    for number in range(5):
        for place, query in enumerate(asked[number]):
            means = [features[rows].mean(axis=0) for rows in drawn.support[number]]
            expected = [-(((features[query] - mean) ** 2).sum()) for mean in means]
            np.testing.assert_allclose(found[number, place], expected, rtol=1e-4, atol=1e-4)
    logits = method.prototypical(features[drawn.support[0]], features[asked[0]])
    np.testing.assert_allclose(logits, found[0], rtol=1e-4, atol=1e-4)


def test_maml_of_no_step_is_the_network_and_one_step_is_the_gradients(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((3,))
    network = keras.Model(image, keras.layers.Dense(2, name="head")(image))
    x, labels = (
        tf.constant(np.random.default_rng(0).normal(size=(4, 3)), tf.float32),
        tf.constant([0, 1, 1, 0]),
    )
    weights = [one.value for one in network.trainable_variables]
    same = method.adapted(network, weights, [True, True], x, labels, 0, 0.5, training=False)
    np.testing.assert_array_equal(same[0], weights[0])
    once = method.adapted(network, weights, [True, True], x, labels, 1, 0.5, training=False)
    p = tf.nn.softmax(network(x)).numpy() - np.eye(2)[labels.numpy()]
    np.testing.assert_allclose(once[0], weights[0] - 0.5 * (x.numpy().T @ p) / 4, rtol=1e-4, atol=1e-5)
    only_bias = method.adapted(network, weights, [False, True], x, labels, 1, 0.5, training=False)
    np.testing.assert_array_equal(only_bias[0], weights[0])
    # Through the inner step there is a second derivative, which the first order leaves out.
    outer = []
    for first_order in (False, True):
        with tf.GradientTape() as tape:
            own = [tf.convert_to_tensor(one) for one in network.trainable_variables]
            moved = method.adapted(
                network, own, [True, True], x, labels, 1, 0.5, training=False, first_order=first_order
            )
            loss = method.cross_entropy(labels, x @ moved[0] + moved[1])
        outer.append(tape.gradient(loss, network.trainable_variables)[0].numpy())
    assert np.abs(outer[0] - outer[1]).max() > 1e-3


def test_fine_tuning_of_no_step_answers_as_the_nearest_mean(tmp_path, pictures):
    config = small_config(tmp_path, pictures)
    examples = train.load(config)
    network, _ = model.build(config, examples)
    above = model.cosine(network)
    ids, labels, shown = classes.arrays(examples.val)
    drawn = episodes.draw(labels, 2, 2, 3, 3, seed=0)
    asked = drawn.query.reshape(3, -1)
    before = [one.numpy() for one in above.trainable_variables]
    rows = answers.Learner(above).features(shown)
    means = method.nearest_mean(rows, drawn.support, asked).argmax(axis=2)
    still = method.fine_tuned(above, shown, drawn.support, asked, 0, 0.1).argmax(axis=2)
    assert (means == still).mean() > 0.9  # cosines and distances differ where means are not of length 1
    moved = method.fine_tuned(above, shown, drawn.support, asked, 3, 0.1)
    assert np.isfinite(moved).all()
    for old, new in zip(before, above.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)  # each episode begins with the same weights


def test_episodes_go_on_where_they_were_stopped(tmp_path, pictures):
    examples = train.load(small_config(tmp_path, pictures))
    made = of_episodes(examples, "train", 3, 2, 2, 4, 2, seed=0)
    all_of_them = [one["id"].numpy() for one in made.after(0).take(8)]
    later = [one["id"].numpy() for one in made.after(5).take(3)]
    np.testing.assert_array_equal(np.stack(all_of_them[5:]), np.stack(later))
    assert len(list(made.named())) == made.steps == 4


@pytest.mark.parametrize("name", ["ProtoNet", "ANIL", pytest.param("MAML", marks=pytest.mark.slow)])
def test_what_is_trained_by_episodes_moves_what_it_should(tmp_path, pictures, name):
    config = small_config(tmp_path, pictures)
    network, fitted = train.fit(config, train.load(config), name)
    assert np.isfinite(fitted.history["val_loss"]).all() and len(fitted.history) == 2
    moved = fitted.ledger.set_index("block")["relative_change"]
    assert (moved.drop("head") > 0).all()
    assert (moved["head"] > 0) == (name != "ProtoNet")  # class means have no head


# ---------------------------------------------------------------- a run, and new classes for it


@pytest.fixture(scope="module")
def run(tmp_path_factory, pictures):
    return train.main(small_config(tmp_path_factory.mktemp("runs"), pictures))


def test_a_run_leaves_everything_it_promises(run, pictures, tmp_path):
    assert {path.name for path in run.iterdir()} == folder.FILES
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert "Accuracy over shots" in page and "None of these" in page and "One episode" in page
    metrics = json.loads((run / "metrics.json").read_text())
    comparison = pd.read_csv(run / "comparison.csv")
    assert set(comparison["method"]) == {"pixels", "centred", "softmax"}
    assert set(metrics["baselines"]) | {metrics["method"]} == set(comparison["method"])
    assert metrics["classes"] == ["cyan", "pink", "yellow"] and metrics["method"] in ("centred", "softmax")
    predictions = pd.read_csv(run / "predictions.csv")
    assert len(predictions) == 20 * 2 * 3
    right = (predictions["label"] == predictions["prediction"]).mean()
    assert metrics["test"]["accuracy"] == pytest.approx(right) and right > 0.8
    assert set(metrics["none_of_these"]) == {"1", "2"}
    assert len(pd.read_csv(run / "test_readings.csv")) == 1
    # The same episodes for all, and what is saved answers as what was judged.
    saved = keras.models.load_model(run / "model.keras", compile=False)
    config = small_config(tmp_path, pictures)
    examples = train.load(config)
    judged = train.judge(config, {"": saved}, examples.test.open(None, "to compare"), examples.classes)[""]
    assert train.tables(judged, examples)[0]["accuracy"] == pytest.approx(right, abs=0.01)


def test_without_the_test_it_stays_closed(tmp_path, pictures):
    config = small_config(tmp_path, pictures, test=False, methods=("centred",))
    made = train.main(config)
    assert not (made / "test_readings.csv").exists()
    assert json.loads((made / "metrics.json").read_text())["validation"]["accuracy"] > 0.5
    assert not sealed._KEPT_CLOSED


def test_new_classes_are_told_apart_without_training_and_others_are_none_of_these(run, tmp_path):
    draw(tmp_path / "support", ("black", "white"), count=2)
    draw(tmp_path / "queries", ("black", "white"), count=4, start=1)
    (tmp_path / "queries" / "broken.png").write_bytes(b"no picture")
    found = pd.concat(train.predict(run, [tmp_path / "support", tmp_path / "queries"], batch_size=3))
    assert list(found.columns) == ["path", "prediction", "confidence", "note", "p:black", "p:white"]
    read = found[found["note"] == ""]
    told = read["prediction"].astype(str)
    named = read["path"].map(lambda path: path.split("/")[-2])
    assert len(read) == 8 and ((told == named) | (told == support.NONE)).all() and (told == named).any()
    assert found[found["note"] != ""]["prediction"].isna().all()
    # Far from every class mean, whatever the class means are.
    strict = json.loads((run / "metrics.json").read_text()) | {"none_of_these": {"2": 1.0}}
    other = tmp_path / "strict"
    other.mkdir()
    for name in ("config.json", "model.keras"):
        (other / name).write_bytes((run / name).read_bytes())
    (other / "metrics.json").write_text(json.dumps(strict))
    none = pd.concat(train.predict(other, [tmp_path / "support", tmp_path / "queries"]))
    assert (none["prediction"].dropna() == support.NONE).all()
    for inputs in ([tmp_path / "support"], [tmp_path / "queries" / "broken.png", tmp_path / "queries"]):
        with pytest.raises(InputError):
            list(train.predict(run, inputs))


def test_a_support_set_is_added_to_as_if_it_had_been_whole(run, tmp_path):
    whole = support.read(draw(tmp_path / "whole", ("black", "white", "grey"), count=3), run)
    first = support.read(draw(tmp_path / "first", ("black", "white"), count=3), run)
    kept = support.write(tmp_path / "kept.npz", first)
    later = tmp_path / "later"
    (later / "grey").mkdir(parents=True)
    for path in (tmp_path / "whole" / "grey").iterdir():
        (later / "grey" / path.name).write_bytes(path.read_bytes())
    for name in ("black", "white"):
        (later / name).mkdir()
        path = tmp_path / "first" / name / "0.png"
        (later / name / path.name).write_bytes(path.read_bytes())
    both = support.read(later, run, before=support.read(kept, run))
    assert set(both.classes) == set(whole.classes)
    assert dict(zip(both.classes, both.counts, strict=True)) == {"black": 4, "white": 4, "grey": 3}
    place, other = both.classes.index("grey"), whole.classes.index("grey")
    np.testing.assert_allclose(both.means[place], whole.means[other], rtol=1e-4, atol=1e-5)
    tables = train.predict(run, [kept, tmp_path / "whole" / "black"])
    assert set(pd.concat(tables).columns) >= {"p:black", "p:white"}
