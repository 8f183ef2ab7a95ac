"""For two classes: where to draw the line between them, chosen on validation, and what it gives.

Everything here reads the prediction tables of `classification.tables`. The score of an example is its
probability of the positive class, the column "p:<positive>"; it counts as positive from the threshold on.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import sklearn.metrics

from runner.errors import InputError, suggest
from runner.fields import AT_LEAST
from runner.scores import classification, intervals

CRITERIA = ("youden", "f1")
"""Beside these a share that is to be reached (`fields.AT_LEAST`)."""


def check_positive(positive: str, classes: Sequence[str]) -> None:
    """Raise InputError unless the class to find is one of two; "" leaves it open."""
    if positive and (len(classes) != 2 or positive not in classes):
        raise InputError(
            f"positive={positive!r}: the data has {len(classes)} classes ({', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}); give one of two, or leave it out."
            + suggest(positive, classes)
        )


def curves(predictions: pd.DataFrame, positive: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Return the ROC curve and the precision-recall curve, a row per threshold that changes something.

    The first has columns threshold, false_positive_rate, true_positive_rate; the second threshold, recall,
    precision. Rates are 0..1. Both begin with the threshold infinity, where nothing is called positive;
    precision is 1 there by convention. None where the examples are all of one class: there is no curve then.

    Raises:
        InputError: a table that is empty, or has not exactly two classes, or lacks the class `positive`.
    """
    truth, scores = _binary(predictions, positive)
    if truth.all() or not truth.any():
        return None
    false_positive_rate, true_positive_rate, thresholds = sklearn.metrics.roc_curve(truth, scores)
    roc = pd.DataFrame(
        {
            "threshold": thresholds,
            "false_positive_rate": false_positive_rate,
            "true_positive_rate": true_positive_rate,
        }
    )
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(
        truth, scores, drop_intermediate=True
    )
    precision_recall = pd.DataFrame(
        {"threshold": np.append(thresholds, np.inf), "recall": recall, "precision": precision}
    )
    return roc, precision_recall[::-1].reset_index(drop=True)


