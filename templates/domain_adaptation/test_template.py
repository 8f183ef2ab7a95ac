"""This template on drawn pictures: its methods do what their equations say, and a run is complete."""

import dataclasses
import json
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.runs import folder
from runner.stage import Stage

from . import choice, method, model, train
from .config import Config
from .two_domains import both_domains


@pytest.fixture
def random():
    return np.random.default_rng(0)


def rows(random, count=12, dimensions=5, scale=1.0):
    return (scale * random.normal(size=(count, dimensions))).astype("float32")


# ---------------------------------------------------------------- the methods


def test_gradient_reversal_changes_nothing_but_the_sign_and_size_of_the_gradient(random):
    x = tf.Variable(rows(random))
    with tf.GradientTape() as tape:
        y = method.reverse_gradient(ops.convert_to_tensor(x), strength=0.3)
        loss = ops.sum(y**2)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(tape.gradient(loss, x), -0.3 * 2 * x.numpy(), rtol=1e-6)


def test_the_domain_loss_is_binary_cross_entropy_and_weights_count_in_proportion(random):
    source, target = rows(random, 6, 1), rows(random, 9, 1)
    expected = (np.log1p(np.exp(-source)).mean() + np.log1p(np.exp(target)).mean()) / 2
    assert float(method.domain_confusion(source, target)) == pytest.approx(expected, rel=1e-5)
    weights = random.uniform(1, 2, 6).astype("float32")
    weighted = np.average(np.log1p(np.exp(-source[:, 0])), weights=weights)
    expected = (weighted + np.log1p(np.exp(target)).mean()) / 2
    found = method.domain_confusion(source, target, 3 * weights, np.ones(9, "float32"))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_cdan_sees_every_product_of_a_feature_with_a_probability(random):
    features, logits = rows(random, 4, 3), rows(random, 4, 2)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = [[p[i, c] * features[i, d] for c in range(2) for d in range(3)] for i in range(4)]
    np.testing.assert_allclose(
        method.conditioned(ops.convert_to_tensor(features), logits), expected, rtol=1e-5
    )
    np.testing.assert_allclose(method.certainty(logits), 1 + np.exp((p * np.log(p)).sum(axis=1)), rtol=1e-5)


def test_mmd_is_0_for_equal_sets_and_what_a_double_loop_gives(random):
    source, target = rows(random, 7), rows(random, 5) + 1
    assert float(method.mmd(source, source[::-1].copy())) == pytest.approx(0, abs=1e-6)
    together = np.concatenate([source, target]).astype("float64")
    scale = np.mean([[((a - b) ** 2).sum() for a in together] for b in together])

    def kernel(first, second):
        return np.mean(
            [
                [
                    np.mean([np.exp(-((a - b) ** 2).sum() / (w * scale)) for w in (0.25, 0.5, 1, 2, 4)])
                    for a in first
                ]
                for b in second
            ]
        )

    expected = kernel(source, source) + kernel(target, target) - 2 * kernel(source, target)
    assert float(method.mmd(source, target)) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1


def test_coral_is_0_for_equal_covariances_and_its_definition_otherwise(random):
    source, target = rows(random, 9), rows(random, 8, scale=2)
    assert float(method.coral(source, source + 3)) == pytest.approx(0, abs=1e-9)
    expected = ((np.cov(source.T) - np.cov(target.T)) ** 2).sum() / (4 * 5**2)
    assert float(method.coral(source, target)) == pytest.approx(expected, rel=1e-4)


def test_mcc_is_its_definition_and_0_for_answers_without_doubt(random):
    logits, temperature = rows(random, 10, 4, scale=3), 2.5
    q = np.exp(logits / temperature)
    q /= q.sum(axis=1, keepdims=True)
    entropy = -(q * np.log(q)).sum(axis=1)
    w = 10 * (1 + np.exp(-entropy)) / (1 + np.exp(-entropy)).sum()
    confusion = q.T @ np.diag(w) @ q
    confusion /= confusion.sum(axis=1, keepdims=True)
    expected = sum(confusion[i, j] for i in range(4) for j in range(4) if i != j) / 4
    assert float(method.class_confusion(ops.convert_to_tensor(logits))) == pytest.approx(expected, rel=1e-4)
    sure = 1000 * np.eye(4, dtype="float32")
    assert float(method.class_confusion(ops.convert_to_tensor(sure))) == pytest.approx(0, abs=1e-6)


