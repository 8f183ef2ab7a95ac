"""Sources are read, split and checked, and what comes out of a dataset is what the manifest says."""

import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from runner.data import pairs
from runner.data.examples import summary
from runner.errors import InputError
from runner.pictures import in_memory, sources, square
from runner.pictures.load import load


def picture(number: int, size: int = 8) -> Image.Image:
    """A picture of its own for every number: noise."""
    return Image.fromarray(np.random.RandomState(number).randint(0, 256, (size, size, 3)).astype(np.uint8))


def write(root, counts: dict[str, int], first: int = 0):
    """Write root/CLASS/NN.png, all different; `first` numbers the first picture."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(first).save(root / name / f"{i:02}.png")
            first += 1
    return root


def ids(dataset) -> list[int]:
    return [int(element["id"]) for element in dataset]


def splits_of(loaded) -> dict:
    return {"train": loaded.train, "val": loaded.val, "test": loaded.test.open(None, "t")}


def kinds(loaded) -> dict[str, str]:
    """What is wrong with single files."""
    of_files = loaded.problems[loaded.problems["path"] != ""]
    return dict(zip(of_files["path"], of_files["kind"], strict=True))


def message(*arguments, **options) -> str:
    """The one line that loading answers with."""
    with pytest.raises(InputError) as error:
        load(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "photos", {"daisy": 20, "rose": 20, "tulip": 12})


# ---------------------------------------------------------------- what is in the datasets


@pytest.mark.parametrize("memory_budget", [2**30, 0], ids=["in memory", "from files"])
def test_elements_agree_with_the_manifest(folder, memory_budget):
    loaded = load(folder, 8, memory_budget=memory_budget)
    assert loaded.classes == ("daisy", "rose", "tulip")
    seen = []
    for split, dataset in splits_of(loaded).items():
        assert dataset.cardinality() == (loaded.manifest["split"] == split).sum()
        assert dataset.element_spec["input"].shape == (8, 8, 3)
        assert {key: spec.dtype for key, spec in dataset.element_spec.items()} == {
            "id": tf.int64,
            "input": tf.uint8,
            "label": tf.int64,
        }
        for element in dataset:
            row = loaded.manifest.loc[int(element["id"])]
            assert row["split"] == split
            assert loaded.classes[int(element["label"])] == row["label"] == row["path"].split("/")[0]
            np.testing.assert_array_equal(element["input"], np.asarray(Image.open(folder / row["path"])))
            seen.append(int(element["id"]))
    assert sorted(seen) == list(range(52))


@pytest.mark.parametrize("memory_budget", [2**30, 0], ids=["in memory", "from files"])
def test_the_order_is_fixed_and_the_datasets_compose(folder, memory_budget):
    loaded = load(folder, 8, memory_budget=memory_budget)
    assert ids(loaded.train) == ids(loaded.train)
    # What does not fit in memory comes mixed, since no shuffle buffer holds it all.
    assert (ids(loaded.train) == sorted(ids(loaded.train))) == (memory_budget > 0)
    again = load(folder, 8, memory_budget=memory_budget)
    pd.testing.assert_frame_equal(again.manifest, loaded.manifest)
    for one, other in zip(loaded.test.open(None, "t"), again.test.open(None, "t"), strict=True):
        np.testing.assert_array_equal(one["input"], other["input"])
    batches = list(loaded.train.shuffle(100, seed=1).repeat(2).batch(16, drop_remainder=True))
    assert all(batch["input"].shape == (16, 8, 8, 3) for batch in batches)


def test_odd_sizes_and_few_labels_keep_pictures_and_ids_together(folder):
    """7 x 7 x 3 bytes are no multiple of TensorFlow's alignment; few labels repack the array."""

    for labels_per_class in (None, 2):
        loaded = load(folder, 7, labels_per_class=labels_per_class, resize="stretch")
        for dataset in splits_of(loaded).values():
            for element in dataset:
                path = folder / loaded.manifest["path"][int(element["id"])]
                np.testing.assert_array_equal(element["input"], square.resize(Image.open(path), 7, "stretch"))


