"""What the report and the model card say of learning without labels, beside what they say of every
training.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from markupsafe import Markup

from runner.report import card as cards
from runner.report import figures, words
from runner.report.section import Gallery, Panels, Section
from runner.scores import classification
from runner.training.fit import Fit

from . import method, pictures, similar, verdict
from .config import Config
from .pictures import Pictures

SEEN = {
    "val_loss": "loss",
    "val_alignment": "alignment",
    "val_uniformity": "uniformity",
    "val_effective_rank": "effective rank",
    "val_spread": "spread of projections",
    "val_accuracy": "nearest neighbours",
}
"""What was measured after each epoch, and how it reads."""
ASKED = 6
"""Pictures whose nearest neighbours the page shows."""


def title(config: Config) -> str:
    """The names of the data."""
    names = [Path(one).name for one in dict.fromkeys((config.data, config.labelled)) if one]
    return ", judged on ".join(names)


def question(config: Config, examples: Pictures, pick: str) -> str:
    """What the run was to answer."""
    count = int(examples.unlabelled.train.cardinality())
    asked = (
        f"What does {config.backbone} learn from {count:,} pictures of {Path(config.data).name} without a "
        f"label, by {config.method}, begun with {begun(config)}"
    )
    if not config.labelled:
        return (
            f"{asked}?\n\nNo labels were given, so nothing here says whether it was worth it: no number of "
            "features alone does. What is shown is how often a picture is found again by another view of it, "
            "which is near to what was learned, and what the features take for alike. A few labelled "
            "pictures (--labelled) would give a verdict."
        )
    handed_out = (
        ""
        if pick.startswith(config.method)
        else (" What is handed out is the network that it began with, which is better on validation.")
    )
    return (
        f"{asked}, and was it worth it: how far do {words_of(config.labels)} labelled pictures of each class "
        f"of {Path(config.labelled).name} go on top of it?{handed_out}"
    )


def begun(config: Config) -> str:
    """The weights that the training began with, in words."""
    return "random weights" if config.weights == "none" else f"the weights {Path(config.weights).name}"


def words_of(numbers: tuple[int, ...]) -> str:
    """ "5, 10 and 20"."""
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def worth(config: Config, comparison: pd.DataFrame, pick: str, seconds: float) -> str:
    """The verdict in a line: what the training brought over what it began with, and what it took."""
    if not config.labelled:
        return "no labels were given: there is no verdict on what was learned"
    rows, most = comparison.set_index("method"), max(config.labels)
    own = rows.loc[f"{config.method}, {verdict.FROZEN}"]
    reached = f"{words.percent(own['test_accuracy'])} with {most} labels per class, frozen and solved"
    before = f"{verdict.begun_with(config)}, {verdict.FROZEN}"
    if before not in rows.index:
        return f"{config.method}: {reached}; nothing was compared with (--no-baselines)"
    gain = own["test_accuracy"] - rows.loc[before, "test_accuracy"]
    # A row has what the method that is handed out has more than it.
    if pick.startswith(config.method):
        low, high = (rows.loc[before, f"difference_{end}"] for end in ("low", "high"))
        chosen = ""
    else:
        low, high = (-own[f"difference_{end}"] for end in ("high", "low"))
        chosen = "; handed out is what it began with, which is better on validation"
    told = "worth it" if low > 0 else "it hurt" if high < 0 else "no difference that can be told from chance"
    return (
        f"{config.method}: {told}: {reached}, {100 * gain:+.1f} points ({words.points(low, high)}) over "
        f"{verdict.begun_with(config)}, in {seconds:.0f} seconds{chosen}"
    )


def sections(
    config: Config,
    examples: Pictures,
    tested: verdict.Judged,
    found: Mapping[str, dict],
    comparison: pd.DataFrame,
    pick: str,
    learned: Fit,
    alike: tuple[keras.Model, similar.Known, tf.data.Dataset],
) -> dict[str, Any]:
    """What `page.write` shows of this task: accuracy over labels, what was seen meanwhile, neighbours.

    tested: of the method `pick`. learned: of the training without labels. alike: the network that is handed
    out, what it gives for the pictures that were learned from, and the test pictures. Each part is a
    function, so that one that fails costs no other.
    """
    shown: dict[str, Any] = {
        "score": verdict.score(config),
        "augmented": lambda: views(config, examples),
        "sections": [
            lambda: verdict_section(config, found, comparison, pick, learned),
            lambda: seen_section(config, learned.history),
            lambda: neighbours_section(examples, *alike),
        ],
    }
    if not config.labelled:
        return shown | {"pictures": {}}
    table = tested[max(config.labels)]
    groups = examples.judged.manifest["group"]
    return shown | {
        "predictions": table,
        "per_class": lambda: classification.per_class(table, examples.classes, groups),
        "confusion": lambda: classification.confusion(table, examples.classes),
    }


def verdict_section(
    config: Config, found: Mapping[str, dict], comparison: pd.DataFrame, pick: str, learned: Fit
) -> Section:
    """Every method over the number of labels, as a plot and a table; without labels why there is none."""
    if not config.labelled:
        return Section(
            "Was it worth it",
            "Nothing here can say so: there are no labels. The share of views that are found again is near "
            "to what was learned, and says only how well features tell these very pictures apart.",
        )
    counts = list(config.labels)
    seconds = comparison.set_index("method")["seconds"]
    rows = [
        {"method": name}
        | {f"{count} labels": numbers[f"accuracy_{count}_labels"] for count in counts}
        | {f"95 % ({count})": in_points(numbers[f"accuracy_{count}_labels_interval"]) for count in counts}
        | {"seconds": f"{seconds[name]:.0f}"}
        for name, numbers in found.items()
    ]
    said = "; ".join(
        f"{row['method']} " + ", ".join(f"{row[f'{count} labels']:.3f}" for count in counts) for row in rows
    )
    drawn = over_labels(found, counts, config.method)
    plot = Markup(figures.inline_svg(drawn, f"Accuracy over labels of each class: {said}.", "labels"))
    return Section(
        "Was it worth it",
        f"{worth(config, comparison, pick, learned.seconds)}.\n\nTest accuracy over labels of each class, "
        "nested: those of fewer are among those of more. Frozen + solved: logistic regression on features "
        "that stay as they are; staged: from there on all weights, the best on validation of "
        f"{config.tuning_epochs} epochs. Seconds are of all numbers of labels together, and without the "
        f"{learned.seconds:.0f} of the training without labels.",
        tables=[("Test accuracy", pd.DataFrame(rows))],
        figures=[("Accuracy over labels of each class", plot)],
    )


def in_points(interval: list[float]) -> str:
    """ "74.1 to 76.0"."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def over_labels(found: Mapping[str, dict], counts: list[int], own: str) -> Any:
    """A line per method; those of this training in colour, the others told apart by their dashes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    styles = ["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 3)), (0, (2, 4))]
    for number, (name, numbers) in enumerate(found.items()):
        learned = name.startswith(own)
        axes.plot(
            range(len(counts)),
            [numbers[f"accuracy_{count}_labels"] for count in counts],
            color=figures.COLOURS["accent" if learned else "muted"],
            linestyle=("-" if name.endswith(verdict.FROZEN) else "--") if learned else styles[number % 9],
            linewidth=2.5 if learned else 1.2,
            marker="o",
            markersize=4,
            label=name,
        )
    axes.set_xticks(range(len(counts)), [str(one) for one in counts])
    axes.set_xlabel("labels of each class")
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color=figures.COLOURS["line"], linewidth=0.8)
    axes.legend(frameon=False, fontsize=9, labelcolor=figures.COLOURS["ink"], loc="best")
    return figure


def seen_section(config: Config, history: pd.DataFrame) -> Section | None:
    """What was measured of validation pictures after the first epoch, in the middle and at the end."""
    if history.empty:
        return None
    there = {column: name for column, name in SEEN.items() if column in history}
    places = sorted({0, len(history) // 2, len(history) - 1})
    rows = [
        {"measured": name}
        | {f"epoch {history['epoch'].iloc[at]}": float(history[column].iloc[at]) for at in places}
        for column, name in there.items()
    ]
    return Section(
        "Seen while it learned",
        "On validation pictures, after each epoch. Alignment: how far apart the features of two views of a "
        "picture lie, 0 to 4, and uniformity: how evenly features of pictures lie on the sphere, 0 for one "
        "place to nearly -4; both are better when lower (Wang and Isola 2020). Effective rank: how many "
        "directions features take (Garrido et al. 2023). Spread of projections: 1 when even; below "
        "0.05 the run would have stopped, since all pictures have become one."
        + (
            f" Nearest neighbours: how often the nearest of {max(config.labels)} labelled pictures of each "
            "class are of the right class."
            if config.labelled
            else " None of these says whether the features are of use for a task."
        ),
        tables=[("Over the epochs", pd.DataFrame(rows))],
    )


def views(config: Config, examples: Pictures) -> np.ndarray:
    """Four pictures and two pairs of views of each, uint8 (4, 5, s, s, 3)."""
    some = pictures.arrays(examples.unlabelled.train.take(32))["input"]
    made = [
        pictures.views_of(config, tf.constant(some), tf.constant([number, 0], tf.int64)) for number in (1, 2)
    ]
    columns = [some, *(made[pair][one].numpy() for pair in (0, 1) for one in ("first", "second"))]
    return np.stack(columns, axis=1)[: min(4, len(some))]


def neighbours_section(
    examples: Pictures, network: keras.Model, known: similar.Known, test_split: tf.data.Dataset
) -> Section:
    """A few test pictures and the pictures that were learned from which are most like them."""
    shown = pictures.arrays(test_split.take(200))
    rows = np.linspace(0, len(shown["id"]) - 1, min(ASKED, len(shown["id"]))).astype(int)
    asked = similar.of_pictures(network, shown["input"][rows])
    nearest, cosines = method.nearest(asked, known.features, min(similar.SHOWN, len(known.ids)))
    there = {
        int(one["id"]): one["input"] for one in wanted(examples.unlabelled.train, known.ids[nearest].ravel())
    }
    panels = [
        Panels(
            f"nearest: {cosines[place, 0]:.2f}",
            [("asked", shown["input"][row])]
            + [(f"{number + 1}", there[int(known.ids[one])]) for number, one in enumerate(nearest[place])],
        )
        for place, row in enumerate(rows)
    ]
    return Section(
        "What is taken for alike",
        "Test pictures and, of those that were learned from, the three that are nearest by the cosine of "
        "their features. `python -m runner predict RUN PICTURES` gives them for new pictures.",
        figures=[("Asked, and the nearest three", Gallery(panels, least=88))],
    )


def wanted(dataset: tf.data.Dataset, ids: np.ndarray) -> list[dict]:
    """The elements with these ids."""
    left = set(ids.tolist())
    return [one for one in dataset.as_numpy_iterator() if int(one["id"]) in left]


def card(config: Config, examples: Pictures, pick: str) -> cards.Task:
    """What the model card says of this task."""
    key, reads = verdict.score(config)
    columns = {"pictures": "support"}
    if config.labelled:
        columns = {"precision": "precision", "recall": "recall", "F1": "f1"} | columns
    else:
        columns = {"found again": "found_again"} | columns
    return cards.Task(
        title=title(config),
        what="Features of pictures, learned without labels; it was judged on"
        if config.labelled
        else "Features of pictures, learned and kept without any label, of",
        prepared=f"pictures are made square ({config.resize}) at {config.image_size} pixels a side",
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives="float32 features (batch, d)",
        order="which stand for no classes",
        meant="Meant as a beginning: the run folder is what every template takes as `--weights`. It answers "
        "nothing by itself; what is alike to it is what views of one picture had in common.",
        score=(key, reads),
        columns=columns,
        commands=("predict RUN PICTURES_OR_FOLDERS --output similar.csv",),
        training=f"The method is {config.method}; no label taught the features. The method that the numbers "
        f"are of is {pick}."
        + (
            f" Of each class {max(config.labels)} labels taught the heads that it is judged by."
            if config.labelled
            else ""
        ),
        limits=(
            "What views share is what is learned: colours, when views keep them, the background, when "
            "nothing changes it.",
            *(
                ()
                if config.labelled
                else ("No labels were given: of what use the features are is not known.",)
            ),
        ),
    )
