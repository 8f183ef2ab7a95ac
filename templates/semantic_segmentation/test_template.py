"""This template on two dozen drawn pictures: it learns, moves what it says it moves, and leaves a
complete run folder.
"""

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
from runner.picture_runs import predict
from runner.runs import folder
from runner.scores import segmentation
from runner.stage import Stage

from . import method, model, rival, sections, train
from .config import Config


@pytest.fixture
def folder_of_pictures(tmp_path):
    """24 noisy pictures of 48 x 40 with a reddish square (1) on blue (0); their frame is ignored (9)."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    for number in range(24):
        mask = np.zeros((40, 48), np.uint8)
        top, left = random.integers(4, 16, 2)
        mask[top : top + 18, left : left + 18] = 1
        colours = np.array([(60, 60, 190), (190, 60, 60)])[mask]
        noisy = random.normal(colours, 25).clip(0, 255).astype("uint8")
        mask[[0, -1]] = mask[:, [0, -1]] = 9
        Image.fromarray(noisy).save(tmp_path / "pictures" / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(tmp_path / "pictures" / "masks" / f"{number:02}.png")
    (tmp_path / "pictures" / "classes.txt").write_text("ground\nsquare\n")
    return tmp_path / "pictures"


def small_config(tmp_path, pictures, **changes) -> Config:
    config = Config(
        data=str(pictures),
        ignore=(9,),
        resize="pad",
        backbone="MobileNet-0.25",
        weights="none",
        image_size=32,
        decoder_channels=4,
        batch_size=4,
        scratch_lengths=(1,),
        stages=(
            Stage("decoder", train="head", epochs=2, learning_rate=0.01),
            Stage("all", train="all", epochs=8, learning_rate=0.01, batch_norm="train", keep="last"),
        ),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


@pytest.mark.parametrize("baselines", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_leaves_everything_it_promises(tmp_path, folder_of_pictures, baselines):
    config = small_config(tmp_path, folder_of_pictures, baselines=baselines)
    run = train.main(config)
    assert {path.name for path in run.iterdir()} == folder.FILES
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert 0 < page.count("<small>errors</small>") == page.count('title="mean IoU')  # a map of each
    assert "BatchNorm learned in the stages decoder and all." in page
    metrics = json.loads((run / "metrics.json").read_text())
    manifest = pd.read_csv(run / "manifest.csv")
    tested = pd.read_csv(run / "predictions.csv")
    readings = pd.read_csv(run / "test_readings.csv")
    assert metrics["classes"] == ["ground", "square"]
    assert len(readings) == 1 and readings["pictures"].tolist() == [len(tested)]
    assert metrics["test"]["examples"] == len(tested) == (manifest["split"] == "test").sum()
    assert metrics["test"]["miou"] > 0.6  # all ground would have .35
    rivals = {"from scratch", "frozen backbone", "logistic regression on pixels"}
    assert set(metrics["baselines"]) == (rivals if baselines else set())
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'decoder' and block != 'head'")
    assert len(frozen) and frozen[["moved", "relative_change", "statistics_moved"]].to_numpy().sum() == 0
    assert len(pd.read_csv(run / "history.csv")) == 10

    # The saved model takes raw pictures of any size and finds what it was tested with.
    saved = keras.models.load_model(run / "model.keras", compile=False)
    examples = train.load(config)
    test = examples.test.open(None, "to compare")
    counts = train.judge(config, {"saved": saved}, test, examples.classes)["saved"]
    assert counts.ids.tolist() == tested["id"].tolist()
    assert segmentation.per_picture(counts)["miou"].tolist() == pytest.approx(tested["miou"].tolist())
    file = folder_of_pictures / manifest["path"][tested["id"][0]]
    table = pd.concat(train.predict(run, [file, run / "metrics.json"], folder=run.parent / "masks"))
    assert table["note"].tolist()[0] == "" and "not a picture" in table["note"].tolist()[1]
    with Image.open(run.parent / "masks" / table["mask"].iloc[0]) as image:
        mask = np.asarray(image)
    assert mask.shape == (40, 48) and set(np.unique(mask)) <= {0, 1}
    with Image.open(file) as picture:
        red = np.asarray(picture).astype(int)
    agrees = ((red[..., 0] > red[..., 2]) == mask)[1:-1, 1:-1].mean()
    assert agrees > 0.6
    with pytest.raises(InputError, match="for a picture and not a class"):
        predict.load(run)


def test_no_picture_is_shown_twice_and_the_worst_come_first():
    pictures = pd.DataFrame({"id": range(100, 140), "miou": np.linspace(1, 0, 40)})
    pictures.loc[3, "miou"] = np.nan
    worst, others = sections.chosen(pictures)
    assert worst == list(range(139, 131, -1)) and len(others) == sections.SHOWN
    assert others[0] == 131 and others[-1] == 100 and 103 not in others
    assert not set(worst) & set(others) and len(set(others)) == len(others)
    assert sections.chosen(pictures.head(5)) == ([104, 102, 101, 100], [])


def test_mistakes_are_found_before_anything_is_written(tmp_path, folder_of_pictures):
    with pytest.raises(InputError, match="image_size=8"):
        small_config(tmp_path, folder_of_pictures, image_size=8)
    with pytest.raises(InputError, match=r"ignore=\(256,\)"):
        small_config(tmp_path, folder_of_pictures, ignore=(256,))
    with pytest.raises(InputError, match="this backbone has"):
        train.main(small_config(tmp_path, folder_of_pictures, stages=(Stage("top", train="top:99"),)))
    frozen = (Stage("all", train="all"),)
    with pytest.raises(InputError, match="random weights, whose BatchNorm statistics no stage lets learn"):
        train.main(small_config(tmp_path, folder_of_pictures, stages=frozen))
    with pytest.raises(InputError, match="one class that counts, 'ground'"):
        train.main(small_config(tmp_path, folder_of_pictures, ignore=(1, 9)))
    with pytest.raises(InputError):
        train.main(small_config(tmp_path, tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()


def test_what_is_ignored_has_no_weight_and_rare_classes_have_more(tmp_path, folder_of_pictures):
    config = small_config(tmp_path, folder_of_pictures, class_weights="inverse")
    examples = train.load(config)
    mask = np.array([[[0, 1, 255, 0]]], np.uint8)
    image = np.zeros((1, 1, 4, 3), np.uint8)
    batch = method.targets(config, examples)({"id": [0], "input": image, "mask": tf.constant(mask)})
    assert batch["label"].numpy().tolist() == [[[0, 1, 255, 0]]]
    weights = batch["weight"].numpy()[0, 0]
    pixels = examples.amounts[(examples.manifest["split"] == "train").to_numpy()].sum(axis=0)
    assert weights[2] == 0 and weights[1] / weights[0] == pytest.approx(pixels[0] / pixels[1])


def test_the_loss_is_the_cross_entropy_of_pixels_and_the_dice_of_pictures():
    random = np.random.default_rng(0)
    label, logits = random.integers(0, 3, (2, 4, 5)), random.normal(size=(2, 4, 5, 3)).astype("float32")
    label[0, 0] = 255  # not known
    label[1][label[1] == 2] = 0  # a class that the second picture does not have
    weight = np.where(label == 255, 0, random.uniform(size=label.shape)).astype("float32")
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    g = label[..., None] == np.arange(3)
    expected = -np.log((p * g).sum(axis=-1), where=label != 255, out=np.zeros(label.shape))
    for one, (picture, truth) in enumerate(zip(p, g, strict=True)):
        known = truth.any(axis=-1)
        both, sizes = (picture * truth)[known].sum(axis=0), (picture + truth)[known].sum(axis=0)
        there = truth.any(axis=(0, 1))
        expected[one] += 0.5 * (1 - (2 * both / sizes)[there].mean())
    found = method.Loss(dice=0.5)(label.astype("uint8"), logits, sample_weight=weight)
    assert float(found) == pytest.approx((weight * expected).mean(), rel=1e-5)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        np.where(label == 255, 0, label), logits, sample_weight=weight
    )
    np.testing.assert_allclose(method.Loss(dice=0.0)(label, logits, sample_weight=weight), plain, rtol=1e-6)
    perfect = method.Loss()(np.array([[[0, 1]]]), np.array([[[[99.0, -99, -99], [-99, 99, -99]]]], "float32"))
    assert float(perfect) == pytest.approx(0, abs=1e-6)


def test_logistic_regression_on_pixels_knows_colours_and_their_surroundings(tmp_path, folder_of_pictures):
    config = small_config(tmp_path, folder_of_pictures)
    examples = train.load(config)
    network, fitted = rival.fit(config, examples)
    assert [one.name for one in network.layers if one.trainable] == ["head"] and not len(fitted.history)
    judged = train.judge(config, {"pixels": network}, examples.val, examples.classes)["pixels"]
    assert train.tables(judged, examples)[0]["miou"] > 0.9  # red and blue: nothing else is to be known
    # What surrounds a pixel is the mean of what is there, also at the border.
    below = keras.Model(network.input, network.get_layer("head").input)
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("uint8")
    seen = below.predict(picture, verbose=0)[0]
    np.testing.assert_allclose(seen[..., :12].reshape(32, 32, 4, 3).sum(2), picture[0] / 255, atol=1e-5)
    corner = (picture[0, :2, :2] / 255).reshape(4, 3)  # of 3 x 3 pixels four are in the picture
    assert seen.shape == (32, 32, 29)
    np.testing.assert_allclose(seen[0, 0, 3:6], corner[0] - corner.mean(0), atol=1e-5)
    np.testing.assert_allclose(seen[0, 0, 15:18], corner.std(0), atol=1e-4)


@pytest.mark.parametrize("decoder", ["unet", "deeplab"])
def test_every_pixel_gets_logits_and_the_decoder_is_what_trains_first(tmp_path, folder_of_pictures, decoder):
    config = small_config(
        tmp_path, folder_of_pictures, decoder=decoder, image_size=40
    )  # odd maps: 20, 10, 5, 3, 2
    examples = train.load(config)
    network, blocks = model.build(config, examples)
    logits = network(np.zeros((2, 40, 40, 3), np.uint8), training=False)
    assert logits.shape == (2, 40, 40, 2) and logits.dtype == "float32"
    of_backbone = {name for block in blocks for name in block.layers}
    rest = [layer.name for layer in network.layers if layer.weights and layer.name not in of_backbone]
    assert rest and all(name.startswith("decoder") or name == "head" for name in rest)
