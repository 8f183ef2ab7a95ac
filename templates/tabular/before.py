"""What the network learns before it sees a label of the data: outcomes of the source, or to fill in cells."""

from pathlib import Path

import keras
import numpy as np

from runner.devices import strategy
from runner.networks import saved
from runner.stage import Stage
from runner.tables import layers
from runner.tables.load import Tables
from runner.training.checkpoint import Checkpointing
from runner.training.fit import Fit, fit_stages

from . import method, model
from .config import Config


def learn_source(
    config: Config, examples: Tables, checkpoints: Checkpointing | None = None
) -> tuple[keras.Model | None, Fit | None]:
    """Train the network that learns before, on the outcomes of the source or on cells that are hidden
    from it; None where nothing is learned before. That of an earlier run is read.
    """
    if model.begins(config) == "none":
        return None, None
    if model.begins(config) not in ("source", "masked"):
        return layers.of_rows(saved.load(Path(model.begins(config)).expanduser())), None
    with strategy.scope(config.machine, config.backbone):
        network, blocks = model.build_source(config, examples)
        layer = network.get_layer("prepared")
        loss = method.Outcomes() if model.begins(config) == "source" else method.Cells.of(layer)
        network.compile(optimizer="adam", loss=loss, **strategy.compile_options(config.machine))
    if model.begins(config) == "source":
        rows = examples.related.rows
        targets = np.nan_to_num(examples.related.outcomes, nan=method.UNKNOWN)
    else:
        rows = examples.rows[examples.manifest["split"].isin(["train", "unused"]).to_numpy()]
        rows = rows if examples.related is None else np.concatenate([rows, examples.related.rows])
        targets = np.asarray(layer(rows))
    stage = Stage(
        model.begins(config),
        train="all",
        epochs=config.source_epochs,
        learning_rate=config.source_learning_rate,
        schedule="cosine",
        warmup=0.1,
    )
    train, validation = method.batches(rows, targets, config.machine.seed)
    fitted = fit_stages(
        network,
        train,
        validation,
        (stage,),
        blocks,
        title=f"learned before: {model.begins(config)}",
        checkpoints=checkpoints,
    )
    return network, fitted
