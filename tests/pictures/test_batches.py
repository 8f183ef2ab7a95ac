"""Batches are reproducible and complete, and a share of them is made without the rest."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from runner.devices import input_service
from runner.devices.multi_worker import Share
from runner.errors import InputError
from runner.pictures import images
from runner.pictures.batches import batches
from runner.pictures.load import load
from tests.stand_ins import data_of

CLASSES = ("a", "b", "c", "d")


@pytest.fixture
def examples():
    """30 pictures (8, 8, 3) as a `Data` holds them: unbatched dicts in a fixed order."""
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype="uint8")
    elements = {"id": np.arange(30, dtype="int64"), "input": images, "label": np.arange(30) % 4}
    return data_of(tf.data.Dataset.from_tensor_slices(elements), CLASSES)


def epoch(made):
    return [(images.numpy(), labels.numpy()) for images, labels in made]


def test_plain_batches_are_the_examples_in_order_with_one_hot_labels(examples):
    found = epoch(batches(examples, "train", 8).epoch())
    assert [len(images) for images, _ in found] == [8, 8, 8, 6]
    np.testing.assert_array_equal(
        np.concatenate([images for images, _ in found]),
        np.stack([element["input"].numpy() for element in examples.train]),
    )
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in found]), np.eye(4, dtype="float32")[np.arange(30) % 4]
    )


def test_same_seed_same_epochs_another_seed_others_and_every_epoch_differs(examples):
    def make(seed):
        options = dict(shuffle=True, seed=seed, strength="medium", mixup=0.2)
        return batches(examples, "train", 8, **options).epoch()

    first, again, other = make(1), make(1), make(2)
    one, two = epoch(first), epoch(first)
    for expected, received in zip([*one, *two], [*epoch(again), *epoch(again)], strict=True):
        np.testing.assert_array_equal(expected[0], received[0])
        np.testing.assert_array_equal(expected[1], received[1])
    assert not np.array_equal(one[0][0], two[0][0])
    assert not np.array_equal(one[0][0], epoch(other)[0][0])


def test_shuffling_keeps_every_example_and_its_label(examples):
    found = epoch(batches(examples, "train", 8, shuffle=True, seed=3).epoch())
    label_of = {element["input"].numpy().tobytes(): int(element["label"]) for element in examples.train}
    pairs = [
        (image.tobytes(), label.argmax())
        for images, labels in found
        for image, label in zip(images, labels, strict=True)
    ]
    assert len({key for key, _ in pairs}) == 30 and all(label_of[key] == label for key, label in pairs)


# ---------------------------------------------------------------- shares


def joined(parts):
    """The global batches that the parts of all workers make together; parts: by worker, then in turn."""
    workers, here = len(parts), len(parts[0])
    rows = [parts[worker][replica] for replica in range(here) for worker in range(workers)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def mean_and_image(batch):
    """A target that looks at the whole batch."""
    mean = tf.reduce_mean(tf.cast(batch["input"], tf.float32))
    return {"id": batch["id"], "input": batch["input"], "label": tf.fill([tf.shape(batch["input"])[0]], mean)}


def on_disk(folder, count=22):
    """As many pictures that are decoded again in each pass."""
    random = np.random.default_rng(1)
    for number in range(count):
        (folder / "abcd"[number % 4]).mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (12, 14, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / "abcd"[number % 4] / f"{number}.png")
    return load(folder, 8, memory_budget=0)


@pytest.mark.parametrize(("replicas", "workers"), [(2, 2), (2, 1), (6, 2)])
@pytest.mark.parametrize(
    "options",
    [
        dict(strength="none"),
        dict(strength="medium", flip=True),
        dict(strength="light", mixup=0.3),
        dict(strength="light", target=mean_and_image, whole_batches=True),
        dict(strength="light", on_device=True),
    ],
    ids=["plain", "augmented", "mixed", "whole", "drawn"],
)
def test_the_shares_of_all_workers_are_the_batches(examples, replicas, workers, options):
    on_device = options.pop("on_device", False)
    source = batches(examples, "train", 8, shuffle=True, seed=3, **options)
    source = source.on_device().batches if on_device else source

    def read(made):
        batches = list(made.as_numpy_iterator())
        return (
            [one | one["input"] | {"input": one["input"]["input"]} for one in batches]
            if on_device
            else batches
        )

    whole = read(source.after(2).take(7))
    assert [len(batch["id"]) for batch in whole] == [8, 6, 8, 8, 8, 6, 8]
    here, parts = replicas // workers, []
    for worker in range(workers):
        share = Share(replicas, workers, worker)
        parts.append(read(source.after(2, share).take(7 * here)))
    for step, batch in enumerate(whole):
        found = joined([part[step * here : (step + 1) * here] for part in parts])
        assert found.keys() == batch.keys()
        for name, values in batch.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_worker_decodes_its_own_pictures_and_none_that_lie_before(tmp_path, monkeypatch):
    examples, decoded = on_disk(tmp_path), []
    source = batches(examples, "train", 5, shuffle=True, seed=3, strength="light")
    original = images.decoded

    def counting(file):
        decoded.append(file)
        return original(file)

    monkeypatch.setattr(images, "decoded", counting)

    def read(share=None):
        decoded.clear()
        return list(source.make(None, share).as_numpy_iterator()), set(decoded)

    assert int(examples.train.cardinality()) == 12
    (whole, every), *shares = (read(share) for share in (None, Share(2, 2, 0), Share(2, 2, 1)))
    for batch, parts in zip(whole, zip(*(made for made, _ in shares), strict=True), strict=True):
        found = joined([[part] for part in parts])
        for name, values in batch.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    (_, first), (_, second) = shares
    assert [len(one) for one in (every, first, second)] == [12, 7, 5] and first | second == every

    decoded.clear()
    (batch,) = source.after(3000).take(1).as_numpy_iterator()
    assert len(batch["id"]) == 5 and len(decoded) < 500  # what is read ahead, and not 12,000


def test_files_are_shuffled_as_decoded_pictures_are(tmp_path):
    examples = on_disk(tmp_path)
    again = examples.train.map(lambda example: example)  # without `undecoded`
    options = dict(shuffle=True, seed=3, strength="light")
    made = [batches(examples, "train", 4, dataset=one, **options).after(2).take(5) for one in (None, again)]
    for one, other in zip(*(one.as_numpy_iterator() for one in made), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_the_smaller_last_batch_can_be_left_out(examples):
    options = dict(shuffle=True, seed=3, strength="light")
    every = batches(examples, "train", 8, **options).after(0).take(8).as_numpy_iterator()
    full = batches(examples, "train", 8, **options, drop_remainder=True)
    assert full.steps == 3
    full = full.after(0).take(6).as_numpy_iterator()
    expected = [batch for batch in every if len(batch["id"]) == 8]
    for one, other in zip(full, expected, strict=True):
        np.testing.assert_array_equal(one["input"], other["input"])


def test_what_the_input_workers_cannot_make_is_said_at_once(examples, tmp_path, monkeypatch):
    files = on_disk(tmp_path)
    monkeypatch.setenv(input_service.VARIABLE, "127.0.0.1:1")
    with pytest.raises(InputError, match="decoded by Pillow.*Leave --input-workers out"):
        batches(files, "train", 8).after(0)
    monkeypatch.setattr(input_service, "MOST_BYTES", 5000)
    with pytest.raises(InputError, match="take 0.0 GB in memory; at most 0.0 GB can be sent"):
        batches(examples, "train", 8).after(0)
    assert batches(examples, "val", 8).epoch().cardinality() == 4  # validation stays here
