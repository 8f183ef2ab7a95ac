"""FCOS: which point of the network answers for which box, the loss, and detections from its answers.

Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection" (arXiv:1904.01355), with centre
sampling as in arXiv:2006.09214. It has no anchors, and so no sizes and shapes of boxes to choose for each
set of pictures.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from runner.data.examples import Data
from runner.errors import InputError
from runner.scores.detection import MOST

from .config import Config

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss (arXiv:1708.02002, table 1)."""
RADIUS = 1.5
"""In strides: so near a box's centre, in x and in y, lie the points that answer for it."""
REACH = 8
"""In strides: a level takes boxes whose farthest side is at most so far from the point (64 pixels at stride
8, as in the paper's section 3.2), and farther than the level below takes. The last level takes all larger
ones."""
BACKGROUND = -1.0


class Points(NamedTuple):
    """Where the network looks: the centres of all cells of all levels, finest level first, row by row."""

    centre: np.ndarray
    """float32 (points, 2): x and y in pixels of the image."""
    stride: np.ndarray
    """float32 (points,): pixels from one point to the next."""
    level: np.ndarray
    """int64 (points,)."""


def points(image_size: int, cells: list[int]) -> Points:
    """The points of levels that have so many cells a side."""
    centres, strides, levels = [], [], []
    for level, count in enumerate(cells):
        stride = image_size / count
        places = (np.arange(count) + 0.5) * stride
        y, x = np.meshgrid(places, places, indexing="ij")
        centres.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full(count**2, stride))
        levels.append(np.full(count**2, level))
    return Points(
        np.concatenate(centres).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
        np.concatenate(levels),
    )


def assign(boxes, classes, points: Points):
    """What each point is to say.

    boxes: float32 (batch, n, 4), x_min, y_min, x_max, y_max in pixels; classes: int64 (batch, n), -1 in
    rows without a box. A point answers for a box when it lies in it and within RADIUS strides of its
    centre, and the box is of the size of its level; of several boxes for the smallest.
    Returns float32 (batch, points, 6): class or BACKGROUND, the box, and the centre-ness (equation 3)
    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of the distances to its sides; zeros without a box.
    """
    boxes, classes = _filled(boxes, classes)
    centre, stride = points.centre[None, :, None], points.stride[None, :, None]
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    before, after = centre - low, high - centre  # (batch, points, n, 2): left and top, right and bottom
    inside = tf.reduce_min(tf.minimum(before, after), axis=-1) > 0
    off_centre = tf.reduce_max(tf.abs(before - after), axis=-1) / 2
    farthest = tf.reduce_max(tf.maximum(before, after), axis=-1)
    strides = [points.stride[points.level == level][0] for level in range(points.level.max() + 1)]
    ends = np.array([0, *(REACH * one for one in strides[:-1]), np.inf], np.float32)
    least, most = (ends[points.level + one][None, :, None] for one in (0, 1))
    taken = inside & (off_centre < RADIUS * stride) & (farthest > least) & (farthest <= most)
    taken &= classes[:, None] >= 0
    area = tf.reduce_prod(boxes[:, :, 2:] - boxes[:, :, :2], axis=-1)[:, None]
    area = tf.where(taken, area, np.inf)
    chosen = tf.argmin(area, axis=-1)
    positive = tf.reduce_any(taken, axis=-1)
    box = tf.gather(boxes, chosen, batch_dims=1)
    before, after = points.centre[None] - box[..., :2], box[..., 2:] - points.centre[None]
    ratio = tf.minimum(before, after) / tf.maximum(tf.maximum(before, after), 1e-6)
    centreness = tf.sqrt(tf.maximum(tf.reduce_prod(ratio, axis=-1), 0.0))
    number = tf.cast(tf.gather(classes, chosen, batch_dims=1), tf.float32)
    label = tf.concat([number[..., None], box, centreness[..., None]], axis=-1)
    nothing = tf.constant([BACKGROUND, 0, 0, 0, 0, 0])
    return tf.where(positive[..., None], label, nothing)


def _filled(boxes, classes):
    """The same boxes without the columns that no picture of the batch fills.

    There are as many as the picture of the whole set with the most boxes has; the arithmetic grows with them.
    """
    columns = tf.range(1, tf.shape(classes)[1] + 1)
    last = tf.maximum(tf.reduce_max(tf.where(classes >= 0, columns, 0)), 1)
    return boxes[:, :last], classes[:, :last]


def target(points: Points):
    """A function of a batch of `augment.dataset` that gives what the network trains on.

    Boxes move with their pictures, so they are assigned after the augmentation. "weight" is 1 over the mean
    number of points with a box in a picture of this batch: with it the loss of the batch, which Keras takes
    as the mean over pictures, is the sum over all points divided by the number of those with a box, as in
    equation 2, on one device as on several.
    """

    def assigned(batch: dict) -> dict:
        label = assign(batch["boxes"], batch["classes"], points)
        positive = tf.reduce_sum(tf.cast(label[..., 0] >= 0, tf.float32), axis=1)
        weight = tf.ones_like(positive) / tf.maximum(tf.reduce_mean(positive), 1.0)
        return {name: batch[name] for name in ("id", "input") if name in batch} | {
            "label": label,
            "weight": weight,
        }

    return assigned


