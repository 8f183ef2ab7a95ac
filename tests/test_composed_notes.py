"""datasets/composed_notes: the same texts everywhere; each split has its own names in the same sentences."""

import hashlib
import re
from collections import Counter

import pytest

from tests.test_datasets import DATASETS, load


@pytest.fixture(scope="module")
def composing():
    return load(DATASETS / "composed_notes", "_test_composed_notes").composing


@pytest.fixture(scope="module")
def notes(composing):
    return {split: composing.notes(split) for split in composing.SPLITS}


@pytest.fixture(scope="module")
def places(composing, notes):
    """(split, sentence of FRAMES, which of its places, what it holds, its kind) of every place.

    Found by reading the texts, not by how they were made.
    """
    frames = {form(frame, r"(.+?)"): frame for frame in composing.FRAMES}
    found = []
    for split, texts in notes.items():
        kind_of = {
            name.lower(): kind for kind in kinds(composing) for name in composing.fillings(split, kind)
        }
        for text, _ in texts:
            for sentence in re.findall(r"\S[^.?]*[.?]", text):
                (frame, held), *others = [
                    (frame, match.groups())
                    for pattern, frame in frames.items()
                    if (match := re.fullmatch(pattern, sentence))
                    and all(name.lower() in kind_of for name in match.groups())
                ]
                assert not others
                found += [(split, frame, i, name, kind_of[name.lower()]) for i, name in enumerate(held)]
    return found


def form(frame: str, place: str) -> str:
    return place.join(map(re.escape, re.split("{[xXy]}", frame)))


def kinds(composing) -> list[str]:
    return [*composing.TYPES, composing.PLAIN]


def in_words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def stem(word: str) -> str:
    return re.sub("(ies|es|s|y)$", "", word) if len(word) > 4 else word


def test_the_texts_are_the_same_on_every_machine(notes):
    assert (
        hashlib.sha256(repr(notes).encode()).hexdigest()
        == "05a9ad4d82894aa916dfbf518ea369b3e3c95875278742b167d11fc15d5885ba"
    )


def test_no_word_of_a_name_is_in_two_splits_or_in_a_sentence(composing):
    """Nor is one of plain words, in singular or plural."""
    listed = {
        split: {
            stem(word)
            for kind in kinds(composing)
            for name in composing.fillings(split, kind)
            for word in in_words(name)
        }
        for split in composing.SPLITS
    }
    listed["sentences"] = {
        stem(word) for frame in composing.FRAMES for word in in_words(re.sub("{.}", "", frame))
    }
    told = Counter(word for words in listed.values() for word in words)
    assert max(told.values()) == 1, [word for word, times in told.items() if times > 1]


def test_each_list_has_its_size_and_names_of_two_words(composing):
    for split, size in (("train", 16), ("validation", 16), ("test", 40)):
        for kind in kinds(composing):
            names = composing.fillings(split, kind)
            assert len({name.lower() for name in names}) == len(names) == size * (1 + 2 * (kind == "plain"))
            share = sum(" " in name for name in names) / len(names)
            assert share == (0.5 if kind == "person" else 0.25)
        all_names = [name for kind in kinds(composing) for name in composing.fillings(split, kind)]
        assert len(set(all_names)) == len(all_names)


def test_spans_cut_out_exactly_the_names(composing, notes):
    for split, texts in notes.items():
        names = {
            kind: {name.lower() for name in composing.fillings(split, kind)} for kind in kinds(composing)
        }
        for text, spans in texts:
            forms = [text[start:end].lower() for start, end, _ in spans]
            assert all(form in names[kind] for form, (*_, kind) in zip(forms, spans, strict=True)), text
            assert spans == sorted(spans) and len(set(forms)) == len(forms) <= composing.MOST
            # What is left holds no name of any type.
            left = text.lower()
            for form in forms:
                left = left.replace(form, "", 1)
            all_names = set().union(*(names[kind] for kind in composing.TYPES))
            assert not re.search(rf"\b({'|'.join(map(re.escape, all_names))})\b", left), text


