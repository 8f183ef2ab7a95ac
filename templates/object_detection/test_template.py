"""This template on two dozen drawn pictures, and its method against answers that are known beforehand."""

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
from runner.stage import Stage
from runner.training import baselines

from . import method, model, rival, train
from .config import Config


@pytest.fixture
def pictures(tmp_path):
    """24 grey noisy pictures of 64 x 48 pixels, each with a red and a blue square, in one COCO file."""
    random = np.random.default_rng(0)
    record = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}],
    }
    (tmp_path / "pictures").mkdir()
    for number in range(24):
        pixels = random.normal(128, 20, (48, 64, 3))
        for category, left, channel in ((3, 2, 0), (7, 34, 2)):
            side = int(random.integers(14, 26))
            x, y = left + int(random.integers(4)), int(random.integers(48 - side))
            pixels[y : y + side, x : x + side, channel] += 100
            box = [x, y, side, side]
            record["annotations"].append({"image_id": number, "category_id": category, "bbox": box})
        name = f"{number:02}.png"
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(tmp_path / "pictures" / name)
        record["images"].append({"id": number, "file_name": name, "width": 64, "height": 48})
    (tmp_path / "pictures" / "annotations.json").write_text(json.dumps(record))
    return tmp_path / "pictures"


def small_config(tmp_path, pictures, **changes) -> Config:
    config = Config(
        data=str(pictures),
        backbone="MobileNet-0.25",
        weights="none",
        image_size=64,
        strides=(8, 16),
        width=16,
        depth=1,
        batch_size=4,
        stages=(
            Stage("head", train="head", epochs=1, learning_rate=0.01),
            Stage("all", train="all", epochs=2, learning_rate=3e-3, batch_norm="train"),
        ),
        baselines=False,
        scratch_lengths=(1,),
        machine=Machine(run_dir=str(tmp_path / "run")),
    )
    return fields.replace(config, **changes)


def test_a_run_leaves_everything_it_promises(tmp_path, pictures):
    config = small_config(tmp_path, pictures)
    run = train.main(config)
    assert {path.name for path in run.iterdir()} == folder.FILES | {"truth.csv"}
    assert "could not be" not in (run / "report.html").read_text()
    page = (run / "report.html").read_text()
    assert page.count('class="gallery"') >= 2 and 'class="sheet"' not in page  # words are set as text
    metrics = json.loads((run / "metrics.json").read_text())
    truth, readings = pd.read_csv(run / "truth.csv"), pd.read_csv(run / "test_readings.csv")
    manifest = pd.read_csv(run / "manifest.csv")
    tested = manifest[manifest["split"] == "test"]
    assert len(readings) == 1 and readings["pictures"].tolist() == [len(tested)] == [
        metrics["test"]["examples"]
    ]
    assert len(truth) == 2 * len(tested) == metrics["test"]["boxes"]
    ledger = pd.read_csv(run / "ledger.csv")
    frozen = ledger.query("stage == 'head' and block != 'head'")
    assert len(frozen) and frozen[["moved", "relative_change", "statistics_moved"]].to_numpy().sum() == 0
    history = pd.read_csv(run / "history.csv")
    assert len(history) == 3 and history["loss"].iloc[-1] < history["loss"].iloc[0]
    page = (run / "report.html").read_text()
    for title in (
        "By class and size",
        "Training pictures after augmentation",
        "What was found",
        "Worst misses",
    ):
        assert title in page

    # The saved model takes raw pictures of any size, and finds in the files what it was tested with.
    found = pd.read_csv(run / "predictions.csv")
    paths = [pictures / name for name in tested["path"]]
    again = pd.concat(train.predict(run, paths, least_score=0.05))
    again = again[again["detections"] > 0]
    assert len(again) == len(found)
    # Pictures of 64 x 48 pixels lie 8 pixels lower in their squares.
    moved = found[["y_min", "y_max"]].to_numpy() - 8
    assert again["score"].to_numpy() == pytest.approx(found["score"].to_numpy(), abs=1e-3)
    assert again[["y_min", "y_max"]].to_numpy() == pytest.approx(moved.clip(0, 48), abs=0.1)
    with pytest.raises(InputError, match="not a class"):
        predict.load(run)


