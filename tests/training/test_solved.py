"""A solved head is scikit-learn's logistic regression, put into the network to the last digits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from runner.errors import InputError
from runner.stage import Stage
from runner.training import solved
from runner.training.fit import fit_stages


def splits(small_data, classes=4):
    images, labels = small_data[0], small_data[1].argmax(1) % classes

    def rows(chosen):
        elements = {"input": images[chosen], "label": labels[chosen].astype("int64")}
        return tf.data.Dataset.from_tensor_slices(elements)

    return rows(slice(0, 28)), rows(slice(28, 40))


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_logistic_regression_on_the_frozen_features(small_model, small_data, classes):
    model, _ = small_model()
    head = keras.layers.Dense(classes, name="classes")
    model = keras.Model(model.input, head(model.get_layer("pool").output))
    before = [variable.numpy() for variable in model.weights[:-2]]
    train, validation = splits(small_data, classes)
    found = solved.solve(model, "classes", train, validation)
    assert found.strength in solved.STRENGTHS
    for variable, old in zip(model.weights[:-2], before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)

    below = keras.Model(model.input, head.input)
    (x, y), (new, truth) = (
        (below.predict(np.stack([e["input"] for e in rows]), verbose=0), np.stack([e["label"] for e in rows]))
        for rows in (list(one.as_numpy_iterator()) for one in (train, validation))
    )
    mean, spread = x.mean(0), x.std(0) + (x.std(0) == 0)
    regression = LogisticRegression(C=found.strength, max_iter=5000).fit((x - mean) / spread, y)
    images = np.stack([element["input"] for element in validation.as_numpy_iterator()])
    chances = keras.ops.softmax(model.predict(images, verbose=0)).numpy()
    np.testing.assert_allclose(chances, regression.predict_proba((new - mean) / spread), atol=2e-3)
    loss = -np.log(chances[np.arange(len(truth)), truth]).mean()
    assert found.loss == pytest.approx(loss, rel=1e-4)


def test_a_class_without_examples_is_never_answered(small_model, small_data):
    model, _ = small_model()
    train, validation = (
        one.filter(lambda element: element["label"] != 2).cache() for one in splits(small_data)
    )
    solved.solve(model, "head", train, validation)
    images = np.stack([element["input"] for element in validation.as_numpy_iterator()])
    chances = keras.ops.softmax(model.predict(images, verbose=0)).numpy()
    assert chances[:, 2].max() < 1e-6 and np.isfinite(chances).all()


def test_examples_without_weight_say_nothing(small_model, small_data):
    images, labels = small_data[0], small_data[1].argmax(1).astype("int64")
    weights = np.where(np.arange(40) % 3 == 0, 0.0, 1.0).astype("float32")
    heads = []
    for changed in (False, True):
        model, _ = small_model()
        given = np.where(weights == 0, (labels + changed) % 4, labels)
        elements = {"id": np.arange(40), "input": images, "label": given}
        rows = tf.data.Dataset.from_tensor_slices(elements)
        solved.solve(model, "head", rows.take(28), rows.skip(28), weights)
        heads.append(model.get_layer("head").get_weights())
    for one, other in zip(*heads, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_is_no_head_is_refused(small_model, small_data):
    model, _ = small_model()
    with pytest.raises(InputError, match="which is a GlobalAveragePooling2D; give a Dense"):
        solved.solve(model, "pool", *splits(small_data))


def test_a_start_that_nothing_betters_is_handed_on(small_model, small_data):
    model, blocks = small_model()
    solved.solve(model, "head", *splits(small_data))
    start = model.get_weights()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices(small_data).batch(10)
    wrecks = [
        Stage("head", epochs=2, learning_rate=50.0),
        Stage("all", train="all", epochs=1, learning_rate=9.0),
    ]
    fitted = fit_stages(model, data, data, wrecks, blocks, keep_start=True, monitor="val_accuracy")
    for ours, theirs in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not fitted.history["handed_on"].any() and fitted.ledger["moved"].sum() > 0


def test_a_feature_that_hardly_moves_gets_no_weight(small_model, small_data):
    """Standardised it would get 1 over its spread, and the first step of a tuning would follow it
    anywhere.
    """
    model, _ = small_model()
    pooled = model.get_layer("pool").output
    dead = keras.layers.Dense(3, use_bias=False, name="nearly_dead")(pooled)
    features = keras.layers.Concatenate(name="features")([pooled, dead])
    model = keras.Model(model.input, keras.layers.Dense(4, name="classes")(features))
    kernel = np.random.default_rng(0).normal(size=(4, 3)) * [1e-30, 1e-9, 0.0]
    model.get_layer("nearly_dead").kernel.assign(kernel.astype("float32"))
    solved.solve(model, "classes", *splits(small_data))
    weights = model.get_layer("classes").kernel.numpy()
    assert (weights[4:] == 0).all() and (np.abs(weights[:4]).max(1) > 0).all()


@pytest.mark.parametrize("left_out", ["what says nothing", "what tells the class"])
def test_inputs_are_left_out_where_that_is_better_on_validation(left_out):
    random = np.random.default_rng(3)
    labels = np.arange(240) % 2
    rows = np.hstack([(2.0 * labels - 1)[:, None], np.zeros((240, 60))]) + random.normal(size=(240, 61))
    splits = [
        tf.data.Dataset.from_tensor_slices(
            {"id": ids, "input": rows[ids].astype("float32"), "label": labels[ids]}
        )
        for ids in (np.arange(40), np.arange(40, 240))
    ]
    inputs = keras.Input((61,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(keras.layers.Identity()(inputs)))
    alike, kernel = solved.solve(model, "head", *splits), model.get_layer("head").kernel.numpy()
    factor = np.float64((np.arange(61) == 0) == (left_out == "what says nothing"))
    found = solved.solve(model, "head", *splits, factors=(factor,))
    again = model.get_layer("head").kernel.numpy()
    if left_out == "what says nothing":
        assert found.loss < alike.loss - 0.02 and (again[1:] == 0).all() and again[0].all()
    else:
        assert found.loss == alike.loss
        np.testing.assert_array_equal(again, kernel)


def test_counts_are_solved_as_they_are(small_data):
    """Sparse rows, not standardised: scikit-learn's own answer on the same rows."""
    numbers, labels = np.eye(12, dtype="float32")[np.arange(36) % 12], np.arange(36) % 12 % 3
    rows = [
        tf.data.Dataset.from_tensor_slices(
            {"id": ids, "input": numbers[ids], "label": labels[ids].astype("int64")}
        )
        for ids in (np.arange(24), np.arange(24, 36))
    ]
    inputs = keras.Input((12,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.Identity()(inputs)))
    found = solved.solve(model, "head", *rows, counts=True)
    regression = LogisticRegression(C=found.strength, max_iter=5000).fit(numbers[:24], labels[:24])
    chances = keras.ops.softmax(model.predict(numbers[24:], verbose=0)).numpy()
    assert found.strength in solved.OF_COUNTS
    np.testing.assert_allclose(chances, regression.predict_proba(numbers[24:]), atol=2e-3)


