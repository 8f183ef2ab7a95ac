"""A trained network that takes pictures of any size: the resizing of the training becomes part of it.

`build` does so with Keras' own layer, for model.keras; `portable` with matrix products, which every format of
export can express.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from runner.errors import InputError
from runner.pictures import square


def build(network: keras.Model, how: str = "crop") -> keras.Model:
    """Return the same network on pictures of any size, with its layers and weights shared.

    network: a flat functional model, pixels of 0..255 (batch, size, size, channels) in, whose first operation
        casts to float32 (as `backbones.build` makes them).
    how: as the training pictures were made square, see `square.resize`.

    The result takes uint8 or floats (batch, height, width, channels) and gives the logits of `network` on the
    resized pictures; on pictures of `size` x `size` the very same logits.
    """
    if how not in square.RESIZES:
        raise InputError(f"Received resize={how!r}; allowed: {', '.join(square.RESIZES)}.")
    size = network.input.shape[1]
    resizing = keras.layers.Resizing(
        size, size, antialias=True, dtype="float32", name="resize", **square.RESIZING[how]
    )
    # training=False: this layer calls itself in training mode, and what follows it would follow its example
    # in `model(x)` and in exports.
    return _resized(network, lambda picture: resizing(picture, training=False), _same)


def portable(model: keras.Model, size: int, how: str) -> tuple[keras.Model, keras.Model]:
    """Return a model of `build` with `PortableResize` for its Resizing, and the network behind it, for
    pictures of size x size.

    model: of `build` with this `size` (pixels a side) and `how`, perhaps loaded from a file. Both results are
    in float32, also where `model` is in mixed precision, and share weights with `model` where it is not. The
    first takes uint8: what it is made for states in the file which numbers it takes.
    """
    inner = _without_resizing(model, size)
    if not all(layer.compute_dtype == "float32" for layer in model.layers if layer.weights):
        whole = keras.models.clone_model(inner, clone_function=_in_float32)
        whole.set_weights(inner.get_weights())
        inner = whole
    return _resized(inner, PortableResize(size, how), _same, "uint8"), inner


class PortableResize(keras.layers.Layer):
    """`square.resize`, to the bit, in operations that every format can express.

    Whole numbers 0..255 as float32 (batch, height, width, channels) in, the same (batch, size, size,
    channels) out. LiteRT and ONNX have no antialiased resize of any size, and that of Keras rounds nothing,
    while Pillow, through which a network sees its training pictures and those of `predict`, rounds to whole
    values after each axis: probabilities differ by up to some hundredths for that alone.

    Pillow's weights are those of a triangle filter, w[i, j] = max(0, 1 - |c_i - (j + 1/2)| / max(s, 1)) over
    its row's sum, with s = side / size the scale and c_i = (i + 1/2) s the centre of target pixel i, rounded
    to whole numbers of 2^-22. Float32 holds 24 bits and such a weight times a pixel 30, so each weight goes
    as two of 11 bits: all sums are whole numbers that float32 holds, in whatever order a format adds them.
    """

    def __init__(self, size: int, how: str, **arguments: Any):
        super().__init__(dtype="float32", **arguments)
        self.size, self.how = size, how

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.size, self.size, input_shape[3])

    def call(self, picture: tf.Tensor) -> tf.Tensor:
        height, width, channels = tf.shape(picture)[1], tf.shape(picture)[2], picture.shape[3]
        left, top, wide, high = square.frame(width, height, self.how, tf.minimum, tf.maximum)
        above = before = tf.constant(0)
        if self.how == "crop":
            picture = picture[:, top : top + high, left : left + wide, :]
            height, width = high, wide
        if self.how == "pad":
            above, before = -top, -left
        # Across first, then down, as Pillow goes.
        picture = tf.reshape(picture, [-1, width, channels])
        picture = self._rounded(tf.matmul(self._weights(width, before), picture))
        picture = tf.reshape(picture, [-1, height, self.size * channels])
        picture = self._rounded(tf.matmul(self._weights(height, above), picture))
        return tf.reshape(picture, [-1, self.size, self.size, channels])

    def _rounded(self, sums: tf.Tensor) -> tf.Tensor:
        """(high * 2^11 + low + 2^21) / 2^22, rounded down, of (n, 2 size, columns): the high sums, then the
        low ones."""
        high, low = sums[:, : self.size] + 1024.0, sums[:, self.size :]
        whole = tf.floor(high / 2048.0)
        return whole + tf.floor((high - whole * 2048.0 + low / 2048.0) / 2048.0)

    def _weights(self, length: tf.Tensor, black: tf.Tensor) -> tf.Tensor:
        """The high and the low 11 bits of the weights, (1, 2 size, length), for `length` pixels with `black`
        black ones before and after them.
        """
        side = length + 2 * black
        # All times 2 size: whole numbers.
        centres = (2 * tf.range(self.size) + 1) * side
        reach = 2 * tf.maximum(side, self.size)
        apart = tf.abs(centres[:, None] - (2 * tf.range(side) + 1)[None] * self.size)
        weights = tf.maximum(0, reach - apart)
        sums = tf.reduce_sum(weights, axis=1, keepdims=True)
        high = weights * 2048 // sums
        rest = tf.cast(weights * 2048 - high * sums, tf.float32) / tf.cast(sums, tf.float32)
        both = tf.concat([tf.cast(high, tf.float32), tf.floor(rest * 2048.0 + 0.5)], axis=0)
        return both[None, :, black : black + length]


def _without_resizing(model: keras.Model, size: int) -> keras.Model:
    """The network of `model`, on pictures that have their size already."""
    picture = keras.Input((size, size, model.input.shape[3]), dtype=model.input.dtype, name=model.input.name)

    def call(operation, *inputs, **arguments):
        if operation.name == "resize":
            return inputs[0]
        return operation(*inputs, **arguments)

    return keras.models.clone_model(model, input_tensors=picture, clone_function=_same, call_function=call)


def _same(operation):
    """Share a layer or operation instead of copying it."""
    return operation


def _in_float32(operation):
    """Copy a layer with a float32 dtype policy and without its weights; share what is no layer."""
    if not isinstance(operation, keras.layers.Layer):
        return operation
    return type(operation).from_config({**operation.get_config(), "dtype": "float32"})


def _resized(network: keras.Model, resize: Callable, copy: Callable, dtype: str | None = None) -> keras.Model:
    """Copy the graph of `network` for any height and width, with `resize` after its first cast to float32."""
    channels, dtype = network.input.shape[3], dtype or network.input.dtype
    picture = keras.Input((None, None, channels), dtype=dtype, name=network.input.name)

    def call(operation, *inputs, **arguments):
        output = operation(*inputs, **arguments)
        return resize(output) if any(one is picture for one in inputs) else output

    return keras.models.clone_model(network, input_tensors=picture, clone_function=copy, call_function=call)
