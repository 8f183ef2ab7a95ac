"""A head that is solved, not trained: logistic regression on what a frozen backbone gives.

It is the strongest cheap rival of any tuning where labels are few (Kornblith et al. 2019, "Do Better ImageNet
Models Transfer Better?", arXiv:1805.08974, compare networks by it), and the place from which the head may
begin: no rate, no epochs, one right answer for each strength of its regularisation.
"""

import time
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from runner.devices import multi_worker
from runner.errors import InputError
from runner.networks import inference
from runner.training.fit import Fit

STRENGTHS = tuple(10.0**power for power in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0, 1))
"""Tried in this order: scikit-learn's C, of standardised features. Each begins where the last one ended."""


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
) -> Solved:
    """Set a dense layer to multinomial logistic regression on its inputs; nothing else moves.

    The L2 penalty is the one of `STRENGTHS` with the lowest cross-entropy on validation.

    layer: the name of a `Dense` without activation that gives the logits, float32 (n, classes).
    train, validation: unbatched dicts with "input" and "label", int64 codes; each is read once, as it is,
    without augmentation. Several workers take what the chief solved.
    weights: how much the example with each "id" counts, (ids,), from 0; None: all alike.

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
        known, inputs = zip(
            *(inference.outputs({"below": below}, split) for split in (train, validation)), strict=True
        )
        features, labels = (
            [one[name] for one in found] for found, name in ((inputs, "below"), (known, "label"))
        )
        counts = [np.ones(len(one["label"])) if weights is None else weights[one["id"]] for one in known]
        kernel, bias, strength, loss = _regression(features, labels, counts, head.units)
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
) -> Fit:
    """`solve` as all there is of a training: a `Fit` without epochs; nothing but the layer is trainable."""
    for one in network.layers:
        one.trainable = one.name == layer
    found = solve(network, layer, train, validation, weights)
    return Fit(pd.DataFrame(), pd.DataFrame(), found.seconds)


def _regression(
    features: list[np.ndarray], labels: list[np.ndarray], counts: list[np.ndarray], classes: int
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """The kernel (d, classes), the bias (classes,), C and validation loss of the best of `STRENGTHS`.

    features, labels, counts: (n, d), codes (n,) and weights (n,), of training and of validation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, validation = (one.astype("float64") for one in features)
    mean, spread = train.mean(0), train.std(0)
    spread[spread == 0] = 1.0  # a feature that is always the same says nothing
    model = LogisticRegression(max_iter=1000, warm_start=True)
    best: Any = None
    losses: list[float] = []
    for strength in STRENGTHS:
        model.C = strength
        with warnings.catch_warnings():
            # Weak regularisation of classes that can be parted: the best on validation lies before that.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((train - mean) / spread, labels[0], counts[0])
        coefficients, intercept = model.coef_, model.intercept_
        if len(coefficients) == 1:  # of two classes scikit-learn gives the log-odds of the second
            coefficients, intercept = (
                np.concatenate([-one / 2, one / 2]) for one in (coefficients, intercept)
            )
        # A class without training examples is never answered: its logit lies far below all others.
        kernel, bias = np.zeros((train.shape[1], classes)), np.full(classes, intercept.min() - 20.0)
        kernel[:, model.classes_] = (coefficients / spread).T
        bias[model.classes_] = intercept - coefficients @ (mean / spread)
        logits = validation @ kernel + bias
        logits -= logits.max(1, keepdims=True)
        chances = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        loss = float(np.average(-chances[np.arange(len(logits)), labels[1]], weights=counts[1]))
        losses.append(loss)
        if loss == min(losses):
            best = kernel, bias, strength, loss
        elif len(losses) - losses.index(min(losses)) > 3:  # it only becomes worse, and slower to solve
            break
    return best
