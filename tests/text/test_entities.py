"""Texts with entities are read to the character, and what cannot be read, or looks odd, is said in a line."""

import hashlib
import json
import random

import numpy as np
import pytest

from runner.data import examples
from runner.data.pairs import clusters
from runner.errors import InputError
from runner.text import entities, near_duplicates


def message(source) -> str:
    """The one line that finding answers with."""
    with pytest.raises(InputError) as error:
        entities.find(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path, content: str | bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sentence(tagged: str, by: str = "\t") -> str:
    """Lines of tokens and tags, of "In/O Rome/B-place"; "." is O."""
    pairs = [one.rsplit("/", 1) if "/" in one else (one, "O") for one in tagged.split()]
    return "".join(f"{token}{by}{tag}\n" for token, tag in pairs) + "\n"


def objects(*rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def marked(found) -> list[list[tuple[str, str]]]:
    """Of each text the forms of its entities and their types."""
    return [
        [(text[start:end], kind) for start, end, kind in spans]
        for text, spans in zip(found.read(), found.spans, strict=True)
    ]


def said(found, kind: str) -> list[str]:
    return [text for _, one, text in found.problems if one == kind]


# ---------------------------------------------------------------- columns


def test_a_file_with_a_token_and_its_tag_a_line(tmp_path):
    content = sentence("In/O Rome/B-place Ann/B-person Lee/I-person .") + "\t\n \n" + sentence("No one .")
    found = entities.find(write(tmp_path / "a.conll", content))
    assert list(found.read()) == list(found.read()) == ["In Rome Ann Lee .", "No one ."]
    assert found.examples.to_dict("list") == {
        "path": ["a.conll:1", "a.conll:9"],
        "label": ["", ""],
        "split": ["", ""],
        "group": ["", ""],
        "subgroup": ["", ""],
    }
    assert found.classes == ("person", "place") and found.name == str(tmp_path / "a.conll")
    assert found.spans == (((3, 7, "place"), (8, 15, "person")), ())
    assert found.words[0].tolist() == [[0, 2], [3, 7], [8, 11], [12, 15], [16, 17]]
    assert found.words[1].dtype == np.int64 and found.words[1].tolist() == [[0, 2], [3, 6], [7, 8]]
    assert said(found, "no entity") == ["1 of 2 texts have no entity: they are kept, and show what is none"]
    assert len(found.problems) == 1


def test_the_target_holds_spans_and_counts_them(tmp_path):
    content = sentence("Rome/B-place Rome/B-place Ann/B-person") + sentence("none") + sentence("x/B-place")
    found = entities.find(write(tmp_path / "a.conll", content))
    targets = [found.target(row) for row in range(3)]
    assert targets[0].arrays["spans"].tolist() == [[0, 4], [5, 9], [10, 13]]
    assert targets[0].arrays["classes"].tolist() == [1, 1, 0] and targets[0].amounts.tolist() == [1, 2]
    assert targets[1].arrays["spans"].tolist() == [[-1, -1]] * 3 and targets[1].amounts.tolist() == [0, 0]
    assert targets[2].arrays["classes"].tolist() == [1, -1, -1]
    assert {array.dtype for one in targets for array in one.arrays.values()} == {np.dtype(np.int64)}
    assert found.counted == "entities"


@pytest.mark.parametrize("ending", ["conll", "bio", "tsv", "txt", "annotated", "TXT"])
def test_endings_of_files_in_columns(tmp_path, ending):
    found = entities.find(write(tmp_path / f"a.{ending}", sentence("Rome/B-place")))
    assert marked(found) == [[("Rome", "place")]]


def test_columns_between_token_and_tag_and_spaces_between_columns(tmp_path):
    content = "EU NNP  I-NP I-ORG\nrejects VBZ I-VP O \n\n-DOCSTART- -X- -X- O\n\nPeter NNP I-NP I-PER\r\n"
    found = entities.find(write(tmp_path / "a.txt", content))
    assert list(found.read()) == ["EU rejects", "Peter"]
    assert marked(found) == [[("EU", "ORG")], [("Peter", "PER")]]
    assert found.examples["path"].tolist() == ["a.txt:1", "a.txt:6"]


def test_tokens_are_kept_as_they_stand(tmp_path):
    """Signs, spaces within, a no-break space, what Unicode calls line ends, characters beyond 16 bits."""
    tokens = ["#", "New York", "\u00a0", "a\u2028b", "\U0001f600", "é", "e\u0301", "'"]
    tags = ["O", "B-place", "O", "O", "B-sign", "I-sign", "O", "O"]
    content = "".join(f"{token}\t{tag}\n" for token, tag in zip(tokens, tags, strict=True))
    found = entities.find(write(tmp_path / "a.tsv", content))
    text = next(found.read())
    assert text == " ".join(tokens)
    assert [text[start:end] for start, end in found.words[0]] == tokens
    assert marked(found) == [[("New York", "place"), ("\U0001f600 é", "sign")]]


def test_comments_and_the_sign_that_they_begin_with(tmp_path):
    tabbed = "# id = 1\n# text = a # b\n#\tO\nRome\tB-place\n#\tO\n\n# id = 2\n# O\nRome\tB-place\n"
    found = entities.find(write(tmp_path / "a.conll", tabbed))
    assert list(found.read()) == ["# Rome #", "Rome"]
    assert found.examples["path"].tolist() == ["a.conll:3", "a.conll:9"]
    spaced = "# id = 1\nRome B-place\n# O\n\n# O\nRome B-place\n\n# note\nRome B-place\n"
    found = entities.find(write(tmp_path / "b.conll", spaced))
    assert list(found.read()) == ["Rome #", "# Rome", "Rome"]
    within = "Rome\tB-place\n# id = 2\nRome\tB-place\n"
    assert "1 column in line 2, and 2 in line 1" in message(write(tmp_path / "c.conll", within))


def test_documents_are_groups_where_there_are_enough_of_them(tmp_path):
    mark = "-DOCSTART- -X- O\n\n"
    document = mark + sentence("Rome/B-place", " ") + sentence("a", " ")
    found = entities.find(write(tmp_path / "many" / "a.conll", sentence("x", " ") + document * 10))
    groups = found.examples["group"].tolist()
    assert groups[0] == "" and groups[1:5] == ["a.conll document 1"] * 2 + ["a.conll document 2"] * 2
    assert len(set(groups)) == 11 and len(groups) == 21 and "-DOCSTART-" not in " ".join(found.read())
    found = entities.find(write(tmp_path / "few" / "a.conll", document * 9))
    assert set(found.examples["group"]) == {""}
    # A mark ends the sentence before it, also without a blank line.
    found = entities.find(write(tmp_path / "b.conll", "Rome B-place\n-DOCSTART- O\nAnn I-place\n"))
    assert list(found.read()) == ["Rome", "Ann"] and [len(one) for one in found.spans] == [1, 1]


@pytest.mark.parametrize(
    ("tags", "forms"),
    [
        ("B-x I-x O B-x", ["a b", "d"]),
        ("I-x I-x B-x O", ["a b", "c"]),
        ("I-x E-x E-x O", ["a b", "c"]),
        ("B-x E-x S-x O", ["a b", "c"]),
        ("B-x L-x U-x O", ["a b", "c"]),
        ("B I O S", ["a b", "d"]),
    ],
)
def test_schemes_of_tags(tmp_path, tags, forms):
    content = "".join(f"{token}\t{tag}\n" for token, tag in zip("abcd", tags.split(), strict=True))
    found = entities.find(write(tmp_path / "a.bio", content))
    assert [form for form, _ in marked(found)[0]] == forms and not found.problems


def test_tags_that_no_scheme_allows_are_told(tmp_path):
    content = sentence("a/B-x b/I-x c/B-x") + sentence("a/O b/I-x c/I-y")
    found = entities.find(write(tmp_path / "a.bio", content + sentence("a/B-y") * 3))
    assert marked(found)[1] == [("b", "x"), ("c", "y")]
    (text,) = said(found, "entity")
    assert "2 of 6 entities begin with I, E or L where most begin with B, S or U, the first in line 6" in text
    iob1 = sentence("a/I-x b/I-x c/B-x d/I-y") * 3
    assert not said(entities.find(write(tmp_path / "b.bio", iob1)), "entity")
    odd = entities.find(write(tmp_path / "c.bio", iob1 + sentence("a/B-x")))
    assert "1 of 7 entities begin with B, S or U where most begin with I, E or L" in said(odd, "entity")[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "in which no sentence stands"),
        ("\n \n\t\n", "in which no sentence stands"),
        ("# id\n\n-DOCSTART- O\n", "in which no sentence stands"),
        (
            "Rome\nis\n",
            "1 column in line 1; expected the token first and its tag last, as many columns in each",
        ),
        ("Rome\tB-x\nis\tV\tO\n", "3 columns in line 2, and 2 in line 1;"),
        ("Rome B-x\nis\tO\n", "separated by tabs (there is one in line 2)"),
        ("Rome B-x\nis O\n O\n", "1 column in line 3, and 2 in line 1; expected"),
        ("a\tO\n\tO\n", "an empty token in line 2; give it, or take the line out"),
        ("a\tO\nb\t\n", "the tag '' in line 2; allowed: O, or B, I, E, S (L, U) with a hyphen"),
        (
            "token\ttag\na\tO\n",
            "the tag 'tag' in line 1; allowed: O, or B, I, E, S (L, U) with a hyphen and the",
        ),
        ("token\ttag\na\tO\n", "Take the line out if it is a header."),
        ("a\tO\nRome\tplace\n", "the tag 'place' in line 2"),
        ("a\tO\nRome\tB_place\n", "the tag 'B_place' in line 2"),
        ("a\tO\nRome\tplace-B\n", "the tag 'place-B' in line 2"),
        ("a\to\n", "the tag 'o' in line 1"),
        ("a\tS-x\nb\tU-x\n", "the tag 'U-x' in line 2 and tags of another scheme before it"),
        ("a\tO\nb\tO\n", "1 texts and not a single entity; label some"),
        (b"a\tO\nna\xefve\tO\n", "which is no UTF-8: 0xEF in line 2, at byte 6; save it in UTF-8"),
        (b"a\tO\nb\0\tO\n", "which has a NUL character in line 2, at byte 5"),
    ],
)
def test_columns_that_a_person_has_to_put_right(tmp_path, content, expected):
    path = write(tmp_path / "a.conll", content)
    assert f"Received data={str(path)!r}" in message(path) and expected in message(path)


