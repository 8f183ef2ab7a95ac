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
    """Return a model of `build` with `PortableResize` for its Resizing, and one in Keras to compare it with.

    model: of `build` with this `size` (pixels a side) and `how`, perhaps loaded from a file. Both results are
    in float32, also where `model` is in mixed precision, and share weights with `model` where it is not. The
    first takes uint8: what it is made for states in the file which numbers it takes.
    """
    inner = _without_resizing(model, size)
    if all(layer.compute_dtype == "float32" for layer in model.layers if layer.weights):
        return _resized(inner, PortableResize(size, how), _same, "uint8"), model
    whole = keras.models.clone_model(inner, clone_function=_in_float32)
    whole.set_weights(inner.get_weights())
    return _resized(whole, PortableResize(size, how), _same, "uint8"), build(whole, how)


class PortableResize(keras.layers.Layer):
    """The arithmetic of `square.resize` as two matrix products, which every format can express.

    float32 (batch, height, width, channels) in, float32 (batch, size, size, channels) out. LiteRT and ONNX
    have no antialiased resize of any size. Resizing with a triangle filter is linear and separable: with
    W[i, j] = max(0, 1 - |c_i - (j + 1/2)| / max(s, 1)) over its row's sum, s = side / size the scale and
    c_i = (i + 1/2) s the centre of target pixel i, the result is W_rows X W_columns^T.
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
        rows, columns = self._weights(height, above), self._weights(width, before)
        picture = tf.matmul(rows, tf.reshape(picture, [-1, height, width * channels]))
        picture = tf.matmul(columns, tf.reshape(picture, [-1, width, channels]))
        return tf.reshape(picture, [-1, self.size, self.size, channels])

    def _weights(self, length: tf.Tensor, black: tf.Tensor) -> tf.Tensor:
        """W (1, size, length) for `length` pixels with `black` black ones before and after them."""
        side = length + 2 * black
        scale = tf.cast(side, tf.float32) / self.size
        centre = (tf.range(self.size, dtype=tf.float32) + 0.5) * scale
        pixel = tf.cast(tf.range(side), tf.float32) + 0.5
        weights = tf.maximum(0.0, 1 - tf.abs(centre[:, None] - pixel[None]) / tf.maximum(scale, 1.0))
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
        return weights[None, :, black : black + length]


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
