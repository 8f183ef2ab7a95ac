"""Texts on the page: their words as they are, coloured by what they did, the strongest of all most."""

import re

import pytest

from runner.report import page as report
from runner.report.section import Marked, Quotation, Quotations, Section, made
from tests.report.test_page import HOSTILE, fake_run, read


def depths(*quotations: list) -> list[list[tuple]]:
    """(word, depth, against) of each word of each text, as the page gets them."""
    shown = Quotations([Quotation("a text", words) for words in quotations])
    ((kind, (figure,)),) = made(Section("Texts", figures=[("", shown)]))["figures"]
    assert kind == "quotations"
    return [
        [(word["word"], word["depth"], word["against"]) for word in one["words"]] for one in figure["shown"]
    ]


def test_the_strongest_word_of_all_texts_is_coloured_most():
    first, second = depths([("a", 2.0), ("b", -4.0), ("c", 0.0)], [("d", 1.0), ("e", -0.5)])
    assert first == [("a", "0.50", False), ("b", "1.00", True), ("c", "0.00", False)]
    assert second == [("d", "0.25", False), ("e", "0.12", True)]


def test_where_no_word_does_anything_none_is_coloured():
    """What is left of rounding, or hardly more, is not made the strongest effect there is."""
    ((one, depth, _), (other, none, _)), empty = depths([("a", 0.1), ("b", -0.002)], [])
    assert (one, depth, other, none, empty) == ("a", "0.20", "b", "0.00", [])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with two sections of texts."""
    words = [
        *((word, 0.0) for word in HOSTILE),
        ("<script>alert(2)</script>", 9.0),
        ("against", -4.5),
        ("a", 0.01),
    ]
    texts = Quotations([Quotation('is "a" <b>, 90 % sure', words), Quotation("empty", [])])
    still = Quotations([Quotation("nothing", [("no", 0.0), ("word", 0.002)])])
    sections = [
        Section("Word by <word>", "Said.", figures=[("Mistakes & more", texts)]),
        Section("Still", figures=[("", still)]),
    ]
    return report.write(
        tmp_path_factory.mktemp("page") / "report.html", **fake_run() | {"sections": sections}
    )


def test_texts_stand_on_the_page_as_they_are(page):
    shown = read(page)
    for words in (
        *HOSTILE,
        "<script>alert(2)</script>",
        'is "a" <b>, 90 % sure',
        "Word by <word>",
        "Mistakes & more",
    ):
        assert words in shown.text
    assert "script" not in [tag for tag, _ in shown.tags]
    assert "alert" not in re.sub(r"&lt;script&gt;alert", "", page.read_text(encoding="utf-8"))


def test_words_are_coloured_by_what_they_did(page):
    tags = read(page).tags
    figures = [attributes for tag, attributes in tags if attributes.get("class") == "quotation"]
    assert len(figures) == 3 and [tag for tag, _ in tags].count("blockquote") == 3
    spans = [
        attributes for tag, attributes in tags if tag == "span" and "--depth" in attributes.get("style", "")
    ]
    assert spans == [{"class": "for", "style": "--depth:1.00"}, {"class": "against", "style": "--depth:0.50"}]


# ---------------------------------------------------------------- texts with entities


def lines(*given, classes=("person", "place")) -> list[list[tuple]]:
    """(text, type, hue) of each part of each line, as the page gets them."""
    shown = Marked([("", [("", text, spans) for text, spans in given])], classes)
    ((kind, (figure,)),) = made(Section("Texts", figures=[("", shown)]))["figures"]
    assert kind == "marked"
    (told,) = figure["shown"]
    return [[(p["text"], p.get("type"), p.get("hue")) for p in one["parts"]] for one in told["lines"]]


def test_a_text_with_entities_is_whole_and_each_entity_stands_in_it():
    text = "Ann Lee in Café Ω \U0001f600!"
    (found,) = lines((text, [(0, 7, "person"), (11, 15, "place"), (15, 17, "place")]))
    assert [part for part, _, _ in found] == ["Ann Lee", " in ", "Café", " Ω", " \U0001f600!"]
    assert [kind for _, kind, _ in found] == ["person", None, "place", "place", None]
    assert "".join(part for part, _, _ in found) == text
    whole, plain, empty = lines(("Rome", [(0, 4, "place")]), ("none here", []), ("", []))
    assert len(whole) == 1 and plain == [("none here", None, None)] and empty == []


def test_each_type_has_its_hue_wherever_it_stands():
    classes = tuple(f"type {one}" for one in range(8))
    rows = lines(*(("x", [(0, 1, kind)]) for kind in classes), classes=classes)
    hues = [hue for ((_, _, hue),) in rows]
    assert all(isinstance(one, int) and 0 <= one < 360 for one in hues)
    apart = [
        min((one - other) % 360, (other - one) % 360) for one in hues for other in hues if one is not other
    ]
    assert len(set(hues)) == 8 and min(apart) >= 20
    assert lines(("x", [(0, 1, "type 5")]), classes=classes)[0][0][2] == hues[5]


@pytest.fixture(scope="module")
def marked_page(tmp_path_factory):
    """A page with texts and types that a stranger wrote."""
    kind, text = '<i>type</i> & "co"', " ".join(HOSTILE)
    shown = [
        ("a <caption>", [("wanted", text, [(0, 11, kind)]), ("found", text, [])]),
        ("", [("", "\u202eplain < text", [(1, 6, "two")])]),
    ]
    sections = [
        Section(
            "Answers", figures=[("Most <faults> first", Marked(shown, (kind, "two"))), ("", Marked([], ()))]
        )
    ]
    path = tmp_path_factory.mktemp("marked") / "report.html"
    return report.write(path, **fake_run() | {"sections": sections})


def test_texts_with_entities_stand_on_the_page_as_they_are(marked_page):
    shown = read(marked_page)
    for one in (*HOSTILE, '<i>type</i> & "co"', "a <caption>", "Most <faults> first", "plain", " < text"):
        assert one in shown.text
    tags = [tag for tag, _ in shown.tags]
    assert "script" not in tags and "i" not in tags and "caption>" not in tags
    marks = [attributes["style"] for tag, attributes in shown.tags if tag == "mark"]
    assert len(marks) == 2 and len(set(marks)) == 2
    assert all(re.fullmatch(r"--hue:\d{1,3}", one) for one in marks)
    what = [attributes for tag, attributes in shown.tags if attributes.get("class") == "what"]
    assert len(what) == 2 and "wanted" in shown.text
