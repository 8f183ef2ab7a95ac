"""The page is whole, self-contained, escaped, and says what the tables say."""

import base64
import hashlib
import html.parser
import io
import re
from types import SimpleNamespace

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from PIL import Image

from runner.data import pairs
from runner.data.examples import labels_of
from runner.errors import InputError
from runner.report import data as report_data
from runner.report import figures, schedule, settings
from runner.report import page as report
from runner.report import sheets as pictures
from runner.report.section import Gallery, Panels, Section
from runner.scores import classification
from runner.stage import Stage

HOSTILE = (
    "<b>bold</b>",
    "\"quotes' & co",
    "日本語 🌷",
    "a" * 60,
    "$x^2$",
    "{{ jinja }}",
    "</style><script>alert(1)</script>",
)
STAGES = (
    Stage("head", train="head", epochs=3),
    Stage(
        "<i>top</i> $a_b$",
        train="top:2",
        epochs=2,
        learning_rate=3e-5,
        schedule="cosine",
        warmup=0.1,
        patience=1,
    ),
)
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta"}


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every tag is closed in order, and no id stands twice."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute stands twice in {attributes}"
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def sections(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


def fake_data(classes, each=4, **changes):
    rows, images, random = [], {}, np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in classes:
            for _ in range(each):
                content = hashlib.sha256(str(len(rows)).encode()).hexdigest()
                images[len(rows)] = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                rows.append((f"{name}/{len(rows)}.png", split, name, "", content))
    manifest = pd.DataFrame(rows, columns=["path", "split", "label", "group", "sha256"])
    manifest["label"] = labels_of(manifest["label"], classes)
    problems = pd.DataFrame(columns=["path", "kind", "message"])
    splits = {
        split: [{"id": one, "input": images[one]} for one in manifest.index[manifest["split"] == split]]
        for split in ("train", "val", "test")
    }
    more = {"near_duplicates": pairs.none(), "odd": {}, "amounts": None, "unit": "pictures"}
    return SimpleNamespace(
        classes=tuple(classes), manifest=manifest, problems=problems, **splits | more | changes
    )


def fake_run(classes=("cat", "dog", "owl"), each=4):
    """Everything that `report.write` takes, for a run that got some test pictures wrong."""
    data = fake_data(classes, each)
    test = data.manifest[data.manifest["split"] == "test"]
    truth = pd.Index(classes).get_indexer(test["label"])
    logits = np.random.default_rng(1).normal(size=(len(test), len(classes)))
    logits[np.arange(len(test)), truth] += 1
    predictions = classification._table("staged", test.index.to_numpy(), truth, logits, list(classes))
    metrics = classification.metrics(predictions, classes, resamples=50)
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4, 5],
            "stage": [STAGES[0].name] * 3 + [STAGES[1].name] * 2,
            "stage_epoch": [1, 2, 3, 1, 2],
            "loss": [2.0, 1.5, 1.2, 1.0, 0.9],
            "accuracy": [0.3, 0.5, 0.6, 0.7, 0.8],
            "val_loss": [2.1, 1.4, 1.6, 1.1, 1.2],
            "val_accuracy": [0.3, 0.52, 0.5, 0.6, 0.62],
        }
    )
    ledger = pd.DataFrame(
        [
            (STAGES[0].name, "block1_relu", 6, 0, 0, 0.0, 0),
            (STAGES[0].name, "head", 2, 2, 2, 1.5, 0),
            (STAGES[1].name, "block1_relu", 6, 4, 4, 0.032, 0),
            (STAGES[1].name, "head", 2, 2, 2, 0.2, 0),
        ],
        columns=["stage", "block", "variables", "to_train", "moved", "relative_change", "statistics_moved"],
    )
    low, high = metrics["accuracy_interval"]
    comparison = pd.DataFrame(
        {
            "method": ["from scratch", "feature extraction & <em>co</em>", "staged"],
            "epochs": 5,
            "trainable_parameters": [221_000, 2570, 221_000],
            "seconds": [61.2, 20.0, 48.0],
            "val_accuracy": [0.2, 0.5, 0.6],
            "test_accuracy": [0.1, 0.3, metrics["accuracy"]],
            "low": [0.05, 0.2, low],
            "high": [0.2, 0.4, high],
        }
    )
    augmented = np.random.default_rng(2).integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)
    return {
        "title": "Kinds of <animals>",
        "question": "Is it worth it?\n\nThree ways.",
        "data": data,
        "augmented": augmented,
        "stages": STAGES,
        "history": history,
        "ledger": ledger,
        "comparison": comparison,
        "predictions": predictions,
        "metrics": metrics,
        "per_class": classification.per_class(predictions, classes),
        "confusion": classification.confusion(predictions, classes),
        "environment": {
            "keras": "3.15.1",
            "gpus": [],
            "command": "python -m train --data <here>",
            "seconds": 133.2,
        },
    }


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("classes", [("cat", "dog"), HOSTILE, [f"species {number}" for number in range(100)]])
def test_the_page_is_balanced_complete_and_needs_nothing_else(tmp_path, classes):
    path = report.write(tmp_path / "new" / "report.html", **fake_run(classes))
    page, text = read(path), path.read_text(encoding="utf-8")
    assert page.sections() == [
        "result",
        "data",
        "augmentation",
        "stages",
        "curves",
        "numbers",
        "confusion",
        "mistakes",
        "environment",
    ]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{section}" for section in page.sections()]
    assert "http://" not in text and "https://" not in text and "@import" not in text and "file:" not in text
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object") and not any(
            name.startswith("on") for name in attributes
        )
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
    assert re.findall(r"url\((?!#)", text) == []
    assert path.stat().st_size < 1_500_000