# ---------------------------------------------------------------- JSON Lines


def test_json_lines_with_both_forms_of_spans(tmp_path):
    rows = [
        {"text": "In Rome 😀 Ann", "entities": [[10, 13, "person"], [3, 7, "place"]], "group": 7},
        {
            "spans": [{"start": 0, "end": 3, "label": " person ", "token": 4}],
            "text": "Ann\n",
            "group": "",
            "meta": {"a": 1},
        },
        {"text": "", "entities": []},
    ]
    found = entities.find(write(tmp_path / "a.jsonl", objects(*rows).replace("\n{", "\n\n{")))
    assert list(found.read()) == ["In Rome 😀 Ann", "Ann\n", ""]
    assert found.spans == (((3, 7, "place"), (10, 13, "person")), ((0, 3, "person"),), ())
    assert found.examples["path"].tolist() == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:5"]
    assert found.examples["group"].tolist() == ["7", "", ""] and set(found.examples["split"]) == {""}
    assert [words.shape for words in found.words] == [(0, 2)] * 3


def test_json_lines_with_splits_and_types_as_numbers(tmp_path):
    rows = [{"text": "Rome", "spans": [[0, 4, number]], "split": "train"} for number in (10, 9)]
    rows += [{"text": "Bonn", "spans": [[0, 4, 9]], "split": split} for split in ("dev", "Test")]
    found = entities.find(write(tmp_path / "a.jsonl", objects(*rows)))
    assert found.classes == ("9", "10")
    assert found.examples["split"].tolist() == ["train", "train", "val", "test"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "Rome"}, "with no entities in line 2; give one list of spans"),
        ({"text": "Rome", "entities": None}, "entities null in line 2; give one list of spans"),
        ({"text": "Rome", "entities": [], "spans": []}, "with entities and spans in line 2"),
        ({"entities": []}, "with the keys 'entities' in line 2; expected an object with text and entities"),
        ({"text": 5, "entities": []}, "text 5 in line 2; give a string"),
        ({"text": "Rome", "entities": [[0, 4]]}, 'the span [0, 4] in line 2; write [start, end, "label"]'),
        ({"text": "Rome", "entities": [{"start": 0, "stop": 4}]}, "or an object with start, end and label"),
        ({"text": "Rome", "entities": [7]}, "the span 7 in line 2; write"),
        ({"text": "Rome", "entities": [[0, 4.0, "x"]]}, "whole numbers, counted in characters from 0"),
        ({"text": "Rome", "entities": [[False, 4, "x"]]}, "start and end are whole numbers"),
        ({"text": "Rome", "entities": [[0, 4, ""]]}, "whose label is empty"),
        ({"text": "Rome", "entities": [[0, 4, None]]}, "whose label is empty"),
        ({"text": "Rome", "entities": [[0, 4, 1.5]]}, "label 1.5 in line 2; give a string or a whole number"),
        ({"text": "Rome", "entities": [[2, 2, "x"]]}, "the end is exclusive: start < end"),
        ({"text": "Rome", "entities": [[3, 2, "x"]]}, "the end is exclusive: start < end"),
        ({"text": "Rome", "entities": [[0, 5, "x"]]}, "leaves its text of 4 characters; count characters"),
        ({"text": "Rome", "entities": [[-4, 4, "x"]]}, "leaves its text of 4 characters"),
        (
            {"text": "Rome", "entities": [[2, 4, "x"], [0, 3, "y"]]},
            "the spans [0, 3, 'y'] and [2, 4, 'x'] in 'a.jsonl:2', which overlap; a token has one tag",
        ),
        ({"text": "Rome", "entities": [], "split": "train"}, "an empty split in line 1"),
        ({"text": "Rome", "entities": [], "split": 3}, "an empty split in line 1"),
    ],
)
def test_json_lines_that_a_person_has_to_put_right(tmp_path, row, expected):
    path = write(tmp_path / "a.jsonl", objects({"text": "Bonn", "spans": [[0, 4, "x"]]}, row))
    assert expected in message(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "which is empty; expected a line for each text"),
        ('{"text": "a", "entities": []', "line 1 is no JSON"),
        ("[]\n", "with no object in line 1"),
        ('{"text": "a", "entities": []}\n', "1 texts and not a single entity"),
        ('{"text": "\\ud83d", "entities": []}\n', "half of a surrogate pair in the text of line 1"),
        (b'{"text": "na\xefve"}', "no UTF-8: 0xEF in line 1"),
        ('{"text": "a", "entities": [[0, 1, "x"]], "split": "test"}', "no 'train'; mark the rows"),
        ('{"text": "a", "entities": [[0, 1, "x"]], "split": "trian"}', "split 'trian' in line 1"),
    ],
)
def test_files_of_json_lines_that_a_person_has_to_put_right(tmp_path, content, expected):
    assert expected in message(write(tmp_path / "a.jsonl", content))


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.conll", "train"),
        ("wnut17train.conll", "train"),
        ("emerging.dev.conll", "val"),
        ("emerging.test.annotated", "test"),
        ("NER-valid.txt", "val"),
        ("de_validation_1.jsonl", "val"),
        ("eng.train", "train"),
        ("eng.testa", "val"),
        ("eng.testb", "test"),
        ("trainset.bio", "train"),
        ("TestData.tsv", "test"),
        ("development.txt", "val"),
        ("latest.conll", ""),
        ("device.txt", ""),
        ("train_and_test.conll", ""),
        ("readme.txt", ""),
    ],
)
def test_what_the_name_of_a_file_says(name, split):
    assert entities.split_in_name(name) == split


