"""How an episode is answered, each with its equation and paper: by class means, by logistic regression, or by
a network that takes some steps on the support pictures first.

What answers gives scores, float32 (episodes, questions, ways), higher for what is likelier. `features` are
rows (pictures, d), of which `support`, int64 (episodes, ways, shots), and `asked`, int64 (episodes,
questions), name some.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

SCALE = 10.0
"""What cosines are multiplied by to become logits, in fine-tuning."""


def nearest_mean(features: np.ndarray, support: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Minus the squared Euclidean distance to the mean of each class's support: -|f(x) - c_k|^2.

    Snell et al., "Prototypical networks for few-shot learning" (NeurIPS 2017, arXiv:1703.05175), equations 1
    and 2. On features that are centred and normalised this is CL2N of Wang et al., "SimpleShot" (2019,
    arXiv:1911.04623), on features that are only normalised L2N, on features as they are UN.
    """
    found = []
    for own, questions in zip(support, asked, strict=True):
        means = features[own].mean(axis=1)
        queries = features[questions]
        squares = (queries**2).sum(axis=1)[:, None] + (means**2).sum(axis=1)[None]
        found.append(2 * queries @ means.T - squares)
    return np.stack(found).astype(np.float32)


def logistic(features: np.ndarray, support: np.ndarray, asked: np.ndarray, strength: float) -> np.ndarray:
    """The log-odds of logistic regression on the support, solved anew for each episode.

    strength: scikit-learn's C. The solver has one thread: many tiny problems only wait for each other's.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    episodes, ways, shots = support.shape
    labels = np.repeat(np.arange(ways), shots)
    found = np.zeros((episodes, asked.shape[1], ways), np.float32)
    model = LogisticRegression(C=strength, max_iter=200)
    with threadpool_limits(1):
        for number in range(episodes):
            model.fit(features[support[number].ravel()], labels)
            odds = model.decision_function(features[asked[number]])
            found[number] = odds if ways > 2 else np.stack([-odds, odds], axis=1) / 2
    return found


# ---------------------------------------------------------------- losses of training by episodes


def prototypical(support, queries):
    """ProtoNet: logits (queries, ways) of an episode, -|f(x) - c_k|^2 (Snell et al. 2017, equations 1 and 2).

    support: (ways, shots, d). queries: (queries, d). Their softmax cross-entropy is the loss (equation 2).
    """
    means = ops.mean(support, axis=1)
    squares = ops.sum(queries**2, axis=1)[:, None] + ops.sum(means**2, axis=1)[None]
    return 2 * ops.matmul(queries, ops.transpose(means)) - squares


def adapted(
    network: keras.Model,
    weights: Sequence,
    moving: Sequence[bool],
    pictures,
    labels,
    steps: int,
    rate: float,
    *,
    training: bool,
    first_order: bool = False,
) -> list:
    """MAML's inner loop: the weights after some steps of gradient descent on the support of an episode.

    theta' = theta - alpha grad L(theta), repeated: Finn et al., "Model-agnostic meta-learning" (ICML 2017,
    arXiv:1703.03400), equation 1. What is returned depends on `weights`, so that a tape outside finds the
    gradient of a loss of theta' with respect to theta; with first_order the inner gradients count as
    constants (section 5.2). ANIL moves the head alone (Raghu et al. 2020, arXiv:1909.09157).

    network: gives logits. weights: of its trainable variables, tensors; moving: which of them move here.
    pictures, labels: of the support; labels int (n,). training: whether BatchNorm takes the statistics of the
    pictures at hand, which makes the answers transductive.
    """
    fixed = [one.value for one in network.non_trainable_variables]
    weights = list(weights)
    places = [place for place, moves in enumerate(moving) if moves]
    for _ in range(steps):
        with tf.GradientTape() as tape:
            own = [tf.identity(weights[place]) for place in places]
            tape.watch(own)
            for place, one in zip(places, own, strict=True):
                weights[place] = one
            logits, _ = network.stateless_call(weights, fixed, pictures, training=training)
            loss = cross_entropy(labels, logits)
        for place, one, gradient in zip(places, own, tape.gradient(loss, own), strict=True):
            weights[place] = one - rate * (tf.stop_gradient(gradient) if first_order else gradient)
    return weights


def cross_entropy(labels, logits):
    """The mean of -log softmax(logits)[label], in nats; labels int (n,)."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32)))