def test_hostile_names_are_shown_as_they_are(tmp_path):
    run = fake_run(HOSTILE)
    run["data"].problems.loc[0] = ["<img src=x onerror=alert(1)>.png", "unreadable", "ends <early>"]
    page = read(report.write(tmp_path / "report.html", **run))
    for name in (
        *HOSTILE,
        STAGES[1].name,
        "<img src=x onerror=alert(1)>.png",
        "Kinds of <animals>",
        "--data <here>",
    ):
        assert name in page.text
    assert not {"em", "animals", "here"} & {tag for tag, _ in page.tags}
    assert "feature extraction & <em>co</em>" in page.text
    assert any("<b>bold</b>" in attributes.get("alt", "") for _, attributes in page.tags)


def test_a_name_that_is_no_unicode_does_not_cost_the_report(tmp_path):
    run = fake_run() | {
        "environment": {"command": "train --data caf\udce9"}
    }  # as Python reads such an argument
    assert "--data caf\\udce9" in read(report.write(tmp_path / "report.html", **run)).text


def test_what_is_not_given_is_left_out(tmp_path):
    data = fake_data(("cat", "dog"))
    path = report.write(tmp_path / "report.html", title="Bare", question="", data=data, pictures={})
    assert read(path).sections() == ["data"]
    empty = dict.fromkeys(("history", "ledger", "comparison", "predictions", "per_class"), pd.DataFrame())
    path = report.write(path, title="Empty", question="", data=data, pictures={}, environment={}, **empty)
    assert read(path).sections() == ["data"] and "<img" not in path.read_text(encoding="utf-8")


def test_the_page_says_what_the_tables_say(tmp_path):
    run = fake_run()
    page = read(report.write(tmp_path / "report.html", **run))
    metrics = run["metrics"]
    low, high = metrics["accuracy_interval"]
    assert f"{100 * metrics['accuracy']:.1f}\u202f%" in page.words
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f} %" in page.text
    points = f"{100 * (metrics['accuracy'] - 0.3):.1f} points above"  # the strongest of the others
    assert points in page.text and "the strongest of the 2 others" in page.text
    assert "lowest validation loss 1.400, accuracy 52.0 % in epoch 2." in page.text
    assert "6 frozen weight tensors moved by exactly 0." in page.text
    assert "No identical picture stands in two splits." in page.text
    assert "2 min 13 s" in page.text and "gpus" not in page.text


