"""The domain adaptation template beyond its own tests: replicas, resume, data, copy and benchmark."""

import functools
import gzip
import importlib
import importlib.util
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from benchmarks import adaptation, digit_pairs
from runner import fields, new
from runner.errors import InputError
from runner.pictures.load import load
from runner.stage import Stage
from runner.training.checkpoint import Checkpointing
from runner.training.fit import fit_stages
from templates.domain_adaptation import choice, train, two_domains
from templates.domain_adaptation.config import Config
from tests.several_workers import Cut, CutAt

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Bars that lie or stand, dark in the source and bright in the target: 28 of each."""
    place, random = tmp_path_factory.mktemp("bars"), np.random.default_rng(0)
    for domain, ink in (("source", 20), ("target", 250)):
        for name in ("lying", "standing"):
            (place / domain / name).mkdir(parents=True)
            for number in range(28):
                picture = random.normal(120, 15, (16, 16, 3)).clip(0, 255).astype("uint8")
                row = random.integers(3, 12)
                picture[row : row + 2, 2:14] = ink
                picture = picture if name == "lying" else picture.transpose(1, 0, 2)
                Image.fromarray(picture).save(place / domain / name / f"{number}.png")
    return place


def test_a_hidden_label_leaves_files_to_be_shuffled_before_they_are_decoded(folders):
    shown = load(folders / "target", 16, memory_budget=1000).train
    hidden = two_domains.hide(shown)
    assert all(one["label"] == -1 for one in hidden.as_numpy_iterator())
    assert hidden.element_spec["label"] == shown.element_spec["label"]
    batch, given = (
        next(iter(files.batch(8).map(decode))) for files, decode in (hidden.undecoded, shown.undecoded)
    )
    assert (batch["label"].numpy() == -1).all() and (given["label"].numpy() >= 0).all()
    np.testing.assert_array_equal(batch["input"], given["input"])


def test_the_domains_differ_in_the_plot_for_every_kind_of_colour_vision():
    random = np.random.default_rng(0)
    source, target = (choice.Seen(random.normal(size=(40, 5)), None, None) for _ in range(2))
    (axes,) = choice.gap_figure(source, target).axes
    first, second = axes.collections
    assert len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices)  # circles and crosses
    width = axes.figure.get_size_inches()[0] * 72
    assert min(text.get_fontsize() for text in axes.get_legend().get_texts()) * 358 / width > 11  # a phone
    # What who lacks red or green cones sees (Machado et al. 2009, severity 1), linear RGB.
    kinds = {
        "protanopia": [(0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)],
        "deuteranopia": [(0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)],
        "tritanopia": [(1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)],
    }
    schemes = [re.findall(r"--(accent|second): (#\w{6})", part) for part in scheme_texts()]
    assert len(schemes) == 2
    for colours in map(dict, schemes):
        for kind, matrix in kinds.items():
            one, other = (lab(np.array(matrix) @ linear(colours[n])) for n in ("accent", "second"))
            assert np.linalg.norm(one - other) > 40, (kind, colours)


def scheme_texts():
    css = (ROOT / "runner/report/page.css").read_text()
    return css.split("@media (prefers-color-scheme: dark)")[:2]


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, in whose space 2.3 is just noticed."""
    xyz = np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]) @ rgb
    x, y, z = np.cbrt(np.clip(xyz / (0.9505, 1, 1.089), 0.009, 1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def small_config(folders, **changes) -> Config:
    config = Config(
        source=str(folders / "source"),
        target=str(folders / "target"),
        backbone="small_cnn",
        weights="none",
        image_size=16,
        batch_size=8,
        dropout=0.0,
        stages=(Stage("all", train="all", epochs=2, learning_rate=1e-3, batch_norm="train", keep="last"),),
    )
    return fields.replace(config, **changes)


@pytest.mark.slow
def test_two_replicas_train_dann_as_one_does(folders):
    """Its loss is a mean over pictures, BatchNorm sees the whole batch: the same weights but for rounding."""
    config = small_config(folders)
    domains = train.load(config)
    one, alone = train.fit(fields.replace(config, strategy="cpu"), domains, "DANN")
    two, together = train.fit(fields.replace(config, strategy="mirrored"), domains, "DANN")
    np.testing.assert_allclose(together.history["loss"], alone.history["loss"], rtol=1e-4)
    for first, second in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), atol=2e-4, err_msg=first.path)


