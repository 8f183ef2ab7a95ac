"""BatchNorm statistics: whether they would ever learn, and their estimate anew after a short training."""

from collections.abc import Iterable, Sequence

import keras

from runner.errors import InputError
from runner.moving import trainable
from runner.networks.backbones import Block
from runner.stage import Stage


def check(model: keras.Model, blocks: Sequence[Block], weights: str, stages: Sequence[Stage]) -> None:
    """Raise InputError where BatchNorm layers of the blocks start from random weights (weights "none") and
    never learn; those above them always do.
    """
    of_blocks = trainable.owners(model, blocks)
    normalised = any(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in model._flatten_layers(include_self=False)
        if id(layer) in of_blocks
    )
    if weights == "none" and normalised and all(stage.batch_norm == "frozen" for stage in stages):
        raise InputError(
            "weights='none' starts from random weights, whose BatchNorm statistics no stage lets learn "
            "(batch_norm='frozen'); give weights, or train all with batch_norm='train'."
        )


def reestimate(model: keras.Model, batches: Iterable) -> None:
    """Replace the BatchNorm statistics of trained layers by their average over `batches` of images, weights
    unchanged.

    The moving averages of a short training from scratch lag behind the weights (momentum 0.99 needs some
    500 steps, 0.999 ten times that), so that it would be judged on statistics of an earlier network; this
    is the recalculation of Izmailov et al. 2018 (arXiv:1803.05407, section 3.2). Frozen layers keep theirs.
    `batches` yields what the model takes, such as uint8 (batch, height, width, channels); each counts by its
    rows, since the last may have few. None at all leaves everything as it was.
    """
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    momenta = [layer.momentum for layer in layers]
    seen = 0
    try:
        for images in batches:
            rows = len(keras.tree.flatten(images)[0])
            for layer in layers:
                # A running mean: the first batch counts fully, each by its share of the rows so far.
                layer.momentum = seen / (seen + rows)
            model(images, training=True)
            seen += rows
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
