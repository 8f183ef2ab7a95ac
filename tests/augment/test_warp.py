"""Masks and boxes show what the augmented picture shows: things are drawn, augmented and found again."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from runner.augment import matrices, warp
from runner.augment import views as augment
from runner.errors import InputError

HEIGHT, WIDTH = 72, 96
COUNT = 12


def scenes():
    """Black pictures with a red rectangle (class 1) and a green disc (class 2), their masks and boxes."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    images = np.zeros((COUNT, HEIGHT, WIDTH, 3), "uint8")
    masks = np.zeros((COUNT, HEIGHT, WIDTH), "uint8")
    boxes = np.full((COUNT, 3, 4), -1, "float32")
    for image, mask, rows in zip(images, masks, boxes, strict=True):
        left, top = random.integers(2, 20, 2)
        right, bottom = left + random.integers(15, 26), top + random.integers(12, 40)
        mask[top:bottom, left:right] = 1
        radius, column, row = random.integers(9, 16), random.integers(65, 78), random.integers(20, 50)
        mask[(x - column) ** 2 + (y - row) ** 2 <= radius**2] = 2
        rows[0] = left, top, right, bottom
        rows[2] = column - radius, row - radius, column + radius + 1, row + radius + 1
        image[mask == 1, 0] = 255
        image[mask == 2, 1] = 255
    classes = np.tile(np.array([1, -1, 2], "int64"), (COUNT, 1))
    return {"input": images, "mask": masks, "boxes": boxes, "classes": classes, "id": np.arange(COUNT)}


@pytest.fixture(scope="module")
def scene():
    return scenes()


def keep_colours(monkeypatch, **still):
    """All strengths without their colour changes, so that a colour says what a pixel is."""
    still = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0) | still
    for name, magnitudes in matrices.MAGNITUDES.items():
        monkeypatch.setitem(matrices.MAGNITUDES, name, dataclasses.replace(magnitudes, **still))
    # What is compiled remembers the magnitudes it was compiled with.
    monkeypatch.setattr(augment, "_matrices", augment._matrices.python_function)


def found(images):
    """The class of each pixel by its colour alone."""
    red, green = images[..., 0].astype(int), images[..., 1].astype(int)
    return np.where(red - green > 127, 1, np.where(green - red > 127, 2, 0))


def extent(pixels):
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def numpy(batch):
    return {name: np.asarray(value) for name, value in batch.items()}


def turned(degrees, scale=1.0, height=HEIGHT, width=WIDTH):
    """float32 (1, 2, 3): the view turned about its centre, and `scale` picture pixels to a pixel."""
    angle, centre = np.radians(degrees), np.array([(width - 1) / 2, (height - 1) / 2])
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([linear, (centre - linear @ centre)[:, None]], axis=1)[None].astype("float32")


def shifted(x, y):
    return np.array([[[1, 0, x], [0, 1, y]]], "float32")


def moved(box, geometric, least_visible=0.0, height=HEIGHT, width=WIDTH):
    boxes = np.array([[box]], "float32")
    view, seen = warp.transform_boxes(boxes, geometric, height, width, least_visible)
    assert bool(seen[0, 0]) == bool((view[0, 0].numpy() != -1).any())
    return view[0, 0].numpy()


# --- drawn, augmented and found again


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("strength", augment.STRENGTHS[1:])
def test_the_mask_is_what_the_picture_shows(scene, strength, flip, monkeypatch):
    keep_colours(monkeypatch)
    views = numpy(augment.apply_to_batch(scene, (4, 5), strength, flip))
    assert views["mask"].dtype == np.uint8 and views["mask"].shape == (COUNT, HEIGHT, WIDTH)
    assert (views["mask"] != scene["mask"]).any(axis=(1, 2)).all()
    outside = views["mask"] == 255
    np.testing.assert_array_equal((views["input"] == augment.MIDDLE_GREY).all(axis=-1), outside)
    shown = np.where(outside, 0, views["mask"])
    around = (1, 3, 3)
    inside_one = ndimage.minimum_filter(shown, around) == ndimage.maximum_filter(shown, around)
    assert 0.8 < inside_one.mean() < 1
    np.testing.assert_array_equal(found(views["input"])[inside_one], shown[inside_one])
    # Along the edges too a pixel has one of the two classes that meet there.
    assert (found(views["input"]) == shown).mean() > 0.99
    assert {1, 2} <= set(np.unique(shown))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("strength", augment.STRENGTHS[1:])
