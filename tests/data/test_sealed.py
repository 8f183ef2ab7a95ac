"""Nobody reads the test split by accident, and who reads it leaves a row."""

import keras
import pytest
import tensorflow as tf

from runner.data import sealed
from runner.errors import InputError
from runner.networks import inference
from runner.pictures import batches as batching
from runner.report import page


@pytest.fixture
def split():
    element = {"id": tf.range(6, dtype=tf.int64), "input": tf.zeros((6, 8, 8, 3), tf.uint8)}
    dataset = tf.data.Dataset.from_tensor_slices(element | {"label": tf.range(6, dtype=tf.int64) % 2})
    return sealed.Sealed(dataset)


def test_sealed_it_gives_its_length_and_no_picture(split):
    assert int(split.cardinality()) == 6
    with pytest.raises(InputError, match="the test split is sealed: choose, stop and tune on examples.val"):
        next(iter(split))
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile(loss="mse")
    for read in (
        lambda: batching.batches(split, "ab", 2),
        lambda: inference.outputs({"m": model}, split),
        lambda: model.evaluate(split, verbose=0),
        lambda: list(split),
        lambda: split[0],
        lambda: split.take(1),
    ):
        with pytest.raises(Exception):  # noqa: B017 - refused is refused, by whichever library reads first
            read()
    assert not split._opened


def test_each_opening_leaves_a_row(split, tmp_path):
    record = tmp_path / "run" / "test_readings.csv"
    assert len(sealed.readings(record)) == 0
    assert len(list(split.open(record, "the final numbers"))) == 6
    split.open(record, 'again, after "a kill"')
    assert sealed.readings(record)[["pictures", "reason"]].values.tolist() == [
        [6, "the final numbers"],
        [6, 'again, after "a kill"'],
    ]
    assert len(list(split)) == 6  # what was opened may be shown


def test_two_test_splits_in_one_are_as_sealed_as_each(split, tmp_path):
    later = split.map(lambda one: one | {"id": one["id"] + 6})
    both = split.followed_by(later)
    assert int(both.cardinality()) == 12
    with pytest.raises(InputError, match="sealed"):
        next(iter(both))
    assert [int(one["id"]) for one in both.open(None, "to compare")] == list(range(12))
    with pytest.raises(InputError, match="sealed"):
        next(iter(later))


def test_without_a_reason_or_a_record_it_stays_sealed(split, tmp_path):
    with pytest.raises(InputError, match="empty reason"):
        split.open(tmp_path / "r.csv", " ")
    other = tmp_path / "other.csv"
    for content, message in (("a,b\n1,2\n", "has the columns a, b"), ("", "is no record of readings")):
        other.write_text(content)
        with pytest.raises(InputError, match=message):
            split.open(other, "numbers")
        assert other.read_text() == content
    with pytest.raises(InputError, match="sealed"):
        iter(split)


def test_kept_closed_nothing_opens_it_nor_reads_it_again(split, tmp_path):
    split.open(None, "before")
    with sealed.kept_closed("a search runs"):
        for read in (lambda: split.open(tmp_path / "r.csv", "numbers"), lambda: next(iter(split))):
            with pytest.raises(InputError, match="stays closed: a search runs; choose on examples.val"):
                read()
        with pytest.raises(KeyError), sealed.kept_closed("within"):
            raise KeyError
        with pytest.raises(InputError, match="a search runs"):
            split.open(None, "numbers")
    assert not (tmp_path / "r.csv").exists() and len(list(split)) == 6


def test_the_report_shows_mistakes_of_an_opened_test_only(split):
    from types import SimpleNamespace

    import pandas as pd

    manifest = pd.DataFrame({"split": ["test"] * 6, "label": list("ababab")})
    data = SimpleNamespace(train=[], test=split, classes=("a", "b"), manifest=manifest, amounts=None)
    predictions = pd.DataFrame({"id": [3], "label": ["b"], "prediction": ["a"], "confidence": [0.9]})
    with pytest.raises(InputError, match="sealed"):
        page.collect_pictures(data, predictions)
    split.open(None, "to show")
    assert list(page.collect_pictures(data, predictions)) == [3]
