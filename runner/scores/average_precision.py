"""COCO's average precision from what is right and what is not; the rules that say so are in `detection`."""

import numpy as np

_RECALLS = np.linspace(0, 1, 101)


def average_precision(right: np.ndarray, times: np.ndarray, objects: int) -> np.ndarray:
    """COCO's average precision of one class: the mean over recall 0, .01, ... 1 of the highest precision at
    that recall or a higher one.

    right: bool (IoU, n), detections by falling score; times: int (n,), how often each counts; objects: how
    many there are. Returns float64 (IoU,).
    """
    true = np.cumsum(right * times, axis=1)
    every = np.maximum(np.cumsum(times), 1)
    recall, precision = true / objects, true / every
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.pad(envelope, ((0, 0), (0, 1)))
    places = [np.searchsorted(one, _RECALLS, side="left") for one in recall]
    return np.take_along_axis(padded, np.array(places), axis=1).mean(axis=1)
