"""The network: a pretrained backbone that makes the picture smaller and a decoder that makes it large again.

U-Net (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597) or DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611).
"""

import keras

from runner.data.examples import Data
from runner.networks import backbones
from runner.networks.backbones import Block

from .config import Config


def build(config: Config, data: Data) -> tuple[keras.Model, tuple[Block, ...]]:
    """The network and its backbone's blocks, bottom first.

    uint8 RGB images (batch, image_size, image_size, 3) in, float32 logits (batch, image_size, image_size,
    classes) out; the backbone's own preprocessing is part of the model. The graph is flat: the backbone's
    layers are the model's layers.
    """
    backbone = backbones.build(config.backbone, config.image_size, config.weights)
    maps = feature_maps(backbone)
    decode = {"unet": unet, "deeplab": deeplab}[config.decoder]
    # The picture as float32, where the backbone's own path begins: `any_size.build` resizes it there.
    picture = backbone.operations[1].output
    x = decode(picture, maps, config.decoder_channels)
    x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    logits = keras.layers.Conv2D(len(data.classes), 1, dtype="float32", name="head")(x)
    logits = _resized(logits, config.image_size, "logits", dtype="float32")
    return keras.Model(backbone.input, logits, name=backbone.name), backbones.blocks(backbone)


def feature_maps(backbone: keras.Model) -> list:
    """The last tensor of each resolution below the picture's, the finest first, the backbone's output last.

    Only tensors through which everything passes count: none inside a residual or a parallel branch. A
    resolution ends where the next of them is at most 3/4 as high, so that the convolutions without padding of
    InceptionV3 and Xception don't begin one.
    """
    last_reader = {}  # by operation, the place of the last one that reads it
    for place, read in enumerate(backbones.parents_of(backbone.operations).values()):
        last_reader |= dict.fromkeys(read, place)
    maps, farthest = [], 0
    for place, operation in enumerate(backbone.operations):
        alone = farthest <= place  # no edge passes by
        farthest = max(farthest, last_reader.get(operation.name, 0))
        padding = isinstance(operation, keras.layers.ZeroPadding2D)  # one pixel more is no resolution
        if not alone or padding or operation is backbone.operations[0]:
            continue
        if maps and 4 * operation.output.shape[1] > 3 * maps[-1].shape[1]:
            maps[-1] = operation.output
        else:
            maps.append(operation.output)
    return maps[1:]  # without the picture itself


def unet(picture, maps: list, channels: int):
    """From the deepest map up: enlarge, join the map of that resolution, two convolutions; last the picture.

    `channels` at the resolution of the picture, twice as many a level below, at most eight times as many.
    """
    picture = keras.layers.Rescaling(1 / 127.5, -1, dtype="float32", name="decoder_picture")(picture)
    x = maps[-1]
    for level, skip in reversed(list(enumerate([picture, *maps[:-1]]))):
        x = _resized(x, skip.shape[1], f"decoder{level}_enlarge")
        x = keras.layers.Concatenate(name=f"decoder{level}_join")([x, skip])
        for number in (1, 2):
            x = _convolution(x, channels * 2 ** min(level, 3), 3, f"decoder{level}_conv{number}")
    return x


def deeplab(picture, maps: list, channels: int):
    """Atrous spatial pyramid pooling on the deepest map, joined with the map at a quarter of the picture.

    The paper changes the backbone's last strides to keep 1/16 of the picture and dilates by 6, 12 and 18
    there; here the backbone stays as it was trained, ends at 1/32, and the rates are half of these.
    """
    width, deepest = 8 * channels, maps[-1]
    branches = [_convolution(deepest, width, 1, "decoder_aspp1")]
    for rate in (3, 6, 9):
        branches.append(_convolution(deepest, width, 3, f"decoder_aspp_rate{rate}", dilation_rate=rate))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="decoder_aspp_pool")(deepest)
    pooled = _convolution(pooled, width, 1, "decoder_aspp_image")
    branches.append(_resized(pooled, deepest.shape[1], "decoder_aspp_enlarge"))
    x = keras.layers.Concatenate(name="decoder_aspp_join")(branches)
    x = _convolution(x, width, 1, "decoder_aspp_out")

    quarter = min(maps, key=lambda one: abs(4 * one.shape[1] - picture.shape[1]))
    fine = _convolution(quarter, max(8, 3 * width // 16), 1, "decoder_fine")  # 48 beside 256, as in the paper
    x = _resized(x, quarter.shape[1], "decoder_enlarge")
    x = keras.layers.Concatenate(name="decoder_join")([x, fine])
    for number in (1, 2):
        x = _convolution(x, width, 3, f"decoder_conv{number}")
    return x


def _convolution(x, channels: int, size: int, name: str, **arguments):
    x = keras.layers.Conv2D(channels, size, padding="same", use_bias=False, name=name, **arguments)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def _resized(x, size: int, name: str, dtype: str | None = None):
    """Bilinear, to size x size; also between odd sizes, where doubling would be one pixel off."""
    if x.shape[1] == size:
        return x
    resizing = keras.layers.Resizing(size, size, interpolation="bilinear", dtype=dtype, name=name)
    # training=False: this layer calls itself in training mode, and what follows it would follow its example
    # in `model(x)` and in exports.
    return resizing(x, training=False)
