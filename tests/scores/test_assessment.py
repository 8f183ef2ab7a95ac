"""What a run says about its own numbers, as tables, as a page and as a model card."""

import hashlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.special

from runner import atomic
from runner.data import pairs
from runner.data.examples import labels_of
from runner.report import assessment as report_assessment
from runner.report import card, page
from runner.scores import assessment, calibration, classification, operating_point
from runner.stage import Stage

HOSTILE = ("<b>ill</b>", "we|l\nl `x` [y](z)")


def table(truth, logits, classes):
    return classification._table(
        "model", np.arange(len(truth)), np.asarray(truth), np.asarray(logits), list(classes)
    )


def predictions(number, classes, seed, sharpness=1.0):
    """Calibrated by construction, then sharpened: labels are drawn from the softmax of the logits."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (number, len(classes)))
    truth = [random.choice(len(classes), p=p) for p in scipy.special.softmax(logits, axis=1)]
    return table(truth, sharpness * logits, classes)


def judged(classes=("well", "ill"), groups=None, **arguments):
    validation, test = predictions(400, classes, 0, 3.0), predictions(600, classes, 1, 3.0)
    column = pd.Series([""] * len(test)) if groups is None else pd.Series(groups)
    return validation, test, assessment.assess(validation, test, classes, column, **arguments)


def test_what_is_fitted_comes_from_validation_alone():
    validation, test, found = judged(positive="ill")
    assert found.temperature == pytest.approx(3, rel=0.25)
    assert (
        found.as_trained["expected_calibration_error"]
        > 3 * found.with_temperature["expected_calibration_error"]
    )
    other = assessment.assess(
        validation, test.sample(100, random_state=0), ("well", "ill"), pd.Series([""] * len(test)), "ill"
    )
    assert other.temperature == found.temperature
    assert other.operating_point.validation == found.operating_point.validation
    assert found.groups is None and found.gap is None


def test_the_threshold_is_what_predict_would_be_compared_with():
    _, test, found = judged(positive="ill", criterion="f1")
    threshold = found.operating_point.test["threshold"]
    scaled = calibration.scale(test, found.temperature, ("well", "ill"))
    again = operating_point.at(scaled, "ill", threshold)
    for name in ("true_positives", "false_negatives", "false_positives", "true_negatives"):
        assert again[name] == found.operating_point.test[name] > 0


@pytest.mark.parametrize(
    "criterion, said",
    [
        ("youden", "(Youden's J)"),
        ("f1", "F1 is highest"),
        ("specificity:0.95", "sensitivity is highest of all thresholds that give a specificity of at least"),
        ("sensitivity:.9", "specificity is highest of all thresholds that give a sensitivity of at least 90"),
    ],
)
def test_the_page_says_what_the_threshold_was_chosen_by(criterion, said):
    _, _, found = judged(positive="ill", criterion=criterion)
    assert said in report_assessment.operating_point(found)["criterion"]
    if ":" in criterion:
        held, share = criterion.split(":")
        assert found.operating_point.validation[held] >= float(share)


def test_a_temperature_that_cannot_be_fitted_changes_nothing():
    classes = ("a", "b", "c")
    truth = np.arange(60) % 3
    faultless = table(truth, 4.0 * np.eye(3)[truth], classes)
    found = assessment.assess(faultless, faultless, classes, pd.Series([""] * 60))
    assert found.temperature == 1 and "too few mistakes" in found.temperature_note
    assert found.with_temperature == found.as_trained and found.operating_point is None


def test_the_record_is_json_and_says_all(tmp_path):
    groups = ["day" if i % 2 else "night" for i in range(600)]
    *_, found = judged(groups=groups)
    record = json.loads(atomic.write_json(tmp_path / "metrics.json", found.record()).read_text())
    assert set(record) == {"temperature", "temperature_note", "calibration", "groups", "operating_point"}
    assert {row["group"] for row in record["groups"]["table"]} == {"day", "night"}
    assert record["operating_point"]["test"]["positive"] == "ill"
    single = pd.concat([predictions(50, ("well", "ill"), 5).query("label == 'ill'")])
    lacking = assessment.assess(single, single, ("well", "ill"), pd.Series([""] * 50))
    assert lacking.operating_point is None and "operating_point" not in lacking.record()


def run(classes, found, test):
    """What a report and a card take, around an assessment."""
    labels = [str(classes[i % len(classes)]) for i in range(len(test) + 20)]
    split = ["test"] * len(test) + ["train"] * 10 + ["val"] * 10
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(len(labels))]
    manifest = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(len(labels))],
            "split": split,
            "label": labels_of(labels, classes),
            "group": "",
        }
    ).assign(sha256=hashes)
    problems = pd.DataFrame([("", "imbalance", "few")], columns=["path", "kind", "message"])
    common = dict(classes=tuple(classes), manifest=manifest, amounts=None, unit="pictures")
    data = SimpleNamespace(problems=problems, **common)
    metrics = classification.metrics(test, classes, resamples=50)
    low, high = metrics["accuracy_interval"]
    comparison = pd.DataFrame([("staged", metrics["accuracy"], low, high)])
    comparison.columns = ["method", "test_accuracy", "low", "high"]
    return data, metrics, comparison


def written(tmp_path, classes, found, test, **more):
    data, metrics, comparison = run(classes, found, test)
    data.near_duplicates, data.odd = pairs.none(), {}
    path = page.write(
        tmp_path / "report.html",
        title="t",
        question="q",
        data=data,
        comparison=comparison,
        metrics=metrics,
        predictions=test,
        assessment=found,
        **{"pictures": {}} | more,
    )
    return path.read_text(encoding="utf-8")


def test_the_page_shows_what_was_found(tmp_path):
    groups = [f"camera {i % 3}" for i in range(600)]
    _, test, found = judged(HOSTILE, groups)
    text = written(tmp_path, HOSTILE, found, test)
    for section in ("calibration", "operating-point", "groups"):
        assert f'<section id="{section}">' in text and f'<a href="#{section}">' in text
    assert "<b>ill</b>" not in text.replace("&lt;b&gt;ill&lt;/b&gt;", "")
    error = 100 * found.with_temperature["expected_calibration_error"]
    assert f"{error:.1f}\u202f%" in text and f"<b>{found.temperature:.2f}</b>" in text
    assert f"<b>{found.operating_point.test['threshold']:.3f}</b>" in text
    assert "Largest gap in accuracy" in text and text.count("camera 1") >= 2
    assert text.count("<svg") >= 4
    three = ("a", "b", "c")
    _, test, found = judged(three)
    text = written(tmp_path, three, found, test)
    assert '<section id="operating-point">' not in text and '<section id="groups">' not in text


def test_pictures_are_shown_beside_their_maps(tmp_path):
    classes = [f"c{i}" for i in range(12)]
    _, test, found = judged(classes)
    ids = page.explained_ids(test, classes)
    wrong = test.set_index("id").loc[ids].query("label != prediction")
    assert len(wrong) == report_assessment.WRONG and len(ids) == len(set(ids)) == 16
    random = np.random.default_rng(0)
    pictures = {one: random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for one in ids}
    overlays = {one: 255 - picture for one, picture in pictures.items()}
    text = written(tmp_path, classes, found, test, pictures=pictures, overlays=overlays)
    assert text.count('alt="Where the network looked in it"') == 16
    assert text.index("Classified wrong") < text.index("Classified right")


def test_the_card_says_what_the_tables_say_and_lets_no_name_be_markup(tmp_path):
    _, test, found = judged(HOSTILE, [f"<g>{i % 2}|" for i in range(600)])
    data, metrics, comparison = run(HOSTILE, found, test)
    task = card.Task(
        title="`mine`",
        what="A classifier of pictures into",
        prepared="pictures are made square (pad) at 224 pixels a side",
        takes="uint8 RGB pictures (batch, height, width, 3)",
        gives="float32 logits (batch, 2)",
        meant="Meant for such pictures.",
        score=("accuracy", "accuracy"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "pictures": "support"},
        numbers={"Macro F1": "macro_f1"},
    )
    path = card.write(
        tmp_path / "MODEL_CARD.md",
        task=task,
        config={"backbone": "ResNet50", "weights": "imagenet", "augment": "light", "seed": 3},
        stages=[Stage("head")],
        data={"/photos/`mine`": data},
        comparison=comparison,
        metrics=metrics,
        per_class=classification.per_class(test, HOSTILE),
        assessed=found,
        environment={"keras": "3.15", "gpus": []},
    )
    text = path.read_text(encoding="utf-8")
    assert f"| staged | {100 * metrics['accuracy']:.1f}\u202f% |" in text
    assert f"temperature {found.temperature:.2f} fitted on validation" in text
    assert "600 test" in text and "1 imbalance" in text and "\\<b\\>ill\\</b\\>" in text
    assert text.count("**To say:**") == 2 and "{{" not in text and "None" not in text
    in_tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (4, 5, 6) for line in in_tables)
    assert "<b>" not in text and not re.search(r"\n{3,}", text)
