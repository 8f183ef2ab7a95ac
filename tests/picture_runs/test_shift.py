"""The tests keep their level and find what shifted; a run says how far a folder of pictures lies from it."""

import json
import re
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm

from runner.data import reference
from runner.errors import InputError
from runner.networks import backbones
from runner.picture_runs import shift
from runner.pictures import any_size
from runner.pictures import reference as of_pictures
from runner.pictures.load import load
from runner.runs import evidence
from runner.runs import shift as pages
from runner.scores import two_sample

SIZE = 16


def normal(random, count, move=0.0, width=5):
    """Normal features, moved along the first axis."""
    rows = random.normal(size=(count, width)).astype(np.float32)
    rows[:, 0] += move
    return rows


# ---------------------------------------------------------------- the two tests


def test_mmd_is_the_unbiased_estimate():
    random = np.random.default_rng(0)
    first, second = normal(random, 7), normal(random, 4, 1)
    both = np.concatenate([first, second]).astype(float)
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(both) for b in both[:i]]
    width = np.median(pairs)

    def mean(a, b, same):
        values = [
            np.exp(-(np.linalg.norm(x - y) ** 2) / (2 * width**2))
            for i, x in enumerate(a.astype(float))
            for j, y in enumerate(b.astype(float))
            if not (same and i == j)
        ]
        return np.mean(values)

    expected = mean(first, first, True) + mean(second, second, True) - 2 * mean(first, second, False)
    found, permuted, _ = two_sample.mmd_test(first, second, permutations=2000)
    assert found == pytest.approx(expected, abs=1e-6)
    assert abs(permuted.mean()) < 3 * permuted.std() / np.sqrt(2000)  # unbiased: 0 on average


def test_without_a_shift_the_p_value_is_uniform():
    random = np.random.default_rng(1)
    p = [two_sample.mmd_test(normal(random, 25), normal(random, 15), 99, seed)[2] for seed in range(1000)]
    assert min(p) >= 0.01  # never 0: the observed order is one of the 100
    for level in (0.05, 0.25, 0.5, 0.75):
        deviation = np.sqrt(level * (1 - level) / 1000)
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=4 * deviation)


def test_a_shift_is_found_and_a_constant_is_none():
    random = np.random.default_rng(2)
    assert two_sample.mmd_test(normal(random, 60), normal(random, 60, 1.5))[2] == 0.001
    assert two_sample.mmd_test(np.ones((5, 3)), np.ones((4, 3)))[2] == 1
    assert two_sample.proxy_a_distance(np.ones((5, 3)), np.ones((4, 3))) == 0


def test_within_strata_other_proportions_are_no_shift():
    """Two far clusters, 30 + 30 on one side and 10 + 50 on the other; then one cluster of one side moves."""
    random = np.random.default_rng(6)
    strata = np.repeat([0, 1, 0, 1], [30, 30, 10, 50])
    plain, within = [], []
    for seed in range(40):
        rows = normal(random, 120) + 6 * strata[:, None]
        plain.append(two_sample.mmd_test(rows[:60], rows[60:], 99, seed)[2])
        within.append(two_sample.mmd_test(rows[:60], rows[60:], 99, seed, strata)[2])
    assert max(plain) <= 0.05 and np.mean(np.array(within) <= 0.05) < 0.2 and 0.3 < np.mean(within) < 0.7
    rows[70:, 0] += 2
    assert two_sample.mmd_test(rows[:60], rows[60:], 999, 0, strata)[2] <= 0.01


@pytest.mark.parametrize("move", [0.0, 1.0, 2.5])
def test_proxy_a_distance_of_two_normal_clouds_is_that_of_the_best_line(move):
    """The best line is wrong in Phi(-move / 2) of the cases, whatever the numbers on both sides."""
    random = np.random.default_rng(3)
    found = two_sample.proxy_a_distance(normal(random, 1500), normal(random, 700, move))
    assert found == pytest.approx(2 * (1 - 2 * norm.cdf(-move / 2)), abs=0.1)