def test_an_upright_box_is_the_extent_of_its_pixels(scene, strength, flip, monkeypatch):
    keep_colours(monkeypatch, rotation=0.0, shear=0.0)
    checked = 0
    for seed in range(4):
        views = numpy(augment.apply_to_batch(scene, (seed, 5), strength, flip))
        for image, boxes, classes in zip(
            found(views["input"]), views["boxes"], views["classes"], strict=True
        ):
            for box, label in zip(boxes, classes, strict=True):
                assert (label == -1) == (box == -1).all()
                # A disc cut at the border is less wide than its box is there: that box is one of corners.
                uncut = (box[:2] > 0).all() and (box[2:] < (WIDTH, HEIGHT)).all()
                if label == 1 or (label == 2 and uncut):
                    np.testing.assert_allclose(box, extent(image == label), atol=1)
                    checked += 1
    assert checked > 40


@pytest.mark.parametrize("strength", augment.STRENGTHS[1:])
def test_a_turned_box_holds_its_pixels_and_not_much_else(scene, strength, monkeypatch):
    keep_colours(monkeypatch)
    checked = 0
    for seed in range(3):
        views = numpy(augment.apply_to_batch(scene, (seed, 6), strength, True))
        for image, boxes, classes in zip(
            found(views["input"]), views["boxes"], views["classes"], strict=True
        ):
            for box, label in zip(boxes, classes, strict=True):
                if label != -1:
                    pixels = extent(image == label)
                    assert (pixels[:2] >= box[:2] - 1).all() and (pixels[2:] <= box[2:] + 1).all()
                    # A disc's box turned by 25 degrees is 1.33 times as wide as the disc, sheared a bit more.
                    assert (box[2:] - box[:2] <= 1.65 * (pixels[2:] - pixels[:2]) + 2).all()
                    checked += 1
    assert checked > 40


def test_the_hull_of_a_turned_square():
    """The square around a disc of radius r, turned: 2 r (|cos| + |sin|) wide; the disc is still 2 r wide."""
    radius, middle = 12, np.array([HEIGHT / 2, HEIGHT / 2])
    y, x = np.mgrid[0:HEIGHT, 0:HEIGHT] + 0.5
    disc = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2 <= radius**2).astype("uint8")
    for degrees, scale in ((0, 0.8), (30, 1), (45, 1.25), (-20, 0.7), (90, 1), (180, 1)):
        geometric = turned(degrees, scale, HEIGHT, HEIGHT)
        box = moved([*(middle - radius), *(middle + radius)], geometric, height=HEIGHT, width=HEIGHT)
        angle = np.radians(degrees)
        half = radius / scale * (abs(np.cos(angle)) + abs(np.sin(angle)))
        np.testing.assert_allclose(box, [*(middle - half), *(middle + half)], atol=1e-3)
        shown = extent(warp.transform_masks(tf.constant(disc[None]), geometric, 255)[0].numpy() == 1)
        np.testing.assert_allclose(shown, [*(middle - radius / scale), *(middle + radius / scale)], atol=1)


def test_half_a_pixel_is_half_a_pixel():
    """An edge lies half a pixel from the centre of the pixel beside it, also in a mirrored or larger view."""
    mirror = np.array([[[-1, 0, WIDTH - 1], [0, 1, 0]]], "float32")
    np.testing.assert_array_equal(moved([0, 0, WIDTH, HEIGHT], mirror), [0, 0, WIDTH, HEIGHT])
    np.testing.assert_array_equal(moved([3, 5, 10, 9], mirror), [WIDTH - 10, 5, WIDTH - 3, 9])
    np.testing.assert_array_equal(moved([3, 5, 10, 9], shifted(2, -1)), [1, 6, 8, 10])
    twice = np.array([[[0.5, 0, -0.25], [0, 0.5, -0.25]]], "float32")  # edge 0 stays, all is twice as large
    np.testing.assert_array_equal(moved([3, 5, 10, 9], twice), [6, 10, 20, 18])


