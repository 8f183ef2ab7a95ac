"""Made trials of one treatment: a large one, and small ones in which the effects have moved.

A world has twenty covariates (sixteen numbers of four common causes, a yes or no, a site) and four hidden
risks, each a bend of some covariates. The outcome without treatment, and what treatment adds, are weighted
sums of the risks. A small trial has the same covariates and risks and other weights: how far they moved is
what its name says. Treatment is drawn by a coin, so that everybody has the same chance of it.

    z = tanh(W f),  mu0 = a z,  mu1 - mu0 = 1 + b z + move (c0 + c z),  outcome = mu_t + noise of N(0, 1)

f are the covariates, standardised; where one is missing in the table it is so after the outcome was drawn.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

NUMBERS, RISKS, CAUSES = 16, 4, 4
SITES = ("east", "north", "south", "west")
MOVES = {"large": 0.0, "little": 0.65, "much": 1.7}
"""How far the effects of a trial have moved from those of the large one: root mean square, where the noise of
an outcome is 1."""
MISSING = 0.1
"""Share of the column number_03 that is missing."""


class World(NamedTuple):
    """What the trials of one world share."""

    loadings: np.ndarray
    """(CAUSES, NUMBERS): how the causes make the numbers."""
    bends: np.ndarray
    """(covariates, RISKS)."""
    untreated: np.ndarray
    """(RISKS,): a."""
    effect: np.ndarray
    """(RISKS,): b."""
    moved: np.ndarray
    """(1 + RISKS,): c0 and c."""
    elsewhere: np.ndarray
    """(RISKS,): what a small trial adds to a."""


def world(number: int) -> World:
    """The world of this number; 0 is that of the embedded tables."""
    random = np.random.default_rng([number, 0])
    covariates = NUMBERS + 1 + len(SITES)
    bends = random.normal(size=(covariates, RISKS)) * (random.random((covariates, RISKS)) < 0.4)
    return World(
        random.normal(size=(CAUSES, NUMBERS)),
        bends * 1.2 / np.linalg.norm(bends, axis=0).clip(1e-9),
        _unit(random.normal(size=RISKS)) * 3,
        _unit(random.normal(size=RISKS)) * 2.5,
        _unit(random.normal(size=1 + RISKS)),
        _unit(random.normal(size=RISKS)) * 0.5,
    )


def trial(number: int, move: str, rows: int, part: str = "train") -> pd.DataFrame:
    """Rows of a trial: columns number_01 to number_16 (float), smoker (yes or no), site, treatment (0 or 1),
    outcome (float), and the truth mu0 and mu1 (float).

    number: of the world. move: of MOVES. part: "train" or "test", which share no row; the first rows of a
    longer table are those of a shorter one.
    """
    of, place = world(number), 1 + 2 * list(MOVES).index(move) + (part == "test")
    # A row has its own numbers, so that a longer table begins as a shorter one does.
    drawn = np.random.default_rng([number, place]).normal(size=(rows, CAUSES + NUMBERS + 5))
    causes, own = drawn[:, :CAUSES], drawn[:, CAUSES : CAUSES + NUMBERS]
    smokes, at, coin, noise, lost = drawn[:, CAUSES + NUMBERS :].T
    numbers = 0.7 * causes @ of.loadings / np.linalg.norm(of.loadings, axis=0) + 0.714 * own
    smoker = smokes + 0.5 * causes[:, 0] > 0.6
    site = np.digitize(at, [-0.67, 0.0, 0.67])
    features = np.column_stack([numbers, 2.0 * smoker - 0.6, 2.0 * np.eye(len(SITES))[site] - 0.5])
    risks = np.tanh(features @ of.bends)
    moved = np.column_stack([np.ones(rows), risks / 0.65]) @ of.moved
    untreated = risks @ (of.untreated + (move != "large") * of.elsewhere)
    effect = 1 + risks @ of.effect + MOVES[move] * moved
    treatment = (coin > 0).astype(np.int64)
    table = pd.DataFrame({f"number_{one + 1:02}": numbers[:, one] for one in range(NUMBERS)})
    # The highest tenth of a number of its own: missing at random.
    table.loc[lost > 1.2816, "number_03"] = np.nan
    table["smoker"] = np.where(smoker, "yes", "no")
    table["site"] = np.array(SITES)[site]
    table["treatment"] = treatment
    table["outcome"] = untreated + treatment * effect + noise
    table["mu0"], table["mu1"] = untreated, untreated + effect
    return table


def _unit(one: np.ndarray) -> np.ndarray:
    return one / np.linalg.norm(one)
