"""The numbers of each group of examples (patients, hospitals, cameras), and whether their gap is chance.

Everything here reads the prediction tables of `classification.tables`. A group's name comes from the column
`group` of the manifest: give that column as it is, a pandas Series indexed by the manifest's row number,
which is the `id` of a prediction table; or give an array of names in the order of the table. "" means on its
own: such rows belong to no group and are left out here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from runner.errors import InputError
from runner.scores import calibration, classification, intervals

# Below this many examples a bootstrap mostly repeats the same few and its interval promises too much.
FEW = 10
_UNKNOWN = (np.nan, np.nan)


def names(predictions: pd.DataFrame, groups: pd.Series | Sequence[str]) -> np.ndarray:
    """Return the group of each row of a prediction table as str, "" for none, (examples,) of object.

    Raises:
        InputError: a Series without a row for some id, or an array of another length than the table.
    """
    if isinstance(groups, pd.Series):
        unknown = ~predictions["id"].isin(groups.index)
        if unknown.any():
            raise InputError(
                f"The groups have no row for the id {predictions['id'][unknown].iloc[0]} of the prediction "
                f"table ({unknown.sum()} of {len(predictions)} ids lack one): give the column `group` of the "
                "manifest that belongs to it."
            )
        groups = groups.loc[predictions["id"]].to_numpy()
    found = pd.Series(np.asarray(groups, dtype=object))
    if len(found) != len(predictions):
        raise InputError(
            f"Received {len(found)} groups for {len(predictions)} predictions: give one per row, or the "
            "column `group` of the manifest as a Series."
        )
    # Read back from CSV, "" is NaN, and beside it a group called "7" is the number 7.0.
    found = found.infer_objects().convert_dtypes()
    return found.astype(object).where(found.notna(), "").astype(str).to_numpy(object)


def per_group(
    predictions: pd.DataFrame,
    groups: pd.Series | Sequence[str],
    classes: Sequence[str],
    whole: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row per group, the lowest accuracy first: its numbers, each with its 95 % interval.

    Columns: `group`, `examples`, `few` (bool: fewer than 10 examples), then for each of `accuracy`,
    `top5_accuracy` (above 5 classes), precision, recall and F1 as `macro_...` and `weighted_...` (all as in
    `classification.metrics`; macro averages run over the classes that occur in the group) and
    `expected_calibration_error` (as in `calibration.error`) the value and `..._low`, `..._high`. The
    intervals of the two accuracies are those of `intervals.share`, which stay honest for 2 examples; the
    others are of a bootstrap over the group's examples, and NaN where these are few or the bootstrap has no
    spread. Where `whole` says which examples belong together ("" for none, indexed by id), as those of a
    patient do where hospitals are compared, all draw them together.

    Raises:
        InputError: a table that is empty or was made with other classes; groups that do not fit it; no group.
    """
    classes = classification.class_names(classes)
    group_names, group, truth, predicted, table = _grouped(predictions, groups, classes)
    in_five = _in_five(table, truth, classes)
    rows = []
    for number, members in enumerate(_members(group, len(group_names))):
        part, examples = table.iloc[members], len(members)
        few = examples < FEW
        row = {"group": group_names[number], "examples": examples, "few": few}
        right = truth[members] == predicted[members]
        together = None if whole is None else intervals.units(whole, part["id"])
        row |= _cells("accuracy", right.mean(), intervals.share(right, together))
        if in_five is not None:
            right = in_five[members]
            row |= _cells("top5_accuracy", right.mean(), intervals.share(right, together))
        values = _scores(*_counts(truth[members], predicted[members]))
        drawn = None if few else _resampled(truth[members], predicted[members], resamples, seed, together)
        for name in values:
            if name != "accuracy":
                # No spread, as where all are right, says what a bootstrap cannot see, not certainty.
                unknown = drawn is None or np.ptp(drawn[name]) == 0
                row |= _cells(
                    name,
                    values[name][0],
                    _UNKNOWN if drawn is None or unknown else intervals.percentile(drawn[name]),
                )
        name = "expected_calibration_error"
        if few:
            row |= _cells(name, calibration.expected_error(part), _UNKNOWN)
        else:
            error = calibration.error(part, classes, groups=whole, resamples=resamples, seed=seed)
            row |= _cells(name, error[name], error[f"{name}_interval"])
        rows.append(row)
    return pd.DataFrame(rows).sort_values(
        ["accuracy", "examples", "group"], ascending=[True, False, True], ignore_index=True
    )