# --- identities and padding


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("channel", [False, True])
def test_identity_matrices_return_every_bit(dtype, channel):
    random = np.random.default_rng(0)
    masks = random.integers(0, 200, (3, 17, 23, *[1] * channel)).astype(dtype)
    identities = np.tile(np.eye(2, 3, dtype="float32"), (3, 1, 1))
    views = warp.transform_masks(tf.constant(masks), identities, 255)
    assert views.dtype == dtype and views.shape == masks.shape
    np.testing.assert_array_equal(views, masks)
    images = random.integers(0, 256, (3, 17, 23, 3), dtype="uint8")
    np.testing.assert_array_equal(warp.cover(images, identities, 7), images)
    corners = np.sort(random.uniform(0, 17, (3, 5, 2, 2)), axis=2).astype("float32")
    corners[:, :, 1] = np.minimum(corners[:, :, 1] + 2, 17)
    boxes = corners.reshape(3, 5, 4)
    boxes[1, 2:] = -1
    views, seen = warp.transform_boxes(boxes, identities, 17, 23, 1.0)
    expected = np.where((boxes[..., 2:] - boxes[..., :2] < 1).any(axis=-1, keepdims=True), -1, boxes)
    np.testing.assert_array_equal(views, expected)
    np.testing.assert_array_equal(seen, (expected != -1).any(axis=-1))
    assert 5 < np.sum(seen) < 15


def test_rows_without_a_box_stay_so(scene):
    for seed in range(5):
        views = numpy(augment.apply_to_batch(scene, (seed, 0), "strong", True))
        assert (views["boxes"][:, 1] == -1).all() and (views["classes"][:, 1] == -1).all()
        assert views["classes"].dtype == np.int64 and views["boxes"].dtype == np.float32
    none = {**scene, "boxes": np.zeros((COUNT, 0, 4), "float32"), "classes": np.zeros((COUNT, 0), "int32")}
    views = augment.apply_to_batch(none, (0, 0), "strong")
    assert views["boxes"].shape == (COUNT, 0, 4) and views["classes"].shape == (COUNT, 0)


def test_none_passes_on_everything(scene):
    views = augment.apply_to_batch(scene, (1, 2), "none", True)
    assert views is not scene and list(views) == list(scene)
    for name in scene:
        np.testing.assert_array_equal(views[name], scene[name])


# --- what is dropped, what is beyond the border


def test_a_box_is_cut_at_the_border_and_dropped_below_its_least_share():
    box = [0, 10, 20, 30]
    np.testing.assert_array_equal(moved(box, shifted(10, 0), 0.5), [0, 10, 10, 30])
    np.testing.assert_array_equal(moved(box, shifted(10.5, 0), 0.5), [-1] * 4)
    np.testing.assert_array_equal(moved(box, shifted(10.5, 0), 0.4), [0, 10, 9.5, 30])
    np.testing.assert_array_equal(moved(box, shifted(0, -HEIGHT), 0.0), [-1] * 4)  # out of sight
    np.testing.assert_array_equal(moved(box, shifted(19, 0), 0.0), [0, 10, 1, 30])
    np.testing.assert_array_equal(moved(box, shifted(19.25, 0), 0.0), [-1] * 4)  # less than a pixel is left


def test_boxes_without_area_are_dropped_and_turned_round_ones_set_right():
    for box in ([5, 5, 5, 9], [5, 5, 9, 5], [5, 5, 5, 5], [float("nan"), 5, 9, 9]):
        np.testing.assert_array_equal(moved(box, turned(10)), [-1] * 4)
    np.testing.assert_array_equal(moved([20, 30, 10, 5], shifted(0, 0)), [10, 5, 20, 30])


