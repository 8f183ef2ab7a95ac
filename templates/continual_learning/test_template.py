"""This template on drawn pictures and on problems with known answers: importances, heads and buffers are what
their equations say, a training that was cut ends as one that was not, a run is complete, and goes on.
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
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import folder
from runner.stage import Stage
from runner.training.checkpoint import Checkpointing

from . import batches, learners, memory, method, model, tasks, train
from .config import Config

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 180, 40),
    "blue": (40, 40, 200),
    "yellow": (200, 200, 40),
    "pink": (220, 60, 200),
    "cyan": (40, 200, 200),
    "black": (20, 20, 20),
}
SIX = tuple(COLOURS)[:6]


def draw(place, names=SIX, count=14, start=0):
    """A folder of noisy squares, of a colour per class."""
    for number, name in enumerate(names):
        random = np.random.default_rng([number, start])
        (place / name).mkdir(parents=True)
        for picture in range(count):
            noise = random.normal(COLOURS[name], 20, (20, 20, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(noise).save(place / name / f"{start}-{picture}.png")
    return place


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures")


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        tasks=("red green", "blue yellow", "pink cyan"),
        backbone="mlp",
        weights="none",
        image_size=16,
        batch_size=8,
        methods=("streaming LDA", "replay"),
        buffer=12,
        stages=(Stage("top", train="top:1", epochs=2, learning_rate=1e-3, keep="last"),),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


# ---------------------------------------------------------------- importances and heads, answers known


def test_the_fisher_information_of_logistic_regression_is_known():
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(7, 3)).astype("float32"), random.normal(size=(3, 4)).astype("float32")
    weight = keras.Variable(kernel)
    mask = np.tile([True, True, False, True], (7, 1))
    (found,) = method.fisher(lambda row: row @ weight, [weight], x, mask)
    logits = np.where(mask, x @ kernel, -np.inf)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    # d log p_y / d w_kc = x_k (1[y = c] - p_c), whose square has the mean x_k^2 p_c (1 - p_c) over y ~ p.
    expected = np.einsum("nk,nc->kc", x**2, p * (1 - p)) / 7
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert (found[:, 2] == 0).all() and (found[:, 0] > 0).all()


def test_the_penalties_of_two_tasks_are_one_with_the_same_gradient():
    random = np.random.default_rng(1)
    f, g = random.uniform(0, 2, (2, 5))
    a, b, at = random.normal(size=(3, 5))
    f[0] = g[0] = f[1] = 0  # what mattered to none or one of them
    both, anchor = method.joined_anchor(f, a, g, b)
    np.testing.assert_allclose(both * (at - anchor), f * (at - a) + g * (at - b), atol=1e-5)
    assert float(method.quadratic([tf.constant(anchor)], [anchor], [both.astype("float32")])) == 0


def test_si_finds_what_each_weight_took_off_the_loss():
    # L = sum a (theta - t)^2 / 2: gradient descent in small steps from far away to the bottom.
    a, target = np.array([4.0, 1.0, 0.0]), np.array([1.0, -2.0, 3.0])
    start = theta = np.array([3.0, 1.0, 3.0])
    path = np.zeros(3)
    for _ in range(20_000):
        gradient = a * (theta - target)
        after = theta - 1e-3 * gradient
        path, theta = method.path_integral(path, gradient, theta, after), after
    np.testing.assert_allclose(path, a * (start - target) ** 2 / 2, rtol=5e-3)
    # Over the squared way that is half the curvature, whatever the way.
    np.testing.assert_allclose(
        method.synaptic_importance(path, theta - start, 1e-9)[:2], a[:2] / 2, rtol=5e-3
    )
    assert method.synaptic_importance(np.array([-1.0]), np.array([1.0]), 0.1) == 0


def test_streaming_statistics_are_those_of_all_at_once_in_any_order():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    random = np.random.default_rng(2)
    labels = np.sort(random.integers(0, 3, 90))
    features = (
        random.normal(size=(90, 4)) @ random.normal(size=(4, 4)) + 2 * random.normal(size=(3, 4))[labels]
    )
    class_by_class, mixed = method.Statistics(4, 4), method.Statistics(4, 4)
    for label in range(3):
        class_by_class.update(features[labels == label], labels[labels == label])
    for rows in np.array_split(random.permutation(90), 40):
        mixed.update(features[rows], labels[rows])
    whole = np.stack([features[labels == label].mean(0) for label in range(3)])
    scatter = (features - whole[labels]).T @ (features - whole[labels])
    for one in (class_by_class, mixed):
        np.testing.assert_allclose(one.means[:3], whole, rtol=1e-10)
        np.testing.assert_allclose(one.scatter, scatter, rtol=1e-8)
    kernel, bias = mixed.lda(1e-9)
    # Its covariance weighs classes by their priors, so those of the data; the rest of them is taken off.
    lda = LinearDiscriminantAnalysis("lsqr").fit(features, labels)
    scores, theirs = (
        features @ kernel[:, :3] + bias[:3],
        lda.decision_function(features) - np.log(lda.priors_),
    )
    apart = (scores - scores[:, :1]) - (theirs - theirs[:, :1])
    np.testing.assert_allclose(apart, 0, atol=1e-2)
    assert not kernel[:, 3].any() and bias[3] == 0  # a class that never came
    kernel, bias = mixed.nearest_mean()
    distances = ((features[:, None] - whole) ** 2).sum(axis=2)
    np.testing.assert_array_equal((features @ kernel + bias)[:, :3].argmax(1), distances.argmin(1))


def test_distillation_of_what_did_not_change_is_the_entropy_and_pulls_nowhere():
    logits = tf.Variable(np.random.default_rng(3).normal(size=(5, 4)), dtype=tf.float32)
    mask = np.array([[1, 1, 1, 0]], np.float32)
    with tf.GradientTape() as tape:
        loss = method.distillation(logits.numpy(), logits, mask, 2.0)
    p = tf.nn.softmax(logits[:, :3] / 2)
    np.testing.assert_allclose(loss, -tf.reduce_sum(p * tf.math.log(p), 1), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), 0, atol=1e-6)
    assert not method.distillation(logits.numpy(), logits + 1, 0 * mask, 2.0).numpy().any()
    moved = method.dark_experience(logits, logits + tf.constant([1.0, 2.0, 0.0, 9.0]), mask)
    np.testing.assert_allclose(moved, 5 / 3, rtol=1e-5)


# ---------------------------------------------------------------- what is kept


def test_a_balanced_buffer_has_equally_many_of_each_class_and_only_lets_go():
    cells = np.repeat([0, 1, 2, 3], [40, 40, 3, 40])
    when = np.repeat([0, 0, 1, 1], [40, 40, 3, 40])
    kept = memory.plan(cells, when, 2, 0, 20, "balanced", seed=0, seen=0)
    assert np.bincount(cells[kept[0]], minlength=4).tolist() == [10, 10, 0, 0]
    counts = np.bincount(cells[kept[1]], minlength=4)
    assert counts.sum() == 20 and counts[2] == 3 and sorted(counts[[0, 1, 3]]) == [5, 6, 6]
    assert set(kept[1][cells[kept[1]] < 2]) < set(kept[0])
    assert len(memory.plan(cells, when, 2, 0, 500, "balanced", 0, 0)[1]) == 123
    np.testing.assert_array_equal(kept[1], memory.plan(cells, when, 2, 0, 20, "balanced", 0, 0)[1])


# ---------------------------------------------------------------- the training step


def learner_of(name, data_rows, **changes):
    """A small classifier in training by a method, its task 1 of 2 over."""
    keras.utils.set_random_seed(4)
    x = inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="tanh", name="hidden")
    head = keras.layers.Dense(4, name="head")
    network = keras.Model(inputs, head(hidden(x)))
    told = tasks.Tasks(("a", "b"), np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool), "class")
    config = dataclasses.replace(Config(), **changes)
    moving = list(network.trainable_variables)
    learner = model.Continual(network, network, name, config, told, moving, len(data_rows), 6)
    learner.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse", weighted_metrics=["accuracy"])
    learner.optimizer.build(moving)
    return learner, told


def steps_of(learner, told, inputs):
    """Two steps on task 1, its end, then two on task 2."""
    random = np.random.default_rng(5)
    for number in range(2):
        for _ in range(2):
            rows = random.integers(0, len(inputs), 6)
            labels = np.eye(4, dtype="float32")[2 * number + rows % 2]
            given = {"new": inputs[rows], "task": np.full(6, number), "place": rows}
            given |= {"old": inputs[:12], "old_label": np.eye(4, dtype="float32")[np.arange(12) % 2]}
            given |= {"old_task": np.zeros(12, int), "slot": np.arange(12) % 6}
            given |= {"old_weight": np.full(12, float(number), "float32")}
            learner.train_step((tf.nest.map_structure(tf.constant, given), tf.constant(labels)))
        if not number:
            learner.end(inputs, told.allowed(0, np.zeros(len(inputs), int)))
            if len(learner.recorded.shape) and learner.recorded.shape[0] > 1:
                learner.record(np.random.default_rng(6).normal(size=(6, 4)).astype("float32"))
            learner.begin(1)
    return [one.numpy() for one in learner.moving]


def test_without_its_term_every_method_is_naive_to_the_bit_and_with_it_not():
    inputs = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
    naive = steps_of(*learner_of("naive", inputs), inputs)
    off = {
        "EWC": {"ewc": 0.0},
        "SI": {"si": 0.0},
        "LwF": {"lwf": 0.0},
        "DER++": {"der_alpha": 0.0, "der_beta": 0.0},
    }
    on = {"EWC": {}, "SI": {}, "LwF": {}, "DER++": {}, "replay": {}}
    for name, changes in off.items():
        for ours, theirs in zip(steps_of(*learner_of(name, inputs, **changes), inputs), naive, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for name, changes in on.items():
        found = steps_of(*learner_of(name, inputs, **changes), inputs)
        assert any((ours != theirs).any() for ours, theirs in zip(found, naive, strict=True)), name


def test_the_path_that_si_follows_is_without_its_penalty():
    inputs = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
    learner, _ = learner_of("SI", inputs, si=3.0)
    weight = learner.moving[0]
    learner.importances[0].assign(np.ones(weight.shape, "float32"))
    learner.anchors[0].assign(weight.numpy() - 0.5)
    before = weight.numpy()
    total = np.full(weight.shape, 4.0, "float32")  # of which the penalty has 2 * 3 * 1 * 0.5 = 3
    weight.assign(before + 0.1)
    learner.follow([weight], [tf.constant(total)], [tf.constant(before)])
    np.testing.assert_allclose(learner.paths[0].numpy(), -(4 - 3) * 0.1, rtol=1e-4)


def test_batches_go_on_where_they_were_stopped_and_keep_to_their_task():
    pool = batches.Rows(np.arange(20.0)[:, None], np.arange(20), np.repeat([0, 1], 10), np.repeat([0, 1], 10))
    news = [np.arange(10), np.arange(10, 17)]
    kept = [np.zeros(0, np.int64), np.array([2, 5, 7])]
    made = batches.stream(pool, news, 2, 4, epochs=2, steps=3, seed=0, kept=kept)
    every = list(made.after(0).take(12))
    for one, other in zip(every[7:], made.after(7).take(5), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    for number, one in enumerate(every):
        given = one["input"]
        assert (given["task"].numpy() == number // 6).all() and given["new"].shape == (4, 1)
        np.testing.assert_array_equal(news[number // 6][given["place"]], one["id"])
        assert given["old"].shape == (8, 1) and (given["old_weight"].numpy() == number // 6).all()
        assert number < 6 or set(given["old"].numpy().ravel()) <= {2.0, 5.0, 7.0}
    seen = np.concatenate([one["id"].numpy() for one in every[:6]])
    assert set(seen[:20]) == set(range(10)) and len(set(seen[:10])) == 10  # a whole pass first
    assert made.steps == len(list(made.named())) == 3


class Cut(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize(
    "name", ["DER++", *(pytest.param(one, marks=pytest.mark.slow) for one in ("SI", "LwF"))]
)
def test_a_training_that_is_cut_within_task_3_ends_as_one_that_is_not(tmp_path, pictures, monkeypatch, name):
    head = Stage("head", train="head", epochs=2, learning_rate=1e-2, keep="last")
    changes = {"stages": (head,)} if name == "DER++" else {}  # a small graph, for the fast one
    config = small_config(tmp_path, pictures, **changes)
    examples = train.load(config)

    def fit(place, until=None):
        keras.utils.clear_session(free_memory=False)
        done = 0

        def count(self, batch, logs=None):
            nonlocal done
            done += 1
            if done == until:
                raise Cut

        monkeypatch.setattr(learners.Boundary, "on_train_batch_end", count)
        return train.fit(config, examples, name, Checkpointing(tmp_path / place, steps=2))

    steps = max(1, round(len(examples.train) / 3 / config.batch_size))
    whole, _ = fit("whole")
    with pytest.raises(Cut):
        fit("cut", until=2 * 2 * steps + steps + 2)  # in the second epoch of the third task
    again, fitted = fit("cut")
    assert len(fitted.history) == 6 and set(again.after) == {0, 1, 2}
    for number in whole.after:
        for ours, theirs in zip(again.after[number], whole.after[number], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert again.kept.keys() == whole.kept.keys() and whole.bytes == again.bytes
    for key in whole.kept:
        np.testing.assert_array_equal(again.kept[key], whole.kept[key])


# ---------------------------------------------------------------- bad input


def test_what_cannot_be_a_stream_of_tasks_is_answered_before_anything_trains(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(train, "fit_all", lambda *_: pytest.fail("it trains"))

    def answer(**changes) -> str:
        with pytest.raises(InputError) as error:
            train.main(small_config(tmp_path, changes.pop("data", pictures), **changes))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "class 'blue' stands in two tasks" in answer(tasks=("red blue", "blue green"))
    once = Stage("top", train="top:1", epochs=1, learning_rate=1e-3, keep="last")
    assert "and 1 epoch make one step of a task; 2 are the least" in answer(batch_size=64, stages=(once,))
    assert "has no class 'purple'" in answer(tasks=("red green", "blue purple"))
    assert "names no class" in answer(tasks=("red green", " , "))
    assert "asks for 9 tasks" in answer(tasks=("9",))
    assert "task 'red' has one class" in answer(tasks=("red", "green blue"))
    assert "task 'blue' has one class" in answer(tasks=("red green", "blue"), scenario="task")
    assert "is no CSV file" in answer(tasks=("column",))
    assert "something else must tell them apart" in answer(scenario="domain")
    assert "at least two classes" in answer(data=draw(tmp_path / "alone", ("red",)), tasks=())
    splits = ["train", "val", "test"]
    rows = [
        f"pictures/{name}/0-{n}.png,{name},{splits[n % (3 if name in SIX[:4] else 2)]}"
        for name in SIX
        for n in range(9)
    ]
    listed = pictures.parent / "splits.csv"
    listed.write_text("\n".join(["path,label,split", *rows]) + "\n")
    assert "task 'pink, cyan' has no test pictures" in answer(data=listed)
    with pytest.raises(InputError, match="keep='last'"):
        small_config(tmp_path, pictures, stages=(Stage("all", train="all"),))
    with pytest.raises(InputError, match="beside joint"):
        small_config(tmp_path, pictures, methods=("joint",))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory, pictures):
    config = small_config(tmp_path_factory.mktemp("runs"), pictures, tasks=("red green", "blue yellow"))
    return train.main(config)


def test_a_run_leaves_everything_it_promises(run, pictures, tmp_path):
    more = {"matrix.csv", "groups.csv", memory.FOLDER}
    assert {path.name for path in run.iterdir()} == folder.FILES | more
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert "What was kept and what was forgotten" in page and "After each task, on each task" in page
    metrics = json.loads((run / "metrics.json").read_text())
    comparison = pd.read_csv(run / "comparison.csv")
    assert set(comparison["method"]) == {"streaming LDA", "replay"}
    assert metrics["tasks"] == [
        {"name": "red, green", "classes": ["red", "green"]},
        {"name": "blue, yellow", "classes": ["blue", "yellow"]},
    ]
    predictions = pd.read_csv(run / "predictions.csv")
    right = (predictions["label"] == predictions["prediction"]).mean()
    assert metrics["test"]["accuracy"] == pytest.approx(right) and right > 0.9
    # After the first task its two classes alone were asked for; the last row is what the table says.
    matrix = pd.read_csv(run / "matrix.csv").query("method == @metrics['method']")
    assert len(matrix) == 3 and len(pd.read_csv(run / "test_readings.csv")) == 1
    last = matrix[matrix["after"] == "blue, yellow"]["accuracy"]
    assert last.mean() == pytest.approx(metrics["test"]["average"])
    # What is saved answers as what was judged.
    saved = keras.models.load_model(run / "model.keras", compile=False)
    config = small_config(tmp_path, pictures, tasks=("red green", "blue yellow"))
    examples = train.load(config)
    test = examples.test.open(None, "to compare")
    judged = train.judge(config, {"": saved}, test, examples.classes)[""]
    assert (judged["prediction"].astype(str) == predictions["prediction"].to_numpy()).all()
    weights, kept, record = memory.read(run, "replay")
    assert len(kept["labels"]) == 12 and np.bincount(kept["labels"]).tolist() == [3, 3, 3, 3]
    assert record["method"] == "replay" and weights[-1].shape == (4,)
    told = pd.concat(train.predict(run, [pictures / "red", pictures / "blue"], batch_size=5))
    named = told["path"].map(lambda path: path.split("/")[-2])
    assert (told["prediction"].astype(str) == named).mean() > 0.9 and not told.columns.str.startswith(
        "if"
    ).any()