def largest_gap(
    predictions: pd.DataFrame,
    groups: pd.Series | Sequence[str],
    classes: Sequence[str],
    whole: pd.Series | None = None,
    *,
    resamples: int = 1000,
    permutations: int = 1000,
    minimum: int = FEW,
    seed: int = 0,
) -> dict:
    """Return the largest gap between two groups in accuracy and in macro F1, ready for JSON.

    Keys: `accuracy` and `macro_f1`, each {"lowest": group, "lowest_value", "highest": group, "highest_value",
    "gap" (0..1), "gap_interval", "p_value"}, or None where fewer than two groups have at least `minimum`
    examples; `groups`, `examples`: what was compared; `too_small`: groups left out for having fewer;
    `without_group`: examples that belong to none.

    Of many small groups some pair lies far apart by chance alone: among 20 groups of 30 examples, all with an
    accuracy of 0.8, the largest gap is 0.27 on average. The interval does not know that the pair was picked
    for its gap: it is that of these two groups (bootstrap within each), as if named beforehand. `p_value`
    does: it is the share of shuffles of the examples over the groups (sizes kept) that give at least such a
    gap between any two, (1 + count) / (1 + permutations) (Phipson and Smyth 2010). It tests that the groups
    differ in nothing, their mix of classes included. The smallest groups gap most by chance and can hide
    what larger ones show: raise `minimum` to see that. `whole` is as in `per_group`: what belongs together is
    drawn, and shuffled, together (shuffled only where none of it is divided by the groups compared).

    Raises:
        InputError: as `per_group`.
    """
    classes = classification.class_names(classes)
    group_names, group, truth, predicted, table = _grouped(predictions, groups, classes)
    sizes = np.bincount(group)
    compared = np.flatnonzero(sizes >= minimum)
    result: dict[str, Any] = {
        "accuracy": None,
        "macro_f1": None,
        "groups": len(compared),
        "examples": int(sizes[compared].sum()),
        "too_small": len(sizes) - len(compared),
        "without_group": len(predictions) - len(table),
    }
    if len(compared) < 2:
        return result
    kept = np.isin(group, compared)
    ids = table["id"].to_numpy()[kept]
    group = np.searchsorted(compared, group[kept])
    truth, predicted = truth[kept], predicted[kept]
    members = _members(group, len(compared))
    observed = _scores(*_counts(truth, predicted, group))
    random = np.random.default_rng(seed)
    shuffled = [
        _scores(*_counts(truth, predicted, dealt))
        for dealt in _shuffled(
            group, None if whole is None else intervals.units(whole, ids), permutations, random
        )
    ]
    for name in ("accuracy", "macro_f1"):
        values = observed[name]
        # The last of the greatest: two groups also where all are equal.
        lowest, highest = int(values.argmin()), len(values) - 1 - int(values[::-1].argmax())
        gap = float(values[highest] - values[lowest])
        drawn = [
            _resampled(
                truth[members[place]],
                predicted[members[place]],
                resamples,
                [seed, place],
                None if whole is None else intervals.units(whole, ids[members[place]]),
            )[name]
            for place in (lowest, highest)
        ]
        by_chance = np.array([np.ptp(scores[name]) for scores in shuffled])
        result[name] = {
            "lowest": group_names[compared[lowest]],
            "lowest_value": float(values[lowest]),
            "highest": group_names[compared[highest]],
            "highest_value": float(values[highest]),
            "gap": gap,
            "gap_interval": intervals.percentile(drawn[1] - drawn[0]),
            "p_value": float((1 + np.sum(by_chance >= gap - 1e-12)) / (1 + permutations)),
        }
    return result


