"""The network: columns as they are, a backbone, what it learned to tell of the source, and one new dense
layer.
"""

import keras
import numpy as np

from runner.errors import InputError
from runner.networks.backbones import Block
from runner.tables import columns as columns_of
from runner.tables import layers, networks
from runner.tables.load import Tables
from runner.tables.networks import Backbone

from .config import Config

OUTCOMES = "outcomes"
"""The layer that tells the outcomes of the source; its logits go to the head, beside the features."""


def related(config: Config) -> str:
    """The table that is to be learned from before; "none" where there is none."""
    if config.source != "auto":
        return config.source.strip() or "none"
    embedded = config.data.strip() in ("sister_tables", "sister_tables/clinic")
    return "sister_tables/hospital" if embedded else "none"


def begins(config: Config) -> str:
    """What `weights` means: source, masked, none, or a folder. Raises InputError for a source that is not
    there.
    """
    if config.weights == "source" and related(config) == "none":
        raise InputError("weights='source' cannot be used; give a --source to learn from, or masked or none.")
    return (
        ("masked" if related(config) == "none" else "source") if config.weights == "auto" else config.weights
    )


def build(
    config: Config, data: Tables, source: keras.Model | None = None
) -> tuple[keras.Model, tuple[Block, ...]]:
    """The classifier of rows and its backbone's blocks, bottom first.

    float32 (batch, columns) as `tables.columns.coded` makes them in, float32 logits (batch, classes) out.
    source: what learned before (`build_source`, or the network of an earlier run), whose weights it begins
    with; None begins with random ones. `layers.of_columns` makes a network of the columns themselves.
    """
    made = _backbone(config, data)
    parts, blocks = [made.features], made.blocks
    if _tells_outcomes(config, data):
        told = keras.layers.Dense(len(data.related.outcome_names), dtype="float32", name=OUTCOMES)
        parts.append(told(made.features))
        blocks = (*blocks, Block(OUTCOMES, (OUTCOMES,)))
    new = absent(data)
    fresh = [place for place, name in enumerate(made.layer.names) if name[0] in new]
    if fresh:  # columns that the source never had: the head may read them at once
        parts.append(layers.Chosen(fresh, dtype="float32", name="new_columns")(made.prepared))
    x = keras.layers.Concatenate(dtype="float32", name="read_by_head")(parts) if parts[1:] else parts[0]
    logits = keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x)
    network = keras.Model(made.rows, logits, name=config.backbone)
    if source is not None and config.weights != "none":
        networks.start_from(network, layers.of_rows(source), new)
    return network, blocks


def factors(network: keras.Model) -> tuple[np.ndarray, ...]:
    """Ways to weigh what the head of `build` reads, beside all alike, for `solved.solve`: two of float64
    (inputs of the head,), or none where it reads no outcomes.

    What the network says of the source's outcomes is often nearly all that a few rows can tell, and the
    features beside that are then a hundred times dearer, or left out.
    """
    if OUTCOMES not in {layer.name for layer in network.layers}:
        return ()
    width = network.get_layer(OUTCOMES).kernel.shape[0]
    dearer = np.ones((2, network.get_layer("head").kernel.shape[0]))
    dearer[:, :width] = [[0.1], [0.0]]
    return tuple(dearer)


def build_source(config: Config, data: Tables) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network that learns before, and its blocks: rows in; the logits of the source's outcomes out, or
    all features of a row, of which some cells are hidden.
    """
    if begins(config) == "source":
        made = _backbone(config, data, config.hidden)
        told = keras.layers.Dense(len(data.related.outcome_names), dtype="float32", name=OUTCOMES)
        return keras.Model(made.rows, told(made.features), name="source"), made.blocks
    made = _backbone(config, data, 3 * config.hidden)
    filled = keras.layers.Dense(made.prepared.shape[-1], dtype="float32", name="cells")(made.features)
    return keras.Model(made.rows, filled, name="source"), made.blocks


def build_rival(data: Tables) -> keras.Model:
    """Logistic regression on the prepared columns, whose head is still to be solved: rows to logits."""
    rows = keras.Input((len(data.columns),), dtype="float32", name="row")
    x = layers.Prepared(columns_of.record(data.columns), name="prepared")(rows)
    return keras.Model(rows, keras.layers.Dense(len(data.classes), dtype="float32", name="head")(x))


def absent(data: Tables) -> set[str]:
    """The columns that the source never had: of one that is not given none."""
    return set() if data.related is None else {one.name for one in data.columns} - set(data.related.inputs)


def _tells_outcomes(config: Config, data: Tables) -> bool:
    return data.related is not None and begins(config) in ("source", "none")


def _backbone(config: Config, data: Tables, hidden: float = 0.0) -> Backbone:
    return networks.build(
        config.backbone,
        data.columns,
        width=config.width,
        depth=config.depth,
        dropout=config.dropout,
        hidden=hidden,
        seed=config.machine.seed,
    )
