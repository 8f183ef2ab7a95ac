"""`python -m runner compare`: differences that are known come out, and what cannot be compared is said."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.runs import compare, pairing
from runner.scores import detection, entities, paired

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = 200
CONFIG = {
    "data": "digits",
    "labels_per_class": 20,
    "seed": 0,
    "stages": [{"name": "head", "epochs": 3}, {"name": "all", "epochs": 4}],
    "run_dir": "somewhere",
}
TRUTH = np.arange(EXAMPLES) % 2


def make(folder, right, config=None, *, score="accuracy", shift=0, method="staged", template="", **more):
    """A complete run whose answer to each of `right` (EXAMPLES,) is right or wrong; ids begin at `shift`."""
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"not looked at")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    if template:
        (folder / "environment.json").write_text(
            json.dumps({"template": template, "processor": "a fast one"})
        )
    share = float(np.mean(right))
    row = {"method": method, "epochs": 7, "seconds": 12.5, "trainable_parameters": 1234}
    row |= {f"val_{score}": 0.5, f"test_{score}": share, "low": share - 0.05, "high": share + 0.05}
    pd.DataFrame([{**row, "method": "from scratch", f"test_{score}": 0.1}, row]).to_csv(
        folder / "comparison.csv", index=False
    )
    metrics = {"classes": ["a", "b"], "test": {score: share, "examples": EXAMPLES}, **more}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    label = np.array(["a", "NA"])[TRUTH]
    prediction = np.where(right, label, "b")
    ids = np.arange(EXAMPLES) + shift
    pd.DataFrame({"id": ids, "label": label, "prediction": prediction}).to_csv(
        folder / "predictions.csv", index=False
    )
    rows = [{"path": "x", "split": "train", "label": "a", "sha256": f"t{one}"} for one in range(shift)]
    rows += [
        {"path": f"{one}", "split": "test", "label": label[one], "sha256": f"{one // 2}"}
        for one in range(EXAMPLES)
    ]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def answers():
    """First right on 120, second on 150: 20 only by the first, 50 only by the second."""
    first, second = np.zeros(EXAMPLES, bool), np.zeros(EXAMPLES, bool)
    first[:120], second[20:170] = True, True
    return first, second


def test_the_interval_of_a_paired_difference_is_that_of_theory():
    random = np.random.default_rng(1)
    first = random.random(2000) < 0.7
    second = np.where(random.random(2000) < 0.1, ~first, first)
    found = paired.of_means(first, second)
    difference = second.astype(float) - first
    assert found.value == pytest.approx(difference.mean())
    half = 1.96 * difference.std() / 2000**0.5
    assert found.low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.1 * half)
    # Answers that are never asked of the same examples lie much farther apart by chance.
    alone = (first.var() / 2000 + second.var() / 2000) ** 0.5
    assert half < 0.8 * 1.96 * alone
    same = paired.of_means(first, first)
    assert same[:3] == (0, 0, 0) and same.verdict == "no difference"
    with pytest.raises(InputError, match="the same ones"):
        paired.of_means(first, second[:5])


def test_mcnemar_counts_only_what_differs(answers):
    assert paired.mcnemar(*answers)[:2] == (20, 50)
    assert paired.mcnemar(*answers)[2] == pytest.approx(2 * 0.000217, rel=0.05)
    assert paired.mcnemar(answers[0], answers[0]) == (0, 0, 1.0)


def test_a_difference_is_found_on_the_same_examples_whatever_their_numbers(tmp_path, answers):
    first = make(tmp_path / "one", answers[0], template="templates.image_classification")
    second = make(
        tmp_path / "two",
        answers[1],
        {"labels_per_class": 10, "stages": [{"name": "head", "epochs": 3}, {"name": "all", "epochs": 8}]},
        shift=7,
        template="templates.image_classification",
    )
    found = compare.compare(compare.read_all([first, second]))
    row = found["rows"][1]
    assert row["difference"]["value"] == pytest.approx(15)
    assert row["difference"]["low"] > 5 and row["difference"]["verdict"] == "above"
    assert "right on 50, the first run alone on 20" in row["difference"]["note"]
    assert found["settings"] == [("labels_per_class", ["20", "10"]), ("stages.1.epochs", ["4", "8"])]
    assert ("from scratch", [0.1, 0.1]) in found["methods"]
    assert dict(found["cost"])["trainable weights"] == ["1,234", "1,234"]
    assert dict(found["cost"])["processor"] == ["a fast one", "a fast one"]


def test_what_cannot_be_paired_is_said_in_words(tmp_path, answers):
    first = make(tmp_path / "one", answers[0])
    others = {name: make(tmp_path / name, answers[1]) for name in ("hashes", "labels", "gone", "short")}
    table = pd.read_csv(others["hashes"] / "manifest.csv", dtype=str, keep_default_na=False)
    table.assign(sha256=[f"{n // 2 + 1}" for n in range(EXAMPLES)]).to_csv(
        others["hashes"] / "manifest.csv", index=False
    )
    table.assign(label="b").to_csv(others["labels"] / "manifest.csv", index=False)
    (others["gone"] / "predictions.csv").unlink()
    pd.read_csv(others["short"] / "predictions.csv").head(50).to_csv(
        others["short"] / "predictions.csv", index=False
    )
    expected = {
        "hashes": r"not the same \(198 of 200 and 200 are\)",
        "labels": "other labels",
        "gone": "no predictions.csv",
        "short": "lacks some",
    }
    for name, words in expected.items():
        assert re.search(words, pairing.of_runs(first, others[name], "accuracy")), name


def test_a_number_for_each_example_is_compared_in_the_mean(tmp_path, answers):
    folders = [make(tmp_path / name, answers[0], score="miou") for name in ("one", "two")]
    ids = np.arange(EXAMPLES)
    for folder, more in zip(folders, (0, 0.25), strict=True):
        (folder / "predictions.csv").unlink()
        values = np.where(ids == 3, np.nan, 0.5 + more * (ids % 2))
        # Runs from before all templates had predictions.csv.
        pd.DataFrame({"id": ids, "miou": values}).to_csv(folder / "pictures.csv", index=False)
    found = pairing.of_runs(*folders, "miou")
    assert found.difference.examples == EXAMPLES - 1
    assert found.difference.value == pytest.approx(0.25 * 99 / 199)
    assert "mean IoU of an example" in found.number


def test_boxes_are_compared_by_the_score_of_their_runs(tmp_path):
    random = np.random.default_rng(0)
    ids, classes = range(40), ["x", "y"]
    truth = pd.DataFrame(
        [
            {"id": one, "class": classes[one % 2], "x_min": 0, "y_min": 0, "x_max": 9, "y_max": 9}
            for one in ids
        ]
    )
    scores = []
    for name, chance in (("one", 0.3), ("two", 0.9)):
        moved = np.where(random.random(40) < chance, 0, 20)
        found = truth.assign(score=random.random(40), x_min=moved, x_max=moved + 9)
        judged = detection.evaluate(truth, found, classes, ids, 64)
        scores.append(judged.metrics["ap50"])
        folder = make(tmp_path / name, np.ones(EXAMPLES, bool), score="ap50")
        manifest = pd.read_csv(folder / "manifest.csv").head(40)
        manifest.assign(sha256=[f"{one}" for one in ids]).to_csv(folder / "manifest.csv", index=False)
        judged.detections.to_csv(folder / "predictions.csv", index=False)
        judged.truth.to_csv(folder / "truth.csv", index=False)
    found = pairing.of_runs(tmp_path / "one", tmp_path / "two", "ap50").difference
    assert found.value == pytest.approx(scores[1] - scores[0])
    assert 0 < found.low < found.value < found.high
    (tmp_path / "two" / "truth.csv").unlink()
    assert "no truth.csv" in pairing.of_runs(tmp_path / "one", tmp_path / "two", "ap50")


def of_entities(folder, found: list, wanted: list, *, shift=0, groups=None):
    """A run that found these spans in the test texts, ids from `shift` on."""
    ids = np.arange(len(wanted)) + shift
    make(folder, np.ones(EXAMPLES, bool), score="f1", shift=shift)
    manifest = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    test = manifest[manifest["split"] == "test"].head(len(wanted))
    test = test.assign(sha256=[f"text {one}" for one in range(len(wanted))], label="")
    test = test if groups is None else test.assign(group=groups)
    pd.concat([manifest.head(shift), test]).to_csv(folder / "manifest.csv", index=False)
    table, truth = (entities.table(some, ids) for some in (found, wanted))
    # Of other columns, and in another order, as a run writes them.
    table.assign(form="NA", score=0.5, right=True).to_csv(folder / "predictions.csv", index=False)
    truth.sample(frac=1, random_state=shift).assign(found=True).to_csv(folder / "truth.csv", index=False)
    return folder


def test_entities_are_compared_by_their_f1(tmp_path):
    random = np.random.default_rng(0)
    wanted = [
        [(9 * one, 9 * one + 4, ["NA", "place"][one % 2]) for one in range(random.integers(4))]
        for _ in range(60)
    ]
    found = [[[one for one in text if random.random() < share] for text in wanted] for share in (0.4, 0.8)]
    groups = [f"document {one // 3}" for one in range(60)]
    folders = [
        of_entities(tmp_path / f"{number}", some, wanted, shift=5 * number, groups=groups)
        for number, some in enumerate(found)
    ]
    got = pairing.of_runs(*folders, "f1")
    tables = [entities.table(some, range(60)) for some in (*found, wanted)]
    scores = [
        entities.metrics(one, tables[2], ["NA", "place"], range(60), resamples=1)["f1"] for one in tables[:2]
    ]
    assert got.number == "F1" and got.difference.value == pytest.approx(scores[1] - scores[0], abs=1e-12)
    assert 0 < got.difference.low < got.difference.value < got.difference.high
    assert got.difference.examples == 60
    expected = entities.difference(*tables, range(60), pd.Series(groups))
    assert got.difference == expected
    assert pairing.of_runs(folders[0], folders[0], "f1").difference[:3] == (0, 0, 0)


def test_entities_of_other_texts_or_another_truth_are_not_compared(tmp_path):
    wanted = [[(0, 4, "a")], [(3, 5, "b"), (6, 9, "a")], []]
    first = of_entities(tmp_path / "first", wanted, wanted)
    others = {
        "type": of_entities(tmp_path / "type", wanted, [[(0, 4, "b")], *wanted[1:]]),
        "end": of_entities(tmp_path / "end", wanted, [[(0, 5, "a")], *wanted[1:]]),
        "gone": of_entities(tmp_path / "gone", wanted, wanted),
        "strange": of_entities(tmp_path / "strange", wanted, wanted),
    }
    (others["gone"] / "truth.csv").unlink()
    table = pd.read_csv(others["strange"] / "predictions.csv")
    table.assign(id=table["id"] + 100).to_csv(others["strange"] / "predictions.csv", index=False)
    expected = {"type": "have other entities", "end": "have other entities", "gone": "no truth.csv"}
    for name, words in expected.items():
        assert words in pairing.of_runs(first, others[name], "f1"), name
    assert "not of the test" in pairing.of_runs(first, others["strange"], "f1")
    nothing = of_entities(tmp_path / "nothing", [[], [], []], wanted)
    assert pairing.of_runs(first, nothing, "f1").difference.value == -1
    for text in JUNK:
        for name in ("predictions.csv", "truth.csv"):
            whole = (others["end"] / name).read_text()
            (others["end"] / name).write_text(text)
            try:
                assert isinstance(pairing.of_runs(first, others["end"], "f1"), str)
            except InputError as error:
                assert "\n" not in str(error)
            (others["end"] / name).write_text(whole)


def test_runs_that_are_not_alike_are_refused(tmp_path, answers):
    one = make(tmp_path / "one", answers[0], template="templates.image_classification")
    other = make(tmp_path / "other", answers[0], {"source": "x"}, template="templates.domain_adaptation")
    score = make(tmp_path / "score", answers[0], score="miou", template="templates.image_classification")
    unfinished = make(tmp_path / "unfinished", answers[0])
    (unfinished / "metrics.json").unlink()
    damaged = make(tmp_path / "damaged", answers[0])
    (damaged / "metrics.json").write_text("{")
    empty = make(tmp_path / "empty", answers[0])
    (empty / "comparison.csv").write_text("")
    for folders, words in (
        ([one, other], "runs of one template"),
        ([one, score], "judged by accuracy, .* by mean IoU"),
        ([one, unfinished], "not complete"),
        ([one, damaged], "metrics.json is damaged"),
        ([one, empty], "comparison.csv cannot be read"),
        ([one], "two or more"),
        ([one, one], "1 different"),
        ([one, tmp_path / "nowhere"], "no folder"),
    ):
        with pytest.raises(InputError, match=words) as error:
            compare.run(folders, tmp_path / "page")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "page").exists()
    # A project that was copied out has a name of its own for the same template.
    copied = make(tmp_path / "copied", answers[0], template="my_project")
    assert len(compare.read_all([one, copied])) == 2


def test_the_command_prints_little_and_writes_a_page_once(tmp_path, answers):
    first = make(tmp_path / "runs" / "one", answers[0])
    second = make(tmp_path / "runs" / "two <b>", answers[1], {"seed": 1})
    third = make(tmp_path / "elsewhere" / "one", answers[1], {"labels_per_class": None})
    command = [sys.executable, "-m", "runner", "compare", str(first), str(second), str(third)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "+15.0 (+" in done.stdout and "labels_per_class" in done.stdout
    assert max(map(len, done.stdout.split("page: ")[0].splitlines())) <= 100
    page = (tmp_path / "runs" / "compare.html").read_text(encoding="utf-8")
    assert "two &lt;b&gt;" in page and "<b>two <b>" not in page
    assert "15.0 points above that of the first run, on the same 200 test examples" in page
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert again.returncode == 2 and again.stdout == "" and len(again.stderr.splitlines()) == 1
    assert "compare.html exists" in again.stderr


def test_comparing_needs_no_tensorflow():
    code = (
        "import sys; import runner.runs.compare; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "False False\n"


JUNK = ("", "\0", "{", "[]", "3", "null", "a,b\n1,2\n", "method,test_accuracy\nstaged,high\n", '"x"')


@pytest.mark.parametrize("file", ["config.json", "metrics.json", "environment.json", "comparison.csv"])
def test_tables_and_records_of_another_shape_are_one_line(tmp_path, answers, file):
    package = "templates.image_classification"
    one, other = (make(tmp_path / str(n), answers[n], template=package) for n in range(2))
    whole = (other / file).read_text()
    changed = [*JUNK]
    if file.endswith(".json"):
        record = json.loads(whole)
        strange = (None, 3, "x", [[]], {"a": []})
        changed += [json.dumps(record | {name: junk}) for name in record for junk in strange]
    for text in changed:
        (other / file).write_text(text)
        try:
            compare.compare(compare.read_all([one, other]))
        except InputError as error:
            assert "\n" not in str(error)
    (other / file).write_text(whole)
    for name in ("manifest.csv", "predictions.csv"):
        whole = (other / name).read_text()
        for text in JUNK:
            (other / name).write_text(text)
            try:
                compare.compare(compare.read_all([one, other]))
            except InputError as error:
                assert "\n" not in str(error)
        (other / name).write_text(whole)
