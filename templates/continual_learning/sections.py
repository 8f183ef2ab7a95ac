"""What the report and the model card say of tasks, beside what they say of every training."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.report import card as cards
from runner.report import figures, page
from runner.report.section import Gallery, Panels, Section
from runner.scores import classification

from . import answers
from .answers import Matrix
from .config import Config
from .tasks import Stream

SHOWN = 8
"""Pictures of a task on the page."""
SCENARIOS = {
    "class": "New classes come with each task, and are told apart from all before",
    "task": "New classes come with each task, and whose turn it is is told with each picture",
    "domain": "The same classes come in other pictures with each task",
}


def question(config: Config, examples: Stream, pick: str) -> str:
    """What the run was to answer."""
    told = examples.told
    went_on = f" It goes on with {config.continue_from}." if config.continue_from else ""
    return (
        f"How well does {config.backbone}, started from the weights {Path(config.weights).name}, know the "
        f"{len(examples.classes)} classes of {Path(config.data).name} after {len(told.names)} tasks, each of "
        f"which is trained without the pictures of those before? {SCENARIOS[told.scenario]}.{went_on}\n\n"
        f"What is handed out is {pick}: of all methods but those that have all pictures at once the best on "
        "validation pictures of all tasks after the last."
    )


def sections(
    config: Config,
    examples: Stream,
    pick: str,
    after: Mapping[str, Matrix],
    by_method: Mapping[str, dict],
    fits: Mapping[str, Any],
    predictions: pd.DataFrame,
) -> dict[str, Any]:
    """What `page.write` shows of this task: what was kept and forgotten, the matrices, the tasks.

    predictions: of the method `pick` on the test, which must be open.
    """
    classes = examples.classes
    return {
        "pictures": cache(lambda: page.collect_pictures(examples, predictions)),
        "predictions": predictions,
        "per_class": lambda: classification.per_class(predictions, classes, examples.manifest["group"]),
        "confusion": lambda: classification.confusion(predictions, classes),
        "sections": [
            lambda: forgetting_section(config, examples, pick, after, by_method, fits),
            lambda: matrix_section(examples, pick, after),
            lambda: tasks_section(examples),
        ],
    }


def forgetting_section(
    config: Config,
    examples: Stream,
    pick: str,
    after: Mapping[str, Matrix],
    by_method: Mapping[str, dict],
    fits: Mapping[str, Any],
) -> Section:
    """Accuracy on the tasks so far over the tasks, as a plot, and the numbers of every method."""
    rows = [
        {
            "method": name,
            "average": numbers["average"],
            "task told": numbers["told"],
            "forgetting": numbers["forgetting"],
            "backward transfer": numbers["backward_transfer"],
            "forward transfer": numbers["forward_transfer"],
            "kept": in_bytes(numbers["kept_bytes"]),
        }
        for name, numbers in by_method.items()
    ]
    told = examples.told
    if told.scenario != "domain":
        for row in rows:
            del row["forward transfer"]
    drawn = over_tasks(after, pick)
    said = "; ".join(f"{row['method']} {row['average']:.3f}" for row in rows)
    plot = Markup(figures.inline_svg(drawn, f"Accuracy on the tasks so far. At the end: {said}.", "tasks"))
    chance = 1 / len(examples.classes)
    ahead = (
        "forward transfer is that on a task before it was trained on, less guessing"
        if told.scenario == "domain"
        else "forward transfer is not given: before its task a class cannot be answered"
    )
    return Section(
        "What was kept and what was forgotten",
        f"Test accuracy on the tasks so far, after each. After the last task guessing among all classes has "
        f"{chance:.3f}, and who knows the last task alone {1 / len(told.names):.3f}.\n\n"
        "Average: the mean over tasks after the last. Task told: the same where only the classes of the "
        "picture's own task may be answered. Forgetting: how far a task's accuracy fell from its best; "
        f"backward transfer: how far it moved from where it was after the task; {ahead}. Kept: what must be "
        "kept between tasks beside the network; LwF also holds the old network's answers while a task is "
        "trained. joint and from scratch have all pictures at once.",
        tables=[("After the last task", pd.DataFrame(rows))],
        figures=[("Accuracy on the tasks so far", plot)],
    )


def in_bytes(count: float) -> str:
    """ "0", "12 kB", "3.4 MB"; "all" where every picture is kept, which NaN stands for."""
    if count != count:
        return "all"
    if count < 1000:
        return f"{count:.0f}"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def over_tasks(after: Mapping[str, Matrix], pick: str) -> Any:
    """A line per method; that of `pick` in colour, the others told apart by their dashes and marks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.6), layout="constrained")
    axes = figure.subplots()
    styles, marks = ["-", "--", "-.", ":"], "osv^D*xP<>"
    for number, (name, one) in enumerate(after.items()):
        values, chosen = answers.seen_so_far(one), name == pick
        axes.plot(
            np.arange(1, len(values) + 1),
            values,
            color=figures.COLOURS["accent" if chosen else "muted"],
            linestyle="-" if chosen else styles[number % len(styles)],
            linewidth=2.5 if chosen else 1.2,
            marker=marks[number % len(marks)],
            markersize=5,
            label=name,
        )
    axes.set_xticks(np.arange(1, len(values) + 1))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("tasks so far")
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color=figures.COLOURS["line"], linewidth=0.8)
    axes.legend(frameon=False, fontsize=9, labelcolor=figures.COLOURS["ink"], loc="lower left", ncols=2)
    return figure


