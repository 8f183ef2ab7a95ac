"""A faster copy of a network for what does not learn: BatchNorm folded into the convolution before it.

In inference mode BatchNorm multiplies each channel by scale = gamma / sqrt(variance + epsilon) and adds
beta - mean * scale. A convolution is linear, so kernel * scale and (bias - mean) * scale + beta do the same
in one step (Jacob et al. 2018, arXiv:1712.05877, section 3.2), and TensorFlow then runs convolution, bias and
ReLU as one operation. That leaves out passes over the activations, which cost as much time as the arithmetic,
and in half precision the casts to float32 and back that Keras' BatchNorm makes.
"""

from collections import Counter

import keras
import numpy as np

from runner.networks import backbones, lora


def fold(model: keras.Model) -> keras.Model:
    """Copy a functional model of one input tensor with its weights, for inference.

    Layers of classes that are not Keras' are shared: only they themselves know what their config may lack.
    The copy agrees with `model(x, training=False)` up to rounding: about 1e-6 of the largest activation in
    float32. BatchNorm that follows anything but a convolution without activation stays as it is.
    """
    norms = _folded(model)

    def copy(operation):
        if is_foreign(operation) or _holds_lora(operation):
            return operation
        config = lora.without(operation.get_config())
        # All weights come from the original; drawing random ones first takes a second in a deep network.
        config |= {name: "zeros" for name in config if name.endswith("_initializer")}
        if operation.name in norms:
            config["use_bias"] = True
        return type(operation).from_config(config)

    def call(operation, *inputs, **arguments):
        return inputs[0] if operation.name in folded_away else operation(*inputs, **arguments)

    folded_away = {norm.name for norm in norms.values()}
    faster = keras.models.clone_model(model, clone_function=copy, call_function=call)
    originals = {layer.name: layer for layer in model.layers}
    for layer in faster.layers:
        original = originals.get(layer.name)  # none for an input layer that the copy has anew
        if original is not None and original is not layer and original.weights:
            norm = norms.get(layer.name)
            layer.set_weights(_with_norm(original, norm) if norm else lora.effective(original))
    return faster


def is_foreign(operation: keras.Operation) -> bool:
    """Whether an operation, or a layer that it is made of, is of a class that is not Keras'."""
    parts = operation._flatten_layers() if isinstance(operation, keras.layers.Layer) else [operation]
    return any(type(part).__module__.split(".")[0] != "keras" for part in parts)


def _holds_lora(operation: keras.Operation) -> bool:
    """Whether an operation is made of layers, one of which has LoRA."""
    parts = isinstance(operation, keras.layers.Layer) and operation._flatten_layers(include_self=False)
    return any(lora.weights(part) for part in parts or ())


def _folded(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """The BatchNorm layers that can be folded, by the name of their convolution."""
    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    operations = {operation.name: operation for operation in model.operations}
    parents = backbones.parents_of(operations.values())
    readers = Counter(name for names in parents.values() for name in names)
    norms = {}
    for norm in operations.values():
        if not isinstance(norm, keras.layers.BatchNormalization) or len(parents[norm.name]) != 1:
            continue
        before = operations[parents[norm.name][0]]
        if (
            type(before) in convolutions
            and readers[before.name] == 1
            and before.output is not model.output
            and before.activation is keras.activations.linear
            and before.data_format == "channels_last"
            and norm.axis in (-1, 3)
        ):
            norms[before.name] = norm
    return norms


def _with_norm(convolution, norm) -> list[np.ndarray]:
    """The weights of the convolution with bias that does what the two do one after the other."""
    mean, variance = (keras.ops.convert_to_numpy(one) for one in (norm.moving_mean, norm.moving_variance))
    gamma = keras.ops.convert_to_numpy(norm.gamma) if norm.scale else 1.0
    beta = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    weights = lora.effective(convolution)
    *kernels, bias = weights if convolution.use_bias else [*weights, np.zeros(1)]
    *kernels, last = kernels
    # The channels of a depthwise kernel are its last two axes: inputs, and the outputs of each.
    by_channel = (
        scale.reshape(last.shape[-2:]) if type(convolution) is keras.layers.DepthwiseConv2D else scale
    )
    return [*kernels, last * by_channel, (bias - mean) * scale + beta]