def three(folder):
    """A folder with three files, and two that belong to no split."""
    write(folder / "wnut17train.conll", sentence("Rome/B-place is/O") + sentence("Ann/B-person"))
    write(folder / "emerging.dev.conll", sentence("Bonn/B-place ."))
    write(folder / "emerging.test.annotated", sentence("Lee/B-person ."))
    write(folder / "README.md", "About the test")
    write(folder / "licence.txt", "Some words.")
    return folder


def test_a_folder_with_a_file_for_each_split(tmp_path):
    found = entities.find(three(tmp_path))
    assert found.examples["split"].tolist() == ["train", "train", "val", "test"]
    assert list(found.read()) == ["Rome is", "Ann", "Bonn .", "Lee ."]
    assert found.examples["path"].tolist()[-1] == "emerging.test.annotated:1"
    assert said(found, "missing") == ["the names of 1 files say no split, and they are left out: licence.txt"]


def test_several_files_in_a_list_or_with_commas(tmp_path):
    names = ["emerging.dev.conll", "wnut17train.conll"]
    paths = [three(tmp_path) / name for name in names]
    for source in (paths, ", ".join(map(str, paths))):
        found = entities.find(source)
        assert found.examples["split"].tolist() == ["train", "train", "val"]
    write(tmp_path / "odd, train.conll", sentence("Rome/B-place"))
    assert len(entities.find(str(tmp_path / "odd, train.conll")).examples) == 1
    write(tmp_path / "test.jsonl", objects({"text": "Lee", "entities": [[0, 3, "person"]]}))
    mixed = entities.find([paths[1], tmp_path / "test.jsonl"])
    assert mixed.examples["split"].tolist() == ["train", "train", "test"]


