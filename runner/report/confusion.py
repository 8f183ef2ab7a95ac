"""Class by class, and what is taken for what."""

from typing import Any

import numpy as np
import pandas as pd

from runner.report import sheets, words

LARGEST_MATRIX = 20
"""Up to this many classes the confusion matrix is a table of counts; above it, the worst pairs are listed."""
PAIRS = 25
"""The most confused pairs of classes that the page shows."""


def per_class(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """The rows of a table per class, and the three of lowest F1; None without a table."""
    if table is None:
        return None
    rows = table.to_dict("records")
    judged = table[table["support"] > 0]
    weakest = judged.sort_values("f1", kind="stable").head(3) if len(judged) > 3 else judged.head(0)
    return {
        "rows": rows,
        "weakest": [f"{row['class']} ({words.percent(row['f1'])})" for row in weakest.to_dict("records")],
    }


def matrix(confusion: pd.DataFrame | None) -> dict[str, Any] | None:
    """A matrix of counts as a table or, of many classes, as a picture, and its worst pairs; None without."""
    if confusion is None:
        return None
    names, counts = [str(name) for name in confusion.index], confusion.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off_diagonal = counts * (1 - np.eye(len(names), dtype=int))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:PAIRS]
    pairs = [
        {
            "truth": names[row],
            "prediction": names[column],
            "count": int(counts[row, column]),
            "share": words.percent(shares[row, column], 0),
        }
        for row, column in zip(*np.unravel_index(order, counts.shape), strict=True)
        if off_diagonal[row, column]
    ]
    result = {"names": names, "pairs": pairs, "matrix": None, "overview": None}
    if len(names) <= LARGEST_MATRIX:
        result["matrix"] = [
            {
                "name": name,
                "cells": [
                    {"count": int(count), "share": round(float(share), 3)}
                    for count, share in zip(counts[row], shares[row], strict=True)
                ],
            }
            for row, name in enumerate(names)
        ]
    else:
        # One pixel per cell, its opacity the share of its row: the page shows through in both schemes.
        pixels = np.zeros((*counts.shape, 4), np.uint8)
        pixels[..., :3] = (30, 150, 175)
        pixels[..., 3] = np.round(255 * np.sqrt(shares)).astype(np.uint8)
        result["overview"] = sheets.data_uri(pixels, form="png")
    return result
