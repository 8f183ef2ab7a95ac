"""What the report and the model card say of episodes, beside what they say of every training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from runner.data.examples import Data
from runner.report import card as cards
from runner.report import figures
from runner.report.section import Gallery, Panels, Section
from runner.scores import classification

from . import answers, classes
from .answers import Judged
from .config import Config

SCORE = ("accuracy", "accuracy in episodes")
"""What methods are compared by: how its columns are called, and how it reads."""


def title(config: Config) -> str:
    """The names of the data."""
    names = [Path(one).name for one in (config.data, config.new_classes) if one]
    return " to ".join(names)


def counted(examples: Data) -> dict[str, int]:
    """How many classes each split has."""
    used = examples.manifest[examples.manifest["split"].isin(["train", "val", "test"])]
    return used.groupby("split")["label"].nunique().to_dict()


def question(config: Config, examples: Data, pick: str) -> str:
    """What the run was to answer."""
    count = counted(examples)
    return (
        f"How well does {config.backbone}, started from the weights {Path(config.weights).name}, tell "
        f"{config.ways} new classes apart after {config.compare_shots} pictures of each? The {count['test']} "
        f"classes of the test are none of the {count['train']} that were trained on, nor of the "
        f"{count['val']} that were chosen on.\n\n"
        f"What is handed out is {pick}: of the methods that are class means of a network's features, the one "
        f"that is best on {config.val_episodes} episodes of the validation classes."
    )


def sections(
    config: Config,
    tested: Mapping[str, Judged],
    shown: classes.Arrays,
    pick: str,
    by_method: Mapping[str, dict],
    refused: Mapping[str, dict[str, float]],
    per_class: pd.DataFrame,
) -> dict[str, Any]:
    """What `page.write` shows of this task: accuracy over shots, an episode, none of these, the new classes.

    shown: the pictures of the test.
    """
    predictions = answers.predictions(tested[pick])
    return {
        "score": SCORE,
        "pictures": {},
        "per_class": per_class,
        "confusion": lambda: classification.confusion(predictions, list(per_class["class"])),
        "sections": [
            lambda: shots_section(config, by_method, pick),
            lambda: episode_section(config, shown, tested[pick]),
            lambda: refusing_section(config, refused),
        ],
    }


def shots_section(config: Config, by_method: Mapping[str, dict], pick: str) -> Section:
    """Accuracy of every method over the number of support pictures, as a plot and a table."""
    shots = sorted(config.shots)
    rows = [
        {"method": name}
        | {f"{one}-shot": numbers[f"accuracy_{one}_shot"] for one in shots}
        | {f"95 % ({one})": in_points(numbers[f"accuracy_{one}_shot_interval"]) for one in shots}
        for name, numbers in by_method.items()
    ]
    drawn = over_shots(by_method, shots, pick)
    said = "; ".join(
        f"{row['method']} " + ", ".join(f"{row[f'{one}-shot']:.3f}" for one in shots) for row in rows
    )
    plot = Markup(figures.inline_svg(drawn, f"Accuracy over {shots} shots: {said}.", "shots"))
    inner = [name for name in by_method if "MAML" in name or name == "ANIL"]
    return Section(
        "Accuracy over shots",
        f"{config.ways} classes, {config.queries} queries of each, {config.episodes} episodes, the same for "
        "every method; with fewer shots an episode has the first of its support pictures. Intervals are over "
        "episodes of these classes and pictures: they say how well the mean is known, and nothing of other "
        "classes."
        + (
            f"\n\n{', '.join(inner)} take {config.inner_steps} inner steps, as in training; where BatchNorm "
            "learns they normalise by all queries of an episode at once, which the others do not see "
            "(transductive)."
            if inner
            else ""
        ),
        tables=[("Test accuracy", pd.DataFrame(rows))],
        figures=[("Accuracy over shots", plot)],
    )


def in_points(interval: list[float]) -> str:
    """ "74.1 to 76.0"."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def over_shots(by_method: Mapping[str, dict], shots: list[int], pick: str) -> Any:
    """A line per method; that of `pick` in colour, the others told apart by their dashes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    styles = ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 3)), (0, (2, 4))]
    for number, (name, numbers) in enumerate(by_method.items()):
        values = [numbers[f"accuracy_{one}_shot"] for one in shots]
        chosen = name == pick
        axes.plot(
            range(len(shots)),
            values,
            color=figures.COLOURS["accent" if chosen else "muted"],
            linestyle="-" if chosen else styles[(number + 1) % len(styles)],
            linewidth=2.5 if chosen else 1.2,
            marker="o",
            markersize=4,
            label=name,
        )
    axes.set_xticks(range(len(shots)), [str(one) for one in shots])
    axes.set_xlabel("support pictures of each class")
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color=figures.COLOURS["line"], linewidth=0.8)
    axes.legend(frameon=False, fontsize=9, labelcolor=figures.COLOURS["ink"], loc="best")
    return figure


def episode_section(config: Config, shown: classes.Arrays, judged: Judged) -> Section:
    """The first test episode with its lowest number of shots: support, and two queries of each class."""
    shots, drawn = min(config.shots), judged.episodes
    pictures = shown[2]
    chosen = judged.scores[shots][0].argmax(axis=1)
    names = [judged.classes[code] for code in drawn.classes[0]]
    support, queries = [], []
    for way, name in enumerate(names):
        support += [Panels(name, [("", pictures[row])]) for row in drawn.support[0, way, :shots]]
        for place, row in enumerate(drawn.query[0, way, :2]):
            found = names[chosen[way * drawn.query.shape[2] + place]]
            said = f"{name}: right" if found == name else f"{name}: answered {found}"
            queries.append(Panels(said, [("", pictures[row])]))
    return Section(
        "One episode",
        f"The first test episode, with {shots} support picture{'s' * (shots > 1)} of each class.",
        figures=[("Support", Gallery(support, least=88)), ("Queries", Gallery(queries, least=88))],
    )


def refusing_section(config: Config, refused: Mapping[str, dict[str, float]]) -> Section | None:
    """What the thresholds for "none of these" did on the test."""
    if not refused:
        return None
    rows = [{"shots": int(shots)} | numbers for shots, numbers in refused.items()]
    return Section(
        "None of these",
        "`predict` answers none of these where a picture is farther from every class mean than a threshold "
        "that was chosen on validation classes. In test episodes, with pictures of classes that the episode "
        "does not have: kept is the share of its own queries that are answered, refused that of the others "
        "that are not, auroc the chance that one of its own lies nearer than one of the others.",
        tables=[("By the number of shots", pd.DataFrame(rows))],
    )


def card(config: Config, examples: Data, pick: str) -> cards.Task:
    """What the model card says of this task."""
    return cards.Task(
        title=title(config),
        what="Features of pictures, by whose class means new classes are told apart; it knows of",
        prepared=f"pictures are made square ({config.resize}) at {config.image_size} pixels a side",
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives="float32 features (batch, d)",
        order="which stand for no classes",
        meant="Meant for new classes of pictures like those of the test, a few of each. Which classes it "
        "tells apart is decided by the support pictures it is given, not by its weights.",
        score=SCORE,
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "queries": "support"},
        commands=("predict RUN SUPPORT_FOLDER PICTURES_OR_FOLDERS --output predictions.csv",),
        training=f"The method is {pick}, chosen on classes that are neither trained on nor tested.",
        limits=(
            "The classes of the test are those of one data set: how well it does on others is not known.",
            "The threshold for none of these was chosen on validation classes; on classes farther from the "
            "training ones it keeps or refuses other shares.",
        ),
    )
