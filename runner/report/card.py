"""The model card of a run, MODEL_CARD.md: what the model is, was trained on, is good for, and how good it is.

After Mitchell et al. 2019 ("Model Cards for Model Reporting"). It holds what the run knows; what only a
person can say (where the pictures are from, who may use them, what a mistake costs) it asks for by name.
"""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from runner.report import pages, schedule
from runner.scores.assessment import Assessment
from runner.stage import Stage

ROWS = 30
"""The most classes and groups that the card lists."""


def write(
    path: Path,
    *,
    config: dict,
    stages: Sequence[Stage],
    data,
    comparison: pd.DataFrame,
    metrics: dict,
    per_class: pd.DataFrame,
    assessed: Assessment,
    environment: dict,
) -> Path:
    """Write the card in Markdown, whole or not at all, and return the path.

    config: plain JSON types, with data, backbone, weights, image_size, resize, augment and seed.
    data: a `data.Data`; only its tables are read.
    comparison, metrics, per_class: of `evaluation` and the template, as in `report.write`.
    environment: of `strategy.environment`.
    """
    splits = data.manifest["split"].value_counts()
    copies = data.problems["kind"].isin(["duplicate", "near-duplicate"])
    return pages.write(
        path,
        "card.md.j2",
        markup=False,  # `plain` keeps names from being Markdown
        filters={"plain": plain},
        run=path.parent.name,
        config=config,
        dataset=Path(str(config["data"])).name,
        stages=[schedule.stage_in_words(stage) for stage in stages],
        classes=[str(name) for name in data.classes],
        splits=[(split, int(splits[split])) for split in ("train", "val", "test") if split in splits],
        problems=data.problems["kind"].value_counts().to_dict(),
        leaks=int((copies & data.problems["message"].str.startswith("test ")).sum()),
        comparison=comparison.to_dict("records"),
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
