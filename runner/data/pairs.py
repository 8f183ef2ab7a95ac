"""Pairs of examples that are nearly the same: which belong together, and which stand in two splits.

Each kind of example finds its own (`runner.pictures.near_duplicates`). A table of pairs has a row per pair,
with the columns COLUMNS: first < second (row numbers of the manifest), how (SAME, or in words what second is
of first: "mirrored") and score; best first.
"""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from runner.data.splits import USED

COLUMNS = ["first", "second", "how", "score"]
SAME = "as it is"


def none() -> pd.DataFrame:
    """The table without a row."""
    return pd.DataFrame(
        {name: np.zeros(0, kind) for name, kind in zip(COLUMNS, (int, int, object, float), strict=True)}
    )


def clusters(pairs: pd.DataFrame, count: int) -> np.ndarray:
    """Number the sets of examples that pairs link, also through others: int64 (count,), -1 for the rest."""
    links = coo_matrix(
        (np.ones(len(pairs), dtype=np.int8), (pairs["first"], pairs["second"])), shape=(count, count)
    )
    _, component = connected_components(links, directed=False)
    alone = np.bincount(component, minlength=1)[component] == 1 if count else np.zeros(0, dtype=bool)
    return np.where(alone, -1, component).astype(np.int64)


def conflicts(pairs: pd.DataFrame, manifest: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which pairs stand in two of train, val and test, and which of those three have two labels."""
    first, second = pairs["first"].to_numpy(int), pairs["second"].to_numpy(int)
    split, label = manifest["split"].to_numpy(dtype=object), manifest["label"].cat.codes.to_numpy()
    used = manifest["split"].isin(USED).to_numpy()
    used = used[first] & used[second]
    return used & (split[first] != split[second]), used & (label[first] != label[second])


def worst_first(pairs: pd.DataFrame, manifest: pd.DataFrame, clusters: np.ndarray) -> pd.DataFrame:
    """Order pairs for a reader: conflicts first, and of each cluster one before the second of any."""
    torn, argued = conflicts(pairs, manifest)
    harmless = ~(torn | argued)
    turn = pairs.groupby([harmless, clusters[pairs["first"]]]).cumcount()
    return pairs.iloc[np.lexsort((turn, harmless))].reset_index(drop=True)