def test_labels_of_tokens_give_the_head_of_all_tokens_in_one_row():
    """Those below 0 are left out, and what an example counts all of its tokens count."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(30, 6, 5)).astype("float32")
    labels = (inputs @ random.normal(size=(5, 3)) + random.normal(size=(30, 6, 3))).argmax(-1)
    labels = np.where(random.random((30, 6)) < 0.3, -1, labels).astype("int32")
    labels[4] = -1  # an example that asks nothing
    weights = random.uniform(0.5, 2.0, 30)

    def head(shape: tuple, rows: dict[str, np.ndarray], cut: int, much: np.ndarray) -> list[np.ndarray]:
        given = keras.Input(shape)
        model = keras.Model(given, keras.layers.Dense(3, name="head")(keras.layers.Identity()(given)))
        data = tf.data.Dataset.from_tensor_slices(rows)
        found = solved.solve(model, "head", data.take(cut), data.skip(cut), much)
        return [*model.get_layer("head").get_weights(), np.array([found.strength, found.loss])]

    of_rows = head((6, 5), {"id": np.arange(30), "input": inputs, "label": labels}, 20, weights)
    asked = labels >= 0
    ids = np.repeat(np.arange(30)[:, None], 6, 1)[asked]
    flat = {"id": np.arange(len(ids)), "input": inputs[asked], "label": labels[asked].astype("int64")}
    of_tokens = head((5,), flat, int((ids < 20).sum()), weights[ids])
    for one, other in zip(of_rows, of_tokens, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_tags_that_no_word_has_are_never_answered():
    inputs = np.random.default_rng(0).normal(size=(12, 4, 5)).astype("float32")
    labels = np.where(inputs[..., 0] > 0, 2, 0).astype("int32")
    rows = tf.data.Dataset.from_tensor_slices({"id": np.arange(12), "input": inputs, "label": labels})
    given = keras.Input((4, 5))
    model = keras.Model(given, keras.layers.Dense(5, name="head")(keras.layers.Identity()(given)))
    solved.solve(model, "head", rows.take(8), rows.skip(8))
    answers = np.asarray(model(inputs)).argmax(-1)
    assert set(answers.ravel()) == {0, 2} and (answers == labels).mean() > 0.8
