"""Entities count as found where type and both ends are right, and tags mean what conlleval takes them for."""

import itertools
import tempfile

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InputError
from runner.scores import entities, intervals

hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # else it makes .hypothesis here
PROPERTY = settings(max_examples=50, derandomize=True, database=None, deadline=None)
TYPES = ["place", "person"]


def tables(wanted, found) -> dict:
    """Both tables of spans by text, the types that occur and the ids, which count from 10."""
    ids = np.arange(10, 10 + len(wanted))
    kinds = sorted({kind for text in [*wanted, *found] for *_, kind in text}) or ["place"]
    return {
        "found": entities.table(found, ids),
        "wanted": entities.table(wanted, ids),
        "classes": kinds,
        "ids": ids,
    }


# ---------------------------------------------------------------- tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        # IOB2: each entity begins with B.
        ("B-a I-a O B-b", [(0, 2, "a"), (3, 4, "b")]),
        ("B-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("B-a B-b", [(0, 1, "a"), (1, 2, "b")]),
        ("O B-a", [(1, 2, "a")]),
        # IOB1: with I, and with B where one of the same type ends just before.
        ("I-a I-a O I-b", [(0, 2, "a"), (3, 4, "b")]),
        ("I-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("I-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),
        # IOE2: each ends with E.
        ("I-a E-a O E-b", [(0, 2, "a"), (3, 4, "b")]),
        ("I-a E-a I-a E-a", [(0, 2, "a"), (2, 4, "a")]),
        ("E-a E-a", [(0, 1, "a"), (1, 2, "a")]),
        # IOBES, and the same with the letters of BILOU.
        ("B-a I-a E-a S-a O S-b", [(0, 3, "a"), (3, 4, "a"), (5, 6, "b")]),
        ("B-a I-a L-a U-a O U-b", [(0, 3, "a"), (3, 4, "a"), (5, 6, "b")]),
        ("B-a E-a B-a E-a", [(0, 2, "a"), (2, 4, "a")]),
        # What no scheme allows.
        ("O I-a I-a", [(1, 3, "a")]),
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),
        ("B-a I-b I-a", [(0, 1, "a"), (1, 2, "b"), (2, 3, "a")]),
        ("B-a O I-a", [(0, 1, "a"), (2, 3, "a")]),
        ("S-a I-a", [(0, 1, "a"), (1, 2, "a")]),
        ("S-a E-a", [(0, 1, "a"), (1, 2, "a")]),
        ("E-a I-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("B-a I-a S-a", [(0, 2, "a"), (2, 3, "a")]),
        ("B-a E-b", [(0, 1, "a"), (1, 2, "b")]),
        ("B-a I-a", [(0, 2, "a")]),  # an end that IOBES would have as E
        # Types with hyphens, and without a name.
        ("B-creative-work I-creative-work I-creative", [(0, 2, "creative-work"), (2, 3, "creative")]),
        ("B I O I B", [(0, 2, "_"), (3, 4, "_"), (4, 5, "_")]),
        ("B-a I", [(0, 1, "a"), (1, 2, "_")]),
    ],
)
def test_tags_of_every_scheme_and_of_none(tags, expected):
    assert entities.spans(tags.split()) == expected


@pytest.mark.parametrize("tag", ["", "o", "b-a", "B_a", "PERSON", "X-a", "OO", "O-a", "a-B", " B-a", None, 0])
def test_tags_that_are_none(tag):
    with pytest.raises(InputError, match="Received the tag .*; allowed: O, or B, I, E, S"):
        entities.spans(["O", tag])


def written(found, length: int, scheme: str) -> list[str]:
    """The tags of spans of a sequence, in the words of each scheme's definition."""
    tags = ["O"] * length
    ends = {(end, kind) for _, end, kind in found}
    begins = {(start, kind) for start, _, kind in found}
    for start, end, kind in found:
        letters = ["I"] * (end - start)
        if scheme == "IOB1" and (start, kind) in ends or scheme in ("IOB2", "IOBES", "BILOU"):
            letters[0] = "B"
        if scheme in ("IOE2", "IOBES", "BILOU") or scheme == "IOE1" and (end, kind) in begins:
            letters[-1] = "L" if scheme == "BILOU" else "E"
        if scheme in ("IOBES", "BILOU") and len(letters) == 1:
            letters = ["U" if scheme == "BILOU" else "S"]
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tags


