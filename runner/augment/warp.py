"""Pictures, masks and boxes through one matrix per picture, so that all three still show the same things.

A matrix is float32 (2, 3): pixel (x, y) of the view shows the picture at matrix @ (x, y, 1), both in pixels,
x to the right, y down, (0, 0) the centre of the top left pixel. Everything on pixels is computed in whole
numbers (a pixel is one int32, positions have 16 binary places): the same bytes on any number of threads.
`augment` draws the matrices.
"""

import tensorflow as tf

from runner.errors import InputError

_POSITION_BITS = 16
_COLOUR_BITS = 12
_RED_BLUE = 0x00FF00FF

_IMAGES = tf.TensorSpec((None, None, None, 3), tf.uint8)
_PACKED = tf.TensorSpec((None, None, None), tf.int32)
_GEOMETRIC = tf.TensorSpec((None, 2, 3), tf.int32)
_COLOUR = tf.TensorSpec((None, 3, 4), tf.int32)


def transform(images: tf.Tensor, geometric: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    """Return the pictures sampled once through `geometric` and coloured once through `colour`.

    images: uint8 (batch, height, width, 3), sides up to 16,384 pixels; geometric: float32 (batch, 2, 3) and
    colour: float32 (batch, 3, 4), matrix @ (red, green, blue, 1) in levels 0..255. Bilinear; beyond the
    border the picture goes on mirrored, see `cover`. Returns uint8 of the same shape.
    """
    # Three compiled steps, not one: XLA fuses across gathers by computing them again for every use (at 224 px
    # on two cores 600 to 1,000 images/s as one, 1,900 as three; ImageProjectiveTransformV3 alone 500).
    geometric = _whole(geometric)
    colour = tf.cast(tf.round(colour * 2**_COLOUR_BITS), tf.int32)
    packed = _pack(images)
    return _blend(*_corners(packed, geometric), colour)


@tf.function(jit_compile=True, autograph=False, input_signature=[_IMAGES])
def _pack(images):
    """One int32 a pixel: red, green, blue and zero from the lowest byte up."""
    images = tf.cast(images, tf.int32)
    return images[..., 0] + images[..., 1] * 2**8 + images[..., 2] * 2**16


def _whole(geometric):
    return tf.cast(tf.round(geometric * 2**_POSITION_BITS), tf.int32)


def _positions(geometric, height, width):
    """Where in the picture each pixel of the view lies, or beyond it: int32 with 16 binary places."""
    columns, rows = tf.range(width)[None, None, :], tf.range(height)[None, :, None]
    entry = lambda i, j: geometric[:, i, j][:, None, None]  # noqa: E731
    x = entry(0, 0) * columns + (entry(0, 1) * rows + entry(0, 2))
    y = entry(1, 0) * columns + (entry(1, 1) * rows + entry(1, 2))
    return x, y


def _mirrored_positions(geometric, height, width):
    """The same, mirrored into the picture."""
    x, y = _positions(geometric, height, width)
    last_x, last_y = (width - 1) * 2**_POSITION_BITS, (height - 1) * 2**_POSITION_BITS
    x, y = last_x - tf.abs(last_x - tf.abs(x)), last_y - tf.abs(last_y - tf.abs(y))
    return tf.maximum(x, 0), tf.maximum(y, 0)


def _nearest(geometric, height, width):
    """Row and column of the picture's pixel under each pixel of the view, and whether there is one."""
    half = 2 ** (_POSITION_BITS - 1)
    x, y = _positions(geometric, height, width)
    column, row = (tf.bitwise.right_shift(place + half, _POSITION_BITS) for place in (x, y))
    return row, column, (row >= 0) & (row < height) & (column >= 0) & (column < width)


@tf.function(jit_compile=True, autograph=False, input_signature=[_PACKED, _GEOMETRIC])
def _corners(packed, geometric):
    """The four pixels around each position: left and right above, left and right below.

    How far the position lies to the right of the left ones and below the upper ones, in 1/256 of a pixel,
    stands in the free fourth byte of the first two: to compute the positions again in `_blend` costs more.
    """
    count, height, width = tf.unstack(tf.shape(packed))
    x, y = _mirrored_positions(geometric, height, width)
    first = (tf.range(count) * (height * width))[:, None, None]
    row, column = tf.bitwise.right_shift(y, _POSITION_BITS), tf.bitwise.right_shift(x, _POSITION_BITS)
    corner = first + row * width + column
    pixels, last = tf.reshape(packed, [-1]), count * height * width - 1
    # In the last row or column the neighbour beyond has weight 0, so it may be any pixel that exists.
    top_left, top_right, bottom_left, bottom_right = (
        tf.gather(pixels, tf.minimum(corner + neighbour, last)) for neighbour in (0, 1, width, width + 1)
    )
    share_x, share_y = (
        tf.bitwise.left_shift(tf.bitwise.right_shift(place, _POSITION_BITS - 8), 24) for place in (x, y)
    )
    top_left, top_right = tf.bitwise.bitwise_or(top_left, share_x), tf.bitwise.bitwise_or(top_right, share_y)
    return top_left, top_right, bottom_left, bottom_right


def _byte(packed, number):
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(packed, 8 * number), 255)


