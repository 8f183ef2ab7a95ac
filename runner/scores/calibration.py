"""Whether a confidence of 0.8 is right 8 times in 10; and one number, a temperature, that mends most of it.

Everything here reads the prediction tables of `classification.tables`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.special

from runner.errors import InputError
from runner.scores import classification, intervals

# Beyond these a temperature says that the validation set is too small or too easy to fit one.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0

# What float32 rounds to 0 counts as the smallest number it holds, 1.4e-45.
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

_PER_BIN = 20  # with fewer examples a bin's accuracy says next to nothing


def temperature(validation_predictions: pd.DataFrame, classes: Sequence[str]) -> float:
    """Return the temperature T that makes softmax(logits / T) likeliest on the validation examples.

    Guo et al. 2017, equation 9. The logarithms of the probabilities serve as logits: they differ from them by
    a constant per row, which a softmax ignores. The negative log likelihood is convex in 1 / T, so a bounded
    search over log T finds its only minimum. T above 1 lowers confidences, below 1 raises them.

    T stays within LOWEST_TEMPERATURE..HIGHEST_TEMPERATURE and is exactly that number when the search ran into
    it: on a validation set without a mistake the likeliest T is 0. `remark` puts this in words. Where T
    makes no difference it is 1.

    Raises:
        InputError: an empty table, or one that was made with other classes.
    """
    classes = classification.class_names(classes)
    labels, _ = classification.truth_and_prediction(validation_predictions, classes)
    logits = _logits(validation_predictions, classes)
    right = logits[np.arange(len(labels)), labels]

    def negative_log_likelihood(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(scipy.special.logsumexp(logits * scale, axis=1) - right * scale))

    lowest, highest = np.log([LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE])
    found = scipy.optimize.minimize_scalar(
        negative_log_likelihood, bounds=(lowest, highest), method="bounded"
    )
    if found.fun > negative_log_likelihood(0.0) - 1e-9:
        return 1.0
    # The search comes near a bound and never onto it.
    for end, value in ((lowest, LOWEST_TEMPERATURE), (highest, HIGHEST_TEMPERATURE)):
        if negative_log_likelihood(end) <= found.fun:
            return value
    return float(np.exp(found.x))


def remark(temperature: float) -> str:
    """Return a sentence for the reader of a report where a temperature ran into its bound, else ""."""
    if LOWEST_TEMPERATURE < temperature < HIGHEST_TEMPERATURE:
        return ""
    why = (
        "the validation examples hold too few mistakes to fit it"
        if temperature <= LOWEST_TEMPERATURE
        else "on the validation examples the probabilities say next to nothing"
    )
    return f"The temperature stopped at its bound of {temperature:g}: {why}; do not rely on it."


def scale(predictions: pd.DataFrame, temperature: float, classes: Sequence[str]) -> pd.DataFrame:
    """Return the table with softmax(logits / temperature) as its probabilities, float32; predictions stay.

    Raises:
        InputError: a table that was made with other classes; a temperature that is no positive number.
    """
    classes = classification.class_names(classes)
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(
            f"Received temperature {temperature}; needed is a number above 0, where 1 changes none."
        )
    scaled = scipy.special.softmax(_logits(predictions, classes) / temperature, axis=1).astype(np.float32)
    columns = {f"p:{name}": scaled[:, place] for place, name in enumerate(classes)}
    return predictions.assign(confidence=scaled.max(axis=1), **columns)


def error(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    bins: int = 15,
    groups: pd.Series | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Return how far confidences are from the truth, ready for JSON.

    Keys: `expected_calibration_error` (0..1, see `expected_error`) and its 95 % interval; `if_calibrated` and
    `if_calibrated_interval`, mean and 95 % of what a perfectly calibrated model with these confidences would
    show on so few examples; `negative_log_likelihood` (nats; at most 103 per example, where float32 holds no
    smaller probability); `brier` (Brier 1950: squared error summed over the classes, 0..2); `bins` used;
    `examples`.

    An expected calibration error is never 0: chance moves each bin's accuracy off its confidence, and the
    absolute value counts every move. Compare it with `if_calibrated`, found by drawing for each example
    whether it is right with its own confidence as the probability (Bröcker and Smith 2007). No percentile of
    a bootstrap around the estimate takes that bias off: a basic bootstrap's interval held the true error 72
    to 99 times in 100, a percentile interval 0 to 95. So the interval inverts a test (Carpenter 1999): it
    holds the true errors with which the estimate lies within 95 % of what examples drawn anew would show,
    the bins' gaps between accuracy and confidence being those found, or on a straight line through them,
    all made so many times larger or smaller. It is widened to hold the estimate.
    `python -m benchmarks.calibration` measures how often it holds the true error.

    groups: which examples belong together ("" for none, indexed by id), and are drawn together.

    Raises:
        InputError: an empty table, or one that was made with other classes; bins below 1.
    """
    classes = classification.class_names(classes)
    labels, _ = classification.truth_and_prediction(predictions, classes)
    surplus, confidence, place = _surplus(predictions, bins)
    probabilities = classification.probabilities(predictions, classes)
    of_label = probabilities[np.arange(len(labels)), labels]
    squares = (
        np.square(probabilities).sum(axis=1) - 2 * of_label + 1
    )  # of p - 1 for the label, p for the others

    random = np.random.default_rng(seed)
    calibrated = []
    chunk = max(1, 2_000_000 // len(labels))
    for start in range(0, resamples, chunk):
        shape = (min(chunk, resamples - start), len(labels))
        right = random.random(shape) < confidence
        calibrated.append(_binned(right - confidence, np.broadcast_to(place, shape)))
    estimate = float(_binned(surplus[None], place[None])[0])
    calibrated = np.concatenate(calibrated)
    whole = None if groups is None else intervals.units(groups, predictions["id"])
    low, high = _interval(surplus, confidence, place, whole, resamples, random)
    return {
        "expected_calibration_error": estimate,
        "expected_calibration_error_interval": [low, high],
        "if_calibrated": float(calibrated.mean()),
        "if_calibrated_interval": intervals.percentile(calibrated),
        "negative_log_likelihood": max(0.0, float(-np.log(np.maximum(of_label, _SMALLEST)).mean())),
        "brier": max(0.0, float(squares.mean())),
        "bins": int(place.max()) + 1,
        "examples": len(labels),
    }


_FACTORS = np.concatenate([np.linspace(0, 2, 41), np.linspace(2.2, 6, 20)])
"""How many times larger than those found the gaps of the bins are tried: the estimate of few examples can lie
far below the true error."""


def _interval(
    surplus: np.ndarray,
    confidence: np.ndarray,
    place: np.ndarray,
    whole: np.ndarray | None,
    resamples: int,
    random: np.random.Generator,
) -> tuple[float, float]:
    """The ends of the interval of `error`: surplus, confidence and place of `_surplus`, whole of
    `intervals.units`.
    """
    examples, bins = len(surplus), int(place.max()) + 1
    sizes = np.bincount(place)
    gaps = np.bincount(place, weights=surplus)
    sure = np.bincount(place, weights=confidence)
    estimate = float(np.abs(gaps).sum() / examples)
    noise = np.zeros((resamples, bins))
    if whole is not None:
        # What belongs together has no model that could be drawn from: the noise is that of a bootstrap.
        cells = whole * bins + place
        of_group = np.bincount(cells, weights=surplus, minlength=(int(whole.max()) + 1) * bins)
        times = intervals.drawn(random, len(of_group) // bins, None, resamples)
        drawn = (times @ of_group.reshape(-1, bins)) * (examples / (times @ np.bincount(whole)))[:, None]
        noise = drawn - gaps
    # Gaps that chance scattered hide more of the error than the true ones may: a straight line through them
    # is the other extreme, and the interval holds what either allows.
    line = sizes * np.polyval(
        np.polyfit(sure / sizes, gaps / sizes, min(1, bins - 1), w=np.sqrt(sizes)), sure / sizes
    )
    line *= np.abs(gaps).sum() / max(np.abs(line).sum(), 1e-12)
    # A row per true error that is tried, all at once: apart, the quantiles alone would take half the time.
    true = (_FACTORS[:, None, None] * np.stack([gaps, line])).reshape(-1, bins)
    if whole is None:
        right = np.clip((sure + true) / sizes, 0, 1)  # how often, in each bin
        true = sizes * right - sure
        shown = random.binomial(sizes, right[:, None], (len(true), resamples, bins)) - sure
    else:
        shown = true[:, None] + noise
    low, high = np.quantile(np.abs(shown).sum(axis=-1) / examples, [0.025, 0.975], axis=1)
    held = np.abs(true).sum(axis=1)[(low <= estimate) & (estimate <= high)] / examples
    return min(estimate, *held), min(1.0, max(estimate, *held))


def expected_error(predictions: pd.DataFrame, bins: int = 15) -> float:
    """Return the expected calibration error, 0..1: |accuracy - mean confidence| in a bin, the bins' mean.

    Naeini et al. 2015, with bins of equal numbers of examples instead of equal width (Nixon et al. 2019,
    "adaptive"): most confidences of a trained network stand near 1, so bins of equal width leave a handful of
    examples in the others, whose noise biases the sum upward (Roelofs et al. 2022; Kumar et al. 2019 on how
    few examples a bin can bear). A bin holds at least 20 examples, so there are fewer than 15 bins below 300;
    equal confidences share a bin.
    """
    surplus, _, place = _surplus(predictions, bins)
    return float(_binned(surplus[None], place[None])[0])


def reliability(predictions: pd.DataFrame, bins: int = 15, groups: pd.Series | None = None) -> pd.DataFrame:
    """Return a row per bin of `expected_error`, for a plot, ascending.

    Columns: `low` and `high`, the least and greatest confidence in it; `examples`; `confidence`, their mean;
    `accuracy` with its 95 % interval `accuracy_low`, `accuracy_high` (`intervals.share`, which draws together
    what `groups` says belongs together: "" for none, indexed by id). Shares are 0..1.
    """
    surplus, confidence, place = _surplus(predictions, bins)
    table = pd.DataFrame({"place": place, "confidence": confidence, "right": surplus + confidence})
    table = table.groupby("place").agg(
        low=("confidence", "min"),
        high=("confidence", "max"),
        examples=("right", "size"),
        confidence=("confidence", "mean"),
        accuracy=("right", "mean"),
    )
    whole = None if groups is None else intervals.units(groups, predictions["id"])
    right = (surplus + confidence) > 0.5
    ends = [
        intervals.share(right[place == one], None if whole is None else whole[place == one])
        for one in table.index
    ]
    table["accuracy_low"], table["accuracy_high"] = (list(side) for side in zip(*ends, strict=True))
    return table.reset_index(drop=True)


def _logits(predictions, classes):
    return np.log(np.maximum(classification.probabilities(predictions, classes), _SMALLEST))


def _surplus(predictions, bins):
    """Return right (0 or 1) minus confidence, the confidence, and the bin, (examples,) each."""
    if len(predictions) == 0:
        raise InputError("Received a prediction table without rows: predict at least one example.")
    if bins < 1:
        raise InputError(f"Received bins={bins}; needed is a whole number from 1.")
    right = (predictions["label"].astype(str) == predictions["prediction"].astype(str)).to_numpy(np.float64)
    confidence = predictions["confidence"].to_numpy(np.float64)
    return right - confidence, confidence, bins_of(confidence, bins)


def bins_of(confidence: np.ndarray, most: int = 15) -> np.ndarray:
    """The bin of each example, int64 (examples,), ascending in the confidence: see `expected_error`."""
    count = max(1, min(most, len(confidence) // _PER_BIN))
    # Equal confidences must share a bin, or the result would depend on the order of the rows: so each goes
    # to the bin of the first of its kind, and bins that this leaves empty are dropped.
    first = np.searchsorted(np.sort(confidence), confidence)
    return np.unique(first * count // len(confidence), return_inverse=True)[1]


def _binned(surplus, place):
    """Return sum over bins of |sum of surplus| / examples, (repeats,), from (repeats, examples) of both."""
    repeats, examples = surplus.shape
    bins = int(place.max()) + 1
    cells = place + bins * np.arange(repeats)[:, None]
    sums = np.bincount(cells.ravel(), weights=surplus.ravel(), minlength=repeats * bins)
    return np.abs(sums.reshape(repeats, bins)).sum(axis=1) / examples