def matrix_section(examples: Stream, pick: str, after: Mapping[str, Matrix]) -> Section:
    """Accuracy after each task on each, of every method with more than a last row; `pick` first."""
    names = examples.told.names
    order = [pick, *(name for name in after if name != pick)]
    shown = []
    for name in order:
        right = after[name].right
        rows = np.isfinite(right).any(axis=1)
        if rows.sum() > 1:
            table = pd.DataFrame(right, columns=[f"on {one}" for one in names])
            table.insert(0, "after", list(names))
            shown.append((name, table[rows]))
    return Section(
        "After each task, on each task",
        "Test accuracy; matrix.csv has all of it, also with the task told. Weights were kept after each "
        "task and judged when all training was over.",
        tables=shown,
    )


def tasks_section(examples: Stream) -> Section:
    """What each task has, and some of its training pictures."""
    told, manifest = examples.told, examples.manifest
    counts = manifest.groupby(["task", "split"], observed=False).size().unstack(fill_value=0)
    rows = [
        {
            "task": name,
            "classes": int(told.own[number].sum()),
            **{split: int(counts.loc[name].get(split, 0)) for split in ("train", "val", "test")},
        }
        for number, name in enumerate(told.names)
    ]
    shown: dict[int, list[Panels]] = {}
    for one in examples.train.shuffle(2000, seed=0).as_numpy_iterator():
        there = shown.setdefault(int(one["task"]), [])
        if len(there) < SHOWN:
            there.append(Panels(examples.classes[one["label"]], [("", one["input"])]))
    return Section(
        "The tasks",
        "In their order, with some training pictures of each.",
        tables=[("How many pictures", pd.DataFrame(rows))],
        figures=[(told.names[task], Gallery(there, least=72)) for task, there in sorted(shown.items())],
    )


def card(config: Config, examples: Stream, pick: str) -> cards.Task:
    """What the model card says of this task."""
    told = examples.told
    order = "; ".join(told.names)
    return cards.Task(
        title=Path(config.data).name,
        what="A classifier of pictures, trained on one task after another, into",
        prepared=f"pictures are made square ({config.resize}) at {config.image_size} pixels a side",
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives=f"float32 logits (batch, {len(examples.classes)})",
        meant="Meant for pictures like those it was trained on. It answers one of its classes for any "
        "picture at all, also for one that shows none of them."
        + (" Who asks tells the task: the numbers hold only then." if told.scenario == "task" else ""),
        score=("accuracy", "accuracy"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "pictures": "support"},
        commands=(
            "predict RUN PICTURES_OR_FOLDERS --output predictions.csv",
            "evaluate RUN FOLDER     # how good is it on other labelled pictures?",
            "export RUN --format litert onnx",
        ),
        numbers={"Macro F1": "macro_f1", "Mean over tasks": "average", "Forgetting": "forgetting"},
        training=f"The method is {pick}; the tasks came in the order {order}.",
        limits=(
            "Another order of the tasks can give other numbers; one order was tried.",
            "What was kept for later tasks lies in the run folder (kept/), of some methods pictures, or "
            "what was computed from them.",
        ),
    )