def test_a_folder_with_one_file_needs_no_name_for_it(tmp_path):
    write(tmp_path / "test.conll", sentence("Rome/B-place"))
    assert entities.find(tmp_path).examples["split"].tolist() == [""]


def test_files_and_folders_that_a_person_has_to_put_right(tmp_path):
    one = sentence("Rome/B-place")
    train = write(tmp_path / "two" / "train.conll", one)
    write(tmp_path / "two" / "train.jsonl", "")
    assert "'train.conll' and 'train.jsonl', which are both train by name; keep" in message(tmp_path / "two")
    write(tmp_path / "unsaid" / "a.conll", one)
    write(tmp_path / "unsaid" / "b.conll", one)
    assert "whose files 'a.conll', 'b.conll' say no split; expected one file each" in message(
        tmp_path / "unsaid"
    )
    write(tmp_path / "no_train" / "dev.conll", one)
    write(tmp_path / "no_train" / "test.conll", one)
    assert "files for val and test and none for train; add that" in message(tmp_path / "no_train")
    write(tmp_path / "deep" / "inner" / "train.conll", one)
    assert f"Did you mean {str(tmp_path / 'deep' / 'inner')!r}?" in message(tmp_path / "deep")
    assert "'a.conll', whose name does not say its split" in message([train, tmp_path / "unsaid" / "a.conll"])
    assert "a folder among files" in message([train, tmp_path / "unsaid"])
    assert "which is not there; give a file with a token" in message(tmp_path / "two" / "trian.conll")
    assert "train.conll'?" in message(tmp_path / "two" / "trian.conll")
    write(tmp_path / "a.zip", "PK")
    assert "'a.zip', a file of another form; give a file with a token" in message(tmp_path / "a.zip")
    for nothing in ("", "x" * 5000, "a\0b", [], ","):
        assert "which is not there" in message(nothing)
    split = {"text": "Rome", "entities": [[0, 4, "place"]], "split": "test"}
    other = write(tmp_path / "test.jsonl", objects(split))
    assert "whose name says test and whose lines have splits of their own" in message([train, other])