def test_sentences_tell_neither_the_split_nor_what_a_place_holds(composing, places):
    """Each of them in all splits, and of all together in each of its places all types."""
    for split in composing.SPLITS:
        assert {frame for of, frame, *_ in places if of == split} == set(composing.FRAMES)
    for frame in composing.FRAMES:
        for place in range(len(re.findall("{", frame))):
            held = Counter(kind for _, of, number, _, kind in places if (of, number) == (frame, place))
            assert set(held) == set(kinds(composing)), frame
            assert 0.35 < 1 - held["plain"] / held.total() < 0.8, frame


def test_types_come_about_as_often_and_so_do_the_names_of_a_list(composing, places):
    for split in composing.SPLITS:
        of_split = [(name.lower(), kind) for of, *_, name, kind in places if of == split]
        counts = Counter(kind for _, kind in of_split)
        amounts = [counts[kind] for kind in composing.TYPES]
        assert max(amounts) < 1.3 * min(amounts)
        assert 0.5 < sum(amounts) / len(of_split) < 0.65  # 4 of 7
        for kind in kinds(composing):
            names = Counter(name for name, of in of_split if of == kind)
            assert set(names) == {name.lower() for name in composing.fillings(split, kind)}


def test_texts_are_all_different_and_one_in_four_has_no_entity(composing, notes):
    texts = [text for found in notes.values() for text, _ in found]
    assert len(set(texts)) == len(texts) == 1000
    for split, found in notes.items():
        assert len(found) == composing.SPLITS[split]
        assert 0.2 < sum(not spans for _, spans in found) / len(found) < 0.3


def test_texts_are_written_as_sentences(notes):
    for found in notes.values():
        for text, _ in found:
            assert re.fullmatch(r"[A-Z][^.?]*[.?]( [A-Z][^.?]*[.?])?", text), text
            assert not re.search(r"[{}]|  ", text), text


def test_the_builder_stores_them_character_by_character(composing, notes, tmp_path):
    import tensorflow_datasets as tfds

    builder = load(DATASETS / "composed_notes", "_test_composed_notes").Builder(data_dir=tmp_path)
    assert builder.info.features["entities"]["type"].names == list(composing.TYPES)
    builder.download_and_prepare()
    for split, expected in notes.items():
        read = {}
        for one in tfds.as_numpy(builder.as_dataset(split=split)):
            start, end, kind = (one["entities"][key].tolist() for key in ("start", "end", "type"))
            names = [composing.TYPES[number] for number in kind]
            read[one["text"].decode()] = list(zip(start, end, names, strict=True))
        assert read == dict(expected)


def test_what_is_learned_word_by_word_does_not_carry_over(notes):
    """Neither from words, their endings and their neighbours, as taggers had it before pretraining."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def described(words: list[str], i: int) -> dict[str, str]:
        before, after = (words[j] if 0 <= j < len(words) else "" for j in (i - 1, i + 1))
        return {"word": words[i], "ending": words[i][-2:], "before": before, "after": after}

    def table(split: str) -> tuple[list[dict[str, str]], list[str]]:
        rows, types = [], []
        for text, spans in notes[split]:
            found = list(re.finditer(r"\w+|[.,?]", text.lower()))
            rows += [described([one.group() for one in found], i) for i in range(len(found))]
            for one in found:
                of = [kind for start, end, kind in spans if start <= one.start() < end]
                types.append(of[0] if of else "")
        return rows, types

    def share_found(split: str) -> float:
        rows, types = table(split)
        right = [kind == said for kind, said in zip(types, learner.predict(rows), strict=True) if kind]
        return sum(right) / len(right)

    learner = make_pipeline(DictVectorizer(), LogisticRegression(C=10, max_iter=300)).fit(*table("train"))
    assert share_found("train") > 0.99
    assert share_found("validation") < 0.2 and share_found("test") < 0.2
