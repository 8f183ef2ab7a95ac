"""The networks: T-learner, S-learner, TARNet and DragonNet, on rows of numbers that are scaled within."""

import keras
import numpy as np

from runner.networks.backbones import Block

from .config import Config
from .method import Outcome, Solved

HEADS = "untreated", "treated"


def network(
    kind: str, representation: tuple[int, ...], heads: tuple[int, ...], rows: np.ndarray, dropout: float = 0.0
) -> keras.Model:
    """A network of `kind` on float32 rows (batch, d), which it standardises by the mean and spread of `rows`.

    It gives float32 z_0, z_1 (batch, 2) (see `method`); DragonNet also the logit of the propensity and
    epsilon, (batch, 4). All layers have ELU, as in the papers. `blocks` has those of the representation.

    T-learner: a network for each arm, which share nothing but the scale. S-learner: one network that is asked
    twice, with the treatment as a further input. TARNet (Shalit et al. 2017, figure 1): one representation,
    a head for each arm. DragonNet (Shi et al. 2019, figure 1): and a head without hidden layers for the
    propensity.
    """
    row = keras.Input((rows.shape[1],), name="row")
    spread = rows.std(axis=0)
    scale = keras.layers.Normalization(
        mean=rows.mean(axis=0), variance=np.where(spread > 1e-6, spread**2, 1.0), name="scaled"
    )
    x = scale(row)

    def dense(x, units: int, name: str):
        x = keras.layers.Dense(units, activation="elu", kernel_initializer="he_normal", name=name)(x)
        return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x

    def head(x, name: str):
        for number, units in enumerate(heads, 1):
            x = dense(x, units, f"{name}_{number}")
        return keras.layers.Dense(1, name=name, dtype="float32")(x)

    if kind == "S-learner":
        # Both questions at once: (batch, 2, d + 1), of which Dense layers take the last axis.
        x = keras.layers.RepeatVector(2, name="twice")(x)
        flag = keras.ops.zeros_like(x[:, :, :1]) + keras.ops.reshape(
            keras.ops.convert_to_tensor([-0.5, 0.5], x.dtype), (1, 2, 1)
        )
        x = keras.layers.Concatenate(name="with_treatment")([x, flag])
        for number, units in enumerate(representation, 1):
            x = dense(x, units, f"representation_{number}")
        x = keras.layers.Reshape((2,), name="outcomes")(head(x, "outcome"))
        return keras.Model(row, x, name=kind)
    if kind == "T-learner":
        ends = []
        for name in HEADS:
            own = x
            for number, units in enumerate(representation, 1):
                own = dense(own, units, f"representation_{number}_{name}")
            ends.append(head(own, name))
        return keras.Model(row, keras.layers.Concatenate(name="outcomes")(ends), name=kind)
    for number, units in enumerate(representation, 1):
        x = dense(x, units, f"representation_{number}")
    ends = [head(x, name) for name in HEADS]
    if kind == "DragonNet":
        ends.append(keras.layers.Dense(1, name="propensity", dtype="float32")(x))
        one = keras.ops.ones_like(ends[0])
        epsilon = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="epsilon")
        ends.append(epsilon(one))
    return keras.Model(row, keras.layers.Concatenate(name="outcomes")(ends), name=kind)


def blocks(model: keras.Model) -> tuple[Block, ...]:
    """The layers of the representation, bottom first; heads are in none. The first has the scale as well."""
    names = [layer.name for layer in model.layers]
    numbers = sorted({name.split("_")[1] for name in names if name.startswith("representation_")}, key=int)
    found = []
    for number in numbers:
        own = [name for name in names if name.startswith(f"representation_{number}")]
        found.append(Block(f"representation_{number}", tuple((["scaled"] if not found else []) + own)))
    return tuple(found)


def features(model: keras.Model) -> keras.Model:
    """The part of a network that gives its representation, float32 (batch, r): of a T-learner that of both
    arms, of an S-learner that of both questions.
    """
    last = blocks(model)[-1].layers
    ends = [model.get_layer(name).output for name in last if not name.endswith("dropout")]
    ends = [keras.layers.Flatten()(end) if len(end.shape) > 2 else end for end in ends]
    return keras.Model(model.input, ends[0] if len(ends) == 1 else keras.layers.Concatenate()(ends))
