"""Scores of a source by what its frozen features say about labels: how well it will transfer, untrained.

Each looks at features or answers that were computed once, and trains no network. None is a promise: each is
correlated with what fine-tuning gives, on some data more and on some less (docs/choosing.md has figures).
All are computed in float64. More is better.
"""

import numpy as np

from runner.errors import InputError

SMALLEST = 1e-12
"""Eigenvalues below this times the largest are rounding."""
RATIOS = 201
"""How many ratios of precisions are tried; between them the evidence is taken for a parabola."""
LEAST_NOISE, MOST_NOISE = 1e-9, 1e9
"""The range of the ratio, in mean squared singular values: features that explain labels without any rest, or
not at all, have their best at an end.
"""


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """LogME: the mean over classes of the log evidence of labels given features, per example, in nats.

    For each class y = 1 for its examples and 0 for others, and y = F w + noise with w ~ N(0, I / alpha) and
    noise ~ N(0, I / beta). LogME is max over alpha, beta of log p(y | F, alpha, beta) / n, averaged over the
    classes (You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    arXiv:2102.11005, equations 2 to 4). With t = alpha / beta, F = U S V' and z = U' y,

        y ~ N(0, (F F' + t I) / alpha),   n / alpha = Q(t) = sum_j z_j^2 / (s_j^2 + t) + (y'y - z'z) / t
        log p = -n/2 log(2 pi e Q / n) - 1/2 sum_j log(s_j^2 + t) - (n - r)/2 log t

    where alpha is the best for this t, so that t alone is left to search: the paper iterates to the same
    maximum.

    features: float (n, d), neither centred nor scaled. labels: whole numbers (n,); classes without examples
    do not count. Does not change when features are rotated or all are multiplied by a number.
    Raises InputError for shapes that do not fit, no examples, and numbers that are not finite.
    """
    features, codes = _checked(features, labels)
    examples = len(codes)
    targets = (codes[:, None] == np.unique(codes)).astype(np.float64)
    left, squares = _spectrum(features)
    along = (left.T @ targets) ** 2
    rest = np.maximum((targets**2).sum(0) - along.sum(0), 0.0)
    noise = np.geomspace(LEAST_NOISE, MOST_NOISE, RATIOS) * (squares.mean() if len(squares) else 1.0)
    grown = squares[:, None] + noise
    power = along.T @ (1 / grown) + rest[:, None] / noise
    size = np.log(grown).sum(0) + (examples - len(squares)) * np.log(noise)
    constant = np.log(2 * np.pi / examples) + 1
    evidence = -(np.log(np.maximum(power, np.finfo(float).tiny)) + size / examples + constant) / 2
    return float(_peaks(evidence).mean())