@pytest.mark.slow
def test_two_replicas_run_every_method(folders):
    config = small_config(folders, strategy="mirrored")
    networks, fits = train.fit_all(config, train.load(config))
    assert tuple(networks) == config.methods
    assert all(np.isfinite(fitted.history["loss"]).all() for fitted in fits.values())


def test_a_run_that_is_cut_goes_on_to_the_same_weights(folders, tmp_path, monkeypatch):
    config = small_config(folders, deterministic=False)
    domains = train.load(config)

    def fit(place, cut_at):
        whole = functools.partial(fit_stages, callbacks=[CutAt(*cut_at)])
        with monkeypatch.context() as patched:
            patched.setattr(train, "fit_stages", whole)
            return train.fit(config, domains, "DANN", Checkpointing(place, steps=1))

    never = (99, 0)
    network, fitted = fit(tmp_path / "whole", never)
    with pytest.raises(Cut):
        fit(tmp_path / "cut", (1, 2))  # within the second epoch
    again, went_on = fit(tmp_path / "cut", never)
    pd.testing.assert_frame_equal(
        fitted.history.drop(columns="seconds"), went_on.history.drop(columns="seconds"), rtol=1e-5
    )
    for first, second in zip(network.weights, again.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=1e-5, atol=1e-6, err_msg=first.path)


# ---------------------------------------------------------------- digits_plain


