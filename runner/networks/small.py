"""A small network of this house for those who train from nothing on a processor: four plain convolutions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

FILTERS = (16, 32, 64, 128)


def build(
    include_top: bool = False,
    weights: None = None,
    *,
    input_tensor: "keras.KerasTensor | None" = None,
    input_shape: tuple[int, ...] | None = None,
) -> "keras.Model":
    """Four blocks of a convolution of 3 x 3, pooling, BatchNorm and ReLU, called as constructors of
    `keras.applications` are: scaled pixels (batch, h, w, 3) to features (batch, h / 16, w / 16, 128).

    As the network of Vinyals et al., "Matching networks for one shot learning" (NeurIPS 2016), but with
    filters that double where the side halves, so that no block costs most: 16 million multiplications at 64
    pixels, 97,680 weights and 480 statistics. It pools before it normalises: BatchNorm then goes over a
    quarter of the numbers. A deep network with BatchNorm that starts from nothing finds what strokes have in
    common only after thousands of steps; this one within a hundred.
    """
    import keras

    image = x = keras.Input(input_shape) if input_tensor is None else input_tensor
    for number, filters in enumerate(FILTERS, 1):
        name = f"block{number}"
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.MaxPooling2D(name=f"{name}_pool")(x)
        # Momentum 0.9: the statistics of a few hundred steps; Keras' 0.99 would need thousands.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    # From the input, not from a tensor that was computed of it.
    return keras.Model(keras.utils.get_source_inputs(image)[0], x, name="SmallConv")