def test_pictures_outlive_their_data(folder):
    """The datasets point into one array, which must live as long as they do."""
    train = load(folder, 8).train
    expected = [element["input"].numpy() for element in train]
    for _ in range(5):
        load(folder, 8)
    for element, image in zip(train, expected, strict=True):
        np.testing.assert_array_equal(element["input"], image)


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_reorder_is_indexing_in_place(count):
    random = np.random.default_rng(count)
    array, order = random.integers(0, 255, (count, 3)), random.permutation(count)
    expected = array[order]
    in_memory._reorder(array, order)
    np.testing.assert_array_equal(array, expected)


def test_all_three_datasets_share_one_array():
    """A training set near the memory's size must not be held twice, not even to be shuffled."""
    count = 16_000  # of 12 kB: 188 MiB
    pictures = in_memory.aligned(count, 64)
    pictures[:] = 1  # so that every page is in memory before the count
    pictures[:, 0, 0, 0] = np.arange(count) % 251
    order = np.random.RandomState(0).permutation(count)
    before = _resident()
    parts = [order[:12_000], order[12_000:13_000], order[13_000:]]
    for dataset in in_memory.datasets(pictures, parts, {"label": np.zeros(count, np.int64)}):
        for batch in dataset.shuffle(12_000).batch(100):
            np.testing.assert_array_equal(batch["input"][:, 0, 0, 0], batch["id"] % 251)
    assert _resident() - before < pictures.nbytes / 2


def _resident() -> int:
    if not os.path.exists("/proc/self/statm"):
        return 0
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_summary_counts(folder):
    (folder / "rose" / "broken.jpg").write_bytes(b"")
    counts = summary(load(folder, 8, labels_per_class=3))
    assert list(counts.columns) == ["train", "val", "test", "unused", "skipped"]
    assert list(counts.index) == ["daisy", "rose", "tulip"]
    assert counts.loc["rose"].tolist() == [3, 3, 5, 9, 1]
    assert counts.to_numpy().sum() == 53


# ---------------------------------------------------------------- odd files


def test_each_odd_file_is_decoded_or_named(folder):
    rose = folder / "rose"
    (rose / "empty.jpg").write_bytes(b"")
    (rose / "notes.txt").write_text("pick up the tulips")
    (rose / "half.png").write_bytes((rose / "00.png").read_bytes()[:100])
    picture(900).convert("CMYK").save(rose / "print.jpg")
    picture(901).convert("P").save(rose / "palette.png")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(rose / "deep.png")
    picture(902).save(rose / "moving.gif", save_all=True, append_images=[picture(903)])
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(rose / "glass.png")
    (rose / ".DS_Store").write_bytes(b"junk")
    (rose / "Thumbs.db").write_bytes(b"junk")
    loaded = load(folder, 8)
    assert kinds(loaded) == {
        "rose/empty.jpg": "unreadable",
        "rose/notes.txt": "unreadable",
        "rose/half.png": "unreadable",
        "rose/print.jpg": "converted",
        "rose/deep.png": "converted",
        "rose/moving.gif": "converted",
        "rose/glass.png": "blank",  # and converted
    }
    skipped = loaded.manifest[loaded.manifest["split"] == "skipped"]
    assert set(skipped["path"]) == {"rose/empty.jpg", "rose/notes.txt", "rose/half.png"}
    assert (skipped["sha256"] == "").all()
    assert len(ids(loaded.train)) + len(ids(loaded.val)) + len(ids(loaded.test.open(None, "t"))) == 52 + 5
    assert not set(skipped.index) & {*ids(loaded.train), *ids(loaded.val), *ids(loaded.test.open(None, "t"))}

    text = message(folder, 8, on_bad_data="stop")
    assert "3 cannot be used" in text and "rose/empty.jpg" in text and "on_bad_data='skip'" in text


