"""Where something without pretrained weights is as good, that is said first."""

import pandas as pd

from runner.report import verdict

SCORE = ("ap50", "AP50")


def comparison(staged, **others):
    rows = {"frozen backbone": (0.9, True)} | others | {"staged": (staged, True)}
    values, pretrained = zip(*rows.values(), strict=True)
    return pd.DataFrame({"method": [*rows], "test_ap50": values, "pretrained": pretrained})


def test_the_strongest_without_pretrained_weights_decides():
    others = {"from scratch": (0.45, False), "the same boxes": (0.1, False)}
    for staged in (0.45, 0.3):
        said = verdict.in_words(comparison(staged, **others), {"ap50": staged}, SCORE)
        assert said.startswith("Transfer did not pay here: “from scratch”, without pretrained weights, has")
        assert f"45.0\u202f% test AP50, “staged” {100 * staged:.1f}" in said
    # The frozen backbone's are pretrained, and what is not known is not said.
    assert verdict.in_words(comparison(0.5, **others), {"ap50": 0.5}, SCORE) == ""
    assert verdict.in_words(comparison(0.3, **others).drop(columns="pretrained"), None, SCORE) == ""
    assert verdict.in_words(comparison(0.3), None, SCORE) == verdict.in_words(None, None, SCORE) == ""
    assert verdict.in_words(comparison(0.3, **others).assign(pretrained=False), None, SCORE) == ""


def test_the_subject_is_the_last_with_the_score():
    table = comparison(0.9)
    assert verdict.subject(table, {"ap50": 0.9}, "ap50") == 1
    assert verdict.subject(table, {"ap50": 0.1}, "ap50") == verdict.subject(table, None, "ap50") == 1
    assert verdict.subject(comparison(0.3), {"ap50": 0.9}, "ap50") == 0
