"""This template on drawn pictures: its losses are what their equations say, a collapse is noticed, no judged
picture is learned from, and a run is complete and goes on in any template.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from runner import fields
from runner.errors import CollapseError, InputError
from runner.machine import Machine
from runner.networks import backbones
from runner.networks.backbones import Block
from runner.runs import folder
from runner.stage import Stage
from runner.training.checkpoint import Checkpointing

from . import method, model, pictures, similar, train
from .config import Config
from .watch import Watch

COLOURS = {"red": (190, 60, 60), "blue": (60, 60, 190), "green": (60, 190, 60)}


def draw(place: Path, names=("red", "blue"), count=12, start=0) -> Path:
    """Noisy squares of a colour per folder."""
    for number, name in enumerate(names):
        random = np.random.default_rng([number, start])
        (place / name).mkdir(parents=True)
        for picture in range(count):
            noise = random.normal(COLOURS[name], 25, (40, 40, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(noise).save(place / name / f"{picture}.png")
    return place


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures")


def small_config(tmp_path, data, **changes) -> Config:
    config = Config(
        data=str(data),
        labelled=str(data),
        labels=(2, 4),
        image_size=32,
        batch_size=8,
        projection=16,
        augment="light",
        figure=False,
        val_fraction=0.25,
        tuning_epochs=0,
        baselines=False,
        stages=(Stage("all", train="all", epochs=2, learning_rate=1e-3, batch_norm="train", keep="last"),),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


# ---------------------------------------------------------------- losses and numbers


def rows(seed: int, count=6, width=4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype("float32")


def test_nt_xent_is_its_equation():
    first, second = rows(0), rows(1)
    z = method.of_length_1(np.concatenate([first, second]))
    similar_ = z @ z.T / 0.3
    expected = []
    for i in range(12):
        among = np.delete(similar_[i], i)
        expected.append(-similar_[i, (i + 6) % 12] + np.log(np.exp(among).sum()))
    found = float(method.nt_xent(first, second, 0.3))
    assert found == pytest.approx(np.mean(expected), rel=1e-5)
    # Two views that are one, apart from all others: the lower the temperature the nearer to 0.
    apart = np.eye(4, dtype="float32")
    assert float(method.nt_xent(apart, apart, 0.05)) < 1e-6


def test_simsiam_barlow_twins_and_vicreg_are_their_equations():
    first, second = rows(0), rows(1)
    p_1, p_2 = rows(2), rows(3)
    cosine = lambda a, b: (method.of_length_1(a) * method.of_length_1(b)).sum(1).mean()  # noqa: E731
    assert float(method.simsiam(first, second, p_1, p_2)) == pytest.approx(
        -(cosine(p_1, second) + cosine(p_2, first)) / 2, rel=1e-5
    )
    whole = [(one - one.mean(0)) / one.std(0) for one in (first, second)]
    c = whole[0].T @ whole[1] / 6
    off = c[~np.eye(4, dtype=bool)]
    expected = ((1 - np.diag(c)) ** 2).sum() + 0.1 * (off**2).sum()
    assert float(method.barlow_twins(first, second, 0.1)) == pytest.approx(expected, rel=1e-3)
    near, spreads, shared = ((first - second) ** 2).mean(), 0.0, 0.0
    for one in (first, second):
        covariance = np.cov(one.T)
        shared += (covariance[~np.eye(4, dtype=bool)] ** 2).sum() / 4
        spreads += np.maximum(0, 1 - np.sqrt(one.var(0, ddof=1) + 1e-4)).mean()
    assert float(method.vicreg(first, second)) == pytest.approx(25 * near + 25 * spreads + shared, rel=1e-4)
    same = np.ones((6, 4), "float32")
    assert float(method.vicreg(same, same)) > 40  # one projection for all is no way out


def test_no_gradient_flows_through_what_simsiam_stops():
    first, second, p_1, p_2 = (tf.Variable(rows(seed)) for seed in range(4))
    with tf.GradientTape() as tape:
        loss = method.simsiam(first, second, p_1, p_2)
    found = tape.gradient(loss, [first, second, p_1, p_2])
    assert found[0] is None and found[1] is None and found[2] is not None and found[3] is not None


def test_numbers_of_features_have_the_values_that_are_known():
    one_place = np.tile([[1.0, 2.0, 3.0]], (5, 1))
    assert method.alignment(one_place, one_place) == pytest.approx(0)
    assert method.alignment(one_place, -one_place) == pytest.approx(4)
    assert method.uniformity(one_place) == pytest.approx(0)
    assert method.uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
    assert method.spread(one_place) == pytest.approx(0, abs=1e-6)
    assert method.spread(rows(0, 4000, 32)) == pytest.approx(1, abs=0.01)
    assert method.effective_rank(one_place) == 1
    assert method.effective_rank(np.concatenate([np.eye(8), -np.eye(8)])) == pytest.approx(8, rel=1e-3)
    assert method.effective_rank(rows(0, 400, 1) * np.ones((1, 8))) == pytest.approx(1, abs=0.01)
    among, labels = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), np.array([0, 0, 1])
    assert method.neighbours_vote(np.array([[1.0, 0.1], [0.0, 2.0]]), among, labels, 2, 1).tolist() == [0, 1]


# ---------------------------------------------------------------- what is learned from


def test_labels_are_hidden_and_judged_pictures_are_not_learned_from(tmp_path, drawn):
    more = draw(tmp_path / "more" / "deep" / "er", ("green",), 10)
    for path in (drawn / "red").iterdir():  # the very pictures, in another place
        (more / path.name).write_bytes(path.read_bytes())
    (more / "broken.png").write_bytes(b"no picture")
    found = train.load(small_config(tmp_path, tmp_path / "more", labelled=str(drawn)))
    assert set(found.unlabelled.train.element_spec) == {"id", "input"}
    learned = [int(one["id"]) for one in found.unlabelled.train.as_numpy_iterator()]
    manifest = found.manifest
    assert len(set(learned)) == len(learned)
    kept_out = set(manifest["sha256"][manifest["split"].isin(["val", "test"])])
    assert kept_out and not kept_out & set(manifest["sha256"][learned])
    of_red = manifest[
        (manifest["source"] == "unlabelled") & manifest["path"].str.fullmatch(r"deep/er/\d+\.png")
    ]
    assert of_red["split"].value_counts().to_dict().keys() == {"unlabelled", "unused"}
    assert (manifest["split"][learned].isin(["train", "unlabelled"])).all()
    assert set(found.problems["kind"]) >= {"duplicate", "unreadable"}
    # Views are of the pictures, two different ones, and the same for whoever asks.
    config = small_config(tmp_path, drawn)
    one, again = (next(iter(pictures.two_views(config, found).after(3))) for _ in range(2))
    for name in ("first", "second"):
        np.testing.assert_array_equal(one["input"][name], again["input"][name])
    assert (one["input"]["first"].numpy() != one["input"]["second"].numpy()).any()


def test_bad_input_is_answered_in_one_line_before_anything_trains(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *_: pytest.fail("it trains"))

    def answer(**changes) -> str:
        with pytest.raises(InputError) as error:
            train.main(small_config(tmp_path, changes.pop("data", drawn), **changes))
        assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
        return str(error.value)

    one = draw(tmp_path / "one", ("red",), 1)
    assert "1 usable picture" in answer(data=one, labelled="")
    assert "two classes are needed" in answer(data=draw(tmp_path / "alone", ("red",)))
    assert "batch_size=500 and" in answer(batch_size=500)
    assert "where 100 of each class are needed" in answer(labels=(2, 100))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "without a picture" in answer(data=empty, labelled="")
    assert "Unknown weights 'ResNet50'" in answer(supervised="ResNet50", baselines=True)
    for wrong in ({"labels": (5, 2)}, {"ramp": (0.5, 0.2)}, {"batch_size": 1}, {"temperature": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            small_config(tmp_path, drawn, **wrong)


# ---------------------------------------------------------------- training


def tiny() -> keras.Model:
    """A network of features of one convolution."""
    image = keras.Input((32, 32, 3), name="image")
    x = keras.ops.cast(image, "float32")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="rescaling")(x)
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu", name="conv")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="tiny")


def build_tiny(config: Config, weights: str | None = None):
    """In the place of `model.build`, for runs that take seconds."""
    network = tiny()
    place = Path(weights or config.weights)
    if place.is_dir():
        saved = keras.models.load_model(place / "model.keras", compile=False)
        network.get_layer("conv").set_weights(saved.get_layer("conv").get_weights())
    return network, (Block("conv", ("conv",)),)


def test_every_method_moves_backbone_projector_and_predictor(tmp_path, drawn):
    random = np.random.default_rng(0)
    first, second = random.integers(0, 256, (2, 8, 32, 32, 3)).astype("uint8")
    for name in method.NAMES:
        learner = model.TwoViews(tiny(), small_config(tmp_path, drawn, method=name), lambda network: {})
        learner.compile(optimizer=keras.optimizers.SGD(1e-2))
        before = [one.numpy() for one in learner.trainable_variables]
        logs = learner.train_step({"first": first, "second": second})
        assert np.isfinite(float(logs["loss"]))
        after = [one.numpy() for one in learner.trainable_variables]
        still = [
            one.path
            for one, old, new in zip(learner.trainable_variables, before, after, strict=True)
            if (old == new).all() and not one.path.endswith("bias")
        ]
        assert not still, (name, still)
        assert any("predictor" in one.path for one in learner.trainable_variables) == (name == "SimSiam")


def test_a_collapse_is_noticed_and_a_sound_training_is_not_taken_for_one(tmp_path, drawn, monkeypatch):
    config = small_config(tmp_path, drawn, method="SimSiam", augment="contrastive")
    found = train.load(config)
    some = [batch for _, batch in zip(range(20), pictures.two_views(config, found).after(0), strict=False)]
    views = {name: np.stack([one["input"][name] for one in some]) for name in ("first", "second")}

    def trained() -> tuple[model.TwoViews, Watch]:
        keras.utils.set_random_seed(1)
        watch = Watch(config, found)
        learner = model.TwoViews(tiny(), config, watch)
        learner.compile(optimizer=keras.optimizers.Adam(0.1))
        steps = tf.data.Dataset.from_tensor_slices(views).repeat()
        learner.fit(steps, steps_per_epoch=60, verbose=0)
        return learner, watch

    learner, watch = trained()
    seen = learner.evaluate(return_dict=True)
    assert set(seen) == {"loss", "alignment", "uniformity", "effective_rank", "spread", "accuracy"}
    assert seen["spread"] > 0.9
    # Without the stop the projections come together (section 4.1 of the paper); how far within so few steps
    # depends on the last bit, between .01 and .1 here, so that the alarm itself is asked below.
    with monkeypatch.context() as patch:
        patch.setattr(method.ops, "stop_gradient", lambda one: one)
        patch.setattr(Watch, "alarm", lambda self, network: None)
        other, _ = trained()
        assert other.evaluate(return_dict=True)["spread"] < 0.5
    # All pictures become one where the last normalisation multiplies by nothing.
    last = learner.projector.get_layer("projection_bn")
    last.gamma.assign(keras.ops.zeros_like(last.gamma))
    last.beta.assign(keras.ops.ones_like(last.beta))
    with pytest.raises(CollapseError, match="features collapsed: .* learning_rate, or a larger batch_size"):
        learner.evaluate(return_dict=True)
    assert watch.last["spread"] < 0.05


@pytest.mark.slow
def test_a_training_that_was_stopped_within_an_epoch_ends_as_one_that_was_not(
    tmp_path, drawn, monkeypatch, capsys
):
    monkeypatch.setattr(model, "build", build_tiny)
    config = small_config(tmp_path, drawn, figure=True)
    found = train.load(config)
    assert int(found.unlabelled.train.cardinality()) // config.batch_size == 1
    config = fields.replace(config, batch_size=4)
    whole, fitted = train.fit(config, found, "", Checkpointing(tmp_path / "whole", 1))
    # BatchNorm learned, and validation read the statistics of its batches: no word of moving averages.
    assert fitted.ledger["statistics_moved"].sum() and not fitted.by_averages
    assert "moving averages" not in capsys.readouterr().out
    place = Checkpointing(tmp_path / "stopped", 1)
    given = train.fit_stages

    left = [4]  # steps: to within the second epoch of three

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("the power went")

    def interrupted(*arguments, **options):
        return given(*arguments, **options | {"callbacks": [Stop()]})

    monkeypatch.setattr(train, "fit_stages", interrupted)
    with pytest.raises(RuntimeError, match="the power went"):
        train.fit(config, found, "", place)
    left[0] = 10**6
    again, resumed = train.fit(config, found, "", place)
    for one, other in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    columns = [name for name in fitted.history if name != "seconds"]
    pd.testing.assert_frame_equal(fitted.history[columns], resumed.history[columns])


@pytest.fixture(scope="module")
def run(tmp_path_factory, drawn):
    place = tmp_path_factory.mktemp("self_supervised")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "build", build_tiny)
        return train.main(small_config(place, drawn, baselines=True, supervised="none", tuning_epochs=1))


def test_a_run_leaves_everything_it_promises(run, tmp_path, drawn):
    assert {path.name for path in run.iterdir()} == folder.FILES | {similar.NAME}
    assert "could not be" not in (run / "report.html").read_text()
    page, metrics = (run / "report.html").read_text(), json.loads((run / "metrics.json").read_text())
    assert "Was it worth it" in page and "What is taken for alike" in page and "Seen while it learned" in page
    comparison = pd.read_csv(run / "comparison.csv")
    names = {"logistic regression on pixels", "untrained, frozen + solved", "SimCLR, frozen + solved"}
    names |= {"SimCLR, staged", "from scratch"}
    assert set(comparison["method"]) == names == set(metrics["baselines"]) | {metrics["method"]}
    assert {"test_accuracy", "test_accuracy_2_labels", "test_accuracy_4_labels"} <= set(comparison.columns)
    predictions = pd.read_csv(run / "predictions.csv")
    right = (predictions["label"] == predictions["prediction"]).mean()
    assert metrics["test"]["accuracy"] == pytest.approx(right) and metrics["test"]["examples"] == len(
        predictions
    )
    assert metrics["verdict"].startswith("SimCLR: ") and "points" in metrics["verdict"]
    assert len(pd.read_csv(run / "test_readings.csv")) == 1
    history = pd.read_csv(run / "history.csv")
    assert {
        f"val_{name}" for name in ("loss", "alignment", "uniformity", "effective_rank", "spread", "accuracy")
    } <= set(history.columns)
    # What a run hands out is never worse on validation than what it began with.
    values = comparison.set_index("method")["val_accuracy"]
    assert values[metrics["method"]] == max(
        values["untrained, frozen + solved"], values["SimCLR, frozen + solved"]
    )


@pytest.mark.slow
def test_the_run_is_what_any_template_takes_as_weights(tmp_path, drawn):
    run = train.main(small_config(tmp_path, drawn))
    saved = keras.models.load_model(run / "model.keras", compile=False)
    backbone = backbones.build("SmallConv", 32, str(run))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    pictures_ = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    features = keras.Model(backbone.input, x)(pictures_)
    np.testing.assert_allclose(saved(pictures_), features, atol=1e-5)
    untrained = backbones.build("SmallConv", 32, "none")
    assert any(
        (one.numpy() != other.numpy()).any()
        for one, other in zip(backbone.weights, untrained.weights, strict=True)
    )
    with pytest.raises(InputError, match="does not hold the weights of MobileNet-0.25"):
        backbones.build("MobileNet-0.25", 32, str(run))


def test_new_pictures_are_given_their_like_and_their_features(run, tmp_path, drawn):
    new = draw(tmp_path / "new", ("red",), 3, start=7)
    (new / "broken.png").write_bytes(b"no picture")
    learned = similar.read(run).paths
    first = next(drawn / one for one in learned if (drawn / one).is_file())
    table = pd.concat(train.predict(run, [new, first], folder=tmp_path / "features", batch_size=3))
    assert list(table.columns) == [
        "path",
        *(f"similar_{n}" for n in (1, 2, 3)),
        *(f"cosine_{n}" for n in (1, 2, 3)),
        "note",
    ]
    assert table["similar_1"].isna().sum() == 1 and table.loc[table["note"] != "", "cosine_1"].isna().all()
    own = table.iloc[-1]  # it was learned from: nothing is more like it than itself
    assert own["cosine_1"] == pytest.approx(1, abs=1e-3) and own["similar_1"] in learned
    parts = [np.load(path) for path in sorted((tmp_path / "features").iterdir())]
    assert sum(len(one) for one in parts) == len(table) and np.isnan(np.concatenate(parts)).any(1).sum() == 1


def test_without_labels_there_is_no_verdict_and_the_page_says_so(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(model, "build", build_tiny)
    config = small_config(tmp_path, drawn, labelled="", method="VICReg", baselines=True)
    made = train.main(config)
    page, metrics = (made / "report.html").read_text(), json.loads((made / "metrics.json").read_text())
    assert "could not be" not in page and "No labels were given" in page and "What is taken for alike" in page
    assert metrics["classes"] == ["pictures"] and 0 <= metrics["test"]["found_again"] <= 1
    assert set(metrics["features"]) >= {"val_alignment", "val_uniformity", "val_effective_rank"}
    assert "val_accuracy" not in metrics["features"]
    assert "there is no verdict" in metrics["verdict"]
    predictions = pd.read_csv(made / "predictions.csv")
    assert (predictions["found_again"] == (predictions["rank"] == 1)).all()
