"""The losses and equations: the factual loss of TARNet, what DragonNet adds, and a head that is solved.

Notation: x covariates, t treatment (0 or 1), y outcome; mu_a(x) the outcome that is expected under treatment
a, and tau(x) = mu_1(x) - mu_0(x) the effect. A network gives z_0 and z_1: of a continuous outcome mu_a = mean
+ spread z_a, of a binary one mu_a = sigmoid(z_a). DragonNet gives two more: the logit of the propensity g(x),
and epsilon. Labels are float32 (batch, 2): t and y.
"""

from dataclasses import dataclass

import keras
import numpy as np
from scipy.special import expit

FAR = 0.01
"""The propensity in DragonNet's terms stays this far from 0 and 1, as in the authors' code."""


@dataclass(frozen=True)
class Outcome:
    """How an outcome is scaled within a network."""

    binary: bool
    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, outcomes: np.ndarray) -> "Outcome":
        """The kind and scale of training outcomes, float (rows,): 0 and 1 alone are binary."""
        if np.isin(outcomes, (0, 1)).all():
            return cls(True)
        return cls(False, float(outcomes.mean()), float(outcomes.std()))

    def expected(self, z: np.ndarray) -> np.ndarray:
        """mu of z, in the unit of the outcome."""
        return expit(z) if self.binary else self.mean + self.spread * z

    def scaled(self, y: np.ndarray) -> np.ndarray:
        """y as the loss compares it with z (continuous) or sigmoid(z) (binary)."""
        return y if self.binary else (y - self.mean) / self.spread

    def loss(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Of each row ((y - mean) / spread - z)^2, or -log p(y) in nats where the outcome is binary."""
        if self.binary:
            return np.logaddexp(0.0, z) - y * z
        return (self.scaled(y) - z) ** 2


class Factual(keras.losses.Loss):
    """mean l(y, z_t): only the outcome under the treatment that was given is known (Shalit, Johansson and
    Sontag 2017, equation 3 with alpha = 0 and equal weights, which is TARNet).

    l is the squared error of the scaled outcome, or the cross-entropy of a binary one; see `Outcome.loss`.
    """

    def __init__(self, outcome: Outcome, **options):
        super().__init__(name="factual", **options)
        self.outcome = outcome

    def call(self, y_true, y_pred):
        return self.of(y_true, y_pred[:, :2])

    def of(self, y_true, z):
        """l of each row, float32 (batch,); z: (batch, 2)."""
        treatment, y = y_true[:, 0], y_true[:, 1]
        given = z[:, 0] + treatment * (z[:, 1] - z[:, 0])
        if self.outcome.binary:
            return keras.ops.softplus(given) - y * given
        return keras.ops.square((y - self.outcome.mean) / self.outcome.spread - given)


class DragonNet(Factual):
    """l(y, z_t) + alpha CE(t, g(x)) + beta l'(y, z_t + epsilon h) (Shi, Blei and Veitch 2019, equations 2.2
    and 3.2).

    g comes from the same representation as the outcomes, so that it keeps what decides the treatment. h = t /
    g - (1 - t) / (1 - g); l' is the squared error of the scaled outcome, for a binary one of its probability.
    beta = 0 leaves the targeted regularisation out. z_t stays what a row's effect is taken from: epsilon
    makes the average effect efficient and tells nothing of one row.
    """

    def __init__(self, outcome: Outcome, alpha: float = 1.0, beta: float = 1.0, **options):
        super().__init__(outcome, **options)
        self.alpha, self.beta = alpha, beta

    def call(self, y_true, y_pred):
        treatment, y = y_true[:, 0], y_true[:, 1]
        logit, epsilon = y_pred[:, 2], y_pred[:, 3]
        loss = self.of(y_true, y_pred[:, :2])
        loss += self.alpha * (keras.ops.softplus(logit) - treatment * logit)
        if self.beta:
            g = FAR + (1 - 2 * FAR) * keras.ops.sigmoid(logit)
            z = y_pred[:, 0] + treatment * (y_pred[:, 1] - y_pred[:, 0])
            scaled = (y - self.outcome.mean) / self.outcome.spread
            told = keras.ops.sigmoid(z) if self.outcome.binary else z
            h = treatment / g - (1 - treatment) / (1 - g)
            loss += self.beta * keras.ops.square((y if self.outcome.binary else scaled) - told - epsilon * h)
        return loss


class FactualMetric(keras.metrics.MeanMetricWrapper):
    """The mean of `Factual.of`, by which epochs and stages are chosen on validation: `val_factual_loss`."""

    def __init__(self, outcome: Outcome):
        loss = Factual(outcome)
        super().__init__(lambda y_true, y_pred: loss.of(y_true, y_pred[:, :2]), name="factual_loss")


# ---------------------------------------------------------------- what is solved

PENALTIES = tuple(10.0**power for power in (-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5))
INTERACTIONS = (0.1, 0.3, 1.0)
"""How much the columns of the effect are scaled before the penalty: small ones keep the effect at what it was
before, or, where there was nothing, constant."""
FOLDS = 5


@dataclass(frozen=True)
class Solved:
    """Coefficients of `ridge` with what is known of them."""

    main: np.ndarray
    """(1 + d,): constant and columns, of the mean over treatments 1/2."""
    effect: np.ndarray
    """(1 + d,): constant and columns of the effect on the scale of z."""
    root: np.ndarray
    """(1 + d, r): root root^T is the posterior covariance of `effect`."""
    penalty: float
    interaction: float

    def z(self, columns: np.ndarray) -> np.ndarray:
        """float64 (rows, 2): what is added to z_0 and z_1."""
        whole = np.column_stack([np.ones(len(columns)), columns])
        middle, effect = whole @ self.main, whole @ self.effect
        return np.column_stack([middle - effect / 2, middle + effect / 2])


def ridge(
    columns: np.ndarray,
    treatment: np.ndarray,
    y: np.ndarray,
    outcome: Outcome,
    before: np.ndarray | None = None,
    seed: int = 0,
    whole: np.ndarray | None = None,
) -> Solved:
    """The ridge S-learner on the residual: z_t = before_t + m(x) + (t - 1/2) e(x), m and e linear, minimising
    sum l(y, z_t) + penalty (|m|^2 + |e|^2 / interaction^2) without the constant of m.

    columns: (rows, d), of about unit spread: covariates, or what a frozen representation gives; `before`:
    (rows, 2), what a network of another trial expects, None for nothing. The two strengths are those with
    the least loss in FOLDS folds of these rows, groups in one fold (`whole`, of `intervals.units`); no row of
    validation is seen, so that what is solved and what is trained can be compared there.

    A binary outcome is solved by Newton's method (penalised logistic regression with an offset). `root` is of
    the Gaussian posterior at the solution: (D'WD + penalty)^-1 s^2, with s^2 the mean loss in the folds, 1
    for a binary outcome.
    """
    rows = len(y)
    before = np.zeros((rows, 2)) if before is None else before
    offset = before[np.arange(rows), treatment.astype(int)]
    names = np.arange(rows) if whole is None else whole
    kinds = np.random.default_rng(seed).permutation(names.max() + 1) % FOLDS
    folds = kinds[names]
    best = (np.inf, PENALTIES[-1], INTERACTIONS[0])
    for interaction in INTERACTIONS:
        design = _design(columns, treatment, interaction)
        losses = np.zeros(len(PENALTIES))
        for fold in range(FOLDS):
            kept, left = folds != fold, folds == fold
            if not left.any() or not kept.any():
                continue
            for place, found in enumerate(_path(design[kept], y[kept], offset[kept], outcome)):
                losses[place] += outcome.loss(y[left], offset[left] + design[left] @ found).sum()
        place = int(losses.argmin())
        if losses[place] / rows < best[0]:
            best = (losses[place] / rows, PENALTIES[place], interaction)
    loss, penalty, interaction = best
    design = _design(columns, treatment, interaction)
    found, covariance = _solve(design, y, offset, outcome, penalty)
    width = columns.shape[1] + 1
    covariance = covariance * (1.0 if outcome.binary else loss)
    values, vectors = np.linalg.eigh(covariance[width:, width:] * interaction**2)
    root = vectors * np.sqrt(values.clip(0))
    return Solved(found[:width], found[width:] * interaction, root, penalty, interaction)


def _design(columns: np.ndarray, treatment: np.ndarray, interaction: float) -> np.ndarray:
    whole = np.column_stack([np.ones(len(columns)), columns])
    return np.column_stack([whole, interaction * (treatment - 0.5)[:, None] * whole])


def _path(design: np.ndarray, y: np.ndarray, offset: np.ndarray, outcome: Outcome) -> list[np.ndarray]:
    """The solution for each of PENALTIES."""
    if outcome.binary:
        return [_solve(design, y, offset, outcome, penalty)[0] for penalty in PENALTIES]
    # The constant is not penalised: take it out, then one decomposition serves all strengths.
    residual = outcome.scaled(y) - offset
    middle, level = design[:, 1:].mean(axis=0), residual.mean()
    u, s, vt = np.linalg.svd(design[:, 1:] - middle, full_matrices=False)
    told, found = u.T @ (residual - level), []
    for penalty in PENALTIES:
        slope = vt.T @ (s / (s**2 + penalty) * told)
        found.append(np.append(level - middle @ slope, slope))
    return found


def _solve(
    design: np.ndarray, y: np.ndarray, offset: np.ndarray, outcome: Outcome, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients and the inverse of the penalised information."""
    strength = np.full(design.shape[1], penalty)
    strength[0] = 1e-8
    if not outcome.binary:
        inverse = np.linalg.inv(design.T @ design + np.diag(strength))
        return inverse @ design.T @ (outcome.scaled(y) - offset), inverse
    found = np.zeros(design.shape[1])
    for _ in range(30):
        chance = expit(offset + design @ found)
        slope = design.T @ (y - chance) - strength * found
        weight = np.maximum(chance * (1 - chance), 1e-6)
        inverse = np.linalg.inv((design * weight[:, None]).T @ design + np.diag(strength))
        step = inverse @ slope
        step *= min(1.0, 5.0 / max(1e-12, np.abs(design @ step).max()))  # no row moves by more than 5 logits
        found = found + step
        if np.abs(step).max() < 1e-8:
            break
    return found, inverse
