"""What the report shows of detections: numbers by class, training pictures, what was found, the worst
misses."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.data.examples import Data
from runner.data.source import amount
from runner.pictures.batches import batches
from runner.report import card as cards
from runner.report import drawing
from runner.report.page import collect_pictures
from runner.report.section import Gallery, Panels, Section
from runner.scores import detection
from runner.scores.detection import BOX, Evaluation

from .config import Config

FOUND, MISSED, RIGHT, WRONG = (255, 255, 255), (255, 208, 0), (64, 224, 96), (255, 64, 64)
SHOWN, WORST = 16, 12


def question(config: Config, examples: Data) -> str:
    """What the run was to answer."""
    few = amount(config.train_examples, config.data) or "all"
    return (
        f"How well can {config.backbone}, started from the weights {Path(config.weights).name}, find objects "
        f"of {len(examples.classes)} classes in {Path(config.data).name} after training on {few} pictures, "
        "and what does each way of using it bring?"
    )


def sections(config: Config, examples: Data, test: Evaluation) -> dict[str, Any]:
    """What `page.write` shows of this task: numbers by class and size, and boxes on pictures.

    test: of the network that is handed out. `examples.test` must be open. Each part is a function, so that
    one that fails costs no other.
    """
    boxed = examples.manifest.index.isin(test.truth["id"])
    first = examples.manifest.index[boxed][:SHOWN].tolist()
    wrong, missed = worst(test, config.shown_score)
    wanted = {*first, *wrong["id"], *missed["id"]}

    @cache
    def images() -> dict[int, np.ndarray]:
        return {int(one["id"]): one["input"].numpy() for one in examples.test if int(one["id"]) in wanted}

    def trained_on() -> Section:
        return Section(
            "Training pictures after augmentation",
            "The boxes that the network is trained on, moved and cut with their picture.",
            figures=[("", _gallery(training_pictures(config, examples)))],
        )

    def found() -> Section:
        return Section(
            "What was found",
            "Test pictures. White: an object that was found; yellow: one that was missed; green: a "
            "detection that is right (IoU of at least .5 with an object of its class); red: one that is "
            f"wrong. Detections of at least {config.shown_score:g} are shown; the numbers count all.",
            figures=[
                ("", _gallery([answers(images()[one], one, test, config.shown_score) for one in first]))
            ],
        )

    def misses() -> Section:
        return Section(
            "Worst misses",
            "" if len(wrong) or len(missed) else "None.",
            figures=[
                (caption, _gallery([_single(images()[row["id"]], row, test.truth, colour) for row in rows]))
                for caption, rows, colour in (
                    ("Wrong detections, surest first", wrong.to_dict("records"), WRONG),
                    ("Missed objects, largest first", missed.to_dict("records"), MISSED),
                )
                if rows
            ],
        )

    return {
        "pictures": lambda: collect_pictures(examples),
        "score": ("ap50", "AP50"),
        "sections": [lambda: by_class(config, test, examples.manifest["group"]), trained_on, found, misses],
    }


def card(config: Config, examples: Data) -> cards.Task:
    """What the model card says of this task."""
    return cards.Task(
        title=Path(config.data).name,
        what="A detector of objects, each with a box and one of",
        prepared=f"pictures are made square ({config.resize}) at {config.image_size} pixels a side",
        takes="RGB pictures (batch, height, width, 3) of any size, pixels of 0..255, not scaled",
        gives=f"float32 (batch, points, {len(examples.classes) + 5}): the box of each point in pixels of the "
        "square, the logit of its centre-ness (`method.decode` makes detections of all) and logits",
        meant="Meant for pictures like those it was trained on. Objects of other classes are not found, or "
        "are called one of these; a score is no probability.",
        score=("ap50", "AP50"),
        columns={"boxes": "boxes", "AP": "AP", "AP50": "AP50", "AP75": "AP75", "recall": "recall"},
        numbers={"mAP (IoU .50 to .95)": "map", "AP75": "ap75", "recall": "recall"},
        limits=(
            f"Objects of less than about 8 pixels in a picture of {config.image_size} are not learned.",
            "Average precision counts every detection with its score; what is kept in use (from which score "
            "on, and what overlaps) is for you to choose on validation.",
        ),
    )


def by_class(config: Config, test: Evaluation, groups: pd.Series) -> Section:
    """Average precision by class and by size, with intervals that draw groups of pictures together."""
    numbers, size = test.numbers(groups), config.image_size
    low, high = numbers["map_interval"]
    of_size = [(name, numbers[f"ap_{name}"]) for name in ("small", "medium", "large")]
    said = ", ".join(f"{name} {value:.3f}" for name, value in of_size if value is not None)
    return Section(
        "By class and size",
        f"AP is the mean over IoU .50 to .95, and mAP its mean over classes: {numbers['map']:.3f} ({low:.3f} "
        f"to {high:.3f}). AP75: {numbers['ap75']:.3f}. By size: {said}. Small is less than the area of a "
        f"square of {detection.SMALL * size:.1f} pixels a side, large of {detection.LARGE * size:.1f} or "
        f"more, in pictures of {size} pixels: COCO's 32 and 96 pixels in pictures of 640.",
        tables=[("Test pictures", test.classes(groups))],
    )


def worst(test: Evaluation, least_score: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The surest detections that are wrong, and the largest objects that none of at least `least_score`
    found.
    """
    wrong = test.detections[~test.detections["right"]].nlargest(WORST, "score")
    missed = test.truth[~(test.truth["score"] >= least_score)]
    area = (missed["x_max"] - missed["x_min"]) * (missed["y_max"] - missed["y_min"])
    return wrong, missed.loc[area.nlargest(WORST).index]