def loss(label, output):
    """The loss of each picture, float32 (batch,), summed over its points: the class's, and at points with a
    box the box's and the centre-ness's (equation 2, with the last term of section 3.3).

    label: from `assign`; output: from the network.
    """
    number, box, centreness = label[..., 0], label[..., 1:5], label[..., 5]
    positive = ops.cast(number >= 0, "float32")
    classes = output.shape[-1] - 5
    one_hot = ops.one_hot(ops.cast(number, "int32"), classes)  # of BACKGROUND: zeros
    of_classes = ops.sum(focal(one_hot, output[..., :classes]), axis=-1)
    of_box = 1 - generalised_iou(box, output[..., classes : classes + 4])
    of_centre = ops.binary_crossentropy(centreness, output[..., -1], from_logits=True)
    # Boxes count by how central their point is, as in the authors' code: those at the rim are left to others.
    return ops.sum(of_classes + positive * (centreness * of_box + of_centre), axis=-1)


def focal(truth, logits):
    """The focal loss -a_t (1 - p_t)^GAMMA log(p_t) (Lin et al. 2017, arXiv:1708.02002, equation 5),
    elementwise: p_t is the probability given to what is true, a_t is ALPHA for 1 and 1 - ALPHA for 0.
    """
    cross_entropy = ops.binary_crossentropy(truth, logits, from_logits=True)
    probability = ops.sigmoid(logits)
    missed = truth * (1 - probability) + (1 - truth) * probability
    return (truth * ALPHA + (1 - truth) * (1 - ALPHA)) * missed**GAMMA * cross_entropy


def generalised_iou(one, other):
    """IoU less the share of the hull that neither box fills (Rezatofighi et al. 2019, arXiv:1902.09630): -1
    to 1.

    one, other: float32 (..., 4), x_min, y_min, x_max, y_max.
    """

    def area(low, high):
        return ops.prod(ops.maximum(high - low, 0.0), axis=-1)

    low, high, other_low, other_high = one[..., :2], one[..., 2:], other[..., :2], other[..., 2:]
    common = area(ops.maximum(low, other_low), ops.minimum(high, other_high))
    union = area(low, high) + area(other_low, other_high) - common
    hull = area(ops.minimum(low, other_low), ops.maximum(high, other_high))
    return common / ops.maximum(union, 1e-6) - (hull - union) / ops.maximum(hull, 1e-6)


def decode(output, *, most: int = MOST, least_score: float = 0.05, iou: float = 0.6):
    """Detections of each picture, best first: of boxes of one class that overlap by more than `iou` the
    best.

    output: float32 (batch, points, classes + 5). A score is the geometric mean of the probabilities of
    class and centre-ness (their product orders alike, section 3.3). most: how many a picture has at most.
    Returns float32 boxes (batch, most, 4), float32 scores (batch, most), int64 classes (batch, most), and
    int64 (batch,), how many rows count.
    """
    classes = output.shape[-1] - 5
    scores = tf.sqrt(tf.sigmoid(output[..., :classes]) * tf.sigmoid(output[..., -1:]))
    found = tf.image.combined_non_max_suppression(
        output[:, :, None, classes : classes + 4],
        scores,
        max_output_size_per_class=most,
        max_total_size=most,
        iou_threshold=iou,
        score_threshold=least_score,
        clip_boxes=False,
    )
    return (
        found.nmsed_boxes,
        found.nmsed_scores,
        tf.cast(found.nmsed_classes, tf.int64),
        tf.cast(found.valid_detections, tf.int64),
    )


def check_boxes(config: Config, examples: Data, grid: Points) -> None:
    """Say of how many boxes in the first 2,000 training pictures no point answers, so that nothing learns
    them; InputError if of all. Say too where one has more boxes than COCO's rules have detections.
    """
    most = examples.train.element_spec["boxes"].shape[0]
    if most > MOST:
        print(f"one picture has {most} boxes: so many detections of a picture count, where COCO has {MOST}")
    count = taken = 0
    for batch in examples.train.take(2000).batch(64):
        labels = assign(batch["boxes"], batch["classes"], grid).numpy()
        count += int((batch["classes"].numpy() >= 0).sum())
        taken += sum(len(np.unique(label[label[:, 0] >= 0, 1:5], axis=0)) for label in labels)
    if not taken:
        raise InputError(
            f"received {count} training boxes, of which no point of the strides {config.strides} on "
            f"{config.image_size} pixels answers for any; give a larger image_size or smaller strides."
        )
    if taken < 0.99 * count:
        print(
            f"{count - taken} of {count} training boxes are learned by no point: smaller than a cell, or "
            "with the centre of a smaller one; a larger image_size or a stride of 4 finds more"
        )