def _peaks(values: np.ndarray) -> np.ndarray:
    """The maximum of each row (m, points), of the parabola through the highest point and its neighbours."""
    rows = np.arange(len(values))
    best = values.argmax(1)
    middle = np.clip(best, 1, values.shape[1] - 2)
    before, at, after = (values[rows, middle + step] for step in (-1, 0, 1))
    slope, bend = (after - before) / 2, before - 2 * at + after
    inside = (best == middle) & (bend < 0)
    return np.where(inside, at - slope**2 / (2 * np.where(inside, bend, -1.0)), values[rows, best])


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """The regularised H-score: how much of the features' variance lies between the classes.

        H = trace(((1 - a) C + a m I)^-1 (1 - a) B)

    C is the covariance of the features, B that of their class means (each counted as often as its class has
    examples), m = trace(C) / d, and a the shrinkage of Ledoit and Wolf (2004), which keeps C invertible where
    features outnumber examples (Ibrahim, Ponomareva and Mazumder 2022, "Newer is not always better:
    Rethinking transferability metrics, their peculiarities, stability and performance", arXiv:2110.06893;
    without shrinkage Bao et al. 2019). From 0 to the number of classes less one.

    features: float (n, d). labels: whole numbers (n,). Does not change when features are moved, rotated or
    all are multiplied by a number. Raises InputError as `logme`.
    """
    features, codes = _checked(features, labels)
    examples, width = features.shape
    centred = features - features.mean(0)
    left, squares = _spectrum(centred)
    total = squares.sum() / examples
    if not len(squares):
        return 0.0
    mean = total / width
    # All that the shrinkage needs are norms: |C|^2 is the sum of squared eigenvalues, |x x'|^2 is |x|^4.
    of_covariance = (squares**2).sum() / examples**2
    spread = max(0.0, (((centred**2).sum(1) ** 2).mean() - of_covariance) / examples)
    distance = of_covariance - width * mean**2
    shrinkage = 1.0 if distance <= 0 else min(spread / distance, 1.0)
    # B = X' P X / n with P the mean within a class; in the coordinates of U a row of P U is a class's mean.
    counts = np.bincount(codes)
    sums = np.zeros((len(counts), left.shape[1]))
    np.add.at(sums, codes, left)
    between = (sums[counts > 0] ** 2 / counts[counts > 0, None]).sum(0)
    values = squares / examples
    return float(((1 - shrinkage) * values * between / ((1 - shrinkage) * values + shrinkage * mean)).sum())


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """LEEP: the mean log chance that the source's own answers give to the labels, in nats; at most 0.

        LEEP = 1/n sum_i log sum_z p(y_i | z) theta(x_i)_z,   p(y, z) = 1/n sum_{i: y_i = y} theta(x_i)_z

    (Nguyen et al. 2020, "LEEP: A New Measure to Evaluate Transferability of Learned Representations",
    arXiv:2002.12462). Never below `nce` of hard answers when these are what probabilities say.

    probabilities: float (n, classes of the source), each row sums to 1: theta. labels: whole numbers (n,).
    Raises InputError as `logme`, and for rows that are no probabilities.
    """
    probabilities, codes = _checked(probabilities, labels)
    if probabilities.min() < 0 or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise InputError("probabilities has rows that do not sum to 1; give those of a softmax.")
    joint = np.zeros((int(codes.max()) + 1, probabilities.shape[1]))
    np.add.at(joint, codes, probabilities)
    of_source = joint.sum(0)
    chances = joint / np.where(of_source > 0, of_source, 1.0)
    found = (chances[codes] * probabilities).sum(1)
    return float(np.log(np.maximum(found, np.finfo(float).tiny)).mean())


def nce(answers: np.ndarray, labels: np.ndarray) -> float:
    """NCE: the negative conditional entropy of labels given what the source answers, in nats; at most 0.

        NCE = -H(Y | Z) = sum_{y, z} p(y, z) log p(y | z)

    (Tran, Nguyen and Hassner 2019, "Transferability and Hardness of Supervised Classification Tasks",
    arXiv:1908.08142). 0 where each answer of the source goes with one label.

    answers: whole numbers (n,), the source's likeliest class. labels: whole numbers (n,).
    Raises InputError as `logme`.
    """
    _, codes = _checked(np.asarray(answers)[:, None], labels)
    sources = np.unique(np.asarray(answers), return_inverse=True)[1]
    joint = np.zeros((int(codes.max()) + 1, int(sources.max()) + 1))
    np.add.at(joint, (codes, sources), 1 / len(codes))
    chances = joint / joint.sum(0)
    there = joint > 0
    return float((joint[there] * np.log(chances[there])).sum())


def _checked(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (n, d) and codes from 0 without gaps (n,); InputError for what is neither."""
    values, labels = np.asarray(values, np.float64), np.asarray(labels)
    if values.ndim != 2 or labels.shape != values.shape[:1] or not values.size:
        raise InputError(
            f"Received values of shape {values.shape} and labels of shape {labels.shape}; give (examples, "
            "features) and (examples,), at least one of each."
        )
    if not np.isfinite(values).all():
        raise InputError("Received values of which some are not finite; look for what made them so.")
    return values, np.unique(labels, return_inverse=True)[1]


def _spectrum(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (n, r) and squared singular values (r,), those that are not 0, from the
    smaller of the two Gram matrices.
    """
    wide = features.shape[1] >= features.shape[0]
    squares, vectors = np.linalg.eigh(features @ features.T if wide else features.T @ features)
    there = squares > SMALLEST * max(squares[-1], np.finfo(float).tiny)
    squares, vectors = squares[there], vectors[:, there]
    return (vectors if wide else features @ vectors / np.sqrt(squares)), squares