def _between(start, end, share):
    """start + (end - start) * share / 256, rounded, of bytes 0 and 2 of each int32 in one multiplication."""
    half = tf.constant(0x00800080)
    return tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(start * 256 + (end - start) * share + half, 8), _RED_BLUE
    )


@tf.function(jit_compile=True, autograph=False, input_signature=[_PACKED] * 4 + [_COLOUR])
def _blend(top_left, top_right, bottom_left, bottom_right, colour):
    """Weigh the four corners by distance, colour the result, unpack it to bytes."""
    corners = top_left, top_right, bottom_left, bottom_right
    share_x, share_y = _byte(top_left, 3), _byte(top_right, 3)

    def weighed(top_left, top_right, bottom_left, bottom_right):
        top, bottom = _between(top_left, top_right, share_x), _between(bottom_left, bottom_right, share_x)
        return _between(top, bottom, share_y)

    red_blue = weighed(*(tf.bitwise.bitwise_and(corner, _RED_BLUE) for corner in corners))
    green = weighed(*(_byte(corner, 1) for corner in corners))
    channels = _byte(red_blue, 0), green, _byte(red_blue, 2)
    entry = lambda i, j: colour[:, i, j][:, None, None]  # noqa: E731
    packed, half = 0, 2 ** (_COLOUR_BITS - 1)
    for i in range(3):
        value = sum((entry(i, j) * channels[j] for j in range(3)), entry(i, 3) + half)
        packed += tf.clip_by_value(tf.bitwise.right_shift(value, _COLOUR_BITS), 0, 255) * 2 ** (8 * i)
    return tf.bitcast(packed, tf.uint8)[..., :3]


# --- what belongs to a picture --------------------------------------------------------------------


def cover(views: tf.Tensor, geometric: tf.Tensor, fill: int) -> tf.Tensor:
    """Return the views with one grey level wherever they show what lies beyond the picture's border.

    views: uint8 (batch, height, width, 3), from `transform` through the same `geometric`, float32
    (batch, 2, 3). fill: 0..255. A pixel is filled exactly where `transform_masks` puts its `ignore`.
    """
    return _cover(views, _whole(geometric), tf.constant(int(fill), tf.uint8))


@tf.function(
    jit_compile=True, autograph=False, input_signature=[_IMAGES, _GEOMETRIC, tf.TensorSpec((), tf.uint8)]
)
def _cover(views, geometric, fill):
    _, height, width, _ = tf.unstack(tf.shape(views))
    *_, inside = _nearest(geometric, height, width)
    return tf.where(inside[..., None], views, fill)


def transform_masks(masks: tf.Tensor, geometric: tf.Tensor, ignore: int) -> tf.Tensor:
    """Return the masks as the views show them: of the nearest pixel, as class indices cannot be mixed.

    masks: uint8 or int32 (batch, height, width) or (batch, height, width, 1), sides up to 16,384 pixels;
    geometric: float32 (batch, 2, 3). ignore: stands where a view shows what lies beyond the border.
    Returns the same dtype and shape.
    """
    flat = masks[..., 0] if masks.shape.rank == 4 else masks
    views = _masks(flat, _whole(geometric), tf.constant(int(ignore), masks.dtype))
    return views[..., None] if masks.shape.rank == 4 else views


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def _masks(masks, geometric, ignore):
    count, height, width = tf.unstack(tf.shape(masks))
    row, column, inside = _nearest(geometric, height, width)
    index = (tf.range(count) * (height * width))[:, None, None] + row * width + column
    return tf.where(inside, tf.gather(tf.reshape(masks, [-1]), tf.where(inside, index, 0)), ignore)


