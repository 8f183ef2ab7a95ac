"""What a detector finds and misses, by COCO's rules (pycocotools): average precision by class and by size.

Of Keras' and KerasCV's own numbers some leave out pictures without a detection, others the first class;
here all pictures and classes count, and tests compare with cases counted by hand.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from runner.errors import InputError
from runner.scores import intervals, paired
from runner.scores.average_precision import average_precision

BOX = ["x_min", "y_min", "x_max", "y_max"]
TRUTH = ["id", "class", *BOX]
DETECTIONS = [*TRUTH, "score"]
MOST = 100
"""Of a picture so many detections count, the best ones, as COCO has it; more where one has more objects."""
SMALL, LARGE = 32 / 640, 96 / 640
"""Sides of a square between small, medium and large, as shares of the picture: COCO's 32 and 96 pixels in its
pictures of mostly 640."""
SAMPLES = 200
"""Of the bootstrap."""


class Evaluation(NamedTuple):
    """How good the detections of a set of pictures are."""

    metrics: dict
    """map: the mean over classes and over IoU .50, .55, ... .95 of the average precision; ap50, ap75: at
    one IoU; ap_small, ap_medium, ap_large (None without such objects); recall: the mean over the same of
    the share found by the best detections of a picture; most: how many of a picture count; map_interval,
    ap50_interval; examples (pictures), boxes, detections."""
    per_class: pd.DataFrame
    """A row per class: class, boxes, AP, AP50, AP75, recall, and small, medium, large: AP of objects of
    that size, NaN where there are none."""
    truth: pd.DataFrame
    """As given, and score: of the detection that found it (IoU of at least .5), NaN where none did."""
    detections: pd.DataFrame
    """As given, and right: whether it found an object (IoU of at least .5) that no better one had found."""
    matches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Of each class: bool (IoU, n), right or not, best detection first; int (n,), the place of its picture in
    ids; int (pictures,), how many objects there are."""
    ids: np.ndarray
    """int64 (pictures,), as given."""

    def numbers(self, groups: pd.Series, seed: int = 0) -> dict:
        """The metrics, with intervals of a bootstrap that draws groups of pictures where there are any.

        groups: the group of each picture, "" for none, indexed by id.
        """
        whole = intervals.units(groups, self.ids)
        if whole is None:
            return self.metrics
        map_interval, ap50_interval = _intervals(_resampled(self.matches, len(self.ids), seed, whole)[0])
        return self.metrics | {"map_interval": map_interval, "ap50_interval": ap50_interval}

    def less_than(self, other: "Evaluation", groups: pd.Series | None = None) -> paired.Difference:
        """AP50 of the other less that of this one, on the same pictures (`paired.of_average_precision`)."""
        whole = None if groups is None else intervals.units(groups, self.ids)
        first, second = ((one.truth, one.detections) for one in (self, other))
        return paired.of_average_precision(first, second, self.ids, whole)

    def classes(self, groups: pd.Series | None = None, seed: int = 0) -> pd.DataFrame:
        """`per_class` with the 95 % intervals of AP and recall beside them, AP_low, AP_high, recall_low and
        recall_high: of a bootstrap over pictures, or groups of them as in `numbers`.
        """
        whole = None if groups is None else intervals.units(groups, self.ids)
        table = self.per_class.copy()
        drawn = _resampled(self.matches, len(self.ids), seed, whole)
        for name, values in zip(("AP", "recall"), drawn, strict=True):
            ends = np.full((2, len(table)), np.nan)
            for one in np.flatnonzero(~np.isnan(values).all(axis=(0, 2))):
                ends[:, one] = np.nanpercentile(values[:, one].mean(axis=1), [2.5, 97.5])
            place = table.columns.get_loc(name) + 1
            table.insert(place, f"{name}_low", ends[0])
            table.insert(place + 1, f"{name}_high", ends[1])
        return table


