"""What the report says of masks, beside what it says of every training."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from runner.report import drawing
from runner.report.page import Section
from runner.scores import segmentation

SHOWN = 8
"""How many test pictures are shown with their masks, and how many of the worst."""


def sections(
    classes: Sequence[str],
    test: tf.data.Dataset,
    find: Callable,
    pictures: pd.DataFrame,
    counts: segmentation.Counts,
    metrics: dict,
) -> list[Section]:
    """The sections: each class, some test pictures, and the worst.

    test: pictures with masks; find: uint8 pictures (batch, s, s, 3) to masks (batch, s, s); pictures: of
    `segmentation.per_picture`; counts, metrics: what they were made of, and the numbers of all together.
    """
    palette = drawing.colours(len(classes))
    ranked = pictures.dropna(subset="miou").sort_values("miou", kind="stable")
    spread = ranked["id"].iloc[np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked))).astype(int)]
    worst = ranked["id"].head(SHOWN)
    wanted, found = {*spread, *worst}, {}
    for element in test.as_numpy_iterator():
        if int(element["id"]) in wanted:
            predicted = find(element["input"][None]).numpy()[0]
            found[int(element["id"])] = (element["input"], element["mask"], predicted)
    iou = ranked.set_index("id")["miou"]

    def compared(ids) -> np.ndarray:
        captions = [f"mean IoU {iou[one]:.2f}" for one in ids]
        return drawing.compared(*zip(*(found[one] for one in ids), strict=True), captions, palette)

    numbers = {
        "mean IoU": "miou",
        "mean Dice": "dice",
        "pixel accuracy": "pixel_accuracy",
        "boundary F-score": "boundary_f",
    }
    whole = pd.DataFrame(
        [[words, metrics[key], *metrics[f"{key}_interval"]] for words, key in numbers.items()],
        columns=["number", "value", "low", "high"],
    )
    legend = drawing.legend(classes, palette)
    return [
        Section(
            "Every class",
            "IoU is what truth and prediction share of what they cover together, Dice twice that share of "
            "the sum of both. The boundary F-score says how much of the two outlines lies no farther apart "
            f"than {segmentation.TOLERANCE:.2%} of the picture's diagonal (at least a pixel). Means are over "
            "the classes that occur in the test masks; intervals are 95 % of a bootstrap over pictures.",
            tables=[
                ("All classes together", whole),
                ("By class", segmentation.per_class(counts, classes)),
            ],
        ),
        Section(
            "Masks",
            "Test pictures from the worst to the best, evenly spaced: the picture, its true mask and the "
            "predicted one. Gray is what the truth ignores.",
            figures=[("Classes", legend), ("From the worst to the best", compared(spread))],
        ),
        Section(
            "Worst pictures",
            "The test pictures with the lowest mean IoU over the classes in them. A small object that is "
            "missed costs as much there as a large one.",
            figures=[("The worst first", compared(worst))],
        ),
    ]
