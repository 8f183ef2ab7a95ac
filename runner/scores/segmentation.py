"""How good predicted masks are: every number from confusion matrices and boundaries of the whole split.

Masks are class indices, (height, width); pixels of `ignore` in the truth count for nothing. Each picture
keeps a matrix of its own, so that pictures can be compared and resampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from runner.errors import InputError
from runner.scores import intervals
from runner.scores.paired import Difference

TOLERANCE = 0.0075
"""How far apart two boundaries may lie and still match, as a share of the picture's diagonal (Csurka et al.
2013 use the same); at least one pixel."""


@dataclass(frozen=True)
class Counts:
    """What was counted on each picture of a split.

    ids: int64 (pictures,). confusion: int64 (pictures, classes, classes), pixels; rows are the truth.
    boundary: float64 (pictures, classes), the boundary F-score, NaN where the truth does not have the class,
    and where neither mask has a boundary of it.
    """

    ids: np.ndarray
    confusion: np.ndarray
    boundary: np.ndarray


def count(
    ids: Sequence[int], truth: np.ndarray, predicted: np.ndarray, classes: int, ignore: int = 255
) -> Counts:
    """Count a batch: truth and predicted are whole numbers (pictures, height, width)."""
    pairs = list(zip(truth, predicted, strict=True))
    return Counts(
        np.asarray(ids, np.int64),
        np.array([confusion(*pair, classes, ignore) for pair in pairs]),
        np.array([boundary_scores(*pair, classes, ignore) for pair in pairs]),
    )


def join(parts: Sequence[Counts]) -> Counts:
    """Join the counts of batches."""
    return Counts(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.confusion for part in parts]),
        np.concatenate([part.boundary for part in parts]),
    )


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int, ignore: int = 255) -> np.ndarray:
    """Return how many pixels of each true class (row) were given each class (column): int64."""
    known = truth != ignore
    cells = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def boundary_scores(truth: np.ndarray, predicted: np.ndarray, classes: int, ignore: int = 255) -> np.ndarray:
    """Return the boundary F-score of each class in one picture, float64 (classes,), NaN where it has none.

    F = 2 P R / (P + R); P is the share of predicted boundary pixels with a true one of that class no farther
    than TOLERANCE away, R the share of true ones with a predicted one that near (Csurka et al., "What is a
    good evaluation measure for semantic segmentation?", BMVC 2013). The picture's border is no boundary, nor
    is the border of what is ignored. A class that the picture's truth does not have has none: what is wrongly
    called so is a false boundary of the class that is there.
    """
    known = truth != ignore
    tolerance = max(1.0, round(TOLERANCE * float(np.hypot(*truth.shape))))
    scores = np.full(classes, np.nan)
    edges = [boundary(mask, known) for mask in (truth, predicted)]
    for index in np.flatnonzero(np.bincount(truth[known].ravel(), minlength=classes)[:classes]):
        true, found = edges[0] & (truth == index), edges[1] & (predicted == index)
        if true.any() and found.any():
            precision = (distance_transform_edt(~true)[found] <= tolerance).mean()
            recall = (distance_transform_edt(~found)[true] <= tolerance).mean()
            scores[index] = 2 * precision * recall / max(precision + recall, 1e-12)
        elif true.any() or found.any():
            scores[index] = 0
    return scores


def boundary(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which known pixels have a known neighbour (of four) of another class: bool (height, width)."""
    edge = np.zeros(mask.shape, bool)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (mask[a] != mask[b]) & known[a] & known[b]
        edge[a] |= differ
        edge[b] |= differ
    return edge


def overlap(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return IoU and Dice, (..., classes) each, of matrices (..., classes, classes).

    IoU = TP / (TP + FP + FN), Dice = 2 TP / (2 TP + FP + FN). NaN for a class that the truth does not have:
    what is wrongly called so stands in the other classes' false negatives.
    """
    right = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    true, found = matrix.sum(axis=-1), matrix.sum(axis=-2)
    right = np.where(true > 0, right, np.nan)
    return right / np.maximum(true + found - right, 1), 2 * right / np.maximum(true + found, 1)


def metrics(counts: Counts, groups: pd.Series | None = None, *, resamples: int = 1000, seed: int = 0) -> dict:
    """Return the numbers of a split, ready for JSON; shares are 0..1.

    miou and dice are means over the classes that the truth has, of one matrix over all pictures;
    pixel_accuracy is the share of known pixels; boundary_f is the mean over classes of a class's mean over
    pictures. Each has a 95 % interval of a bootstrap (Efron 1979) over pictures, or over the groups of
    pictures that `groups` names ("" for none, indexed by id): frames of one film are not independent.
    Pictures without a known pixel say nothing and are not drawn. Raises InputError where no picture has any.
    """
    result: dict[str, Any] = {"examples": len(counts.ids)}
    known = counts.confusion.sum(axis=(1, 2)) > 0
    if not known.any():
        raise InputError("received masks without a known pixel; a score needs some to judge by.")
    counts = Counts(counts.ids[known], counts.confusion[known], counts.boundary[known])
    pictures, classes = counts.boundary.shape
    everything, whole = _numbers(np.ones((1, pictures)), counts), intervals.units(groups, counts.ids)
    random, chunk, drawn = np.random.default_rng(seed), max(1, 10**7 // (pictures + classes**2)), []
    for start in range(0, resamples, chunk):
        weights = intervals.drawn(random, pictures, whole, min(chunk, resamples - start))
        drawn.append(_numbers(weights, counts))
    for name, value in everything.items():
        result[name] = float(value[0])
        result[f"{name}_interval"] = intervals.percentile(np.concatenate([one[name] for one in drawn]))
    return result


def _numbers(weights: np.ndarray, counts: Counts) -> dict[str, np.ndarray]:
    """The numbers of resamples, (resamples,) each; weights: how often each has each picture."""
    pictures, classes = counts.boundary.shape
    matrix = weights @ counts.confusion.reshape(pictures, -1).astype(np.float64)
    matrix = matrix.reshape(-1, classes, classes)
    iou, dice = overlap(matrix)
    right = np.trace(matrix, axis1=1, axis2=2)
    judged = ~np.isnan(counts.boundary)
    of_class = weights @ np.nan_to_num(counts.boundary) / np.maximum(weights @ judged, 1)
    return {
        "miou": np.nanmean(iou, axis=1),
        "dice": np.nanmean(dice, axis=1),
        "pixel_accuracy": right / matrix.sum(axis=(1, 2)),
        "boundary_f": of_class.sum(axis=1) / np.maximum((weights @ judged > 0).sum(axis=1), 1),
    }


def difference(
    first: Counts, second: Counts, groups: pd.Series | None = None, *, resamples: int = 1000, seed: int = 0
) -> Difference:
    """The mean IoU of the second less that of the first, on the same pictures in the same order, with the
    95 % interval of a bootstrap that draws the same pictures, or groups of them (as in `metrics`), for both.
    """
    if not np.array_equal(first.ids, second.ids):
        raise InputError("received counts of other pictures to compare; give those of the same split.")
    known = first.confusion.sum(axis=(1, 2)) > 0
    both = [Counts(one.ids[known], one.confusion[known], one.boundary[known]) for one in (first, second)]
    pictures, classes = both[0].boundary.shape
    whole = intervals.units(groups, both[0].ids)
    random, chunk, found = np.random.default_rng(seed), max(1, 10**7 // (pictures + classes**2)), []
    for start in range(0, resamples, chunk):
        weights = intervals.drawn(random, pictures, whole, min(chunk, resamples - start))
        before, after = (_numbers(weights, one)["miou"] for one in both)
        found.append(after - before)
    before, after = (float(_numbers(np.ones((1, pictures)), one)["miou"][0]) for one in both)
    low, high = intervals.percentile(np.concatenate(found))
    return Difference(after - before, low, high, pictures)


def per_class(
    counts: Counts,
    classes: Sequence[str],
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row per class: class, iou, iou_low, iou_high, dice, precision, recall, recall_low,
    recall_high, boundary_f (0..1, NaN without any in the truth), pixels (of the truth) and pictures (that
    have some). The intervals (95 %) are of a bootstrap over pictures, or groups of them, as in `metrics`.
    """
    matrix = counts.confusion.sum(axis=0)
    iou, dice = overlap(matrix)
    right, true, found = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    judged = ~np.isnan(counts.boundary)
    boundary_f = np.nan_to_num(counts.boundary).sum(axis=0) / np.maximum(judged.sum(axis=0), 1)
    low, high = _of_classes(counts, groups, resamples, seed)
    return pd.DataFrame(
        {
            "class": list(classes),
            "iou": iou,
            "iou_low": low[0],
            "iou_high": high[0],
            "dice": dice,
            "precision": np.where(true > 0, right / np.maximum(found, 1), np.nan),
            "recall": np.where(true > 0, right / np.maximum(true, 1), np.nan),
            "recall_low": low[1],
            "recall_high": high[1],
            "boundary_f": np.where(judged.any(axis=0), boundary_f, np.nan),
            "pixels": true,
            "pictures": (counts.confusion.sum(axis=2) > 0).sum(axis=0),
        }
    )


def _of_classes(
    counts: Counts, groups: pd.Series | None, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of IoU and recall: (2, classes) each, NaN for a class without a pixel.

    Resamples that do not have a class say nothing of it.
    """
    pictures, classes = counts.boundary.shape
    whole, random = intervals.units(groups, counts.ids), np.random.default_rng(seed)
    # IoU and recall need the diagonal and the sums of rows and columns alone.
    right = np.diagonal(counts.confusion, axis1=1, axis2=2).astype(np.float64)
    true, found = (counts.confusion.sum(axis=axis).astype(np.float64) for axis in (2, 1))
    chunk, parts = max(1, 10**7 // (pictures + classes)), []
    for start in range(0, resamples, chunk):
        weights = intervals.drawn(random, pictures, whole, min(chunk, resamples - start))
        hit, there, called = weights @ right, weights @ true, weights @ found
        recall = np.where(there > 0, hit / np.maximum(there, 1), np.nan)
        iou = np.where(there > 0, hit / np.maximum(there + called - hit, 1), np.nan)
        parts.append(np.stack([iou, recall]))
    drawn, ends = np.concatenate(parts, axis=1), np.full((2, 2, classes), np.nan)
    for number, score in enumerate(drawn):
        for one in np.flatnonzero(~np.isnan(score).all(axis=0)):
            ends[:, number, one] = np.nanpercentile(score[:, one], [2.5, 97.5])
    return ends[0], ends[1]


def per_picture(counts: Counts) -> pd.DataFrame:
    """Return a row per picture: id, miou (over the classes that its truth has), pixel_accuracy, boundary_f.

    A picture without a known pixel has NaN.
    """
    iou, _ = overlap(counts.confusion)
    pixels = counts.confusion.sum(axis=(1, 2))
    right = np.trace(counts.confusion, axis1=1, axis2=2)
    return pd.DataFrame(
        {
            "id": counts.ids,
            "miou": _mean(iou),
            "pixel_accuracy": np.where(pixels > 0, right / np.maximum(pixels, 1), np.nan),
            "boundary_f": _mean(counts.boundary),
        }
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of each row without its NaNs, NaN where there is nothing else."""
    there = ~np.isnan(values)
    return np.where(there.any(axis=1), np.nansum(values, axis=1) / np.maximum(there.sum(axis=1), 1), np.nan)


def class_weights(amounts: np.ndarray, how: str) -> np.ndarray:
    """Return a weight per class, float32 (classes,), from the training pixels, int64 (pictures, classes).

    how: "none"; "inverse", one over the class's share of all pixels; "median", the same over its share of the
    pixels of those pictures that show it (median frequency balancing, Eigen and Fergus 2015, arXiv:1411.4734,
    whose median is a factor for all and falls out here). Scaled so that the mean over all training pixels is
    1 and the learning rate keeps its meaning. A class without a pixel gets 0.
    """
    pixels = amounts.sum(axis=0)
    if how == "none":
        return (pixels > 0).astype(np.float32)
    within = amounts.sum(axis=1)
    of_pixels = within.sum() if how == "inverse" else within @ (amounts > 0)
    weights = np.where(pixels > 0, of_pixels / np.maximum(pixels, 1), 0)
    return (weights * pixels.sum() / max(1, (weights * pixels).sum())).astype(np.float32)