def _shuffled(
    group: np.ndarray, together: np.ndarray | None, times: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Deal the examples, or what belongs together, to the groups anew: int64 (examples,) each time.

    Every group gets as many examples, or units of those together, as it has.
    """
    if together is not None:
        first = np.unique(together, return_index=True)[1]
        if not (group == group[first][together]).all():  # a patient seen by two cameras that are compared
            together = None
    for _ in range(times):
        if together is None:
            yield random.permutation(group)
        else:
            yield random.permutation(group[first])[together]


def _grouped(predictions, groups, classes):
    """Return the groups' names, and of the rows that have one: its number, truth, prediction, the table."""
    found = names(predictions, groups)
    table = predictions[found != ""]
    if len(predictions) and not len(table):
        raise InputError(
            f"None of the {len(predictions)} predictions has a group: fill the column `group` of the "
            "manifest, or leave the numbers per group out."
        )
    group_names, group = np.unique(found[found != ""].astype(str), return_inverse=True)
    truth, predicted = classification.truth_and_prediction(table, classes)
    return group_names.tolist(), group, truth, predicted, table


def _cells(name, value, interval):
    low, high = interval
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def _members(group, number_of_groups):
    """Return the positions of each group's examples."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group, minlength=number_of_groups))[:-1])


def _in_five(table, truth, classes):
    if len(classes) <= 5:
        return None
    # As scikit-learn's top_k_accuracy_score: of equal probabilities the later class comes first.
    best = np.argsort(classification.probabilities(table, classes), axis=1, kind="stable")[:, -5:]
    return (best == truth[:, None]).any(axis=1)


def _counts(truth, predicted, group=None):
    """Return hits, truths and predictions per group and class that occurs, (groups, classes) each."""
    group = np.zeros(len(truth), np.int64) if group is None else group
    occurring, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    shape = (int(group.max()) + 1, len(occurring))
    truth, predicted = np.split(codes, 2)
    hit = truth == predicted
    return [
        np.bincount(group[rows] * shape[1] + column[rows], minlength=shape[0] * shape[1]).reshape(shape)
        for rows, column in ((hit, truth), (slice(None), truth), (slice(None), predicted))
    ]


def _scores(hits, truths, predictions):
    """Return name -> (sets,) of the numbers of `classification.metrics`, from counts (sets, classes) each."""
    examples = truths.sum(axis=1)
    occurs = (truths + predictions) > 0
    scores = {"accuracy": hits.sum(axis=1) / examples}
    per_class = {
        "precision": hits / np.maximum(predictions, 1),
        "recall": hits / np.maximum(truths, 1),
        "f1": 2 * hits / np.maximum(truths + predictions, 1),
    }
    for name, values in per_class.items():
        scores[f"macro_{name}"] = values.sum(axis=1) / occurs.sum(axis=1)
        scores[f"weighted_{name}"] = (values * truths).sum(axis=1) / examples
    return scores


def _resampled(truth, predicted, resamples, seed, whole=None):
    """Return `_scores` of resamples of the examples; multinomial counts, see `classification._bootstrap`."""
    occurring, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    cells, cell, counts = np.unique(
        codes[: len(truth)] * len(occurring) + codes[len(truth) :], return_inverse=True, return_counts=True
    )
    rows, columns = np.divmod(cells, len(occurring))
    shape = (len(cells), len(occurring))
    hits, truths, predictions = (
        scipy.sparse.csr_array((values.astype(np.float64), (np.arange(len(cells)), place)), shape=shape)
        for values, place in (
            (rows == columns, rows),
            (np.ones(len(cells)), rows),
            (np.ones(len(cells)), columns),
        )
    )
    random = np.random.default_rng(seed)
    parts = []
    widest = len(cells) if whole is None else len(truth)
    chunk = max(1, 4_000_000 // widest)  # 32 MB of counts at a time
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        if whole is None:
            drawn = random.multinomial(len(truth), counts / len(truth), size=size).astype(np.float64)
        else:
            kinds = scipy.sparse.csr_array((np.ones(len(truth)), (np.arange(len(truth)), cell)))
            drawn = intervals.drawn(random, len(truth), whole, size) @ kinds
        parts.append(_scores(drawn @ hits, drawn @ truths, drawn @ predictions))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
