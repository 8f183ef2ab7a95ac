"""Each fault that is planted is named, and texts without it raise no alarm."""

import numpy as np
import pandas as pd
import pytest

from runner.data import checks as of_any
from runner.data import pairs
from runner.text import checks, near_duplicates

LABELS = np.tile(["ham", "spam"], 60)


def manifest(labels, **columns) -> pd.DataFrame:
    """A training text per label, each of its own, unless columns say otherwise."""
    count = len(labels)
    table = pd.DataFrame({"path": [f"a.csv:{i + 2}" for i in range(count)]})
    table["label"] = pd.Categorical(list(labels))
    facts = {"split": "train", "group": "", "sha256": [f"{i:064}" for i in range(count)]}
    facts |= {"tokens": 12, "unknown": 0}
    return table.assign(**facts | columns)


def texts(count: int, seed: int = 0) -> list[str]:
    random = np.random.RandomState(seed)
    return [" ".join(f"w{n}" for n in random.randint(0, 5000, random.randint(8, 16))) for _ in range(count)]


def kinds(rows) -> list[str]:
    assert all("\n" not in message for _, _, message in rows)
    return [kind for _, kind, _ in rows]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  A\t b\r\n\u3000C ", "a b c"),
        ("Straße ﬁne Ｆｕｌｌ", "strasse fine full"),
        ("e\u0301", "é"),
        ("don't stop!", "don't stop!"),
        ("\u1fbc", checks.fold("\u1fb3")),
    ],
)
def test_texts_are_folded_to_be_compared(text, folded):
    assert checks.fold(text) == folded == checks.fold(folded)


def everything(table, given, truncated=None, length=None):
    found = near_duplicates.find(given)
    truncated = np.zeros(len(table), bool) if truncated is None else truncated
    counts = of_any.count(table, table["label"].cat.categories)
    clusters = pairs.clusters(found, len(table))
    return checks.everything(table, given, counts, found, clusters, truncated, length)


def test_a_set_without_faults_raises_no_alarm():
    split = np.repeat(["train", "val", "test"], [80, 60, 60])
    assert everything(manifest(np.tile(["ham", "spam"], 100), split=split), texts(200)) == []


def test_copies_across_splits_and_with_two_labels():
    given = texts(200)
    long = "The quick harvester crossed seventeen muddy fields before anyone in Tipton noticed its absence"
    given[0], given[150], given[151] = long, f" {long.upper()}", long.replace("muddy", "frozen")
    given[2], given[152] = given[4], given[4]  # exact ones are told by their hashes
    split = np.repeat(["train", "val", "test"], [80, 60, 60])
    table = manifest(np.tile(["ham", "spam"], 100), split=split)
    hashes = table["sha256"].to_numpy(object)
    hashes[[2, 152]] = hashes[4]
    table["sha256"] = hashes
    rows = [row for row in everything(table, given) if row[1] in ("duplicate", "near-duplicate", "label")]
    said = [(path, kind) for path, kind, _ in rows]
    assert ("a.csv:154", "duplicate") in said
    assert ("a.csv:152", "near-duplicate") in said and ("a.csv:153", "near-duplicate") in said
    assert ("a.csv:153", "label") in said
    assert any("says nearly the same as train 'a.csv:2'" in message for _, _, message in rows)
    assert any("says nearly the same (nearly word for word)" in message for _, _, message in rows)


def test_versions_of_few_texts_are_told_unless_they_have_groups():
    given = [f"{text} w{i}" for i, text in enumerate(texts(40) * 3)]
    rows = [row for row in everything(manifest(LABELS), given) if "versions of one text" in row[2]]
    assert kinds(rows) == ["near-duplicate"] and "120 of 120 texts say nearly the same" in rows[0][2]
    grouped = everything(manifest(LABELS, group="author 1"), given)
    assert not any("versions of one text" in message for _, _, message in grouped)


