"""Networks for rows: a residual network of dense layers, and a small transformer over the columns.

Both take rows as `columns.coded` makes them and give features, on which a template puts what it asks for. The
graph is flat and its blocks have names, so that stages, ledger, layer decay and the frozen part go by them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from runner.errors import InputError
from runner.networks.backbones import Block
from runner.tables import columns as columns_of
from runner.tables.backbones import find
from runner.tables.columns import Column
from runner.tables.layers import GONE_PART, UNSEEN_PART, ColumnTokens, Hidden, Prepared

FEATURES = "features"
"""The layer that gives what a head reads."""
READS_FEATURES = ("entry", "tokens")
"""The first layer of each backbone."""
HEADS = 4
"""Of attention: the width is divided among so many."""


@dataclass(frozen=True)
class Backbone:
    """rows: the input, float32 (batch, columns). prepared: (batch, features as `Prepared` makes them).
    features: float32 (batch, width), what the last block gives. blocks: bottom first. layer: makes
    `prepared`.
    """

    rows: keras.KerasTensor
    prepared: keras.KerasTensor
    features: keras.KerasTensor
    blocks: tuple[Block, ...]
    layer: Prepared


def build(
    name: str,
    columns: Sequence[Column],
    *,
    width: int = 128,
    depth: int = 2,
    dropout: float = 0.1,
    hidden: float = 0.0,
    seed: int | None = None,
) -> Backbone:
    """Build a backbone of BACKBONES for these columns.

    width: of what each layer gives; depth: how many blocks come after the first, which reads the columns.
    dropout: share of a block's inner units that training hides. hidden: share of the cells that training
    takes for missing. Raises InputError for another name, and for a width that the heads of attention cannot
    share.
    """
    find(name)
    if name == "ft-transformer" and width % HEADS:
        raise InputError(f"width={width} cannot be used with ft-transformer; give a multiple of {HEADS}.")
    record = columns_of.record(columns)
    rows = keras.Input((len(columns),), dtype="float32", name="row")
    x = Hidden(hidden, record, seed, name="hidden")(rows) if hidden else rows
    layer = Prepared(record, name="prepared")
    prepared = layer(x)
    made = _residual if name == "residual-mlp" else _transformer
    features, blocks = made(layer, prepared, width, depth, dropout)
    return Backbone(rows, prepared, features, blocks, layer)


def start_from(network: keras.Model, source: keras.Model, absent: Collection[str] = ()) -> list[str]:
    """Give a network the weights of another of the same backbone, layer by layer by their names; return those
    layers. A layer of other shapes, and a head of another name, stays as it is.

    The columns may be others. Features of a column that `source` does not have, or whose name is in `absent`,
    for it was missing in every row that `source` learned from, begin with weight 0: what it gives does
    not depend on them until they are trained. A word that its vocabulary lacks begins as an unseen one.
    """
    here, there = (network.get_layer("prepared"), source.get_layer("prepared"))
    places = {name: place for place, name in enumerate(there.names)}
    known = {column.name for column in there.columns} - set(absent)
    taken = [
        places.get(name, places.get((name[0], UNSEEN_PART), -1)) if name[0] in known else -1
        for name in here.names
    ]
    moved = []
    for layer in network.layers:
        if not layer.weights or layer.name not in {one.name for one in source.layers}:
            continue
        given = source.get_layer(layer.name).get_weights()
        if layer.name in READS_FEATURES:
            given = _reads(layer, given, np.array(taken), here, there, absent)
        if [one.shape for one in given] == [tuple(one.shape) for one in layer.weights]:
            layer.set_weights(given)
            moved.append(layer.name)
    return moved


def _reads(
    layer: keras.layers.Layer,
    given: list[np.ndarray],
    taken: np.ndarray,
    here: Prepared,
    there: Prepared,
    absent: Collection[str],
) -> list[np.ndarray]:
    """The weights of a layer that reads features, for other features; what a column does that was missing in
    every row stands in the bias.
    """
    kernel = np.where(taken[:, None] < 0, 0.0, given[0][np.maximum(taken, 0)]).astype("float32")
    always = [place for place, name in enumerate(there.names) if name[0] in absent and name[1] == GONE_PART]
    if layer.name == "entry":
        return [kernel, given[1] + given[0][always].sum(axis=0)]
    bias = np.zeros((len(here.columns), given[1].shape[1]), "float32")
    order = {column.name: place for place, column in enumerate(there.columns)}
    for place, column in enumerate(here.columns):
        if column.name in order:
            bias[place] = given[1][order[column.name]]
    for place in always:
        name = there.names[place][0]
        bias[[column.name for column in here.columns].index(name)] += given[0][place]
    return [kernel, bias, *given[2:]]


def _residual(
    layer: Prepared, x: keras.KerasTensor, width: int, depth: int, dropout: float
) -> tuple[keras.KerasTensor, tuple[Block, ...]]:
    """The ResNet of Gorishniy et al. (2021, arXiv:2106.11959), x + Dropout(W2 ReLU(W1 Norm(x))), with layer
    normalisation for BatchNorm, which a few dozen rows cannot estimate.
    """
    layers = keras.layers
    x = layers.Dense(width, name="entry")(x)
    blocks = [Block("entry", ("prepared", "entry"))]
    for number in range(1, depth + 1):
        name = f"block{number}"
        y = layers.LayerNormalization(name=f"{name}_norm")(x)
        y = layers.Dense(2 * width, activation="relu", name=f"{name}_inner")(y)
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = layers.Dense(width, name=f"{name}_outer")(y)
        x = layers.Add(name=name)([x, y])
        blocks.append(Block(name, tuple(f"{name}_{part}" for part in ("norm", "inner", "dropout", "outer"))))
    x = layers.LayerNormalization(name="last_norm")(x)
    x = layers.Activation("relu", dtype="float32", name=FEATURES)(x)
    blocks[-1] = Block(blocks[-1].name, (*blocks[-1].layers, "last_norm"))
    return x, tuple(blocks)


def _transformer(
    layer: Prepared, x: keras.KerasTensor, width: int, depth: int, dropout: float
) -> tuple[keras.KerasTensor, tuple[Block, ...]]:
    """The FT-Transformer of the same paper: a token for each column and one that reads them, layers of
    attention and dense layers with normalisation before each, and what the reading token holds at the end.
    """
    layers = keras.layers
    x = ColumnTokens(width, layer.of_column.tolist(), name="tokens")(x)
    blocks = [Block("tokens", ("prepared", "tokens"))]
    for number in range(1, depth + 1):
        name = f"block{number}"
        y = layers.LayerNormalization(name=f"{name}_norm1")(x)
        y = layers.MultiHeadAttention(HEADS, width // HEADS, dropout=dropout, name=f"{name}_attention")(y, y)
        x = layers.Add(name=f"{name}_attended")([x, y])
        y = layers.LayerNormalization(name=f"{name}_norm2")(x)
        y = layers.Dense(2 * width, activation="relu", name=f"{name}_inner")(y)
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        y = layers.Dense(width, name=f"{name}_outer")(y)
        x = layers.Add(name=name)([x, y])
        parts = ("norm1", "attention", "norm2", "inner", "dropout", "outer")
        blocks.append(Block(name, tuple(f"{name}_{part}" for part in parts)))
    x = layers.Cropping1D((0, len(layer.columns)), name="read")(x)
    x = layers.Flatten(name="reading")(x)
    x = layers.LayerNormalization(name="last_norm")(x)
    x = layers.Activation("relu", dtype="float32", name=FEATURES)(x)
    blocks[-1] = Block(blocks[-1].name, (*blocks[-1].layers, "last_norm"))
    return x, tuple(blocks)