def test_a_type_that_train_lacks(tmp_path):
    three(tmp_path)
    write(tmp_path / "emerging.dev.conll", sentence("Bonn/B-city Ulm/B-city Lee/B-name"))
    assert "without an entity of the type 'city' (and 1 more types) in train; it has 2 in val" in message(
        tmp_path
    )


# ---------------------------------------------------------------- what is odd


def test_white_space_at_the_ends_of_spans(tmp_path):
    rows = [
        {"text": "In Rome\u00a0now", "entities": [[2, 8, "place"], [8, 11, "time"]]},
        {"text": "a b", "entities": [[1, 2, "time"]]},
    ]
    found = entities.find(write(tmp_path / "a.jsonl", objects(*rows)))
    assert marked(found) == [[("Rome", "place"), ("now", "time")], []]
    cut, empty = said(found, "entity")
    assert "1 spans begin or end with white space, such as ' Rome\\xa0' (place) in 'a.jsonl:1'" in cut
    assert "1 spans hold white space alone, such as ' ' (time) in 'a.jsonl:2', and are left out" in empty


def test_spans_that_share_white_space_alone_do_not_overlap(tmp_path):
    row = {"text": "Ann Lee", "entities": [[0, 4, "first"], [3, 7, "last"]]}
    found = entities.find(write(tmp_path / "a.jsonl", objects(row)))
    assert marked(found) == [[("Ann", "first"), ("Lee", "last")]]


