"""Labelled texts are split, checked and tokenised, and a dataset gives what the manifest says."""

import hashlib
import json

import keras_hub
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner.data import pairs
from runner.errors import InputError
from runner.scores import entities as scores
from runner.text import batches, entities, tags
from runner.text import load as loading
from runner.text.load import load
from runner.text_networks.words import Words

THINGS = [
    f"{first}{second}"
    for first in ("red", "blue", "tall", "old")
    for second in ("cat", "dog", "oak", "car", "sun")
]
DOES = ["runs", "sits", "sings", "falls"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", *THINGS, *DOES]


@pytest.fixture(scope="module")
def tokenizer():
    return keras_hub.models.BertTokenizer(WORDS)


def sentence(number: int, words: int = 3) -> str:
    """A text of its own for every number, of so many words: three and more of the vocabulary each."""
    random = np.random.RandomState(number)
    return " ".join([THINGS[number % 20], DOES[number // 20 % 4], *random.choice(THINGS, max(0, words - 2))])


def rows_of(counts: dict[str, int], words: int = 3) -> list[dict]:
    labels = [name for name, count in counts.items() for _ in range(count)]
    return [{"text": sentence(number, words), "label": name} for number, name in enumerate(labels)]


def table(path, rows):
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def splits_of(loaded) -> dict[str, list[dict]]:
    datasets = {"train": loaded.train, "val": loaded.val, "test": loaded.test.open(None, "t")}
    return {name: list(one.as_numpy_iterator()) for name, one in datasets.items()}


def message(*given, **options) -> str:
    with pytest.raises(InputError) as error:
        load(*given, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def kinds(loaded) -> list[str]:
    return loaded.problems["kind"].tolist()


# ---------------------------------------------------------------- what is in the datasets


def test_elements_agree_with_the_manifest(tmp_path, tokenizer):
    path = table(tmp_path / "a.csv", rows_of({"good": 30, "bad": 30}, words=9))
    loaded = load(path, tokenizer, 32)
    assert loaded.classes == ("bad", "good") and loaded.unit == "texts" and loaded.tokenizer is tokenizer
    assert list(loaded.manifest) == [
        "path",
        "split",
        "label",
        "group",
        "subgroup",
        "sha256",
        "characters",
        "tokens",
        "unknown",
    ]
    assert loaded.manifest["split"].value_counts().to_dict() == {"train": 36, "test": 16, "val": 8}
    assert loaded.carved and loaded.length == 16 and list(loaded.texts) == pd.read_csv(path)["text"].tolist()
    seen = []
    for split, elements in splits_of(loaded).items():
        for one in elements:
            row, text = loaded.manifest.loc[one["id"]], loaded.texts[one["id"]]
            assert row["split"] == split and row["label"] == loaded.classes[one["label"]]
            assert row["path"] == f"a.csv:{one['id'] + 2}" and row["characters"] == len(text)
            assert row["sha256"] == hashlib.sha256(text.encode()).hexdigest() and row["tokens"] == 11
            ids = [WORDS.index(word) for word in ("[CLS]", *text.split(), "[SEP]")]
            assert one["input"].dtype == "int32" and one["input"].tolist() == ids + [0] * 5
            seen.append(int(one["id"]))
    assert sorted(seen) == list(range(60))
    spec = loaded.train.element_spec
    assert (
        spec["input"] == tf.TensorSpec([16], tf.int32) and spec["id"].dtype == spec["label"].dtype == tf.int64
    )


def test_the_same_seed_gives_the_same_and_another_another(tmp_path, tokenizer):
    path = table(tmp_path / "a.csv", rows_of({"good": 20, "bad": 20}))
    first, again, other = (load(path, tokenizer, 8, seed=seed).manifest for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert (first["split"] != other["split"]).any()


def test_rows_are_no_longer_than_the_longest_text_that_is_used(tmp_path, tokenizer):
    """Rounded up to a multiple of 8, as what is computed on likes it, and never more than was asked for."""
    rows = rows_of({"good": 12, "bad": 12})
    for words, length, expected in (
        (6, 128, 8),
        (7, 128, 16),
        (14, 128, 16),
        (15, 20, 20),
        (40, 20, 20),
        (2, 3, 3),
    ):
        rows[3] |= {"text": sentence(3, words)}
        loaded = load(table(tmp_path / "a.csv", rows), tokenizer, length)
        assert loaded.length == expected == loaded.train.element_spec["input"].shape[0]
        assert loaded.manifest["tokens"][3] == words + 2
    # A text that few labels leave out makes no row longer.
    marked = [
        row | {"split": split} for row, split in zip(rows, ["train", "train", "val", "test"] * 6, strict=True)
    ]
    marked[0] |= {"text": sentence(0, 100)}
    for seed in range(20):
        loaded = load(table(tmp_path / "b.csv", marked), tokenizer, 128, labels_per_class=1, seed=seed)
        unused = loaded.manifest["split"][0] == "unused"
        assert loaded.length == (8 if unused else 104)
        if unused:
            break
    assert unused and {"unused", "train", "val", "test"} == set(loaded.manifest["split"])


# ---------------------------------------------------------------- splits


def test_splits_that_are_given_are_kept(tmp_path, tokenizer):
    rows = rows_of({"good": 12, "bad": 12})
    given = ["train", "dev", "test"] * 8
    marked = [row | {"split": split, "weight": 2} for row, split in zip(rows, given, strict=True)]
    loaded = load(table(tmp_path / "a.csv", marked), tokenizer, 8)
    assert loaded.manifest["split"].tolist() == [{"dev": "val"}.get(one, one) for one in given]
    assert loaded.manifest["weight"].eq(2).all() and loaded.carved == "val and test as given"
    some = [row | {"split": "test" if i % 4 == 0 else "train"} for i, row in enumerate(rows)]
    loaded = load(table(tmp_path / "b.csv", some), tokenizer, 8, val_fraction=0.25)
    counts = loaded.manifest["split"].value_counts()
    assert counts["test"] == 6 and (loaded.manifest["split"] == "test")[::4].all() and counts["val"] >= 2


def test_near_copies_and_groups_stay_together(tmp_path, tokenizer):
    """A text in capitals with other signs is the same again, and so is a long one with a word more."""
    long = [
        " ".join(np.random.RandomState(i).permutation(THINGS)[:12]) + f" number{i} of{i} its{i} kind{i}"
        for i in range(12)
    ]
    rows = [{"text": text, "label": "ab"[i % 2], "group": ""} for i, text in enumerate(long)]
    rows += [{"text": f"{text.upper()}!!", "label": "ab"[i % 2], "group": ""} for i, text in enumerate(long)]
    rows += [{"text": f"{text} indeed", "label": "ab"[i % 2], "group": ""} for i, text in enumerate(long)]
    rows += [row | {"group": f"g{i // 4}"} for i, row in enumerate(rows_of({"a": 12, "b": 12}))]
    for seed in (0, 1, 2):
        loaded = load(table(tmp_path / "a.csv", rows), tokenizer, 32, seed=seed)
        split = loaded.manifest["split"].to_numpy()
        assert (split[:12] == split[12:24]).all() and (split[:12] == split[24:36]).all()
        assert loaded.manifest[36:].groupby("group")["split"].nunique().eq(1).all()
        found = {(one.first, one.second) for one in loaded.near_duplicates.itertuples()}
        assert {(i, i + 12) for i in range(12)} <= found and list(loaded.near_duplicates) == pairs.COLUMNS
        assert "near-duplicate" not in kinds(loaded) and set(split) == {"train", "val", "test"}


def test_copies_over_splits_that_are_given_are_serious(tmp_path, tokenizer):
    rows = rows_of({"good": 12, "bad": 12})
    marked = [row | {"split": split} for row, split in zip(rows, ["train", "val", "test"] * 8, strict=True)]
    marked[2] |= {"text": marked[0]["text"]}
    assert "duplicate" in kinds(load(table(tmp_path / "a.csv", marked), tokenizer, 8))


def test_few_labels_are_nested_and_leave_the_test_whole(tmp_path, tokenizer):
    path = table(tmp_path / "a.csv", rows_of({"good": 24, "bad": 40, "so-so": 16}))
    whole = load(path, tokenizer, 8).manifest
    chosen = {}
    for count in (2, 5):
        loaded = load(path, tokenizer, 8, labels_per_class=count)
        table_of = loaded.manifest.groupby(["split", "label"], observed=True).size().unstack(0)
        assert table_of["train"].tolist() == [count] * 3 and (table_of["val"] <= count).all()
        assert (loaded.manifest["split"] == "test").equals(whole["split"] == "test")
        chosen[count] = {int(one["id"]) for one in loaded.train.as_numpy_iterator()}
        assert len(chosen[count]) == 3 * count
    assert chosen[2] < chosen[5]
    assert "labels_per_class=100" in message(path, tokenizer, 8, labels_per_class=100)


def test_a_finished_network_is_judged_by_all(tmp_path, tokenizer):
    path = table(tmp_path / "a.csv", rows_of({"good": 5, "bad": 1}))
    loaded = load(path, tokenizer, 8, val_fraction=0, test_fraction=1)
    assert (loaded.manifest["split"] == "test").all() and loaded.train.cardinality() == 0
    assert loaded.val.element_spec["input"].shape == (8,) and len(splits_of(loaded)["test"]) == 6


# ---------------------------------------------------------------- what is said


def test_the_test_is_sealed_and_what_is_cut_off_is_reported(tmp_path, tokenizer):
    path = table(tmp_path / "a.csv", rows_of({"good": 20, "bad": 20}, words=12))
    loaded = load(path, tokenizer, 10)
    with pytest.raises(InputError, match="the test split is sealed"):
        iter(loaded.test)
    found = loaded.problems.set_index("kind")["message"]["truncated"]
    assert "24 of 24 texts (100 %) of train" in found and "have more tokens than 10" in found
    row = next(loaded.train.as_numpy_iterator())
    assert row["input"][0] == 2 and row["input"][-1] == 3 and loaded.length == 10
    assert loaded.texts[row["id"]].split()[7] == WORDS[row["input"][8]]
    assert "truncated" not in kinds(load(path, tokenizer, 14))
    rows = rows_of({"good": 20, "bad": 20}) + [{"text": sentence(90, 30), "label": "good"}]
    assert "truncated" not in kinds(load(table(tmp_path / "b.csv", rows), tokenizer, 16))  # one of many


def test_the_recipe_changes_with_what_decides_the_ids(tmp_path, tokenizer):
    """Whatever was computed from them before is then no more used: the recipe is a part of its name."""
    path = table(tmp_path / "a.csv", rows_of({"good": 12, "bad": 12}, words=12))
    recipe = load(path, tokenizer, 16).recipe
    named = keras_hub.models.BertTokenizer(WORDS, name="of_another_process")
    assert load(path, named, 16).recipe == recipe == load(path, tokenizer, 100).recipe
    others = [
        load(path, keras_hub.models.BertTokenizer([*WORDS[:-1], "other"]), 16).recipe,
        load(path, tokenizer, 12).recipe,
    ]
    assert len({recipe, *others}) == 3


def test_files_that_are_no_text_are_skipped_or_stop(tmp_path, tokenizer):
    for number, row in enumerate(rows_of({"good": 12, "bad": 12})):
        (tmp_path / row["label"]).mkdir(exist_ok=True)
        (tmp_path / row["label"] / f"{number:02}.txt").write_text(row["text"])
    (tmp_path / "bad" / "latin.txt").write_bytes(b"na\xefve")
    (tmp_path / "good" / "empty.txt").write_text(" \u200b\n")
    loaded = load(tmp_path, tokenizer, 8)
    assert len(loaded.manifest) == 25 and loaded.manifest["path"][0] == "bad/12.txt"
    told = loaded.problems.set_index("path")
    assert (
        told.loc["bad/latin.txt", "kind"] == "unreadable" and "0xEF" in told.loc["bad/latin.txt", "message"]
    )
    assert told.loc["good/empty.txt", "kind"] == "blank"
    said = message(tmp_path, tokenizer, 8, on_bad_data="stop")
    assert "1 files that are no text, such as 'bad/latin.txt'" in said and "0xEF in line 1" in said


def test_what_cannot_be_loaded(tmp_path, tokenizer):
    path = table(tmp_path / "a.csv", rows_of({"good": 12, "bad": 12}))
    for length in (2, 513, True, 8.0, "8", None, -1):
        assert f"length={length!r}" in message(path, tokenizer, length)
    assert load(path, tokenizer, np.int64(8)).length == 8
    assert "labels_per_class=0" in message(path, tokenizer, 8, labels_per_class=0)
    assert "on_bad_data='skp'" in message(path, tokenizer, 8, on_bad_data="skp")
    assert "at least two classes" in message(table(tmp_path / "b.csv", rows_of({"good": 9})), tokenizer, 8)
    assert "which is not there" in message(tmp_path / "gone.csv", tokenizer, 8)
    assert loading.LONGEST == 512


# ---------------------------------------------------------------- texts with entities

KINDS = ("animal", "plant")


def marked(number: int, count: int = 4) -> dict:
    """A text of its own for every number, of so many words, in which animals and plants are marked."""
    said = sentence(number, count)
    entities_, at = [], 0
    for word in said.split():
        kind = {"cat": "animal", "dog": "animal", "oak": "plant"}.get(word[-3:])
        entities_ += [[at, at + len(word), kind]] if kind else []
        at += len(word) + 1
    return {"text": said, "entities": entities_}


def objects(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return entities.find(path)


def truth_of(loaded, elements: list[dict]) -> set[tuple]:
    """Entities of elements, from their spans: (id, class, start, end)."""
    columns = {name: np.stack([one[name] for one in elements]) for name in ("id", "spans", "classes")}
    found = scores.from_arrays(columns["id"], columns["spans"], columns["classes"], loaded.classes)
    return set(found.itertuples(index=False, name=None))


def by_labels(loaded, elements: list[dict]) -> set[tuple]:
    """The same from the labels of their tokens."""
    found = set()
    for number in {int(one["id"]) for one in elements}:
        parts = [one for one in elements if one["id"] == number]
        starts, ends, label = (
            np.concatenate([one[name] for one in parts]) for name in ("starts", "ends", "label")
        )
        asked = starts >= 0
        logits = np.eye(tags.count(len(loaded.classes)))[label[asked]]
        ends = np.stack([starts[asked], ends[asked]], 1)
        found |= {(number, kind, *span) for (*span, kind), _ in tags.spans(ends, logits, loaded.classes)}
    return found


def test_texts_with_entities_become_tokens_with_tags(tmp_path, tokenizer):
    rows = [marked(number) for number in range(60)]
    loaded = load(objects(tmp_path / "a.jsonl", rows), tokenizer, 32)
    with pytest.raises(InputError, match="the test split is sealed"):
        iter(loaded.test)
    assert loaded.classes == KINDS and loaded.counted == "entities" and loaded.length == 8
    assert list(loaded.texts) == [row["text"] for row in rows]
    assert loaded.manifest["tokens"].tolist() == [len(row["text"].split()) + 2 for row in rows]
    amounts = [[sum(one[2] == kind for one in row["entities"]) for kind in KINDS] for row in rows]
    assert loaded.amounts.tolist() == amounts
    seen, spec = set(), loaded.train.element_spec
    assert spec["input"] == spec["label"] == spec["starts"] == spec["ends"] == tf.TensorSpec([8], tf.int32)
    for split, elements in splits_of(loaded).items():
        for one in elements:
            row = rows[one["id"]]
            assert loaded.manifest["split"][one["id"]] == split
            count = len(row["text"].split())
            ids = [WORDS.index(word) for word in ("[CLS]", *row["text"].split(), "[SEP]")]
            assert one["input"].tolist() == ids + [0] * (6 - count)
            cut = [
                row["text"][start:end]
                for start, end in zip(one["starts"], one["ends"], strict=True)
                if end > 0
            ]
            assert cut == row["text"].split() and (one["label"] >= 0).sum() == count
            wanted = {(int(one["id"]), kind, start, end) for start, end, kind in row["entities"]}
            assert truth_of(loaded, [one]) == by_labels(loaded, [one]) == wanted
            seen.add(int(one["id"]))
    assert seen == set(range(60)) and "truncated" not in kinds(loaded)


def test_a_long_text_becomes_windows_and_none_of_it_is_lost(tmp_path, tokenizer):
    rows = [marked(number, 3 if number % 3 else 40) for number in range(36)]
    loaded = load(objects(tmp_path / "a.jsonl", rows), tokenizer, 16)
    assert loaded.length == 16 and "truncated" not in kinds(loaded)
    found = splits_of(loaded)
    elements = [one for some in found.values() for one in some]
    wanted = {(n, kind, start, end) for n, row in enumerate(rows) for start, end, kind in row["entities"]}
    assert truth_of(loaded, elements) == by_labels(loaded, elements) == wanted
    count = pd.Series([int(one["id"]) for one in elements]).value_counts()
    assert count[0] == 4 and count[1] == 1 and len(count) == 36
    for some in found.values():  # the windows of a text stand together, the ids ascend
        assert (np.diff([int(one["id"]) for one in some]) >= 0).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_of_windows_have_labels_as_long_as_their_inputs(tmp_path, tokenizer, shuffle):
    rows = [marked(number, [3, 9, 17, 70][number % 4]) for number in range(60)]
    loaded = load(objects(tmp_path / "a.jsonl", rows), tokenizer, 30)
    made = batches.batches(loaded, "train", 8, shuffle=shuffle, seed=1)
    elements, widths, seen = list(loaded.train.as_numpy_iterator()), set(), []
    known = {(int(one["id"]), int(one["starts"].max())): one for one in elements}
    assert len(known) == len(elements) and made.steps == -(-len(elements) // 8) == len(list(made.named()))
    for batch in made.named():
        rows_, label = batch["input"].numpy(), batch["label"].numpy()
        assert rows_.shape == label.shape and label.dtype == np.int32
        widths.add(rows_.shape[1])
        for number, starts, row, tag in zip(
            batch["id"].numpy(), batch["starts"].numpy(), rows_, label, strict=True
        ):
            one = known[int(number), int(starts.max())]
            seen.append((int(number), int(starts.max())))
            np.testing.assert_array_equal(one["input"][: len(row)], row)
            np.testing.assert_array_equal(one["label"][: len(row)], tag)
            assert not one["input"][len(row) :].any() and (one["label"][len(row) :] == -1).all()
    assert sorted(seen) == sorted(known) and len(widths) > 1
    (inputs, label), *_ = made.epoch()
    assert inputs.shape == label.shape


def test_few_texts_with_entities_are_nested_and_leave_the_test_whole(tmp_path, tokenizer):
    found = objects(tmp_path / "a.jsonl", [marked(number, 6) for number in range(80)])
    whole, chosen = load(found, tokenizer, 8).manifest, {}
    for count in (6, 20):
        loaded = load(found, tokenizer, 8, train_examples=count)
        split = loaded.manifest["split"]
        assert (split == "train").sum() == count and (split == "val").sum() <= count
        assert (split == "test").equals(whole["split"] == "test") and (split == "unused").any()
        chosen[count] = {int(one["id"]) for one in loaded.train.as_numpy_iterator()}
        assert chosen[count] == set(np.flatnonzero(split == "train"))
    assert chosen[6] < chosen[20]
    assert "train_examples" in message(found, tokenizer, 8, train_examples=1000)


def test_entities_that_no_word_answers_are_said_and_stay_in_the_truth(tmp_path, tokenizer):
    rows = [marked(number) for number in range(40)]
    assert "entity" not in kinds(load(objects(tmp_path / "a.jsonl", rows), tokenizer, 8))
    rows[3] = {"text": "the redcat runs", "entities": [[4, 7, "animal"]]}
    rows[4] = {"text": "the \u200b sits", "entities": [[4, 5, "plant"]]}
    loaded = load(objects(tmp_path / "b.jsonl", rows), tokenizer, 8)
    (said,) = loaded.problems[loaded.problems["kind"] == "entity"]["message"]
    total = sum(len(row["entities"]) for row in rows)
    assert f"2 of {total} entities begin or end within a word" in said and "such as 'red'" in said
    elements = [one for some in splits_of(loaded).values() for one in some]
    wanted = {(n, kind, start, end) for n, row in enumerate(rows) for start, end, kind in row["entities"]}
    assert truth_of(loaded, elements) == wanted  # they count as missed
    assert (3, "animal", 4, 10) in by_labels(loaded, elements)


def test_texts_without_words_or_entities_are_read_too(tmp_path, tokenizer):
    rows = [marked(number) for number in range(40)]
    rows[0], rows[1] = {"text": "", "entities": []}, {"text": " \t\n", "entities": []}
    rows[2] = {"text": "the runs", "entities": []}
    loaded = load(objects(tmp_path / "a.jsonl", rows), tokenizer, 8)
    elements = {int(one["id"]): one for some in splits_of(loaded).values() for one in some}
    for number in (0, 1):
        assert elements[number]["input"].tolist() == [2, 3, *[0] * 6]
        assert (elements[number]["label"] == -1).all()
    assert elements[2]["label"].tolist() == [-1, 0, 0, *[-1] * 5] and (elements[2]["classes"] == -1).all()


def test_splits_of_entities_that_are_given_are_kept_and_a_finished_network_is_judged_by_all(
    tmp_path, tokenizer
):
    given = ["train", "dev", "test"] * 12
    rows = [marked(number, 8) | {"split": split} for number, split in enumerate(given)]
    loaded = load(objects(tmp_path / "a.jsonl", rows), tokenizer, 8)
    assert loaded.manifest["split"].tolist() == [{"dev": "val"}.get(one, one) for one in given]
    plain = objects(tmp_path / "b.jsonl", [marked(number, 8) for number in range(6)])
    judged = load(plain, tokenizer, 8, val_fraction=0, test_fraction=1)
    assert judged.train.cardinality() == 0 and judged.train.element_spec["label"].shape == (8,)
    assert {int(one["id"]) for one in splits_of(judged)["test"]} == set(range(6))


def test_the_words_are_those_that_a_saved_network_reads(tmp_path, tokenizer):
    rows = [marked(number) for number in range(24)]
    loaded = load(objects(tmp_path / "a.jsonl", rows), tokenizer, 8)
    layer = Words(tokenizer, 8)
    for one in loaded.train.as_numpy_iterator():
        (packed,) = layer(tf.constant([loaded.texts[one["id"]]])).numpy()
        np.testing.assert_array_equal(packed, np.stack([one["input"], one["starts"], one["ends"]], 1))