def test_proxy_a_distance_of_few_is_within_its_range():
    random = np.random.default_rng(4)
    for sizes in ((2, 2), (2, 40), (3, 5)):
        first, second = normal(random, sizes[0], 0, 300), normal(random, sizes[1], 0, 300)
        assert 0 <= two_sample.proxy_a_distance(first, second) <= 2
    apart = two_sample.proxy_a_distance(normal(random, 20), normal(random, 20, 30))
    assert apart == 2


@pytest.mark.parametrize("move", [0.0, 1.0, 2.5])
def test_the_classifier_is_as_right_as_the_best_line_and_its_interval_says_so(move):
    random, best = np.random.default_rng(5), norm.cdf(move / 2)
    found = two_sample.classifier_test(normal(random, 600), normal(random, 300, move), 99)
    assert found.accuracy == pytest.approx(best, abs=0.05) and found.low < best < found.high
    assert found.high - found.low < 0.12 and found.yardstick == pytest.approx(0.53, abs=0.03)
    assert (found.p_value == 0.01) == (move > 0) and found.p_value_within == found.p_value


def test_without_a_shift_the_classifier_finds_one_as_often_as_said():
    random = np.random.default_rng(7)
    p = [
        two_sample.classifier_test(normal(random, 25, width=9), normal(random, 40, width=9), 99, seed).p_value
        for seed in range(100)
    ]
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 4 * np.sqrt(level * (1 - level) / 100)
    same = two_sample.classifier_test(np.ones((5, 3)), np.ones((4, 3)))
    assert (same.accuracy, same.p_value) == (0.5, 1.0)


def test_the_classifier_lets_other_proportions_of_the_classes_be():
    random, strata = np.random.default_rng(8), np.repeat([0, 1, 0, 1], [60, 60, 20, 100])
    rows = normal(random, 240) + 6 * strata[:, None]
    found = two_sample.classifier_test(rows[:120], rows[120:], 199, 0, strata)
    assert found.p_value < 0.02 and found.p_value_within > 0.05


# ---------------------------------------------------------------- a run and new pictures


def picture(random, colour):
    """A noisy square of one colour."""
    noise = random.normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(np.array(colour) + random.normal(0, 10, 3) + noise, 0, 255).astype(np.uint8)


COLOURS = {"green": (60, 150, 60), "red": (150, 60, 60)}


def save(folder, colours, count, seed):
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = list(colours)[number % len(colours)]
        Image.fromarray(picture(random, colours[name])).save(folder / f"{number}-{name}.png")


