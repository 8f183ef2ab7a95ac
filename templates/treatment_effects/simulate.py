"""Truths that are made up on the user's own covariates, and what each method makes of them.

Nobody sees the effect of one row, so that nothing says how far a method is off on somebody's data. What can
be seen is how far it is off where all is the same but for the outcomes (the people, who was treated, how many
there are), and these are drawn from a known truth (Hill 2011 made IHDP so).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from runner.scores import effects
from runner.tables import columns as columns_of
from runner.tables.layers import Prepared

from . import learners, loading
from .config import Config
from .learners import Learned
from .loading import Trial
from .method import Outcome

SHAPES = ("straight", "bent")
"""Outcome and effect are weighted sums of the covariates, or of four bends tanh(w x) of them."""
BENDS = 4
EFFECTS = 0.7
"""The spread of effects, as a share of that of the outcomes without treatment."""
FARTHEST = 5.0
"""The most that effects are moved: from there on hardly anything of the larger trial's is left in them."""


class Hardness(NamedTuple):
    """What decides how far off methods are on a simulated truth, beside the people and how many they are."""

    noise: float = 0.5
    """The share of the outcome's variance that no covariate tells."""
    moved: float = 0.5
    """The small trial's effects are (e + moved e') / sqrt(1 + moved^2), e those of the larger one, e' others
    of the same spread."""


USUAL = Hardness()
"""What nothing that was seen says otherwise of."""


class Tried(NamedTuple):
    """What methods made of one simulated truth.

    shape: of SHAPES. errors: method -> estimated less true effect of each row, float64 (rows,). truth: the
    true effects. widths: method -> how uncertain it says the effect of each row is (the half-width of a
    factor of 1).
    """

    shape: str
    errors: Mapping[str, np.ndarray]
    truth: np.ndarray
    widths: Mapping[str, np.ndarray]
    hard: Hardness = USUAL


def as_hard(trial: Trial, start: Learned | None) -> Hardness:
    """How hard a truth must be to be like the trial, by outcomes that were seen; never kinder in how far
    effects have moved than USUAL, which is what a binary outcome and a trial without a larger one get.

    start: what was learned from the larger trial. Its squared error on the larger trial's validation rows
    tells the noise, s^2. On the small trial's rows to train and choose on, none of which it has seen, the
    error is s^2 + E (m + (t - 1/2) e)^2, m and e being what of outcome and effect has moved. All of that
    surplus is taken for the effects', which is the most that they can have moved where treatment was drawn
    by a coin: E e^2 / 4 = surplus. Effects of spread d that moved as `Hardness.moved` says lie
    E e^2 = 2 d^2 (1 - 1 / sqrt(1 + moved^2)) apart, from which comes `moved`. No true effect is looked at,
    and no outcome of the test.
    """
    if start is None or trial.source is None or start.outcome.binary:
        return USUAL
    as_it_is = Outcome(False)

    def errors(of: Trial, *splits: str) -> np.ndarray:
        ids = np.concatenate([of.of(split) for split in splits])
        return learners.factual(start.expected(of.rows[ids]), of.treatment[ids], of.outcome[ids], as_it_is)

    variance = float(trial.outcome[np.concatenate([trial.of("train"), trial.of("val")])].var())
    unexplained = float(errors(trial.source, "val").mean())
    noise = float(np.clip(unexplained / variance, 0.05, 0.9))
    surplus = max(0.0, float(errors(trial, "train", "val").mean()) - unexplained)
    spread = np.sqrt(variance * (1 - noise) / (1 + EFFECTS**2 / 4)) * EFFECTS
    alike = max(1 - 2 * surplus / spread**2, 1 / np.hypot(1, FARTHEST))
    return Hardness(noise, max(USUAL.moved, float(np.sqrt(1 / alike**2 - 1))))