def test_beyond_the_border_is_one_grey_and_the_index_to_ignore(scene):
    geometric = np.tile(shifted(-5, 3), (COUNT, 1, 1))
    masks = warp.transform_masks(tf.constant(scene["mask"].astype("int32")), geometric, -7).numpy()
    assert (masks[:, :, :5] == -7).all() and (masks[:, -3:] == -7).all()
    np.testing.assert_array_equal(masks[:, :-3, 5:], scene["mask"][:, 3:, :-5])
    views = warp.cover(scene["input"], geometric, 9).numpy()
    assert (views[:, :, :5] == 9).all() and (views[:, -3:] == 9).all()
    np.testing.assert_array_equal(views[:, :-3, 5:], scene["input"][:, :-3, 5:])


def test_the_border_is_mirrored_only_for_pictures_alone(scene):
    white = {"input": np.full((COUNT, 32, 32, 3), 255, "uint8")}
    boxes = {"boxes": np.tile(np.array([[[0, 0, 32, 32]]], "float32"), (COUNT, 1, 1))}
    masks = {"mask": np.zeros((COUNT, 32, 32), "uint8")}
    outside = augment.apply_to_batch(white | masks, (0, 1), "strong")["mask"].numpy() == 255
    assert 0.01 < outside.mean() < 0.5

    def at_the_border(extra, **options):
        return augment.apply_to_batch(white | extra, (0, 1), "strong", **options)["input"].numpy()[outside]

    np.testing.assert_array_equal(at_the_border(boxes), augment.MIDDLE_GREY)
    np.testing.assert_array_equal(at_the_border(masks), augment.MIDDLE_GREY)
    np.testing.assert_array_equal(at_the_border(masks, fill=0), 0)
    np.testing.assert_array_equal(at_the_border({}, fill=3), 3)
    np.testing.assert_array_equal(augment.apply(white["input"], (0, 1), "strong", fill=3).numpy()[outside], 3)
    alone = augment.apply_to_batch(white, (0, 1), "strong")["input"].numpy()
    np.testing.assert_array_equal(alone, augment.apply(white["input"], (0, 1), "strong"))
    filled = augment.apply_to_batch(white | masks, (0, 1), "strong")["input"].numpy()
    np.testing.assert_array_equal(alone[~outside], filled[~outside])
    assert (alone[outside] != augment.MIDDLE_GREY).all()


# --- seeds, threads, tf.data


def fingerprints(dataset):
    names = ("input", "mask", "boxes")
    return [batch[name].numpy().tobytes() for batch in dataset for name in names]


def test_a_seed_decides_everything_on_any_number_of_threads(scene):
    batches = tf.data.Dataset.from_tensor_slices(scene).batch(6).repeat(2)
    once = fingerprints(augment.dataset(batches, "strong", seed=3, flip=True))
    for threads in (1, 2):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = threads
        data = augment.dataset(batches, "strong", seed=3, flip=True).with_options(options)
        assert fingerprints(data) == once
    assert len(set(once)) == len(once)
    assert not set(fingerprints(augment.dataset(batches, "strong", seed=4, flip=True))) & set(once)


def test_a_dataset_and_a_call_agree(scene):
    batches = tf.data.Dataset.from_tensors(scene)
    seed = tf.constant([8, 9], tf.int64)
    (mapped,) = batches.map(lambda batch: augment.apply_to_batch(batch, seed, "medium", True))
    called = augment.apply_to_batch(scene, seed, "medium", True)
    assert list(mapped) == list(called) == list(scene)
    for name in scene:
        np.testing.assert_array_equal(mapped[name], called[name])


def test_options_reach_the_dataset(scene):
    batches = tf.data.Dataset.from_tensors(scene)
    options = {"fill": 7, "ignore": 9, "least_visible": 1.0}
    (views,) = augment.dataset(batches, "strong", seed=0, **options)
    (usual,) = augment.dataset(batches, "strong", seed=0)
    outside = usual["mask"].numpy() == 255
    np.testing.assert_array_equal(views["mask"].numpy()[outside], 9)
    np.testing.assert_array_equal(views["input"].numpy()[outside], 7)
    assert np.sum(views["classes"] == -1) > np.sum(usual["classes"] == -1) > COUNT
    np.testing.assert_array_equal(views["id"], scene["id"])