def evaluate(
    truth: pd.DataFrame,
    detections: pd.DataFrame,
    classes: Sequence[str],
    ids: Sequence[int],
    image_size: int,
    seed: int = 0,
) -> Evaluation:
    """Compare detections with the truth.

    truth: columns TRUTH; detections: columns DETECTIONS; a row per box, class by name, boxes in pixels of
    edges. ids: of all pictures, also those where nothing is or nothing was found. image_size: pixels a
    side, which says what is small: below SMALL a side (a square of that area), and large from LARGE a side.

    The intervals (95 %) are percentiles of a bootstrap that draws pictures: of one picture all boxes or
    none; `Evaluation.numbers` draws groups of them. Raises InputError for a class or picture that is not
    listed, and where no box is to be found.
    """
    from pycocotools.cocoeval import COCOeval  # not at the top: reports without boxes do without it

    _check(truth, TRUTH, classes, ids, "truth")
    _check(detections, DETECTIONS, classes, ids, "detections")
    if truth.empty:
        raise InputError("received pictures without a single box; average precision needs objects to find.")
    most = max(MOST, int(truth["id"].value_counts().max()))
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of each step
        rules = COCOeval(_coco(truth, classes, ids), _coco(detections, classes, ids), "bbox")
        low, high = (SMALL * image_size) ** 2, (LARGE * image_size) ** 2
        rules.params.imgIds = list(range(len(ids)))
        rules.params.areaRng = [[0, 1e10], [0, low], [low, high], [high, 1e10]]
        rules.params.areaRngLbl = ["all", "small", "medium", "large"]
        rules.params.maxDets = [most]
        rules.evaluate()
        rules.accumulate()
    # (IoU, recall, class, size, 1) and (IoU, class, size, 1); -1 where there is nothing to find.
    precision = np.where(rules.eval["precision"] < 0, np.nan, rules.eval["precision"])[..., 0]
    recall = np.where(rules.eval["recall"] < 0, np.nan, rules.eval["recall"])[..., 0]
    found = {
        "AP": _mean(precision[:, :, :, 0], (0, 1)),
        "AP50": _mean(precision[0, :, :, 0], 0),
        "AP75": _mean(precision[5, :, :, 0], 0),
        "recall": _mean(recall[:, :, 0], 0),
        **{
            name: _mean(precision[:, :, :, i], (0, 1))
            for i, name in ((1, "small"), (2, "medium"), (3, "large"))
        },
    }
    boxes = truth["class"].value_counts().reindex(list(classes), fill_value=0)
    per_class = pd.DataFrame({"class": list(classes), "boxes": boxes.to_numpy(), **found})

    def number(name: str) -> float | None:
        value = _mean(per_class[name].to_numpy(), 0)
        return None if np.isnan(value) else float(value)

    matches = [_sorted_matches(matched) for matched in _by_class(rules)]
    map_interval, ap50_interval = _intervals(_resampled(matches, len(ids), seed)[0])
    metrics = {
        "map": number("AP"),
        "map_interval": map_interval,
        "ap50": number("AP50"),
        "ap50_interval": ap50_interval,
        "ap75": number("AP75"),
        **{f"ap_{name}": number(name) for name in ("small", "medium", "large")},
        "recall": number("recall"),
        "most": most,
        "examples": len(ids),
        "boxes": len(truth),
        "detections": len(detections),
    }
    found_by = _matches(rules, truth, detections)
    return Evaluation(metrics, per_class, *found_by, matches, np.asarray(ids, np.int64))


def _check(table: pd.DataFrame, columns: list[str], classes: Sequence[str], ids: Sequence[int], name: str):
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise InputError(f"received {name} without the column {lacking[0]!r}; give {', '.join(columns)}.")
    for column, allowed in (("class", classes), ("id", ids)):
        unknown = table.loc[~table[column].isin(list(allowed)), column]
        if len(unknown):
            raise InputError(
                f"received {name} with {column} {unknown.iloc[0]}, which is not among those listed."
            )