def test_mistakes_are_found_before_anything_is_written(tmp_path, pictures):
    with pytest.raises(InputError, match="strides=\\(8, 32\\)"):
        small_config(tmp_path, pictures, strides=(8, 32))
    with pytest.raises(InputError, match="width=20 cannot be used; give a multiple of 8"):
        small_config(tmp_path, pictures, width=20)
    with pytest.raises(InputError, match="this backbone has"):
        train.main(small_config(tmp_path, pictures, stages=(Stage("top", train="top:99"),)))
    with pytest.raises(InputError, match="random weights, whose BatchNorm statistics no stage lets learn"):
        train.main(small_config(tmp_path, pictures, stages=(Stage("all", train="all"),)))
    with pytest.raises(InputError, match="give a COCO file"):
        train.main(small_config(tmp_path, tmp_path / "nowhere"))
    record = json.loads((pictures / "annotations.json").read_text())
    record["annotations"] = [box for box in record["annotations"] if box["image_id"] < 2]
    (pictures / "annotations.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="a val split of 3 pictures without boxes; .* val 0 of 3, test 1"):
        train.main(small_config(tmp_path, pictures))
    assert not (tmp_path / "run").exists()


def test_all_is_compared_on_as_many_epochs(tmp_path, pictures):
    arms = baselines.methods(small_config(tmp_path, pictures, baselines=True))
    assert list(arms) == ["from scratch", "frozen backbone", "staged"]
    assert [sum(stage.epochs for stage in arm.stages) for arm in arms.values()] == [3, 3, 3]
    assert arms["frozen backbone"].stages[0].train == "head" and arms["from scratch"].weights == "none"


def test_the_same_boxes_are_those_that_are_most_often_right(tmp_path, pictures):
    config = small_config(tmp_path, pictures)
    examples = train.load(config)
    network, fitted = rival.fit(config, examples)
    answers = network.predict(np.random.RandomState(0).randint(0, 256, (2, 64, 64, 3)), verbose=0)
    np.testing.assert_array_equal(answers[0], answers[1])
    # Red squares lie on the left of every picture, blue ones on the right.
    red, blue = (answers[0][answers[0][:, number] > -10] for number in (0, 1))
    assert red[:, 4].max() < 36 < blue[:, 2].min() + 4 and len(fitted.history) == 0
    judged = train.judge(config, {"same": network}, examples.val, examples.classes)["same"]
    assert judged.metrics["ap50"] > 0.02
    # A score is how often the box is right: no sure one, where the places are drawn at random.
    assert 0.05 < judged.detections["score"].max() < 1


def test_half_precision_leaves_the_boxes_alone():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        config = Config(width=16, depth=1, strides=(16, 32))
        network, _ = model.build(config, Data)
        output = network.predict(np.random.RandomState(0).randint(0, 256, (1, 96, 96, 3)), verbose=0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    boxes = output[..., 2:6]
    assert output.dtype == np.float32 and (boxes != boxes.astype(tf.bfloat16.as_numpy_dtype)).any()


class Data:
    """What `model.build` reads of the data."""

    classes = ("a", "b")


# ---------------------------------------------------------------- the method

GRID = method.points(64, [8, 4])


def assigned(*boxes, classes=None):
    boxes = np.array(boxes, np.float32).reshape(1, -1, 4)
    classes = np.arange(boxes.shape[1])[None] if classes is None else np.array([classes])
    return method.assign(tf.constant(boxes), tf.constant(classes), GRID).numpy()[0]


def test_points_are_the_centres_of_their_cells():
    assert GRID.centre[:9].tolist() == [[4 + 8 * i, 4] for i in range(8)] + [[4, 12]]
    assert GRID.centre[64].tolist() == [8, 8] and GRID.stride[[0, 64]].tolist() == [8, 16]


def test_points_near_the_centre_of_a_box_answer_for_it():
    label = assigned((0, 0, 40, 24))
    there = GRID.centre[label[:, 0] == 0]
    # Within 12 pixels of (20, 12), not on that line, and in the box; its sides are at most 64 pixels away.
    assert there.tolist() == [[x, y] for y in (4, 12, 20) for x in (12, 20, 28)]
    middle = label[(GRID.centre == (20, 12)).all(axis=1) & (GRID.level == 0)][0]
    assert middle.tolist() == [0, 0, 0, 40, 24, 1]
    corner = label[(GRID.centre == (12, 4)).all(axis=1)][0]
    assert corner[5] == pytest.approx((12 / 28 * 4 / 20) ** 0.5)
    assert (label[label[:, 0] < 0][:, 1:] == 0).all()


def test_the_smaller_of_two_boxes_wins_and_padding_is_nothing():
    label = assigned((0, 0, 64, 48), (24, 24, 40, 40), (-1, -1, -1, -1), classes=[5, 2, -1])
    inner = (np.abs(GRID.centre - 32) < 8).all(axis=1) & (GRID.level == 0)
    assert set(label[inner, 0]) == {2} and 5 in label[:, 0]
    assert (assigned((-1, -1, -1, -1), classes=[-1])[:, 0] == method.BACKGROUND).all()


def test_a_dense_picture_elsewhere_costs_a_batch_nothing():
    """Rows that no picture of the batch fills are left out, and what is assigned is the same."""
    boxes = np.full((2, 600, 4), -1, np.float32)
    classes = np.full((2, 600), -1, np.int64)
    boxes[0, 1], classes[0, 1] = (24, 24, 40, 40), 2  # an augmentation took the first one out of the picture
    boxes[1, 0], classes[1, 0] = (0, 0, 40, 24), 5
    few = method._filled(tf.constant(boxes), tf.constant(classes))
    assert few[0].shape == (2, 2, 4) and few[1].shape == (2, 2)
    compiled = tf.function(lambda *batch: method.assign(*batch, GRID))
    label = compiled(tf.constant(boxes), tf.constant(classes)).numpy()
    np.testing.assert_array_equal(label[0], assigned((24, 24, 40, 40), classes=[2]))
    np.testing.assert_array_equal(label[1], assigned((0, 0, 40, 24), classes=[5]))
    nothing = method.assign(tf.constant(boxes[:, 5:]), tf.constant(classes[:, 5:]), GRID)
    assert (nothing.numpy()[..., 0] == method.BACKGROUND).all()


def test_levels_take_boxes_of_their_size():
    far = method.points(512, [64, 32])
    large = np.array([[[100, 100, 300, 300]]], np.float32)
    label = method.assign(tf.constant(large), tf.constant([[0]]), far).numpy()[0]
    # A side is over 64 pixels away from each point near the centre.
    assert set(far.level[label[:, 0] == 0]) == {1}
    # Levels of strides that do not double leave no gap: a side is 77 pixels away, between 8 * 8.8 and
    # 8 * 21.4 / 2.
    uneven, box = method.points(150, [17, 7, 3]), np.array([[[0, 70, 150, 80]]], np.float32)
    label = method.assign(tf.constant(box), tf.constant([[0]]), uneven).numpy()[0]
    assert set(uneven.level[label[:, 0] == 0]) == {1}


def test_right_answers_decode_to_the_boxes_and_cost_next_to_nothing():
    boxes = [(0, 0, 40, 24), (20, 30, 60, 60)]
    label = assigned(*boxes)[None]
    positive = label[..., 0] >= 0
    output = np.full((1, label.shape[1], 2 + 5), -12.0, np.float32)
    output[positive, label[positive, 0].astype(int)] = 12
    output[..., 2:6] = np.where(positive[..., None], label[..., 1:5], [0, 0, 1, 1])
    centre = label[..., 5].clip(1e-6, 1 - 1e-6)
    output[..., 6] = np.log(centre / (1 - centre))
    where, scores, numbers, count = (part.numpy()[0] for part in method.decode(tf.constant(output)))
    order = np.argsort(numbers[:count])
    assert count == 2 and where[:2][order].tolist() == [list(map(float, box)) for box in boxes]
    assert scores[0] > 0.99
    best = float(method.loss(label, output)[0])
    entropy = -(centre * np.log(centre) + (1 - centre) * np.log(1 - centre))[positive].sum()
    assert best == pytest.approx(entropy, rel=1e-3)  # what no prediction of a share can go below
    for change in (slice(0, 2), slice(2, 6), slice(6, 7)):
        worse = output.copy()
        worse[..., change] *= -1
        assert float(method.loss(label, worse)[0]) > best + 0.1


def test_the_focal_loss_is_keras():
    random = np.random.RandomState(0)
    truth, logits = (random.rand(5, 4) < 0.3).astype("float32"), random.normal(0, 2, (5, 4)).astype("float32")
    expected = keras.losses.binary_focal_crossentropy(
        truth, logits, apply_class_balancing=True, alpha=method.ALPHA, gamma=method.GAMMA, from_logits=True
    )
    assert np.asarray(method.focal(truth, logits)).mean(-1) == pytest.approx(np.asarray(expected), rel=1e-4)


@pytest.mark.parametrize(
    "other, expected", [((0, 0, 2, 2), 1), ((0, 1, 2, 3), 1 / 3), ((2, 0, 4, 2), 0), ((4, 0, 6, 2), -1 / 3)]
)
def test_generalised_iou(other, expected):
    one, other = np.array([[0, 0, 2, 2]], np.float32), np.array([other], np.float32)
    assert float(method.generalised_iou(one, other)[0]) == pytest.approx(expected, abs=1e-6)


def test_a_batch_is_divided_by_its_points_with_a_box():
    boxes = np.array([[(0, 0, 40, 24)], [(-1, -1, -1, -1)], [(8, 8, 24, 24)]], np.float32)
    batch = {"id": tf.range(3), "input": tf.zeros((3, 64, 64, 3), tf.uint8), "boxes": tf.constant(boxes)}
    made = method.target(GRID)(batch | {"classes": tf.constant([[0], [-1], [1]], tf.int64)})
    positive = (made["label"].numpy()[..., 0] >= 0).sum()
    assert made["weight"].numpy().tolist() == pytest.approx([3 / positive] * 3)
    output = tf.random.stateless_normal((3, 80, 7), (1, 2))
    each = method.loss(made["label"], output).numpy()
    network = keras.Sequential([keras.Input((80, 7)), keras.layers.Activation("linear")])
    network.compile(loss=method.loss)
    whole = network.evaluate(output, made["label"], sample_weight=made["weight"], verbose=0)
    assert whole == pytest.approx(each.sum() / positive, rel=1e-5)