def network():
    """Eight features of the mean colour, and a head that tells red from green."""
    keras.utils.set_random_seed(1)
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    x = keras.ops.cast(image, "float32") / 255.0
    x = keras.layers.Conv2D(8, 3, activation="relu", name="map")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="head")(x), name="small")
    plain = np.array([np.full((SIZE, SIZE, 3), colour, np.uint8) for colour in COLOURS.values()])
    green, red = keras.Model(image, x).predict(plain, verbose=0)
    middle, across = (green + red) / 2, 10 * (red - green)
    model.get_layer("head").set_weights(
        [np.stack([-across, across], axis=1), np.array([middle @ across, -middle @ across])]
    )
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, data, network): a run on 160 red and green pictures."""
    root = tmp_path_factory.mktemp("shift")
    for number, name in enumerate(COLOURS):
        save(root / "photos" / name, {name: COLOURS[name]}, 80, number)
    examples = load(root / "photos", SIZE, val_fraction=0.4, test_fraction=0.1)
    model, folder = network(), root / "run"
    folder.mkdir()
    any_size.build(model).save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"image_size": SIZE, "resize": "crop"}))
    (folder / "metrics.json").write_text(json.dumps({"classes": list(COLOURS)}))
    of_pictures.write(folder / "reference.npz", model, examples)
    return folder, examples, model


def test_a_reference_comes_back_and_holds_what_the_network_gives(run):
    folder, examples, model = run
    kept = reference.read(folder / "reference.npz")
    assert (kept.layer, kept.classes, kept.temperature) == ("head", ("green", "red"), 1.0)
    pooled = keras.Model(model.input, model.get_layer("pool").output)
    for split in ("train", "val"):
        rows = list(getattr(examples, split).as_numpy_iterator())
        assert kept.ids[split].tolist() == [int(row["id"]) for row in rows]
        images = np.stack([row["input"] for row in rows])
        np.testing.assert_allclose(kept.features[split], pooled.predict(images, verbose=0), rtol=1e-3)
        probabilities = keras.ops.softmax(model.predict(images, verbose=0)).numpy()
        np.testing.assert_array_equal(kept.predictions[split], probabilities.argmax(axis=1))
        np.testing.assert_allclose(kept.confidences[split], probabilities.max(axis=1), rtol=1e-4)
    assert len(kept.thumbnails) == len(kept.ids["train"])
    assert all(one[:4] == b"RIFF" for one in kept.thumbnails)


def test_a_reference_is_cut_at_its_limit_and_averages_feature_maps(run, tmp_path, monkeypatch):
    _, examples, model = run
    monkeypatch.setattr(reference, "LIMIT", 10)
    small = reference.read(
        of_pictures.write(
            tmp_path / "small.npz", model, examples, layer="pool", batch_size=4, temperature=2.0
        )
    )
    assert small.features["val"].shape == (10, 8) and len(small.thumbnails) == 10
    assert len(set(small.ids["train"])) == 10
    assert set(small.ids["train"]) <= set(examples.manifest.index[examples.manifest["split"] == "train"])
    image = next(row["input"] for row in examples.val.as_numpy_iterator() if row["id"] == small.ids["val"][0])
    logits = model.predict(image[None], verbose=0)
    expected = keras.ops.softmax(logits / 2).numpy().max()
    assert small.confidences["val"][0] == pytest.approx(expected, rel=1e-4)


def test_what_is_no_reference_is_refused(run, tmp_path):
    _, examples, model = run
    with pytest.raises(InputError, match="train it again"):
        reference.read(tmp_path / "nothing.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="damaged"):
        reference.read(tmp_path / "torn.npz")
    with np.load(run[0] / "reference.npz") as file:
        arrays = dict(file)
    for changed in (
        {"val_ids": arrays["val_ids"][:-1]},
        {"val_predictions": arrays["val_predictions"] + 7},
        {"train_features": arrays["train_features"][:, :-1]},
        {"val_features": np.full_like(arrays["val_features"], np.nan)},
        {"thumbnail_ends": arrays["thumbnail_ends"][:-1]},
        {"classes": np.array([["green"]])},
    ):
        np.savez(tmp_path / "strange.npz", **(arrays | changed))
        with pytest.raises(InputError, match="damaged"):
            reference.read(tmp_path / "strange.npz")
    with pytest.raises(InputError, match="Did you mean 'head'"):
        of_pictures.write(tmp_path / "x.npz", model, examples, layer="heda")


def test_a_reference_of_another_run_is_named(run, tmp_path):
    folder, _, _ = run
    shutil.copytree(folder, tmp_path / "run")
    with np.load(folder / "reference.npz") as file:
        arrays = dict(file)
    for changed in (
        {"classes": np.array(["other", "red"])},
        {f"{split}_features": arrays[f"{split}_features"][:, 1:] for split in ("train", "val")},
    ):
        np.savez(tmp_path / "run" / "reference.npz", **(arrays | changed))
        save(tmp_path / "new", COLOURS, 3, 7)
        with pytest.raises(InputError, match="not of one run"):
            shift.run(tmp_path / "run", tmp_path / "new")


def test_fresh_pictures_of_the_same_kind_are_not_shifted(run, tmp_path):
    folder, _, _ = run
    save(tmp_path / "same", COLOURS, 60, 7)
    page = shift.run(folder, tmp_path / "same")
    numbers = json.loads((page.parent / "shift.json").read_text())
    assert numbers["p_value"] > 0.05 and numbers["distance"] < 0.6 and numbers["far"] < 0.2
    assert numbers["verdict"].startswith("No shift was found")
    assert "No shift was found" in page.read_text()


def test_other_pictures_are_and_the_page_shows_the_farthest(run, tmp_path):
    folder, examples, _ = run
    new = tmp_path / "new <b> & more"
    save(new / "deep" / "er", {"red": (190, 60, 60)}, 40, 8)
    save(new, {"white": (250, 250, 250)}, 1, 9)
    Image.fromarray(np.full((40, 90, 3), 170, np.uint8)).save(new / "wide.jpg")
    (new / "broken.jpg").write_bytes(b"\xff\xd8 not much of a JPEG")
    page = shift.run(folder, new, batch_size=16)
    numbers = json.loads((page.parent / "shift.json").read_text())
    assert numbers["p_value"] <= 0.01 and numbers["distance"] > 1 > numbers["distance_yardstick"]
    assert numbers["far"] > 0.5 and numbers["examples"] == 42
    rows = pd.read_csv(page.parent / "pictures.csv")
    assert len(rows) == 42 and rows["distance"].is_monotonic_decreasing
    assert rows["path"][0].endswith("0-white.png") and rows["percentile"][0] == 100
    assert set(rows["nearest"]) <= set(examples.manifest.index[examples.manifest["split"] == "train"])
    html = page.read_text()
    assert "<b> & more" not in html and "new &lt;b&gt; &amp; more" in html
    assert re.search(r"broken\.jpg: .+", html)
    assert len(re.findall(r"<figure>", html)) == pages.FARTHEST
    assert html.index("0-white.png") < html.index("wide.jpg")
    assert not re.search(r"(src|href)=\"(?!data:)", html)  # needs nothing else


def spaces(random, last_move, early_move, count=80):
    """A reference with two spaces of features, and what a network makes of new pictures that lie apart."""
    splits = {"train": 150, "val": 100}
    kept = reference.Reference(
        layer="head",
        classes=("a", "b"),
        temperature=1.0,
        features={split: normal(random, n) for split, n in splits.items()},
        ids={split: np.arange(n) for split, n in splits.items()},
        predictions={split: random.integers(0, 2, n) for split, n in splits.items()},
        confidences={split: np.full(n, 0.9) for split, n in splits.items()},
        thumbnails=[],
        early_layers=("block1",),
        early={split: 100 + 7 * normal(random, n) for split, n in splits.items()},
    )
    last, early = normal(random, count, last_move), 100 + 7 * normal(random, count, early_move)
    scaled = evidence.standardised(kept.early, kept.early["train"])["train"]
    new = evidence.standardised({"new": early}, kept.early["train"])["new"]
    table = pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(count)],
            "prediction": np.array(["a", "b"])[random.integers(0, 2, count)],
            "confidence": 0.9,
            "distance": evidence.nearest(kept.features["train"], last)[0],
            "early_distance": evidence.nearest(scaled, new)[0],
            "nearest": 0,
            "compared": True,
        }
    )
    return kept, last, table, early


@pytest.mark.parametrize(
    ("last_move", "early_move", "words"),
    [
        (0, 0, "No shift was found"),
        (0, 12, "Another kind of pictures"),  # insects and ultrasound: no place for it in the last features
        (12, 0, "Another kind of pictures"),
        (0, 1.5, "A clear shift"),
    ],
)
def test_the_verdict_follows_the_strongest_evidence(last_move, early_move, words):
    kept, last, table, early = spaces(np.random.default_rng(9), last_move, early_move)
    found = evidence.measure(kept, last, table, early=early)
    said = evidence.verdict(found)
    assert said.startswith(words)
    assert ("its confidence is no warning" in said) == (early_move == 12)
    if early_move == 12:
        assert found.last.far < 0.2 and found.early.far == 1 and found.early.told_apart > 0.98
        assert evidence.verdict(evidence.measure(kept, last, table)).startswith(
            "No shift"
        )  # what it said before
    record = json.loads(json.dumps(evidence.record(found)))
    assert record["early"]["told_apart_interval"][0] <= record["early"]["told_apart"]


def test_earlier_layers_are_the_last_of_each_resolution():
    network = backbones.build("MobileNet-0.25", 64, "none")
    features = keras.layers.GlobalAveragePooling2D(name="pool")(network.output)
    network = keras.Model(network.input, keras.layers.Dense(2, name="head")(features))
    names = of_pictures.early_layers(network)
    assert [network.get_layer(name).output.shape[1] for name in names] == [32, 16, 8, 4]
    features, early, _ = of_pictures.extractor(network, "head", names)(np.zeros((2, 64, 64, 3), "uint8"))
    channels = sum(network.get_layer(name).output.shape[-1] for name in names)
    assert features.shape == (2, 256) and early.shape == (2, 2 * channels)
    row = keras.Input((5,))
    assert of_pictures.early_layers(keras.Model(row, keras.layers.Dense(2, name="head")(row))) == ()


def test_a_run_of_an_earlier_version_has_its_last_features_alone(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run", ignore=shutil.ignore_patterns("shift"))
    with np.load(run[0] / "reference.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "run" / "reference.npz", **{k: v for k, v in arrays.items() if "early" not in k})
    save(tmp_path / "new", COLOURS, 6, 5)
    page = shift.run(tmp_path / "run", tmp_path / "new")
    assert json.loads((page.parent / "shift.json").read_text())["early"] is None
    assert "kept no features of earlier layers" in page.read_text()
    np.savez(tmp_path / "run" / "reference.npz", **arrays | {"val_early": arrays["val_early"][:, 1:]})
    with pytest.raises(InputError, match="damaged"):
        shift.run(tmp_path / "run", tmp_path / "new")


def test_distances_are_those_of_the_five_nearest(run):
    kept = reference.read(run[0] / "reference.npz")
    new = kept.features["val"][:3] + 0.01
    distances, places = evidence.nearest(kept.features["train"], new)
    for row, distance, place in zip(new, distances, places, strict=True):
        every = np.linalg.norm(kept.features["train"] - row, axis=1)
        assert distance == pytest.approx(np.sort(every)[:5].mean(), rel=1e-4)
        assert place == every.argmin()


def test_other_shares_of_classes_are_shown(run):
    kept = reference.read(run[0] / "reference.npz")
    features = kept.features["val"]
    distances, places = evidence.nearest(kept.features["train"], features)
    table = pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(len(features))],
            "prediction": "green",
            "confidence": 0.75,
            "distance": distances,
            "nearest": kept.ids["train"][places],
            "compared": True,
        }
    )
    found = evidence.measure(kept, features, table)
    assert found.classes.set_index("class")["new"].to_dict() == {"green": 1.0, "red": 0.0}
    assert found.classes["validation"].sum() == pytest.approx(1)
    assert found.confidence["new"] == 0.75
    # Validation against itself: of 100 pictures, 5 lie beyond the 95 % point.
    assert found.last.far == pytest.approx(0.05, abs=0.02) and found.table["percentile"].max() < 100


def test_one_class_alone_is_no_shift_within_it(run, tmp_path):
    folder, _, _ = run
    save(tmp_path / "reds", {"red": COLOURS["red"]}, 30, 11)
    page = shift.run(folder, tmp_path / "reds")
    numbers = json.loads((page.parent / "shift.json").read_text())
    assert numbers["p_value"] == 0.001 and numbers["p_value_within"] > 0.05
    assert numbers["verdict"].startswith("The classes are mixed in other proportions")


def test_few_pictures_say_little_and_one_says_nothing(run, tmp_path):
    folder, _, _ = run
    save(tmp_path / "few", COLOURS, 2, 3)
    page = shift.run(folder, tmp_path / "few")
    assert "with so few pictures" in page.read_text()
    save(tmp_path / "one", COLOURS, 1, 3)
    with pytest.raises(InputError, match="at least 2"):
        shift.run(folder, tmp_path / "one")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none of them a picture"):
        shift.run(folder, tmp_path / "none")
    with pytest.raises(InputError, match="is no folder"):
        shift.run(folder, tmp_path / "nowhere")
