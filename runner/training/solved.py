"""A head that is solved, not trained: logistic regression on what a frozen backbone gives.

It is the strongest cheap rival of any tuning where labels are few (Kornblith et al. 2019, "Do Better ImageNet
Models Transfer Better?", arXiv:1805.08974, compare networks by it), and the place from which the head may
begin: no rate, no epochs, one right answer for each strength of its regularisation.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from scipy import sparse

from runner.devices import multi_worker
from runner.errors import InputError
from runner.networks import inference
from runner.training.fit import Fit

STRENGTHS = tuple(10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0, 1))
"""Tried in this order: scikit-learn's C, of standardised features. Each begins where the last one ended."""
OF_COUNTS = tuple(10.0**power for power in (-1, -0.5, 0, 0.5, 1, 1.5, 2, 3))
"""The same for features that are taken as they are: rows of length 1, most of them 0 (TF-IDF)."""

DEAD = 1e-4
"""A feature whose spread is less than this times the median one is no feature."""


@dataclass(frozen=True)
class Solved:
    """What solving a head took."""

    strength: float
    """The C that was best on validation; the largest is nearly no regularisation."""
    loss: float
    """The validation loss there: mean cross-entropy in nats."""
    seconds: float


def solve(
    network: keras.Model,
    layer: str,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    weights: np.ndarray | None = None,
    *,
    counts: bool = False,
    factors: Sequence[np.ndarray] = (),
) -> Solved:
    """Set a dense layer to multinomial logistic regression on its inputs; nothing else moves.

    The L2 penalty is the one of `STRENGTHS` with the lowest cross-entropy on validation.
    counts: the layer's inputs are mostly 0 and of one scale; they are not standardised, and take no more room
    than what is not 0. The penalty is one of `OF_COUNTS` then.

    layer: the name of a `Dense` without activation that gives the logits, float32 (n, classes).
    train, validation: unbatched dicts with "input" and "label", int64 codes; each is read once, as it is,
    without augmentation. Where the head answers for each token, the labels are of tokens, (length,), and
    those below 0 are left out. Several workers take what the chief solved.
    weights: how much the example with each "id" counts, (ids,), from 0; None: all alike.
    factors: other ways to weigh the layer's inputs, (d,) each, from 0, of which the best on validation is
    taken, or none of them: an input whose factor is .1 costs a hundred times the penalty, one whose factor is
    0 is left out. Not with `counts`.

    Raises InputError for a layer that is not such a head.
    """
    started = time.perf_counter()
    head = network.get_layer(layer)
    if type(head) is not keras.layers.Dense or head.activation is not keras.activations.linear:
        raise InputError(
            f"Received layer={layer!r}, which is a {type(head).__name__}; give a Dense layer without an "
            "activation, whose outputs are the logits."
        )
    if not head.use_bias:
        raise InputError(
            f"Received layer={layer!r}, which has no bias; give a Dense layer with use_bias=True."
        )

    def on_chief() -> dict:
        below = keras.Model(network.input, head.input)
        read = [(_sparse if counts else _dense)(below, split) for split in (train, validation)]
        features, known = (list(part) for part in zip(*read, strict=True))
        labels = [one["label"] for one in known]
        much = [np.ones(len(one["label"])) if weights is None else weights[one["id"]] for one in known]
        if counts:
            kernel, bias, strength, loss = _regression(features, labels, much, head.units, OF_COUNTS)
        else:
            mean, spread = _scale(features[0])
            features = [(one - mean) / spread for one in features]
            found = []
            for factor in (np.ones(len(mean)), *factors):
                given = [one * factor for one in features]
                kernel, *rest = _regression(given, labels, much, head.units, STRENGTHS)
                found.append((kernel * factor[:, None], *rest))
            kernel, bias, strength, loss = min(found, key=lambda one: one[-1])
            kernel = kernel / spread[:, None]
            bias = bias - mean @ kernel
        return {"kernel": kernel.tolist(), "bias": bias.tolist(), "strength": strength, "loss": loss}

    found = multi_worker.from_chief(on_chief, network.distribute_strategy)
    head.kernel.assign(np.array(found["kernel"], "float32"))
    head.bias.assign(np.array(found["bias"], "float32"))
    return Solved(found["strength"], found["loss"], time.perf_counter() - started)


