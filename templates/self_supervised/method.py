"""The losses that need no labels, and what tells of features whether they are of use.

All losses take the projections of two views of the same pictures, float (n, d) each, row i of both of picture
i, and give one float32 number. They differ in what keeps them from the answer that costs nothing, one
projection for all pictures: other pictures to be told apart from (SimCLR), a gradient that is stopped
(SimSiam), dimensions that must differ from each other (Barlow Twins) and spread (VICReg).
"""

import keras
import numpy as np
from keras import ops

NAMES = ("SimCLR", "SimSiam", "Barlow Twins", "VICReg")


def nt_xent(first, second, temperature: float = 0.5):
    """SimCLR: each view is to find the other view of its picture among all other views of the batch.

    L = mean_i -log exp(s_ij / t) / sum_{k != i} exp(s_ik / t) over the 2 n views, s the cosine of two
    projections, j the other view of the picture of i. Chen et al., "A simple framework for contrastive
    learning of visual representations" (ICML 2020, arXiv:2002.05709), equation 1.
    """
    views = ops.normalize(ops.cast(ops.concatenate([first, second]), "float32"), axis=1, epsilon=1e-6)
    count = ops.shape(views)[0]
    cosines = ops.matmul(views, ops.transpose(views)) / temperature
    cosines = cosines - 1e9 * ops.eye(count)
    other_view = ops.roll(ops.arange(count), count // 2)
    return ops.mean(keras.losses.sparse_categorical_crossentropy(other_view, cosines, from_logits=True))


def simsiam(first, second, predicted_first, predicted_second):
    """SimSiam: what a predictor makes of one view's projection is to point where the other's does.

    L = -(cos(p_1, stop(z_2)) + cos(p_2, stop(z_1))) / 2, p = h(z), no gradient through what is stopped. Chen
    and He, "Exploring simple Siamese representation learning" (CVPR 2021, arXiv:2011.10566), equations 1 to
    4. Without the stop all projections become one (their section 4.1): -1 is reached by that alone.
    """

    def apart(predicted, projection):
        projection = ops.stop_gradient(projection)
        pair = (ops.normalize(ops.cast(one, "float32"), axis=1) for one in (predicted, projection))
        return -ops.mean(ops.sum(ops.multiply(*pair), axis=1))

    return (apart(predicted_first, second) + apart(predicted_second, first)) / 2


def barlow_twins(first, second, redundancy: float = 5e-3):
    """Barlow Twins: over the batch, each dimension of one view is to follow the same one of the other view
    and no other.

    C = Z_1^T Z_2 / n of dimensions with mean 0 and deviation 1; L = sum_i (1 - C_ii)^2 + redundancy
    sum_{i != j} C_ij^2. Zbontar et al., "Barlow Twins: self-supervised learning via redundancy reduction"
    (ICML 2021, arXiv:2103.03230), equations 1 and 2.
    """

    def whole(one):
        one = ops.cast(one, "float32")
        return (one - ops.mean(one, axis=0)) / (ops.std(one, axis=0) + 1e-5)

    count = ops.cast(ops.shape(first)[0], "float32")
    correlation = ops.matmul(ops.transpose(whole(first)), whole(second)) / count
    same = ops.diagonal(correlation)
    apart = ops.sum(ops.square(correlation)) - ops.sum(ops.square(same))
    return ops.sum(ops.square(1 - same)) + redundancy * apart


def vicreg(first, second):
    """VICReg: two views lie together, each dimension spreads over the batch, no two of them go together.

    L = 25 s + 25 (v_1 + v_2) + c_1 + c_2, s the mean squared difference of a dimension, v = mean_j max(0, 1 -
    sqrt(var z_j + 1e-4)), c = sum_{i != j} cov_ij^2 / d. Bardes et al., "VICReg: variance-invariance-
    covariance regularization" (ICLR 2022, arXiv:2105.04906), equations 1 to 6, with the weights of its
    section 4.2.
    """

    def spread_and_shared(one):
        one = ops.cast(one, "float32")
        one = one - ops.mean(one, axis=0)
        count, width = ops.cast(ops.shape(one)[0], "float32"), one.shape[1]
        covariance = ops.matmul(ops.transpose(one), one) / (count - 1)
        own = ops.diagonal(covariance)
        shared = (ops.sum(ops.square(covariance)) - ops.sum(ops.square(own))) / width
        return ops.mean(ops.relu(1 - ops.sqrt(own + 1e-4))), shared

    near = ops.mean(ops.square(ops.cast(first, "float32") - ops.cast(second, "float32")))
    (spread_first, shared_first), (spread_second, shared_second) = map(spread_and_shared, (first, second))
    return 25 * near + 25 * (spread_first + spread_second) + shared_first + shared_second


# ---------------------------------------------------------------- features, without a label


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """How far apart two views of a picture lie: the mean of |x - y|^2 of rows of length 1, 0 to 4, lower is
    better. Wang and Isola, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere" (ICML 2020, arXiv:2005.10242), equation 4 with alpha 2.

    first, second: float (n, d), a row per picture.
    """
    first, second = of_length_1(first), of_length_1(second)
    return float(np.square(first - second).sum(axis=1).mean())


def uniformity(features: np.ndarray) -> float:
    """How evenly pictures lie on the sphere: log mean_{i != j} exp(-2 |x_i - x_j|^2) of rows of length 1,
    from 0 (all in one place) down to nearly -4; lower is better. Equation 5 of the same paper with t = 2.
    """
    rows = of_length_1(features)
    cosines = rows @ rows.T
    apart = 2 - 2 * cosines[~np.eye(len(rows), dtype=bool)]
    return float(np.log(np.exp(-2 * apart).mean()))


def effective_rank(features: np.ndarray) -> float:
    """How many directions features take: exp of the entropy of their singular values over the sum of these,
    1 to d. Garrido et al., "RankMe: assessing the downstream performance of pretrained self-supervised
    representations by their rank" (ICML 2023, arXiv:2210.02885), equation 1; here of features less their
    mean, which of others would be the first direction.
    """
    rows = np.asarray(features, np.float64)
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    total = values.sum()
    if total == 0:
        return 1.0
    share = values / total + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def spread(features: np.ndarray) -> float:
    """How far pictures lie from each other: the deviation of a dimension of rows of length 1, times the root
    of the number of dimensions; 1 for evenly spread ones and 0 for one place for all (figure 2 of SimSiam).
    """
    rows = of_length_1(features)
    return float(np.sqrt(rows.shape[1] * np.square(rows - rows.mean(axis=0)).mean()))


def of_length_1(features: np.ndarray) -> np.ndarray:
    """Rows divided by their length, float64."""
    rows = np.asarray(features, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def nearest(features: np.ndarray, among: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `among` that lie nearest by their cosine, nearest first: int64 (n, count), and the cosines.

    features: float (n, d); among: float (m, d), m at least count.
    """
    cosines = of_length_1(features) @ of_length_1(among).T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(cosines, order, axis=1)


def neighbours_vote(
    features: np.ndarray, among: np.ndarray, labels: np.ndarray, classes: int, count: int = 5
) -> np.ndarray:
    """The class that most of the nearest neighbours have, each counted by exp(cosine / .07): int64 (n,). Wu
    et al., "Unsupervised feature learning via non-parametric instance discrimination" (CVPR 2018,
    arXiv:1805.01978), section 3.4.

    labels: int64 (m,), of the rows of `among`.
    """
    rows, cosines = nearest(features, among, min(count, len(among)))
    votes = np.zeros((len(features), classes))
    np.add.at(votes, (np.arange(len(rows))[:, None], labels[rows]), np.exp(cosines / 0.07))
    return votes.argmax(axis=1)