@pytest.fixture(scope="module")
def builders():
    """The modules of both digit datasets, loaded by path."""
    found = {}
    for name in ("digits_plain", "digits_in_photos"):
        folder = ROOT / "datasets" / name
        spec = importlib.util.spec_from_file_location(
            f"_test_{name}", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        with tfds.core.registered.skip_registration():
            found[name] = importlib.import_module(f"{spec.name}.{name}_dataset_builder")
    return found


def drawings(builders, split):
    builder = object.__new__(builders["digits_plain"].Builder)
    return dict(builder._generate_examples(split))


def test_no_drawing_of_one_domains_test_stands_in_the_others_training_or_validation(builders):
    photos = builders["digits_in_photos"].photos
    of_photos = {
        split: {int(row) for part in photos.digits(split) for row in part.sources}
        for split in photos.DIGIT_SPLITS
    }
    of_plain = {split: set(drawings(builders, split)) for split in photos.DIGIT_SPLITS}
    for one, other in ((of_photos, of_plain), (of_plain, of_photos)):
        assert not one["test"] & (other["train"] | other["validation"])
    assert sorted(row for rows in of_plain.values() for row in rows) == list(range(1797))


def test_plain_digits_are_dark_on_white_and_lie_elsewhere_than_over_the_photos(builders):
    from sklearn.datasets import load_digits

    plain = drawings(builders, "validation")
    photos = builders["digits_in_photos"].photos
    (pictures,) = photos.digits("validation")
    overlaps = []
    for row, mask in zip(pictures.sources, pictures.masks, strict=True):
        image = plain[int(row)]["image"]
        assert image.dtype == np.uint8 and image.shape == (64, 64, 3) and np.ptp(image, axis=-1).max() == 0
        assert plain[int(row)]["label"] == load_digits().target[row]
        assert image.max() > 200 and image.min() < 20 and image.mean() > 128
        drawn, over_photo = image[..., 0] < 128, mask > 127
        overlaps.append((drawn & over_photo).sum() / (drawn | over_photo).sum())
    assert np.median(overlaps) < 0.6


# ---------------------------------------------------------------- the copy


def test_the_template_is_copied_out_whole(tmp_path):
    project = new.new("domain_adaptation", tmp_path / "my_digits")
    package = {path.name for path in (project / "my_digits").iterdir()}
    assert package >= {"sections.py", "choice.py", "two_domains.py", "train.py", "explore.ipynb"}
    assert package == {
        path.name
        for path in (ROOT / "templates" / "domain_adaptation").iterdir()
        if path.name not in ("__pycache__", "requirements.txt")
    }
    assert {path.name for path in (project / "datasets").iterdir()} == {
        "photos.py",
        "digits_plain",
        "digits_in_photos",
    }
    assert {path.name for path in (project / "checkpoints").iterdir()} == {"letters_in_photos"}
    for path in (project / "my_digits").iterdir():
        text = path.read_text()
        assert path.suffix == ".md" or "templates" not in text, path
        assert "{{" not in text and "templates.domain_adaptation" not in text, path


@pytest.mark.slow
def test_the_copy_trains_and_its_tests_pass(tmp_path, folders):
    project = new.new("domain_adaptation", tmp_path / "my_bars")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    domains = [f"--source={folders / 'source'}", f"--target={folders / 'target'}", "--image-size=32"]
    short = ["--methods", "source only", "MCC", "--batch-size=8", "--stages.0.epochs=1"]
    for command in (
        ["-m", "my_bars.train", *domains, *short, "--run-dir", "runs/short"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
    ):
        result = subprocess.run(
            [sys.executable, *command],
            cwd=project,
            env=variables,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert result.returncode == 0, result.stderr[-2000:] + result.stdout[-2000:]
    assert (project / "runs" / "short" / "metrics.json").is_file()


# ---------------------------------------------------------------- MNIST and USPS, and the benchmark's table


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def test_downloaded_digits_become_folders_of_pictures(tmp_path, monkeypatch):
    import h5py

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 28, 28)).astype("uint8")
    labels = np.array([3, 1, 4, 1, 5, 9], "uint8")
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    small = random.random((6, 256)).astype("float32")
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/data"], file[f"{split}/target"] = small, labels
    arguments = ["--mnist", tmp_path, "--usps", tmp_path / "usps.h5", "--output", tmp_path / "digits"]
    monkeypatch.setattr(sys, "argv", ["digit_pairs", *map(str, arguments)])
    digit_pairs.main()
    read = np.asarray(Image.open(tmp_path / "digits" / "mnist" / "4" / "00002.png"))
    np.testing.assert_array_equal(read, images[2])
    read = np.asarray(Image.open(tmp_path / "digits" / "usps" / "test" / "9" / "00005.png"))
    np.testing.assert_array_equal(read, np.rint(255 * small[5].reshape(16, 16)))
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 18
    with pytest.raises(InputError, match="is there already"):
        digit_pairs.main()


def test_files_that_are_no_digits_are_named(tmp_path):
    with pytest.raises(InputError, match="there is no t10k-images"):
        digit_pairs.mnist(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        digit_pairs.usps(tmp_path / "usps.h5")
    (tmp_path / "short").write_bytes(idx(np.zeros((2, 3), "uint8"))[:-1])
    with pytest.raises(InputError, match="5 of 6 values"):
        digit_pairs.read_idx(tmp_path / "short")
    (tmp_path / "short").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="no idx file"):
        digit_pairs.read_idx(tmp_path / "short")


def test_the_benchmarks_table_says_what_hurts_and_what_each_criterion_picked():
    known = {
        "source only": ([0.70, 0.72, 0.71], 1.0, 0.01, 0.3),
        "MCC": ([0.95, 0.94, 0.96], 2.0, 0.02, 0.2),
        "DANN": ([0.60, 0.62, 0.60], 0.5, 0.03, 0.1),
    }
    rows = [
        {
            "source": "mnist",
            "target": "usps",
            "seed": seed,
            "method": name,
            "accuracy": accuracy[seed],
            "infomax": infomax,
            "source_risk": risk,
            "weighted_risk": weighted,
        }
        for name, (accuracy, infomax, risk, weighted) in known.items()
        for seed in range(3)
    ]
    rows += [
        {**rows[seed], "method": adaptation.PLAIN, "accuracy": 0.99, "infomax": 9.0} for seed in range(3)
    ]
    lines = adaptation.summary(pd.DataFrame(rows)).splitlines()
    cells = {line.split(" | ")[0].strip("| "): line for line in lines}
    assert "0.950 ± 0.010 (+24.0" in cells["MCC"] and "hurts" not in cells["MCC"]
    assert "hurts" in cells["DANN"]
    assert "0.950 ± 0.010 (MCC 3)" in cells["chosen by infomax"]
    assert "(source only 3)" in cells["chosen by source_risk"]
    assert "(DANN 3)" in cells["chosen by weighted_risk"]
    assert "0.950 ± 0.010 (MCC 3)" in cells["oracle (chosen on test labels)"]