def fit(
    network: keras.Model,
    layer: str,
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    weights: np.ndarray | None = None,
    *,
    counts: bool = False,
    factors: Sequence[np.ndarray] = (),
) -> Fit:
    """`solve` as all there is of a training: a `Fit` without epochs; nothing but the layer is trainable."""
    for one in network.layers:
        one.trainable = one.name == layer
    found = solve(network, layer, train, validation, weights, counts=counts, factors=factors)
    return Fit(pd.DataFrame(), pd.DataFrame(), found.seconds)


def _dense(below: keras.Model, split: tf.data.Dataset) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What a network gives for a split, float64 (n, d), and what is known of each: "label", perhaps "id"."""
    parts = []
    for known, found in inference.batches({"below": inference.forward(below)}, split):
        features, labels = found["below"], known["label"]
        beside = {name: known[name] for name in ("id",) if name in known}  # to look weights up by
        if labels.ndim > 1:
            counts = labels >= 0
            beside = {name: np.repeat(one, counts.sum(axis=1)) for name, one in beside.items()}
            features, labels = features[counts], labels[counts]
        parts.append(beside | {"features": features, "label": labels})
    joined = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    return joined.pop("features").astype("float64"), joined


def _sparse(below: keras.Model, split: tf.data.Dataset) -> tuple[sparse.csr_matrix, dict[str, np.ndarray]]:
    """The same, with features whose zeros are never all in memory."""
    parts = list(inference.batches({"below": inference.forward(below)}, split))
    known = {name: np.concatenate([one[name] for one, _ in parts]) for name in parts[0][0]}
    return sparse.vstack(
        [sparse.csr_matrix(one["below"], dtype="float64") for _, one in parts]
    ).tocsr(), known


def _scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each feature; infinite, so that it weighs nothing, for one that says nothing.

    That is one that is always the same but for rounding, or below DEAD. Standardised it would get a weight of
    1 over its spread (1e30 and more for three units of MiniLM-L6, whose scales have decayed to nothing), and
    with the first step of a tuning the logits would follow it.
    """
    spread = features.std(0)
    moving = spread[spread > 0]
    least = DEAD * np.median(moving) if len(moving) else 0.0
    return features.mean(0), np.where(spread > least, spread, np.inf)


def _regression(
    features: list[Any], labels: list[np.ndarray], counts: list[np.ndarray], classes: int, strengths: tuple
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """The kernel (d, classes), the bias (classes,), C and validation loss of the best of `strengths`.

    features, labels, counts: (n, d), codes (n,) and weights (n,), of training and of validation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, warm_start=True)
    best: Any = None
    losses: list[float] = []
    for strength in strengths:
        model.C = strength
        with warnings.catch_warnings():
            # Weak regularisation of classes that can be parted: the best on validation lies before that.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[0], labels[0], counts[0])
        coefficients, intercept = model.coef_, model.intercept_
        if len(coefficients) == 1:  # of two classes scikit-learn gives the log-odds of the second
            coefficients, intercept = (
                np.concatenate([-one / 2, one / 2]) for one in (coefficients, intercept)
            )
        # A class without training examples is never answered: its logit lies far below all others.
        kernel, bias = np.zeros((features[0].shape[1], classes)), np.full(classes, intercept.min() - 20.0)
        kernel[:, model.classes_] = coefficients.T
        bias[model.classes_] = intercept
        logits = features[1] @ kernel + bias
        logits -= logits.max(1, keepdims=True)
        chances = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        loss = float(np.average(-chances[np.arange(len(logits)), labels[1]], weights=counts[1]))
        losses.append(loss)
        if loss == min(losses):
            best = kernel, bias, strength, loss
        elif len(losses) - losses.index(min(losses)) > 3:  # it only becomes worse, and slower to solve
            break
    return best
