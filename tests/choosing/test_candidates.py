"""What a word after --sources means, and that what means nothing is answered in one line."""

import json

import h5py
import numpy as np
import pytest

from runner.choosing import candidates
from runner.errors import InputError
from runner.networks import families, pretrained


@pytest.fixture
def file(tmp_path):
    """As many numbers as MobileNet-0.25 has, and one that no backbone has."""
    for name, count in (("mine.weights.h5", 218_544), ("other.h5", 12_345)):
        with h5py.File(tmp_path / name, "w") as written:
            written["layers/a/0"] = np.zeros(count, np.float32)
            written["optimizer/0"] = np.zeros(7, np.float32)
    return tmp_path / "mine.weights.h5"


@pytest.fixture
def run(tmp_path):
    """The folder of what looks like a complete run on pictures."""
    made = tmp_path / "run"
    made.mkdir()
    (made / "config.json").write_text(
        json.dumps({"backbone": "mobilenet-0.25", "weights": "letters_in_photos", "image_size": 64})
    )
    (made / "metrics.json").write_text("{}")
    (made / "model.keras").write_bytes(b"PK")
    return made


def test_every_form_is_understood(file, run):
    given = ["letters_in_photos", "none", str(file), f"vgg16={file}", str(run), "MobileNetV2-0.35=imagenet"]
    found = candidates.of_pictures(given)
    assert [one.backbone for one in found] == [
        *["MobileNet-0.25"] * 3,
        "VGG16",
        "MobileNet-0.25",
        "MobileNetV2-0.35",
    ]
    assert found[0].licence == found[4].licence == "Apache-2.0"  # of the card, and of what the run began with
    assert found[2].licence == candidates.NO_LICENCE
    assert [one.run for one in found] == [None, None, None, None, run, None]
    assert found[2].name == "MobileNet-0.25=mine" and found[0].place == "letters_in_photos"


def test_what_is_at_hand_are_checkpoints_downloads_and_the_untrained_network(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert [one.name for one in candidates.of_pictures()] == [
        "MobileNet-0.25=letters_in_photos",
        "MobileNet-0.25=none",
    ]
    path = pretrained.imagenet_path(families.BACKBONES["VGG16"], 1.0, 224)
    path.parent.mkdir()
    path.write_bytes(b"")
    assert "VGG16=imagenet" in [one.name for one in candidates.of_pictures()]


def test_texts_have_sources_of_their_own(tmp_path):
    (tmp_path / "some.vec").write_text("a 1 2\nb 3 4\n")
    found = candidates.of_texts([str(tmp_path / "some.vec"), "none", "bert-mini=none"])
    assert [one.backbone for one in found] == ["word-vectors", "BERT-tiny", "BERT-mini"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["none"], "a ranking needs two"),
        (["none", "MobileNet-0.25=none"], "twice"),
        (["none", "leters_in_photos"], "Did you mean 'letters_in_photos'"),
        (["none", "docstrings_gpt"], "no network of pictures"),
        (["none", "nowhere/x.h5"], "no such file"),
        (["none", "VGG17=imagenet"], "Did you mean 'VGG1"),
        (["none", "VGG16=nowhere.h5"], "no such file"),
        (["none", "MobileNet-0.33"], "no ImageNet weights"),
        (["none", "OTHER"], "BACKBONE=FILE"),
        (["none", "FOLDER"], "no folder of a run"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(given, expected, file):
    places = {"OTHER": str(file.parent / "other.h5"), "FOLDER": str(file.parent)}
    with pytest.raises(InputError, match=expected) as error:
        candidates.of_pictures([places.get(one, one) for one in given])
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no weights file"):
        (file.parent / "text.h5").write_text("no numbers")
        candidates.parameters_in(file.parent / "text.h5")