def test_blank_texts_are_named():
    table = manifest("abab", split=["train", "test", "train", "skipped"])
    rows = checks.blank(table, ["x", " \n\u3000", "\u200b\ufeff", ""])
    assert [(path, kind) for path, kind, _ in rows] == [("a.csv:3", "blank"), ("a.csv:4", "blank")]
    assert checks.blank(manifest("a"), ["\U0001f642"]) == []


@pytest.mark.parametrize("written", ["{} - {}", "{1} [{0}]", "{1}\nLABEL:{0}"])
def test_a_class_name_in_texts_of_its_class_gives_it_away(written):
    given = [
        written.format(label.upper(), text) if i % 3 == 0 else text
        for i, (label, text) in enumerate(zip(LABELS, texts(120), strict=True))
    ]
    rows = checks.class_named(manifest(LABELS), given)
    assert kinds(rows) == ["give-away"] * 2
    assert "20 of 60 texts of 'ham' (33 %), and no others, have the name" in rows[0][2]
    assert checks.class_named(manifest(LABELS, split="test"), given) == []  # of test nothing is looked at


def test_a_class_name_that_stands_anywhere_gives_nothing_away():
    given = [f"{text} ham and spammers" for text in texts(120)]
    assert checks.class_named(manifest(LABELS), given) == []
    few = [f"ham {text}" if i in (0, 2, 4, 6) else text for i, text in enumerate(texts(120))]
    assert checks.class_named(manifest(LABELS), few) == []
    assert checks.class_named(manifest(np.tile(["+", "-"], 60)), [f"+ {text}" for text in texts(120)]) == []


def test_words_of_a_class_name_may_be_joined():
    labels = np.tile(["not_spam", "spam"], 60)
    given = [f"Not spam: {t}" if of == "not_spam" else t for of, t in zip(labels, texts(120), strict=True)]
    rows = checks.class_named(manifest(labels), given)
    assert kinds(rows) == ["give-away"] and "60 of 60 texts of 'not_spam' (100 %)" in rows[0][2]


def test_length_that_tells_the_class_is_named():
    given = [text * (3 if label == "spam" else 1) for label, text in zip(LABELS, texts(120), strict=True)]
    rows = checks.lengths(manifest(LABELS), given)
    assert kinds(rows) == ["give-away"] and "length alone (characters, words) tells" in rows[0][2]
    assert "always answering the largest class: 50 %" in rows[0][2]
    assert checks.lengths(manifest(LABELS), texts(120)) == []
    assert checks.lengths(manifest(LABELS, split="test"), given) == []
    assert checks.lengths(manifest(LABELS), ["same"] * 120) == []


def test_texts_that_are_cut_off_are_counted_above_a_twentieth():
    table = manifest("ab" * 100, split=["train"] * 100 + ["test"] * 100)
    truncated = np.zeros(200, bool)
    truncated[:5] = truncated[100:120] = True
    rows = checks.cut_off(table, truncated, 128)
    assert kinds(rows) == ["truncated"] and rows[0][0] == ""
    assert "20 of 100 texts (20 %) of test have more tokens than 128" in rows[0][2]
    assert "train" not in rows[0][2].split(" have ")[0]
    assert checks.cut_off(table, np.arange(200) < 5) == []
    assert "than the network takes" in checks.cut_off(table, np.arange(200) < 6)[0][2]


def test_many_words_that_the_tokenizer_does_not_know_are_said():
    table = manifest(np.tile(["ham", "spam"], 10), unknown=[0] * 19 + [10])
    assert checks.unknown_words(table) == []  # 10 of 200 tokens
    table.loc[18, "unknown"] = 1
    ((path, kind, message),) = checks.unknown_words(table)
    assert (path, kind) == ("", "unknown") and message.startswith("5.5 % of all tokens are words")
    assert "most in 'a.csv:21' (10 of 10)" in message
    assert checks.unknown_words(table.assign(split="unused")) == []
