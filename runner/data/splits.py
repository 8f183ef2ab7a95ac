"""Who goes into train, val and test: stratified, seeded, and never two of a kind apart.

Everything here is numpy on row numbers; nothing knows what an example is.
"""

from collections import Counter
from collections.abc import Collection, Sequence

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


def carve_together(
    labels: np.ndarray,
    group: np.ndarray,
    sha256: np.ndarray,
    clusters: np.ndarray,
    fractions: dict[str, float],
    seed: int = 0,
    amounts: np.ndarray | None = None,
) -> np.ndarray:
    """`carve` where rows of a group, identical rows and near-duplicates stay together as far as they can.

    group, sha256: a string per row; "" is none. clusters: int64 (rows,), of near-duplicates, negative for
    none. What they join to a unit that is `too_large` cannot all stay together: a chain of frames, or laps
    that join all groups, would go to train whole. A cluster that is so large by itself is divided. The others
    are joined, small ones first, where no unit grows by more than 25 % of the rows beyond its largest group,
    or by 15, 10 or 5 % where splits of about the wanted sizes come out only then.
    """
    similar = np.where(clusters < 0, "", clusters.astype(str))
    together = units(group, sha256, similar)
    if not (too_large(together) & (similar != "")).any():
        return carve(labels, together, fractions, seed, amounts)
    similar[too_large(clusters)] = ""
    base, dealt, least = units(group, sha256), np.full(len(labels), "train", object), np.inf
    for limit in (0.25, 0.15, 0.1, 0.05, 0.0):
        together = _joined(base, similar, max(10, limit * len(labels)) if limit else 0)
        tried = carve(labels, together, fractions, seed, amounts)
        shares = {split: float(np.mean(tried == split)) / share for split, share in fractions.items()}
        off = max(max(share, 1 / share) if share else np.inf for share in shares.values())
        if off < least:
            dealt, least = tried, off
        if off <= 1.5:
            break
    return dealt


def _joined(base: np.ndarray, similar: np.ndarray, most: float) -> np.ndarray:
    """Join the units of `base`, int64 (rows,), that stand in one cluster, small clusters first, where no
    joined unit holds more than `most` rows beyond the largest unit in it, which cannot be divided anyhow.

    similar: the cluster of each row, "" for none. Returns the joined units, int64 (rows,).
    """
    sizes = np.bincount(base).astype(np.int64)
    largest, joined = sizes.copy(), np.arange(len(sizes))  # of each unit the first that it was joined to
    members = pd.Series(base[similar != ""]).groupby(similar[similar != ""]).unique()
    for found in sorted(members, key=lambda found: (len(found), found.min())):
        roots = np.unique(joined[found])
        whole, within = sizes[roots].sum(), largest[roots].max()
        if len(roots) > 1 and whole - within <= most:
            joined[np.isin(joined, roots)] = roots[0]
            sizes[roots[0]], largest[roots[0]] = whole, within
    return pd.factorize(joined[base])[0].astype(np.int64)


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


def carved_in_words(given: Collection[str], val_fraction: float, test_fraction: float) -> str:
    """Which splits were carved from what: "val (15 %) carved from train, test as given".

    given: the splits that the source names. A finished network's data (test_fraction 1) has none to carve.
    """
    if test_fraction == 1:
        return ""
    wanted = {"val": val_fraction, "test": test_fraction}
    made = [f"{split} ({100 * share:.0f} %)" for split, share in wanted.items() if split not in given]
    kept = [split for split in wanted if split in given]
    words = [f"{' and '.join(made)} carved from {'train' if given else 'all'}"] if made else []
    return ", ".join(words + ([f"{' and '.join(kept)} as given"] if kept else []))


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
