"""Rows that an exported network is compared on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from runner.tables.columns import Column


def probes(columns: Sequence[Column]) -> pd.DataFrame:
    """Rows that an exported file is compared on: around the mean, at the end of the vocabulary, all missing,
    and what nobody has seen.
    """
    rows = []
    for turn in range(4):
        row = {}
        for one in columns:
            words = one.vocabulary or ("",)
            day = np.datetime64("1970-01-01") + np.timedelta64(int(one.mean + turn), "D")
            row[one.name] = {
                "number": str(one.mean + (turn - 1) * one.spread),
                "date": str(day),
                "category": words[(turn * 7) % len(words)],
            }[one.kind]
        rows.append(row)
    rows.append(dict.fromkeys(rows[0], ""))
    strange = {"number": "1e30", "date": "2100-01-01", "category": "\u00e4 word that nobody has seen"}
    rows.append({one.name: strange[one.kind] for one in columns})
    return pd.DataFrame(rows, dtype=object)
