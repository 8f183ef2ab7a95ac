"""The methods: what each adds to the classification loss of the labelled source, with equation and paper.

Each is a function of features (n, d) and logits (n, classes) of source and target pictures, float32, that
returns one number to be made small. None sees a label of the target. Written in `keras.ops`.

Notation: f are features, g logits, p = softmax(g); s marks the source, t the target; D is the domain
classifier, whose logit is above 0 for "source".
"""

import keras
from keras import ops

from runner.moving import batch_norm


def reverse_gradient(features, strength=1.0):
    """Return the features as they are; on the way back their gradient is multiplied by -strength.

    R(x) = x and dR/dx = -strength I: the gradient reversal layer of Ganin et al., "Domain-adversarial
    training of neural networks" (JMLR 2016, arXiv:1505.07818). The domain classifier above it learns to tell
    the domains apart, what lies below learns to make that impossible.
    """

    @ops.custom_gradient
    def identity(values):
        def gradient(upstream):
            return -strength * upstream

        return values, gradient

    return identity(features)


def domain_confusion(domain_source, domain_target, weight_source=None, weight_target=None):
    """DANN, and CDAN with what it gives the domain classifier to see: its cross-entropy.

    L = -1/2 mean_s log sigmoid(D(s)) - 1/2 mean_t log(1 - sigmoid(D(t))): Ganin et al. (JMLR 2016,
    arXiv:1505.07818). What D sees reaches it through `reverse_gradient`.

    domain_source, domain_target: the domain classifier's logits, (n, 1) or (n,). weight_*: (n,), of the
    pictures; only their proportions count.
    """
    losses = ops.softplus(-ops.reshape(domain_source, [-1])), ops.softplus(ops.reshape(domain_target, [-1]))
    weights = weight_source, weight_target
    each = [
        ops.mean(loss) if weight is None else ops.sum(weight * loss) / ops.sum(weight)
        for loss, weight in zip(losses, weights, strict=True)
    ]
    return (each[0] + each[1]) / 2


def conditioned(features, logits):
    """CDAN: what its domain classifier sees, the products of every feature with every probability.

    T(f, g) = f (x) p, flattened to (n, d * classes): Long et al., "Conditional adversarial domain adaptation"
    (NeurIPS 2018, arXiv:1705.10667). So the domains are aligned class by class, as far as the
    predictions are right. As in the authors' code no gradient flows through p.
    """
    probabilities = ops.stop_gradient(ops.softmax(logits))
    products = probabilities[:, :, None] * features[:, None, :]
    return ops.reshape(products, [-1, features.shape[1] * logits.shape[1]])


def certainty(logits):
    """CDAN: how much a picture counts, 1 + exp(-H(p)), (n,); no gradient flows through it."""
    return ops.stop_gradient(1 + ops.exp(-entropy(logits)))


def entropy(logits):
    """H(p) = -sum_c p_c log p_c of each row, in nats: (n,)."""
    return -ops.sum(ops.softmax(logits) * ops.log_softmax(logits), axis=1)


def squared_distances(first, second):
    """The squared Euclidean distance of every row (n, d) to every row (m, d): (n, m)."""
    squares = ops.sum(first**2, axis=1)[:, None] + ops.sum(second**2, axis=1)[None, :]
    return ops.maximum(squares - 2 * ops.matmul(first, ops.transpose(second)), 0.0)


def mmd(features_source, features_target, widths=(0.25, 0.5, 1.0, 2.0, 4.0)):
    """MMD: the squared maximum mean discrepancy of two samples under a mean of Gaussian kernels.

    MMD^2 = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),
    k(x, y) = mean_w exp(-|x - y|^2 / (w m)), m the mean of |x - y|^2 over all pairs of both samples.
    Long et al., "Learning transferable features with deep adaptation networks" (DAN, ICML 2015,
    arXiv:1502.02791), as the biased estimate over all pairs, which is 0 for equal samples
    and never below. No gradient flows through m.
    """
    together = ops.concatenate([features_source, features_target])
    squares = squared_distances(together, together)
    scale = ops.stop_gradient(ops.mean(squares)) + 1e-12
    kernel = sum(ops.exp(-squares / (width * scale)) for width in widths) / len(widths)
    n = ops.shape(features_source)[0]
    return ops.mean(kernel[:n, :n]) + ops.mean(kernel[n:, n:]) - 2 * ops.mean(kernel[:n, n:])


def coral(features_source, features_target):
    """Deep CORAL: how far the covariances of the features are apart.

    L = |C_s - C_t|_F^2 / (4 d^2): Sun and Saenko, "Deep CORAL" (ECCV 2016 workshops, arXiv:1607.01719),
    equation 1.
    """
    dimensions = features_source.shape[1]
    difference = covariance(features_source) - covariance(features_target)
    return ops.sum(difference**2) / (4 * dimensions**2)


def covariance(features):
    """The covariance matrix (d, d) of rows (n, d), over n - 1."""
    centred = features - ops.mean(features, axis=0)
    rows = ops.cast(ops.shape(features)[0], features.dtype)
    return ops.matmul(ops.transpose(centred), centred) / ops.maximum(rows - 1, 1)


def class_confusion(logits_target, temperature=2.5):
    """MCC: how much the predictions on the target confuse the classes with each other.

    q = softmax(g / T), w_i = n (1 + exp(-H(q_i))) / sum_j (1 + exp(-H(q_j))),
    C = q^T diag(w) q, C~ = C with each row divided by its sum, L = sum_{c != c'} C~_cc' / classes.
    Jin et al., "Minimum class confusion for versatile domain adaptation" (ECCV 2020, arXiv:1912.03699). No
    gradient flows through w.
    """
    scaled = logits_target / temperature
    probabilities, weights = ops.softmax(scaled), certainty(scaled)
    weights = weights / ops.mean(weights)
    confusion = ops.matmul(ops.transpose(probabilities * weights[:, None]), probabilities)
    confusion = confusion / ops.sum(confusion, axis=1, keepdims=True)
    classes = logits_target.shape[1]
    return (ops.sum(confusion) - ops.trace(confusion)) / classes


def pseudo_labels(logits_weak, logits_strong, threshold=0.95):
    """Pseudo-labels: what a target picture is taken for, where that is certain, holds for a stronger view.

    L = mean_i [max p_i >= threshold] * -log p'_i[argmax p_i], p of the weakly, p' of the strongly augmented
    view. Sohn et al., "FixMatch" (NeurIPS 2020, arXiv:2001.07685), equation 4. No gradient flows through p.
    """
    probabilities = ops.stop_gradient(ops.softmax(logits_weak))
    certain = ops.cast(ops.max(probabilities, axis=1) >= threshold, logits_strong.dtype)
    taken_for = ops.one_hot(ops.argmax(probabilities, axis=1), logits_weak.shape[1])
    return ops.mean(certain * -ops.sum(taken_for * ops.log_softmax(logits_strong), axis=1))


def adapt_batch_norm(network: keras.Model, batches) -> None:
    """AdaBN: give the network the BatchNorm statistics of other pictures; its weights stay.

    Every mean and variance becomes that over `batches` (uint8 pictures, the network's input), so that each
    layer is normalised by what the target has there. Li et al., "Adaptive batch normalization for practical
    domain adaptation" (Pattern Recognition 2018, arXiv:1603.04779), algorithm 1.
    """
    layers = [
        layer
        for layer in network._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    flags = [layer.trainable for layer in layers]
    try:
        for layer in layers:
            layer.trainable = True  # a layer that is frozen would keep its statistics
        batch_norm.reestimate(network, batches)
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer.trainable = flag