def training_pictures(config: Config, examples: Data, count: int = 8) -> list[np.ndarray]:
    """Augmented training pictures with their boxes drawn, uint8 (side, side, 3)."""
    views = batches(
        examples,
        "train",
        count,
        shuffle=True,
        seed=config.machine.seed,
        strength=config.augment,
        flip=config.flip,
        target=lambda batch: batch,
    )
    batch, drawn = next(views.named().as_numpy_iterator()), []
    for image, boxes, numbers in zip(batch["input"], batch["boxes"], batch["classes"], strict=True):
        there = numbers >= 0
        names = [examples.classes[number] for number in numbers[there]]
        drawn.append(
            drawing.boxes(image, [(*box, FOUND, name) for box, name in zip(boxes[there], names, strict=True)])
        )
    return drawn


def answers(image: np.ndarray, number: int, evaluation: Evaluation, least_score: float) -> np.ndarray:
    """A picture with what is there and what was found, in the colours that the section explains."""
    truth, found = (table[table["id"] == number] for table in (evaluation.truth, evaluation.detections))
    boxes = []
    for row in truth.to_dict("records"):
        seen = row["score"] >= least_score
        boxes.append((*(row[side] for side in BOX), FOUND if seen else MISSED, "" if seen else row["class"]))
    for row in found[found["score"] >= least_score].to_dict("records"):
        colour = RIGHT if row["right"] else WRONG
        boxes.append((*(row[side] for side in BOX), colour, f"{row['class']} {row['score']:.2f}"))
    return drawing.boxes(image, boxes)


def _single(image: np.ndarray, row: dict, truth: pd.DataFrame, colour: tuple) -> np.ndarray:
    """A picture with one box in question, over the objects that are there."""
    there = truth.loc[truth["id"] == row["id"], BOX]
    text = row["class"] if np.isnan(row["score"]) else f"{row['class']} {row['score']:.2f}"
    boxes = [(*box, FOUND, "") for box in there.itertuples(index=False)]
    return drawing.boxes(image, [*boxes, (*(row[side] for side in BOX), colour, text)])


def _gallery(drawn: list[np.ndarray]) -> Gallery:
    return Gallery([Panels("", [("", picture)]) for picture in drawn], least=230)
