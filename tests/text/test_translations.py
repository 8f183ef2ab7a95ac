"""Pairs from tables, from files whose lines belong together, and from TFDS; and what is refused."""

import gzip
import json

import pytest

from runner.errors import InputError
from runner.text import translations

PAIRS = [("A dog runs.", "Ein Hund läuft."), ("Two cats, “asleep”", "Zwei Katzen, „müde“"), ("Rain", "Regen")]


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pairs(found) -> list[tuple[str, str]]:
    return list(zip(found.read(), found.targets, strict=True))


def aligned(folder, name: str, some, first: str = "en", second: str = "de") -> None:
    for language, side in ((first, 0), (second, 1)):
        write(folder / f"{name}.{language}", "".join(f"{pair[side]}\n" for pair in some))


def test_the_three_tables_say_the_same(tmp_path):
    rows = [
        (*pair, split, group)
        for pair, split, group in zip(PAIRS, ("train", "dev", "test"), "xyz", strict=True)
    ]
    names = ("source", "target", "split", "group")
    csv = "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in (names, *rows))
    tsv = "".join("\t".join(row) + "\n" for row in (names, *rows))
    lines = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    for ending, text, first in (("csv", csv, 2), ("tsv", tsv, 2), ("jsonl", lines, 1)):
        found = translations.find(write(tmp_path / f"pairs.{ending}", text))
        assert pairs(found) == PAIRS
        assert found.examples["path"].tolist() == [f"pairs.{ending}:{first + row}" for row in range(3)]
        assert found.examples["split"].tolist() == ["train", "val", "test"]
        assert found.examples["group"].tolist() == ["x", "y", "z"]
        assert found.classes == () and found.languages == ("", "")


def test_files_whose_lines_belong_together_are_read_packed_or_not(tmp_path):
    aligned(tmp_path, "train", PAIRS)
    aligned(tmp_path, "dev", PAIRS[:1])
    aligned(tmp_path, "test_2016_flickr", PAIRS[1:])
    write(tmp_path / "README.md", "x")
    for language in ("en", "de"):
        path = tmp_path / f"train.{language}"
        (tmp_path / f"train.{language}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    found = translations.find(tmp_path)
    assert found.languages == ("en", "de")
    assert sorted(found.examples["split"]) == ["test"] * 2 + ["train"] * 3 + ["val"]
    rows = found.examples["split"] == "train"
    assert [pair for pair, row in zip(pairs(found), rows, strict=True) if row] == PAIRS
    assert found.examples["path"][rows].tolist() == [f"train.en.gz:{line}" for line in (1, 2, 3)]
    turned = translations.find(tmp_path, "de-en")
    assert sorted(pairs(turned)) == sorted((target, source) for source, target in pairs(found))


def test_one_split_alone_is_left_to_be_divided(tmp_path):
    aligned(tmp_path, "train", PAIRS)
    assert translations.find(tmp_path).examples["split"].tolist() == [""] * 3


def test_what_has_nothing_on_one_side_is_named_and_left_out(tmp_path):
    aligned(tmp_path, "train", [*PAIRS, ("Snow", " "), ("", "Eis")])
    found = translations.find(tmp_path)
    assert pairs(found) == PAIRS
    assert found.problems == [
        ("train.en:4", "unreadable", "'train.en:4' has no target and is left out"),
        ("train.en:5", "unreadable", "'train.en:5' has no source and is left out"),
    ]


def test_the_set_of_the_repository_is_read_in_its_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = translations.find("composed_language")
    assert found.examples["split"].value_counts().to_dict() == {"train": 1500, "test": 400, "val": 200}
    assert found.languages == ("en", "xx") and found.examples["path"][0] == "composed_language/train[0]"
    # TFDS mixes them, the same way everywhere.
    first = ("Three doctors constructed many poor jails.", "Digon teri vefuton kageli mulo nubodu.")
    assert first in pairs(found)
    turned = translations.find("composed_language", "xx-en")
    assert pairs(turned)[0] == pairs(found)[0][::-1]
    with pytest.raises(InputError, match="languages en, xx, not en and de"):
        translations.find("composed_language", "en-de")


def test_mistakes_are_told_in_one_line(tmp_path):
    def refused(source, pattern: str, *languages: str) -> None:
        with pytest.raises(InputError, match=pattern) as error:
            translations.find(source, *languages)
        assert "\n" not in str(error.value)

    refused(tmp_path / "nowhere.csv", "which is not there; give a .csv")
    refused(write(tmp_path / "pairs.pdf", "x"), "a file of another form")
    refused(
        write(tmp_path / "a.csv", "text,label\na,b\n"), r"columns 'text', 'label'; expected source,target"
    )
    refused(write(tmp_path / "b.csv", ""), "which is empty")
    refused(write(tmp_path / "c.csv", "source,target\n"), "no rows")
    refused(write(tmp_path / "d.csv", "source,target\na,b,c\n"), "3 cells in line 2 and 2 columns")
    refused(write(tmp_path / "e.csv", "source,target\n ,b\n"), "none with both sides")
    refused(write(tmp_path / "f.jsonl", '{"source": "a"}\n'), "expected an object with source and target")
    refused(write(tmp_path / "g.jsonl", '{"source": "a", "target": 3}\n'), "give a string")
    refused(write(tmp_path / "h.csv", "source,target,split\na,b,fest\n"), "split 'fest' in line 2")
    (tmp_path / "i.csv").write_bytes(b"source,target\na,\xff\n")
    refused(tmp_path / "i.csv", "is no UTF-8")
    refused(tmp_path, "a folder without files whose names say a split")
    aligned(tmp_path / "long", "train", PAIRS)
    write(tmp_path / "long" / "train.de", "eins\n")
    refused(tmp_path / "long", "3 lines in 'train.en' and 1 in 'train.de'")
    aligned(tmp_path / "half", "train", PAIRS)
    write(tmp_path / "half" / "test.en", "a\n")
    refused(tmp_path / "half", "'test.en' and no test.de")
    aligned(tmp_path / "twice", "train", PAIRS)
    aligned(tmp_path / "twice", "test_a", PAIRS)
    aligned(tmp_path / "twice", "test_b", PAIRS)
    refused(tmp_path / "twice", "'test_a' and 'test_b', which are both test")
    aligned(tmp_path / "none", "test", PAIRS)
    aligned(tmp_path / "none", "val", PAIRS)
    refused(tmp_path / "none", "none for train")
    aligned(tmp_path / "other", "train", PAIRS, "fr", "de")
    refused(tmp_path / "other", "languages de, fr; say from which into which")
    refused(tmp_path / "other", "en-de|not en and de", "en-de")
    refused(tmp_path / "other", "languages='german'", "german")
    assert translations.find(tmp_path / "other", "fr-de").languages == ("fr", "de")
    write(tmp_path / "broken" / "train.en", "a\n")
    (tmp_path / "broken" / "train.de.gz").write_bytes(b"no gzip")
    refused(tmp_path / "broken", "'train.de.gz', which cannot be read")
