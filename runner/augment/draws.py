"""Random numbers from a seed and nothing else: the same on any number of threads and in any order.

A seed is int64 (2,). `fold` makes a new one for each thing that is drawn, so that no two share their numbers.
"""

import tensorflow as tf

# Philox by name: left to choose, TensorFlow takes another generator on another device or when compiled.
_GENERATOR = "philox"


def fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Return the seed, int64 (2,), that belongs to a seed and a whole number."""
    return tf.random.fold_in(seed, number, alg=_GENERATOR)


def uniform(shape: tuple, seed: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Return float32 of the shape, uniform from low to below high.

    Compiled by XLA it gives other numbers than not: what draws is to be compiled always or never.
    """
    return tf.random.stateless_uniform(shape, seed, low, high, alg=_GENERATOR)