# --- mistakes


def changed(scene, **changes):
    return tf.data.Dataset.from_tensors({**scene, **changes})


def test_other_masks_and_boxes_are_refused_before_anything_runs(scene):
    zeros = np.zeros
    for name, value, message in (
        ("mask", zeros((COUNT, HEIGHT, WIDTH), "float32"), "masks of float32.*uint8 or int32"),
        ("mask", zeros((COUNT, HEIGHT, WIDTH), "bool"), "masks of bool.*uint8 or int32"),
        ("mask", zeros((COUNT, HEIGHT - 1, WIDTH), "uint8"), "masks of .*71, 96.*as large as"),
        ("mask", zeros((COUNT, HEIGHT, WIDTH, 3), "uint8"), "masks of .*96, 3.*as large as"),
        ("boxes", zeros((COUNT, 3, 4), "float64"), "boxes of float64.*float32"),
        ("boxes", zeros((COUNT, 3, 5), "float32"), "boxes of .*3, 5.*x_min, y_min"),
        ("boxes", zeros((COUNT, 4), "float32"), "boxes of .*x_min, y_min"),
        ("boxes", zeros((COUNT - 1, 3, 4), "float32"), "boxes of .*11, 3, 4.*images of .*12"),
        ("classes", zeros((COUNT, 2), "int64"), '"classes" of .*12, 2.*boxes of .*12, 3'),
        ("box_labels", zeros((COUNT, 3), "float32"), '"box_labels" of float32.*int32 or int64'),
    ):
        with pytest.raises(InputError, match=message) as caught:
            augment.dataset(changed(scene, **{name: value}), "light", seed=0)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=message):
            augment.apply_to_batch({**scene, name: value}, (0, 0), "none")


def test_ragged_boxes_are_refused_with_the_way_to_pad_them(scene):
    ragged = tf.RaggedTensor.from_tensor(scene["boxes"])
    with pytest.raises(InputError, match=r"Ragged.*rows without a box -1.*to_tensor\(-1.0\)"):
        augment.dataset(changed(scene, boxes=ragged), "light", seed=0)
    assert ragged.to_tensor(-1.0).shape == scene["boxes"].shape


def test_other_options_are_refused(scene):
    for options, message in (
        ({"mixup": 0.2}, "mixup is 0.2 and cutmix 0, .* boxes and classes and mask; .*set both to 0"),
        ({"cutmix": 1.0}, "mixup is 0 and cutmix 1, .*set both to 0"),
        ({"ignore": 256}, "ignore is 256; .*0 to 255, .*uint8"),
        ({"ignore": 1.5}, "ignore is 1.5; "),
        ({"least_visible": 1.5}, "least_visible is 1.5; .*0 to 1"),
        ({"least_visible": float("nan")}, "least_visible is nan; "),
        ({"fill": 256}, "fill is 256; .*0 to 255"),
        ({"fill": (1, 2, 3)}, r"fill is \(1, 2, 3\); .*0 to 255"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            augment.dataset(changed(scene), "light", seed=0, **options)
        assert "\n" not in str(caught.value)


def test_a_batch_without_images_is_refused(scene):
    with pytest.raises(InputError, match="'mask'; give a dict with an \"input\""):
        augment.apply_to_batch({"mask": scene["mask"]}, (0, 0), "light")


def test_sizes_known_only_at_run_time_are_compared_then(scene):
    unknown = {"input": (None, None, None, 3), "mask": (None, None, None)}
    signature = {name: tf.TensorSpec(shape, tf.uint8) for name, shape in unknown.items()}

    def data(rows):
        batch = {"input": scene["input"], "mask": scene["mask"][:, :rows]}
        return tf.data.Dataset.from_generator(lambda: [batch], output_signature=signature)

    (views,) = augment.dataset(data(HEIGHT), "light", seed=0)
    assert views["mask"].shape == (COUNT, HEIGHT, WIDTH)
    with pytest.raises(tf.errors.InvalidArgumentError, match="differ in size"):
        list(augment.dataset(data(HEIGHT - 1), "light", seed=0))
