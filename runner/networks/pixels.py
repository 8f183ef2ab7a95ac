"""What a network takes: pixels of 0..255, as they are in files; its preprocessing is part of it.

uint8 or floats: both come in as they are. Pictures that somebody scaled before, to 0..1 or -1..1, would be
nearly black to such a network, so they are refused in words where this project's networks are called and
trained. A saved model is plain Keras and cannot say so.
"""

from typing import TYPE_CHECKING, Any

from runner.errors import InputError

if TYPE_CHECKING:
    import keras

_MESSAGE = (
    "The pictures lie within -1..1, and this network takes pixels of 0..255, as they are in files, and "
    "scales them itself: leave out the scaling, or undo it (x * 255 of 0..1, (x + 1) * 127.5 of -1..1)."
)


def check(pictures: Any) -> None:
    """Raise InputError for floats that all lie within -1..1 and are not all whole: they were scaled."""
    import tensorflow as tf

    pictures = tf.convert_to_tensor(pictures)
    if pictures.dtype.is_floating and bool(_scaled(pictures)):
        error = InputError(_MESSAGE)
        # Keras would add half a page of arguments.
        error._keras_call_info_injected = True  # type: ignore[attr-defined]
        raise error


def _scaled(x: Any) -> Any:
    import tensorflow as tf

    return (tf.reduce_max(tf.abs(x)) <= 1) & tf.reduce_any(tf.math.floor(x) != x)


def guard(model: "keras.Model") -> None:
    """Let the first operation of a flat network, its cast to float32, check what comes in.

    It costs nothing where whole numbers come in. Networks that are built on this one share the operation; a
    saved or copied one has Keras' own again. Within a compiled step what is refused is tf.errors'
    InvalidArgumentError.
    """
    import tensorflow as tf

    first = model.operations[1]
    plain = first.call

    def call(x: Any) -> Any:
        if tf.executing_eagerly():
            check(x)
        elif x.dtype.is_floating and not _was_whole(x):
            tf.debugging.Assert(~_scaled(x), [_MESSAGE])
        return plain(x)

    # On this one object, which its class knows nothing of: it is saved as what it is.
    object.__setattr__(first, "call", call)


def _was_whole(x: Any) -> bool:
    """Whether a tensor of a graph was cast from whole numbers, as Keras does at a network's input."""
    import tensorflow as tf

    operation = x.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return operation.type == "Cast" and not tf.as_dtype(operation.inputs[0].dtype).is_floating


def guarded(model: "keras.Model") -> bool:
    """Whether a network, or one within it, has the check of `guard`."""
    networks = [part for part in model._flatten_layers() if len(getattr(part, "operations", ())) > 1]
    return any("call" in vars(network.operations[1]) for network in networks)