def test_mistakes_are_shown_most_confident_first(tmp_path):
    run = fake_run(each=30)
    wrong = run["predictions"].query("label != prediction").sort_values("confidence", ascending=False)
    assert len(wrong) > report.MISTAKES
    page = read(report.write(tmp_path / "report.html", **run))
    shown = [attributes for tag, attributes in page.tags if tag == "img" and "taken for" in attributes["alt"]]
    assert len(shown) == report.MISTAKES
    assert [one["alt"] for one in shown] == [
        f"Test picture of {row.label}, taken for {row.prediction}"
        for row in wrong.head(report.MISTAKES).itertuples()
    ]
    first = run["data"].test[[one["id"] for one in run["data"].test].index(wrong["id"].iloc[0])]["input"]
    assert shown[0]["src"] == pictures.data_uri(first, 200)
    assert f"{100 * wrong['confidence'].iloc[0]:.0f} % sure" in page.text


def test_collecting_pictures_stops_reading_when_all_are_found():
    read_so_far = []

    def counted(examples):
        for example in examples:
            read_so_far.append(example["id"])
            yield example

    data = fake_data(("cat", "dog"), each=30)  # 20 of each class are wanted: the last one is number 50 of 60
    data.train, data.test = counted(data.train), counted(data.test)
    assert len(report.collect_pictures(data)) == 40 and len(read_so_far) == 50


def test_a_faultless_test_says_what_remains_plausible(tmp_path):
    run = fake_run()
    run["predictions"]["prediction"] = run["predictions"]["label"]
    run["metrics"] = classification.metrics(run["predictions"], run["data"].classes, resamples=20)
    page = read(report.write(tmp_path / "report.html", **run))
    assert "error rate of up to 25.0 %" in page.text  # 3 / 12
    assert "None of the 12 test pictures was classified wrong." in page.text


def test_checks_find_what_went_wrong_between_splits():
    data = fake_data(("cat", "dog"))
    assert {kind for kind, _ in report_data.checks(data)} == {"fine"}
    data.manifest.loc[8, "sha256"] = data.manifest.loc[0, "sha256"]  # 0 is a cat in train, 8 a cat in val
    data.manifest.loc[4, "sha256"] = data.manifest.loc[1, "sha256"]  # 4 is a dog, 1 a cat, both in train
    data.manifest.loc[[2, 9], "group"] = "patient 7"
    data.manifest.loc[data.manifest["label"].eq("dog") & data.manifest["split"].eq("test"), "split"] = (
        "unused"
    )
    wrong = [sentence for kind, sentence in report_data.checks(data) if kind == "bad"]
    assert wrong == [
        "1 picture stands in more than one split: the test says too much.",
        "1 picture has more than one label.",
        "1 group stands in more than one split.",
        "1 class has no test picture: dog.",
    ]
    data.manifest["sha256"] = ""  # what was skipped has no hash, and no hash is not the same hash
    assert "group" in report_data.checks(data)[0][1]


def test_near_duplicates_and_other_findings_are_shown(tmp_path):
    data = fake_data(("cat", "dog"))
    hostile = "<i>x</i>.png"
    data.manifest.loc[9, "path"] = hostile
    data.manifest = data.manifest.assign(turned=[True] * 3 + [False] * 21)
    rows = [(0, 9, "mirrored", 12.0), (1, 4, "as it is", 11.0), (2, 3, "as it is", 10.0)]
    data.near_duplicates = pd.DataFrame(rows, columns=pairs.COLUMNS)
    data.odd = {one["id"]: one["input"] for one in [*data.train, *data.val] if one["id"] in (0, 1, 4, 9, 5)}
    data.problems = pd.DataFrame(
        [
            (hostile, "near-duplicate", "val shows nearly the same as train"),
            (data.manifest["path"][5], "orientation", "may lie on its side"),
            ("", "give-away", "all dogs are 128 x 128 pixels"),
            ("", "tiny", "val has 8 pictures"),
        ],
        columns=["path", "kind", "message"],
    )
    checks = report_data.checks(data)
    pair = "pair of pictures that show nearly the same stands in two splits"
    assert ("bad", f"1 {pair}: their numbers flatter.") in checks  # 0 is in train, 9 in val
    assert ("bad", "1 such pair has two labels.") in checks  # 1 is a cat, 4 a dog
    assert ("told", "2 pairs show nearly the same and are kept together.") in checks
    assert ("told", "3 pictures were turned upright, as EXIF says in the file.") in checks
    assert ("bad", "All dogs are 128 x 128 pixels.") in checks and ("told", "Val has 8 pictures.") in checks
    assert ("told", "Pictures that need a look: 1 near-duplicate, 1 orientation (listed below).") in checks
    assert ("fine", "No two class names look like one.") in checks
    page = read(report.write(tmp_path / "report.html", title="t", question="", data=data, pictures={}))
    shown = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert len(shown) == 5 and hostile in shown[1] and "may lie on its side" in shown[4]
    assert "the second is mirrored" in page.text and "All dogs are 128 x 128 pixels." in page.text