@st.composite
def sequences(draw):
    """Spans without overlaps, and the length of their sequence."""
    gaps = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(TYPES)), max_size=6))
    found, place = [], 0
    for gap, length, kind in gaps:
        found.append((place + gap, place + gap + length, kind))
        place += gap + length
    return found, place + draw(st.integers(0, 2))


@PROPERTY
@given(sequences(), st.sampled_from(["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"]))
def test_every_scheme_gives_back_what_was_written_in_it(sequence, scheme):
    assert entities.spans(written(*sequence, scheme)) == sequence[0]


def test_any_tags_at_all_are_spans_side_by_side_that_cover_what_is_not_o():
    letters = ["O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b"]
    for tags in itertools.product(letters, repeat=4):
        found = entities.spans(tags)
        covered = [place for start, end, _ in found for place in range(start, end)]
        assert covered == [place for place, tag in enumerate(tags) if tag != "O"]
        assert all({tag[2:] for tag in tags[start:end]} == {kind} for start, end, kind in found)


# ---------------------------------------------------------------- numbers


def test_a_case_worked_by_hand():
    wanted = [[(0, 2, "place"), (5, 6, "person")], [(1, 3, "person")], [], [(0, 1, "place")]]
    found = [[(0, 2, "place"), (5, 6, "place")], [(1, 2, "person")], [(4, 5, "person")], [(0, 1, "place")]]
    got = tables(wanted, found)
    numbers = entities.metrics(**got)
    # Right: both places. The second of text 10 has another type, that of text 11 another end.
    assert numbers["precision"] == pytest.approx(2 / 5) and numbers["recall"] == pytest.approx(2 / 4)
    assert numbers["f1"] == pytest.approx(2 * 2 / (5 + 4))
    assert numbers["macro_precision"] == pytest.approx((2 / 3 + 0 / 2) / 2)
    assert numbers["macro_recall"] == pytest.approx((2 / 2 + 0 / 2) / 2)
    assert numbers["macro_f1"] == pytest.approx((4 / 5 + 0) / 2)
    assert (numbers["examples"], numbers["entities"], numbers["found"]) == (4, 4, 5)
    low, high = numbers["f1_interval"]
    assert 0 <= low < numbers["f1"] < high <= 1

    rows = entities.per_type(**got).set_index("class")
    assert rows.columns.tolist() == [
        *("precision", "recall", "recall_low", "recall_high", "f1", "support", "found")
    ]
    assert rows.loc["place", ["precision", "recall", "f1"]].tolist() == pytest.approx([2 / 3, 1, 4 / 5])
    assert rows.loc["person", ["precision", "recall", "f1"]].tolist() == [0, 0, 0]
    assert rows["support"].tolist() == [2, 2] and rows["found"].tolist() == [2, 3]
    for name, right, of in (("place", 2, 2), ("person", 0, 2)):  # one of each text: Wilson's
        ends = rows.loc[name, ["recall_low", "recall_high"]].tolist()
        assert ends == pytest.approx([float(end) for end in intervals.wilson(right, of)])

    texts = entities.per_text(**got)
    assert texts.to_dict("list") == {
        "id": [10, 11, 12, 13],
        "entities": [2, 1, 0, 1],
        "found": [2, 1, 1, 1],
        "right": [1, 0, 0, 1],
    }


