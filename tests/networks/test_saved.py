"""A model file that is damaged or a stranger's is one line, and takes no memory."""

import json
import os
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from runner.errors import InputError
from runner.networks import backbones
from runner.networks import saved as saved_networks


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    image = keras.Input((8, 8, 3))
    path = tmp_path_factory.mktemp("run") / "model.keras"
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))).save(path)
    return path.read_bytes()


def load(folder, content: bytes):
    (folder / "model.keras").write_bytes(content)
    return saved_networks.load(folder)


def refused(folder, content: bytes) -> str:
    with pytest.raises(InputError, match="model.keras cannot be loaded .*; give another run") as error:
        load(folder, content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


def test_what_was_saved_is_loaded(tmp_path, saved):
    assert load(tmp_path, saved).output.shape == (None, 2)


def test_damage_is_one_line(tmp_path, saved):
    for content in (b"", b"no archive", saved[: len(saved) // 2]):
        refused(tmp_path, content)
    weights = load(tmp_path, saved).get_weights()
    for place in range(0, len(saved), len(saved) // 40):
        damaged = bytearray(saved)
        damaged[place] ^= 4
        try:
            found = load(tmp_path, bytes(damaged)).get_weights()
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(map(np.array_equal, found, weights))


def test_classes_of_other_modules_are_one_line_and_not_imported(tmp_path, saved):
    (tmp_path / "model.keras").write_bytes(saved)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for module in ("antigravity", "os", "no_such_module"):
        record = json.loads(members["config.json"])
        record["config"]["layers"][1] |= {"module": module, "class_name": "system", "registered_name": "x"}
        with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
            for name, content in (members | {"config.json": json.dumps(record)}).items():
                archive.writestr(name, content)
        refused(tmp_path, (tmp_path / "other.keras").read_bytes())
    assert "antigravity" not in sys.modules


def test_an_archive_that_unpacks_to_far_more_is_not_unpacked(tmp_path, saved):
    path = tmp_path / "model.keras"
    path.write_bytes(saved)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more", "w") as file:
        for _ in range(300):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    assert "would unpack to 314," in refused(tmp_path, path.read_bytes())
    with pytest.raises(InputError, match="does not hold the weights"):
        backbones.build("MobileNet-0.25", 32, path)


def test_nor_is_an_array_that_was_packed(tmp_path, saved):
    (tmp_path / "model.keras").write_bytes(saved)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "large.weights.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "large.weights.h5", "a") as file:  # chunks that nothing was written to
        file.create_dataset("more", (2**30,), "float32", chunks=(2**20,), compression="gzip")
    members["model.weights.h5"] = (tmp_path / "large.weights.h5").read_bytes()
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "would unpack to 4,294," in refused(tmp_path, (tmp_path / "other.keras").read_bytes())
    for name in ("other.keras", "large.weights.h5"):
        with pytest.raises(InputError, match="does not hold the weights .*would unpack to"):
            backbones.build("MobileNet-0.25", 32, tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.keras")
    with pytest.raises(InputError, match="no regular file"):
        saved_networks.load(tmp_path)


def test_a_network_of_another_keras_is_refused_with_both_versions(tmp_path):
    path = tmp_path / "model.keras"
    image = keras.Input((3,))
    keras.Model(image, keras.layers.Dense(4)(image)).save(path)
    values = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(saved_networks.load(tmp_path)(values).shape, (2, 4))

    def change(old: bytes, new: bytes, name: str) -> None:
        with zipfile.ZipFile(path) as archive:
            parts = {one: archive.read(one) for one in archive.namelist()}
        parts[name] = parts[name].replace(old, new)
        with zipfile.ZipFile(path, "w") as archive:
            for one, content in parts.items():
                archive.writestr(one, content)

    change(b'"units": 4', b'"units": 4, "input_axes": 1', "config.json")  # as a later Keras may write it
    with pytest.raises(InputError, match="cannot be loaded") as error:
        saved_networks.load(tmp_path)
    assert "written by" not in str(error.value)
    change(keras.__version__.encode(), b"3.99.0", "metadata.json")
    with pytest.raises(InputError, match="cannot be loaded") as error:
        saved_networks.load(tmp_path)
    message = str(error.value)
    assert (
        f"written by Keras 3.99.0, and this is Keras {keras.__version__}" in message and "\n" not in message
    )
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be loaded"):
        saved_networks.load(tmp_path)