def test_classes_of_their_own_in_each_split_are_no_fault():
    data = fake_data(("a", "b", "c"), 4)
    split = data.manifest["label"].astype(str).map({"a": "train", "b": "val", "c": "test"})
    apart = SimpleNamespace(**vars(data) | {"manifest": data.manifest.assign(split=split)})
    said = report_data.checks(apart)
    assert ("fine", "No class stands in two splits: those of the test are new.") in said
    assert not any("have no" in one or "has no" in one for _, one in said)
    assert ("fine", "Every class has training pictures.") in report_data.checks(data)


def test_the_page_shows_how_a_learning_rate_was_found(tmp_path):
    rates = np.geomspace(1e-6, 1, 120)
    curve = pd.DataFrame({"learning_rate": rates, "loss": 2 - rates, "smoothed": 2 - rates})
    stages = (Stage(STAGES[0].name, learning_rate=0.02), *STAGES[1:])
    found = {"stages": stages, "range_tests": {stages[0].name: curve}}
    page = read(report.write(tmp_path / "report.html", **fake_run() | found))
    assert "How the learning rates were found" in page.text and f"Stage {stages[0].name}: 0.02" in page.text


def test_the_ledger_shows_a_frozen_weight_that_moved():
    ledger = fake_run()["ledger"]
    assert [cell["kind"] for row in schedule.ledger_table(ledger)["rows"] for cell in row["cells"]] == [
        "moved",
        "moved",
        "frozen",
        "moved",
    ]
    ledger.loc[0, ["moved", "relative_change"]] = [1, 1e-7]
    assert schedule.ledger_table(ledger)["rows"][1]["cells"][0]["kind"] == "wrong"
    facts = schedule.describe(STAGES[:1], None, ledger)[0]["facts"]
    assert ("bad", "1 of 6 frozen weight tensors moved.") in facts


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (
            Stage("a", train="head", epochs=1),
            "The head alone learns for 1 epoch at a learning rate of 0.001.",
        ),
        (
            Stage("a", train="top:1", learning_rate=3e-5),
            "top block learn for 10 epochs at a learning rate of 0.00003",
        ),
        (Stage("a", train="top:3", layer_decay=0.8), "rate of the block above it. BatchNorm stays frozen."),
        (Stage("a", train="all", backbone_rate=0.1), ", the backbone at 0.1 times that rate. BatchNorm"),
        (Stage("a", train="above:mixed7", schedule="one_cycle"), "everything above mixed7 learn"),
        (
            Stage("a", train="all", batch_norm="train", keep="last"),
            "BatchNorm learns too. The last epoch is kept.",
        ),
        (Stage("a", train="norm", patience=2), "ending early after 2 epochs"),
        (Stage("a", train="bias", schedule="cosine", warmup=0.25), "after a warm-up over 25 % of the steps"),
    ],
)
def test_a_stage_in_words(stage, words):
    assert words in schedule.stage_in_words(stage)


