"""The networks: T-learner, S-learner, TARNet and DragonNet, on rows as they are; and what a run saves."""

import keras
import numpy as np

from runner.networks.backbones import Block
from runner.tables import columns as columns_of
from runner.tables.columns import Column
from runner.tables.layers import Prepared
from runner.tables.load import Tables

from .config import Config
from .method import Outcome, Solved

HEADS = "untreated", "treated"
SMALL = 0.1
"""Of first weights: the variance times what a layer takes, a twentieth of He's. Near 0 a network is nearly
linear, and bends as far as the outcomes ask for. On IHDP's first replication, after 40 epochs, validation's
factual loss was .263 with it and .373 with He's.
"""


def build(config: Config, examples: Tables) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network of the config on rows as `columns.coded` makes them, float32 (batch, columns), and the
    blocks of its representation, bottom first; heads are in none.
    """
    made = network(config.backbone, config.representation, config.heads, examples.columns, config.dropout)
    return made, blocks(made)


def network(
    kind: str,
    representation: tuple[int, ...],
    heads: tuple[int, ...],
    columns: tuple[Column, ...],
    dropout: float = 0.0,
) -> keras.Model:
    """It gives float32 z_0, z_1 (batch, 2) (see `method`); DragonNet also the logit of the propensity and
    epsilon, (batch, 4). All layers have ELU, as in the papers.

    T-learner: a network for each arm, which share nothing but the preparation. S-learner: one network that is
    asked twice, with the treatment as a further input. TARNet (Shalit et al. 2017, figure 1): one
    representation, a head for each arm. DragonNet (Shi et al. 2019, figure 1): and a head without hidden
    layers for the propensity.
    """
    row = keras.Input((len(columns),), dtype="float32", name="row")
    x = Prepared(columns_of.record(columns), name="prepared")(row)

    def dense(x, units: int, name: str):
        # One of its own for each layer: an initializer gives the same numbers each time it is called.
        small = keras.initializers.VarianceScaling(SMALL)
        x = keras.layers.Dense(units, activation="elu", kernel_initializer=small, name=name)(x)
        return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x

    def head(x, name: str):
        for number, units in enumerate(heads, 1):
            x = dense(x, units, f"{name}_{number}")
        return keras.layers.Dense(1, name=name, dtype="float32")(x)

    if kind == "S-learner":
        # Both questions at once: (batch, 2, d + 1), of which Dense layers take the last axis.
        x = keras.layers.RepeatVector(2, name="twice")(x)
        # The treatment: -1/2 in the first of both, 1/2 in the second.
        flag = keras.ops.cumsum(keras.ops.ones_like(x[:, :, :1]), axis=1) - 1.5
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
    """The layers of the representation, bottom first; the first has the preparation as well."""
    names = [layer.name for layer in model.layers]
    numbers = sorted({name.split("_")[1] for name in names if name.startswith("representation_")}, key=int)
    found = []
    for number in numbers:
        own = [name for name in names if name.startswith(f"representation_{number}")]
        found.append(Block(f"representation_{number}", tuple((["prepared"] if not found else []) + own)))
    return tuple(found)


def features(model: keras.Model) -> keras.Model:
    """The part of a network that gives its representation, float32 (batch, r): of a T-learner that of both
    arms, of an S-learner that of both questions.
    """
    last = blocks(model)[-1].layers
    own = [name for name in last if name.startswith("representation") and not name.endswith("dropout")]
    ends = [model.get_layer(name).output for name in own]
    ends = [keras.layers.Flatten()(end) if len(end.shape) > 2 else end for end in ends]
    return keras.Model(model.input, ends[0] if len(ends) == 1 else keras.layers.Concatenate()(ends))


def carried(network: keras.Model, source: keras.Model) -> None:
    """Give a network the weights of another with the same layers, in place.

    The other may know fewer columns: those it never saw weigh nothing in the first layers, until training
    says otherwise. A layer that only one of both has stays as it is.
    """
    theirs = {layer.name: layer for layer in source.layers}
    before, after = (one.get_layer("prepared").names for one in (source, network))
    for layer in network.layers:
        other = theirs.get(layer.name)
        if other is None or not layer.get_weights():
            continue
        weights = other.get_weights()
        wanted = [one.shape for one in layer.get_weights()]
        if [one.shape for one in weights] != wanted and layer.name.startswith("representation_1"):
            extra = weights[0][len(before) :]  # of an S-learner the row of the treatment
            kernel = np.zeros(wanted[0], np.float32)
            for row, name in enumerate(before):
                kernel[after.index(name)] = weights[0][row]
            kernel[len(after) :] = extra
            weights = [kernel, *weights[1:]]
        if [one.shape for one in weights] == wanted:
            layer.set_weights(weights)


def with_residual(network: keras.Model, mean: np.ndarray, spread: np.ndarray, solved: Solved) -> keras.Model:
    """A network whose z is that of `network` and what `method.ridge` found on its representation: two columns
    of a dense layer. mean, spread: (r,), by which the representation was scaled for the solving.
    """
    main, effect = (
        np.append(one[0] - (mean / spread) @ one[1:], one[1:] / spread)
        for one in (solved.main, solved.effect)
    )
    both = np.stack([main - effect / 2, main + effect / 2], axis=1)
    # A network of an earlier run may have been corrected before.
    before = sum(layer.name.startswith("residual") for layer in network.layers)
    number = f"_{before + 1}" if before else ""
    residual = keras.layers.Dense(2, name=f"residual{number}", dtype="float32")
    told = residual(features(network).output)
    residual.set_weights([both[1:].astype(np.float32), both[0].astype(np.float32)])
    z = keras.layers.Add(name=f"corrected{number}")([network.output[:, :2], told])
    return keras.Model(network.input, z, name=network.name)


def finished(
    network: keras.Model,
    outcome: Outcome,
    widths: tuple[np.ndarray, np.ndarray, np.ndarray],
    factor: float,
    propensity: tuple[np.ndarray, float],
) -> keras.Model:
    """What a run saves: rows to float32 (batch, 5), `effects_export.GIVEN`, in units of the outcome.

    widths: mean, spread and root of `learners.widths`: how uncertain an effect is, of a binary outcome times
    p (1 - p). factor: half_width is so many of these. propensity: weights and constant of logistic
    regression on the prepared columns.
    """
    layers, ops = keras.layers, keras.ops
    z = network.output[:, :2]
    if outcome.binary:
        mu = layers.Activation("sigmoid", name="expected", dtype="float32")(z)
    else:
        mu = layers.Rescaling(outcome.spread, outcome.mean, name="expected", dtype="float32")(z)
    effect = mu[:, 1:2] - mu[:, 0:1]
    mean, scale, root = widths
    uncertain = layers.Dense(root.shape[1], name="uncertain", dtype="float32")
    told = uncertain(features(network).output)
    kernel = root[1:] / scale[:, None]
    uncertain.set_weights([kernel.astype("float32"), (root[0] - mean @ kernel).astype("float32")])
    width = factor * ops.sqrt(ops.sum(ops.square(told), axis=1, keepdims=True))
    if outcome.binary:
        middle = (mu[:, 1:2] + mu[:, 0:1]) / 2
        width = width * middle * (1 - middle)
    chance = layers.Dense(1, activation="sigmoid", name="overlap", dtype="float32")
    given = chance(network.get_layer("prepared").output)
    chance.set_weights([propensity[0][:, None].astype("float32"), np.float32([propensity[1]])])
    return keras.Model(
        network.input, layers.Concatenate(name="given")([mu, effect, width, given]), name=network.name
    )