def simulated(trial: Trial, shape: str, seed: int, hard: Hardness = USUAL) -> Trial:
    """The same trials with outcomes of a known truth; rows of the test get none.

    Mean and spread of the outcome are those of the real one. A binary outcome is drawn with probability
    sigmoid of the same sums.
    """
    random = np.random.default_rng([seed, SHAPES.index(shape)])
    layer = Prepared(columns_of.record(trial.columns))
    known = trial.treatment >= 0
    learned = trial.outcome[known & trial.manifest["split"].isin(["train", "val"]).to_numpy()]
    binary = bool(np.isin(learned, (0, 1)).all())
    mean, spread = (0.0, 1.5) if binary else (float(learned.mean()), float(learned.std()))
    width = learners.prepared(layer, trial.rows[:1]).shape[1]
    bends = random.normal(size=(width, BENDS)) * (random.random((width, BENDS)) < 0.5)
    straight = random.normal(size=(width, 3))

    def sums(of: Trial) -> np.ndarray:
        """(rows, 3): what outcome, effect and the move of the effect are made of, of unit spread."""
        columns = learners.prepared(layer, of.rows)
        if shape == "straight":
            return columns @ straight
        base = np.tanh(columns @ bends / np.sqrt(1 + (bends != 0).sum(axis=0)))
        return base @ straight[:BENDS] if width >= BENDS else base[:, :width] @ straight

    rows = sums(trial)
    ids = np.concatenate([trial.of("train"), trial.of("val")])
    scale = rows[ids].std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    middle = rows[ids].mean(axis=0)

    def drawn(of: Trial, moves: float, source: Trial | None) -> Trial:
        parts = (sums(of) - middle) / scale
        signal = spread * np.sqrt((1 - hard.noise) / (1 + EFFECTS**2 / 4))
        effect = signal * EFFECTS * (0.5 + (parts[:, 1] + moves * parts[:, 2]) / np.hypot(1, moves))
        untreated = mean + signal * parts[:, 0] - effect / 2
        truth = np.stack([untreated, untreated + effect], axis=1)
        treated = np.where(of.treatment > 0, truth[:, 1], truth[:, 0])
        if binary:
            truth = expit(truth)
            outcome = (random.random(len(treated)) < expit(treated)).astype(float)
        else:
            outcome = treated + random.normal(size=len(treated)) * spread * np.sqrt(hard.noise)
        return loading.with_outcomes(of, outcome, truth, source)

    source = None if trial.source is None else drawn(trial.source, 0.0, None)
    return drawn(trial, hard.moved, source)


def tried(
    config: Config,
    trial: Trial,
    fit_all: Callable[[Config, Trial, Callable], tuple[dict, dict]],
    checkpoints: Callable,
    hard: Hardness = USUAL,
) -> list[Tried]:
    """Every method on each simulated truth, judged on the rows to train and choose on.

    fit_all: of `train`; checkpoints: gives the place of a method's state by its name.
    """
    found = []
    for number in range(config.simulations):
        for shape in SHAPES:
            made = simulated(trial, shape, config.machine.seed + 1000 * (number + 1), hard)
            title = f"simulated {shape} {number + 1}"
            networks, fits = fit_all(config, made, lambda name, title=title: checkpoints(f"{title} {name}"))
            networks = learners.one_scratch(networks, made)
            ids = np.concatenate([made.of("train"), made.of("val")])
            truth = made.truth[ids, 1] - made.truth[ids, 0]  # type: ignore[index]
            errors, widths = {}, {}
            for name, one in networks.items():
                mu = one.expected(made.rows[ids])
                errors[name] = mu[:, 1] - mu[:, 0] - truth
                if isinstance(one, Learned):
                    widths[name] = learners.uncertain(config, made, one, made.rows[ids])
            found.append(Tried(shape, errors, truth, widths, hard))
    return found


def table(found: list[Tried]) -> pd.DataFrame:
    """A row per method: sqrt(PEHE) on each shape of truth, as a share of the spread of the true effects (1 is
    what the average effect for everybody reaches), the mean over draws.
    """
    rows: dict[str, dict[str, list[float]]] = {}
    for one in found:
        for name, error in one.errors.items():
            value = effects.root_pehe(error, 0 * error) / one.truth.std()
            rows.setdefault(name, {}).setdefault(one.shape, []).append(value)
    return pd.DataFrame(
        [
            {"method": name} | {shape: float(np.mean(of)) for shape, of in by.items()}
            for name, by in rows.items()
        ]
    )


def factor(found: list[Tried], name: str) -> float | None:
    """What the widths of a method are multiplied by so that 95 % of the simulated effects lie within; None
    where nothing was simulated.
    """
    shares = [
        np.abs(one.errors[name]) / np.maximum(one.widths[name], 1e-9) for one in found if name in one.widths
    ]
    return float(np.quantile(np.concatenate(shares), 0.95)) if shares else None