def transform_boxes(
    boxes: tf.Tensor, geometric: tf.Tensor, height: tf.Tensor, width: tf.Tensor, least_visible: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the boxes as the views show them, and which of them are still to be seen.

    boxes: float32 (batch, n, 4): x_min, y_min, x_max, y_max in pixels, of the edges and not of the outermost
    pixels' centres: the box of a whole picture is (0, 0, width, height). A padding row is -1 throughout.
    geometric: float32 (batch, 2, 3); height, width: whole numbers, of the view and of the picture.
    A box becomes the upright hull of its four corners, cut at the view's border. Of a turned or sheared view
    that hull is larger than what is in it (a square turned by 45 degrees: twice the area); this is the usual
    convention, as a box does not say which part of it the object fills. Gone is a box of whose hull less than
    `least_visible` of the area is in the view, or whose rest is narrower or lower than 1 pixel; so are boxes
    without area and boxes of NaN.
    Returns float32 (batch, n, 4), -1 throughout where the box is gone, and bool (batch, n).
    """
    # From pixel centres to edges: matrix @ (view - 1/2) + 1/2, the same but for the offset.
    offset = geometric[:, :, 2] + 0.5 - 0.5 * tf.reduce_sum(geometric[:, :, :2], axis=2)
    entry = lambda i, j: geometric[:, i, j][:, None, None, None]  # noqa: E731
    x = boxes[:, :, 0::2, None] - offset[:, 0][:, None, None, None]
    y = boxes[:, :, None, 1::2] - offset[:, 1][:, None, None, None]
    # Each x with each y, four corners, through the inverse of the 2 x 2 part.
    determinant = entry(0, 0) * entry(1, 1) - entry(0, 1) * entry(1, 0)
    x, y = (
        (entry(1, 1) * x - entry(0, 1) * y) / determinant,
        (entry(0, 0) * y - entry(1, 0) * x) / determinant,
    )
    low = tf.stack([tf.reduce_min(x, [2, 3]), tf.reduce_min(y, [2, 3])], axis=2)
    high = tf.stack([tf.reduce_max(x, [2, 3]), tf.reduce_max(y, [2, 3])], axis=2)
    size = tf.cast(tf.stack([width, height]), tf.float32)
    low_seen, high_seen = tf.clip_by_value(low, 0.0, size), tf.clip_by_value(high, 0.0, size)
    sides = high_seen - low_seen
    area, area_seen = tf.reduce_prod(high - low, axis=2), tf.reduce_prod(sides, axis=2)
    seen = tf.reduce_all(sides >= 1, axis=2) & (area_seen >= least_visible * area)
    return tf.where(seen[..., None], tf.concat([low_seen, high_seen], axis=2), -1.0), seen


# --- what may come in -----------------------------------------------------------------------------


def check_images(images: tf.Tensor | tf.TensorSpec) -> None:
    """Raise `InputError` unless a tensor or its spec is uint8 (batch, height, width, 3)."""
    if not _dense(images, [tf.uint8]) or images.shape.rank != 4 or images.shape[-1] != 3:
        raise InputError(
            f"Received images of {_kind(images)}; augmentation takes uint8 (batch, height, width, 3): "
            "give it batches of raw RGB, before any scaling."
        )


def check_masks(masks: tf.Tensor | tf.TensorSpec, images: tf.Tensor | tf.TensorSpec, ignore: int) -> None:
    """Raise `InputError` unless the masks (a tensor or its spec) fit the images, and `ignore` the masks."""
    pixels = images.shape[:3]
    shapes = (pixels, pixels.concatenate([1]))
    if not _dense(masks, [tf.uint8, tf.int32]) or not any(map(masks.shape.is_compatible_with, shapes)):
        raise InputError(
            f"Received masks of {_kind(masks)} with images of {images.shape}; give class indices, uint8 or "
            "int32 (batch, height, width) or (batch, height, width, 1), as large as the images."
        )
    if ignore not in range(masks.dtype.min, masks.dtype.max + 1):
        raise InputError(
            f"ignore is {ignore}; give the index that stands beyond a mask's border, a whole number from "
            f"{masks.dtype.min} to {masks.dtype.max}, as the masks are {masks.dtype.name}."
        )


def check_boxes(
    boxes: tf.Tensor | tf.TensorSpec, images: tf.Tensor | tf.TensorSpec, least_visible: float
) -> None:
    """Raise `InputError` unless the boxes (a tensor or its spec) fit the images; values are not looked at."""
    if not _dense(boxes, [tf.float32]) or not boxes.shape.is_compatible_with([images.shape[0], None, 4]):
        raise InputError(
            f"Received boxes of {_kind(boxes)} with images of {images.shape}; give float32 (batch, boxes, "
            "4): x_min, y_min, x_max, y_max in pixels, rows without a box -1 throughout (a ragged tensor's "
            "to_tensor(-1.0))."
        )
    if not 0 <= least_visible <= 1:
        raise InputError(f"least_visible is {least_visible}; give a share of a box's area, 0 to 1.")


def check_box_labels(labels: tf.Tensor | tf.TensorSpec, boxes: tf.Tensor | tf.TensorSpec, name: str) -> None:
    """Raise `InputError` unless the labels (a tensor or its spec) are whole numbers, one for each box."""
    if not _dense(labels, [tf.int32, tf.int64]) or not labels.shape.is_compatible_with(boxes.shape[:2]):
        raise InputError(
            f'Received "{name}" of {_kind(labels)} with boxes of {boxes.shape}; give class indices, int32 or '
            "int64 (batch, boxes), -1 in rows without a box."
        )


def _dense(value, dtypes):
    dense = isinstance(value, (tf.Tensor, tf.TensorSpec))
    return dense and value.dtype in dtypes and value.shape.rank is not None


def _kind(value):
    kind = "" if isinstance(value, (tf.Tensor, tf.TensorSpec)) else f" ({type(value).__name__})"
    return f"{value.dtype.name} {value.shape}{kind}"
