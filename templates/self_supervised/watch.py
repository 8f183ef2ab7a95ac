"""What is seen of features while they are learned, without labels or with a few, and the collapse alarm."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner.data import examples
from runner.errors import CollapseError

from . import method, pictures
from .config import Config

MOST = 400
"""Validation pictures that are looked at after each epoch."""
BATCH = 100
"""So many of them at once, at most."""
LEAST_SPREAD = 0.05
"""Of projections: evenly spread ones have 1; below, all pictures are given one."""
SEED = (20_110_566, 0)
"""Of the views that are looked at, the same after each epoch and in each run."""


class Watch:
    """Measures a network on validation pictures after each epoch.

    Called with a `model.TwoViews` it returns the loss on two views of each picture; of the features
    alignment, uniformity and effective rank (method.py); the spread of the projections; and where there are
    labels the accuracy of the nearest neighbours among the few labelled training pictures.

    BatchNorm normalises what is looked at by its own statistics, as in training: the moving ones lag behind
    weights that change fast, and with those of the first steps all pictures would look like one.

    Raises CollapseError where all pictures are given nearly the same projection.
    """

    def __init__(self, config: Config, found: pictures.Pictures):
        ids = examples.ids(found.judged.manifest, "val")
        chosen = np.random.RandomState(config.machine.seed).permutation(ids)[:MOST]
        self.plain = pictures.arrays(pictures.rows_of(found.judged.val, chosen))["input"]
        views = pictures.views_of(config, tf.constant(self.plain), tf.constant(SEED, tf.int64))
        self.views = {name: one.numpy() for name, one in views.items()}
        self.few = self.asked = None
        if found.labelled is not None:
            few = found.few[max(config.labels)]
            self.few, self.asked = (pictures.arrays(one) for one in (few.train, few.val))
            self.classes = len(few.classes)
        self.step: Any = None
        self.last: dict[str, float] = {}

    def __call__(self, network: keras.Model) -> dict[str, float]:
        if self.step is None:  # of this network, whose weights it reads each time
            self.step = self.compiled(network)
        views = {name: self.both(one) for name, one in self.views.items()}
        features = self.both(self.plain)[0]
        first, second = views["first"], views["second"]
        self.last = {
            "loss": float(network.compared(*(tf.constant(one[1]) for one in views.values()))),
            "alignment": method.alignment(first[0], second[0]),
            "uniformity": method.uniformity(features),
            "effective_rank": method.effective_rank(features),
            "spread": method.spread(np.concatenate([first[1], second[1]])),
        }
        if self.few is not None and self.asked is not None:
            given = self.both(self.asked["input"])[0], self.both(self.few["input"])[0]
            found = method.neighbours_vote(*given, self.few["label"], self.classes)
            self.last["accuracy"] = float((found == self.asked["label"]).mean())
        self.alarm(network)
        return dict(self.last)

    def compiled(self, network: keras.Model) -> Any:
        """A function from pictures to features and projections, in which nothing of the network changes."""

        def both(batch: tf.Tensor) -> list:
            trainable, others = (
                [one.value for one in variables]
                for variables in (network.trainable_variables, network.non_trainable_variables)
            )
            return network.stateless_call(trainable, others, batch, training=True)[0]

        return tf.function(
            both, input_signature=[tf.TensorSpec((None, *self.plain.shape[1:]), tf.uint8)], autograph=False
        )

    def both(self, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and projections of pictures, float32 (n, d) and (n, projection)."""
        parts = [self.step(part) for part in np.array_split(shown, -(-len(shown) // BATCH))]
        features, projections = (np.concatenate([one[place] for one in parts]) for place in (0, 1))
        return features, projections

    def alarm(self, network: keras.Model) -> None:
        """Raise CollapseError where the last measurement says that all pictures became one."""
        spread, rank = self.last["spread"], self.last["effective_rank"]
        if np.isfinite(spread) and spread >= LEAST_SPREAD:
            return
        rate = float(keras.ops.convert_to_numpy(network.optimizer.learning_rate))
        raise CollapseError(
            "the features collapsed: all validation pictures have nearly the same projection (spread "
            f"{spread:.3f}, where evenly spread ones have 1; effective rank of the features {rank:.1f} of "
            f"{network.output.shape[1]}) at learning rate {rate:.3g}, so that going on would teach nothing. "
            "Give the stage a tenth of its learning_rate, or a larger batch_size, or --method VICReg, whose "
            "loss holds the spread up."
        )
