"""Which words decided: how much less sure a network is of its answer without each of them.

Zeiler and Fergus 2014 (arXiv:1311.2901) hide parts of a picture; of texts Li, Monroe and Jurafsky 2016
(arXiv:1612.08220) erase words.
"""

import re
from collections.abc import Sequence

import keras
import numpy as np
import scipy.special
import tensorflow as tf

MOST = 80
"""Words of a text that are left out one by one; what stands behind gets no number."""
_WORD = re.compile(r"\S+")


def explain(
    network: keras.Model, text: str, answer: int, temperature: float = 1.0, batch_size: int = 64
) -> list[tuple[str, float]]:
    """The words of a text, each with how much the log-odds of the answer fall when it is left out, in nats.

    network: strings (n,) to logits (n, classes). answer: number of the class. A word is what stands between
    white space; below 0 where the answer is surer without the word. Log-odds, log p / (1 - p), and not p,
    which hardly moves where a network is nearly certain.
    """
    words = _WORD.findall(text)
    shown = words[:MOST]
    without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(shown))]
    odds = log_odds(network, [" ".join(words), *without], temperature, batch_size)[:, answer]
    effects = [*(odds[0] - odds[1:]), *[0.0] * (len(words) - len(shown))]
    return list(zip(words, map(float, effects), strict=True))


def log_odds(
    network: keras.Model, texts: Sequence[str], temperature: float = 1.0, batch_size: int = 64
) -> np.ndarray:
    """Of each class against all others, of the logits over the temperature: float64 (texts, classes), in
    nats.
    """
    parts = [
        np.asarray(network(tf.constant(texts[first : first + batch_size]), training=False))
        for first in range(0, len(texts), batch_size)
    ]
    logits = np.concatenate(parts).astype("float64") / temperature
    others = [scipy.special.logsumexp(np.delete(logits, one, 1), axis=1) for one in range(logits.shape[1])]
    return logits - np.stack(others, axis=1)
