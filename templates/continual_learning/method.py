"""What keeps a network from forgetting, each with its equation and paper, and the two heads that are solved.

Logits are float32 (n, classes), labels one-hot (n, classes). A mask (n, classes) or (classes,) has 1 for the
classes that may be answered; others take no part, whatever their logits. theta are the weights that train.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

FAR = 1e9
"""What is taken from the logit of a class that takes no part."""


def masked(logits, mask):
    """Logits of which only those of the mask can win, or bear probability."""
    return ops.cast(logits, "float32") - FAR * (1.0 - ops.cast(mask, "float32"))


def cross_entropy(labels, logits, mask):
    """-log p(label) of each example over the classes of the mask, in nats: (n,)."""
    return -ops.sum(labels * ops.log_softmax(masked(logits, mask)), axis=1)


# ---------------------------------------------------------------- weights that matter are held


def quadratic(weights: Sequence, anchors: Sequence, importances: Sequence):
    """sum_k I_k (theta_k - theta*_k)^2: the penalty of EWC (times lambda / 2) and of SI (times c)."""
    terms = [
        ops.sum(importance * (ops.cast(weight, "float32") - anchor) ** 2)
        for weight, anchor, importance in zip(weights, anchors, importances, strict=True)
    ]
    return sum(terms, ops.zeros(()))


def fisher(
    logits_of: Callable, weights: Sequence[keras.Variable], inputs: np.ndarray, masks: np.ndarray
) -> list[np.ndarray]:
    """EWC: the diagonal of the Fisher information, F_k = mean_x E_{y ~ p(y|x)} (d log p(y|x) / d theta_k)^2.

    Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (PNAS 2017, arXiv:1612.00796).
    The expectation over y is taken exactly, over the classes of each row's mask, and not by the labels.

    logits_of: inputs (1, ...) to logits (1, classes). weights: variables. inputs: (n, ...). masks: (n,
    classes). Returns arrays of the shapes of the weights, float32.
    """
    watched = [one.value for one in weights]

    @tf.function(reduce_retracing=True, autograph=False)
    def one(row, mask, label):
        with tf.GradientTape() as tape:
            # One row at a time: squares of a batch's mean gradient are no mean of squares.
            chances = ops.log_softmax(masked(logits_of(row), mask))[0]
            chosen = tf.gather(chances, label)
        share = tf.exp(tf.gather(chances, label))
        gradients = tape.gradient(chosen, watched, unconnected_gradients="zero")
        return [share * tf.cast(gradient, tf.float32) ** 2 for gradient in gradients]

    total = [np.zeros(tuple(weight.shape), np.float64) for weight in weights]
    for row, mask in zip(inputs, masks, strict=True):
        for label in np.flatnonzero(mask):
            found = one(
                tf.constant(row[None]), tf.constant(mask[None], tf.float32), tf.constant(label, tf.int64)
            )
            for place, term in zip(total, found, strict=True):
                place += term.numpy()
    return [(place / len(inputs)).astype(np.float32) for place in total]


def joined_anchor(
    importance: np.ndarray, anchor: np.ndarray, new_importance: np.ndarray, new_anchor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """EWC: the penalties of two tasks as one, which has the same gradient everywhere.

    F (theta - a)^2 + G (theta - b)^2 = (F + G) (theta - (F a + G b) / (F + G))^2 + constant. So the penalty
    of every task stays, as in Kirkpatrick et al., and takes the room of one.
    """
    both = importance + new_importance
    mixed = importance * anchor + new_importance * new_anchor
    return both, np.where(both > 0, mixed / np.where(both > 0, both, 1), new_anchor).astype(np.float32)


def path_integral(path, gradient, before, after):
    """SI: omega_k - g_k (theta_k after - theta_k before), what a step's move of a weight took off the loss.

    Zenke et al., "Continual learning through synaptic intelligence" (ICML 2017, arXiv:1703.04200), equation
    3; g is the gradient of the task's own loss, without the penalty.
    """
    return path - gradient * (after - before)


def synaptic_importance(path: np.ndarray, way: np.ndarray, damping: float) -> np.ndarray:
    """SI: what a finished task adds to each weight's importance, omega_k / (Delta_k^2 + xi) (equation 5).

    way: Delta, how far the weight came in the task. Below 0, where a move made the loss larger, it adds none.
    """
    return np.maximum(path / (way**2 + damping), 0).astype(np.float32)


# ---------------------------------------------------------------- answers of then


def distillation(recorded, logits, mask, temperature: float):
    """LwF: -sum_c q_c log p_c, q and p the softmax of logits / T then and now, over the old classes: (n,).

    Li and Hoiem, "Learning without forgetting" (ECCV 2016, arXiv:1606.09282), equations 2 to 4: what the
    network answered to the new task's pictures before it was trained on them. 0 where the mask is empty.
    """
    then = ops.softmax(masked(recorded / temperature, mask))
    now = ops.log_softmax(masked(logits / temperature, mask))
    there = ops.max(ops.cast(mask, "float32"), axis=-1)
    return there * -ops.sum(ops.stop_gradient(then) * ops.cast(mask, "float32") * now, axis=1)


def dark_experience(stored, logits, mask):
    """DER++: the mean of (z - z then)^2 over the classes of the mask: (n,).

    Buzzega et al., "Dark experience for general continual learning" (NeurIPS 2020, arXiv:2004.07211),
    equation 6: L = CE(new) + alpha |z - z then|^2 + beta CE(old), the last two on two draws from what is
    kept. Theirs keeps the logits of the step at which a picture came; here they are those at the end of its
    task. Of a class that came later z then is 0, what a head that begins as 0 gave: this holds new classes
    down on old pictures.
    """
    mask = ops.cast(mask, "float32")
    squares = mask * (ops.cast(logits, "float32") - stored) ** 2
    return ops.sum(squares, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)


# ---------------------------------------------------------------- heads that are solved


class Statistics:
    """What streaming LDA and class means know of features: counts, means, and the scatter within classes.

    Hayes and Kanan, "Lifelong machine learning with deep streaming linear discriminant analysis" (CVPR
    workshops 2020, arXiv:1909.01520), equations 2 to 4. They update the covariance with t / (t + 1) for the
    count of all examples; here it is the count of the class (Welford 1962, for several rows at once Chan et
    al. 1979), so that any order of the examples, and any division into tasks, gives the covariance of all of
    them at once.
    """

    def __init__(self, classes: int, features: int):
        self.counts = np.zeros(classes)
        self.means = np.zeros((classes, features))
        self.scatter = np.zeros((features, features))

    def update(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Take in examples: features (n, d), labels int (n,)."""
        for label in np.unique(labels):
            rows = features[labels == label].astype(np.float64)
            count, before = len(rows), self.counts[label]
            mean = rows.mean(axis=0)
            apart = mean - self.means[label]
            self.scatter += (rows - mean).T @ (rows - mean)
            self.scatter += before * count / (before + count) * np.outer(apart, apart)
            self.means[label] += count / (before + count) * apart
            self.counts[label] += count

    def lda(self, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (d, classes) and bias (classes,) of LDA: w_c = P mu_c, b_c = -1/2 mu_c P mu_c, with P the
        inverse of (1 - e) S + e I, S the scatter over the count of all; classes count alike.
        """
        covariance = self.scatter / max(self.counts.sum(), 1)
        covariance = (1 - shrinkage) * covariance + shrinkage * np.eye(len(covariance))
        kernel = np.linalg.solve(covariance, self.means.T)
        return self._seen(kernel, -(self.means * kernel.T).sum(axis=1) / 2)

    def nearest_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """The same for the nearest class mean: -|f - mu_c|^2 / 2 = f mu_c - |mu_c|^2 / 2 + what all share."""
        return self._seen(self.means.T.copy(), -(self.means**2).sum(axis=1) / 2)

    def _seen(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """With 0 for a class of which nothing was seen; a mask keeps it from being answered."""
        seen = self.counts > 0
        return np.where(seen, kernel, 0).astype(np.float32), np.where(seen, bias, 0).astype(np.float32)