@pytest.mark.parametrize(
    ("wanted", "found", "f1", "macro_f1"),
    [
        # One of two is a word too long; the other is right.
        ("O O O B-a I-a I-a O | B-b I-b O", "O O B-a I-a I-a I-a O | B-b I-b O", 1 / 2, 1 / 2),
        # I where B is meant is right, as the ends are the same.
        ("B-a I-a O", "I-a I-a O", 1, 1),
        # An entity in two parts is neither of them.
        ("B-a I-a I-a", "B-a I-a B-a", 0, 0),
        # A type that nobody wants is one of the types of the mean.
        ("B-a O", "B-a B-b", 2 / 3, 1 / 2),
        # A type that changes within is two entities, of which one is right.
        ("B-a B-b", "B-a I-b", 1, 1),
        ("B-a I-a", "B-a I-b", 0, 0),
        ("O B-a", "O O", 0, 0),
    ],
)
def test_tags_that_are_compared(wanted, found, f1, macro_f1):
    spans = [[entities.spans(text.split()) for text in one.split("|")] for one in (wanted, found)]
    numbers = entities.metrics(**tables(*spans))
    assert numbers["f1"] == pytest.approx(f1) and numbers["macro_f1"] == pytest.approx(macro_f1)


def test_an_entity_that_no_window_reaches_is_missed():
    """The truth has the whole text; what was found ends where the network stops to read."""
    wanted = [[(0, 5, "place"), (900, 905, "place")]]
    reached = [[(0, 5, "place")]]
    numbers = entities.metrics(**tables(wanted, reached))
    assert numbers["precision"] == 1 and numbers["recall"] == 0.5


def test_what_was_found_and_what_was_missed():
    got = tables([[(0, 1, "a"), (2, 3, "a")]], [[(2, 3, "a"), (0, 1, "b")]])
    found, wanted = entities.matched(got["found"], got["wanted"])
    assert found["right"].tolist() == [True, False] and wanted["found"].tolist() == [False, True]
    nothing = entities.table([[]], [3])
    assert [len(one) for one in entities.matched(nothing, nothing)] == [0, 0]


SPANS = st.tuples(st.integers(0, 3), st.integers(4, 6), st.sampled_from(TYPES))
TEXTS = st.lists(st.lists(SPANS, max_size=4, unique=True), min_size=1, max_size=5)


def numbers_of(wanted, found) -> dict:
    return entities.metrics(**tables(wanted, found), resamples=20)


@PROPERTY
@given(TEXTS.filter(any))
def test_f1_of_what_is_the_same_is_1(texts):
    numbers = numbers_of(texts, texts)
    assert {numbers[name] for name in ("precision", "recall", "f1", "macro_f1")} == {1.0}
    assert numbers["f1_interval"] == numbers["macro_f1_interval"] == [1.0, 1.0]
    rows = entities.per_type(**tables(texts, texts))
    assert (rows[["precision", "recall", "f1"]] == 1).all(axis=None)


@PROPERTY
@given(TEXTS.filter(any), st.data())
def test_precision_is_recall_with_both_exchanged(texts, data):
    sizes = st.lists(st.sampled_from(sum(texts, [])), max_size=4, unique=True)
    others = [data.draw(sizes) for _ in texts]
    if not any(others):
        return
    one, other = numbers_of(texts, others), numbers_of(others, texts)
    for mean in ("", "macro_"):
        assert one[f"{mean}precision"] == pytest.approx(other[f"{mean}recall"])
        assert one[f"{mean}recall"] == pytest.approx(other[f"{mean}precision"])
        assert one[f"{mean}f1"] == pytest.approx(other[f"{mean}f1"])
    precision, recall = one["precision"], one["recall"]
    assert one["f1"] == pytest.approx(2 * precision * recall / max(precision + recall, 1e-9))
    rows = entities.per_type(**tables(texts, others))
    assert rows["f1"].mean() == pytest.approx(one["macro_f1"])
    assert rows["support"].sum() == one["entities"] and rows["found"].sum() == one["found"]


