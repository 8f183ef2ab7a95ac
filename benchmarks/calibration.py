"""How often the interval of the calibration error holds the true error, where that is known.

    python -m benchmarks.calibration [--tables 200] [--resamples 300]

Confidences are drawn, and who is right is drawn with a probability that is a known function of the
confidence: the confidence itself (a calibrated network), a network that is too sure (its logits divided by
1.3 or 2 would be calibrated) or not sure enough (multiplied by 1.4), and one that is now too sure, now not
sure enough. The true error of a table is that of 200,000 other examples in the same bins. An interval of
95 % should hold it 95 times in 100. A row per case; two standard deviations of a share of 95 % of 200 tables
are 3 points.
"""

import argparse

import numpy as np
import pandas as pd
import scipy.special

from runner import flags
from runner.scores import calibration, classification

SIZES = (100, 300, 1000)
SPREADS = {"middling": (0.5, 1.0), "sure": (2.5, 1.5), "nearly certain": (4.0, 2.0)}
"""Mean and deviation of the logit of a confidence, whose absolute value counts."""
TRUTHS = {
    "calibrated": lambda p: p,
    "too sure, T = 1.3": lambda p: scipy.special.expit(scipy.special.logit(p) / 1.3),
    "too sure, T = 2": lambda p: scipy.special.expit(scipy.special.logit(p) / 2),
    "not sure enough": lambda p: scipy.special.expit(scipy.special.logit(p) * 1.4),
    "now so, now so": lambda p: np.clip(p + 0.06 * np.sin(12 * p), 0, 1),
}


def confidences(spread: str, count: int, random: np.random.Generator) -> np.ndarray:
    """Float64 (count,), .5..1."""
    return scipy.special.expit(np.abs(random.normal(*SPREADS[spread], count)).clip(0.01, 15))


def table(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """A prediction table of two classes; right: bool (examples,)."""
    logits = np.stack([np.zeros(len(confidence)), scipy.special.logit(confidence)], axis=1)
    known = {"id": np.arange(len(right)), "label": right.astype(np.int64)}
    return classification.tables(known, {"": logits}, ["a", "b"])[""]


def true_error(confidence: np.ndarray, many: np.ndarray, right: np.ndarray) -> float:
    """That of many other examples, float64 (n,) with how often each is right, in the bins of a table."""
    place = calibration.bins_of(confidence)
    ends = [confidence[place == one].max() for one in range(place.max())]
    gaps = np.bincount(np.searchsorted(ends, many), weights=right - many, minlength=len(ends) + 1)
    return float(np.abs(gaps).sum() / len(many))


def measure(spread: str, truth: str, size: int, tables: int, resamples: int) -> dict:
    """How often the interval held the true error, and how wide it was on average."""
    many = confidences(spread, 200_000, np.random.default_rng(1))
    of_many, held, widths, errors = TRUTHS[truth](many), 0, [], []
    for seed in range(tables):
        random = np.random.default_rng([seed, size])
        confidence = confidences(spread, size, random)
        right = random.random(size) < TRUTHS[truth](confidence)
        found = calibration.error(table(confidence, right), ["a", "b"], resamples=resamples, seed=seed)
        low, high = found["expected_calibration_error_interval"]
        true = true_error(confidence, many, of_many)
        held += low - 1e-9 <= true <= high + 1e-9
        widths.append(high - low)
        errors.append(true)
    return {
        "confidences": spread,
        "the truth": truth,
        "examples": size,
        "true error": np.mean(errors),
        "held, %": 100 * held / tables,
        "width": np.mean(widths),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    arguments = parser.parse_args()
    for spread in SPREADS:
        for truth in TRUTHS:
            for size in SIZES:
                row = measure(spread, truth, size, arguments.tables, arguments.resamples)
                cells = (f"{one:.3f}" if isinstance(one, float) else str(one) for one in row.values())
                print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