# ---------------------------------------------------------------- networks that take steps in an episode


def fine_tuned(
    above: keras.Model,
    activations: np.ndarray,
    support: np.ndarray,
    asked: np.ndarray,
    steps: int,
    rate: float,
) -> np.ndarray:
    """Fine-tune the top of a network and a head on the support of each episode, from the same weights.

    Logits are s cos(w_k, f(x)): the head of Chen et al., "A closer look at few-shot classification" (ICLR
    2019, arXiv:1904.04232), section 3.2, which begins as the class means, so that without steps the answers
    are those of the nearest one.

    above: from what the still part gives, `activations` (pictures, ...), to features of length 1; its
    trainable variables move, and BatchNorm keeps its statistics.
    """
    episodes, ways, shots = support.shape
    labels = tf.repeat(tf.range(ways), shots)
    given = tf.constant(activations)
    start = [one.value for one in above.trainable_variables]
    fixed = [one.value for one in above.non_trainable_variables]

    def features(weights, rows):
        return tf.cast(above.stateless_call(weights, fixed, rows, training=False)[0], tf.float32)

    def logits(head, found):
        return SCALE * tf.matmul(found, tf.math.l2_normalize(head, axis=1), transpose_b=True)

    def episode(rows):
        own, questions = rows
        pictures = tf.gather(given, own)
        head = tf.reduce_mean(tf.reshape(features(start, pictures), [ways, shots, -1]), axis=1)

        def step(number, *weights):
            with tf.GradientTape() as tape:
                tape.watch(weights)
                loss = cross_entropy(labels, logits(weights[-1], features(weights[:-1], pictures)))
            return number + 1, *(
                one - rate * slope for one, slope in zip(weights, tape.gradient(loss, weights), strict=True)
            )

        _, *weights = tf.while_loop(
            lambda number, *_: number < steps, step, (0, *map(tf.identity, start), head)
        )
        return logits(weights[-1], features(weights[:-1], tf.gather(given, questions)))

    return _one_by_one(episode, support.reshape(episodes, -1), asked)


def meta_answers(
    network: keras.Model,
    moving: Sequence[bool],
    pictures: np.ndarray,
    support: np.ndarray,
    asked: np.ndarray,
    steps: int,
    rate: float,
    *,
    training: bool,
) -> np.ndarray:
    """What a network trained by MAML or ANIL answers after its inner steps on each episode's support.

    steps must be those of its training: with more the weights leave where they were made to be. training: as
    in `adapted`; questions are then normalised by the statistics of all questions of their episode.
    """
    episodes, ways, shots = support.shape
    labels, given = tf.repeat(tf.range(ways), shots), tf.constant(pictures)
    start = [one.value for one in network.trainable_variables]
    fixed = [one.value for one in network.non_trainable_variables]

    def episode(rows):
        own, questions = rows
        weights = adapted(
            network,
            start,
            moving,
            tf.gather(given, own),
            labels,
            steps,
            rate,
            training=training,
            first_order=True,
        )
        logits, _ = network.stateless_call(weights, fixed, tf.gather(given, questions), training=training)
        return tf.cast(logits, tf.float32)

    return _one_by_one(episode, support.reshape(episodes, -1), asked)


def _one_by_one(episode: Callable, support: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What `episode` makes of each row of both, in one graph. support, asked: int64 (episodes, ...)."""

    def every(own, questions):
        return tf.map_fn(episode, (own, questions), fn_output_signature=tf.float32, parallel_iterations=1)

    # Concrete, or TensorFlow takes the episodes of several learners for one function that is traced over and
    # over, and warns.
    specs = [tf.TensorSpec(one.shape, tf.int64) for one in (support, asked)]
    compiled = tf.function(every, input_signature=specs, autograph=False).get_concrete_function()
    return compiled(tf.constant(support), tf.constant(asked)).numpy()
