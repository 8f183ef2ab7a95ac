"""Scores of treatment effects: against a known truth, and without one what a trial's outcomes can say.

Throughout: treatment is 0 (control) or 1 (treated), outcome is a number of which more is better, an effect is
the outcome if treated less the outcome if not, in the outcome's unit, and a propensity is the probability of
being treated, 0..1. All arrays are float64 (rows,) unless said. Nobody is ever seen both treated and not, so
that an effect of one row is never observed: what stands under "without a truth" speaks of averages alone.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from runner.errors import InputError

_DEVIATIONS = 1.959963984540054  # of a normal 95 % interval
LARGE = 0.1
"""A standardised mean difference above this is called an imbalance (Austin 2009)."""


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


# ---------------------------------------------------------------- with a truth


def root_pehe(truth: np.ndarray, effects: np.ndarray) -> float:
    """The root of the precision in estimating heterogeneous effects, sqrt(mean((truth - effects)^2)) (Hill
    2011, section 4.3): 0 is perfect, in the outcome's unit.
    """
    truth, effects = _same(truth, effects)
    return float(np.sqrt(np.mean((truth - effects) ** 2)))


def average_error(truth: np.ndarray, effects: np.ndarray) -> float:
    """How far the average effect is off, |mean(effects) - mean(truth)|."""
    truth, effects = _same(truth, effects)
    return float(abs(effects.mean() - truth.mean()))


# ---------------------------------------------------------------- may the arms be compared?


def overlap(propensity: np.ndarray, treatment: np.ndarray) -> pd.DataFrame:
    """A row per arm: rows, lowest and highest propensity, and the effective sample size of its inverse
    propensity weights, (sum w)^2 / sum w^2 (Kish 1965).

    Raises InputError for propensities outside 0..1 and for a trial of one arm.
    """
    propensity, treatment = _propensity(propensity, treatment)
    rows = []
    for arm, name in enumerate(("control", "treated")):
        own = treatment == arm
        weights = 1 / (propensity if arm else 1 - propensity)[own]
        rows.append(
            {
                "arm": name,
                "rows": int(own.sum()),
                "lowest_propensity": propensity[own].min(),
                "highest_propensity": propensity[own].max(),
                "effective_rows": weights.sum() ** 2 / (weights**2).sum(),
            }
        )
    return pd.DataFrame(rows)


def trimmed(propensity: np.ndarray) -> float:
    """The share a such that rows with a propensity within a..1-a are where effects can be estimated best
    (Crump, Hotz, Imbens and Mitnik 2009, Corollary 1): 0 where no row costs more precision than it brings.

    With k = 1 / (e (1 - e)): all rows where max k <= 2 mean k; else the lowest bound g with g >= 2 mean(k of
    the rows with k <= g) is left below, and a = 1/2 - sqrt(1/4 - 1/g).
    """
    cost = np.sort(1 / (propensity * (1 - propensity)))
    means = np.cumsum(cost) / np.arange(1, len(cost) + 1)
    if cost[-1] <= 2 * means[-1]:
        return 0.0
    # Rows in ascending order of what they cost: the last whose cost is not above twice the mean up to it.
    kept = np.flatnonzero(cost <= 2 * means)[-1]
    bound = 2 * means[kept]
    return float(0.5 - np.sqrt(max(0.0, 0.25 - 1 / bound)))


def supported(propensity: np.ndarray, share: float) -> np.ndarray:
    """Which rows have overlap, bool (rows,): a propensity of share..1-share, see `trimmed`."""
    return (propensity >= share) & (propensity <= 1 - share)


def balance(
    columns: np.ndarray, treatment: np.ndarray, names: list[str], propensity: np.ndarray | None = None
) -> pd.DataFrame:
    """A row per covariate: standardised mean differences between the arms, (m1 - m0) / sqrt((v1 + v0) / 2)
    (Austin 2009), the largest first; with propensities also after inverse propensity weighting.

    columns: (rows, covariates), finite. Variances are of the unweighted arms in both, so that weighting
    cannot hide a difference; a column that is constant in both arms differs by 0 or, where the constants
    do, by infinity.
    """
    columns, treatment = np.asarray(columns, np.float64), _arms(treatment)
    columns = columns - columns[0]  # a constant is exactly 0 then, whatever the weights round to
    one, zero = columns[treatment == 1], columns[treatment == 0]
    spread = np.sqrt((one.var(axis=0, ddof=1) + zero.var(axis=0, ddof=1)) / 2)

    def standardised(apart: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(apart == 0, 0.0, apart / spread)

    found = {"covariate": names, "difference": standardised(one.mean(axis=0) - zero.mean(axis=0))}
    if propensity is not None:
        weights = 1 / np.where(treatment == 1, propensity, 1 - propensity)
        means = [
            np.average(columns[treatment == arm], axis=0, weights=weights[treatment == arm]) for arm in (0, 1)
        ]
        found["weighted"] = standardised(means[1] - means[0])
    table = pd.DataFrame(found)
    return table.iloc[np.argsort(-np.abs(table["difference"].to_numpy()), kind="stable")].reset_index(
        drop=True
    )


# ---------------------------------------------------------------- without a truth


def uplift_curve(
    effects: np.ndarray, treatment: np.ndarray, outcome: np.ndarray, propensity: np.ndarray
) -> pd.DataFrame:
    """What treating the rows with the largest estimated effects first brings: columns share (0..1, of the
    rows) and gain, in outcome units per row of all (Radcliffe 2007, "Using control groups to target on
    predicted lift", the Qini curve).

    gain(s) = share treated so far x (weighted mean of the treated - weighted mean of the controls, among the
    first s rows), each row weighted by its inverse propensity. At 1 it is the average effect. Rows of equal
    estimated effects come together; until both arms are there the gain is 0.
    """
    propensity, treatment = _propensity(propensity, treatment)
    effects, outcome = _same(effects, outcome)
    order = np.argsort(-effects, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(effects[order]) != 0, True))
    sums = {}
    for arm in (0, 1):
        weights = np.where(treatment == arm, 1 / (propensity if arm else 1 - propensity), 0.0)[order]
        sums[arm] = np.cumsum(weights)[ends], np.cumsum(weights * outcome[order])[ends]
    share = (ends + 1) / len(effects)
    there = (sums[0][0] > 0) & (sums[1][0] > 0)
    means = [total / np.where(weight > 0, weight, 1) for weight, total in (sums[0], sums[1])]
    gain = np.where(there, share * (means[1] - means[0]), 0.0)
    return pd.DataFrame({"share": np.append(0.0, share), "gain": np.append(0.0, gain)})


def qini(curve: pd.DataFrame) -> float:
    """The area between an uplift curve and the straight line to its end, which is treating in random order
    (Radcliffe 2007): above 0 the order is better than chance, in outcome units per row.
    """
    share, gain = curve["share"].to_numpy(), curve["gain"].to_numpy()
    return float(np.sum(np.diff(share) * (gain[1:] + gain[:-1]) / 2) - gain[-1] / 2)


def doubly_robust(
    treatment: np.ndarray,
    outcome: np.ndarray,
    propensity: np.ndarray,
    untreated: np.ndarray,
    treated: np.ndarray,
) -> np.ndarray:
    """Scores (rows, 2) whose means estimate the mean outcome if nobody, and if everybody, were treated.

    untreated, treated: mu0 and mu1, what a model expects of each row. With p_a the propensity of arm a:
    mu_a + 1[treatment = a] (outcome - mu_a) / p_a (Robins, Rotnitzky and Zhao 1994; Dudik, Langford and Li
    2011, equation 1): right where either the model or the propensity is.
    """
    propensity, treatment = _propensity(propensity, treatment)
    found = []
    for arm, expected in ((0, untreated), (1, treated)):
        chance = propensity if arm else 1 - propensity
        found.append(expected + (treatment == arm) / chance * (outcome - expected))
    return np.stack(found, axis=1)


def inverse_propensity(treatment: np.ndarray, outcome: np.ndarray, propensity: np.ndarray) -> np.ndarray:
    """As `doubly_robust` without a model, 1[treatment = a] outcome / p_a (Horvitz and Thompson 1952), but
    with the weights of each arm scaled to a mean of 1 (Hajek 1971), without which a shift of the outcome
    would change the answer.

    The value is m_a + w (outcome - m_a), m_a the weighted mean of the arm: its mean is m_a, its spread that
    of the estimate.
    """
    propensity, treatment = _propensity(propensity, treatment)
    found = []
    for arm in (0, 1):
        weights = (treatment == arm) / (propensity if arm else 1 - propensity)
        weights = weights / weights.mean()
        mean = np.mean(weights * outcome)
        found.append(mean + weights * (outcome - mean))
    return np.stack(found, axis=1)


def policy_value(policy: np.ndarray, scores: np.ndarray, whole: np.ndarray | None = None) -> Estimate:
    """The mean outcome if each row got what the policy says (Dudik et al. 2011), with its 95 % interval.

    policy: 0 or 1 (rows,), decided without the outcomes of these rows. scores: (rows, 2) of `doubly_robust`
    or `inverse_propensity`. whole: see `mean`.
    """
    return mean(scores[np.arange(len(scores)), np.asarray(policy, np.int64)], whole)


def mean(values: np.ndarray, whole: np.ndarray | None = None) -> Estimate:
    """A mean and its 95 % interval by the normal approximation, mean +- 1.96 s / sqrt(n).

    whole: of `intervals.units`, the group of each row: rows of one group are not independent, and the spread
    is that of the groups' sums (Liang and Zeger 1986).
    """
    values = np.asarray(values, np.float64)
    average, rows = values.mean(), len(values)
    apart = values - average if whole is None else np.bincount(whole, weights=values - average)
    count = len(apart)
    error = np.sqrt((apart**2).sum() * count / max(1, count - 1)) / rows if count > 1 else np.inf
    return Estimate(
        float(average), float(average - _DEVIATIONS * error), float(average + _DEVIATIONS * error)
    )


def r_loss(
    effects: np.ndarray,
    treatment: np.ndarray,
    outcome: np.ndarray,
    propensity: np.ndarray,
    expected: np.ndarray,
) -> float:
    """mean(((outcome - m) - (treatment - e) effects)^2) (Nie and Wager 2021, equation 4), by which effects
    can be chosen among without knowing them: less is better.

    expected: m, the outcome that is expected of a row whatever its treatment.
    """
    propensity, treatment = _propensity(propensity, treatment)
    return float(np.mean((outcome - expected - (treatment - propensity) * effects) ** 2))


# ---------------------------------------------------------------- what is refused


def _same(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or not len(first):
        raise InputError(
            f"received {len(first)} and {len(second)} rows to compare; give the same ones, at least one."
        )
    return first, second


def _arms(treatment: np.ndarray) -> np.ndarray:
    treatment = np.asarray(treatment, np.float64)
    there = np.unique(treatment)
    if not np.isin(there, (0, 1)).all() or len(there) < 2:
        raise InputError(
            f"received the treatments {', '.join(f'{one:g}' for one in there[:5])}; 0 and 1 are allowed, and "
            "both must be there: without either arm there is nothing to compare."
        )
    return treatment


def _propensity(propensity: np.ndarray, treatment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    propensity, treatment = _same(propensity, _arms(treatment))
    if not ((propensity > 0) & (propensity < 1)).all():
        raise InputError(
            f"received propensities of {propensity.min():g} to {propensity.max():g}; above 0 and below 1 are "
            "allowed: clip them, and say so."
        )
    return propensity, treatment
