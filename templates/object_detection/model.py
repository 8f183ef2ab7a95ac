"""The network: a pretrained backbone, a feature pyramid, and one head that all levels of it share.

The layers are plain Keras and the graph is flat, so that stages, the ledger and several devices work on it
as on any classifier, and model.keras loads without this project. KerasCV's RetinaNet does not carry that:
it nests the backbone, and a pyramid narrower than its 256 channels (6.8 of its 7.0 million weights on
MobileNet-0.25) is not among what it saves.
"""

import math

import keras

from runner.data.examples import Data
from runner.errors import InputError
from runner.networks import backbones
from runner.networks.backbones import Block

from .config import Config
from .method import Points, points

PRIOR = 0.01
"""Probability of each class at each point before training (section 4.1 of arXiv:1708.02002)."""
FIRST_DISTANCE = 2.0
"""Distance from a point to the sides of its box before training, in strides."""
GROUPS = 8
"""Groups of channels that are normalised together, of which `width` must be a multiple."""


def build(config: Config, data: Data) -> tuple[keras.Model, tuple[Block, ...]]:
    """The detector and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in; float32 (batch, points, classes + 5) out, for each
    of `points`: a logit per class, a box (x_min, y_min, x_max, y_max in pixels of the image, of edges), and
    a logit of how central the point lies in it. `method.decode` makes detections of that.
    """
    backbone = backbones.build(config.backbone, config.image_size, config.weights)
    blocks = backbones.blocks(backbone)
    names = level_names(backbone, blocks, config.strides)
    pyramid = _pyramid([backbone.get_layer(name).output for name in names], config.width)
    outputs = _head(pyramid, config, len(data.classes))
    return keras.Model(backbone.input, outputs, name=backbone.name), blocks


def level_names(backbone: keras.Model, blocks: tuple[Block, ...], strides: tuple[int, ...]) -> list[str]:
    """For each stride, one cell for so many pixels, the name of the last block whose output has it.

    Counted from the top, where every backbone of the table has stride 32: below it each step to at least
    half as many cells again halves the stride (InceptionV3 rounds its sizes down: 3, 7 and 17 cells of 150
    pixels). Raises InputError for a stride that the backbone has not.
    """
    last, stride, above = {}, 32, None
    for block in reversed(blocks):
        cells = backbone.get_layer(block.name).output.shape[1]
        if above is not None and cells >= 1.5 * above:
            stride //= 2
        last.setdefault(stride, block.name)
        above = cells
    lacking = [stride for stride in strides if stride not in last]
    if lacking:
        raise InputError(
            f"strides={strides}: {backbone.name} has no output of stride {lacking[0]}; give some of "
            f"{', '.join(map(str, sorted(last)))}."
        )
    return [last[stride] for stride in strides]


def _pyramid(features: list, width: int) -> list:
    """A feature pyramid (Lin et al. 2017, arXiv:1612.03144), finest level first: each level is its own
    features plus the level above, enlarged.
    """
    levels, above = [], None
    for number, x in reversed(list(enumerate(features))):
        x = keras.layers.Conv2D(width, 1, name=f"pyramid_{number}_lateral")(x)
        if above is not None:
            # training=False: Resizing calls itself in training mode, and what follows would do as it does.
            enlarge = keras.layers.Resizing(
                *x.shape[1:3], interpolation="nearest", name=f"pyramid_{number}_enlarged"
            )
            above = enlarge(above, training=False)
            x = keras.layers.Add(name=f"pyramid_{number}_add")([x, above])
        above = x
        levels.insert(0, keras.layers.Conv2D(width, 3, padding="same", name=f"pyramid_{number}")(x))
    return levels


def _head(levels: list, config: Config, classes: int):
    """The head of FCOS (Tian et al. 2019, arXiv:1904.01355): two towers of convolutions, one for classes
    and one for boxes, the same on each level. GroupNorm, as its statistics are those of one picture.
    """
    towers = {name: _tower(name, config) for name in ("class", "box")}
    of_class = keras.layers.Conv2D(
        classes,
        3,
        padding="same",
        bias_initializer=keras.initializers.Constant(-math.log((1 - PRIOR) / PRIOR)),
        dtype="float32",
        name="head_classes",
    )
    of_box = keras.layers.Conv2D(
        4,
        3,
        padding="same",
        bias_initializer=keras.initializers.Constant(math.log(math.expm1(FIRST_DISTANCE))),
        activation="softplus",
        dtype="float32",
        name="head_distances",
    )
    of_centre = keras.layers.Conv2D(1, 3, padding="same", dtype="float32", name="head_centre")
    logits, distances, central = [], [], []
    for x in levels:
        for_class = for_box = x
        for layer in towers["class"]:
            for_class = layer(for_class)
        for layer in towers["box"]:
            for_box = layer(for_box)
        logits.append(of_class(for_class))
        distances.append(of_box(for_box))
        central.append(of_centre(for_box))
    # Operations from here on, not layers, which under a half precision policy would round the boxes.
    logits, distances, central = (
        keras.ops.concatenate(
            [keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3])) for x in parts], 1
        )
        for parts in (logits, distances, central)
    )
    grid = points(config.image_size, [x.shape[1] for x in levels])
    distances = distances * grid.stride[None, :, None]
    low = keras.ops.subtract(grid.centre[None], distances[..., :2])
    high = keras.ops.add(grid.centre[None], distances[..., 2:])
    return keras.ops.concatenate([logits, low, high, central], axis=-1)


def _tower(name: str, config: Config) -> list[keras.layers.Layer]:
    layers = []
    for number in range(config.depth):
        layers += [
            keras.layers.Conv2D(
                config.width, 3, padding="same", use_bias=False, name=f"head_{name}_{number}"
            ),
            keras.layers.GroupNormalization(GROUPS, name=f"head_{name}_{number}_norm"),
            keras.layers.ReLU(name=f"head_{name}_{number}_relu"),
        ]
    return layers


def grid(network: keras.Model, strides: tuple[int, ...]) -> Points:
    """The points that the network answers for, in the order of its output."""
    cells = [network.get_layer(f"pyramid_{level}").output.shape[1] for level in range(len(strides))]
    return points(network.input.shape[1], cells)
