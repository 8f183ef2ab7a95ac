"""The model card of tasks that are not classification: what it says, and what it leaves out."""

import re
from types import SimpleNamespace

import pandas as pd

from runner.report import card
from runner.stage import Stage


def test_a_card_without_assessment_says_what_its_task_says(tmp_path):
    manifest = pd.DataFrame({"split": ["train"] * 3 + ["test"] * 2})
    problems = pd.DataFrame(
        [("b", "duplicate", "test picture b is train picture a")], columns=["path", "kind", "message"]
    )
    data = SimpleNamespace(classes=("cat", "d|g"), manifest=manifest, problems=problems)
    other = SimpleNamespace(classes=data.classes, manifest=manifest.head(3), problems=problems.head(0))
    task = card.Task(
        title="rows of\nnumbers",
        what="A finder of one of",
        prepared="rows are standardised",
        takes="float32 rows (batch, 4)",
        gives="float32 numbers (batch, 2)",
        meant="Meant for such rows.",
        score=("ap50", "AP50"),
        columns={"AP": "AP", "boxes": "boxes"},
        numbers={"mAP": "map", "recall": "recall"},
        training="It was chosen blindly.",
        limits=("Nothing small is found.",),
        unit="rows",
    )
    text = card.write(
        tmp_path / "MODEL_CARD.md",
        task=task,
        config={"backbone": "dense", "weights": "none", "seed": 3},
        stages=[Stage("head")],
        data={"some (target)": data, "others (source)": other},
        comparison=pd.DataFrame([("staged", 0.5, 0.4, 0.6)], columns=["method", "test_ap50", "low", "high"]),
        metrics={"examples": 2, "map": 0.25, "map_interval": [0.2, 0.3], "recall": None},
        per_class=pd.DataFrame({"class": ["cat", "d|g"], "AP": [0.5, float("nan")], "boxes": [7, 0]}),
        environment={"keras": "3.15", "gpus": []},
    ).read_text(encoding="utf-8")
    percent = "\u202f%"
    for part in (
        "# Model card: rows of numbers, dense\n",
        "- A finder of one of 2 classes: cat, d\\|g.",
        "rows are standardised.",
        "- `some (target)`: 3 train, 2 test.\n- `others (source)`: 3 train.\n- Who is in which split",
        "a hash of each of the rows",
        "Seed 3. It was chosen blindly. What each stage moved",
        "| method | test AP50 | 95 % interval |\n| --- | --- | --- |\n",
        f"| staged | 50.0{percent} | 40.0 to 60.0{percent} |\n",
        f"mAP 25.0{percent} (20.0 to 30.0{percent}), recall –. Intervals are over test rows",
        f"| class | AP | boxes |\n| --- | --- | --- |\n| cat | 50.0{percent} | 7 |\n| d\\|g | – | 0 |\n",
        "- The numbers hold for rows like the test rows.\n- Nothing small is found.\n- One split",
        "- 1 rows of the test split resemble",
    ):
        assert part in text, part
    for absent in ("calibration", "### Groups", "runner shift", "Augmentation", "None", "{{"):
        assert absent not in text
    assert not re.search(r"\n{3,}", text)
