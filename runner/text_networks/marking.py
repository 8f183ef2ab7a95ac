"""Layers through which padding is told from tokens: where a hidden state is 0 in all its numbers, there is no
token.

They are found by their registered names when a saved network is loaded: import this module before.
"""

from typing import Any

import keras
import keras_hub
from keras import ops

PACKAGE = "runner"


@keras.saving.register_keras_serializable(PACKAGE)
class FirstSegment(keras.layers.Layer):
    """Token ids to the segment that each is in: always the first, 0; int32 of the same shape."""

    def call(self, ids: Any) -> Any:
        return ops.zeros_like(ids)


@keras.saving.register_keras_serializable(PACKAGE)
class Marked(keras.layers.Layer):
    """[hidden states (batch, length, width), token ids (batch, length)] to hidden states that are 0 wherever
    the id is `padding`.
    """

    def __init__(self, padding: int = 0, **options: Any):
        super().__init__(**options)
        self.padding = padding

    def call(self, inputs: Any) -> Any:
        hidden, ids = inputs
        return hidden * ops.cast(ops.not_equal(ids, self.padding), hidden.dtype)[..., None]

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]

    def get_config(self) -> dict:
        return super().get_config() | {"padding": self.padding}


@keras.saving.register_keras_serializable(PACKAGE)
class EncoderLayer(keras_hub.layers.TransformerEncoder):
    """A transformer layer that looks at no padding, and leaves it 0: hidden states (batch, length, width) of
    the same shape and dtype in and out.
    """

    def call(self, hidden: Any, training: bool | None = None) -> Any:
        there = present(hidden)
        found = super().call(hidden, padding_mask=there, training=training)
        return found * ops.cast(there, found.dtype)[..., None]


@keras.saving.register_keras_serializable(PACKAGE)
class MeanOfTokens(keras.layers.Layer):
    """The mean of the hidden states of all tokens, float32 (batch, width); of no token 0."""

    def call(self, hidden: Any) -> Any:
        there = ops.cast(present(hidden), "float32")[..., None]
        total = ops.sum(ops.cast(hidden, "float32") * there, axis=-2)
        return total / ops.maximum(ops.sum(there, axis=-2), 1.0)

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-2], shape[-1])


@keras.saving.register_keras_serializable(PACKAGE)
class FirstToken(keras.layers.Layer):
    """The hidden state of the first token, (batch, width): [CLS] of BERT, where a network was trained so."""

    def call(self, hidden: Any) -> Any:
        return hidden[..., 0, :]


def present(hidden: Any) -> Any:
    """Where hidden states (batch, length, width) stand for a token, bool (batch, length)."""
    return ops.any(ops.not_equal(hidden, 0), axis=-1)
