"""What the report says of masks, beside what it says of every training."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.augment import views as augment
from runner.data.examples import Data
from runner.pictures import masks
from runner.report import card as cards
from runner.report import drawing, words
from runner.report.section import Gallery, Panels, Section
from runner.scores import segmentation

from .config import Config

SHOWN = 8
"""How many of the worst test pictures are shown with their masks, and how many of all others."""


def question(config: Config, examples: Data) -> str:
    """What the run was to answer."""
    return (
        f"How well can {config.backbone}, started from the weights {Path(config.weights).name}, give every "
        f"pixel of {Path(config.data).name} one of {len(examples.classes)} classes, and what does each way "
        "of using it bring?"
    )


def views(config: Config, element: dict, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What training sees of one element: so many random views, "input" and "mask"."""
    batch = {name: tf.repeat(element[name][None], count, axis=0) for name in ("input", "mask")}
    seen = augment.apply_to_batch(batch, (seed, 0), config.augment, config.flip, ignore=masks.IGNORE)
    return {name: seen[name].numpy() for name in batch}


def sections(
    config: Config,
    examples: Data,
    test: tf.data.Dataset,
    find: Callable,
    pictures: pd.DataFrame,
    counts: segmentation.Counts,
    metrics: dict,
) -> dict[str, Any]:
    """What `page.write` shows of this task: each class, the worst and other test pictures, and augmented
    ones.

    test: pictures with masks; find: uint8 pictures (batch, s, s, 3) to masks (batch, s, s); pictures: of
    `segmentation.per_picture`; counts, metrics: what they were made of, and the numbers of all together.
    """

    def augmented() -> np.ndarray:
        rows = [
            np.concatenate([element["input"][None], views(config, element, 5, seed)["input"]])
            for seed, element in enumerate(examples.train.take(4).as_numpy_iterator())
        ]
        return np.stack(rows)

    return {
        "augmented": augmented,
        "score": ("miou", "mean IoU"),
        "sections": of_masks(
            examples.classes, test, find, pictures, counts, metrics, examples.manifest["group"]
        ),
    }


def card(config: Config, examples: Data) -> cards.Task:
    """What the model card says of this task."""
    size = config.image_size
    return cards.Task(
        title=Path(config.data).name,
        what="A network that gives every pixel of a picture one of",
        prepared=f"pictures are made square ({config.resize}) at {size} pixels a side; the decoder is "
        f"{config.decoder}",
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives=f"float32 logits (batch, {size}, {size}, {len(examples.classes)}) for the pixels of the square",
        meant="Meant for pictures like those it was trained on. Every pixel gets one of its classes, also "
        "where a picture shows none of them.",
        score=("miou", "mean IoU"),
        columns={
            "IoU": "iou",
            "Dice": "dice",
            "precision": "precision",
            "recall": "recall",
            "boundary F": "boundary_f",
            "pictures": "pictures",
        },
        numbers={"Mean Dice": "dice", "boundary F-score": "boundary_f", "pixel accuracy": "pixel_accuracy"},
        limits=(
            "Pixel accuracy is mostly that of large classes; look at the IoU of the small ones.",
            f"A mask has {size} pixels a side before it is brought to the picture's own size: what is "
            "thinner than such a pixel is lost.",
        ),
    )


def of_masks(
    classes: tuple[str, ...],
    test: tf.data.Dataset,
    find: Callable,
    pictures: pd.DataFrame,
    counts: segmentation.Counts,
    metrics: dict,
    groups: pd.Series | None = None,
) -> list[Callable[[], Section]]:
    """Each class, and the worst and some other test pictures with their masks: functions, so that one that
    fails costs no other.
    """
    palette = drawing.colours(len(classes))
    worst, others = chosen(pictures)
    iou = pictures.set_index("id")["miou"]

    @cache
    def found() -> dict[int, tuple[np.ndarray, ...]]:
        wanted, seen = {*worst, *others}, {}
        for element in test.as_numpy_iterator():
            if int(element["id"]) in wanted:
                predicted = find(element["input"][None]).numpy()[0]
                seen[int(element["id"])] = (element["input"], element["mask"], predicted)
        return seen

    def compared(ids: list[int]) -> Gallery:
        shown = []
        for one in ids:
            picture, truth, predicted = found()[one]
            known = truth < len(classes)
            wrong = (predicted != truth)[known].mean() if known.any() else 0
            caption = f"mean IoU {iou[one]:.2f}, {words.percent(wrong, 0)} of the pixels wrong"
            shown.append(Panels(caption, drawing.panels(picture, truth, predicted, palette)))
        return Gallery(shown, least=400)

    numbers = {
        "mean IoU": "miou",
        "mean Dice": "dice",
        "pixel accuracy": "pixel_accuracy",
        "boundary F-score": "boundary_f",
    }

    def every_class() -> Section:
        whole = pd.DataFrame(
            [[name, metrics[key], *metrics[f"{key}_interval"]] for name, key in numbers.items()],
            columns=["number", "value", "low", "high"],
        )
        return Section(
            "Every class",
            "IoU is what truth and prediction share of what they cover together, Dice twice that share of "
            "the sum of both. The boundary F-score says how much of the two outlines lies no farther apart "
            f"than {segmentation.TOLERANCE:.2%} of the picture's diagonal (at least a pixel). Means are over "
            "the classes that occur in the test masks; intervals are 95 % of a bootstrap over pictures.",
            tables=[
                ("All classes together", whole),
                ("By class", segmentation.per_class(counts, classes, groups)),
            ],
        )

    def masks_shown() -> Section:
        legend = [
            Panels(name, [("", np.tile(colour, (32, 32, 1)).astype(np.uint8))])
            for name, colour in zip(classes, palette, strict=True)
        ]
        figures: list[tuple[str, Any]] = [
            ("The colours of the classes", Gallery(legend, least=84)),
            ("The worst, beginning with the lowest mean IoU", compared(worst)),
        ]
        if others:
            figures.append(("Of the others, from the worst to the best, evenly spaced", compared(others)))
        return Section(
            "Masks",
            "Test pictures: the picture, its true mask, the predicted one, and the errors, orange where the "
            "two masks differ. Gray in a mask is what the truth ignores; there nothing counts as wrong. They "
            "are ordered by the mean IoU over the classes in them, by which a small object that is missed "
            "costs as much as a large one.",
            figures=figures,
        )

    return [every_class, masks_shown]


def chosen(pictures: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Ids of the worst pictures, the worst first, and of some of the others from the worst to the best.

    pictures: of `segmentation.per_picture`; those without a mean IoU are left out. No id stands twice.
    """
    ranked = pictures.dropna(subset="miou").sort_values("miou", kind="stable")["id"].tolist()
    rest = ranked[SHOWN:]
    places = np.linspace(0, len(rest) - 1, min(SHOWN, len(rest))).astype(int)
    return ranked[:SHOWN], [rest[place] for place in places]