def test_a_failure_leaves_the_old_page_and_nothing_else(tmp_path, monkeypatch):
    run = fake_run()
    path = report.write(tmp_path / "report.html", **run)
    old = path.read_bytes()

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_room)
    with pytest.raises(OSError, match="No space left"):
        report.write(path, **run | {"title": "Another"})
    assert path.read_bytes() == old and [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_a_part_that_fails_is_a_line_on_the_page_and_costs_no_other(tmp_path):
    run = fake_run()
    whole = read(report.write(tmp_path / "report.html", **run))
    assert "What could not be shown" not in whole.text

    def breaks():
        raise ZeroDivisionError("of <this>")

    section = Section("Shown", "all the same")
    run |= {"confusion": pd.DataFrame({"not": ["numbers"]}), "overlays": breaks}
    run |= {"sections": [breaks, lambda: section], "failed": ["the card: ValueError"]}
    page = read(report.write(tmp_path / "report.html", **run))
    for line in (
        "confusion: ",
        "overlays: ZeroDivisionError (of <this>)",
        "section 1: ZeroDivisionError (of <this>)",
        "the card: ValueError",
    ):
        assert line in page.text
    assert page.text.count("all the same") == 1 and "Learning curves" in page.text
    for name in ("pictures", "metrics", "comparison", "predictions", "history", "augmented", "assessment"):
        page = read(report.write(tmp_path / "report.html", **run | {name: breaks}))
        assert f"{name}: ZeroDivisionError" in page.text and "all the same" in page.text


def test_figures_leave_no_global_state_and_take_the_colours_of_the_page(tmp_path):
    before = dict(matplotlib.rcParams)
    run = fake_run()
    svg = figures.inline_svg(figures.learning_curves(run["history"], "loss"), 'Loss "now" <here>', "loss")
    assert matplotlib.pyplot.get_fignums() == [] and dict(matplotlib.rcParams) == before
    page = Page(svg)
    assert all(words in page.text for words in ("<i>top</i> $a_b$", "head", "training", "validation"))
    assert page.tags[0][1]["aria-label"] == 'Loss "now" <here>'
    assert "var(--accent)" in svg and not any(colour in svg for colour in figures.COLOURS.values())
    again = figures.inline_svg(figures.learning_curves(run["history"], "loss"), 'Loss "now" <here>', "loss")
    assert svg == again


def test_pictures_become_data_uris():
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)

    def decoded(uri):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))

    assert np.array_equal(decoded(pictures.data_uri(image, form="png")), image)
    assert decoded(pictures.data_uri(image, 10)).shape == (10, 5, 3)
    assert decoded(pictures.data_uri(image, 100)).shape == (40, 20, 3)  # nothing is enlarged
    assert np.array_equal(decoded(pictures.data_uri(image[..., :1], form="png")), image[..., 0])
    for wrong in (image / 255, image[None], image[:0], image[..., :2]):
        with pytest.raises(InputError, match="uint8"):
            pictures.data_uri(wrong)
    with pytest.raises(InputError, match="'webp' and 'png'"):
        pictures.data_uri(image, form="gif")


def test_a_contact_sheet_holds_each_picture_in_its_place():
    images = [np.full((8, 8, 3), 30 * number, np.uint8) for number in range(5)]
    page = pictures.sheet(images, ["a very long caption " * 9, "二", "", "<b>", "e"], columns=3, side=32)
    assert page.dtype == np.uint8 and page.shape[2] == 3
    width = (page.shape[1] - 4) // 3
    height = (page.shape[0] - 4) // 2
    for number, image in enumerate(images):
        top, left = 4 + number // 3 * height, 4 + number % 3 * width
        assert np.array_equal(page[top : top + 32, left : left + 32], np.full((32, 32, 3), image[0, 0, 0]))
    assert pictures.sheet(images[:1]).shape[1] < page.shape[1] * 2
    with pytest.raises(InputError, match="5 pictures and 1 captions"):
        pictures.sheet(images, ["only one"])