@PROPERTY
@given(TEXTS.filter(any), TEXTS, st.randoms(use_true_random=False))
def test_the_order_of_entities_texts_and_types_does_not_matter(texts, others, random):
    got = tables(texts, (others + [[]] * len(texts))[: len(texts)])
    mixed = dict(got)
    for name in ("found", "wanted"):  # each twice: what stands twice counts once
        rows = list(range(len(got[name]))) * 2
        mixed[name] = got[name].iloc[random.sample(rows, len(rows))]
    mixed["ids"] = random.sample(list(got["ids"]), len(got["ids"]))
    mixed["classes"] = random.sample(got["classes"], len(got["classes"]))
    one, other = (entities.metrics(**each, resamples=20) for each in (got, mixed))
    for name in one:
        if not name.endswith("interval"):
            assert one[name] == pytest.approx(other[name]), name


# ---------------------------------------------------------------- intervals


def many(texts: int, times: int = 1) -> dict:
    """Texts of which some have an entity and some of these are found; each comes so many times."""
    random = np.random.default_rng(5)
    wanted = [[(0, 1, "a")] * int(random.random() < 0.7) for _ in range(texts)]
    found = [[one for one in text if random.random() < 0.6] for text in wanted]
    return tables(wanted * times, found * times)


def test_the_interval_is_that_of_drawing_texts():
    got = many(40)
    numbers = entities.metrics(**got, resamples=4000)
    counts = entities.per_text(**got)[["right", "found", "entities"]].to_numpy()
    random = np.random.default_rng(1)
    sums = np.stack([counts[random.integers(0, 40, 40)].sum(axis=0) for _ in range(4000)])
    drawn = 2 * sums[:, 0] / (sums[:, 1] + sums[:, 2])
    assert numbers["f1_interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)
    assert numbers["f1_interval"] == entities.metrics(**got, resamples=4000)["f1_interval"]
    assert numbers["f1_interval"] != entities.metrics(**got, resamples=4000, seed=1)["f1_interval"]


def test_texts_of_a_group_are_drawn_together():
    once, often = many(40), many(40, times=9)
    groups = pd.Series([f"document {number % 40}" for number in range(360)], index=often["ids"])
    alone, together = entities.metrics(**often), entities.metrics(**often, groups=groups)
    assert alone["f1"] == together["f1"] == pytest.approx(entities.metrics(**once)["f1"])

    def width(numbers):
        return np.ptp(numbers["f1_interval"])

    assert width(together) == pytest.approx(width(entities.metrics(**once)), rel=0.15)
    assert width(together) > 2 * width(alone)
    rows = [entities.per_type(**often, groups=one).iloc[0] for one in (None, groups)]
    assert rows[0]["recall"] == rows[1]["recall"]
    assert np.subtract(*rows[1][["recall_high", "recall_low"]]) > 2 * np.subtract(
        *rows[0][["recall_high", "recall_low"]]
    )


def test_entities_of_one_text_are_no_independent_examples():
    wanted = [[(place, place + 1, "a") for place in range(20)] for _ in range(12)]
    found = [text if number % 2 else [] for number, text in enumerate(wanted)]
    row = entities.per_type(**tables(wanted, found)).iloc[0]
    low, high = intervals.wilson(120, 240)
    assert row["recall"] == 0.5 and row["recall_high"] - row["recall_low"] > 3 * (high - low)


def test_resamples_with_nothing_in_them_say_nothing():
    got = tables([[(0, 1, "a")], [], []], [[(0, 1, "a")], [], []])
    assert entities.metrics(**got)["f1_interval"] == [1.0, 1.0]  # a third of them draw the empty texts alone


# ---------------------------------------------------------------- what cannot be scored


def test_types_that_are_nowhere_and_names_that_look_like_numbers():
    got = tables([[(0, 1, "1")]], [[(0, 1, "1")]])
    got["classes"] = ["1", "other"]
    for name in ("found", "wanted"):  # as they come back from CSV
        got[name] = got[name].astype({"class": int})
    assert entities.metrics(**got)["macro_f1"] == 1
    rows = entities.per_type(**got)
    assert rows["class"].tolist() == ["1", "other"] and rows["support"].tolist() == [1, 0]
    assert rows.iloc[1][["precision", "recall", "recall_low", "recall_high", "f1"]].isna().all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classes": ["b"]}, "found with class 'a', which is not among those listed"),
        ({"ids": [11]}, "found with id '10', which is not among those listed"),
        ({"ids": [10, 10]}, "each once"),
        ({"ids": []}, "the ids of 0 texts"),
        ({"classes": ["a", "a"]}, "each once"),
        ({"wanted": entities.table([[(1, 1, "a")]], [10])}, "wanted with a span that is none"),
        ({"found": entities.table([[(-1, 1, "a")]], [10])}, "found with a span that is none"),
        (
            {"found": entities.table([[(0, 1, "a")]], [10]).astype({"end": float})},
            "found with a span that is none; start and end are whole numbers",
        ),
        ({"wanted": entities.table([[]], [10])}, "1 texts without a single entity"),
        ({"wanted": entities.table([[]], [10]).drop(columns="start")}, "wanted without the column 'start'"),
    ],
)
def test_what_cannot_be_scored_is_one_line(changed, said):
    with pytest.raises(InputError) as error:
        entities.metrics(**tables([[(0, 1, "a")]], [[(0, 1, "a")]]) | changed)
    assert said in str(error.value) and "\n" not in str(error.value)