def test_pseudo_labels_count_where_the_weak_view_is_certain_and_pull_the_strong_one(random):
    weak = tf.Variable([[9.0, 0, 0], [0.1, 0, 0]])
    strong = tf.Variable(rows(random, 2, 3))
    with tf.GradientTape() as tape:
        loss = method.pseudo_labels(ops.convert_to_tensor(weak), ops.convert_to_tensor(strong), 0.95)
    first = strong.numpy()[0]
    assert float(loss) == pytest.approx((np.log(np.exp(first).sum()) - first[0]) / 2, rel=1e-5)
    to_weak, to_strong = tape.gradient(loss, [weak, strong])
    assert to_weak is None or not np.any(to_weak)
    assert np.any(to_strong[0]) and not np.any(to_strong[1])


def small_network(classes=("a", "b")):
    config = Config(backbone="small_cnn", weights="none", image_size=16)
    return model.build(config, type("Classes", (), {"classes": classes}))


def test_adabn_gives_the_targets_statistics_and_moves_nothing_else(random):
    network, _ = small_network()
    network.trainable = False
    before = {variable.path: variable.numpy() for variable in network.weights}
    images = random.integers(0, 90, (40, 16, 16, 3)).astype("uint8")
    method.adapt_batch_norm(network, [images[:20], images[20:]])
    changed = {one.path for one in network.weights if np.any(one.numpy() != before[one.path])}
    assert changed == {path for path in before if path.endswith(("moving_mean", "moving_variance"))}
    assert not network.get_layer("block1_bn").trainable
    convolved = keras.Model(network.input, network.get_layer("block1_conv").output)(images).numpy()
    layer = network.get_layer("block1_bn")
    np.testing.assert_allclose(layer.moving_mean, convolved.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
    halves = np.mean([part.var(axis=(0, 1, 2)) for part in (convolved[:20], convolved[20:])], axis=0)
    np.testing.assert_allclose(layer.moving_variance, halves, rtol=1e-3)


def test_dann_aligns_two_shifted_blobs_and_so_classifies_the_target(random):
    """Source classes lie at (-1, -1) and (1, 1); the target is the source moved by 2.5 along x, which it
    therefore must not use. A linear layer, a linear head, and a domain classifier of one hidden layer.
    """
    classes = random.integers(0, 2, 200)
    source = (random.normal(size=(200, 2), scale=0.2) + (2 * classes - 1)[:, None]).astype("float32")
    target = source + np.array([2.5, 0], "float32")

    def accuracy_on_target(strength):
        keras.utils.set_random_seed(2)
        layer, head = keras.layers.Dense(2), keras.layers.Dense(2)
        hidden, domain = keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)
        for one, width in ((layer, 2), (head, 2), (hidden, 2), (domain, 16)):
            one.build((None, width))
        variables = [
            variable for one in (layer, head, hidden, domain) for variable in one.trainable_variables
        ]
        optimizer = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 400))
        optimizer.build(variables)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                f_source, f_target = layer(source), layer(target)
                losses = keras.losses.sparse_categorical_crossentropy(
                    classes, head(f_source), from_logits=True
                )
                seen = [domain(hidden(method.reverse_gradient(f, strength))) for f in (f_source, f_target)]
                loss = ops.mean(losses) + method.domain_confusion(*seen)
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

        for _ in range(400):
            step()
        return (head(layer(target)).numpy().argmax(axis=1) == classes).mean()

    assert accuracy_on_target(0.0) < 0.7
    assert accuracy_on_target(1.0) > 0.95


# ---------------------------------------------------------------- the choice without target labels


