"""LoRA by Keras' own layers: where it is put, which weights it is, and how it becomes part of the kernels.

A kernel W stays as it is and W + a b is computed in its place, with a and b of a small rank, b beginning at 0
(Hu et al. 2022, arXiv:2106.09685, equation 3; alpha is the rank, so that their factor alpha / r is 1). Keras
divides a kernel at its last axis: a has its shape with the rank for the last length, b is rank x that length.

Keras writes kernels with a b added into files, and with the files' configs makes layers with an a and a b of
zeros, which never learn again. So a network is merged before it is handed on (`merge`): it then is what it
was before `attach`, with other kernels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from runner.errors import InputError

ATTENTION = ("query", "value")
"""Of attention these kernels alone, as Hu et al. (section 7.1) and KerasHub's `enable_lora` choose."""
KERNELS = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D, keras.layers.Conv2D)
"""Layers whose kernels can be added to, where they have no groups; depthwise convolutions are others."""


def attach(blocks: Sequence[Iterable[keras.layers.Layer]], rank: int) -> list[keras.layers.Layer]:
    """Put LoRA of a rank on the built layers of blocks that have none; returns these, for `merge`.

    blocks: the layers of each block, parts of layers included. In a block with attention the kernels of query
    and value get it, in others those of all dense layers and convolutions. What the network computes stays as
    it is to the bit, for b begins at 0. Call it under the network's strategy.
    Raises InputError where no block has such a kernel, and where one has LoRA of another rank.
    """
    found = [layer for layers in blocks for layer in _targets(list(layers))]
    if not found:
        raise InputError(
            f"train='lora:{rank}': none of the blocks has a dense layer or a convolution that LoRA can add "
            "to; give head, top:N, above:NAME, all, norm or bias."
        )
    other = next((one for one in found if one.lora_enabled and one.lora_rank != rank), None)
    if other is not None:
        raise InputError(
            f"train='lora:{rank}': the layer '{other.name}' has LoRA of rank {other.lora_rank} already; give "
            f"lora:{other.lora_rank}."
        )
    new = [layer for layer in found if not layer.lora_enabled]
    for layer in new:
        layer.enable_lora(rank)
    return new


def _targets(layers: list[keras.layers.Layer]) -> list[keras.layers.Layer]:
    fitting = [one for one in layers if type(one) in KERNELS and one.built]
    if any(isinstance(one, keras.layers.MultiHeadAttention) for one in layers):
        return [one for one in fitting if one.name in ATTENTION]
    return [one for one in fitting if getattr(one, "groups", 1) == 1]


def weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The a and b of a layer, or nothing where it has no LoRA."""
    return [layer.lora_kernel_a, layer.lora_kernel_b] if getattr(layer, "lora_enabled", False) else []


def effective(layer: keras.layers.Layer) -> list[np.ndarray]:
    """`layer.get_weights()` of the same layer without LoRA: kernels have a b added."""
    if not weights(layer):
        return layer.get_weights()
    kernel = ops.convert_to_numpy(_sum(layer))
    return [kernel, ops.convert_to_numpy(layer.bias)] if layer.bias is not None else [kernel]


def without(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a layer without LoRA."""
    return {name: value for name, value in config.items() if name not in ("lora_rank", "lora_alpha")}


def _sum(layer: keras.layers.Layer) -> Any:
    added = ops.matmul(layer.lora_kernel_a, layer.lora_kernel_b)
    return layer._kernel + ops.cast(added, layer._kernel.dtype)


def merge(layers: Iterable[keras.layers.Layer]) -> None:
    """Add a b to the kernels of layers that `attach` gave, and take the LoRA off.

    They then compute the same up to rounding, and where b is 0 to the bit. Compiled functions of a network
    must be made anew. Call it under the network's strategy.
    """
    for layer in layers:
        layer._kernel.assign(_sum(layer))
        for name in ("lora_kernel_a", "lora_kernel_b"):
            # Not `del layer.lora_kernel_a`: Keras then collects garbage each time, 0.2 s with TensorFlow.
            layer._untrack_variable(getattr(layer, name))
            object.__delattr__(layer, name)
        layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None