# ---------------------------------------------------------------- two models, and what elements have


def models(texts: int, seed: int = 0, better: float = 0.3) -> dict:
    """Two models on the same texts of one to four entities; the second finds more of them, by `better`."""
    random = np.random.default_rng(seed)
    wanted = [
        [(2 * one, 2 * one + 1, str(random.choice(TYPES))) for one in range(random.integers(1, 5))]
        for _ in range(texts)
    ]
    first, second = (
        [
            [one for one in text if random.random() < share] + [(50, 51, "place")] * (random.random() < 0.2)
            for text in wanted
        ]
        for share in (0.5, 0.5 + better)
    )
    ids = np.arange(7, 7 + texts)
    found = {"first": first, "second": second, "wanted": wanted}
    return {name: entities.table(some, ids) for name, some in found.items()} | {"ids": ids}


def f1(found: pd.DataFrame, wanted: pd.DataFrame, ids: np.ndarray) -> float:
    return entities.metrics(found, wanted, TYPES, ids, resamples=1)["f1"]


def test_a_difference_is_that_of_both_scores_with_its_sign():
    given_ = models(200)
    ids, wanted = given_["ids"], given_["wanted"]
    found = entities.difference(**given_)
    assert found.value == pytest.approx(
        f1(given_["second"], wanted, ids) - f1(given_["first"], wanted, ids), abs=1e-12
    )
    assert 0 < found.low < found.value < found.high and found.verdict == "above" and found.examples == 200
    back = entities.difference(**given_ | {"first": given_["second"], "second": given_["first"]})
    assert back.value == -found.value and back.high < 0 and back.verdict == "below"
    assert back.low == pytest.approx(-found.high, abs=0.02)
    assert entities.difference(**given_) == found


def test_equal_answers_differ_by_nothing():
    given_ = models(40)
    same = entities.difference(**given_ | {"second": given_["first"].sample(frac=1, random_state=0)})
    assert same[:3] == (0, 0, 0) and same.verdict == "no difference"
    nothing = entities.table([[]] * 40, given_["ids"])
    neither = entities.difference(nothing, nothing, given_["wanted"], given_["ids"])
    assert neither[:3] == (0, 0, 0)


@PROPERTY
@given(st.integers(0, 1000), st.integers(2, 60), st.sampled_from([-0.4, 0.0, 0.4]))
def test_the_interval_of_a_difference_holds_it(seed, texts, better):
    found = entities.difference(**models(texts, seed, better), resamples=300)
    assert -1 <= found.low <= found.high <= 1 and found.low - 0.02 <= found.value <= found.high + 0.02