def test_infomax_is_highest_for_certain_and_varied_answers():
    sure = 50 * np.eye(4, dtype="float32")
    labels = np.full(4, -1)

    def value(logits):
        return choice.infomax(choice.Seen(np.zeros((4, 2)), logits, labels))

    assert value(sure) == pytest.approx(np.log(4))
    assert value(0 * sure) == pytest.approx(0) and value(sure[[0, 0, 0, 0]]) == pytest.approx(0, abs=1e-6)


def test_the_weighted_risk_is_that_of_the_target_where_only_the_mixture_differs(random):
    """The network errs on the right of the line, where a tenth of the source's pictures lie, nine of the
    target's.
    """

    def side(count, share_right):
        right = random.uniform(size=count) < share_right
        features = (random.normal(size=count, scale=0.3) + np.where(right, 2, -2))[:, None]
        logits = np.stack([np.zeros(count), np.where(right, 1.0, -1.0)], axis=1)
        return choice.Seen(features.astype("float32"), logits, np.zeros(count, int))

    source_train, target_train, source = side(1500, 0.1), side(1500, 0.9), side(1500, 0.1)
    assert choice.source_risk(source) == pytest.approx(0.1, abs=0.03)
    assert choice.weighted_risk(source_train, target_train, source) == pytest.approx(0.9, abs=0.15)


def test_of_equal_methods_the_first_is_chosen_and_low_risk_wins():
    table = pd.DataFrame({"method": ["a", "b", "c"], "source_risk": [0.2, 0.1, 0.1], "infomax": [1, 2, 3]})
    assert choice.chosen(table, "source_risk") == "b" and choice.chosen(table, "infomax") == "c"


# ---------------------------------------------------------------- a run


@pytest.fixture
def domains(tmp_path, random):
    """Bars that lie or stand: dark on grey noise in the source, bright on coloured noise in the target."""
    for domain, ground, ink in (("source", (120, 120, 120), 20), ("target", (60, 110, 160), 250)):
        for name in ("lying", "standing"):
            (tmp_path / domain / name).mkdir(parents=True)
            for number in range(24):
                picture = random.normal(ground, 15, (16, 16, 3)).clip(0, 255).astype("uint8")
                place = random.integers(3, 12)
                picture[place : place + 2, 2:14] = ink
                picture = picture if name == "lying" else picture.transpose(1, 0, 2)
                Image.fromarray(picture).save(tmp_path / domain / name / f"{number}.png")
    return tmp_path


def small_config(domains, **changes) -> Config:
    config = Config(
        source=str(domains / "source"),
        target=str(domains / "target"),
        backbone="small_cnn",
        weights="none",
        image_size=16,
        batch_size=8,
        methods=("source only", "AdaBN", "CDAN"),
        stages=(Stage("all", train="all", epochs=2, learning_rate=1e-3, batch_norm="train", keep="last"),),
        machine=Machine(run_dir=str(domains / "run")),
    )
    return fields.replace(config, **changes)


def test_a_run_leaves_everything_it_promises(domains):
    run = train.main(small_config(domains))
    assert {path.name for path in run.iterdir()} == folder.FILES | {"reference.npz"}
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert 1 <= page.count('aria-label="Scatter plot of source') <= 3  # a plot of its own for each network
    assert "BatchNorm learned in stage all." in page and "estimated anew" not in page  # nothing estimates it
    metrics = json.loads((run / "metrics.json").read_text())
    manifest = pd.read_csv(run / "manifest.csv")
    tested = pd.read_csv(run / "predictions.csv")
    readings = pd.read_csv(run / "test_readings.csv")
    of_target = manifest[manifest["domain"] == "target"]
    assert len(readings) == 1 and readings["pictures"].tolist() == [len(tested)]
    assert set(tested["id"]) == set(of_target.index[of_target["split"] == "test"])
    assert metrics["test"]["accuracy"] == pytest.approx((tested["label"] == tested["prediction"]).mean())

    comparison = pd.read_csv(run / "comparison.csv")
    methods = ["source only", "AdaBN", "CDAN"]
    assert comparison["method"].tolist() == ["logistic regression on pixels", *methods]
    assert [row["method"] for row in metrics["comparison"]] == comparison["method"].tolist()
    # What it is compared with has no criterion, and is neither chosen nor the oracle.
    assert metrics["comparison"][0]["infomax"] is None and comparison["test_accuracy"].notna().all()
    assert metrics["method"] == metrics["chosen_by"]["infomax"]
    assert metrics["method"] == comparison["method"][comparison["infomax"].idxmax()]
    chosen_among = comparison[comparison["method"].isin(methods)]
    assert metrics["oracle"] == chosen_among["method"][chosen_among["test_accuracy"].idxmax()]

    # The saved model is the classifier alone, takes raw pictures and predicts what it was tested with.
    network = keras.models.load_model(run / "model.keras", compile=False)
    assert not any("domain" in variable.path for variable in network.variables)
    examples = train.load(small_config(domains)).target
    images = np.stack([element["input"].numpy() for element in examples.test.open(None, "to compare")])
    chosen = [metrics["classes"][index] for index in network.predict(images, verbose=0).argmax(1)]
    assert chosen == tested["prediction"].tolist()