def areas(
    predictions: pd.DataFrame,
    positive: str,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict | None:
    """Return the areas under the two curves, ready for JSON, or None where the examples are of one class.

    Keys: `roc_auc`, `average_precision` (0..1; Fawcett 2006, Davis and Goadrich 2006), each with the 95 %
    percentile interval of a bootstrap over examples, `positives` and `negatives`. The bootstrap resamples
    within each class, so that every resample has both; average precision holds for this share of positives.
    Where `groups` says which examples belong together ("" for none, indexed by id) it draws groups, whatever
    the share of positives that this gives, and leaves out the resamples of one class.

    Raises:
        InputError: as `curves`.
    """
    truth, scores = _binary(predictions, positive)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    truth, scores = truth[order], scores[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    random = np.random.default_rng(seed)
    whole = None if groups is None else intervals.units(groups, predictions["id"].to_numpy()[order])
    chunk = max(1, 2_000_000 // len(scores))
    roc_aucs, average_precisions = [], []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        weights = np.zeros((rows, len(scores)))
        if whole is not None:
            weights = intervals.drawn(random, len(scores), whole, rows)
            weights = weights[(weights @ truth > 0) & (weights @ ~truth > 0)]
        for members, number in ((truth, positives), (~truth, negatives)) if whole is None else ():
            drawn = random.integers(0, number, (rows, number)) + number * np.arange(rows)[:, None]
            drawn = np.bincount(drawn.ravel(), minlength=rows * number)
            weights[:, members] = drawn.reshape(rows, number)
        true_positives = np.cumsum(weights * truth, axis=1)[:, last_of_ties]
        called_positive = np.cumsum(weights, axis=1)[:, last_of_ties]
        false_positives = called_positive - true_positives
        gained = np.diff(true_positives, axis=1, prepend=0)
        between = np.diff(false_positives, axis=1, prepend=0)
        # Trapezoids over the false positives: ties between the classes count one half.
        area = np.sum(between * (true_positives - gained / 2), axis=1)
        there, others = (positives, negatives) if whole is None else (weights @ truth, weights @ ~truth)
        roc_aucs.append(area / (there * others))
        precision = true_positives / np.maximum(called_positive, 1)
        average_precisions.append(np.sum(gained * precision, axis=1) / there)
    return {
        "roc_auc": float(sklearn.metrics.roc_auc_score(truth, scores)),
        "roc_auc_interval": intervals.percentile(np.concatenate(roc_aucs)),
        "average_precision": float(sklearn.metrics.average_precision_score(truth, scores)),
        "average_precision_interval": intervals.percentile(np.concatenate(average_precisions)),
        "positives": positives,
        "negatives": negatives,
    }


def choose(validation_predictions: pd.DataFrame, positive: str, criterion: str = "youden") -> float | None:
    """Return the threshold, 0..1, that is best on the validation examples; None where they are of one class.

    "youden" maximises sensitivity + specificity - 1 (Youden 1950), whatever the share of positives; "f1" the
    harmonic mean of precision and recall, which falls with rarer positives; "specificity:0.95" sensitivity
    where the specificity is at least .95, and "sensitivity:0.9" the other way round; where no threshold
    reaches that, it is the one that comes nearest. The threshold lies midway between two scores, so that
    rounding moves no example across it; among equally good ones it is the one nearest 0.5. None instead of an
    error, because this runs when a training is over: leave the operating point out.

    Raises:
        InputError: as `curves`; another criterion.
    """
    least = AT_LEAST.fullmatch(criterion)
    if criterion not in CRITERIA and not least:
        raise InputError(
            f"Received the criterion {criterion!r}; allowed are {', '.join(CRITERIA)}, and a share to reach, "
            "such as specificity:0.95." + suggest(criterion, CRITERIA)
        )
    truth, scores = _binary(validation_predictions, positive)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    values, place = np.unique(scores, return_inverse=True)
    # From position k of the ascending values on, everything is called positive.
    true_positives = np.cumsum(np.bincount(place, weights=truth)[::-1])[::-1]
    called_positive = np.cumsum(np.bincount(place)[::-1])[::-1]
    sensitivity, specificity = true_positives / positives, 1 - (called_positive - true_positives) / negatives
    if least:
        held, free = (sensitivity, specificity) if least[1] == "sensitivity" else (specificity, sensitivity)
        # Of those that reach the share the highest of the other, then of itself; of the rest the nearest.
        quality = np.where(held >= float(least[2]) - 1e-12, 1 + free + 1e-6 * held, held)
    elif criterion == "youden":
        quality = sensitivity + specificity
    else:
        quality = 2 * true_positives / (called_positive + positives)
    thresholds = np.append(0.0, (values[1:] + values[:-1]) / 2)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def at(
    predictions: pd.DataFrame,
    positive: str,
    threshold: float,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Return what a threshold (0..1) gives on these examples, ready for JSON; shares are 0..1.

    Keys: `positive`, `threshold`; the counts `true_positives`, `false_negatives`, `false_positives`,
    `true_negatives`; `sensitivity` (recall), `specificity` and `precision`, each with the 95 % interval of
    `intervals.share`; `f1` with that of a bootstrap over examples. Both draw together what `groups` says
    belongs together ("" for none, indexed by id). A share of no examples is None, and so is its interval.

    Raises:
        InputError: as `curves`; a threshold outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"Received the threshold {threshold}; needed is a probability, 0 to 1.")
    truth, scores = _binary(predictions, positive)
    called = scores >= threshold
    counts = {
        "true_positives": int(np.sum(truth & called)),
        "false_negatives": int(np.sum(truth & ~called)),
        "false_positives": int(np.sum(~truth & called)),
        "true_negatives": int(np.sum(~truth & ~called)),
    }
    right, missed, false_alarms, _ = counts.values()
    result = {"positive": str(positive), "threshold": float(threshold)} | counts
    whole = None if groups is None else intervals.units(groups, predictions["id"])
    shares = {
        "sensitivity": (called, truth),
        "specificity": (~called, ~truth),
        "precision": (truth, called),
    }
    for name, (success, among) in shares.items():
        found = success[among]
        together = None if whole is None else whole[among]
        result[name] = float(found.mean()) if len(found) else None
        result[f"{name}_interval"] = list(intervals.share(found, together)) if len(found) else None
    result |= {"f1": None, "f1_interval": None}
    if right + missed + false_alarms:
        random = np.random.default_rng(seed)
        if whole is None:
            shares_of_all = np.array(list(counts.values())) / len(truth)
            drawn = random.multinomial(len(truth), shares_of_all, size=resamples)
        else:
            kinds = np.stack([truth & called, truth & ~called, ~truth & called, ~truth & ~called], axis=1)
            drawn = intervals.drawn(random, len(truth), whole, resamples) @ kinds
        result["f1"] = float(_f1(right, missed, false_alarms))
        result["f1_interval"] = intervals.percentile(_f1(drawn[:, 0], drawn[:, 1], drawn[:, 2]))
    return result


def _f1(right, missed, false_alarms):
    return 2 * right / np.maximum(2 * right + missed + false_alarms, 1)


def _binary(predictions, positive):
    """Return which examples are positive, bool, and their scores, float64, (examples,) each."""
    classes = [name[2:] for name in predictions.columns if name.startswith("p:")]
    if len(classes) != 2:
        raise InputError(
            f"Received a prediction table of {len(classes)} classes; an operating point is between two: "
            "use `classification.per_class` for more."
        )
    if str(positive) not in classes:
        raise InputError(
            f"Received the positive class {positive!r}; allowed are {' and '.join(map(repr, classes))}."
            + suggest(positive, classes)
        )
    truth, _ = classification.truth_and_prediction(predictions, classes)
    truth = truth == classes.index(str(positive))
    return truth, classification.probabilities(predictions, [str(positive)])[:, 0]


# ---------------------------------------------------------------- decision curves

THRESHOLDS = tuple(round(0.01 * number, 2) for number in range(1, 100))
"""Probabilities from which somebody may act."""


def net_benefit(
    truth: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> pd.DataFrame:
    """Return a decision curve, a row per threshold: threshold, net_benefit of acting by these probabilities,
    act_on_all, act_on_none (0).

    Who acts from a probability t on holds a false alarm for t / (1 - t) times as bad as a missed case. The
    net benefit, true positives / n - false positives / n * t / (1 - t), counts in cases found without a false
    alarm, per example (Vickers and Elkin 2006, "Decision Curve Analysis"; Vickers et al. 2016, BMJ 352:i6).
    truth: bool (n,); probabilities: float (n,), 0..1, calibrated: a curve judges them as they are.
    thresholds: above 0 and below 1.
    """
    truth, probabilities = np.asarray(truth, bool), np.asarray(probabilities, np.float64)
    rows = []
    for threshold in thresholds:
        odds = threshold / (1 - threshold)
        acts = probabilities >= threshold
        benefit = (truth & acts).mean() - odds * (~truth & acts).mean()
        rows.append((threshold, benefit, truth.mean() - odds * (~truth).mean(), 0.0))
    return pd.DataFrame(rows, columns=["threshold", "net_benefit", "act_on_all", "act_on_none"])


def useful(curves: pd.DataFrame) -> tuple[float, float] | None:
    """Return the smallest and the largest threshold of `net_benefit` at which acting by it is worth more than
    acting on all and than acting on none; None where it never is.
    """
    others = curves[["act_on_all", "act_on_none"]].max(axis=1)
    better = curves["threshold"][curves["net_benefit"] > others + 1e-9]
    return (float(better.min()), float(better.max())) if len(better) else None
