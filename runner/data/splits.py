"""Who goes into train, val and test: stratified, seeded, and never two of a kind apart.

Everything here is numpy on row numbers; nothing knows what an example is.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SPLITS = ("train", "val", "test", "unused", "skipped")
"""Of a manifest. "unused": left out because few labels were asked for; "skipped": not readable."""
USED = SPLITS[:3]


def units(*keys: Sequence[str] | np.ndarray) -> np.ndarray:
    """Number the sets of rows that must stay together: int64 (rows,), counted by first appearance.

    Each of `keys` holds a string per row. Rows that share a non-empty string of one key belong together, and
    so do rows that are linked through others: a patient seen twice, one of whose pictures is saved under
    another name.
    """
    count = len(keys[0])
    rows, nodes, used = [], [], count
    for key in keys:
        codes, names = pd.factorize(np.asarray(key, dtype=object))
        named = np.asarray([name != "" for name in names], dtype=bool)
        linked = np.flatnonzero(named[codes]) if count else np.zeros(0, dtype=np.int64)
        rows.append(linked)
        nodes.append(codes[linked] + used)
        used += len(names)
    rows, nodes = np.concatenate(rows), np.concatenate(nodes)
    links = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, nodes)), shape=(used, used))
    _, component = connected_components(links, directed=False)
    return pd.factorize(component[:count])[0].astype(np.int64)


def too_large(clusters: np.ndarray) -> np.ndarray:
    """Mark the rows of sets that no split can take whole: bool (n,). clusters: number of the set of each row,
    negative for none.

    More than 5 % of all rows, and more than 10: kept together, such a set would make up a third of validation
    or be missing there.
    """
    sizes = np.bincount(clusters[clusters >= 0], minlength=1)
    return (clusters >= 0) & (sizes[clusters] > max(10, 0.05 * len(clusters)))


def carve(
    labels: Sequence[int] | np.ndarray,
    together: Sequence[int] | np.ndarray,
    fractions: dict[str, float],
    seed: int = 0,
) -> np.ndarray:
    """Deal rows to "train" and the splits of `fractions` ({"test": 0.25, "val": 0.15}): names (rows,).

    labels: class number per row. together: unit number per row, as from `units`; a unit is never divided.
    Each class gets its rounded share of every split, at least one row where it has enough of them, train
    first; units larger than one row come as near to that as whole units can. The same arguments give the same
    split on every machine. scikit-learn's StratifiedGroupKFold keeps groups whole too, but only in shares of
    1/n.
    """
    labels, together = np.asarray(labels), np.asarray(together)
    of_class = Counter(labels.tolist())
    wanted = {split: {} for split in ("train", *fractions)}
    for label, count in of_class.items():
        left = count - 1  # one for train whatever the fractions say
        for split, fraction in fractions.items():
            wanted[split][label] = min(max(1, round(fraction * count)), left)
            left -= wanted[split][label]
        wanted["train"][label] = left + 1

    members: dict[int, list[int]] = {}
    for row, unit in enumerate(together.tolist()):
        members.setdefault(unit, []).append(row)
    # RandomState, whose streams NumPy froze for good; default_rng's may change between releases.
    order = np.random.RandomState(seed).permutation(len(members))
    rows_of_unit = list(members.values())
    shuffled = [rows_of_unit[i] for i in order]
    shuffled.sort(key=len, reverse=True)  # stable: large units while there is room, then random order

    dealt = np.empty(len(labels), dtype=object)
    for rows in shuffled:
        counts = Counter(labels[rows].tolist())
        # Where the unit lowers the sum over classes of (wanted - dealt)**2 / size of class the most.
        need = {
            split: sum(n * want[label] / of_class[label] for label, n in counts.items())
            for split, want in wanted.items()
        }
        split = max(need, key=need.__getitem__)
        dealt[rows] = split
        for label, n in counts.items():
            wanted[split][label] -= n
    return dealt


def reach(dealt: np.ndarray, together: np.ndarray, shows: np.ndarray) -> np.ndarray:
    """Return the splits of rows with as few units moved as it takes for each class to stand in every split,
    where it is in at least as many units as there are splits.

    dealt: names (rows,) as of `carve`; together: as there; shows: bool (rows, classes), what each row has
    something of. A row dealt by one of its classes says nothing of its others. Where nothing is lacking,
    nothing moves; nothing moves either where the split that a unit leaves would come to lack a class.
    """
    names = sorted(set(dealt))
    _, first, unit = np.unique(together, return_index=True, return_inverse=True)
    has = np.zeros((len(first), shows.shape[1]), bool)
    np.logical_or.at(has, unit, shows)
    where = np.asarray(dealt)[first]
    there = has.sum(axis=0)
    for label in np.argsort(there, kind="stable"):
        for name in names if there[label] >= len(names) else ():
            if has[where == name, label].any():
                continue
            left = {one: has[where == one].sum(axis=0) for one in names}
            # In every unit that may go, each class that reaches all splits has another unit left behind.
            can = [
                one
                for one in np.flatnonzero(has[:, label])
                if (left[where[one]][has[one] & (there >= len(names))] >= 2).all()
            ]
            if can:
                where[max(can, key=lambda one: left[where[one]][label])] = name
    return where[unit]


def few(labels: Sequence[int] | np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """Choose at most `per_class` rows of each class: bool (rows,).

    Nested: with the same seed and labels, what is chosen for 5 is chosen for 10.
    """
    labels = np.asarray(labels)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        # A stream per class, so that a class more or less does not change the choice within another.
        chosen[np.random.RandomState([seed, int(label)]).permutation(rows)[:per_class]] = True
    return chosen