def test_ends_that_are_meant_to_be_inclusive(tmp_path):
    texts = ["In Rome now", "In Bonn now", "In Oslo now"]
    rows = [{"text": text, "entities": [[3, 6, "place"]]} for text in texts]
    found = entities.find(write(tmp_path / "a.jsonl", objects(*rows)))
    assert "3 of 3 spans end within a word, such as 'Rom': where the end is" in said(found, "entity")[0]
    rows = [{"text": text, "entities": [[3, 7, "place"]]} for text in texts]
    rows.append({"text": "東京都に行く", "entities": [[0, 2, "place"]]})
    found = entities.find(write(tmp_path / "b.jsonl", objects(*rows)))
    assert not said(found, "entity")


def test_the_same_text_again(tmp_path):
    write(tmp_path / "train.conll", sentence("In/O Rome/B-place now/O") + sentence("Ann/B-person went ."))
    write(tmp_path / "test.conll", sentence("Ann/B-person went .") + sentence("In/O Rome/B-person now/O"))
    found = entities.find(tmp_path)
    assert [row for row in found.problems if row[1] in ("duplicate", "label")] == [
        (
            "test.conll:5",
            "duplicate",
            "test 'test.conll:5' is identical to train 'train.conll:1': remove one",
        ),
        (
            "test.conll:5",
            "label",
            "'test.conll:5' has 'Rome' as person where the identical 'train.conll:1' has 'Rome' as place: "
            "look which is right",
        ),
        (
            "test.conll:1",
            "duplicate",
            "test 'test.conll:1' is identical to train 'train.conll:5': remove one",
        ),
    ]
    again = sentence("Ann/B-person met Lee/B-person") + sentence("Ann met Lee/B-person")
    found = entities.find(write(tmp_path / "a.conll", again))
    assert not said(found, "duplicate")
    assert "has none where the identical 'a.conll:1' has 'Ann' as person" in said(found, "label")[0]


