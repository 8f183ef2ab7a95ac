"""What the report and the model card say of two domains, beside what they say of every training."""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.pictures import gradcam
from runner.report import card as cards
from runner.report import figures, page
from runner.report.section import Gallery, Panels, Section
from runner.scores import classification

from . import choice
from .config import Config
from .two_domains import Domains


def title(config: Config) -> str:
    """The names of both domains."""
    return f"{Path(config.source).name} to {Path(config.target).name}"


def question(config: Config, domains: Domains, pick: str, comparison: pd.DataFrame) -> str:
    """What the run was to answer."""
    source, target = (Path(one).name for one in (config.source, config.target))
    return (
        f"How well can {config.backbone}, trained on the labelled pictures of {source}, tell the "
        f"{len(domains.classes)} classes of {target} apart, whose labels it never saw?\n\n"
        f"The method is {pick}, chosen by {config.choose_by}, without a label of {target}. By the "
        f"test labels, which nobody has who needs this, {choice.oracle(comparison)} would be best (the "
        "oracle choice; it chose nothing). Validation accuracy is that on the source."
    )


def sections(
    config: Config,
    domains: Domains,
    pick: str,
    networks: dict[str, keras.Model],
    blocks: Any,
    predictions: pd.DataFrame,
    comparison: pd.DataFrame,
) -> dict[str, Any]:
    """What `page.write` shows of this task: the chosen method on the target, the domains, and the choice.

    predictions: of the method `pick` on the target's test pictures, whose split must be open.
    """
    classes = domains.classes

    @cache
    def pictures() -> dict[int, np.ndarray]:
        """Without those of training, which the page would show with their labels."""
        tested_ids = set(predictions["id"])
        collected = page.collect_pictures(domains.target, predictions)
        return {one: picture for one, picture in collected.items() if one in tested_ids}

    def overlays() -> dict[int, np.ndarray]:
        explained = predictions[predictions["id"].isin(page.explained_ids(predictions, classes))]
        return gradcam.explain(networks[pick], blocks, explained, pictures(), classes)

    return {
        "pictures": pictures,
        "predictions": predictions,
        "per_class": lambda: classification.per_class(predictions, classes, domains.target.manifest["group"]),
        "confusion": lambda: classification.confusion(predictions, classes),
        "overlays": overlays,
        "sections": [
            lambda: pictures_section(config, domains),
            lambda: choice_section(config, pick, comparison),
            lambda: shift_section(domains, networks, pick, comparison),
        ],
    }


def card(config: Config, domains: Domains, pick: str) -> cards.Task:
    """What the model card says of this task."""
    return cards.Task(
        title=title(config),
        what="A classifier of pictures of the target into",
        prepared=f"pictures are made square ({config.resize}) at {config.image_size} pixels a side",
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives=f"float32 logits (batch, {len(domains.classes)})",
        meant="Meant for pictures like those of the target. It answers one of its classes for any picture at "
        "all, also for one that shows none of them.",
        score=("accuracy", "accuracy"),
        columns={"precision": "precision", "recall": "recall", "F1": "f1", "pictures": "support"},
        commands=(
            "predict RUN PICTURES_OR_FOLDERS --output predictions.csv",
            "shift RUN FOLDER        # is new data like the target it was adapted to?",
            "export RUN --format litert onnx",
        ),
        numbers={"Macro F1": "macro_f1"},
        training=f"The method is {pick}, chosen by {config.choose_by} among {len(config.methods)} without a "
        "label of the target; labels of the source alone taught the classes.",
        limits=(
            "No label of the target decided anything before the test; which method is best there is not "
            "known when none has labels. The report's choice without target labels says what each criterion "
            "would have picked.",
            "Probabilities were not calibrated: the target has no labels to do it with.",
        ),
    )


def pictures_section(config: Config, domains: Domains) -> Section:
    """Some training pictures of both domains, those of the source with their labels."""
    shown = []
    for name, examples in ((config.source, domains.source), (config.target, domains.target)):
        some = list(examples.train.shuffle(1000, seed=config.machine.seed).take(16).as_numpy_iterator())
        names = [domains.classes[one["label"]] if one["label"] >= 0 else "" for one in some]
        panels = [Panels(label, [("", one["input"])]) for label, one in zip(names, some, strict=True)]
        shown.append((Path(name).name, Gallery(panels, least=88)))
    return Section(
        "The two domains",
        "Training pictures of the source with their labels, and of the target, whose labels stay hidden.",
        figures=shown,
    )


def shift_section(
    domains: Domains, networks: dict[str, keras.Model], pick: str, comparison: pd.DataFrame
) -> Section:
    """How far the domains lie apart to each network; as a picture before adaptation, after it, and to the
    network to which they look most alike.
    """
    columns = ["method", "mmd", "mmd_yardstick", "proxy_a_distance"]
    alike = comparison["method"].iloc[int(comparison["proxy_a_distance"].argmin())]
    shown = {"source only": "Before adaptation (source only)", pick: f"After ({pick})"}
    shown = {alike: f"Most alike ({alike})"} | shown
    drawn = []
    for name, title in sorted(shown.items(), key=lambda item: list(networks).index(item[0])):
        seen = choice.look(networks[name], choice.validation_parts(domains))
        figure = choice.gap_figure(seen["source"], seen["target"])
        said = f"Scatter plot of source and target features. {title}."
        drawn.append((title, Markup(figures.inline_svg(figure, said, f"shift {name}"))))
    return Section(
        "The shift between the domains",
        "Features (what the last layer sees) of validation pictures, which nothing was trained on. mmd: the "
        "squared maximum mean discrepancy; without any shift it stays below its yardstick in 95 of 100 "
        "cases. Proxy A-distance: 0 where a linear classifier cannot tell the domains apart, 2 where it "
        "never errs. Neither proves anything of the accuracy: MCC and pseudo-labels do not bring the domains "
        "together, and domains can be brought together with their classes crossed.\n\n"
        "The plots show the features in the plane of their first two principal components: circles are "
        "pictures of the source, crosses those of the target.",
        tables=[("Distance of source and target features", comparison[columns].dropna())],
        figures=drawn,
    )


def choice_section(config: Config, pick: str, comparison: pd.DataFrame) -> Section:
    """What chose the method, what else could have, and what the test labels would have chosen."""
    table = comparison
    picks = [
        {"criterion": name, "picks": choice.chosen(table, name), "uses": "no label of the target"}
        for name in choice.CRITERIA
    ]
    picks.append(
        {"criterion": "oracle", "picks": choice.oracle(table), "uses": "the test labels: it chose nothing"}
    )
    picks = pd.DataFrame(picks)
    accuracy = table.set_index("method")["test_accuracy"]
    picks["test_accuracy"] = accuracy[picks["picks"]].to_numpy()
    columns = ["method", "val_accuracy", *choice.CRITERIA, "test_accuracy", "against_source_only"]
    return Section(
        "The choice without target labels",
        f"This run was told to choose by {config.choose_by}, which picked {pick}. Published tables "
        "choose on the target's test labels; that is the row oracle, which nobody has who needs this.\n\n"
        "Low is good for source_risk (the error on the source) and weighted_risk (the same, each picture "
        "weighted by how much it looks like the target), high for infomax (answers on the target that are "
        "certain and varied). Against source only: the difference on the same test pictures with its 95 % "
        "interval.",
        tables=[("What each criterion picks", picks), ("All methods", table[columns])],
    )
