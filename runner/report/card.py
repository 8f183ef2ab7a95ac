"""The model card of a run, MODEL_CARD.md: what the model is, was trained on, is good for, and how good it is.

After Mitchell et al. 2019 ("Model Cards for Model Reporting"). It holds what the run knows; what only a
person can say (where the data is from, who may use it, what a mistake costs) it asks for by name.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from runner.data.files import singular
from runner.report import pages, schedule, verdict, words
from runner.scores.assessment import Assessment
from runner.stage import Stage

ROWS = 30
"""The most classes and groups that the card lists."""


@dataclass(frozen=True)
class Task:
    """What a card says of a template's task alone: sentences in Markdown, in which names stand as `plain`."""

    title: str
    """Of the data, as text: "flowers"."""
    what: str
    """What the model is, up to the classes: "A classifier of pictures into"."""
    prepared: str
    """What becomes of an input before the network: "pictures are made square (crop) at 64 pixels a side"."""
    takes: str
    """What model.keras takes."""
    gives: str
    """What model.keras gives, for each class in the order of metrics.json."""
    meant: str
    """What it is meant for, and what it does beyond that."""
    score: tuple[str, str]
    """The number that methods are compared by: how its columns are called, and how it reads."""
    columns: Mapping[str, str]
    """Of the table by class: how each column reads -> how it is called; "class" comes by itself."""
    commands: Sequence[str] = ("predict RUN PICTURES_OR_FOLDERS --output predictions.csv",)
    """Of `python -m runner`, what the run can be used with."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Further numbers, 0..1: how each reads -> how it is called in the metrics."""
    training: str = ""
    """What else belongs to the training."""
    limits: Sequence[str] = ()
    """Limits of this task, beside those of all."""
    unit: str = "pictures"
    order: str = "in the order of the classes in `metrics.json`"
    """Of what model.keras gives."""
    loads: str = "It is plain Keras and loads without this project."
    """What model.keras needs to be loaded."""


def write(
    path: Path,
    *,
    task: Task,
    config: dict[str, Any],
    stages: Sequence[Stage],
    data: Mapping[str, Any],
    comparison: pd.DataFrame,
    metrics: dict[str, Any],
    per_class: pd.DataFrame,
    environment: dict[str, Any],
    assessed: Assessment | None = None,
    history: pd.DataFrame | None = None,
    ledger: pd.DataFrame | None = None,
) -> Path:
    """Write the card in Markdown, whole or not at all, and return the path.

    config: plain JSON types, with backbone, weights, seed and, where it has one, augment.
    data: what it was given as -> a `Data`, of which only the tables are read; the first is what was tested.
    comparison, metrics, per_class: as in `page.write`; metrics has "examples".
    environment: of `environment.describe`.
    assessed: where the model's probabilities were assessed.
    history: a row per epoch, from which stages that bettered nothing are told. ledger: of the training.
    """
    problems = pd.concat([one.problems for one in data.values()], ignore_index=True)
    copies = problems["kind"].isin(["duplicate", "near-duplicate"])
    return pages.write(
        path,
        "card.md.j2",
        markup=False,  # `plain` keeps names from being Markdown
        filters={"plain": plain, "cell": cell},
        task=task,
        example=singular(task.unit),
        run=path.parent.name,
        config=config,
        stages=[schedule.stage_in_words(stage, schedule.has_batch_norm(ledger)) for stage in stages],
        setbacks=schedule.setbacks(stages, history),
        classes=[str(name) for name in next(iter(data.values())).classes],
        data={name: _splits(one.manifest) for name, one in data.items()},
        problems=problems["kind"].value_counts().to_dict(),
        leaks=int((copies & problems["message"].str.startswith("test ")).sum()),
        comparison=comparison.to_dict("records"),
        verdict=verdict.in_words(comparison, metrics, task.score),
        metrics=metrics,
        per_class=per_class.to_dict("records"),
        assessed=assessed,
        environment={
            key: value for key, value in environment.items() if isinstance(value, (str, int, float))
        },
        date=datetime.date.today().isoformat(),
        most=ROWS,
    )


def plain(text: object) -> str:
    """Return text on one line in which Markdown and HTML find no markup, also within a table."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#&!])", r"\\\1", one_line)


def cell(value: float | None) -> str:
    """A number of a table: shares in percent, counts as they are, and a dash for what is not known."""
    if isinstance(value, int):
        return str(value)
    return words.percent(value)  # float, NaN or None


def _splits(manifest: pd.DataFrame) -> list[tuple[str, int]]:
    sizes = manifest["split"].value_counts()
    return [(split, int(sizes[split])) for split in ("train", "val", "test") if split in sizes]