@pytest.mark.slow
def test_what_starts_from_nothing_stands_beside_the_methods(domains):
    config = small_config(
        domains,
        backbone="MobileNet-0.25",
        weights="letters_in_photos",
        image_size=32,
        methods=("source only",),
        stages=(Stage("all", train="all", epochs=1, learning_rate=1e-3, keep="last"),),
        scratch_lengths=(1, 2),
    )
    run = train.main(config)
    assert "could not be" not in (run / "report.html").read_text()
    table = pd.read_csv(run / "comparison.csv", keep_default_na=False).set_index("method")
    rivals = ["logistic regression on pixels", "frozen + solved", "from scratch"]
    assert list(table.index) == [*rivals, "source only"]
    assert table["pretrained"].tolist() == [False, True, False, True]
    assert (table.loc[rivals, "infomax"] == "").all() and table.loc["source only", "infomax"] != ""
    assert table.loc["from scratch", "recipe"].split(",")[0] in ("1 epochs", "2 epochs")
    assert "for 1 epochs" not in (run / "test_readings.csv").read_text()
    assert json.loads((run / "metrics.json").read_text())["method"] == "source only"


def test_no_label_of_the_target_is_there_before_the_test(domains):
    loaded = train.load(small_config(domains))
    for split in (loaded.target.train, loaded.target.val):
        assert {int(element["label"]) for element in split} == {-1}
    batch = next(iter(both_domains(small_config(domains), loaded, "DANN").named()))
    assert set(batch) == {"id", "input", "label"} and np.all(batch["label"].numpy().sum(axis=1) == 1)
    source = batch["id"].numpy()[8:]
    assert (loaded.manifest.loc[source, "domain"] == "source").all()
    classes = np.array(loaded.classes)[batch["label"].numpy().argmax(axis=1)]
    assert loaded.manifest.loc[source, "label"].tolist() == classes.tolist()


def test_unlabelled_pictures_join_the_targets_training_pictures(domains, random):
    (domains / "scans" / "monday").mkdir(parents=True)
    pictures = random.integers(0, 256, (5, 16, 16, 3)).astype("uint8")
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(domains / "scans" / "monday" / f"{number}.png")
    (domains / "scans" / "broken.png").write_bytes(b"no picture")
    config = small_config(domains, target_unlabelled=str(domains / "scans"))
    loaded = train.load(config)
    added = list(loaded.target.train.as_numpy_iterator())[-5:]
    rows = loaded.manifest.loc[[int(one["id"]) for one in added]]
    assert (rows["domain"] == "unlabelled").all() and {int(one["label"]) for one in added} == {-1}
    for one, path in zip(added, rows["path"], strict=True):
        np.testing.assert_array_equal(one["input"], np.asarray(Image.open(path)))
    assert (
        loaded.manifest["path"][loaded.manifest["split"] == "skipped"].str.endswith("broken.png").sum() == 1
    )
    assert loaded.target.problems["path"].str.endswith("broken.png").sum() == 1
    with pytest.raises(InputError, match="1 of 6 files are no pictures"):
        train.load(dataclasses.replace(config, on_bad_data="stop"))