def test_a_form_that_one_split_marks_and_another_does_not(tmp_path):
    of_train = sentence("he/O saw/O New/B-place York/I-place") + sentence("New/B-place York/I-place !")
    of_train += sentence("Rome/B-place") + sentence("the/O New/B-group York/I-group Times/I-group")
    write(tmp_path / "train.conll", of_train + sentence("May/B-person"))
    of_test = (
        sentence("to New York") + sentence("New York ?") + sentence("Rome/B-place") + sentence("may May")
    )
    write(tmp_path / "test.conll", of_test)
    assert said(entities.find(tmp_path), "label") == [
        "'New York' is an entity at all 2 places of train and at none of 2 of test: look whether both follow "
        "one rule"
    ]
    # Once is not enough on either side, and marked once in test is no "never".
    write(tmp_path / "test.conll", of_test + sentence("New/B-place York/I-place"))
    assert not said(entities.find(tmp_path), "label")


def test_types_in_two_unicode_forms_are_one(tmp_path):
    rows = [{"text": "x", "entities": [[0, 1, kind]]} for kind in ("caf\u00e9", "cafe\u0301")]
    found = entities.find(write(tmp_path / "a.jsonl", objects(*rows)))
    assert found.classes == ("caf\u00e9",)
    assert "written in two Unicode forms" in said(found, "label")[0]


# ---------------------------------------------------------------- from a source to splits


def test_a_source_is_divided_as_any_other_with_targets(tmp_path):
    words, draw = [f"word{number}" for number in range(300)], random.Random(0)
    content = ""
    for number in range(120):
        tokens = draw.sample(words, 8)
        tag = ["", "/B-place", "/B-person", "/B-rare" if number % 20 == 3 else "/B-place"][number % 4]
        content += sentence(f"{tokens[0]}{tag} {' '.join(tokens[1:])}")
    found = entities.find(write(tmp_path / "a.conll", content))
    examples.check_source(found, "a.conll", None, None, entities.UNIT)
    with pytest.raises(InputError, match="for texts with entities and no single label; give train_examples"):
        examples.check_source(found, "a.conll", 5, None, entities.UNIT)
    texts = list(found.read())
    manifest = examples.begin_manifest(found)
    manifest["sha256"] = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    amounts = np.stack([found.target(row).amounts for row in range(len(texts))])
    manifest["split"] = examples.divide(
        manifest,
        examples.rarest(amounts),
        clusters=clusters(near_duplicates.find(texts), len(texts)),
        unit=entities.UNIT,
        amounts=amounts,
    )
    sizes = manifest["split"].value_counts()
    assert sizes.sum() == 120 and abs(sizes["test"] - 30) <= 3 and abs(sizes["val"] - 18) <= 3
    for split in sizes.index:  # also of the rare type, of which there are six
        assert amounts[manifest["split"] == split].sum(axis=0).all()


# ---------------------------------------------------------------- TFDS

BUILDER = """
import numpy as np
import tensorflow_datasets as tfds


class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        entity = {"start": np.int32, "end": np.int64, KIND}
        features = {"sentence": tfds.features.Text(), "spans": tfds.features.Sequence(entity)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({**features, MORE}))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        for number, example in enumerate(EXAMPLES):
            yield number, example
"""
NAMED = '"type": tfds.features.ClassLabel(names=["city", "person"])'
ROME = {"sentence": " In Rome 😀 Ann ", "spans": [{"start": 11, "end": 14, "type": 1}]}
ROME["spans"].append({"start": 4, "end": 8, "type": 0})


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Writes datasets/NAME with the same examples in each split; TFDS prepares it below tmp_path."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr("runner.data.source.ROOT", tmp_path)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "prepared"))

    def build(name, *examples, kind=NAMED, more="", splits=("train",)):
        write(tmp_path / "datasets" / name / "__init__.py", "")
        code = BUILDER.replace("KIND", kind).replace("MORE", more).replace("SPLITS", repr(splits))
        code = code.replace("EXAMPLES", repr(examples))
        write(tmp_path / "datasets" / name / f"{name}_dataset_builder.py", code)
        return name

    return build