def _coco(table: pd.DataFrame, classes: Sequence[str], ids: Sequence[int]):
    """The table as pycocotools wants it; the id of a box is its row, from 1, as it takes 0 for none."""
    from pycocotools.coco import COCO

    category = {name: index for index, name in enumerate(classes)}
    picture = {number: index for index, number in enumerate(ids)}
    # A box turned inside out would have a negative area, which is none of the sizes, and not count at all.
    sides = np.maximum(table[BOX[2:]].to_numpy(float) - table[BOX[:2]].to_numpy(float), 0.0)
    annotations = [
        {
            "id": row + 1,
            "image_id": picture[number],
            "category_id": category[name],
            "bbox": [float(x), float(y), *side],
            "area": float(side[0] * side[1]),
            "iscrowd": 0,
            "score": float(score),
        }
        for row, (number, name, x, y, side, score) in enumerate(
            zip(
                table["id"],
                table["class"],
                table["x_min"],
                table["y_min"],
                sides,
                table["score"] if "score" in table else [0.0] * len(table),
                strict=True,
            )
        )
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": index} for index in range(len(ids))],
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes)],
    }
    coco.createIndex()
    return coco


def _mean(values: np.ndarray, axis) -> np.ndarray:
    """The mean of what is there, NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# ---------------------------------------------------------------- picture by picture


def _by_class(rules) -> list[list[dict | None]]:
    """What pycocotools matched in each picture, objects of all sizes: for each class a list over pictures."""
    pictures, sizes = len(rules.params.imgIds), len(rules.params.areaRng)
    return [
        rules.evalImgs[number * sizes * pictures : (number * sizes + 1) * pictures]
        for number in range(len(rules.params.catIds))
    ]


def _matches(rules, truth: pd.DataFrame, detections: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with what belongs together at IoU .5."""
    right, score = np.zeros(len(detections), bool), np.full(len(truth), np.nan)
    for matched in _by_class(rules):
        for one in filter(None, matched):
            for detection, box, value in zip(one["dtIds"], one["dtMatches"][0], one["dtScores"], strict=True):
                if box:
                    right[detection - 1], score[int(box) - 1] = True, value
    return truth.assign(score=score), detections.assign(right=right)


def _resampled(
    of_classes: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    pictures: int,
    seed: int,
    whole: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and recall of resamples, (SAMPLES, classes, IoU) each, NaN where a resample does not
    have the class. A picture that is drawn twice counts as two. whole: of `intervals.units`, to draw groups
    of pictures.
    """
    random = np.random.RandomState(seed)
    count = pictures if whole is None else int(whole.max()) + 1
    precisions, recalls = (np.full((SAMPLES, len(of_classes), 10), np.nan) for _ in range(2))
    for sample in range(SAMPLES):
        times = np.bincount(random.randint(count, size=count), minlength=count)
        times = times if whole is None else times[whole]
        for number, (right, picture, objects) in enumerate(of_classes):
            there = int(objects @ times)
            if there:
                precisions[sample, number] = average_precision(right, times[picture], there)
                recalls[sample, number] = right @ times[picture] / there
    return precisions, recalls


def _intervals(precisions: np.ndarray) -> tuple[list[float], list[float]]:
    """95 % intervals of mAP and AP50, of `_resampled`; a resample without any object is left out."""
    there = ~np.isnan(precisions).all(axis=(1, 2))
    drawn = np.nanmean(precisions[there], axis=1)
    return intervals.percentile(drawn.mean(axis=1)), intervals.percentile(drawn[:, 0])


def _sorted_matches(matched: list[dict | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one class: bool (IoU, n), right or not, best detection first; int (n,), its picture; int
    (pictures,), how many objects there are.
    """
    there = [(picture, one) for picture, one in enumerate(matched) if one is not None]
    objects = np.zeros(len(matched), int)
    right, scores, pictures = [np.zeros((10, 0), bool)], [np.zeros(0)], [np.zeros(0, int)]
    for picture, one in there:
        objects[picture] = len(one["gtIds"])
        right.append(one["dtMatches"] > 0)
        scores.append(np.array(one["dtScores"], float))
        pictures.append(np.full(len(one["dtIds"]), picture))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.concatenate(right, axis=1)[:, order], np.concatenate(pictures)[order], objects