def test_the_interval_of_a_difference_is_that_of_resampled_texts():
    """Drawn text by text, with what both models found in each."""
    given_ = models(60)
    found, random, drawn = entities.difference(**given_), np.random.default_rng(1), []
    ids, wanted = given_["ids"], given_["wanted"]
    rows = [entities.per_text(given_[name], wanted, TYPES, ids) for name in ("first", "second")]
    for _ in range(2000):
        chosen = random.integers(60, size=60)
        sums = [one.iloc[:, 1:].to_numpy()[chosen].sum(axis=0) for one in rows]
        scores = [2 * right / (there + those) for there, those, right in sums]
        drawn.append(scores[1] - scores[0])
    low, high = np.percentile(drawn, [2.5, 97.5])
    width = high - low
    assert found.low == pytest.approx(low, abs=0.1 * width)
    assert found.high == pytest.approx(high, abs=0.1 * width)


def test_a_difference_draws_texts_of_a_group_together():
    once, times = models(40), 9
    ids = np.arange(40 * times)
    often = {"ids": ids}
    for name in ("first", "second", "wanted"):
        parts = [once[name].assign(id=once[name]["id"] - 7 + 40 * number) for number in range(times)]
        often[name] = pd.concat(parts, ignore_index=True)
    groups = pd.Series([f"document {one % 40}" for one in ids], ids)
    alone, together = entities.difference(**often), entities.difference(**often, groups=groups)
    assert alone.value == pytest.approx(together.value, abs=1e-12)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    blank = pd.Series("", ids)
    assert entities.difference(**often, groups=blank) == alone


def test_a_table_of_elements_has_what_is_there():
    spans = np.array([[[0, 3], [5, 9]], [[-1, -1], [-1, -1]], [[2, 4], [-1, -1]]], np.int32)
    numbers = np.array([[1, 0], [-1, -1], [1, -1]])
    found = entities.from_arrays(np.array([4, 4, 9], np.int32), spans, numbers, ("x", "y"))
    assert list(found.columns) == entities.COLUMNS
    assert list(found.itertuples(index=False, name=None)) == [
        (4, "y", 0, 3),
        (4, "x", 5, 9),
        (9, "y", 2, 4),
    ]
    assert found[["id", "start", "end"]].dtypes.eq("int64").all()
    empty = entities.from_arrays(np.zeros(0, int), np.zeros((0, 2, 2), int), np.zeros((0, 2), int), ("x",))
    assert len(empty) == 0 and list(empty.columns) == entities.COLUMNS


def test_answers_say_what_entities_read_and_whether_they_are_right():
    texts = ["Ann in Rome", "\U0001f600 Café Ω", "nothing"]
    ids = np.arange(3)
    wanted = entities.table([[(0, 3, "person"), (7, 11, "place")], [(2, 6, "place")], []], ids)
    found = entities.table([[(7, 11, "place"), (0, 6, "person")], [(2, 6, "person")], []], ids)
    answers = entities.Answers(found.assign(score=[0.9, 0.2, 0.5]), wanted, ids, TYPES)
    told, there = answers.matched(texts)
    assert list(told.columns) == [*entities.COLUMNS, "form", "score", "right"]
    assert told["form"].tolist() == ["Rome", "Ann in", "Café"] and told["right"].tolist() == [
        True,
        False,
        False,
    ]
    assert list(there.columns) == [*entities.COLUMNS, "form", "found"]
    assert there["form"].tolist() == ["Ann", "Rome", "Café"]
    assert there["found"].tolist() == [False, True, False]
    assert list(answers.found.columns) == [*entities.COLUMNS, "score"]  # they are as they were
    numbers = answers.numbers(resamples=10)
    assert numbers["f1"] == pytest.approx(1 / 3) and numbers["examples"] == 3
    assert answers.types()["class"].tolist() == TYPES
    perfect = entities.Answers(wanted.assign(score=1.0), wanted, ids, TYPES)
    assert answers.less_than(perfect).value == pytest.approx(2 / 3)


def test_answers_without_an_entity_have_tables_too():
    nothing = entities.table([[]], [0])
    answers = entities.Answers(nothing.assign(score=[]), entities.table([[(0, 1, "place")]], [0]), [0], TYPES)
    told, there = answers.matched(["a"])
    assert len(told) == 0 and list(told.columns) == [*entities.COLUMNS, "form", "score", "right"]
    assert there["form"].tolist() == ["a"] and there["found"].tolist() == [False]