def test_a_data_set_that_comes_along(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    found = entities.find(" composed_notes ")
    assert found.name == "composed_notes" and found.counted == "entities"
    assert found.classes == ("animal", "city", "food", "person")
    assert found.examples["split"].value_counts().to_dict() == {"train": 400, "test": 400, "val": 200}
    assert set(found.examples["group"]) == set(found.examples["label"]) == {""}
    assert found.examples["path"].tolist()[:2] == ["composed_notes/train[0]", "composed_notes/train[1]"]
    forms = {one for text in marked(found) for one in text}
    assert {("otters", "animal"), ("New York", "city"), ("olive oil", "food"), ("Ivan", "person")} <= forms
    assert [words.shape for words in found.words] == [(0, 2)] * 1000
    assert {kind for _, kind, _ in found.problems} == {"no entity"}
    # The same prepared files, by the name that TFDS would know them by.
    again = entities.find("tfds:composed_notes")
    assert again.name == "tfds:composed_notes" and again.spans == found.spans
    assert list(again.read()) == list(found.read())


def test_a_builder_with_other_names_and_groups(dataset):
    found = entities.find(dataset("one", {**ROME, "group": "g"}, more='"group": tfds.features.Text()'))
    assert list(found.read()) == [" In Rome 😀 Ann "]
    assert found.spans == (((4, 8, "city"), (11, 14, "person")),)
    assert found.examples.loc[0].to_dict() == {
        "path": "one/train[0]",
        "label": "",
        "split": "",
        "group": "g",
        "subgroup": "",
    }
    labelled = {"sentence": "Bonn", "spans": [{"start": 0, "end": 4, "label": " Stadt é "}]}
    found = entities.find(
        dataset("two", labelled, kind='"label": tfds.features.Text()', splits=("train", "test"))
    )
    assert found.classes == ("Stadt é",) and found.examples["split"].tolist() == ["train", "test"]


@pytest.mark.parametrize(
    ("entity", "expected"),
    [
        ({"start": 2, "end": 2, "type": 0}, "the end is exclusive: start < end"),
        ({"start": 2, "end": 5, "type": 0}, "which leaves its text of 4 characters; count characters"),
        (
            {"start": -1, "end": 2, "type": 0},
            "with the span [-1, 2, \"city\"] in 'odd/train[0]', which leaves",
        ),
        ({"start": 0, "end": 4, "type": -1}, "text 'odd/train[0]' has an entity without a type (-1); choose"),
    ],
)
def test_spans_of_a_builder_that_are_none(dataset, entity, expected):
    answer = message(dataset("odd", {"sentence": "Bonn", "spans": [entity]}))
    assert answer.startswith("Received data='odd'") and expected in answer


def test_data_sets_of_another_kind_and_names_that_are_not_there(dataset, tmp_path):
    assert (
        "Received data='parts' with the features sentence, spans (start, end, part); expected one text "
        "(text) and one sequence of start, end and type or label (entities): choose a dataset with entities."
    ) == message(dataset("parts", kind='"part": tfds.features.Text()'))
    assert "(start, end, type); expected" in message(dataset("numbers", kind='"type": np.int32'))
    two = '"summary": tfds.features.Text()'
    assert "spans (start, end, type), summary; expected one text" in message(dataset("both", more=two))
    bare = {"sentence": "Bonn", "spans": []}
    assert "1 texts and not a single entity" in message(dataset("bare", bare))
    broken = {"sentence": b"caf\xe9", "spans": []}
    assert "whose text 'broken/train[0]' is no UTF-8: 0xE9" in message(dataset("broken", broken))
    assert "a name that TFDS does not know" in message("tfds:composed_nots")
    assert "or tfds:NAME. Did you mean 'parts'?" in message("part")