def test_a_gallery_sets_its_words_as_text_and_plots_stand_side_by_side(tmp_path):
    picture = np.full((500, 400, 3), 90, np.uint8)
    four = Panels("the <first>", [(what, picture) for what in ("picture", "truth", "prediction", "errors")])
    plot = Markup('<svg viewBox="0 0 1 1" role="img"></svg>')
    section = Section("Shown", figures=[("All", Gallery([four], 230)), ("one", plot), ("two", plot)])
    page = read(report.write(tmp_path / "report.html", **fake_run() | {"sections": [section]}))
    for words in ("the <first>", "picture truth prediction errors", "one two"):
        assert words in page.text
    classes = [attributes.get("class") for _, attributes in page.tags]
    assert classes.count("gallery") == 1 and "panels four" in classes
    start = next(n for n, (_, attributes) in enumerate(page.tags) if attributes.get("id") == "shown")
    after = page.tags[start:]
    assert [a.get("class") for t, a in after if t == "div"].count("curves") == 1
    sources = [a["src"] for t, a in after if t == "img" and "truth, the <first>" == a["alt"]]
    encoded = base64.b64decode(sources[0].partition(",")[2])
    with Image.open(io.BytesIO(encoded)) as shown:
        assert max(shown.size) == 360


def test_a_flat_map_is_said_in_words(tmp_path):
    run = fake_run()
    ids = report.explained_ids(run["predictions"], run["data"].classes)
    overlays = {one: np.zeros((8, 8, 3), np.uint8) for one in ids[1:]} | {ids[0]: "No map: it is flat."}
    path = report.write(tmp_path / "report.html", **run | {"overlays": overlays})
    page = read(path)
    maps = [attributes for tag, attributes in page.tags if attributes.get("alt", "").startswith("Where the")]
    assert page.text.count("No map: it is flat.") == 1 and len(maps) == len(ids) - 1


def test_the_curves_say_why_validation_may_be_flat_where_batch_norm_learned(tmp_path):
    run = fake_run()
    assert "moving averages" not in read(report.write(tmp_path / "report.html", **run)).text
    ledger = run["ledger"].assign(statistics_moved=[0, 0, 2, 0])
    page = read(report.write(tmp_path / "report.html", **run | {"ledger": ledger}))
    assert f"BatchNorm learned in stage {STAGES[1].name}. Validation uses moving averages" in page.text
    assert "estimated anew" not in page.text
    run |= {"ledger": ledger, "statistics_anew": True}
    assert "they were estimated anew" in read(report.write(tmp_path / "report.html", **run)).text
    run |= {"by_averages": False}
    assert "moving averages" not in read(report.write(tmp_path / "report.html", **run)).text


def test_settings_that_differ_stand_at_the_top_and_escaped(tmp_path):
    defaults = {
        "data": "digits",
        "labels_per_class": "all",
        "image_size": 64,
        "backbone": "MobileNet",
        "stages": [{"name": "head", "epochs": 3}],
        "seed": 0,
        "run_dir": "",
    }
    config = defaults | {
        "data": "<mine>",
        "labels_per_class": None,
        "stages": [{"name": "head", "epochs": 5}, {"name": "all", "epochs": 2}],
        "seed": 7,
        "run_dir": "runs/here",
    }
    assert settings.differing(config, defaults) == [
        ("data", "<mine>", "digits"),
        ("stages.0.epochs", "5", "3"),
        ("stages.1.name", "all", "–"),
        ("stages.1.epochs", "2", "–"),
        ("seed", "7", "0"),
    ]
    told = settings.of_run(
        config,
        defaults,
        weights="checkpoints/letters",
        examples="train 5, test 3",
        environment={"python": "3.12", "keras": "3.15", "commit": "abc"},
    )
    page = read(report.write(tmp_path / "report.html", **fake_run() | {"settings": told}))
    for words in (
        "Settings: seed 7, MobileNet, 5 settings differ from their defaults",
        "Weights checkpoints/letters Picture size 64 x 64 pixels Examples train 5, test 3",
        "Python 3.12, Keras 3.15",
        "data <mine> digits",
        "stages.1.name all –",
    ):
        assert words in page.text, words
    assert "runs/here" not in page.text and page.text.index("Settings:") < page.text.index("classified right")
    same = settings.of_run(defaults, defaults, weights="", examples="", environment={})
    assert same["line"] == "seed 0, MobileNet, all others are the defaults" and not same["changed"]
