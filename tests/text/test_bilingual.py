"""Pairs become rows: what the decoder is given and asked, what is carved, cut off and found to be wrong."""

import numpy as np
import pytest

from runner.errors import InputError
from runner.text import bilingual, translations
from runner.text_networks import text_weights
from runner.text_networks.pieces import BEGIN, END, PADDING

WORDS = "red blue green old new small big round".split()
THINGS = "house car boat tree lamp coat".split()


@pytest.fixture(scope="module")
def tokenizer():
    return text_weights.tokenizer("none")


def table(tmp_path, rows):
    path = tmp_path / "pairs.tsv"
    path.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    return translations.find(path)


def rows() -> list[tuple[str, str]]:
    return [(f"the {a} {b} there", f"{b}a {a}i ka") for a in WORDS for b in THINGS]


def load(found, tokenizer, **options):
    return bilingual.load(found, tokenizer, options.pop("length", 16), options.pop("pieces", 200), **options)


def test_each_piece_stands_after_the_one_that_it_follows():
    given, said = bilingual.rows_of([[7, 8], [9, 10, 11, 12], []], 4)
    assert given.tolist() == [[BEGIN, 7, 8, 0], [BEGIN, 9, 10, 11], [BEGIN, 0, 0, 0]]
    # Of the second the end is cut off, and never asked: it goes on there.
    assert said.tolist() == [[7, 8, END, 0], [9, 10, 11, 12], [END, 0, 0, 0]]


def test_elements_hold_both_texts_and_what_becomes_of_them(tmp_path, tokenizer):
    data = load(table(tmp_path, rows()), tokenizer)
    assert data.classes == () and data.length == 16
    sizes = {split: int(getattr(data, split).cardinality()) for split in ("train", "val")}
    assert sum(sizes.values()) + (data.manifest["split"] == "test").sum() == len(rows())
    for one in data.train.as_numpy_iterator():
        text, target = (one[key].decode() for key in ("source", "target"))
        assert (text, target) == (data.texts[one["id"]], data.targets[one["id"]])
        assert one["input"].shape == (16, 2) and one["label"].shape == (16,)
        assert data.pieces.decode(one["label"]) == target
        assert one["input"][0, 1] == BEGIN
        shifted = one["input"][1:, 1]
        assert (shifted[shifted != PADDING] == one["label"][:-1][shifted != PADDING]).all()
        assert one["input"][0, 0] == tokenizer.cls_token_id
    assert "; from " not in data.in_words() and "pieces" in data.in_words()


def test_pieces_are_of_training_alone(tmp_path, tokenizer):
    path = tmp_path / "split.tsv"
    given = [(*row, "train") for row in rows()] + [("a", "žluť", "val"), ("b", "žluť", "test")]
    path.write_text("source\ttarget\tsplit\n" + "".join("\t".join(row) + "\n" for row in given))
    data = load(translations.find(path), tokenizer)
    assert not any("ž" in piece for piece in data.pieces.names)
    (val,) = data.val.as_numpy_iterator()
    assert val["target"].decode() == "žluť" and "ž" not in data.pieces.decode(val["label"])


def test_batches_are_as_long_as_the_longest_of_both_sides(tmp_path, tokenizer):
    long = [(f"{a} {b}", " ".join([f"{b}a"] * 20 + [a])) for a in WORDS for b in THINGS[:2]]
    data = load(table(tmp_path, rows() + long), tokenizer, length=40)
    assert data.length == 24
    shapes = set()
    for inputs, label in bilingual.batches(data, "train", 8, shuffle=True, seed=1).epoch():
        shapes.add(inputs.shape[1])
        assert inputs.shape[1:] == (label.shape[1], 2) and len(inputs) <= 8
        longest = max(int((np.asarray(one) != 0).sum(1).max()) for one in (inputs[..., 0], label))
        assert inputs.shape[1] - 8 < longest <= inputs.shape[1]
    assert shapes == {8, 24}


def test_a_finished_network_is_judged_by_all_pairs_and_nothing_is_learnt(tmp_path, tokenizer):
    data = load(table(tmp_path, rows()), tokenizer, val_fraction=0.0, test_fraction=1.0)
    assert data.pieces is None and data.manifest["split"].eq("test").all()
    found = list(data.test.open(None, "a test").as_numpy_iterator())
    assert len(found) == len(rows()) and not any(one["label"].any() for one in found)


def test_what_is_odd_is_said(tmp_path, tokenizer):
    odd = [
        ("the same words in both", "the same words in both"),
        ("short one", " ".join(["lampa"] * 30)),
        *[(f"{a} lamp", " ".join([a] * 11)) for a in WORDS],
    ]
    data = load(table(tmp_path, rows() + odd), tokenizer, length=12)
    kinds = data.problems.set_index("kind")["message"]
    assert "1 translations are the text itself" in kinds["untranslated"]
    assert "times as long" in kinds["misaligned"] and "more tokens than 12" in kinds["truncated"]
    path = tmp_path / "empty.tsv"
    path.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in [*rows(), ("x", "")]))
    with pytest.raises(InputError, match="1 pairs that have nothing on one side"):
        load(translations.find(path), tokenizer, on_bad_data="stop")
    with pytest.raises(InputError, match="length=2"):
        load(translations.find(path), tokenizer, length=2)
