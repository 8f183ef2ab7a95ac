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

SHAPES = ("straight", "bent")
"""Outcome and effect are weighted sums of the covariates, or of four bends tanh(w x) of them."""
BENDS = 4
MOVED = 0.5
"""How far the small trial's effects lie from the larger one's, as a share of the spread of effects."""
EFFECTS = 0.7
"""The spread of effects, as a share of that of the outcomes without treatment."""


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


def simulated(trial: Trial, shape: str, seed: int) -> Trial:
    """The same trials with outcomes of a known truth; rows of the test get none.

    The noise is half of the outcome's variance, and its mean and spread those of the real one. A binary
    outcome is drawn with probability sigmoid of the same sums.
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
        signal = spread * np.sqrt(0.5 / (1 + EFFECTS**2 / 4))
        effect = signal * EFFECTS * (0.5 + (parts[:, 1] + moves * parts[:, 2]) / np.hypot(1, moves))
        untreated = mean + signal * parts[:, 0] - effect / 2
        truth = np.stack([untreated, untreated + effect], axis=1)
        treated = np.where(of.treatment > 0, truth[:, 1], truth[:, 0])
        if binary:
            truth = expit(truth)
            outcome = (random.random(len(treated)) < expit(treated)).astype(float)
        else:
            outcome = treated + random.normal(size=len(treated)) * spread * np.sqrt(0.5)
        return loading.with_outcomes(of, outcome, truth, source)

    source = None if trial.source is None else drawn(trial.source, 0.0, None)
    return drawn(trial, MOVED, source)


def tried(
    config: Config,
    trial: Trial,
    fit_all: Callable[[Config, Trial, Callable], tuple[dict, dict]],
    checkpoints: Callable,
) -> list[Tried]:
    """Every method on each simulated truth, judged on the rows to train and choose on.

    fit_all: of `train`; checkpoints: gives the place of a method's state by its name.
    """
    found = []
    for number in range(config.simulations):
        for shape in SHAPES:
            made = simulated(trial, shape, config.machine.seed + 1000 * (number + 1))
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
            found.append(Tried(shape, errors, truth, widths))
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


def factor(found: list[Tried], name: str) -> float:
    """What the widths of a method are multiplied by so that 95 % of the simulated effects lie within; 1.96,
    as if they were normal, where nothing was simulated.
    """
    shares = [
        np.abs(one.errors[name]) / np.maximum(one.widths[name], 1e-9) for one in found if name in one.widths
    ]
    return float(np.quantile(np.concatenate(shares), 0.95)) if shares else 1.959964
