"""The fused augmentation does what its matrices say, mixes labels by pixels, and repeats to the byte."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from runner.augment import matrices, mixing, warp
from runner.augment import views as augment
from runner.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def photos():
    """Eight smooth colour fields of 32 x 48 pixels, each another one."""
    y, x = np.mgrid[0:32, 0:48]
    phase = np.arange(8)[:, None, None, None] + np.arange(3)[None, None, None, :] * 0.9
    waves = np.sin(x[None, :, :, None] / 7 + phase) + np.cos(y[None, :, :, None] / 5 - phase)
    return np.clip(128 + 55 * waves, 0, 255).astype("uint8")


def one_hot_batches(photos, batch=4, repeats=3):
    count = len(photos)
    data = tf.data.Dataset.from_tensor_slices(
        {"id": np.arange(count), "input": photos, "label": np.eye(count, dtype="float32")}
    )
    return data.batch(batch).repeat(repeats)


def fingerprint(dataset):
    digest = hashlib.sha256()
    for element in dataset:
        for key in ("id", "input", "label"):
            digest.update(element[key].numpy().tobytes())
    return digest.hexdigest()


def identities(count):
    geometric, colour = np.eye(2, 3, dtype="float32"), np.eye(3, 4, dtype="float32")
    return np.tile(geometric, (count, 1, 1)), np.tile(colour, (count, 1, 1))


# --- one view of each image


@pytest.mark.parametrize("flip", [False, True])
def test_none_is_the_identity(photos, flip):
    np.testing.assert_array_equal(augment.apply(photos, (1, 2), "none", flip), photos)


def test_identity_matrices_return_every_byte():
    noise = np.random.default_rng(0).integers(0, 256, (3, 17, 23, 3), dtype="uint8")
    np.testing.assert_array_equal(warp.transform(noise, *identities(3)), noise)


def test_zero_magnitudes_are_the_identity(photos, monkeypatch):
    still = matrices.Magnitudes(1.0, 1.0, *[0.0] * 8)
    monkeypatch.setitem(matrices.MAGNITUDES, "light", still)
    geometric = matrices.geometric_matrices(matrices.draws((3, 4), 8), 32, 48, "light")
    colour = matrices.colour_matrices(matrices.draws((3, 4), 8), tf.fill((8,), 90.0), "light")
    np.testing.assert_array_equal(warp.transform(photos, geometric, colour), photos)


@pytest.mark.parametrize("strength", augment.STRENGTHS[1:])
def test_a_seed_is_a_batch_and_each_image_has_its_own_view(photos, strength):
    same = np.repeat(photos[:1], 8, axis=0)
    views = augment.apply(same, (1, 2), strength).numpy()
    np.testing.assert_array_equal(views, augment.apply(same, tf.constant([1, 2]), strength))
    assert (views != augment.apply(same, (1, 3), strength).numpy()).any(axis=(1, 2, 3)).all()
    assert len({view.tobytes() for view in views}) == 8
    assert views.dtype == np.uint8 and views.shape == same.shape


def test_the_bytes_stay_what_they_were():
    """Whatever makes the warp faster: runs that go on, and views that were kept, rest on these bytes.

    Given matrices there is nothing but whole numbers between the images and the hash. What draws the matrices
    has sines and exponentials, whose last digit is the processor's, so these are compared as numbers.
    """
    images = np.random.default_rng(0).integers(0, 256, (6, 45, 62, 3), dtype="uint8")
    turn, flip = [[0.8, 0.1, -3.25], [-0.05, 0.9, 4.5]], [[-1.1, 0.2, 60.0], [0.15, 1.05, -6.75]]
    near, swap = [[0.5, 0, 10], [0, 0.5, 30]], [[0, 1, 0], [1, 0, 0]]
    far, half = [[2, 0, -20], [0, 2, -20]], [[1, 0, 0.5], [0, 1, 0.5]]
    tint = [[1.1, 0.05, -0.1, 3], [0, 0.9, 0.1, -5], [0.2, 0, 0.8, 10]]
    contrast = [[1.5, 0, 0, -60], [0, 1.5, 0, -60], [0, 0, 1.5, -60]]
    geometric = np.array([turn, flip, near, swap, far, half], "float32")
    colour = np.array([tint] * 3 + [contrast] * 3, "float32")
    views = warp.transform(images, geometric, colour).numpy()
    digest = hashlib.sha256(views.tobytes()).hexdigest()
    assert digest == "d0520e24dbd5a189a777c77f7a4e6039b733469133cb93d3a29e97ed808d08b3"
    geometric = matrices.geometric_matrices(matrices.draws((3, 4), 6), 45, 62, "medium", True)[5]
    expected = [[0.71844232, 0.0097585414, -3.9490817], [-0.028340569, 0.68649346, 12.951457]]
    np.testing.assert_allclose(geometric, expected, rtol=3e-6)
    colour = matrices.colour_matrices(matrices.draws((3, 4), 6), tf.fill((6,), 90.0), "strong")[5]
    red, green = [0.97958487, 0.011584101, -0.11531980], [-0.097764581, 0.92343515, 0.050178651]
    blue, grey = [0.23132318, -0.27540869, 0.91993475], -15.526758
    np.testing.assert_allclose(colour, [[*red, grey], [*green, grey], [*blue, grey]], rtol=3e-6, atol=1e-7)


def test_an_exact_mirror():
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 14, 3), dtype="uint8")
    geometric, colour = identities(2)
    geometric[:, 0] = (-1, 0, 13)
    np.testing.assert_array_equal(warp.transform(noise, geometric, colour), noise[:, :, ::-1])


def test_flip_mirrors_about_half_the_images_and_only_when_asked():
    flipped = matrices.geometric_matrices(matrices.draws((0, 0), 400), 64, 64, "medium", flip=True).numpy()
    upright = matrices.geometric_matrices(matrices.draws((0, 0), 400), 64, 64, "medium").numpy()
    assert 0.4 < (np.linalg.det(flipped[:, :, :2]) < 0).mean() < 0.6
    assert (np.linalg.det(upright[:, :, :2]) > 0).all()


@pytest.mark.parametrize("strength", augment.STRENGTHS[1:])
def test_a_dot_lands_where_the_matrix_says(strength):
    height, width, spot = 60, 80, np.array([45.0, 25.0])  # x, y
    y, x = np.mgrid[0:height, 0:width]
    dot = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 1.5**2))
    images = np.tile(dot[None, ..., None], (16, 1, 1, 3)).astype("uint8")
    geometric = matrices.geometric_matrices(
        matrices.draws((5, 6), 16), height, width, strength, flip=True
    ).numpy()
    views = warp.transform(images, geometric, identities(16)[1]).numpy()[..., 0].astype(float)
    checked = 0
    for view, matrix in zip(views, geometric, strict=True):
        expected = np.linalg.solve(matrix[:, :2], spot - matrix[:, 2])
        if ((expected > 10) & (expected < (width - 11, height - 11))).all():
            weight = view * ((x - expected[0]) ** 2 + (y - expected[1]) ** 2 < 10**2)
            centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            np.testing.assert_allclose(centre, expected, atol=0.3)
            checked += 1
    assert checked >= 6


def test_views_stay_within_their_magnitudes():
    for strength, magnitudes in matrices.MAGNITUDES.items():
        found = matrices.geometric_matrices(matrices.draws((7, 8), 500), 100, 100, strength).numpy()
        span = np.sqrt(np.abs(np.linalg.det(found[:, :, :2])))
        assert magnitudes.smallest_crop - 1e-5 <= span.min() and span.max() <= magnitudes.largest_crop + 1e-5
        angle = np.degrees(np.arctan2(found[:, 1, 0], found[:, 0, 0]))
        assert 0.9 * magnitudes.rotation < np.abs(angle).max() <= magnitudes.rotation + 1e-3
        centre = found @ np.array([49.5, 49.5, 1])
        room = (1 - magnitudes.smallest_crop) / 2 + magnitudes.shift
        assert np.abs(centre - 49.5).max() <= 100 * room + 1e-3


def test_against_tensorflows_own_sampler(photos):
    """Inside the image the same as ImageProjectiveTransformV3, up to rounding in two steps of 1/256 pixel."""
    geometric = matrices.geometric_matrices(matrices.draws((2, 9), 8), 32, 48, "strong").numpy()
    ours = warp.transform(photos, geometric, identities(8)[1]).numpy().astype(float)
    rows = np.concatenate([geometric.reshape(8, 6), np.zeros((8, 2), "float32")], axis=1)
    theirs = tf.raw_ops.ImageProjectiveTransformV3(
        images=photos.astype("float32"),
        transforms=rows,
        output_shape=(32, 48),
        fill_value=-1.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    ).numpy()
    y, x = np.mgrid[0:32, 0:48]
    source = np.einsum("bij,jhw->bihw", geometric, np.stack([x, y, np.ones_like(x)]))
    inside = (source >= 0).all(axis=1) & (source[:, 0] <= 47) & (source[:, 1] <= 31)
    assert inside.mean() > 0.5
    assert np.abs(ours - theirs)[inside].max() <= 2


def test_beyond_the_border_the_image_is_mirrored(photos):
    geometric, colour = identities(8)
    geometric[:, 0, 2] = -5
    views = warp.transform(photos, geometric, colour).numpy()
    np.testing.assert_array_equal(views[:, :, :5], photos[:, :, 5:0:-1])
    np.testing.assert_array_equal(views[:, :, 5:], photos[:, :, :-5])


def test_colour_matrices_say_what_the_pixels_do(photos):
    colour = matrices.colour_matrices(
        matrices.draws((1, 1), 8), photos.mean(axis=(1, 2, 3)), "strong"
    ).numpy()
    views = warp.transform(photos, identities(8)[0], colour).numpy()
    expected = np.einsum("bij,bhwj->bhwi", colour[:, :, :3], photos) + colour[:, None, None, :, 3]
    np.testing.assert_allclose(views, np.clip(expected, 0, 255), atol=0.6)


def test_hue_and_saturation_leave_grey_alone_and_keep_luma(monkeypatch):
    only_colour = dataclasses.replace(matrices.MAGNITUDES["strong"], brightness=0.0, contrast=0.0)
    monkeypatch.setitem(matrices.MAGNITUDES, "strong", only_colour)
    found = matrices.colour_matrices(matrices.draws((1, 1), 50), tf.fill((50,), 100.0), "strong").numpy()
    np.testing.assert_allclose(found[:, :, :3].sum(axis=2), 1, atol=1e-5)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma @ found[:, :, :3], np.tile(luma, (50, 1)), atol=1e-5)
    assert np.abs(found[:, :, :3] - np.eye(3)).max() > 0.1


@pytest.mark.parametrize("strength", [one for one in augment.STRENGTHS[1:] if one != "contrastive"])
def test_brightness_stays_sane(photos, strength):
    mean, per_image = brightness(photos, strength)
    assert abs(mean - photos.mean()) < 8
    assert 0.5 < per_image.min() and per_image.max() < 1.6


def test_views_without_labels_differ_in_brightness_more_than_any_other(photos):
    """So that a picture cannot be told by its colours."""
    spread = {strength: np.log(brightness(photos, strength)[1]).std() for strength in augment.STRENGTHS[1:]}
    assert spread.pop("contrastive") > 1.2 * max(spread.values())


def brightness(photos, strength):
    """The mean of views, and how many times as bright as its picture each is."""
    views = np.concatenate([augment.apply(photos, (seed, 0), strength).numpy() for seed in range(12)])
    per_image = views.mean(axis=(1, 2, 3)) / np.tile(photos.mean(axis=(1, 2, 3)), 12)
    return views.mean(), per_image


def test_preview_shows_different_views_of_one_image(photos):
    views = augment.preview(photos[0], "medium", 5, seed=1, flip=True)
    assert isinstance(views, np.ndarray) and views.dtype == np.uint8 and views.shape == (5, 32, 48, 3)
    assert len({view.tobytes() for view in views}) == 5
    np.testing.assert_array_equal(views, augment.preview(photos[0], "medium", 5, seed=1, flip=True))


# --- the dataset


def test_epochs_differ_and_come_again(photos):
    def make(seed):
        return augment.dataset(one_hot_batches(photos), "medium", seed=seed, mixup=0.4, cutmix=1.0)

    first = make(0)
    epochs = [fingerprint(first) for _ in range(3)]
    assert len(set(epochs)) == 3
    again = make(0)
    assert [fingerprint(again) for _ in range(3)] == epochs
    assert fingerprint(make(1)) != epochs[0]


def test_threads_do_not_change_a_byte(photos):
    def epochs(threads):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        data = augment.dataset(one_hot_batches(photos, repeats=12), "strong", seed=3, cutmix=0.7)
        data = data.with_options(options)
        return fingerprint(data), fingerprint(data)

    assert epochs(1) == epochs(4)


@pytest.mark.slow
def test_two_processes_agree():
    code = (
        "import tests.augment.test_views as t, numpy as np\n"
        "from runner.augment import views as augment\n"
        "photos = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), dtype='uint8')\n"
        "batches = t.one_hot_batches(photos)\n"
        "data = augment.dataset(batches, 'strong', seed=5, flip=True, mixup=0.3, cutmix=0.6)\n"
        "print(t.fingerprint(data), t.fingerprint(data))\n"
    )
    photos = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), dtype="uint8")
    tf.random.set_seed(None)
    data = augment.dataset(one_hot_batches(photos), "strong", seed=5, flip=True, mixup=0.3, cutmix=0.6)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == [fingerprint(data), fingerprint(data)]


def test_ids_order_length_and_other_keys_are_kept(photos):
    batches = one_hot_batches(photos).map(lambda element: {**element, "weight": tf.ones_like(element["id"])})
    data = augment.dataset(batches, "light", seed=0)
    assert data.cardinality() == batches.cardinality() == 6
    for before, after in zip(batches, data, strict=True):
        np.testing.assert_array_equal(before["id"], after["id"])
        np.testing.assert_array_equal(before["label"], after["label"])
        np.testing.assert_array_equal(before["weight"], after["weight"])
        assert (before["input"].numpy() != after["input"].numpy()).any(axis=(1, 2, 3)).all()


def test_nothing_asked_for_nothing_done(photos):
    batches = one_hot_batches(photos)
    assert augment.dataset(batches, "none", seed=0, flip=True) is batches


def plain_fields(size=40):
    """Image i is grey level 20 * i everywhere, so that a pixel says which image it is from."""
    return np.tile((20 * np.arange(8, dtype="uint8"))[:, None, None, None], (1, size, size, 3))


def test_mixup_labels_are_the_pixel_shares():
    data = augment.dataset(one_hot_batches(plain_fields(), batch=8, repeats=6), "none", seed=0, mixup=0.5)
    shares = []
    for element in data:
        images, labels = element["input"].numpy(), element["label"].numpy()
        assert images.dtype == np.uint8
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(images[:, 0, 0, 0], labels @ (20 * np.arange(8)), atol=0.5)
        own = labels[np.arange(8), np.arange(8)]
        np.testing.assert_array_equal(own * 256, np.round(own * 256))
        np.testing.assert_allclose(labels[np.arange(8), (np.arange(8) + 1) % 8], 1 - own, atol=1e-6)
        shares.extend(own)
    assert len(set(shares)) > 20 and 0.3 < np.mean(shares) < 0.7


def test_cutmix_labels_are_the_area_shares():
    data = augment.dataset(one_hot_batches(plain_fields(), batch=8, repeats=6), "none", seed=0, cutmix=1.0)
    shares = []
    for element in data:
        images, labels = element["input"].numpy()[..., 0], element["label"].numpy()
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        for i in range(8):
            own = images[i] == 20 * i
            assert set(np.unique(images[i])) <= {20 * i, 20 * ((i + 1) % 8)}
            np.testing.assert_allclose(labels[i, i], own.mean(), atol=1e-6)
            rows, columns = (~own).any(axis=1), (~own).any(axis=0)
            assert (~own).sum() == rows.sum() * columns.sum()  # one whole rectangle
            shares.append(own.mean())
    assert 0.4 < np.mean(shares) < 0.85


def test_both_mixings_toss_a_coin_for_each_batch():
    batches = one_hot_batches(plain_fields(), batch=8, repeats=30)
    data = augment.dataset(batches, "none", seed=0, mixup=5.0, cutmix=1.0)
    by_rectangle = [(element["input"].numpy() % 20 == 0).all() for element in data]
    assert 8 <= sum(by_rectangle) <= 22


def test_beta_has_the_moments_of_beta():
    for alpha in (0.05, 0.2, 1.0, 4.0):
        draws = mixing._beta(4000, tf.constant([1, 2], tf.int64), alpha).numpy()
        assert (draws >= 0).all() and (draws <= 1).all()
        assert abs(draws.mean() - 0.5) < 0.03
        assert abs(draws.var() - 1 / (4 * (2 * alpha + 1))) < 0.02


def test_the_last_smaller_batch_works_and_a_batch_of_one_mixes_with_itself(photos):
    data = augment.dataset(one_hot_batches(photos, batch=7, repeats=1), "medium", seed=0, mixup=1.0)
    *_, last = data
    assert last["input"].shape == (1, 32, 48, 3)
    np.testing.assert_allclose(last["label"], np.eye(8)[[7]], atol=1e-6)


# --- mistakes


def test_an_unknown_strength_is_answered_with_the_near_one(photos):
    with pytest.raises(InputError, match="'medum'.*none, light, medium, strong.*Did you mean 'medium'"):
        augment.apply(photos, (0, 0), "medum")
    with pytest.raises(InputError, match="Did you mean 'light'"):
        augment.dataset(one_hot_batches(photos), "lihgt", seed=0)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (8, 8, 3), (2, 8, 8, 1)])
def test_other_images_are_refused(shape):
    images = np.zeros(shape, "float32" if shape == (2, 8, 8, 3) else "uint8")
    with pytest.raises(InputError, match=r"Received images of .* uint8 \(batch, height, width, 3\)"):
        augment.apply(images, (0, 0), "light")


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
def test_an_alpha_no_beta_has_is_refused(photos, alpha):
    for name in ("mixup", "cutmix"):
        with pytest.raises(InputError, match=f"^{name} is {alpha}; .*0 \\(off\\)"):
            augment.dataset(one_hot_batches(photos), "light", seed=0, **{name: alpha})


def test_elements_of_another_kind_are_refused(photos):
    with pytest.raises(InputError, match="dicts"):
        augment.dataset(tf.data.Dataset.from_tensors(photos), "light", seed=0)
    numbers = tf.data.Dataset.from_tensors({"input": photos, "label": np.arange(8)})
    with pytest.raises(InputError, match="one-hot"):
        augment.dataset(numbers, "light", seed=0, mixup=0.2)
    assert augment.dataset(numbers, "light", seed=0).cardinality() == 1
