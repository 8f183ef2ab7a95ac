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
    amounts: np.ndarray | None = None,
) -> np.ndarray:
    """Deal rows to "train" and the splits of `fractions` ({"test": 0.25, "val": 0.15}): names (rows,).

    labels: class number per row. together: unit number per row, as from `units`; a unit is never divided.
    Each class gets its rounded share of every split, at least one row where it has enough of them, train
    first; units larger than one row come as near to that as whole units can. A class that stands in as many
    units as there are splits then gets one in each, where no other class loses its last for it.
    amounts: (rows, classes), more than 0 where a row has something of a class; None where the label says all.
    The same arguments give the same split on every machine. scikit-learn's StratifiedGroupKFold keeps groups
    whole too, but only in shares of 1/n.
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
    names = list(wanted)
    if amounts is not None:
        _reach_every_split(dealt, shuffled[::-1], np.asarray(amounts) > 0, names)
    elif any(of_class[label] >= len(names) for want in _undealt(labels, dealt, names) for label in want):
        _reach_every_split(dealt, shuffled[::-1], labels[:, None] == np.array(list(of_class)), names)
    return dealt


def _undealt(labels: np.ndarray, dealt: np.ndarray, names: Sequence[str]) -> list[set]:
    """The labels that each split has nothing of."""
    return [set(labels.tolist()) - set(labels[dealt == name].tolist()) for name in names]


def _reach_every_split(
    dealt: np.ndarray, units: Sequence[Sequence[int]], there: np.ndarray, names: Sequence[str]
) -> None:
    """Move or exchange units, small ones first, until each class with enough of them has one in every split.

    dealt: the split of each row, changed in place. units: rows of each, the smallest first. there: bool
    (rows, classes). No class leaves a split for it, so that what is there once stays there.
    """
    has = np.array([there[rows].any(axis=0) for rows in units]).astype(np.int64)
    place = np.array([names.index(dealt[rows[0]]) for rows in units])
    counts = np.array([has[place == split].sum(axis=0) for split in range(len(names))])

    def bring(label: int, split: int) -> bool:
        for unit in np.flatnonzero((has[:, label] > 0) & (place != split)).tolist():
            home = place[unit]
            left = counts[home] - has[unit]
            # What comes back for it, nothing or another unit, must have all that its home would lose.
            back = np.vstack([np.zeros_like(left), has[place == split]])
            kept = ((left + back > 0) | (counts[home] == 0)).all(axis=1)
            kept &= ((counts[split] + has[unit] - back > 0) | (counts[split] == 0)).all(axis=1)
            if kept.any():
                chosen = int(kept.argmax())
                moved = [(unit, split)]
                moved += [(int(np.flatnonzero(place == split)[chosen - 1]), home)] if chosen else []
                for one, target in moved:
                    counts[place[one]] -= has[one]
                    counts[target] += has[one]
                    place[one] = target
                    dealt[units[one]] = names[target]
                return True
        return False

    enough = np.flatnonzero((has > 0).sum(axis=0) >= len(names)).tolist()
    moved = True
    while moved:  # each time a class has come to one more split, so that it ends
        lacking = [(label, split) for label in enough for split in range(len(names))]
        moved = any([bring(label, split) for label, split in lacking if not counts[split, label]])


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