def test_nothing_readable_is_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"")
    assert "of whose 2 files 2 cannot be used" in message(tmp_path, 8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such file names")
def test_a_file_name_that_is_not_utf8(folder):
    name = os.fsencode(folder / "rose") + b"/caf\xe9.png"
    shutil.copy(folder / "rose" / "00.png", name)
    picture(950).save(os.fsdecode(name), "PNG")
    for budget in (2**30, 0):
        loaded = load(folder, 8, memory_budget=budget)
        assert "rose/caf\\xe9.png" in set(loaded.manifest["path"])
        loaded.manifest.to_csv(folder.parent / "manifest.csv")
        assert sum(len(ids(dataset)) for dataset in splits_of(loaded).values()) == 53


# ---------------------------------------------------------------- splits


def test_splits_are_stratified_seeded_and_written_down(folder):
    loaded = load(folder, 8, seed=5)
    assert summary(loaded).loc["daisy"].tolist() == [12, 3, 5, 0, 0]
    assert summary(loaded).loc["tulip"].tolist() == [7, 2, 3, 0, 0]
    assert (load(folder, 8, seed=6).manifest["split"] != loaded.manifest["split"]).any()


def test_given_folders_are_kept_and_val_is_carved(tmp_path):
    write(tmp_path / "train", {"a": 20, "b": 20})
    write(tmp_path / "Testing", {"a": 6, "b": 6}, first=100)
    loaded = load(tmp_path, 8)
    assert summary(loaded).loc["a"].tolist() == [17, 3, 6, 0, 0]
    assert loaded.manifest["path"][loaded.manifest["split"] == "test"].str.startswith("Testing/").all()
    write(tmp_path / "validation", {"a": 4, "b": 4}, first=200)
    assert summary(load(tmp_path, 8)).loc["b"].tolist() == [20, 4, 6, 0, 0]


def test_labels_per_class_is_nested_and_never_thins_test(folder):
    full, five, three = (load(folder, 8, labels_per_class=k) for k in (None, 5, 3))
    assert (summary(five)["train"] == 5).all() and (summary(three)["train"] == 3).all()
    assert (summary(three)["val"] <= 3).all() and (summary(five)["val"] <= 5).all()
    assert set(ids(three.train)) < set(ids(five.train)) < set(ids(full.train))
    assert set(ids(three.val)) <= set(ids(five.val)) <= set(ids(full.val))
    assert ids(three.test.open(None, "t")) == ids(five.test.open(None, "t")) == ids(full.test.open(None, "t"))
    assert (five.manifest["split"] == "unused").sum() == 52 - len(ids(full.test.open(None, "t"))) - 15 - len(
        ids(five.val)
    )
    other = load(folder, 8, labels_per_class=5, seed=1)
    assert set(ids(other.train)) != set(ids(five.train))
    text = message(folder, 8, labels_per_class=8)
    assert "'tulip' has 7" in text and "1 to 7" in text and "daisy" not in text


def test_groups_stay_together_in_our_splits(tmp_path):
    write(tmp_path / "images", {"a": 40, "b": 40})
    rows = [(f"images/{c}/{i:02}.png", c, f"patient {i // 4}") for c in "ab" for i in range(40)]
    pd.DataFrame(rows, columns=["path", "label", "group"]).to_csv(tmp_path / "list.csv", index=False)
    for seed in range(4):
        loaded = load(tmp_path / "list.csv", 8, seed=seed)
        assert (loaded.manifest.groupby("group")["split"].nunique() == 1).all()
        assert (summary(loaded)["test"].between(6, 14)).all()


def test_identical_pictures_stay_together_in_our_splits(folder):
    for i in range(10):  # the same pixels under other names and in another format
        Image.open(folder / "daisy" / f"{i:02}.png").save(folder / "daisy" / f"copy {i}.bmp")
    for seed in range(4):
        loaded = load(folder, 8, seed=seed)
        assert (loaded.manifest.groupby("sha256")["split"].nunique() == 1).all()
        assert loaded.manifest["sha256"].nunique() == 52
        assert "duplicate" not in set(loaded.problems["kind"])


def test_a_leak_between_given_splits_is_reported_and_kept(tmp_path):
    write(tmp_path / "train", {"a": 8, "b": 8})
    write(tmp_path / "test", {"a": 4, "b": 4}, first=100)
    picture(3).save(tmp_path / "test" / "a" / "leak.tif")  # = train/a/03.png
    loaded = load(tmp_path, 8)
    leaks = loaded.problems[loaded.problems["kind"] == "duplicate"]
    assert leaks["path"].tolist() == ["test/a/leak.tif"]
    assert "train/a/03.png" in leaks["message"].item() and "test/a/leak.tif" in leaks["message"].item()
    assert summary(loaded)["test"]["a"] == 5


def photo(number: int) -> Image.Image:
    """A picture whose copies can be told from others: noise of 6 px, which survives resizing and JPEG."""
    return picture(number, 12).resize((72, 72), Image.Resampling.BICUBIC)


def test_near_duplicates_stay_together_in_our_splits(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(30):
            photo(100 * (name == "b") + i).save(tmp_path / name / f"{i:02}.png")
    for i in range(10):
        copy = photo(i).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((50, 50))
        copy.save(tmp_path / "a" / f"copy {i}.jpg", quality=80)
    photo(0).save(tmp_path / "a" / "exact.bmp")
    for seed in range(4):
        loaded = load(tmp_path, 8, seed=seed)
        split = loaded.manifest.set_index("path")["split"]
        for i in range(10):
            assert split[f"a/{i:02}.png"] == split[f"a/copy {i}.jpg"]
        assert split["a/00.png"] == split["a/exact.bmp"]
        assert "near-duplicate" not in set(loaded.problems["kind"][loaded.problems["path"] != ""])
        assert len(loaded.near_duplicates) == 10 and set(loaded.near_duplicates["how"]) == {"mirrored"}
    assert summary(loaded).loc["a", ["train", "val", "test"]].between(4, 30).all()


def test_near_duplicates_between_given_splits_are_reported_and_shown(tmp_path):
    for split, first in (("train", 0), ("test", 50)):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(12):
                photo(first + i + 20 * (name == "b")).save(tmp_path / split / name / f"{i:02}.png")
    photo(3).resize((40, 40)).save(tmp_path / "test" / "b" / "leak.jpg", quality=70)  # of train/a/03.png
    for budget in (2**30, 0):
        loaded = load(tmp_path, 8, val_fraction=0.3, memory_budget=budget)
        found = loaded.problems.set_index("kind")["message"]
        origin = loaded.manifest.set_index("path")["split"]["train/a/03.png"]
        assert found["near-duplicate"].startswith(
            f"test 'test/b/leak.jpg' shows nearly the same as {origin} 'train/a/03.png'"
        )
        assert "'b'" in found["label"] and "'a'" in found["label"]
        paths = loaded.manifest["path"]
        (pair,) = loaded.near_duplicates[["first", "second"]].to_numpy()
        assert set(paths[pair]) == {"test/b/leak.jpg", "train/a/03.png"} and set(loaded.odd) == set(pair)
        assert all(image.shape == (8, 8, 3) and image.dtype == np.uint8 for image in loaded.odd.values())


@pytest.mark.parametrize("grouped", [False, True])
def test_a_film_is_split_and_told_and_not_put_into_one_split(tmp_path, grouped):
    """Sixty frames of one scene are more than a split can take whole; only groups can say where to cut."""
    scene = np.asarray(photo(0).resize((144, 144)))
    rows = []
    (tmp_path / "images").mkdir()
    for i in range(60):
        frame = np.roll(scene, i // 20, axis=1).copy()
        frame[i : i + 3, :3] = 255
        for name, image in ((f"{i:02}.png", Image.fromarray(frame)), (f"other {i}.png", photo(1000 + i))):
            image.save(tmp_path / "images" / name)
            rows.append((f"images/{name}", "ab"[i % 2], f"scene {i // 5}" if grouped else ""))
    pd.DataFrame(rows, columns=["path", "label", "group"]).to_csv(tmp_path / "list.csv", index=False)
    loaded = load(tmp_path / "list.csv", 8)
    frames = loaded.manifest[~loaded.manifest["path"].str.contains("other")]
    assert set(frames["split"]) == {"train", "val", "test"}
    torn = loaded.problems[loaded.problems["kind"] == "near-duplicate"]
    assert (torn["path"] != "").sum() > 5
    whole = torn["message"][torn["path"] == ""]
    film = whole[whole.str.contains("frames of a film")].tolist()
    (count,) = whole[~whole.str.contains("frames of a film")]
    apart, _ = pairs.conflicts(loaded.near_duplicates, loaded.manifest)
    assert count.startswith(f"{apart.sum()} pairs of pictures that show nearly the same stand in two splits")
    assert ("they join the groups 'scene" in count) == grouped
    if grouped:
        assert (frames.groupby("group")["split"].nunique() == 1).all() and film == []
    else:
        assert len(film) == 1 and "60 of 120 pictures" in film[0] and "group column" in film[0]


def test_the_manifest_says_what_the_files_are(folder):
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(folder / "rose" / "low.gif")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(5).resize((40, 20)).save(folder / "rose" / "turned.jpg", exif=exif)
    (folder / "rose" / "broken.jpg").write_bytes(b"")
    rows = load(folder, 8).manifest.set_index("path")
    columns = ["width", "height", "format", "gray", "turned"]
    assert rows.loc["rose/low.gif", columns].tolist() == [9, 6, "GIF", True, False]
    assert rows.loc["rose/turned.jpg", columns].tolist() == [20, 40, "JPEG", False, True]
    assert rows.loc["rose/00.png", columns].tolist() == [8, 8, "PNG", False, False]
    assert rows.loc["rose/broken.jpg", columns].tolist() == [0, 0, "", False, False]


def test_planted_faults_of_the_set_are_reported(tmp_path):
    write(tmp_path / "photos", {"daisy": 70, "daisys": 6})
    for i in range(60):
        (tmp_path / "photos" / "rose").mkdir(exist_ok=True)
        picture(5000 + i, 9).save(tmp_path / "photos" / "rose" / f"{i:02}.png")
    found = load(tmp_path / "photos", 8).problems.groupby("kind")["message"].agg(" ".join)
    assert set(found.index) == {"label", "tiny", "imbalance", "give-away"}
    assert "'daisy' and 'daisys'" in found["label"]
    # Without the quarter that is test.
    assert "45 of 45 pictures of 'rose', and no others, are 9 x 9 pixels" in found["give-away"]


def test_contradicting_labels_are_reported(folder):
    shutil.copy(folder / "daisy" / "00.png", folder / "rose" / "daisy.png")
    loaded = load(folder, 8)
    text = loaded.problems.set_index("kind")["message"]["label"]
    assert "'daisy'" in text and "'rose'" in text
    assert loaded.manifest.groupby("sha256")["split"].nunique().max() == 1


def test_class_names_that_differ_in_case_are_reported(tmp_path):
    write(tmp_path / "images", {"a": 8, "b": 8})
    lines = [f"images/{c}/{i:02}.png,{c.upper() if i % 2 else c}" for c in "ab" for i in range(8)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    loaded = load(tmp_path / "list.csv", 8)
    assert "'A' and 'a' differ in case" in " ".join(loaded.problems["message"])


def test_numbered_classes_are_sorted_by_value(tmp_path):
    assert load(write(tmp_path, {"10": 5, "9": 5, "0": 5}), 8).classes == ("0", "9", "10")


def test_a_class_that_test_lacks_is_reported(tmp_path):
    loaded = load(write(tmp_path, {"a": 12, "b": 12, "rare": 1}), 8)
    assert summary(loaded).loc["rare"].tolist() == [1, 0, 0, 0, 0]
    missing = loaded.problems[loaded.problems["kind"] == "missing"]["message"].tolist()
    assert missing == ["class 'rare' has no val example", "class 'rare' has no test example"]


# ---------------------------------------------------------------- folders that are wrong


def test_wrong_folders_are_answered(tmp_path):
    cases = tmp_path / "cases"
    (cases / "nothing").mkdir(parents=True)
    assert "no pictures" in message(cases / "nothing", 8)

    write(cases / "one", {"daisy": 3})
    assert "at least two classes" in message(cases / "one", 8)

    write(cases / "hollow", {"daisy": 5, "rose": 0, "tulip": 5})
    assert "no training example of class 'rose'" in message(cases / "hollow", 8)

    write(cases / "loose", {"daisy": 3, "rose": 3})
    picture(1).save(cases / "loose" / "stray.jpg")
    assert "stray.jpg" in message(cases / "loose", 8)
    write(cases, {"flat": 3})
    assert "3 pictures without class folders" in message(cases / "flat", 8)

    write(cases / "wrapped" / "flowers", {"daisy": 3, "rose": 3})
    assert f"did you mean {str(cases / 'wrapped' / 'flowers')!r}" in message(cases / "wrapped", 8)

    write(cases / "deep", {"daisy": 3, "rose/2019": 3})
    assert "'rose/2019'" in message(cases / "deep", 8)

    write(cases / "splits only", {"train": 3, "test": 3})
    assert "hold no class folders" in message(cases / "splits only", 8)

    write(cases / "mixed", {"train/a": 3, "train/b": 3, "roses": 3})
    assert "roses" in message(cases / "mixed", 8)

    write(cases / "no train", {"val/a": 3, "val/b": 3, "test/a": 3, "test/b": 3})
    assert "one train folder" in message(cases / "no train", 8)

    write(
        cases / "two vals", {"train/a": 3, "train/b": 3, "val/a": 3, "val/b": 3, "valid/a": 3, "valid/b": 3}
    )
    assert "val, valid" in message(cases / "two vals", 8)

    write(cases / "differs", {"train/a": 5, "train/b": 5, "test/a": 5, "test/c": 5})
    assert "'test' lacks" in message(cases / "differs", 8) and "b" in message(cases / "differs", 8)

    write(cases / "hollow train", {"train/a": 5, "train/b": 0, "test/a": 5, "test/b": 5})
    assert "no training example of class 'b'; it has 5 test" in message(cases / "hollow train", 8)


def test_a_class_may_be_called_train(tmp_path):
    loaded = load(write(tmp_path, {"car": 6, "plane": 6, "train": 6}), 8)
    assert loaded.classes == ("car", "plane", "train")


def test_a_class_or_split_behind_a_dead_link_is_refused(tmp_path):
    write(tmp_path / "flat", {"a": 8, "b": 8})
    os.symlink("gone", tmp_path / "flat" / "rose")
    assert "'rose', a link that leads nowhere" in message(tmp_path / "flat", 8)
    write(tmp_path / "split", {"train/a": 8, "train/b": 8, "test/a": 8, "test/b": 8})
    os.symlink("gone", tmp_path / "split" / "val")
    assert "'val', a link that leads nowhere" in message(tmp_path / "split", 8)
    (tmp_path / "split" / "val").unlink()
    os.symlink("gone", tmp_path / "split" / "test" / "rose")
    assert "'rose', a link that leads nowhere" in message(tmp_path / "split", 8)


def test_dead_links_among_pictures_are_named(folder):
    os.symlink("gone.png", folder / "rose" / "dead.png")
    os.symlink("loop.png", folder / "rose" / "loop.png")
    for name in ("@eaDir", "lost+found"):
        (folder / name).mkdir()
        (folder / "rose" / name).mkdir()
        picture(900).save(folder / "rose" / name / "00.png")
    loaded = load(folder, 8)
    assert loaded.classes == ("daisy", "rose", "tulip")
    assert kinds(loaded) == {"rose/dead.png": "unreadable", "rose/loop.png": "unreadable"}
    assert "a link that leads nowhere" in set(loaded.problems["message"])


def test_no_message_advises_what_would_mix_splits(tmp_path):
    splits_of_images = {f"images/{split}/{name}": 3 for split in ("train", "test") for name in "ab"}
    write(tmp_path / "one", splits_of_images)
    assert f"did you mean {str(tmp_path / 'one' / 'images')!r}" in message(tmp_path / "one", 8)
    write(tmp_path / "two", splits_of_images)
    (tmp_path / "two" / "labels").mkdir()
    text = message(tmp_path / "two", 8)
    assert "'images/test', a split inside" in text and "did you mean" in text and "up" not in text.split()

    write(tmp_path / "words", {f"{word} Set/{name}": 3 for word in ("Training", "Test") for name in "ab"})
    text = message(tmp_path / "words", 8)
    assert "'Test Set', 'Training Set' look like splits; rename each" in text

    write(tmp_path / "flat", {"train/a": 3, "train/b": 3, "test": 3})
    assert "folder 'test' has no class folders" in message(tmp_path / "flat", 8)
    for names in (("Train", "Test"), ("Training Set", "Test Set")):
        write(tmp_path / names[0], dict.fromkeys(names, 3))
        assert "hold no class folders" in message(tmp_path / names[0], 8)


def test_class_names_in_two_unicode_forms_are_one_class(tmp_path):
    names = ("caf\u00e9", "cafe\u0301")
    write(tmp_path / "flat", {names[0]: 9, "tea": 9})
    write(tmp_path / "flat", {names[1]: 9}, first=100)
    loaded = load(tmp_path / "flat", 8)
    assert loaded.classes == (names[0], "tea") and summary(loaded).loc[names[0]].sum() == 18
    assert "class 'caf\u00e9' is written in two Unicode forms" in " ".join(loaded.problems["message"])
    write(tmp_path / "split", {f"train/{names[0]}": 9, "train/tea": 9})
    write(tmp_path / "split", {f"test/{names[1]}": 9, "test/tea": 9}, first=100)
    assert load(tmp_path / "split", 8).classes == (names[0], "tea")
    lines = [f"flat/{name}/{i:02}.png,{name}" for name in (*names, "tea") for i in range(9)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    loaded = load(tmp_path / "list.csv", 8)
    assert loaded.classes == (names[0], "tea") and len(loaded.manifest) == 27
    # A name that is written in one way stays as it is.
    write(tmp_path / "mac", {names[1]: 9, "tea": 9})
    assert load(tmp_path / "mac", 8).classes == (names[1], "tea")


def test_unknown_sources_are_answered(tmp_path, monkeypatch):
    write(tmp_path / "flowers", {"a": 2, "b": 2})
    text = message(str(tmp_path / "flower"), 8)
    assert "datasets/" in text and "tfds:NAME" in text and ".csv" in text
    assert f"Did you mean '{tmp_path / 'flowers'}'?" in text
    (tmp_path / "photos.zip").write_bytes(b"PK")
    assert "unpack" in message(tmp_path / "photos.zip", 8)
    message("", 8)
    assert "Did you mean 'mnist'?" in message("tfds:mnits", 8)
    monkeypatch.setattr(sources, "datasets", lambda: ["digits_in_photos"])
    assert "Did you mean 'digits_in_photos'?" in message("digits", 8)


@pytest.mark.parametrize(
    "name, value",
    [
        ("seed", -1),
        ("seed", 0.5),
        ("labels_per_class", 0),
        ("labels_per_class", True),
        ("val_fraction", 0),
        ("val_fraction", 1.5),
        ("val_fraction", float("nan")),
        ("test_fraction", 0.9),
        ("test_fraction", "a quarter"),
        ("on_bad_data", "skp"),
        ("resize", "cropped"),
        ("memory_budget", -1),
    ],
)
def test_wrong_options_are_named_before_anything_is_read(name, value):
    assert f"{name}={value!r}" in message("is not there", 8, **{name: value})


@pytest.mark.parametrize("image_size", [0, -8, 8.0, 10**6, "64", None])
def test_wrong_sizes(image_size):
    assert "image_size" in message("is not there", image_size)


# ---------------------------------------------------------------- CSV files


@pytest.fixture
def table(tmp_path):
    """Writes the text of list.csv beside images/a and images/b, eight pictures each; returns its path."""
    write(tmp_path / "images", {"a": 8, "b": 8})

    def build(*lines: str, encoding="utf-8"):
        (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
        return tmp_path / "list.csv"

    return build


def rows(extra=lambda name, i: "") -> list[str]:
    return [f"images/{name}/{i:02}.png,{name}{extra(name, i)}" for name in "ab" for i in range(8)]


def test_a_csv_file_is_read(table, tmp_path):
    picture(777).save(tmp_path / "images" / "naïve, tulip.png")
    lines = ["Path, Label ,note", *[f"{row},x" for row in rows()], "", '"images/naïve, tulip.png", a ,x']
    loaded = load(table(*lines, encoding="utf-8-sig"), 8)
    assert loaded.classes == ("a", "b")
    assert len(loaded.manifest) == 17
    assert loaded.manifest["path"].iloc[-1] == "images/naïve, tulip.png"
    assert summary(loaded).loc["b"].tolist() == [5, 1, 2, 0, 0]


def test_absolute_paths_are_allowed(table, tmp_path):
    lines = [f"{tmp_path}/images/{name}/{i:02}.png,{name}" for name in "ab" for i in range(8)]
    assert len(load(table("path,label", *lines), 8).manifest) == 16


def test_split_and_group_columns_are_respected(table):
    words = ["train", "Training", "train", "train", "val", "validation", "test", "TEST"]
    loaded = load(table("path,label,split,group", *rows(lambda name, i: f",{words[i]},{name}{i}")), 8)
    assert summary(loaded).loc["a"].tolist() == [4, 2, 2, 0, 0]
    assert loaded.manifest["group"].tolist() == [f"{name}{i}" for name in "ab" for i in range(8)]
    text = message(table("path,label,split,group", *rows(lambda name, i: f",{words[i]},{i % 4}")), 8)
    assert "group '0'" in text and "train" in text and "val" in text


def test_a_weight_column_says_how_much_each_example_counts(table):
    loaded = load(table("path,label,weight", *rows(lambda name, i: f",{i / 2}")), 8)
    assert loaded.manifest["weight"].tolist() == [i / 2 for _ in "ab" for i in range(8)]
    assert loaded.in_words().endswith("; weights in training: 0 to 3.5")
    assert "weight" not in load(table("path,label", *rows()), 8).manifest
    for cell in ("-1", "much", "", "nan", "inf"):
        body = rows(lambda name, i, cell=cell: f",{cell if name == 'a' and i == 3 else 1}")
        text = message(table("path,label,weight", *body), 8)
        assert f"weight {cell!r} in line 5; give a number from 0" in text


def test_wrong_csv_files_are_answered(table, tmp_path):
    body = rows()
    assert "empty" in message(table(""), 8)
    assert "no rows" in message(table("path,label"), 8)
    assert "'file', 'label'" in message(table("file,label", *body), 8)
    assert "commas" in message(table("path;label", "images/a/00.png;a"), 8)
    assert "each once" in message(table("path,label,label", *rows(lambda name, i: ",x")), 8)
    assert "line 4" in message(table("path,label", *body[:2], "images/a/02.png,a,b", *body[3:]), 8)
    assert "line 3" in message(table("path,label", body[0], "images/a/01.png", *body[2:]), 8)
    text = message(table("path,label", *body[:2], "images/a/02.png, ", *body[3:]), 8)
    assert "empty label in line 4" in text
    assert "empty path" in message(table("path,label", *body[:2], ",a"), 8)
    text = message(table("path,label,split", *rows(lambda name, i: ",trian" if i == 3 else ",train")), 8)
    assert "'trian' in line 5" in text and "Did you mean 'train'?" in text
    assert "no 'train'" in message(table("path,label,split", *rows(lambda name, i: ",test")), 8)
    assert "empty split" in message(
        table("path,label,split", *rows(lambda name, i: "," + "train" * (i > 0))), 8
    )
    assert "lines 2 and 18" in message(table("path,label", *body, "images/./a/00.png,b"), 8)
    text = message(table("path,label", *body, "images/gone.png,b", "images/gone2.png,b"), 8)
    assert "of whose 18 files 2 are missing" in text and "images/gone.png" in text and "line" in text
    assert "Write /" in message(table("path,label", *body, "images\\a\\00.png,b"), 8)
    assert "leaves the folder" in message(table("path,label", *body, "../secret.png,b"), 8)
    assert "leaves the folder" in message(table("path,label", *body, "images/../../secret.png,b"), 8)
    assert "missing" in message(table("path,label", *body, "images,b"), 8)  # a folder is no file
    assert "at least two classes" in message(table("path,label", *body[:8]), 8)
    split = rows(lambda name, i: ",train" if name == "a" or i > 20 else ",test")
    assert "no training example of class 'b'; it has 8 test" in message(table("path,label,split", *split), 8)
    (tmp_path / "list.csv").write_bytes(b"path,label\n\xff\xfe\xfa,a\n")
    assert "UTF-8" in message(tmp_path / "list.csv", 8)


def test_groups_too_coarse_to_split(table):
    text = message(table("path,label,group", *rows(lambda name, i: ",all of them")), 8)
    assert "smaller groups" in text


def test_one_class_alone_is_loaded_where_others_are_known(tmp_path):
    write(tmp_path, {"owl": 12})
    assert "at least two classes" in message(tmp_path, 8)
    loaded = load(tmp_path, 8, one_class=True)
    assert loaded.classes == ("owl",) and summary(loaded).loc["owl", ["train", "val", "test"]].min() > 0