def test_batches_go_on_from_any_step_and_the_strong_view_is_of_the_same_pictures(domains):
    loaded, config = train.load(small_config(domains)), small_config(domains)
    # 30 source and 30 target pictures: three full batches of 8 an epoch.
    batches = both_domains(config, loaded, "pseudo-labels")
    whole, later = list(batches.after(0).take(8)), list(batches.after(5).take(3))
    for first, second in zip(whole[5:], later, strict=True):
        for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
            np.testing.assert_array_equal(one, other)
    alike = dataclasses.replace(config, augment_strong=config.augment)
    image = next(iter(both_domains(alike, loaded, "pseudo-labels").named()))["input"]
    np.testing.assert_array_equal(image["target"], image["strong"])


def test_a_weight_of_0_is_source_only_to_the_bit_and_any_other_is_not(random):
    images = {name: random.integers(0, 255, (8, 16, 16, 3)).astype("uint8") for name in ("source", "target")}
    images["strong"] = images["target"]
    labels = np.eye(2, dtype="float32")[random.integers(0, 2, 8)]

    def after_two_steps(name, weight):
        keras.utils.set_random_seed(0)
        network, _ = small_network()
        config = Config(
            ramp=0.0, threshold=0.0, **{name.lower().replace("-", "_"): weight} if weight is not None else {}
        )
        adapting = model.Adapting(network, name, config, steps=2)
        adapting.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), run_eagerly=True)
        for _ in range(2):
            adapting.train_on_batch(images, labels)
        return np.concatenate([variable.numpy().ravel() for variable in network.weights])

    plain = after_two_steps("source only", None)
    for name in ("DANN", "CDAN", "MMD", "CORAL", "MCC", "pseudo-labels"):
        np.testing.assert_array_equal(after_two_steps(name, 0.0), plain)
        assert np.any(after_two_steps(name, 0.5) != plain), name


def test_weights_of_the_source_weigh_its_loss(random):
    images = {name: random.integers(0, 255, (8, 16, 16, 3)).astype("uint8") for name in ("source", "target")}
    labels = np.eye(2, dtype="float32")[random.integers(0, 2, 8)]
    losses = []
    for weights in (None, np.full(8, 3.0, "float32"), np.zeros(8, "float32")):
        keras.utils.set_random_seed(0)
        network, _ = small_network()
        adapting = model.Adapting(network, "source only", Config(), steps=2)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        adapting.compile("sgd", loss, weighted_metrics=["accuracy"], run_eagerly=True)
        losses.append(adapting.train_on_batch(images, labels, sample_weight=weights)[0])
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-5) and losses[2] == 0


def test_mistakes_are_found_before_anything_is_written(domains):
    with pytest.raises(InputError, match="image_size=8"):
        small_config(domains, image_size=8)
    with pytest.raises(InputError, match="'source only' too"):
        small_config(domains, methods=("MCC",))
    with pytest.raises(InputError, match="is not a tuple|is not one of|methods"):
        small_config(domains, methods=("source only", "DAN"))
    with pytest.raises(InputError, match="batch_size=64 is more than the"):
        train.main(small_config(domains, batch_size=64))
    with pytest.raises(InputError, match="random weights, whose BatchNorm statistics no stage lets learn"):
        train.main(small_config(domains, stages=(Stage("all", train="all"),)))
    (domains / "target" / "standing").rename(domains / "target" / "upright")
    with pytest.raises(InputError, match="only in the source: standing; only in the target: upright"):
        train.main(small_config(domains))
    assert not (domains / "run").exists()


def test_a_choice_without_validation_pictures_is_refused_before_training():
    def domain(pictures):
        return SimpleNamespace(val=tf.data.Dataset.range(pictures))

    choice.check(SimpleNamespace(source=domain(2), target=domain(2)))
    with pytest.raises(InputError, match="a target with 1 validation picture; two are needed"):
        choice.check(SimpleNamespace(source=domain(2), target=domain(1)))
