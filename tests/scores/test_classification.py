"""One pass gives every model's predictions, and the numbers are those that scikit-learn gives."""

import json
import time

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.special
import sklearn.metrics
import tensorflow as tf

from runner.errors import InputError
from runner.networks import inference
from runner.scores import classification, intervals

CLASSES = ("cat", "dog", "<b>bird</b>")


def pictures_model(classes, scale=1.0, activation=None):
    inputs = keras.Input((8, 8, 3), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    initial = keras.initializers.RandomNormal(stddev=scale)
    return keras.Model(
        inputs, keras.layers.Dense(classes, kernel_initializer=initial, activation=activation)(x)
    )


def counted_dataset(examples, classes=3, first_label=0):
    """A dataset that counts, in the list that comes with it, each example it hands out."""
    handed_out, random = [], np.random.default_rng(3)
    images = random.integers(0, 256, (examples, 8, 8, 3), dtype=np.uint8)
    labels = first_label + random.integers(0, classes, examples)

    def generate():
        for number in range(examples):
            handed_out.append(number)
            yield {"id": 100 + number, "input": images[number], "label": labels[number]}

    signature = {
        "id": tf.TensorSpec((), tf.int64),
        "input": tf.TensorSpec((8, 8, 3), tf.uint8),
        "label": tf.TensorSpec((), tf.int64),
    }
    return tf.data.Dataset.from_generator(generate, output_signature=signature), images, labels, handed_out


def predict(models, dataset, classes=CLASSES, batch_size=64):
    return classification.tables(*inference.outputs(models, dataset, batch_size), classes)


def table(truth, predicted, classes, seed=0):
    """A prediction table whose argmax is `predicted`."""
    logits = np.random.default_rng(seed).normal(size=(len(truth), len(classes)))
    logits[np.arange(len(truth)), predicted] = logits.max(axis=1) + 0.1
    return classification._table("model", np.arange(len(truth)), np.asarray(truth), logits, list(classes))


def random_table(examples, number_of_classes, seed=0):
    random = np.random.default_rng(seed)
    truth = random.choice(number_of_classes, examples, p=random.dirichlet(np.ones(number_of_classes)))
    predicted = np.where(
        random.random(examples) < 0.6, truth, random.integers(0, number_of_classes, examples)
    )
    classes = [f"class {number}" for number in range(number_of_classes)]
    return table(truth, predicted, classes, seed), truth, predicted, classes


def test_all_models_are_predicted_in_one_pass():
    dataset, images, labels, handed_out = counted_dataset(21)
    models = {"first": pictures_model(3), "second": pictures_model(3)}
    frames = predict(models, dataset, batch_size=8)  # 8 + 8 + 5: the last batch is short
    assert handed_out == list(range(21))
    for name, model in models.items():
        logits = model.predict(images, verbose=0)
        np.testing.assert_allclose(
            frames[name][[f"p:{one}" for one in CLASSES]],
            scipy.special.softmax(logits, axis=1),
            rtol=1e-4,
            atol=1e-6,
        )
        assert list(frames[name]["prediction"]) == [CLASSES[place] for place in logits.argmax(axis=1)]
        assert list(frames[name]["label"]) == [CLASSES[label] for label in labels]
        assert list(frames[name]["id"]) == list(range(100, 121))
        np.testing.assert_allclose(frames[name]["confidence"], frames[name].filter(like="p:").max(axis=1))


def test_many_models_draw_no_warning_about_tracing(caplog):
    dataset, *_ = counted_dataset(4)
    tf.get_logger().propagate, propagates = True, tf.get_logger().propagate
    try:
        predict({f"m{number}": pictures_model(3) for number in range(8)}, dataset)
    finally:
        tf.get_logger().propagate = propagates
    assert "retracing" not in caplog.text


def test_a_model_made_under_a_strategy_gives_each_picture_once():
    strategy = tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")]
    )
    with strategy.scope():
        model = pictures_model(3)
    dataset, images, _, _ = counted_dataset(5)
    frame = predict({"mirrored": model}, dataset)["mirrored"]
    expected = scipy.special.softmax(model(images, training=False).numpy(), axis=1)
    np.testing.assert_allclose(frame.filter(like="p:"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "classes", "words"),
    [
        (
            lambda: pictures_model(3, scale=np.nan),
            CLASSES,
            ["NaN or infinite", "has id 100", "lower learning rate"],
        ),
        (lambda: pictures_model(3, scale=np.inf), CLASSES, ["NaN or infinite"]),
        (lambda: pictures_model(3, activation="softmax"), CLASSES, ["probabilities", "softmax off"]),
        (lambda: pictures_model(2), CLASSES, ["(6, 2)", "(6, 3)", "Dense(3)"]),
        (lambda: pictures_model(2), CLASSES[:2], ["labels from", "0 to 1"]),
        (lambda: pictures_model(3), ("a", "a", "b"), ["3 class names, 2"]),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(model, classes, words):
    with pytest.raises(InputError) as caught:
        predict({"mine": model()}, counted_dataset(6)[0], classes)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_nothing_to_evaluate_is_said():
    with pytest.raises(InputError, match="no models"):
        predict({}, counted_dataset(2)[0])
    with pytest.raises(InputError, match="no examples"):
        predict({"mine": pictures_model(3)}, counted_dataset(0)[0])
    with pytest.raises(InputError, match="without rows"):
        classification.metrics(table([0], [0], CLASSES).head(0), CLASSES)
    with pytest.raises(InputError, match="'dog', which is none of the 2 classes"):
        classification.metrics(table([0], [1], CLASSES), ("cat", "bird"))


@pytest.mark.parametrize("number_of_classes", [2, 5, 6, 30])
def test_metrics_are_scikit_learns(number_of_classes):
    predictions, truth, predicted, classes = random_table(400, number_of_classes)
    numbers = classification.metrics(predictions, classes, resamples=50)
    report = sklearn.metrics.classification_report(
        predictions["label"], predictions["prediction"], output_dict=True, zero_division=0
    )
    assert numbers["accuracy"] == pytest.approx(np.mean(truth == predicted))
    for average in ("macro", "weighted"):
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert numbers[f"{average}_{name}"] == pytest.approx(report[f"{average} avg"][key])
    assert ("top5_accuracy" in numbers) == (number_of_classes > 5)
    if number_of_classes > 5:
        probabilities = predictions[[f"p:{name}" for name in classes]].to_numpy()
        in_five = [label in np.argsort(row)[-5:] for label, row in zip(truth, probabilities, strict=True)]
        assert numbers["top5_accuracy"] == pytest.approx(np.mean(in_five))
    assert numbers["examples"] == 400 and json.loads(json.dumps(numbers)) == numbers


def test_per_class_and_confusion_are_scikit_learns():
    predictions, truth, predicted, classes = random_table(300, 7)
    rows = classification.per_class(predictions, classes).set_index("class")
    report = sklearn.metrics.classification_report(
        predictions["label"], predictions["prediction"], output_dict=True, zero_division=0
    )
    for name in set(predictions["label"]):
        expected = [report[name][key] for key in ("precision", "recall", "f1-score", "support")]
        assert list(rows.loc[name, ["precision", "recall", "f1", "support"]]) == pytest.approx(expected)
    counts = classification.confusion(predictions, classes)
    assert counts.loc["class 2", "class 3"] == np.sum((truth == 2) & (predicted == 3))
    assert counts.to_numpy().sum() == 300 and (counts.index.name, counts.columns.name) == (
        "truth",
        "prediction",
    )


def test_a_class_without_examples_does_not_lower_the_macro_average():
    predictions = table([0, 0, 1, 1], [0, 0, 1, 0], CLASSES)
    rows = classification.per_class(predictions, CLASSES)
    assert rows["f1"].isna().tolist() == [False, False, True] and rows["support"].tolist() == [2, 2, 0]
    numbers = classification.metrics(predictions, CLASSES)
    assert numbers["macro_f1"] == pytest.approx(rows["f1"].mean()) == pytest.approx((0.8 + 2 / 3) / 2)


def test_a_table_read_back_from_csv_gives_the_same_numbers(tmp_path):
    digits = [str(digit) for digit in range(10)]
    predictions = table(np.arange(40) % 10, np.arange(40) * 3 % 10, digits)
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    again = pd.read_csv(tmp_path / "predictions.csv")  # the labels are integers now
    assert classification.metrics(again, digits) == classification.metrics(predictions, digits)


def test_the_bootstrap_is_that_of_resampled_examples():
    predictions, truth, predicted, classes = random_table(200, 4)
    accuracies, macro_f1s = classification._bootstrap(truth, predicted, 4, 4000, seed=1)
    random = np.random.default_rng(2)
    direct = []
    for _ in range(400):
        drawn = random.integers(0, 200, 200)
        direct.append(
            (
                np.mean(truth[drawn] == predicted[drawn]),
                sklearn.metrics.f1_score(truth[drawn], predicted[drawn], average="macro", zero_division=0),
            )
        )
    # Each side resamples anew; of 400, a quantile near the edge is known to about 0.15 of a deviation.
    for ours, theirs in zip((accuracies, macro_f1s), np.transpose(direct), strict=True):
        assert abs(ours.mean() - theirs.mean()) < 0.2 * theirs.std()
        assert ours.std() == pytest.approx(theirs.std(), rel=0.15)
        assert (
            np.abs(np.percentile(ours, [5, 95]) - np.percentile(theirs, [5, 95])).max() < 0.5 * theirs.std()
        )


def test_the_interval_covers_a_known_accuracy_about_95_times_in_100():
    random = np.random.default_rng(0)
    covered = 0
    for repeat in range(300):
        truth = random.integers(0, 2, 200)
        predicted = np.where(random.random(200) < 0.8, truth, 1 - truth)
        low, high = intervals.percentile(classification._bootstrap(truth, predicted, 2, 500, seed=repeat)[0])
        covered += low <= 0.8 <= high
    assert 0.90 <= covered / 300 <= 0.98  # three deviations of a binomial with 0.95 and 300 are 0.038


def test_intervals_repeat_with_their_seed_and_hold_the_value():
    predictions, _, _, classes = random_table(300, 5)
    numbers = classification.metrics(predictions, classes, seed=4)
    assert numbers == classification.metrics(predictions, classes, seed=4)
    assert (
        numbers["accuracy_interval"]
        != classification.metrics(predictions, classes, seed=5)["accuracy_interval"]
    )
    for name in ("accuracy", "macro_f1"):
        low, high = numbers[f"{name}_interval"]
        assert low < numbers[name] < high


def test_a_thousand_resamples_of_ten_thousand_examples_take_under_two_seconds():
    _, truth, predicted, _ = random_table(10_000, 100)
    started = time.process_time()
    classification._bootstrap(truth, predicted, 100, 1000, seed=0)
    assert time.process_time() - started < 2
